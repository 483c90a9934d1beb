"""ingest: the request, waking the node, and the wait for an outcome."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from mergenode.adapters.store.lock_file import LockOwner
from mergenode.cli.ingest import newest_sequence, outcome_of, poke
from mergenode.errors import FatalError
from mergenode.ledger.records import Fact
from tests.support import facts


@pytest.fixture
def checkpoint(config: Path) -> Path:
    folder = config.parent / "inbox/m1"
    folder.mkdir()
    return folder


def requests(config: Path) -> list[dict[str, str]]:
    folder = config.parent / "state/requests"
    return [json.loads(file.read_bytes()) for file in sorted(folder.glob("*"))]


def test_the_request_waits_for_a_node_that_does_not_run(run, config: Path, checkpoint: Path) -> None:
    result = run("ingest", checkpoint, "-c", config)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "the node is not running; the request is taken at its next start\n"
    assert [request["path"] for request in requests(config)] == [str(checkpoint)]


def test_json_names_the_request(run, config: Path, checkpoint: Path) -> None:
    told = json.loads(run("ingest", checkpoint, "-c", config, "--json").stdout)
    assert told | {"request": ""} == {
        "schema": "mergenode.ingest/1",
        "request": "",
        "running": False,
        "outcome": None,
    }
    assert Path(told["request"]).is_file()


def test_waiting_for_a_node_that_does_not_run_fails_and_keeps_the_request(run, config: Path, checkpoint: Path) -> None:
    result = run("ingest", checkpoint, "-c", config, "--wait")
    assert result.exit_code == 1 and "the node is not running" in result.stderr
    assert len(requests(config)) == 1


def test_a_path_that_is_not_there_is_a_usage_error(run, config: Path) -> None:
    result = run("ingest", config.parent / "inbox/none", "-c", config)
    assert result.exit_code == 2 and "inbox/none" in result.stderr
    assert requests(config) == []


NODE = """
import signal, sys
from pathlib import Path
from mergenode.adapters.store.lock import StateLock
from mergenode.adapters.store.sqlite_ledger import SqliteLedger
from tests.support import facts

state, reason = Path(sys.argv[1]), sys.argv[2]
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
with StateLock(state, node="node-t"):
    ledger = SqliteLedger(state / "ledger.sqlite")
    print("ready", flush=True)
    signal.sigwait([signal.SIGHUP])
    (request,) = (state / "requests").iterdir()
    if reason != "known":
        ledger.append(facts.discovered(1, revision="new"))
        ledger.append(facts.folded(2, name="m1", revision="new") if reason == "folded"
                      else facts.rejected(1, revision="new"))
    if reason != "die":
        request.unlink()
        sys.stdin.read()
    ledger.close()
