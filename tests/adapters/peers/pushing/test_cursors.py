"""Which contribution goes where next, under every schedule of who is up, lost answers and restarts."""

from __future__ import annotations

import random
from collections import Counter
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.adapters.peers.pushing.cursors import Cursor, Errand, next_errand

NODES = tuple(UUID(int=number) for number in range(1, 4))
MEMBERS = (3, 4, 7, 11)
"""Facts in between are others than folds, or their contents left the merge."""

a_try = st.tuples(st.sets(st.sampled_from(NODES)), st.sampled_from(("kept", "lost", "killed")))


@settings(deadline=None)
@given(st.lists(a_try, max_size=30))
def test_everybody_gets_everything_and_nothing_again_after_its_answer(tries: list[tuple[set[UUID], str]]) -> None:
    held: dict[UUID, set[int]] = {node: set() for node in NODES}
    answered: Counter[tuple[UUID, int]] = Counter()
    durable: dict[UUID, Cursor] = {}
    healed = [(set(NODES), "kept")] * len(MEMBERS)
    for up, fate in [*tries, *healed]:
        errand = next_errand(MEMBERS, durable, up)
        for node in () if errand is None else errand.receivers:
            assert errand is not None and not answered[node, errand.sequence]
            held[node].add(errand.sequence)
            if fate == "kept":
                answered[node, errand.sequence] += 1
                durable[node] = durable.get(node, Cursor()).answered(errand.sequence, MEMBERS)
            if fate == "killed":
                break  # the next life knows what was durable, which is all that this one knew
    assert all(held[node] == set(MEMBERS) for node in NODES)
    assert next_errand(MEMBERS, durable, NODES) is None
    assert durable == {node: Cursor(MEMBERS[-1]) for node in NODES}


@settings(deadline=None)
@given(st.permutations(MEMBERS))
def test_a_cursor_lacks_what_was_not_answered_in_any_order(order: list[int]) -> None:
    cursor = Cursor()
    for position, sequence in enumerate(order, 1):
        cursor = cursor.answered(sequence, MEMBERS)
        assert cursor == cursor.answered(sequence, MEMBERS)
        assert {each for each in MEMBERS if cursor.lacks(each)} == set(order[position:])
    assert cursor == Cursor(11)


def test_what_one_neighbour_refuses_holds_up_nothing_else() -> None:
    one, two = NODES[:2]
    resting = {(one, 3)}
    errand = next_errand(MEMBERS, {}, [two, one], lambda *item: item in resting)
    assert errand == Errand(3, (two,))
    cursors = {two: Cursor().answered(3, MEMBERS)}
    assert next_errand(MEMBERS, cursors, [one, two], lambda *item: item in resting) == Errand(4, (one, two))


def test_a_content_that_left_the_merge_is_passed_over() -> None:
    assert Cursor(3).answered(7, (7, 11)) == Cursor(7)


class Node:
    """One node of the flood: its merge in its own order, its cursors, as its disk has them."""

    def __init__(self) -> None:
        self.merge: list[str] = []
        self.waiting: list[str] = []
        self.cursors: dict[UUID, Cursor] = {}

    def take(self, content: str) -> None:
        """The intake: what is known is a duplicate, everything else is durable before the answer."""
        if content not in self.merge and content not in self.waiting:
            self.waiting.append(content)

    def fold(self) -> None:
        if self.waiting:
            self.merge.append(self.waiting.pop(0))

    @property
    def members(self) -> range:
        return range(1, len(self.merge) + 1)


def connected(rng: random.Random, count: int) -> dict[UUID, set[UUID]]:
    """A random tree with a few more edges, neighbours of each other."""
    ids = [UUID(int=number) for number in range(1, count + 1)]
    edges = [(each, rng.choice(ids[:place])) for place, each in enumerate(ids) if place]
    edges += [(one, two) for one, two in (rng.sample(ids, 2) for _ in range(rng.randrange(count)))]
    graph: dict[UUID, set[UUID]] = {each: set() for each in ids}
    for one, two in edges:
        graph[one].add(two)
        graph[two].add(one)
    return graph


def forward(nodes: dict[UUID, Node], graph: dict[UUID, set[UUID]], me: UUID, rng: random.Random, trouble: float) -> int:
    """One errand of one node. Calls get lost, arrive twice, or have their answers lost; the node may die anywhere."""
    node = nodes[me]
    errand = next_errand(node.members, node.cursors, {each for each in graph[me] if rng.random() >= trouble})
    if errand is None:
        return 0
    for receiver in errand.receivers:
        for _ in range(rng.choice((1, 2))):
            nodes[receiver].take(node.merge[errand.sequence - 1])
        if rng.random() < trouble:
            continue
        node.cursors[receiver] = node.cursors.get(receiver, Cursor()).answered(errand.sequence, node.members)
        if rng.random() < trouble:
            break
    return 1


@pytest.mark.parametrize("seed", range(200))
def test_a_flood_reaches_everybody_once_through_crashes_and_lost_answers(seed: int) -> None:
    rng = random.Random(seed)
    graph = connected(rng, rng.randrange(2, 8))
    nodes = {node_id: Node() for node_id in graph}
    contents = [f"c{number}" for number in range(rng.randrange(1, 7))]
    for content in contents:
        for each in rng.sample(sorted(nodes), rng.choice((1, 1, 2)) if len(nodes) > 1 else 1):
            nodes[each].take(content)  # the same content may begin in two places
        for _ in range(rng.randrange(20)):
            me = rng.choice(sorted(nodes))
            rng.choice((nodes[me].fold, lambda me=me: forward(nodes, graph, me, rng, 0.4)))()
    sent = 1
    while sent or any(node.waiting for node in nodes.values()):  # all lines work: it has to end by itself
        for node in nodes.values():
            node.fold()
        sent = sum(forward(nodes, graph, me, rng, 0.0) for me in nodes)
    for node in nodes.values():
        assert sorted(node.merge) == contents
