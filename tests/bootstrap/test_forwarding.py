"""What the mixer ``contributions`` cannot go together with."""

from __future__ import annotations

from pathlib import Path

import pytest

from mergenode.bootstrap.forwarding import refuse_forwarding
from mergenode.errors import UsageError
from mergenode.methods import METHODS
from mergenode.settings import load_settings
from tests.support.real_node import RealNode

MIXER = {"name": "contributions"}


@pytest.mark.parametrize("name", METHODS)
def test_methods_that_need_side_cars_are_refused_all_others_taken(name: str) -> None:
    method = METHODS[name]()
    if method.needs:
        with pytest.raises(UsageError, match=f"method {name} needs side-cars"):
            refuse_forwarding(method)
    else:
        refuse_forwarding(method)


def test_without_a_port_nobody_could_push(tmp_path: Path) -> None:
    node = RealNode(tmp_path, mixer=MIXER)
    with pytest.raises(UsageError, match="is contributions, but the node has no port") as refused:
        node.run_once()
    assert "peers.listen" in refused.value.hint


def test_without_an_intake_nobody_could_push(tmp_path: Path) -> None:
    node = RealNode(tmp_path, mixer=MIXER, peers={"listen": "127.0.0.1:0", "intake": {"enabled": False}})
    with pytest.raises(UsageError, match=r"set peers\.intake\.enabled: true, or mixer\.name: none"):
        load_settings(node.config)
    node.configure(peers={"listen": "127.0.0.1:0", "intake": {"enabled": False}})
    assert load_settings(node.config).mixer.name == "none"


def test_one_run_folds_and_ends(tmp_path: Path) -> None:
    node = RealNode(tmp_path, mixer=MIXER, peers={"listen": "127.0.0.1:0"})
    node.put("one", 1)
    assert node.run_once().complete
    assert node.outcomes() == {"one": ["folded"]}
