"""``mergenode trace``: the life of one contribution on the screen and as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from mergenode.adapters.peers.pushing.cursor_file import CursorFile
from mergenode.adapters.peers.pushing.cursors import Cursor
from mergenode.adapters.store.sqlite_ledger import SqliteLedger
from mergenode.ledger.traces import trace_of
from mergenode.tracing.ids import push_trace
from tests.cli.conftest import HOSTILE
from tests.support import facts

ROOT = "0123456789ab" + "c" * 52


def told(run: Any, *args: object) -> Any:
    result = run("trace", *args, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_by_name_by_id_and_by_its_beginning(run, config: Path, history) -> None:
    trace_id = trace_of(facts.discovered(3))
    found = [told(run, what, "-c", config) for what in ("m3", trace_id, trace_id[:8])]
    assert found[0] == found[1] == found[2]
    document = found[0]
    assert (document["schema"], document["trace_id"], document["name"]) == ("mergenode.trace/1", trace_id, "m3")
    assert [moment["what"] for moment in document["moments"]] == ["discovered", "read", "folded", "published"]
    assert [moment["after_seconds"] for moment in document["moments"]] == [0.0, -75.0, 75.0, 0.0]
    assert document["in_merge"] and document["moments"][2]["detail"].endswith("64.0% of it kept")
    assert document["total_seconds"] == 0.0 and document["peers"] == [] and document["others"] == []


def test_on_the_screen(run, config: Path, history) -> None:
    text = run("trace", "m3", "-c", config).stdout
    for expected in ("inbox/m3", f"trace {trace_of(facts.discovered(3))}", "reading began", "64.0% of it kept",
                     "v000002 at", "in the merge"):  # fmt: skip
        assert expected in text
    text = run("trace", "m2", "-c", config).stdout
    assert "not_finite: NaN in a.weight" in text and "not in the merge" in text
    assert "\x1b[31m" not in run("trace", HOSTILE, "-c", config).stdout


def test_a_push_by_the_name_that_its_pusher_gave_and_which_peers_have_it(run, config: Path, history, ledger) -> None:
    entry = f"tuned@{ROOT[:12]}"
    ledger.append(facts.discovered(7, registry="push", name=entry))
    sequence = ledger.append(facts.folded(7, registry="push", name=entry, generation=3, count=3))
    node = UUID(int=5)
    file = config.parent / "state" / "peers" / "forwarded.json"
    CursorFile(file, "a1", lambda text: None).write({node: Cursor(sequence), UUID(int=6): Cursor(1)})
    document = told(run, "tuned", "-c", config)
    assert document == told(run, push_trace("tuned", ROOT)[:12], "-c", config)
    assert (document["name"], document["trace_id"]) == (entry, push_trace("tuned", ROOT))
    assert document["peers"] == [{"node": str(node), "how": "answered for it when it was forwarded"}]
    assert document["total_seconds"] is None and document["in_merge"]
    assert f"node {node} answered" in run("trace", "tuned", "-c", config).stdout


def test_the_newest_revision_is_told_and_the_others_are_named(run, config: Path, history, ledger) -> None:
    ledger.append(facts.discovered(3, revision="r-new"))
    document = told(run, "m3", "-c", config)
    assert document["revision"] == "r-new" and not document["in_merge"]
    assert [other["trace_id"] for other in document["others"]] == [trace_of(facts.discovered(3))]


def test_in_a_union_others_contributions_have_their_ids_and_versions(run, config: Path, history) -> None:
    config.write_text(
        config.read_text() + "mixer: {name: union}\npeers: {listen: '127.0.0.1:1'}\nmethod: {name: task_arithmetic}\n"
    )
    folder = config.parent / "state" / "union"
    folder.mkdir()
    shown = SqliteLedger(folder / "ledger.sqlite")
    shown.append(facts.initialised())
    shown.append(facts.admitted(3, origin="b2"), facts.united(1, 1))
    shown.append(facts.published(1))
    shown.append(facts.admitted(9, origin="c3"), facts.united(2, 2))
    shown.append(facts.published(2, generation=2))
    shown.close()
    document = told(run, "m9", "-c", config)
    assert document["trace_id"] == trace_of(facts.folded(9)), "as on the node that folded it"
    assert [moment["what"] for moment in document["moments"]] == ["admitted", "published"] and document["in_merge"]
    assert document["peers"] == [{"node": "c3", "how": "counts it in the union"}]
    own = told(run, "m3", "-c", config)
    assert [moment["what"] for moment in own["moments"]] == ["discovered", "read", "folded", "admitted", "published"]


@pytest.mark.parametrize("what", ["nobody", "0" * 8, "0" * 32, "abc"])
def test_nothing_of_that_name_is_a_usage_error(run, config: Path, history, what: str) -> None:
    result = run("trace", what, "-c", config)
    assert result.exit_code == 2 and "8 digits" in result.stderr


def test_history_shows_the_trace_of_every_fact(run, config: Path, history) -> None:
    document = json.loads(run("history", "-c", config, "--json").stdout)
    assert [fact["trace_id"] for fact in document["facts"]] == [trace_of(fact) or None for fact in history]
    assert trace_of(facts.folded(3))[:8] in run("history", "-c", config).stdout
