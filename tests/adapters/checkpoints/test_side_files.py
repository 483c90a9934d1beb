"""What a version carries along besides weights."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from mergenode.adapters.checkpoints import side_files as module
from mergenode.adapters.checkpoints.side_files import side_files
from mergenode.errors import FatalError
from tests.support.checkpoints import write_file, write_sharded

CARRIED = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "merges.txt",
    "chat_template.jinja", "modeling_custom.py", "LICENSE", "1_Pooling/config.json",
)  # fmt: skip
LEFT_OUT = (
    "pytorch_model.bin", "model.pt", "flax_model.msgpack", "pytorch_model.bin.index.json", "README.md", "readme.md",
    "mergenode.json", "mergenode.commit.json", ".gitattributes", ".git/config", "onnx/model.onnx", "a/b/c/d/deep.json",
)  # fmt: skip


def test_everything_that_is_not_weights_or_ours(tmp_path: Path) -> None:
    base = write_sharded(tmp_path / "base", {"a": torch.zeros(2), "b": torch.zeros(2)})
    for name in (*CARRIED, *LEFT_OUT):
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_text(name)
    found = side_files(base)
    assert [str(path.relative_to(base)) for path in found] == sorted(CARRIED)
    assert found == sorted(found)


def test_links_and_things_that_are_no_files(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (tmp_path / "secret").write_text("secret")
    (base / "config.json").write_text("{}")
    (base / "inside.json").symlink_to("config.json")
    (base / "outside.json").symlink_to("../secret")
    (base / "nothing.json").symlink_to("nowhere")
    os.mkfifo(base / "fifo")
    assert [path.name for path in side_files(base)] == ["config.json", "inside.json"]


def test_a_snapshot_of_the_hub_cache(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--a" / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    (tmp_path / "models--a" / "blobs").mkdir()
    (tmp_path / "models--a" / "blobs" / "x").write_text("{}")
    (snapshot / "tokenizer.json").symlink_to("../../blobs/x")
    assert [path.name for path in side_files(snapshot)] == ["tokenizer.json"]


def test_a_bare_file_has_none(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert side_files(write_file(tmp_path / "x.safetensors", {"a": torch.zeros(1)})) == []


def test_caps_are_fatal_because_a_version_would_not_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("12345")
    (tmp_path / "b.txt").write_text("12345")
    monkeypatch.setattr(module, "MAX_SIDE_FILE_BYTES", 4)
    with pytest.raises(FatalError, match=r"\.txt: has 5 bytes"):
        side_files(tmp_path)
    monkeypatch.setattr(module, "MAX_SIDE_FILE_BYTES", 5)
    monkeypatch.setattr(module, "MAX_SIDE_FILES", 1)
    with pytest.raises(FatalError, match="more than 1"):
        side_files(tmp_path)
