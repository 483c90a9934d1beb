"""The comparison with other tools: what is asked of them, how results are judged, how weights compare."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from benchmarks.models import PRESETS, write_suite
from benchmarks.peers.compare_weights import (
    error_of_sum,
    open_checkpoint,
    relative_difference,
    rounding_of_sum,
)
from benchmarks.peers.comparisons import differences
from benchmarks.peers.contests import (
    CONTESTS,
    SCALE,
    Contest,
    Entry,
    Suite,
    Target,
    fusion_bench_command,
    mergekit_command,
    mergenode_command,
)
from benchmarks.peers.measured_process import Usage
from benchmarks.peers.report import as_json, table, verdicts

SUITE = Suite(Path("m/base"), (Path("m/one"), Path("m/two")))


def usage(cpu: float, rss: float) -> Usage:
    return Usage(cpu_seconds=cpu, wall_seconds=cpu, peak_rss_mib=rss, peak_anon_mib=rss / 2, exit_code=0)


def save(directory: Path, weights: dict[str, torch.Tensor]) -> Path:
    directory.mkdir(parents=True)
    save_file(weights, directory / "model.safetensors")
    return directory


def test_every_target_names_a_peer_of_its_contest_and_stands_against_ours() -> None:
    for contest in CONTESTS:
        labels = [entry.label for entry in contest.entries]
        assert len(set(labels)) == len(labels)
        for target in contest.targets:
            assert target.peer in labels
            assert contest.entries[0].tool == "mergenode"


def test_mergekit_is_asked_for_the_same_merge(tmp_path: Path) -> None:
    entry = Entry("mergekit", "x", ("--out-shard-size", "100M"))
    command = mergekit_command(Path("/env/bin/python"), "task_arithmetic", entry, SUITE, tmp_path / "out")
    assert command[0] == "/env/bin/mergekit-yaml"
    assert command[-2:] == ["--out-shard-size", "100M"]
    config = json.loads(Path(command[1]).read_text())
    assert config["base_model"] == "m/base"
    assert [model["model"] for model in config["models"]] == ["m/one", "m/two"]
    assert {model["parameters"]["weight"] for model in config["models"]} == {SCALE}
    assert config["parameters"] == {"normalize": False}


def test_models_come_in_the_order_given() -> None:
    ours = mergenode_command(["mergenode"], "opcm", ["--set", "alpha=0.5"], SUITE, Path("out"))
    assert " ".join(ours) == ("mergenode merge --base m/base --output out --method opcm --set alpha=0.5 m/one m/two")
    theirs = fusion_bench_command(Path("python"), SUITE, Path("out"))
    assert Path(theirs[1]).exists()
    assert theirs[2:] == ["0.5", "out", "m/base", "m/one", "m/two"]


def test_ratios_are_of_medians_and_both_limits_must_hold() -> None:
    contest = Contest(
        "opcm", (Entry("mergenode", "ours"), Entry("fusion_bench", "theirs")), (Target("theirs", 0.5, 0.5),)
    )
    ours = [usage(1, 40), usage(2, 40), usage(900, 40)]
    samples = {"ours": ours, "theirs": [usage(4, 100)] * 3}
    (verdict,) = verdicts([contest], samples)
    assert (verdict.cpu_ratio, verdict.memory_ratio, verdict.met) == (0.5, 0.4, True)
    (verdict,) = verdicts([contest], samples | {"ours": [usage(2, 51)]})
    assert not verdict.met
    (verdict,) = verdicts([contest], samples | {"ours": [usage(2.1, 40)]})
    assert not verdict.met
    assert "| ours | 2.0 (1.0-900.0) |" in table([contest], samples)
    assert "| theirs | 4.0 | 4.0 | 100 | 50 | 0.50 | 0.40 |" in table([contest], samples)
    assert as_json(samples)["ours"][2]["cpu_seconds"] == 900


def test_what_was_not_measured_is_not_judged() -> None:
    contest = Contest("opcm", (Entry("mergenode", "ours"), Entry("x", "theirs")), (Target("theirs", 1, 1),))
    samples = {"theirs": [usage(4, 100)]}
    assert verdicts([contest], samples) == []
    assert "| theirs | 4.0 | 4.0 | 100 | 50 |  |  |" in table([contest], samples)
    assert "ours |" not in table([contest], samples).splitlines()[2]
    peers_only = Contest("opcm", contest.entries[1:], contest.targets)
    assert verdicts([peers_only], samples) == []


def test_difference_is_relative_to_the_update_and_over_all_tensors(tmp_path: Path) -> None:
    base = save(tmp_path / "base", {"a": torch.ones(2, 2), "b": torch.zeros(3)})
    ours = save(tmp_path / "ours", {"a": torch.ones(2, 2) + 2, "b": torch.tensor([0.0, 0, 4])})
    theirs = save(tmp_path / "theirs", {"a": torch.ones(2, 2) + 2, "b": torch.tensor([0.0, 0, 3])})
    assert relative_difference(ours, theirs, base) == pytest.approx((1 / (4 * 4 + 9)) ** 0.5)
    assert relative_difference(ours, ours, base) == 0
    save(tmp_path / "short", {"a": torch.ones(2, 2)})
    with pytest.raises(KeyError, match="b"):
        relative_difference(tmp_path / "short", theirs, base)


def test_error_of_the_exact_average_is_its_rounding(tmp_path: Path) -> None:
    write_suite(tmp_path, PRESETS["tiny"], fine_tunes=2, shard_bytes=100_000)
    models = [tmp_path / "tuned-1", tmp_path / "tuned-2"]
    readers = [open_checkpoint(model)[1] for model in models]
    exact = {t.name: (readers[0](t.name) + readers[1](t.name)) / 2 for t in PRESETS["tiny"].tensors()}
    whole = save(tmp_path / "whole", exact)
    rounded = save(tmp_path / "rounded", {name: value.bfloat16() for name, value in exact.items()})
    base = tmp_path / "base"
    assert error_of_sum(whole, base, models, 0.5) < 1e-12
    floor = rounding_of_sum(base, models, 0.5)
    assert 1e-3 < floor < 0.5
    assert error_of_sum(rounded, base, models, 0.5) == pytest.approx(floor, rel=1e-6)
    assert error_of_sum(base, base, models, 0.5) == pytest.approx(1.0)


class _FixedRuns:
    """Results that are there already, by label."""

    def __init__(self, outputs: dict[str, Path]) -> None:
        self._outputs = outputs

    def run(self, contest: Contest, entry: Entry) -> None:
        assert entry.options[-2:] == ("--dtype", "float32")

    def output(self, entry: Entry) -> Path:
        return self._outputs[entry.label]


def test_opcm_is_compared_in_float32_with_a_reason_per_variant(tmp_path: Path) -> None:
    base = save(tmp_path / "base", {"a": torch.zeros(4)})
    outputs = {
        "FusionBench OPCM": save(tmp_path / "fb", {"a": torch.full((4,), 2.0)}),
        "mergenode opcm, float32": save(tmp_path / "block", {"a": torch.full((4,), 3.0)}),
        "mergenode opcm, diagonal, float32": save(tmp_path / "diagonal", {"a": torch.full((4,), 2.0)}),
    }
    contest = next(contest for contest in CONTESTS if contest.method == "opcm")
    updates = (save(tmp_path / "up", {"a": torch.ones(4)}), save(tmp_path / "down", {"a": -3 * torch.ones(4)}))
    found = differences(_FixedRuns(outputs), [contest], Suite(base, updates))
    against = [d for d in found if "against" in d.what]
    assert [d.value for d in against] == pytest.approx([0.5, 0.0])
    assert against[0].explanation != against[1].explanation
    lengths = [d.value for d in found if "length" in d.what]
    assert lengths == pytest.approx([0.0, 0.5, 0.0])  # 4, 6 and 4 against the mean of 2 and 6