"""


@pytest.fixture
def history(ledger) -> None:
    for fact in (facts.initialised(), facts.discovered(1), facts.folded(1)):
        ledger.append(fact)
    ledger.close()


@pytest.fixture
def node(config: Path, history):
    """A stand-in for the node process: waits for SIGHUP, records an outcome, removes the request."""
    processes = []

    def start(reason: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", NODE, str(config.parent / "state"), reason],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        processes.append(process)
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in processes:
        process.communicate("")


@pytest.mark.parametrize(
    ("reason", "code", "out", "err"),
    [
        ("folded", 0, "folded inbox/m1: contribution 2", ""),
        ("rejected", 1, "", "error: inbox/m1 was rejected: not_finite: NaN in a.weight\nhint: train again\n"),
        ("known", 0, "folded inbox/m1: contribution 1", ""),
    ],
)
def test_waiting_wakes_the_node_and_tells_the_outcome(run, config, checkpoint, node, reason, code, out, err) -> None:
    node(reason)
    result = run("ingest", checkpoint, "-c", config, "--wait")
    assert (result.exit_code, result.stderr) == (code, err)
    assert result.stdout.startswith(out)


def test_a_rejection_as_json_keeps_stdout_clean_and_fails(run, config, checkpoint, node) -> None:
    node("rejected")
    result = run("ingest", checkpoint, "-c", config, "--wait", "--json")
    assert (result.exit_code, result.stderr) == (1, "")
    assert json.loads(result.stdout)["outcome"]["reason"] == "not_finite"


class Story:
    """A reader whose ledger grows by one step with every look."""

    def __init__(self, *steps: Sequence[tuple[int, Fact]]) -> None:
        self.steps = list(steps)
        self.looks = 0

    def facts(self, *, kinds=(), name=None, newest=None):
        told = self.steps[min(self.looks, len(self.steps) - 1)]
        self.looks += 1
        return [(n, fact) for n, fact in told if fact.kind in kinds and fact.name == name][-newest:]


def look(reader: Story, *, handled: Callable[[], bool] = lambda: False, alive: Callable[[], bool] = lambda: True,
         pooled: Callable[[], object] | None = None):  # fmt: skip
    def pause() -> None:
        assert reader.looks < 10, "waits for ever"

    return outcome_of(reader, "m1", before=5, handled=handled, alive=alive, pause=pause, pooled=pooled)


def test_an_outcome_from_before_the_request_does_not_count() -> None:
    old, new = (4, facts.rejected(1)), (7, facts.folded(1))
    assert look(Story([old], [old], [old, (6, facts.discovered(1))], [old, new])) == new


def test_the_outcome_of_another_contribution_does_not_count() -> None:
    mine = (9, facts.rejected(1))
    assert look(Story([(8, facts.folded(2))], [(8, facts.folded(2)), mine])) == mine


def test_a_request_that_was_settled_without_a_new_fact_tells_the_old_one() -> None:
    old = (3, facts.folded(1))
    assert look(Story([old]), handled=lambda: True) == old


def test_a_request_that_was_dropped_is_an_error() -> None:
    with pytest.raises(FatalError, match="dropped the request for 'm1'"):
        look(Story([]), handled=lambda: True)


class Answers:
    """Of a pool: nothing twice, then the answer."""

    def __init__(self, answer: object) -> None:
        self.left = [None, None, answer]

    def __call__(self):
        return self.left.pop(0)


def test_where_a_selector_chooses_a_handled_request_waits_for_the_selection() -> None:
    stale, folded = (3, facts.rejected(1)), (9, facts.folded(1))
    handled = iter([False, True, True, True, True])
    reader, answers = Story([stale]), Answers(folded)
    assert look(reader, handled=lambda: next(handled), pooled=answers) == folded
    assert reader.looks == 4, (
        "an outcome from before the request says nothing, and before it is handled nothing is read"
    )
    refused = (8, facts.rejected(1))
    assert look(Story([stale], [stale, refused]), handled=lambda: True, pooled=Answers(folded)) == refused


def test_a_node_that_stops_before_its_selection_is_an_error() -> None:
    with pytest.raises(FatalError, match="stopped before 'm1' had an outcome") as caught:
        look(Story([]), handled=lambda: True, alive=lambda: False, pooled=Answers(None))
    assert caught.value.hint.startswith("it is in the pool")


def test_a_node_that_stops_is_an_error_but_not_before_its_last_fact_was_read() -> None:
    with pytest.raises(FatalError, match="stopped before 'm1' had an outcome"):
        look(Story([]), alive=lambda: False)
    assert look(Story([(6, facts.folded(1))]), alive=lambda: False)[0] == 6


def test_newest_sequence(config: Path, history) -> None:
    assert newest_sequence(config.parent / "state/ledger.sqlite") == 3
    assert newest_sequence(config.parent / "none.sqlite") == 0


def test_poke_reaches_only_processes_of_this_machine(monkeypatch) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr("os.kill", lambda pid, number: sent.append((pid, number)))
    here = LockOwner(pid=77, host=socket.gethostname(), epoch=1, node="", held=True)
    assert poke(here) and sent == [(77, signal.SIGHUP)]
    assert poke(LockOwner(pid=77, host="elsewhere", epoch=1, node="", held=True)) and len(sent) == 1


@pytest.mark.parametrize(("error", "running"), [(ProcessLookupError(), False), (PermissionError(), True)])
def test_poke_of_a_process_that_is_gone_or_foreign(monkeypatch, error: OSError, running: bool) -> None:
    def refuse(pid: int, number: int) -> None:
        raise error

    monkeypatch.setattr("os.kill", refuse)
    assert poke(LockOwner(pid=77, host=socket.gethostname(), epoch=1, node="", held=True)) is running
