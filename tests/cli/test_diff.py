"""diff: contributions and norms per layer group, held against a plain computation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.support.checkpoints import load_single
from tests.support.real_node import RealNode


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> RealNode:
    node = RealNode(tmp_path_factory.mktemp("diff"))
    for seed, name in enumerate("abc", start=1):
        node.put(name, seed)
        node.run_once()
    return node


def vector(path: Path, base: Path) -> torch.Tensor:
    """Everything that moved, as one vector; the tied copy counts once."""
    tuned, origin = load_single(path), load_single(base)
    names = [name for name, tensor in origin.items() if tensor.is_floating_point() and name != "lm_head.weight"]
    return torch.cat([(tuned[name].double() - origin[name].double()).flatten() for name in sorted(names)])


def test_norms_and_cosine_of_the_whole_model(run, node: RealNode) -> None:
    told = json.loads(run("diff", "1", "3", "-c", node.config, "--json").stdout)
    assert told["added"] == ["b", "c"] and told["removed"] == []
    whole = next(group for group in told["groups"] if group["group"] == "*")
    first, second = (vector(node.published / name, node.base) for name in ("v000001", "v000003"))
    assert whole["first_norm"] == pytest.approx(float(first.norm()), rel=1e-5)
    assert whole["second_norm"] == pytest.approx(float(second.norm()), rel=1e-5)
    assert whole["change_norm"] == pytest.approx(float((second - first).norm()), rel=1e-5)
    cosine = float(first @ second / first.norm() / second.norm())
    assert whole["cosine"] == pytest.approx(cosine, abs=1e-5)


def test_groups_add_up_to_the_whole(run, node: RealNode) -> None:
    told = json.loads(run("diff", "2", "3", "-c", node.config, "--json").stdout)
    whole, *groups = told["groups"]
    assert whole["group"] == "*" and len(groups) >= 2
    assert sum(group["change_norm"] ** 2 for group in groups) == pytest.approx(whole["change_norm"] ** 2)
    assert sum(group["parameters"] for group in groups) == whole["parameters"]


@pytest.mark.parametrize("names", [("3", "1"), ("v3", "v1"), ("v000003", "v000001")])
def test_backwards_contributions_are_removed(run, node: RealNode, names: tuple[str, str]) -> None:
    told = json.loads(run("diff", *names, "-c", node.config, "--json").stdout)
    assert (told["added"], told["removed"]) == ([], ["b", "c"])


def test_a_version_against_itself(run, node: RealNode) -> None:
    told = json.loads(run("diff", "2", "2", "-c", node.config, "--json").stdout)
    assert all(group["change_norm"] == 0 for group in told["groups"])
    assert told["groups"][0]["cosine"] == pytest.approx(1.0)


def test_a_version_against_any_checkpoint(run, node: RealNode) -> None:
    told = json.loads(run("diff", "1", node.inbox / "b", "-c", node.config, "--json").stdout)
    whole = told["groups"][0]
    assert whole["second_norm"] == pytest.approx(float(vector(node.inbox / "b", node.base).norm()), rel=1e-5)
    base = json.loads(run("diff", node.base, "1", "-c", node.config, "--json").stdout)
    assert base["groups"][0]["first_norm"] == 0 and base["groups"][0]["cosine"] is None


def test_as_a_table(run, node: RealNode) -> None:
    lines = run("diff", "1", "2", "-c", node.config).stdout.splitlines()
    assert lines[0] == "added: b"
    assert any(line.startswith("whole model") for line in lines)


def test_two_checkpoints_before_the_node_ever_ran(run, tmp_path: Path) -> None:
    node = RealNode(tmp_path)
    a, b = node.put("a", 1), node.put("b", 2)
    told = json.loads(run("diff", a, b, "-c", node.config, "--json").stdout)
    expected = float((vector(a, node.base) - vector(b, node.base)).norm())
    assert told["groups"][0]["change_norm"] == pytest.approx(expected, rel=1e-5)
    assert not node.state.exists()


@pytest.mark.parametrize("missing", ["9", "v9", "nowhere", "²", "latestt"])
def test_a_version_that_is_not_there(run, node: RealNode, missing: str) -> None:
    result = run("diff", "1", missing, "-c", node.config)
    assert result.exit_code == 2 and "no such version" in result.stderr
    assert "v000001, v000002, v000003" in result.stderr


def test_what_is_no_checkpoint_is_named(run, node: RealNode) -> None:
    result = run("diff", "1", node.state, "-c", node.config)
    assert result.exit_code == 2 and str(node.state) in result.stderr


def test_hostile_names_are_shown_defused(run, tmp_path: Path) -> None:
    node = RealNode(tmp_path)
    node.put("a", 1)
    node.put("b", 2)
    node.run_once()
    file = node.published / "v000002/mergenode.json"
    manifest = json.loads(file.read_bytes())
    manifest["contributions"][1]["name"] = "evil\x1b[31m\n[bold]"
    file.write_text(json.dumps(manifest))
    result = run("diff", "1", "2", "-c", node.config)
    assert result.exit_code == 0 and "\x1b" not in result.stdout
    assert result.stdout.splitlines()[0].startswith("added: evil")
