"""retract and rollback that cannot be carried out: what stays, what is told, what asking again does."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mergenode.adapters.clock import SystemClock
from mergenode.adapters.store.change_requests import FolderChangeRequests
from mergenode.adapters.store.lock import StateLock
from mergenode.adapters.store.lock_file import LockOwner
from mergenode.bootstrap.policy import policy_of
from mergenode.daemon.loop import Loop
from mergenode.errors import FatalError, TransientError, TransientReason
from mergenode.ledger.changes import Change
from mergenode.ledger.records import Folded
from mergenode.ledger.view import Policy
from mergenode.settings import Settings
from tests.support.real_node import RealNode
from tests.support.side_cars import write_side_cars

SUM, MAX = {"name": "task_arithmetic"}, {"name": "magmax"}
OTHER_SETTINGS = {
    "another method": {"method": MAX},
    "too little memory": {"engine": {"threads": 1, "device": "cpu", "memory_limit": "1MiB"}},
}


class Killed(BaseException):
    """In the place of SIGKILL."""


@pytest.fixture
def node(tmp_path: Path) -> RealNode:
    return filled(tmp_path / "node", SUM)


def filled(root: Path, method: dict[str, object], names: str = "abc") -> RealNode:
    """A node that folded and published these, one after the other."""
    node = RealNode(root, method=method)
    for seed, name in enumerate(names, start=1):
        folder = node.put(name, seed)
        if method["name"] == "fisher":
            write_side_cars(folder, node.tensors, seed)
        node.run_once()
    return node


def requests(node: RealNode) -> list[str]:
    folder = node.state / "changes"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def names(node: RealNode) -> list[str]:
    return [entry["name"] for entry in node.manifest()["contributions"]]


def impatient(settings: Settings) -> Policy:
    return replace(policy_of(settings), once_patience_seconds=0.0)


def ask(node: RealNode, name: str) -> Change:
    """A request that a kill left behind."""
    (content,) = [fact.content for fact in node.facts("folded") if isinstance(fact, Folded) and fact.name == name]
    return FolderChangeRequests(node.state).submit(Change("", (content,), why="asked before"), SystemClock())


def broken(message: str, hint: str) -> Callable[..., None]:
    """A step of the loop that the operator has to mend."""

    def fail(*_: object) -> None:
        raise FatalError(message, hint=hint)

    return fail


@pytest.mark.parametrize("settings", OTHER_SETTINGS.values(), ids=OTHER_SETTINGS)
@pytest.mark.parametrize("command", [["rollback", "1"], ["retract", "b"]])
def test_what_failed_is_not_made_later(run, node: RealNode, command: list[str], settings: dict[str, object]) -> None:
    node.configure(**{"method": SUM} | settings)
    failed = run(*command, "-c", node.config)
    tried = run(*command, "-c", node.config, "--dry-run")
    assert failed.exit_code == tried.exit_code == (2 if "method" in settings else 1)
    assert failed.stderr == tried.stderr and ("magmax" in failed.stderr or "memory_limit" in failed.stderr)
    assert requests(node) == []
    node.configure(method=SUM)
    assert node.run_once().complete
    assert names(node) == ["a", "b", "c"]
    assert run("retract", "c", "-c", node.config).exit_code == 0
    assert names(node) == ["a", "b"]


def test_a_failure_half_way_withdraws_too(run, node: RealNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Loop, "_restate", broken("the statistics are damaged", "Restore them."))
    result = run("retract", "b", "-c", node.config)
    assert result.exit_code == 1
    assert result.stderr == "error: the statistics are damaged\nhint: Restore them.\n"
    assert requests(node) == []


def test_the_last_try_is_told_when_patience_ends(run, node: RealNode, monkeypatch: pytest.MonkeyPatch) -> None:
    def unready(*_: object) -> None:
        raise TransientError(TransientReason.READ_FAILED, "the share is away", hint="Mount it.")

    monkeypatch.setattr("mergenode.bootstrap.changes.policy_of", impatient)
    monkeypatch.setattr(Loop, "_restate", unready)
    result = run("retract", "b", "-c", node.config)
    assert result.exit_code == 1
    assert result.stderr.endswith("error: the share is away\nhint: Mount it.\n")
    assert requests(node) == []


def test_what_was_made_stays_made_when_its_version_fails(run, node, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_publish", broken("v000004 is in the way", "Remove it."))
        result = run("retract", "b", "-c", node.config)
    assert result.exit_code == 1
    assert "error: the merge was changed, but no version shows it yet: v000004 is in the way\n" in result.stderr
    assert "hint: Remove it. Then ask again" in result.stderr
    assert requests(node) == [] and names(node) == ["a", "b", "c"]
    assert run("retract", "b", "-c", node.config).exit_code == 0
    assert names(node) == ["a", "c"]


def test_an_earlier_request_that_fails_is_told_as_such(run, node: RealNode, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = ask(node, "a")

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_restate", broken("the statistics are damaged", "Restore them."))
        result = run("retract", "b", "-c", node.config)
    assert result.exit_code == 1
    assert "asked for earlier waits in front of it, and cannot be made: the statistics are damaged" in result.stderr
    assert requests(node) == [f"{earlier.id}.json"]
    assert run("retract", "b", "-c", node.config).exit_code == 0
    assert names(node) == ["c"]


def test_a_node_that_starts_meanwhile_finds_no_request(run, node: RealNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mergenode.cli.changes.running_process", lambda state: None)
    with StateLock(node.state, node="other"):
        result = run("retract", "b", "-c", node.config)
    assert result.exit_code == 1
    assert requests(node) == []


def test_a_command_that_is_asked_to_stop_says_that_the_request_stays(run, node, monkeypatch) -> None:
    monkeypatch.setattr(Loop, "tune", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    result = run("retract", "b", "-c", node.config, "--why", "withdrawn")
    assert result.exit_code == 1
    assert "error: the merge was not changed yet: the command was stopped first" in result.stderr
    assert "hint: The request stays and is carried out at its next start" in result.stderr
    assert len(requests(node)) == 1
    (told,) = json.loads(run("status", "-c", node.config, "--json").stdout)["changes"]
    assert (told["what"], told["subject"], told["why"]) == ("retract", "inbox/b", "withdrawn")


def test_status_tells_what_waits(run, node: RealNode) -> None:
    assert "change" not in run("status", "-c", node.config).stdout
    asked = ask(node, "b")
    FolderChangeRequests(node.state).submit(Change("", rollback_to=1), SystemClock())
    (node.state / "changes" / "x.json").write_text("{")
    told = json.loads(run("status", "-c", node.config, "--json").stdout)["changes"]
    assert [(each["what"], each["subject"]) for each in told] == [
        ("retract", "inbox/b"),
        ("rollback", "v000001"),
        ("?", ""),
    ]
    assert told[0]["id"] == asked.id and told[0]["asked"].startswith("20") and told[2]["asked"] == ""
    text = run("status", "-c", node.config).stdout
    assert "0 contributions, 3 changes of the merge, to be made at the next start" in text
    assert "retract inbox/b" in text and "asked before" in text


def kill_before_publishing(run, node: RealNode, monkeypatch: pytest.MonkeyPatch, *command: str) -> None:
    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Loop, "_publish", killed)
        run(*command, "-c", node.config)
    assert names(node) == ["a", "b", "c"], "the version holds it still"


@pytest.mark.parametrize("name", ["b", "inbox/b", "content"])
def test_asked_again_after_a_kill_a_retraction_is_published(run, node, monkeypatch, name: str) -> None:
    kill_before_publishing(run, node, monkeypatch, "retract", "b")
    if name == "content":
        (name,) = [fact.content for fact in node.facts("retracted")]
    tried = run("retract", name, "-c", node.config, "--dry-run")
    assert (tried.exit_code, tried.stdout) == (
        0,
        "nothing leaves: it left before, but the newest version still holds it\n",
    )
    assert names(node) == ["a", "b", "c"]
    result = run("retract", name, "-c", node.config)
    assert result.exit_code == 0, result.stderr
    assert f"published v000004 at {node.published / 'v000004'}" in result.stdout
    assert names(node) == ["a", "c"]
    again = run("retract", name, "-c", node.config)
    assert again.exit_code == 2


def test_asked_again_after_a_kill_a_rollback_is_published(run, node: RealNode, monkeypatch) -> None:
    kill_before_publishing(run, node, monkeypatch, "rollback", "1")
    told = json.loads(run("rollback", "1", "-c", node.config, "--json").stdout)
    assert (told["leaving"], [fact["kind"] for fact in told["facts"]]) == ([], ["published"])
    assert names(node) == ["a"]


def test_a_node_that_stops_before_it_published_is_told(run, node: RealNode, monkeypatch: pytest.MonkeyPatch) -> None:
    kill_before_publishing(run, node, monkeypatch, "retract", "b")
    seen = [LockOwner(pid=0, host="elsewhere", epoch=1, node="node", held=True), None]
    monkeypatch.setattr("mergenode.cli.changes.running_process", lambda state: seen.pop(0))
    monkeypatch.setattr("mergenode.cli.changes.poke", lambda owner: None)
    result = run("retract", "b", "-c", node.config)
    assert result.exit_code == 1 and requests(node) == []
    assert "no version shows it yet: the node stopped first" in result.stderr


def test_what_left_and_another_that_leaves_are_published_together(run, node: RealNode, monkeypatch) -> None:
    kill_before_publishing(run, node, monkeypatch, "retract", "b")
    result = run("retract", "b", "c", "-c", node.config)
    assert result.exit_code == 0 and "left the merge: inbox/c" in result.stdout
    assert names(node) == ["a"]


def test_files_of_others_are_wanted_at_their_own_place(run, tmp_path: Path) -> None:
    node = filled(tmp_path / "node", MAX)
    (node.inbox / "a").rename(tmp_path / "away")
    for command in (["retract", "b"], ["rollback", "1"]):
        result = run(*command, "-c", node.config)
        assert result.exit_code == 1
        assert f"hint: Bring back the files of 'a' to {node.inbox / 'a'}." in result.stderr
        assert "--from" not in result.stderr
    (tmp_path / "away").rename(node.inbox / "a")
    assert run("retract", "b", "-c", node.config).exit_code == 0


def test_a_side_car_that_is_gone_is_wanted_back(run, tmp_path: Path) -> None:
    node = filled(tmp_path / "node", {"name": "fisher"})
    side_car = node.inbox / "b" / "model.fisher.safetensors"
    side_car.rename(tmp_path / "kept.fisher.safetensors")
    result = run("retract", "b", "-c", node.config)
    assert result.exit_code == 1
    assert result.stderr.count("error:") == result.stderr.count("hint:") == 1
    told, hint = result.stderr.splitlines()
    assert told.startswith("error: b: has no *.fisher.safetensors beside its weights")
    assert hint == (
        f"hint: Bring back the original files of 'b' to {node.inbox / 'b'}, side-cars included, "
        "or name the place where they are now with --from."
    )
    (node.inbox / "b").rename(tmp_path / "moved")
    (tmp_path / "kept.fisher.safetensors").rename(tmp_path / "moved" / "model.fisher.safetensors")
    assert run("retract", "b", "-c", node.config, "--from", tmp_path / "moved").exit_code == 0


def test_a_refusal_is_told_once(run, node: RealNode) -> None:
    node.put("b", 9)
    result = run("retract", "b", "-c", node.config)
    error, hint = result.stderr.splitlines()
    assert error.startswith("error: b: ") and "now holds blake3:" in error
    assert hint.startswith("hint: Bring back the original files of 'b'")


def test_a_registry_that_it_did_not_come_from_is_named(run, node: RealNode) -> None:
    for asked in (["b", "--registry", "zzz"], ["zzz/b"]):
        result = run("retract", *asked, "-c", node.config)
        assert result.exit_code == 2
        assert (
            result.stderr
            == "error: 'b' is in the merge as inbox/b, not from a registry 'zzz'\nhint: Registries: inbox.\n"
        )
    assert run("retract", "inbox/b", "-c", node.config, "--dry-run").stdout.startswith("would leave the merge: inbox/b")
