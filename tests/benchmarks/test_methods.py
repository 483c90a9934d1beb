"""The arithmetic of the methods benchmark, and that it measures what it names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.methods.folding import THREE_SUMS, measure_folds, three_sums
from benchmarks.methods.matrices import Stream, task_vectors
from benchmarks.methods.timing import Figure, compared, in_turn
from benchmarks.models import PRESETS, write_suite
from mergenode.methods.contract import Incoming
from mergenode.types import DType, TensorSpec


def test_actions_take_turns_after_a_round_that_does_not_count() -> None:
    calls: list[str] = []
    samples = in_turn({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2)
    assert calls == ["a", "b"] * 3
    assert {name: len(seconds) for name, seconds in samples.items()} == {"a": 2, "b": 2}


def test_ratios_are_taken_round_by_round() -> None:
    figure = compared("x", {"ours": [1.0, 6.0, 3.0], "theirs": [1.0, 2.0, 2.0]}, "ours", "theirs", limit=1.5)
    assert figure.value == 1.5 and figure.holds
    assert figure.detail == "3.00 s of 2.00 s; 1.00 to 3.00"
    assert not Figure("x", 1.6, 1.5, "").holds and Figure("x", 9.0, 0.0, "").holds


def test_every_fold_is_measured(tmp_path: Path) -> None:
    write_suite(tmp_path / "models", PRESETS["tiny"], fine_tunes=2)
    figures = measure_folds(tmp_path / "models", tmp_path / "work", 1)
    assert {figure.name.split(", ")[1].split(" / ")[0] for figure in figures} >= {
        "average",
        "iso",
        "dare",
        "ties",
        "fisher",
    }
    assert all(figure.value > 0 for figure in figures)
    assert not (tmp_path / "work").exists()


def test_the_reference_of_ties_keeps_three_sums() -> None:
    method, spec, vector = three_sums(), TensorSpec("w", DType.F32, (4,)), torch.arange(4.0)
    statistics = method.fold(spec, {}, vector, Incoming(vector)).statistics
    statistics = method.fold(spec, statistics, vector, Incoming(vector)).statistics
    assert method.name == THREE_SUMS and method.state_factor(spec) == len(statistics) == 3
    assert all(torch.equal(tensor, 2 * vector) for tensor in statistics.values())


@pytest.mark.parametrize("name", ["iso", "tsvm", "swudi", "aswudi"])
def test_streams_fold_and_export(name: str) -> None:
    stream = Stream(name, (24, 16), task_vectors((24, 16), 3))
    assert isinstance(stream.fold(), dict)
    exported = stream.export()
    assert isinstance(exported, torch.Tensor) and exported.shape == (24, 16) and float(exported.norm()) > 0
