"""A node out of fakes."""

from __future__ import annotations

import pytest

from tests.support.fake_node import FakeNode


@pytest.fixture
def node() -> FakeNode:
    return FakeNode()
