"""Start: the first fact, and files that are brought in line with the facts."""

from __future__ import annotations

import pytest

from mergenode.daemon.recover import initialise, recover
from mergenode.errors import FatalError, UsageError
from mergenode.ledger.records import Initialised, Pruned
from tests.support.fake_node import FakeNode, origin
from tests.support.fake_ports import digest_of


def test_the_first_start_records_base_and_method(node: FakeNode) -> None:
    line = node.line()
    assert initialise(line, origin()) == origin()
    assert node.facts() == [origin()] == node.witness.facts


def test_a_later_start_keeps_the_first_fact(node: FakeNode) -> None:
    initialise(node.line(), origin())
    known = initialise(node.line(), origin(ledger_id="another"))
    assert isinstance(known, Initialised) and known.ledger_id == "l1"
    assert len(node.facts()) == 1


def test_another_base_is_refused_and_both_are_named(node: FakeNode) -> None:
    node.start()
    with pytest.raises(FatalError) as caught:
        node.start(base=digest_of("other"))
    assert digest_of("base") in caught.value.message and digest_of("other") in caught.value.message
    assert "node.state" in caught.value.hint


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"method": "average", "options": {}}, "method opcm, but the settings ask for average"),
        ({"options": {"alpha": 0.25}}, "other options of method opcm: alpha 0.5 (the settings: 0.25)"),
        ({"options": {}}, "other options of method opcm: alpha 0.5 (the settings: not set)"),
        ({"options": {"new": ["*"], "alpha": 0.5}}, 'other options of method opcm: new not set (the settings: ["*"])'),
    ],
)
def test_another_method_is_refused_and_only_what_differs_is_named(
    node: FakeNode, changes: dict[str, object], named: str
) -> None:
    node.start()
    with pytest.raises(UsageError) as caught:
        node.start(**changes)
    assert caught.value.message == f"this state directory was made with {named}"
    assert len(node.facts()) == 1


def test_after_a_clean_stop_there_is_nothing_to_do(node: FakeNode) -> None:
    node.put("a")
    node.drain(node.start())
    before = (len(node.ledger.entries), dict(node.disk.versions), dict(node.disk.generations))
    node.start()
    assert (len(node.ledger.entries), dict(node.disk.versions), dict(node.disk.generations)) == before
    assert node.witness.messages == []


def test_missing_statistics_are_fatal(node: FakeNode) -> None:
    node.put("a")
    node.drain(node.start())
    node.disk.generations.clear()
    with pytest.raises(FatalError, match="generation 1"):
        node.start()


def three_versions(node: FakeNode) -> None:
    loop = node.start()
    for name in "abc":
        node.put(name)
        node.drain(loop)


def test_versions_that_are_gone_are_recorded_and_told(node: FakeNode) -> None:
    three_versions(node)
    del node.disk.versions[1]
    node.start()
    assert [fact.versions for fact in node.facts("pruned") if isinstance(fact, Pruned)] == [(1,)]
    assert any("version 1 are gone" in text for _, text in node.witness.messages)


def test_the_newest_version_is_made_again_with_the_same_bytes(node: FakeNode) -> None:
    three_versions(node)
    lost = node.disk.versions.pop(3)
    node.disk.latest = None
    node.start()
    assert node.disk.versions[3] == lost
    assert node.disk.latest == 3
    assert node.published == [(1, 1), (2, 2), (3, 3)]
    assert node.ledger.verify() == []


def test_all_versions_gone_is_survived(node: FakeNode) -> None:
    """A published directory that somebody emptied: the newest comes back, the others are recorded as gone."""
    three_versions(node)
    node.disk.versions.clear()
    node.disk.latest = None
    loop = node.start()
    assert sorted(node.disk.versions) == [3]
    node.put("d")
    node.drain(loop)
    assert sorted(node.disk.versions) == [3, 4] and node.disk.latest == 4
    assert node.ledger.verify() == []


def test_the_newest_version_of_an_older_generation_gives_way_to_the_next(node: FakeNode) -> None:
    three_versions(node)
    node.trouble.plan("stage", KeyboardInterrupt())
    node.put("d")
    with pytest.raises(KeyboardInterrupt):
        node.drain(node.start())
    del node.disk.versions[3]
    loop = node.start()
    assert node.disk.latest == 2, "the newest one that is there"
    assert any("version 4 is due" in text for _, text in node.witness.messages)
    node.drain(loop)
    assert node.published[-1] == (4, 4) and node.disk.latest == 4
    assert node.ledger.verify() == []


def test_a_version_that_comes_out_differently_is_told(node: FakeNode) -> None:
    three_versions(node)
    del node.disk.versions[3]
    line = node.line()
    object.__setattr__(line, "publish_dtype", "F16")
    recover(line)
    assert any("not come out as it was recorded" in text for _, text in node.witness.messages)


def test_latest_is_put_back(node: FakeNode) -> None:
    three_versions(node)
    node.disk.latest = 1
    node.start()
    assert node.disk.latest == 3
