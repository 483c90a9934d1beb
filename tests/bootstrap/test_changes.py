"""Changes of the merge where no node runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from mergenode.adapters.observers.fan_out import FanOut
from mergenode.adapters.store.change_requests import FolderChangeRequests
from mergenode.bootstrap.changes import carry_out
from mergenode.errors import UsageError
from mergenode.ledger.changes import Change
from mergenode.settings import load_settings
from tests.support.facts import digest
from tests.support.real_node import RealNode


@pytest.mark.parametrize(
    "settings",
    [
        {"task": {"entrypoint": "some:Task"}, "selector": {"name": "frank_wolfe"}},
        {"method": {"name": "average"}, "mixer": {"name": "union"}, "peers": {"listen": "127.0.0.1:0"}},
    ],
)
def test_a_merge_that_only_its_node_may_change_waits_for_it(tmp_path: Path, settings: dict[str, object]) -> None:
    node = RealNode(tmp_path, **settings)
    with pytest.raises(UsageError, match="the node does not run") as caught:
        carry_out(load_settings(node.config), FanOut([]), Change("", contents=(digest(1),)))
    assert "The request waits" in caught.value.hint
    ((_, asked),) = FolderChangeRequests(node.state).waiting()
    assert asked is not None and asked.contents == (digest(1),)
    with pytest.raises(UsageError, match="the node does not run") as caught:
        carry_out(load_settings(node.config), FanOut([]), None)
    assert caught.value.hint.startswith("Start the node")
