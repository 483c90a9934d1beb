"""Requests of the operator as files: what is written is what the node reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mergenode.adapters.store.change_requests import FolderChangeRequests
from mergenode.errors import FatalError
from mergenode.ledger.changes import DROP, Change
from tests.support.clock import FakeClock
from tests.support.facts import digest


def test_a_decision_about_quarantine_arrives_as_it_was_asked(tmp_path: Path) -> None:
    requests = FolderChangeRequests(tmp_path)
    asked = requests.submit(Change("", (digest(1),), why="diverged", quarantine=DROP, who="ops"), FakeClock())
    assert requests.pending() == (asked,)
    assert (asked.quarantine, asked.who) == (DROP, "ops")


def test_requests_of_an_earlier_mergenode_are_understood(tmp_path: Path) -> None:
    requests = FolderChangeRequests(tmp_path)
    asked = requests.submit(Change("", (digest(1),)), FakeClock())
    path = requests.directory / f"{asked.id}.json"
    document = json.loads(path.read_bytes())
    earlier = {key: document[key] for key in ("contents", "rollback_to", "why", "places")}
    path.write_text(json.dumps(earlier))
    assert requests.pending() == (asked,)


def test_a_look_at_what_waits_changes_nothing(tmp_path: Path) -> None:
    requests = FolderChangeRequests(tmp_path)
    assert requests.waiting() == []
    asked, answered = (requests.submit(Change("", (digest(number),)), FakeClock()) for number in (1, 2))
    (requests.directory / "x.json").write_text("{}")
    (requests.directory / f"{answered.id}.refused").write_text('{"message": "m", "hint": "h"}')
    before = sorted(requests.directory.iterdir())
    assert sorted(requests.waiting()) == [(asked.id, asked), ("x", None)]
    assert sorted(requests.directory.iterdir()) == before


@pytest.mark.parametrize("changed", [{"quarantine": "burn"}, {"quarantine": 1}, {"who": None}, {"more": 1}])
def test_what_is_not_understood_is_not_skipped(tmp_path: Path, changed: dict[str, object]) -> None:
    requests = FolderChangeRequests(tmp_path)
    asked = requests.submit(Change("", (digest(1),)), FakeClock())
    path = requests.directory / f"{asked.id}.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | changed))
    with pytest.raises(FatalError, match="not a request that this mergenode understands"):
        requests.pending()
