"""Trials of ``weigh: fit`` on real statistics: each is the merge that would be published, and none of them stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mergenode.adapters.engines.local.weighing import MOST_POINTS, MOST_TASKS, LocalWeigher
from mergenode.adapters.observers.fan_out import FanOut
from mergenode.errors import FatalError, RejectedError, RejectReason, TransientError, TransientReason
from mergenode.maths.two_model_fit import WeightRule
from mergenode.ports.engine import NOTHING_EARLIER, Earlier, Evaluator, Stopped
from mergenode.ports.weighing import Weighed
from mergenode.types import Candidate
from tests.support.local_node import LocalNode, load_model, same_bits
from tests.support.models import Tensors, fine_tune, random_base, write_model

Score = Callable[[Path], Mapping[str, float]]
RULE = WeightRule(lowest=0.1, highest=1.5, evaluations=8)
PROBE = "layers.0.attn.q_proj.weight"


class Told(FanOut):
    def __init__(self) -> None:
        super().__init__([])
        self.texts: list[str] = []

    def message(self, level: str, text: str, **fields: object) -> None:
        self.texts.append(f"{level}: {text}")


def by(score: Score) -> Evaluator:
    @contextmanager
    def evaluating() -> Iterator[Score]:
        yield score

    return evaluating


def node_at(root: Path, method: str = "task_arithmetic", **options: object) -> LocalNode:
    """A node that holds one contribution of two; the other is the newcomer."""
    base = random_base(dtype=torch.float32)
    if not (root / "base").exists():
        write_model(root / "base", base)
        for number in range(2):
            write_model(root / f"m{number}", fine_tune(base, number))
    given = options or ({"scale": 1.0} if method == "task_arithmetic" else {})
    node = LocalNode(root / f"node-{method}", root / "base", method, given, observer=Told())
    node.fold(root / "m0")
    return node


def newcomer(root: Path, weight: float = 1.0) -> Candidate:
    return Candidate("inbox", "m1", "1", str(root / "m1"), weight=weight)


def weigh(
    node: LocalNode, score: Score, rule: WeightRule = RULE, weight: float = 1.0, earlier: Earlier = NOTHING_EARLIER
) -> Weighed:
    root = node.base.parent
    weigher = LocalWeigher(node.engine, by(score), rule)
    return weigher.weigh(newcomer(root, weight), node.head, earlier, node.observer)


def weight_in(root: Path, checkpoint: Path) -> float:
    """How much of the newcomer is in a merge by task arithmetic at scale 1."""
    base, first, second, found = (load_model(at)[PROBE].double() for at in (root / "base", root / "m0", root / "m1",
                                                                            checkpoint))  # fmt: skip
    return float(((found - first) * (second - base)).sum() / (second - base).square().sum())


def test_a_known_quadratic_gives_its_vertex(tmp_path: Path) -> None:
    tried: list[float] = []

    def score(checkpoint: Path) -> Mapping[str, float]:
        assert (checkpoint / "config.json").is_file()
        tried.append(weight_in(tmp_path, checkpoint))
        return {"a": -1.0 - (tried[-1] - 0.6) ** 2, "b": -5.0}

    node = node_at(tmp_path)
    before, head = {path.name: path.read_bytes() for path in node.folder.iterdir()}, node.head
    found = weigh(node, score)
    assert found.weight == pytest.approx(0.6, abs=0.004)
    assert len(tried) == RULE.evaluations and tried[0] == pytest.approx(0.0, abs=1e-6) and max(tried) > 1.49
    assert found.record["tasks"]["a"]["fit"] == pytest.approx([-1.36, 1.2, -1.0], abs=1e-5)
    assert found.record["tasks"]["a"]["after"] == pytest.approx(-1.0, abs=1e-4)
    assert [weight for weight, _ in found.record["trials"]] == pytest.approx(sorted(tried), abs=1e-5)
    assert (before, head) == ({path.name: path.read_bytes() for path in node.folder.iterdir()}, node.head)
    assert not (node.root / "state" / "weighing").exists()


@pytest.mark.parametrize("method", ["opcm", "ties", "average"])
def test_a_trial_is_what_would_be_published(tmp_path: Path, method: str) -> None:
    seen: list[Tensors] = []

    def score(checkpoint: Path) -> Mapping[str, float]:
        seen.append(load_model(checkpoint))
        return {"a": 0.5}

    node = node_at(tmp_path, method)
    found = weigh(node, score, weight=0.7)
    assert found.weight == 0.7, "of equal scores the given weight wins"
    weights = [weight for weight, _ in found.record["trials"]]
    assert len(seen) == len(weights) and 0.7 in weights
    wanted = node.published(tmp_path / "before")
    assert all(same_bits(seen[0][name], tensor) for name, tensor in wanted.items())
    node.fold(tmp_path / "m1", 0.7)
    wanted = node.published(tmp_path / "after")
    assert all(same_bits(seen[weights.index(0.7)][name], tensor) for name, tensor in wanted.items())


def test_no_scale_is_searched_for_in_a_trial(tmp_path: Path) -> None:
    found: list[Tensors] = []

    def score(checkpoint: Path) -> Mapping[str, float]:
        found.append(load_model(checkpoint))
        return {"a": 0.5}

    node = node_at(tmp_path, "task_arithmetic", scale="evaluate")
    node.engine.evaluator = by(lambda checkpoint: pytest.fail("a search inside of a search"))
    weigh(node, score, earlier=Earlier(last_scale=0.8))
    delta = {at: load_model(at)[PROBE].double() for at in (tmp_path / "base", tmp_path / "m0")}
    step = delta[tmp_path / "m0"] - delta[tmp_path / "base"]
    assert torch.allclose(found[0][PROBE].double(), delta[tmp_path / "base"] + 0.8 * step, atol=1e-6)


def falling(root: Path) -> Score:
    """The newcomer's own task gains, the old one pays."""

    def score(checkpoint: Path) -> Mapping[str, float]:
        weight = weight_in(root, checkpoint)
        return {"old": -weight, "new": 2.0 * weight}

    return score


