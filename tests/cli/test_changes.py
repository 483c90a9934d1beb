"""retract and rollback: on real nodes, running and not running."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from torch import Tensor

from mergenode.cli.node import running_process
from mergenode.ledger.records import Restated, Retracted
from tests.support.local_node import load_model, same_bits
from tests.support.real_node import Process, RealNode

METHODS = ({"name": "task_arithmetic"}, {"name": "opcm"})


@pytest.fixture(params=METHODS, ids=lambda method: method["name"])
def node(request: pytest.FixtureRequest, tmp_path: Path) -> RealNode:
    return filled(tmp_path / "node", method=request.param)


def filled(root: Path, names: str = "abc", **settings: object) -> RealNode:
    """A node that folded and published these, one after the other."""
    node = RealNode(root, **settings)
    for seed, name in enumerate("abc", start=1):
        if name in names:
            node.put(name, seed)
            node.run_once()
    return node


def asked(run, node: RealNode, *args: object) -> dict[str, object]:
    result: Result = run(*args, "-c", node.config, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def furthest(left: dict[str, Tensor], right: dict[str, Tensor]) -> float:
    floating = [name for name in right if right[name].numel() and right[name].is_floating_point()]
    return max(float((left[name] - right[name]).abs().max()) for name in floating)


def names(node: RealNode) -> list[str]:
    return [entry["name"] for entry in node.manifest()["contributions"]]


def test_retract_publishes_what_is_left(run, node: RealNode, tmp_path: Path) -> None:
    told = asked(run, node, "retract", "b", "--why", "withdrawn")
    subtracts = told["how"] == "subtracted"
    assert told["leaving"] == [
        {"registry": "inbox", "name": "b", "content": told["leaving"][0]["content"]}  # type: ignore[index]  # JSON
    ]
    assert [fact["kind"] for fact in told["facts"]] == ["retracted", "restated", "published"]  # type: ignore[attr-defined]  # JSON
    assert names(node) == ["a", "c"]
    other = filled(tmp_path / "other", "ac", method=json.loads(node.config.read_text())["method"])
    left, right = (load_model(each.published / "latest") for each in (node, other))
    if subtracts:
        assert furthest(left, right) < 1e-6
    else:
        assert all(same_bits(left[name], right[name]) for name in right)
        assert node.manifest()["lineage"] == other.manifest()["lineage"]
    node.run_once()
    assert names(node) == ["a", "c"], "it still lies in the registry and stays out"
    assert node.problems() == []


def test_what_was_retracted_can_be_asked_for_again(run, node: RealNode) -> None:
    asked(run, node, "retract", "b")
    assert run("ingest", node.inbox / "b", "-c", node.config).exit_code == 0
    node.run_once()
    assert names(node) == ["a", "c", "b"]


def test_rollback_gives_the_bytes_of_the_version(run, node: RealNode) -> None:
    before = load_model(node.published / "v000002")
    told = asked(run, node, "rollback", "v000002", "--why", "scores fell")
    assert told["how"] == "replayed" or node.manifest()["method"]["name"] != "opcm"
    assert names(node) == ["a", "b"]
    after = load_model(node.published / "latest")
    assert furthest(before, after) < 1e-6
    if told["how"] == "replayed":
        assert all(same_bits(before[name], after[name]) for name in before)
    (fact,) = node.facts("restated")
    assert isinstance(fact, Restated) and fact.rollback_to == 2
    (out,) = node.facts("retracted")
    assert isinstance(out, Retracted) and (out.name, out.why) == ("c", "scores fell")


def test_a_snapshot_spares_the_replay(run, tmp_path: Path) -> None:
    node = filled(tmp_path / "node", method={"name": "opcm"}, snapshots={"every": 1, "keep": 2})
    before = load_model(node.published / "v000002")
    told = asked(run, node, "rollback", "2")
    assert (told["from_generation"], told["reads"]) == (2, 0)
    after = load_model(node.published / "latest")
    assert all(same_bits(before[name], after[name]) for name in before)
    assert sorted(path.name for path in (node.state / "statistics").iterdir()) == [
        "g00000002",
        "g00000003",
        "g00000004",
    ]


def test_replaying_everything_follows_what_left(run, node: RealNode) -> None:
    asked(run, node, "retract", "b")
    node.put("d", 4)
    node.run_once()
    asked(run, node, "rollback", "4")
    result = run("verify", "-c", node.config, "--replay")
    assert result.exit_code == 0, result.stdout
    assert "same statistics" in result.stdout


def test_a_dry_run_changes_nothing(run, node: RealNode) -> None:
    before = node.facts()
    told = asked(run, node, "retract", "b", "--dry-run")
    assert told["facts"] is None
    assert told["reads"] in (1, 2)
    assert node.facts() == before
    text = run("retract", "b", "-c", node.config, "--dry-run").stdout
    assert text.startswith("would leave the merge: inbox/b\nhow: ")


def test_a_running_node_does_it_itself(run, node: RealNode) -> None:
    with Process("run", "-c", node.config) as process:
        while running_process(node.state) is None:
            assert process.process.poll() is None
        told = asked(run, node, "retract", "b")
        assert [fact["kind"] for fact in told["facts"]] == ["retracted", "restated", "published"]  # type: ignore[attr-defined]  # JSON
        assert process.end() == 0
    assert names(node) == ["a", "c"]


def test_what_a_team_pushed_is_found_by_the_name_that_it_gave(run, tmp_path: Path) -> None:
    node = filled(tmp_path / "node", "a")
    for seed, name in ((7, "team@0123456789ab"), (8, "other@0123456789ab"), (9, "other@ba9876543210")):
        node.put(name, seed)
    node.run_once()
    ambiguous = run("retract", "other", "-c", node.config)
    assert ambiguous.exit_code == 2
    assert "inbox/other@0123456789ab" in ambiguous.stderr and "inbox/other@ba9876543210" in ambiguous.stderr
    asked(run, node, "retract", "team")
    assert names(node) == ["a", "other@0123456789ab", "other@ba9876543210"]


def test_files_that_are_gone_are_named_and_can_be_brought_from_elsewhere(run, tmp_path: Path) -> None:
    node = filled(tmp_path / "node", method={"name": "task_arithmetic"})
    (node.inbox / "a").rename(tmp_path / "a-gone")
    (node.inbox / "b").rename(tmp_path / "moved")
    result = run("retract", "b", "-c", node.config)
    assert result.exit_code == 1
    assert "'b' would have to be subtracted, and is no longer at" in result.stderr
    assert "--from" in result.stderr
    assert asked(run, node, "retract", "b", "--from", tmp_path / "moved")["how"] == "subtracted"
    assert names(node) == ["a", "c"]


def test_another_file_in_its_place_is_refused(run, tmp_path: Path) -> None:
    node = filled(tmp_path / "node", method={"name": "task_arithmetic"})
    node.put("b", 9)
    result = run("retract", "b", "-c", node.config)
    assert result.exit_code == 1
    assert "now holds blake3:" in result.stderr
    assert names(node) == ["a", "b", "c"]
    assert list((node.state / "changes").iterdir()) == []


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["retract", "bb"], "no contribution 'bb' in the merge; did you mean 'b'?"),
        (["retract", "a", "b", "--from", "."], "--from names one place"),
        (["retract", "blake3:00"], "no contribution 'blake3:00' in the merge"),
        (["rollback", "x1"], "'x1' is not a version"),
    ],
)
def test_what_is_not_there_is_a_usage_error(run, tmp_path: Path, args: list[str], message: str) -> None:
    node = filled(tmp_path / "node", "ab")
    result = run(*args, "-c", node.config)
    assert result.exit_code == 2
    assert message in result.stderr


def test_what_is_out_already_says_so(run, tmp_path: Path) -> None:
    node = filled(tmp_path / "node", "ab")
    asked(run, node, "retract", "b")
    result = run("retract", "b", "-c", node.config)
    assert result.exit_code == 2
    assert "'b' is not in the merge: its last fact is 'retracted'" in result.stderr
    result = run("rollback", "3", "-c", node.config)
    assert result.exit_code == 0
    assert result.stdout == "nothing leaves: the merge is as you want it already\n"
    result = run("rollback", "9", "-c", node.config)
    assert result.exit_code == 2
    assert "there is no version 9" in result.stderr


def test_a_request_that_nobody_understands_is_named(run, tmp_path: Path) -> None:
    node = filled(tmp_path / "node", "ab")
    (node.state / "changes").mkdir()
    (node.state / "changes" / "x.json").write_text('{"contents": 3}')
    result = run("run", "-c", node.config, "--once")
    assert result.exit_code == 1
    assert "changes/x.json: not a request" in result.stderr
