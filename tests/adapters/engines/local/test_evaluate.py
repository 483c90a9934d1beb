"""``scale: evaluate``: candidates that a plug-in can load, the best of them published, and a node that goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import sqrt
from pathlib import Path

import pytest
import torch

from mergenode.adapters.observers.fan_out import FanOut
from mergenode.errors import FatalError, MergenodeError, TransientError, TransientReason
from mergenode.methods.scale_search import SearchLimits
from mergenode.ports.engine import Earlier, Evaluator, Stopped
from tests.support.local_node import LocalNode, load_model, same_bits
from tests.support.models import HEAD, fine_tune, random_base, write_model

Score = Callable[[Path], Mapping[str, float]]


class Told(FanOut):
    def __init__(self) -> None:
        super().__init__([])
        self.texts: list[str] = []

    def message(self, level: str, text: str, **fields: object) -> None:
        self.texts.append(f"{level}: {text}")


def by(score: Score, ended: list[str] | None = None) -> Evaluator:
    @contextmanager
    def evaluating() -> Iterator[Score]:
        try:
            yield score
        finally:
            if ended is not None:
                ended.append("ended")

    return evaluating


def node_with(root: Path, evaluator: Evaluator | None, method: str = "aswudi", word: object = "evaluate") -> LocalNode:
    base = random_base(dtype=torch.float32)
    place = root / "base"
    if not place.exists():
        write_model(place, base, shards=2)
        for number in range(3):
            write_model(root / f"full-{number}", fine_tune(base, number))
    node = LocalNode(root / f"node-{method}-{word}", place, method, {"scale": word}, observer=Told())
    node.engine.evaluator = evaluator
    for number in range(3):
        node.fold(root / f"full-{number}")
    return node


def closeness(root: Path, wanted: float) -> Score:
    """Best where the update is ``wanted`` long. Two scores, of which the mean counts."""

    def score(checkpoint: Path) -> Mapping[str, float]:
        base, tensors = load_model(root / "base"), load_model(checkpoint)
        assert tensors.keys() == base.keys() and (checkpoint / "config.json").is_file()
        names = [name for name, tensor in base.items() if tensor.is_floating_point() and name != HEAD]
        norm = sqrt(sum(float((tensors[name].double() - base[name].double()).square().sum()) for name in names))
        return {"a": 1.0 - abs(norm - wanted), "b": -1.0 - abs(norm - wanted)}

    return score


@pytest.mark.parametrize("method", ["aswudi", "ties", "task_arithmetic"])
def test_the_scale_that_scores_best_is_published(tmp_path: Path, method: str) -> None:
    fixed = node_with(tmp_path, None, method, "own").export(tmp_path / "own")
    at_one = fixed.scale.update_norm / fixed.scale.used
    ended: list[str] = []
    node = node_with(tmp_path, by(closeness(tmp_path, 0.8 * at_one), ended), method)
    told = node.export(tmp_path / "out").scale
    assert told.used == pytest.approx(0.8, abs=0.08)
    assert told.evaluated is not None and 2 <= len(told.evaluated) <= 9 and ended == ["ended"]
    assert told.evaluated[0][0] == told.own and told.evaluated[1][0] == told.norm_rule
    assert told.used == max(told.evaluated, key=lambda point: point[1])[0]
    assert told.update_norm == pytest.approx(told.used * at_one, rel=1e-5)
    given = node_with(tmp_path, None, method, told.used).published(tmp_path / "given")
    for name, tensor in load_model(tmp_path / "out").items():
        assert torch.allclose(tensor.double(), given[name].double(), rtol=0, atol=3e-7), name
    assert not (node.root / "state" / ".exporting").exists()


def test_the_bounds_of_the_search_hold(tmp_path: Path) -> None:
    node = node_with(tmp_path, by(lambda checkpoint: {"x": 1.0}))
    node.engine.search = SearchLimits(lowest=0.9, highest=1.1, evaluations=4)
    told = node.export(tmp_path / "out").scale
    assert told.evaluated is not None and len(told.evaluated) <= 4
    assert all(0.9 <= scale <= 1.1 for scale, _ in told.evaluated)
    assert told.used == 1.0, "of equal scores the method's own wins"


def failing(error: Exception) -> Score:
    def score(checkpoint: Path) -> Mapping[str, float]:
        raise error

    return score


BROKEN: dict[str, Evaluator | None] = {
    "raises": by(failing(TransientError(TransientReason.READ_FAILED, "the plug-in raised KeyError"))),
    "unfit": by(failing(FatalError("the plug-in has no evaluate"))),
    "nan": by(lambda checkpoint: {"x": float("nan")}),
    "infinite": by(lambda checkpoint: {"x": 1.0, "y": float("inf")}),
    "nothing": by(lambda checkpoint: {}),
    "absent": None,
}


@pytest.mark.parametrize("how", [*BROKEN, "start"])
@pytest.mark.parametrize("last", [None, 0.6])
def test_a_plug_in_that_fails_costs_a_warning(tmp_path: Path, how: str, last: float | None) -> None:
    @contextmanager
    def no_start() -> Iterator[Score]:
        raise FatalError("there is no such module")
        yield  # pragma: no cover - what makes it a generator

    node = node_with(tmp_path, BROKEN.get(how, no_start))
    told = node.export(tmp_path / "out", Earlier(last_scale=last)).scale
    assert told.used == (1.0 if last is None else last)
    assert told.evaluated == ()
    assert isinstance(node.observer, Told)
    assert any(text.startswith("warning: v000001: scale: evaluate") for text in node.observer.texts)


def test_a_failure_half_way_uses_none_of_the_scores(tmp_path: Path) -> None:
    scores = iter([0.1, 0.9])

    def score(checkpoint: Path) -> Mapping[str, float]:
        found = next(scores, None)
        if found is None:
            raise TransientError(TransientReason.READ_FAILED, "out of memory")
        return {"x": found}

    told = node_with(tmp_path, by(score)).export(tmp_path / "out").scale
    assert (told.used, told.evaluated) == (1.0, ())


def test_a_version_made_again_takes_the_recorded_scale(tmp_path: Path) -> None:
    node = node_with(tmp_path, by(closeness(tmp_path, 2.0)))
    first = node.export(tmp_path / "first")
    node.engine.evaluator = by(failing(AssertionError("asked again")))
    again = node.export(tmp_path / "again", Earlier(recorded=first.scale.entry()))
    assert (again.tensors, again.scale) == (first.tensors, first.scale)
    left, right = load_model(tmp_path / "first"), load_model(tmp_path / "again")
    assert all(same_bits(left[name], right[name]) for name in left)


def test_equal_scores_give_equal_versions(tmp_path: Path) -> None:
    places = [tmp_path / "here", tmp_path / "there"]
    first, second = (node_with(at, by(closeness(at, 1.5))).export(at / "out") for at in places)
    assert (first.tensors, first.scale) == (second.tensors, second.scale)


def test_stopping_is_no_failure_of_the_plug_in(tmp_path: Path) -> None:
    node = node_with(tmp_path, by(failing(Stopped("the node ends"))))
    with pytest.raises(Stopped):
        node.export(tmp_path / "out")
    assert not (node.root / "state" / ".exporting").exists()


def test_a_full_disk_is_no_failure_of_the_plug_in(tmp_path: Path) -> None:
    def score(checkpoint: Path) -> Mapping[str, float]:
        raise OSError(28, "No space left on device")

    with pytest.raises(MergenodeError) as caught:
        node_with(tmp_path, by(score)).export(tmp_path / "out")
    assert isinstance(caught.value, TransientError) and caught.value.reason is TransientReason.DISK_FULL
