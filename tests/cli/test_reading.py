"""status, history and show: what they tell about a real ledger, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mergenode.adapters.store.lock import StateLock
from tests.support import facts

COMMANDS = (["status"], ["history"], ["show", "m1"])


def output(run, *args: object) -> dict:
    result = run(*args, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_node_that_never_ran_is_told_as_such(run, config: Path, command: list[str]) -> None:
    result = run(*command, "-c", config)
    assert result.exit_code == 1 and result.stdout == ""
    assert "this node has never run" in result.stderr and f"mergenode run -c {config}" in result.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_a_missing_settings_file_is_a_usage_error(run, tmp_path: Path, command: list[str]) -> None:
    result = run(*command, "-c", tmp_path / "none.yaml")
    assert result.exit_code == 2 and "hint: name the settings file with -c FILE" in result.stderr


@pytest.mark.parametrize("command", [*COMMANDS, ["show", "m3"], ["show", "latest"], ["show", "2"]])
def test_nothing_from_outside_acts_on_the_terminal(run, config: Path, history, command: list[str]) -> None:
    result = run(*command, "-c", config)
    assert result.exit_code == 0
    assert all(line.isprintable() for line in result.stdout.splitlines())


def test_status_json(run, config: Path, history) -> None:
    status = output(run, "status", "-c", config)
    assert {
        name: status[name] for name in ("schema", "node", "running", "pid", "contributions", "generation", "version")
    } == {
        "schema": "mergenode.status/1",
        "node": "node-t",
        "running": False,
        "pid": None,
        "contributions": 2,
        "generation": 2,
        "version": 2,
    }
    assert status["base"] == {"path": str(config.parent / "base"), "digest": facts.digest(0)}
    assert status["method"] == {"name": "opcm", "options": {"alpha": 0.5}}
    assert [fact["revision"] for fact in status["pending"]] == ["r5"]
    assert [(fact["name"], fact["reason"]) for fact in status["rejected"]] == [("m2", "not_finite")]
    assert [(fact["name"], fact["share_kept"]) for fact in status["folds"]] == [("m1", None), ("m3", 0.64)]
    assert status["counts"]["discovered"] == 5 and status["versions"] == [2]
    manifest = config.parent / "published/v000002/mergenode.json"
    assert status["disk"]["published_bytes"] == manifest.stat().st_size
    assert status["disk"]["state_bytes"] > 0 and status["disk"]["free_bytes"] > 0


def test_status_table(run, config: Path, history) -> None:
    text = run("status", "-c", config).stdout
    for words in (
        "node-t (not running)",
        "opcm alpha=0.5",
        "2 contributions, generation 2",
        "v000002",
        "1 contributions",
        "inbox/m3",
        "64.0%",
        "1 min 15 s",
        "not_finite: NaN in a.weight",
    ):
        assert words in text


def test_status_tells_what_no_version_holds_yet(run, config: Path, history, ledger) -> None:
    assert "is not out yet" not in run("status", "-c", config).stdout
    ledger.append(facts.folded(6, generation=3, count=3))
    assert "v000002; generation 3 is not out yet" in run("status", "-c", config).stdout


def test_status_tells_a_running_node(run, config: Path, history) -> None:
    import os

    with StateLock(config.parent / "state", node="node-t"):
        status = output(run, "status", "-c", config)
    assert (status["running"], status["pid"]) == (True, os.getpid())
    assert output(run, "status", "-c", config)["running"] is False


def test_history_is_the_newest_facts_oldest_first(run, config: Path, history) -> None:
    told = output(run, "history", "-c", config, "--limit", 3)
    assert told["schema"] == "mergenode.history/1"
    assert [(fact["sequence"], fact["kind"]) for fact in told["facts"]] == [
        (11, "discovered"),
        (12, "duplicate"),
        (13, "discovered"),
    ]


def test_history_by_kind(run, config: Path, history) -> None:
    told = output(run, "history", "-c", config, "--kind", "folded", "--kind", "rejected")
    assert [fact["name"] for fact in told["facts"]] == ["m1", "m2", "m3"]
    assert told["facts"][0]["totals"] == {"norm_sum": 0.1, "merge_sq": 2.0}
    result = run("history", "-c", config, "--kind", "foldde")
    assert result.exit_code == 2 and "'folded'" in result.stderr


def test_history_table_has_a_line_per_fact(run, config: Path, history) -> None:
    lines = run("history", "-c", config).stdout.splitlines()
    assert len(lines) == 1 + len(history)
    assert all(line == line.rstrip() for line in lines)
    assert "inbox/m4" in lines[12] and "same content as m1" in lines[12]


def test_show_a_contribution(run, config: Path, history) -> None:
    told = output(run, "show", "m3", "-c", config)
    assert (told["schema"], told["name"], told["registry"]) == ("mergenode.contribution/1", "m3", "inbox")
    assert [fact["kind"] for fact in told["facts"]] == ["discovered", "folded"]
    assert told["fold"]["groups"][0]["share_kept"] == 0.64
    text = run("show", "m3", "-c", config).stdout
    whole = next(line for line in text.splitlines() if line.startswith("whole model"))
    assert whole.split() == ["whole", "model", "3,000", "1.5", "64.0%", "0.25", "-", "12.5", "87.5%", "5.0%"]
    layer = next(line for line in text.splitlines() if line.startswith("model.layers.0"))
    assert layer.split() == ["model.layers.0", "2,000", "0.5", "-", "-", "-", "-", "-", "-"]
    assert "odd\\x1b" in text


def test_show_the_contribution_of_a_fold(run, config: Path, history) -> None:
    by_name = output(run, "show", "m3", "-c", config)
    assert output(run, "show", "--generation", by_name["fold"]["generation"], "-c", config) == by_name
    assert run("show", "--generation", "99", "-c", config).exit_code == 2
    assert run("show", "-c", config).exit_code == 2
    assert run("show", "m3", "--generation", "1", "-c", config).exit_code == 2


def test_show_a_rejected_contribution_with_its_hint(run, config: Path, history) -> None:
    assert output(run, "show", "m2", "-c", config)["fold"] is None
    assert "hint: train [again]" in run("show", "m2", "-c", config).stdout


@pytest.mark.parametrize("name", ["2", "v2", "v000002", "latest"])
def test_show_a_version(run, config: Path, history, name: str) -> None:
    told = output(run, "show", name, "-c", config)
    assert (told["schema"], told["version"]) == ("mergenode.version-report/1", 2)
    assert told["manifest"]["count"] == 2
    assert "-0.5" in run("show", name, "-c", config).stdout


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("v1", "no version 'v1' on disk", "versions on disk: v000002"),
        ("m33", "no contribution or version 'm33'; did you mean 'm", "mergenode history"),
        ("other", "no contribution or version 'other'", "mergenode history"),
    ],
)
def test_show_of_nothing_is_a_usage_error(run, config: Path, history, name: str, message: str, hint: str) -> None:
    result = run("show", name, "-c", config)
    assert result.exit_code == 2
    assert message in result.stderr and hint in result.stderr


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff"])
def test_show_of_a_damaged_version_says_so(run, config: Path, history, content: bytes) -> None:
    (config.parent / "published/v000002/mergenode.json").write_bytes(content)
    result = run("show", "v2", "-c", config)
    assert result.exit_code == 1 and "mergenode verify" in result.stderr


def test_commands_read_while_the_node_writes(run, config: Path, history, ledger) -> None:
    assert output(run, "status", "-c", config)["contributions"] == 2
    ledger.append(facts.discovered(6))
    ledger.append(facts.folded(6, generation=3, count=3))
    assert output(run, "status", "-c", config)["contributions"] == 3


def test_the_settings_file_can_come_from_the_environment(run, config: Path, history) -> None:
    result = run("status", "--json", MERGENODE_CONFIG=str(config))
    assert json.loads(result.stdout)["node"] == "node-t"
