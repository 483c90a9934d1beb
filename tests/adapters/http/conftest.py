"""The node that the tests of this folder ask."""

from __future__ import annotations

import pytest

from tests.support.status_node import Node


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
def ready(node: Node) -> Node:
    node.make_ready()
    return node
