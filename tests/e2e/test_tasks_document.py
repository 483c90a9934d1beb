"""The examples of docs/tasks.md, run as they are written: files and commands after their comments."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mergenode.demo.checkpoints import write_full
from mergenode.demo.network import NetworkConfig
from mergenode.demo.tasks import TASKS, load_digits_split
from mergenode.demo.training import Schedule, fine_tune, train_base
from mergenode.maths.threads import one_thread
from tests.e2e.test_readme import commands
from tests.support.real_node import ROOT, environment

FILE = re.compile(r"^<!-- file: (\S+) -->\n+```\w+\n(.*?)^```", re.DOTALL | re.MULTILINE)
DOCUMENT = (ROOT / "docs/tasks.md").read_text()

pytestmark = pytest.mark.slow


def place_files(directory: Path) -> None:
    found = dict(FILE.findall(DOCUMENT))
    assert set(found) == {"digits_task.py", "node.yaml", "reviews_task.py"}
    for name, content in found.items():
        (directory / name).write_text(content)


def mergenode(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mergenode", *arguments], cwd=directory, capture_output=True, text=True, timeout=240,
        env=environment() | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}, check=False,
    )  # fmt: skip


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """The base and a fine-tune of the demo, trained for a moment, and the document's files."""
    place_files(tmp_path)
    config, split = NetworkConfig(), load_digits_split()
    with one_thread():
        base = train_base(split, config, 1, Schedule(steps=30, rate=1e-3))
        tuned = fine_tune(base, TASKS[0], split, config, 2, Schedule(steps=30, rate=6e-3))
    write_full(tmp_path / "base", base, config)
    write_full(tmp_path / "tuned", tuned, config)
    (tmp_path / "inbox").mkdir()
    return tmp_path


def test_the_digits_example_says_what_the_document_shows(digits: Path) -> None:
    shown = commands(DOCUMENT)
    assert [command.text.split()[1] for command in shown] == ["task", "sidecar"]
    for command in shown:
        done = mergenode(digits, *command.text.split()[1:])
        assert done.returncode == 0, done.stderr
        assert command.words() <= set(re.findall(r"[A-Za-z_]+", done.stdout)), (command.text, done.stdout)
    moments = load_file(digits / "tuned/model.gram.safetensors")
    assert moments["mix.weight"].shape == (1152, 1152)
    assert {name.rsplit(".", 1)[1] for name in moments} == {"weight"}
    assert set(load_file(digits / "tuned/model.fisher.safetensors")) == set(
        load_file(digits / "tuned/model.safetensors")
    )


def test_what_it_wrote_merges(digits: Path) -> None:
    """The whole way: side-cars from the plug-in, a merge that needs them, published weights."""
    assert mergenode(digits, "sidecar", "tuned", "--task", "digits_task:Task", "--gram").returncode == 0
    mixed = {n: t + 0.01 * torch.randn_like(t) for n, t in load_file(digits / "tuned/model.safetensors").items()}
    write_full(digits / "other", mixed, NetworkConfig())
    assert mergenode(digits, "sidecar", "other", "--task", "digits_task:Task", "--gram").returncode == 0
    done = mergenode(
        digits, "merge", "--base", "base", "--output", "out", "--method", "regmean", "--max-relative-norm", "5",
        "tuned", "other",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert load_file(digits / "out/model.safetensors")["mix.weight"].isfinite().all()


def test_the_hugging_face_example_works(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    place_files(tmp_path)
    config = BertConfig(
        vocab_size=16, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=8,
    )  # fmt: skip
    torch.manual_seed(0)
    model = BertModel(config)
    model.save_pretrained(tmp_path / "base")
    (tmp_path / "node.yaml").write_text(
        "base: ./base\nregistries: []\ntask: {entrypoint: 'reviews_task:Task', path: ., memory_limit: 8GiB}\n"
    )
    done = mergenode(tmp_path, "task", "check", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    methods = json.loads(done.stdout)["methods"]
    assert {name for name, tried in methods.items() if tried["works"]} == {
        "build_model", "calibration_batches", "loss", "evaluate",
    }  # fmt: skip
    assert methods["train"]["works"] is None
    done = mergenode(tmp_path, "sidecar", "base", "--task", "reviews_task:Task", "--json", "--memory-limit", "8GiB")
    assert done.returncode == 0, done.stderr
    made = {entry["kind"]: entry for entry in json.loads(done.stdout)["side_cars"]}
    assert (made["fisher"]["examples"], made["gram"]["rows"]) == (4, 16)
    grams = load_file(tmp_path / "base/model.gram.safetensors")
    assert grams["encoder.layer.0.intermediate.dense.weight"].shape == (8, 8)
