"""The weight that was found is the one that is folded and recorded; what is not folded is not weighed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from mergenode.daemon.contribute import contribute, publish
from mergenode.errors import RejectReason, TransientError
from mergenode.ledger.records import Duplicate, Folded, Rejected
from mergenode.ports.engine import Earlier
from mergenode.ports.observer import Observer
from mergenode.ports.weighing import Weighed
from mergenode.types import Candidate, Head
from tests.support.fake_node import FakeNode
from tests.support.fake_ports import Checkpoint, digest_of, rejection

A = digest_of("a")


@dataclass
class Scales:
    """A weigher that answers what it is told to."""

    answer: float = 0.5
    error: Exception | None = None
    asked: list[tuple[str, int, float | None]] = field(default_factory=list)
    during: Callable[[], object] = lambda: None

    def weigh(self, candidate: Candidate, head: Head, earlier: Earlier, observer: Observer) -> Weighed:
        self.asked.append((candidate.name, head.count, earlier.last_scale))
        self.during()
        if self.error is not None:
            raise self.error
        return Weighed(self.answer, {"name": "fit", "given": candidate.weight})


@pytest.fixture
def node() -> FakeNode:
    return FakeNode()


def test_the_found_weight_is_in_the_fact(node: FakeNode) -> None:
    scales = Scales()
    line = replace(node.start().line, weigher=scales)
    fact = contribute(line, node.put("a", weight=0.8))
    assert isinstance(fact, Folded) and fact.weight == 0.5 and fact.weighing == {"name": "fit", "given": 0.8}
    assert node.engine.folds == ["a", "a"], "as it was given, to be judged, and as it enters"
    publish(line, 1, 1)
    scales.answer = 1.0
    again = contribute(line, node.put("b"))
    assert isinstance(again, Folded) and again.weight == 1.0
    assert node.engine.folds == ["a", "a", "b"], "nothing to do again"
    assert scales.asked == [("a", 0, None), ("b", 1, 1.0)]
    assert node.ledger.verify() == []


def test_lineage_is_that_of_the_found_weight(node: FakeNode) -> None:
    fact = contribute(replace(node.start().line, weigher=Scales(0.25)), node.put("a", weight=0.8))
    other = FakeNode()
    assert isinstance(fact, Folded)
    given = contribute(other.start().line, other.put("a", weight=0.25))
    assert isinstance(given, Folded) and given.lineage == fact.lineage


def test_what_is_not_folded_is_not_weighed(node: FakeNode) -> None:
    scales = Scales()
    line = replace(node.start().line, weigher=scales)
    contribute(line, node.put("a", checkpoint=Checkpoint(A)))
    assert isinstance(contribute(line, node.put("b", checkpoint=Checkpoint(A))), Duplicate)
    assert isinstance(contribute(line, node.put("c", checkpoint=Checkpoint(digest_of("c"), norm=0.0))), Rejected)
    assert [name for name, _, _ in scales.asked] == ["a"]


def test_refused_by_the_weigher(node: FakeNode) -> None:
    line = replace(node.start().line, weigher=Scales(error=rejection(RejectReason.LOWERS_A_SCORE)))
    fact = contribute(line, node.put("a"))
    assert isinstance(fact, Rejected) and fact.reason == "lowers_a_score"
    assert node.disk.folding is None and not node.disk.generations


def test_files_that_change_meanwhile_are_read_again(node: FakeNode) -> None:
    offered = node.put("a")
    scales = Scales(during=lambda: node.put("a", checkpoint=Checkpoint(digest_of("other"))))
    line = replace(node.start().line, weigher=scales)
    with pytest.raises(TransientError, match="changed while its weight"):
        contribute(line, offered)
    assert node.folded == []
