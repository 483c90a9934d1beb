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
from tests.support.manifests import Manifest

AGAINST = reasons_against()
pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(AGAINST), reason=AGAINST or "never")]


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Pod]:
    machine = Machine(tmp_path, "worker-1")
    made = Pod(machine)
    offer_base(made)
    yield made
    machine.close()


def quiet(document: Manifest) -> None:
    document["log"]["level"] = "warning"
    document["engine"]["memory_limit"] = "1GiB"


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
        pod.configure(quiet)
        assert node.said("not in force until a restart")["fields"]["restart"] == ["engine.memory_limit"]
        code, seconds = node.stop()
        assert code == 0, node.output
        assert seconds < pod.grace
    assert (pod.versions / "latest").readlink() == Path("v000002")


def test_deleted_while_it_starts_it_does_not_wait_to_be_killed(pod: Pod) -> None:
    """Process 1 loses signals that it does not handle; the node handles them before torch is loaded."""
    with pod.start() as node:
        node.until_it_runs()
        code, seconds = node.stop()
        assert code == 0 and seconds < pod.grace, node.output
    assert not pod.state.exists()
