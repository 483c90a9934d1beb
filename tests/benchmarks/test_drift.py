"""What the drift benchmark counts as a fall and as an alert that names somebody."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from benchmarks.drift.judging import Alarm, alarms, firing, held
from benchmarks.drift.plan import HONEST, Story
from benchmarks.drift.running import Step
from benchmarks.drift.summary import broken, falls, table

NAN = float("nan")
PLAIN = {
    "mergenode_newcomer_cosine": 0.2,
    "mergenode_share_kept": 0.9,
    "mergenode_version": 1.0,
    "mergenode_selection_gap": NAN,
    'mergenode_group_newcomer_cosine{group="layers.0"}': 0.1,
}


def step(number: int, kind: str = HONEST, score: float = 0.9, **series: float) -> Step:
    shown = {**PLAIN, "mergenode_newest_fold_generation": number + 1.0, **series}
    held = {**shown, "mergenode_version": float(number)}
    scores = {"clean": score, "tilted": 0.8}
    return Step(f"{number}", kind, number + 1, scores, held, shown, {"generation": number + 1})


def test_a_fall_is_measured_against_the_same_honest_contributions() -> None:
    honest = [step(number, score=score) for number, score in enumerate((0.90, 0.91, 0.92))]
    bad = [step(0, score=0.90), step(1, "huge", score=0.88), step(2, score=0.89)]
    played = {Story(HONEST, 0): honest, Story("huge", 0): bad}
    assert falls(Story("huge", 0), played) == pytest.approx([0.0, 0.02, 0.02])


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: package prometheus)")
def test_the_real_rules_name_the_contribution() -> None:
    steps = [*(step(number) for number in range(14)), step(14, "conflicting", mergenode_newcomer_cosine=-0.4)]
    found = firing(steps)
    told = ["MergenodeNewcomerAgainstMerge"]
    assert found == [*([] for _ in range(held(14))), told, told], "beyond a day as well, and before its version"
    (alarm,) = alarms(steps, [(held(14), "MergenodeNewcomerAgainstMerge")])
    assert isinstance(alarm, Alarm) and alarm.step == 14 and alarm.labels["severity"] == "warning"
    assert "`mergenode show --generation 15` names the contribution" in alarm.description
    assert "layers.0 (0.1)" in alarm.description


def test_what_is_late_and_what_is_false_is_said() -> None:
    row = {
        "kind": "huge",
        "seed": 0,
        "first_bad": 12,
        "first_alert": 12,
        "before_its_version": True,
        "in_time": True,
        "first_fall": 12,
        "deepest": 0.07,
        "alerts": [],
    }
    calm = {"kind": HONEST, "seed": 0, "false_alarms": []}
    assert broken({"bad": [row], "honest": [calm]}) == []
    assert "| huge |  | 0 (held), 0 | 7.0 |" in table({"bad": [row]})
    late = [{**row, "in_time": False}, {**row, "first_alert": None, "before_its_version": False, "in_time": False}]
    assert len(broken({"bad": late, "honest": [{**calm, "false_alarms": ["MergenodeDriftJump"]}]})) == 3
    assert replace(step(0), kind="huge").kind == "huge"