def test_a_bound_is_kept_or_the_contribution_is_refused(tmp_path: Path) -> None:
    node = node_at(tmp_path)
    assert weigh(node, falling(tmp_path)).weight == 1.5
    found = weigh(node, falling(tmp_path), replace(RULE, max_fall=0.5))
    assert 0.45 < found.weight <= 0.5 and found.record["tasks"]["old"]["after"] >= -0.5
    first, last = found.record["pareto"]["points"][0], found.record["pareto"]["points"][-1]
    assert first[0] == pytest.approx(0.1) and last[0] == pytest.approx(1.5), "each gains where the other pays"
    with pytest.raises(RejectedError, match="'old' falls from") as caught:
        weigh(node, falling(tmp_path), replace(RULE, max_fall=0.05))
    assert caught.value.reason is RejectReason.LOWERS_A_SCORE and caught.value.hint
    only_new = replace(RULE, importance={"old": 3.0, "new": 1.0})
    assert weigh(node, falling(tmp_path), only_new).weight == pytest.approx(0.1)


def test_the_first_contribution_keeps_its_weight(tmp_path: Path) -> None:
    node = node_at(tmp_path)
    node.head = replace(node.head, count=0)
    found = weigh(node, lambda checkpoint: pytest.fail("nothing to weigh it against"), weight=0.4)
    assert found == Weighed(0.4)


def raising(error: BaseException) -> Score:
    def score(checkpoint: Path) -> Mapping[str, float]:
        raise error

    return score


FAILURES: dict[str, Score] = {
    "raises": raising(TransientError(TransientReason.TASK_FAILED, "the plug-in raised KeyError")),
    "unfit": raising(FatalError("the plug-in has no evaluate")),
    "nan": lambda checkpoint: {"x": float("nan")},
    "nothing": lambda checkpoint: {},
    "names": lambda checkpoint: {str(checkpoint.stat().st_mtime_ns): 1.0},
    "objective": lambda checkpoint: {"y": 1.0},
}


@pytest.mark.parametrize("how", FAILURES)
def test_without_scores(tmp_path: Path, how: str) -> None:
    """The given weight with a warning; with a bound that nobody can see kept, another try later."""
    node = node_at(tmp_path)
    rule = replace(RULE, importance={"x": 1.0}) if how == "objective" else RULE
    found = weigh(node, FAILURES[how], rule, 0.4)
    assert found.weight == 0.4 and found.record.keys() == {"name", "given", "failed"}
    assert isinstance(node.observer, Told) and any("weigh: fit found no weight" in text for text in node.observer.texts)
    with pytest.raises(TransientError, match=r"weigh.max_fall is set") as caught:
        weigh(node, FAILURES[how], replace(rule, max_fall=0.1))
    assert caught.value.reason is TransientReason.TASK_FAILED
    assert not (node.root / "state" / "weighing").exists()


def test_no_plug_in_is_a_failure_too(tmp_path: Path) -> None:
    node = node_at(tmp_path)
    found = LocalWeigher(node.engine, None, RULE).weigh(newcomer(tmp_path), node.head, NOTHING_EARLIER, node.observer)
    assert "no task plug-in" in found.record["failed"]


def test_stopping_is_no_failure_of_the_plug_in(tmp_path: Path) -> None:
    node = node_at(tmp_path)
    with pytest.raises(Stopped):
        weigh(node, raising(Stopped("the node ends")))
    assert not (node.root / "state" / "weighing").exists()


def test_what_is_recorded_has_a_bound(tmp_path: Path) -> None:
    def score(checkpoint: Path) -> Mapping[str, float]:
        weight = weight_in(tmp_path, checkpoint)
        return {f"task {number:03d}": -((weight - number / 40) ** 2) for number in range(60)}

    record = weigh(node_at(tmp_path), score).record
    assert len(record["tasks"]) == len(record["pareto"]["tasks"]) == MOST_TASKS
    assert 2 < len(record["pareto"]["points"]) <= MOST_POINTS
