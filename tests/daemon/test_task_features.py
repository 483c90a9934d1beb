"""A feature that the plug-in cannot serve is refused by name, with the methods that are missing."""

from __future__ import annotations

import pytest

from mergenode.daemon.task_features import missing_methods, refuse_missing
from mergenode.errors import UsageError
from mergenode.ports.task import (
    EVALUATION_GATE,
    FEATURES,
    FRANK_WOLFE,
    FRANK_WOLFE_SIGN_GATE,
    METHODS,
    WEIGHT_FIT,
    Task,
)


def test_the_tables_name_methods_of_the_protocol() -> None:
    methods = {name for name in vars(Task) if not name.startswith("_")}
    assert set(METHODS) == methods
    assert {name for needs in FEATURES.values() for name in needs} == methods
    assert METHODS["build_model"] == tuple(FEATURES), "nothing works without a model"


def test_what_is_missing_is_told_by_feature() -> None:
    wanted = [FRANK_WOLFE, EVALUATION_GATE, FRANK_WOLFE_SIGN_GATE]
    assert missing_methods(METHODS, wanted) == {}
    assert missing_methods({"build_model", "loss"}, wanted) == {
        FRANK_WOLFE: ("calibration_batches",),
        EVALUATION_GATE: ("evaluate",),
        FRANK_WOLFE_SIGN_GATE: ("calibration_batches",),
    }
    assert missing_methods((), []) == {}
    with pytest.raises(KeyError):
        missing_methods((), ["selector: unheard of"])


def test_a_node_is_refused_with_feature_and_method() -> None:
    refuse_missing("my:Task", {"build_model", "evaluate"}, [EVALUATION_GATE, WEIGHT_FIT])
    with pytest.raises(UsageError) as caught:
        refuse_missing("my:Task", {"build_model", "evaluate"}, [EVALUATION_GATE, FRANK_WOLFE])
    assert "my:Task" in caught.value.message and "evaluation" not in caught.value.message
    assert "selector: frank_wolfe needs calibration_batches(), loss()" in caught.value.message
    assert "task check" in caught.value.hint


def test_without_a_plugin_everything_is_missing() -> None:
    refuse_missing(None, (), [])
    with pytest.raises(UsageError, match="selector: frank_wolfe: needs a task plug-in") as caught:
        refuse_missing(None, METHODS, [FRANK_WOLFE])
    assert "entrypoint" in caught.value.hint
