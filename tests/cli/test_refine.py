"""``mergenode refine`` on a command line: what it prints, and what it refuses before it starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

SOURCE = """
import torch

class Task:
    def build_model(self):
        return torch.nn.Linear(2, 3, bias=False)

    def probes(self):
        yield torch.eye(2)

    def outputs(self, model, batch):
        return model(batch)

    def head(self, contribution):
        return torch.eye(3) if contribution != "headless" else None
"""


@pytest.fixture
def world(tmp_path: Path) -> Path:
    (tmp_path / "cli_refine_task.py").write_text(SOURCE)
    for number, name in enumerate(("base", "left", "headless", "merged")):
        (tmp_path / name).mkdir()
        save_file({"weight": torch.full((3, 2), float(number))}, tmp_path / name / "model.safetensors")
    return tmp_path


def arguments(world: Path, *more: object) -> list[object]:
    return [
        "refine", world / "merged", "--base", world / "base", "--task", "cli_refine_task:Task", "--task-path", world,
        "--output", world / "out", *more,
    ]  # fmt: skip


def test_it_says_what_came_of_it(run, world: Path) -> None:
    result = run(*arguments(world, world / "left", world / "headless", "--sums", world / "sums.safetensors"))
    assert (result.exit_code, result.stderr) == (0, "")
    assert "1, 1 of them new" in result.stdout and "headless" in result.stdout and "in 1 steps" in result.stdout
    again = [str(word).replace(str(world / "out"), str(world / "second")) for word in arguments(world)]
    document = json.loads(run(*again, "--sums", world / "sums.safetensors", "--json").stdout)
    assert document["entered"] == [] and [one["name"] for one in document["contributions"].values()] == ["left"]
    assert document["output"] == str(world / "second")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--weight", "1", "--weight", "2"], "2 --weight for 1 models"),
        (["--weight", "-1"], "--weight -1 is not a finite number above 0"),
        (["--rate", "nan"], "--rate nan is not a finite number above 0"),
        (["--without", "left"], "--without takes a model out of --sums"),
        (["nowhere"], "nowhere: no such checkpoint"),
    ],
)
def test_it_refuses_before_it_starts(run, world: Path, more: list[str], said: str) -> None:
    result = run(*arguments(world, world / "left", *more))
    assert result.exit_code == 2 and said in result.stderr
    assert not (world / "out").exists()
