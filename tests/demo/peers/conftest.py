"""The images, loaded once, and a part of them that trains in no time."""

from __future__ import annotations

import pytest

from mergenode.demo.peers.fashion import Fashion, load_fashion


@pytest.fixture(scope="session")
def fashion() -> Fashion:
    return load_fashion()


@pytest.fixture(scope="session")
def few(fashion: Fashion) -> Fashion:
    """2,000 images to train on, 300 to score on."""
    return Fashion(fashion.training.first(2000), fashion.test.first(300))
