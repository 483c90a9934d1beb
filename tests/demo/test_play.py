"""The whole demo as a user runs it, judged by what it leaves behind."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from mergenode.demo.tasks import TASKS

NAMES = [task.name for task in TASKS]


@pytest.mark.slow
def test_the_whole_story(tmp_path: Path) -> None:
    output = tmp_path / "demo output"
    done = subprocess.run(
        [sys.executable, "-m", "mergenode", "demo", "--output", str(output)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((output / "results.json").read_text())
    base, experts, versions = results["base"], results["experts"], results["versions"]

    assert sorted(experts) == sorted(NAMES)
    for name in NAMES:
        assert base[name] < 0.35
        assert experts[name][name] > 0.85
    assert sorted(version["added"] for version in versions) == sorted(NAMES)
    assert [version["version"] for version in versions] == [1, 2, 3, 4, 5, 6]
    means = [sum(base[name] for name in NAMES) / 6, *(version["mean"] for version in versions)]
    assert all(later > earlier for earlier, later in pairwise(means))
    assert versions[0]["gain_kept"] == pytest.approx(1.0)  # one contribution alone comes back as it was
    last = versions[-1]
    assert min(last["scores"][name] for name in NAMES) > 0.6
    assert last["gain_kept"] > 0.7
    assert last["mean"] > sum(results["average"][name] for name in NAMES) / 6

    assert {each["name"]: each["reason"] for each in results["rejections"]} == {
        "damaged": "header_invalid",
        "stranger": "other_base",
        "diverged": "not_finite",
    }
    assert len(results["kills"]) == 1
    assert results["kills"][0]["times_folded"] == 1
    assert results["kills"][0]["name"] in NAMES
    assert results["verified"]
    assert results["equals_undisturbed"]
    assert results["exit_code"] == 0

    for left in ("accuracy.png", "node.yaml", "node.log", "published/latest/model.safetensors", "state/ledger.sqlite"):
        assert (output / left).stat().st_size > 0
    assert f"'{output}'/node.yaml" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr + (output / "node.log").read_text()
