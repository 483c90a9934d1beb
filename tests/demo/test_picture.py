"""The picture is drawn from the results, whatever order the tasks came in."""

from __future__ import annotations

import struct
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.demo import picture
from mergenode.demo.results import Kill, Results, VersionScore
from mergenode.demo.scores import mean
from mergenode.demo.tasks import TASKS
from mergenode.errors import UsageError

NAMES = [task.name for task in TASKS]


def _results(order: list[str]) -> Results:
    base = {**dict.fromkeys(NAMES, 0.1), "home": 0.98}
    results = Results(base=base, experts={name: {**base, name: 0.97} for name in NAMES}, average=base)
    for version, added in enumerate(order, 1):
        scores = {**base, **dict.fromkeys(order[:version], 0.9)}
        results.versions.append(VersionScore(version, added, scores, mean(scores), 0.9))
    results.kills.append(Kill(order[3], ("plan.json",), 100, 1, ()))
    return results


def test_png_of_the_promised_size(tmp_path: Path) -> None:
    picture.draw(_results(NAMES[::-1]), tmp_path / "accuracy.png")
    header = (tmp_path / "accuracy.png").read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", header[16:]) == (1600, 900)


def test_other_scores_make_another_picture(tmp_path: Path) -> None:
    picture.draw(_results(NAMES), tmp_path / "a.png")
    picture.draw(_results(NAMES[::-1]), tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 100), min_size=1, max_size=10))
def test_labels_never_lie_on_each_other(heights: list[float]) -> None:
    spread = picture._spread(heights)
    ordered = sorted(spread)
    assert all(above - below > 0.9 * picture.LEAST_GAP for below, above in pairwise(ordered))
    # Order is kept: a label never swaps places with one that belongs above it.
    for first in range(len(heights)):
        for second in range(len(heights)):
            if heights[first] < heights[second]:
                assert spread[first] < spread[second]


def test_missing_matplotlib_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match="matplotlib"):
        picture.require_matplotlib()
