"""The examples of docs/tasks.md, run as they are written: the files of docs/examples, and commands after comments."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mergenode.adapters.tasks.worker import TaskWorker
from mergenode.ports.task import TaskProgram
from tests.e2e.test_readme import commands
from tests.support.real_node import ROOT, environment

FILE = re.compile(r"^<!-- file: (\S+) -->\n+```\w+\n(.*?)^```", re.DOTALL | re.MULTILINE)
DOCUMENT = (ROOT / "docs/tasks.md").read_text()
REFINING = (ROOT / "docs/refine.md").read_text()
EXAMPLES = ROOT / "docs/examples"

pytestmark = pytest.mark.slow


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=directory, capture_output=True, text=True, timeout=240,
        env=environment() | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}, check=False,
    )  # fmt: skip


def mergenode(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(directory, "-m", "mergenode", *arguments)


def examples(directory: Path, kind: str) -> Path:
    directory.mkdir()
    for path in EXAMPLES.glob(f"{kind}*"):
        shutil.copy(path, directory)
    return directory


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the example, with the models that it makes."""
    folder = examples(tmp_path_factory.mktemp("document") / "digits", "digits")
    done = run(folder, "digits_task.py")
    assert done.returncode == 0, done.stderr
    return folder


def test_the_document_shows_the_files() -> None:
    shown = dict(FILE.findall(DOCUMENT + REFINING))
    assert shown == {path.name: path.read_text() for path in EXAMPLES.iterdir() if path.is_file()}


def test_the_digits_example_says_what_the_document_shows(digits: Path) -> None:
    made, *shown = commands(DOCUMENT)
    assert made.text == "python digits_task.py"
    assert [command.text.split()[1] for command in shown] == ["task", "sidecar"]
    for command in shown:
        done = mergenode(digits, *command.text.split()[1:])
        assert done.returncode == 0, done.stderr
        assert command.words() <= set(re.findall(r"[A-Za-z_]+", done.stdout)), (command.text, done.stdout)
    moments = load_file(digits / "inbox/negative/model.gram.safetensors")
    assert {name: tuple(moment.shape) for name, moment in moments.items()} == {
        "1.weight": (64, 64),
        "4.weight": (48, 48),
    }


def test_its_gradient_leads_from_the_base_to_the_fine_tune(digits: Path) -> None:
    base, tuned = digits / "base", digits / "inbox/negative"
    program = TaskProgram(entrypoint="digits_task:Task", path=digits)
    with TaskWorker(program) as worker:
        loss = worker.gradient(base, digits / "gradient.safetensors")
        start, middle = worker.losses(base, tuned, [0.0, 0.1])
    assert start == pytest.approx(loss, rel=1e-5)
    gradient = load_file(digits / "gradient.safetensors")
    before, after = load_file(base / "model.safetensors"), load_file(tuned / "model.safetensors")
    assert set(gradient) == set(before)
    score = sum(float((gradient[name] * (after[name] - before[name])).double().sum()) for name in before)
    assert score < 0 and middle < start, "the fine-tune knows negatives, which the base does not"


def test_what_it_wrote_merges(digits: Path) -> None:
    """The whole way: side-cars from the plug-in, a merge that needs them, published weights."""
    tuned = load_file(digits / "inbox/negative/model.safetensors")
    (digits / "other").mkdir()
    save_file({n: t + 0.01 * torch.randn_like(t) for n, t in tuned.items()}, digits / "other/model.safetensors")
    done = mergenode(digits, "sidecar", "inbox/negative", "--task", "digits_task:Task", "--gram")
    assert done.returncode == 0, done.stderr
    shutil.copy(digits / "inbox/negative/model.gram.safetensors", digits / "other")
    done = mergenode(
        digits, "merge", "--base", "base", "--output", "out", "--method", "regmean", "--max-relative-norm", "5",
        "inbox/negative", "other",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert load_file(digits / "out/model.safetensors")["1.weight"].isfinite().all()


def test_the_hugging_face_example_works(tmp_path: Path) -> None:
    folder = examples(tmp_path / "text", "text")
    done = run(folder, "text_task.py")
    assert done.returncode == 0, done.stderr
    done = mergenode(folder, "task", "check", "-c", "text-node.yaml", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(done.stdout)
    assert {name for name, tried in document["methods"].items() if tried["works"]} == {
        "build_model", "calibration_batches", "loss", "evaluate",
    }  # fmt: skip
    assert [name for name, feature in document["features"].items() if not feature["unlocked"]] == [
        "mixer: dimat: training", "mergenode refine",
    ]  # fmt: skip
    assert document["features"]["mixer: dimat: training"]["missing"] == ["train"]
    gradient = folder / "gradient.safetensors"
    with TaskWorker(TaskProgram(entrypoint="text_task:Task", path=folder)) as worker:
        loss = worker.gradient(folder / "base", gradient)
    assert loss == pytest.approx(0.6931, abs=0.05)
    found, base = load_file(gradient), load_file(folder / "base/model.safetensors")
    assert {name: tensor.shape for name, tensor in found.items()}.items() <= {
        name: tensor.shape for name, tensor in base.items()
    }.items()
    assert found["classifier.weight"].any()


def test_the_refined_example_is_better_than_the_merge(tmp_path: Path) -> None:
    """The commands of docs/refine.md, and the scores that the last one prints."""
    folder, said = examples(tmp_path / "halves", "halves"), ""
    for command in commands(REFINING):
        program, *arguments = command.text.split()
        done = mergenode(folder, *arguments) if program == "mergenode" else run(folder, *arguments)
        assert done.returncode == 0, done.stderr
        assert command.words() <= set(re.findall(r"[A-Za-z_]+", done.stdout)), (command.text, done.stdout)
        said = done.stdout
    found = {line.split()[0]: [float(word) for word in line.split()[2::2]] for line in said.splitlines()}
    for question, expert in enumerate(("even", "high")):
        base, merged, refined, top = (found[name][question] for name in ("base", "merged", "refined", expert))
        assert base < merged < refined and refined - base > 0.8 * (top - base), found
