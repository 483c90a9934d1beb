"""What changed between two versions, against sums over whole tensors."""

from __future__ import annotations

from math import sqrt
from pathlib import Path

import pytest

from mergenode.adapters.checkpoints.weights import open_weights
from mergenode.adapters.engines.local.compare import GroupChange, compare
from mergenode.errors import UsageError
from tests.support.models import HEAD, Tensors, fine_tune, random_base, write_model


def changes(tmp_path: Path, *models: Tensors) -> dict[str, GroupChange]:
    paths = [write_model(tmp_path / f"{number}", model) for number, model in enumerate(models)]
    with open_weights(paths[0]) as base, open_weights(paths[1]) as first, open_weights(paths[2]) as second:
        return {change.group: change for change in compare(base, first, second)}


def test_norms_and_angles_are_those_of_the_whole_tensors(tmp_path: Path) -> None:
    base = random_base(tied="own")
    first, second = fine_tune(base, 1), fine_tune(base, 2, ratio=0.4)
    found = changes(tmp_path, base, first, second)
    groups = {name: "layers.0" for name in base if name.startswith("layers.0.")} | {name: "*" for name in base}
    for group in ("*", "layers.0"):
        names = [
            name for name in base
            if base[name].is_floating_point() and (group == "*" or name.startswith("layers.0."))
        ]  # fmt: skip
        a = [(first[name].double() - base[name].double()).flatten() for name in names]
        b = [(second[name].double() - base[name].double()).flatten() for name in names]
        length_a, length_b = (sqrt(sum(float(x @ x) for x in deltas)) for deltas in (a, b))
        change = found[group]
        assert change.parameters == sum(base[name].numel() for name in names)
        assert change.first_norm == pytest.approx(length_a, rel=1e-6)
        assert change.second_norm == pytest.approx(length_b, rel=1e-6)
        assert change.change_norm == pytest.approx(
            sqrt(sum(float(((x - y) ** 2).sum()) for x, y in zip(a, b, strict=True))), rel=1e-6
        )
        dot = sum(float(x @ y) for x, y in zip(a, b, strict=True))
        assert change.cosine == pytest.approx(dot / length_a / length_b, abs=1e-6)
    assert next(iter(found)) == "*" and set(groups.values()) <= set(found)


def test_nothing_changed(tmp_path: Path) -> None:
    base = random_base()
    found = changes(tmp_path, base, base, base)
    assert all(change.change_norm == 0.0 and change.cosine is None for change in found.values())


def test_checkpoints_of_other_models_are_refused(tmp_path: Path) -> None:
    base, other = random_base(tied="own"), random_base(tied="own")
    del other[HEAD]
    with pytest.raises(UsageError, match="lm_head"):
        changes(tmp_path, base, base, other)
