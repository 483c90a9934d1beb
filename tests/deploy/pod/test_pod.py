"""The quick part of the pod look-alike: it is the pod of the manifests, it works, ends and comes back in it.

``make pod`` has the rest: what machines do to pods.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.pod.contributions import offer, offer_base
from tests.deploy.pod.machine import Machine, reasons_against
from tests.deploy.pod.pod import Pod

AGAINST = reasons_against()
pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(AGAINST), reason=AGAINST or "never")]


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Pod]:
    machine = Machine(tmp_path, "worker-1")
    made = Pod(machine)
    offer_base(made)
    yield made
    machine.close()


def test_it_folds_in_what_the_manifest_allows_and_comes_back(pod: Pod) -> None:
    with pod.start() as node:
        node.until_ready()
        status = node.status()
        assert status["Uid"].split() == ["10001"] * 4 and status["Gid"].split() == ["10001"] * 4
        assert status["NoNewPrivs"] == "1"
        assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
        assert status["NSpid"].split()[-1] == "1"
        offer(pod, "a", 1)
        node.said("version 1 is visible")
        assert node.probe("startupProbe")[0] == node.probe("livenessProbe")[0] == 200
        assert node.kill() == 137
    with pod.start() as node:
        node.until_ready()
        offer(pod, "b", 2)
        node.said("version 2 is visible")
        code, seconds = node.stop()
        assert code == 0, node.output
        assert seconds < pod.grace
    assert (pod.versions / "latest").readlink() == Path("v000002")
