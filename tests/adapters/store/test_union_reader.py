"""Two ledgers read as one."""

from __future__ import annotations

from mergenode.adapters.store.union_reader import UnionReader
from mergenode.ledger.records import Published
from tests.support import facts
from tests.support.facts import digest
from tests.support.memory_ledger import MemoryLedger


def reader() -> UnionReader:
    """A node that folded one contribution and rejected another, in a union of two contributions with one version."""
    own, shown = MemoryLedger(), MemoryLedger()
    own.append(facts.initialised(), facts.discovered(1), facts.folded(1), facts.rejected(2))
    shown.append(facts.initialised(), facts.admitted(1), facts.admitted(2), facts.united(1, 2), facts.published(1))
    return UnionReader(own, shown)


def test_versions_and_what_is_in_them_are_those_of_the_union() -> None:
    both = reader()
    assert (both.head().count, both.head().version) == (2, 1)
    assert [fact.version for fact in both.versions()] == [1]
    assert [type(fact) for _, fact in both.facts(kinds=("published",), newest=1)] == [Published]
    assert both.by_content(digest(2)) is not None
    assert [member.name for _, member in both.newest_members(5)] == ["m1", "m2"]


def test_everything_else_is_the_node_s_own() -> None:
    both = reader()
    assert both.initialised() == both.own.initialised()
    assert [fact.kind for _, fact in both.facts(newest=2)] == ["folded", "rejected"]
    assert [fact.name for _, fact in both.folds()] == ["m1"]
    counts = both.counts()
    assert (counts["folded"], counts["rejected"], counts["published"]) == (1, 1, 1) and "united" not in counts
