"""One short training for all tests of the demo that need trained weights."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mergenode.demo.network import NetworkConfig, Weights
from mergenode.demo.tasks import Digits, load_digits_split
from mergenode.demo.training import Schedule, train_base
from mergenode.maths.threads import one_thread


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="session")
def digits() -> Digits:
    return load_digits_split()


@pytest.fixture(scope="session")
def config() -> NetworkConfig:
    return NetworkConfig()


@pytest.fixture(scope="session")
def base(digits: Digits, config: NetworkConfig) -> Weights:
    """A base trained for a fifth of the demo's steps: good enough to fine-tune."""
    with one_thread():
        return train_base(digits, config, 1, Schedule(steps=200, rate=1e-3))
