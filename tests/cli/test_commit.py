"""commit: the marker holds the content digest, and nothing is marked that cannot be read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from mergenode.adapters.checkpoints.digest import content_digest
from mergenode.adapters.registries.marker import marker_path, read_marker


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "tuned"
    folder.mkdir()
    save_file({"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3)}, folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    return folder


def test_the_marker_names_content_weight_and_files(run, checkpoint: Path) -> None:
    result = run("commit", checkpoint, "--weight", "0.5")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{marker_path(checkpoint)}: {content_digest(checkpoint)}\n"
    marker = read_marker(checkpoint)
    assert marker is not None
    assert (marker.content, marker.weight) == (content_digest(checkpoint), 0.5)
    assert set(json.loads(marker_path(checkpoint).read_bytes())["files"]) == {
        "config.json",
        "model.safetensors",
    }


def test_the_marker_names_factors_by_pattern(run, checkpoint: Path) -> None:
    assert run("commit", checkpoint, "--profile", "*.mlp.*=0.5", "--profile", "a=b=0").exit_code == 0
    marker = read_marker(checkpoint)
    assert marker is not None and marker.profile == (("*.mlp.*", 0.5), ("a=b", 0.0))


@pytest.mark.parametrize("profile", ["0.5", "=0.5", "a=", "a=-1", "a=nan", "a=inf", "a=1e7", "a=high"])
def test_a_factor_that_no_fold_could_use_is_refused(run, checkpoint: Path, profile: str) -> None:
    result = run("commit", checkpoint, "--profile", profile)
    assert result.exit_code == 2 and "PATTERN=FACTOR" in result.stderr
    assert not marker_path(checkpoint).exists()


def test_the_marker_names_the_base_it_was_tuned_from(run, checkpoint: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    save_file({"a.weight": np.zeros((2, 3), dtype=np.float32)}, base / "model.safetensors")
    assert run("commit", checkpoint, "--base", base).exit_code == 0
    marker = read_marker(checkpoint)
    assert marker is not None and marker.base == content_digest(base)


def test_a_base_that_is_not_there_is_a_usage_error(run, checkpoint: Path, tmp_path: Path) -> None:
    result = run("commit", checkpoint, "--base", tmp_path / "nowhere")
    assert result.exit_code == 2 and "nowhere" in result.stderr
    assert not marker_path(checkpoint).exists()


def test_a_bare_file_is_marked_beside_it(run, checkpoint: Path) -> None:
    file = checkpoint / "model.safetensors"
    assert run("commit", file).exit_code == 0
    assert marker_path(file).is_file()


def test_committing_again_after_a_change_replaces_the_marker(run, checkpoint: Path) -> None:
    first = run("commit", checkpoint).stdout
    save_file({"a.weight": np.zeros((2, 3), np.float32)}, checkpoint / "model.safetensors")
    second = run("commit", checkpoint).stdout
    assert first != second and second.strip().endswith(str(read_marker(checkpoint).content))


@pytest.mark.parametrize("weight", ["0", "-1", "nan", "inf"])
def test_a_weight_that_no_fold_can_use_is_a_usage_error(run, checkpoint: Path, weight: str) -> None:
    result = run("commit", checkpoint, "--weight", weight)
    assert result.exit_code == 2 and "--weight" in result.stderr
    assert not marker_path(checkpoint).exists()


def test_a_missing_checkpoint_is_a_usage_error(run, tmp_path: Path) -> None:
    result = run("commit", tmp_path / "none")
    assert result.exit_code == 2 and f"{tmp_path}/none" in result.stderr


def test_a_truncated_checkpoint_is_not_marked(run, checkpoint: Path) -> None:
    file = checkpoint / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-4])
    result = run("commit", checkpoint)
    assert result.exit_code == 1 and "model.safetensors" in result.stderr and result.stdout == ""
    assert not marker_path(checkpoint).exists()


def test_progress_is_drawn_on_request_and_on_stderr_alone(run, checkpoint: Path) -> None:
    result = run("commit", checkpoint, "--progress", TERM="xterm", TTY_COMPATIBLE="1")
    assert result.exit_code == 0 and "hash tuned" in result.stderr
    assert len(result.stdout.splitlines()) == 1
