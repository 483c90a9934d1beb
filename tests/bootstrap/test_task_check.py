"""The check at the start of a node, with the process of a plug-in."""

from __future__ import annotations

from pathlib import Path

import pytest

from mergenode.bootstrap.task_check import Tried, require_features, unlocked
from mergenode.errors import UsageError
from mergenode.ports.task import EVALUATION_GATE, FRANK_WOLFE, METHODS, TaskProgram

SOURCE = "class Task:\n    loss = 3\n    def build_model(self): ...\n    def evaluate(self, model): ...\n"


def test_a_plugin_without_a_method_is_refused_at_start(tmp_path: Path) -> None:
    (tmp_path / "few_task.py").write_text(SOURCE)
    options = TaskProgram(entrypoint="few_task:Task", path=tmp_path)
    with pytest.raises(UsageError, match=r"selector: frank_wolfe needs calibration_batches\(\), loss\(\)$"):
        require_features(options, [EVALUATION_GATE, FRANK_WOLFE])


def test_nothing_is_started_when_nothing_is_wanted_or_nothing_is_there() -> None:
    require_features(TaskProgram(entrypoint="no_such_module:Task"), [])
    with pytest.raises(UsageError, match="the settings name none"):
        require_features(TaskProgram(entrypoint=None), [FRANK_WOLFE])


def test_a_feature_is_unlocked_by_methods_that_work() -> None:
    works = {"build_model": True, "calibration_batches": True, "loss": False, "train": None, "evaluate": True}
    tried = (Tried(name, METHODS[name], works.get(name), "") for name in METHODS)
    found = {one.feature: one for one in unlocked(tried)}
    assert found[EVALUATION_GATE].ready
    assert not found[FRANK_WOLFE].ready
    assert (found[FRANK_WOLFE].missing, found[FRANK_WOLFE].failing) == ((), ("loss",))
    assert found["mixer: dimat: training"].missing == ("train",)
