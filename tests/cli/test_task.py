"""task check and sidecar on the command line: what they print, and how they end."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

SOURCE = """
import torch

class Task:
    def build_model(self):
        return torch.nn.Linear(3, 2)

    def calibration_batches(self):
        yield torch.ones(5, 3)

    def evaluate(self, model):
        raise ValueError("no test data \\x1b[31m here")
"""


@pytest.fixture
def node(tmp_path: Path) -> Path:
    (tmp_path / "cli_task.py").write_text(SOURCE)
    (tmp_path / "base").mkdir()
    save_file({"weight": torch.ones(2, 3), "bias": torch.zeros(2)}, tmp_path / "base/model.safetensors")
    (tmp_path / "node.yaml").write_text(
        "base: ./base\nregistries: []\ntask: {entrypoint: 'cli_task:Task', path: .}\n", encoding="utf-8"
    )
    return tmp_path


def test_check_tells_what_works_and_ends_with_1_when_something_does_not(run, node: Path) -> None:
    result = run("task", "check", "-c", node / "node.yaml")
    assert result.exit_code == 1
    methods, features = result.stdout.split("\n\n")
    lines = {line.split()[0]: line for line in methods.splitlines()}
    assert "yes" in lines["build_model"] and "8 parameters" in lines["build_model"]
    assert "a first batch of 5 examples" in lines["calibration_batches"]
    assert lines["loss"].split()[1] == lines["train"].split()[1] == "-"
    assert "no test data" in lines["evaluate"] and "line 12" in lines["evaluate"]
    unlocked = {name: rest for name, rest in re.findall(r"^(\S.*?)  +(yes|no .*)$", features, re.M)}
    assert unlocked["side-cars: gram"] == "yes"
    assert unlocked["selector: frank_wolfe"].split() == ["no", "loss()"]
    assert unlocked["gates: evaluation"].split(maxsplit=1)[1].strip() == "evaluate() that works"
    assert "\x1b" not in result.stdout


def test_check_as_json(run, node: Path) -> None:
    result = run("task", "check", "-c", node / "node.yaml", "--json")
    document = json.loads(result.stdout)
    assert document["entrypoint"] == "cli_task:Task"
    works = {name: tried["works"] for name, tried in document["methods"].items()}
    assert works == {
        "build_model": True, "calibration_batches": True, "loss": None, "train": None, "evaluate": False,
        "probes": None, "outputs": None, "head": None,
    }  # fmt: skip
    assert {"side-cars: fisher", "selector: frank_wolfe"} <= set(document["methods"]["loss"]["unlocks"])
    assert document["features"]["weight: fit"] == {
        "unlocked": False, "needs": ["build_model", "evaluate"], "missing": [], "failing": ["evaluate"],
    }  # fmt: skip
    assert document["features"]["protect"]["missing"] == ["loss"]
    assert {name for name, feature in document["features"].items() if feature["unlocked"]} == {
        "side-cars: gram", "mixer: dimat: matching, BatchNorm",
    }  # fmt: skip


def test_check_without_a_plugin_is_a_question_of_settings(run, config: Path) -> None:
    result = run("task", "check", "-c", config)
    assert result.exit_code == 2
    assert "no task plug-in" in result.stderr and "task:" in result.stderr


def test_sidecar_prints_what_it_wrote(run, node: Path) -> None:
    arguments = ("sidecar", node / "base", "--task", "cli_task:Task", "--task-path", node)
    result = run(*arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "model.gram.safetensors" in result.stdout and "1 batches, 5 rows" in result.stdout
    assert run("commit", node / "base").exit_code == 0
    document = json.loads(run(*arguments, "--json").stdout)
    assert document["commit_again"] is True
    path = str(node / "base/model.gram.safetensors")
    assert document["side_cars"] == [{"kind": "gram", "path": path, "tensors": 1, "batches": 1, "rows": 5}]


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (("nowhere", "--task", "cli_task:Task"), "no such checkpoint", 2),
        (("base", "--task", "cli_task:Task", "--fisher"), "it lacks loss()", 2),
        (("base", "--task", "cli_task:Other"), "has no class 'Other'", 1),
        (("base",), "--task", 2),
        (("base", "--task", "cli_task:Task", "--batches", "0"), "--batches", 2),
        (("base", "--task", "cli_task:Task", "--memory-limit", "lots"), "--memory-limit", 2),
    ],
)
def test_what_cannot_be_done_is_told(run, node: Path, arguments: tuple[str, ...], said: str, code: int) -> None:
    model, *options = arguments
    result = run("sidecar", node / model, "--task-path", node, *options)
    assert (result.exit_code, said in result.stderr) == (code, True), result.stderr
