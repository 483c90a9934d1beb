"""Scales as commands show them."""

from __future__ import annotations

import pytest

from mergenode.cli.scale import scale_fields

SCALE = {"used": 0.85, "own": 1.0, "norm_rule": None, "update_norm": 2.5, "mean_norm": 2.0}


def test_used_own_and_norm_rule() -> None:
    assert dict(scale_fields(SCALE)) == {
        "scale": "0.85 (own 1, norm rule -)",
        "norm of the update": "2.5, contributions 2 on average",
    }


def test_scores_by_rising_scale() -> None:
    points = [[1.0, 0.7512345], [0.5, 0.7], [1.5, -0.25]]
    assert dict(scale_fields({**SCALE, "evaluated": points}))["scores by scale"] == "0.5: 0.7, 1: 0.7512, 1.5: -0.25"
    assert dict(scale_fields({**SCALE, "evaluated": []}))["scores by scale"] == "the search failed"


@pytest.mark.parametrize("manifest", [None, {}, "x", [1]])
def test_older_manifests_say_nothing(manifest: object) -> None:
    assert scale_fields(manifest) == []
