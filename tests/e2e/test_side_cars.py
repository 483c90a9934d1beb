"""A real node whose method needs side-cars: what lacks one waits for it as a rejection, and enters when it comes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from mergenode.cli.root import cli
from tests.support.models import fine_tune, random_base, write_model
from tests.support.real_node import environment
from tests.support.side_cars import grams, write_side_cars

SQUARE = "layers.0.attn.q_proj.weight"


def run_once(directory: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mergenode", "run", "-c", "node.yaml", "--once"], cwd=directory, capture_output=True,
        text=True, timeout=120, env=environment() | {"OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def mergenode(directory: Path, *arguments: object) -> str:
    """A short command, in this process."""
    done = CliRunner().invoke(cli, [*map(str, arguments)], env={"MERGENODE_CONFIG": str(directory / "node.yaml")})
    assert done.exit_code == 0, done.output
    return done.stdout


def history(directory: Path) -> list[tuple[str, str, str]]:
    facts = json.loads(mergenode(directory, "history", "--json"))["facts"]
    told = [(fact["kind"], fact["name"], fact.get("reason", "")) for fact in facts if "name" in fact]
    return [fact for fact in told if fact[0] in ("folded", "rejected", "duplicate")]


@pytest.mark.slow
def test_a_contribution_without_its_side_car_enters_when_it_comes(tmp_path: Path) -> None:
    base = random_base()
    write_model(tmp_path / "base", base)
    (tmp_path / "inbox").mkdir()
    whole, late = (write_model(tmp_path / "inbox" / name, fine_tune(base, n)) for n, name in enumerate("ab"))
    write_side_cars(whole, base, 0)
    (tmp_path / "node.yaml").write_text(
        "base: ./base\nregistries: [./inbox]\nmethod: {name: regmean}\nhttp: {listen: null}\n"
    )
    for model in (whole, late):
        mergenode(tmp_path, "commit", model)
    run_once(tmp_path)
    assert history(tmp_path) == [("folded", "a", ""), ("rejected", "b", "needs_side_car")]
    write_side_cars(late, base, 1)
    mergenode(tmp_path, "commit", late)
    run_once(tmp_path)
    assert history(tmp_path)[-1] == ("folded", "b", "")
    tensors = load_file(late / "model.gram.safetensors")
    tensors[SQUARE] = grams(base, 5)[SQUARE]
    save_file(tensors, late / "model.gram.safetensors")
    mergenode(tmp_path, "commit", late)
    run_once(tmp_path)
    assert history(tmp_path)[-1] == ("folded", "b", ""), "another Gram is another contribution"
    assert len(history(tmp_path)) == 4
    fisher = load_file(late / "model.fisher.safetensors")
    fisher[SQUARE] += 1.0
    save_file(fisher, late / "model.fisher.safetensors")
    mergenode(tmp_path, "commit", late)
    run_once(tmp_path)
    assert history(tmp_path)[-1] == ("duplicate", "b", ""), "what the method does not use makes no difference"
    assert "all is well" in mergenode(tmp_path, "verify")
    published = load_file(tmp_path / "published/latest/model.safetensors")
    assert all(torch.isfinite(tensor.float()).all() for tensor in published.values())
