"""Gates as the settings describe them, held against the base of the node."""

from __future__ import annotations

from pathlib import Path

import pytest

from mergenode.bootstrap.gates import refuse_unmatched
from mergenode.errors import UsageError
from mergenode.gates import build_gate
from tests.support.real_node import RealNode

NAMES = ["lm_head.weight", "model.embed.weight", "model.layers.0.weight"]


@pytest.mark.parametrize("patterns", [["lm_head.*"], ["*"], ["model.layers.?.weight", "model.embed.weight"]])
def test_patterns_that_name_tensors(patterns: list[str]) -> None:
    refuse_unmatched([build_gate("finite", {}), build_gate("frozen", {"patterns": patterns})], NAMES)


@pytest.mark.parametrize("pattern", ["lm_head", "LM_HEAD.*", "model.layers.1.*"])
def test_a_pattern_that_names_nothing_is_told(pattern: str) -> None:
    gate = build_gate("frozen", {"patterns": ["lm_head.*", pattern]})
    with pytest.raises(UsageError, match="matches no tensor of the base") as caught:
        refuse_unmatched([gate], NAMES)
    assert repr(pattern) in caught.value.message and "'lm_head.weight' ... 'model.layers.0.weight'" in caught.value.hint


def test_a_node_whose_frozen_tensors_do_not_exist_does_not_start(tmp_path: Path) -> None:
    node = RealNode(tmp_path, gates={"frozen": {"action": "reject", "patterns": ["nowhere.*"]}})
    with pytest.raises(UsageError, match=r"gates\.frozen\.patterns: 'nowhere\.\*'"):
        node.run_once()
