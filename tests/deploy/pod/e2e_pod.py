"""``make pod``: what machines do to pods, done to a real node in the pod of the manifests. Needs root; some minutes.

After each the node is in the state that docs/operate.md and docs/kubernetes.md promise, and ends with the published
bytes of a node that nobody disturbed, without a hand.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mergenode.ledger.records import Folded
from tests.deploy.pod.container import Container
from tests.deploy.pod.contributions import Tensors, matrices, offer, offer_base
from tests.deploy.pod.machine import Machine, reasons_against
from tests.deploy.pod.pod import Pod
from tests.support.manifests import Manifest

AGAINST = reasons_against()
pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(AGAINST), reason=AGAINST or "never")]

SLOW = matrices(24, 384)
"""Every fold of it decomposes 24 matrices one after the other: time to do something in the middle."""
NAMES = ("a", "b", "c")

Settings = Callable[[Manifest], None]
MakePod = Callable[..., Pod]


@pytest.fixture
def make_pod(tmp_path: Path) -> Iterator[MakePod]:
    machines: list[Machine] = []

    def make(tensors: Tensors = SLOW, **options: object) -> Pod:
        place = tmp_path / f"worker-{len(machines)}"
        place.mkdir()
        machines.append(Machine(place, place.name))
        pod = Pod(machines[-1], **options)  # type: ignore[arg-type]  # handed on
        offer_base(pod, tensors)
        return pod

    yield make
    for machine in machines:
        machine.close()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a node publishes that is left alone."""
    machine = Machine(tmp_path_factory.mktemp("undisturbed"), "worker")
    pod = Pod(machine)
    offer_base(pod, SLOW)
    with pod.start() as node:
        for version, name in enumerate(NAMES, 1):
            offer(pod, name, version, SLOW)
            node.said(f"version {version} is visible")
        assert node.stop()[0] == 0
    found = pod.published()
    machine.close()
    assert {path.partition("/")[0] for path in found} == {"v000001", "v000002", "v000003"}
    return found


def give_and_wait(pod: Pod, node: Container, name: str) -> None:
    number = NAMES.index(name) + 1
    offer(pod, name, number, SLOW)
    node.said(f"version {number} is visible")


def finish(pod: Pod, node: Container, names: str, undisturbed: dict[str, bytes]) -> None:
    """The contributions that are left; then all is as if nothing had happened."""
    for name in names:
        give_and_wait(pod, node, name)
    assert node.probe("readinessProbe")[0] == node.probe("livenessProbe")[0] == 200
    code, seconds = node.stop()
    assert code == 0 and seconds < pod.grace, node.output
    assert pod.published() == undisturbed
    assert [fact.name for fact in pod.facts("folded") if isinstance(fact, Folded)] == list(NAMES)


def in_the_middle_of_a_fold(pod: Pod, node: Container, name: str) -> None:
    """Some of its shards are durable, it is not committed."""
    folding = pod.state / "folding"
    before = len(pod.facts("folded"))
    offer(pod, name, NAMES.index(name) + 1, SLOW)
    node.until(lambda: any(folding.glob("shard-*.safetensors")) or len(pod.facts("folded")) > before, "folding")
    assert len(pod.facts("folded")) == before, "the fold is too short to be met in the middle"


# ---- signals


def test_killed_in_the_middle_of_a_fold(make_pod: MakePod, undisturbed: dict[str, bytes]) -> None:
    pod = make_pod()
    with pod.start() as node:
        give_and_wait(pod, node, "a")
        in_the_middle_of_a_fold(pod, node, "b")
        assert node.kill() == 137
    with pod.start() as node:
        assert "was killed" in node.said("the run before this one")["message"]
        node.said("version 2 is visible")
        finish(pod, node, "c", undisturbed)


def test_a_pod_that_is_deleted_in_the_middle_of_a_fold_finishes_it(
    make_pod: MakePod, undisturbed: dict[str, bytes]
) -> None:
    pod = make_pod()
    with pod.start() as node:
        give_and_wait(pod, node, "a")
        in_the_middle_of_a_fold(pod, node, "b")
        code, seconds = node.stop()
        assert code == 0 and seconds < pod.grace
        assert len(pod.facts("folded")) == 2, "the work at hand was finished"
    with pod.start() as node:
        node.until_ready()
        assert "was killed" not in node.output
        finish(pod, node, "c", undisturbed)


def test_with_no_time_to_drain_the_fold_goes_on_at_the_next_start(
    make_pod: MakePod, undisturbed: dict[str, bytes]
) -> None:
    def impatient(document: Manifest) -> None:
        document["shutdown"] = {"drain_seconds": 0}

    pod = make_pod(settings=impatient)
    with pod.start() as node:
        give_and_wait(pod, node, "a")
        in_the_middle_of_a_fold(pod, node, "b")
        code, seconds = node.stop()
        assert code == 0 and seconds < pod.grace
        assert len(pod.facts("folded")) == 1 and any((pod.state / "folding").glob("shard-*.safetensors"))
    with pod.start() as node:
        node.said("version 2 is visible")
        finish(pod, node, "c", undisturbed)


# ---- memory


def test_out_of_memory_it_says_so_and_goes_on_when_there_is_more(make_pod: MakePod) -> None:
    large = matrices(1, 1280)
    pod = make_pod(large, sizes={"base": "64m", "registry-inbox": "64m", "state": "96m", "published": "96m"})
    plenty = pod.limit
    with pod.start() as node:
        node.until_ready()
        idle = node.cgroup.peak()
        assert node.stop()[0] == 0
    pod.limit = idle + (8 << 20)
    offer(pod, "a", 1, large)
    for earlier in range(2):
        with pod.start() as node:
            assert node.wait() == 137 and node.cgroup.kills() > 0
            assert "engine.memory_limit" in node.output, "it was told before it happened"
            assert ("was killed" in node.output) == (earlier > 0)
            assert not pod.facts("folded") and not pod.facts("rejected")
    pod.limit = plenty
    with pod.start() as node:
        assert "1 more in a row" in node.said("killed")["message"]
        node.said("version 1 is visible")
        assert node.stop()[0] == 0
        assert "engine.memory_limit (" not in node.output
    assert len(pod.facts("folded")) == 1


# ---- volumes


@pytest.mark.parametrize("volume", ["state", "published"])
def test_a_full_volume_makes_it_wait(make_pod: MakePod, undisturbed: dict[str, bytes], volume: str) -> None:
    pod = make_pod()
    with pod.start() as node:
        give_and_wait(pod, node, "a")
        pod.volumes[volume].fill(but=1 << 20)
        offer(pod, "b", 2, SLOW)
        retry = node.said("is tried again")
        assert retry["fields"]["reason"] == "disk_full"
        assert node.probe("readinessProbe")[0] == node.probe("livenessProbe")[0] == 200
        assert node.metrics()['mergenode_retries_total{reason="disk_full"}'] >= 1
        pod.volumes[volume].relieve()
        node.said("version 2 is visible")
        finish(pod, node, "c", undisturbed)


def test_started_on_a_full_volume_it_waits_too(make_pod: MakePod, undisturbed: dict[str, bytes]) -> None:
    pod = make_pod()
    with pod.start() as node:
        give_and_wait(pod, node, "a")
        assert node.kill() == 137
    pod.volumes["state"].fill()
    offer(pod, "b", 2, SLOW)
    with pod.start() as node:
        assert node.said("is tried again")["fields"]["reason"] == "disk_full"
        pod.volumes["state"].relieve()
        node.said("version 2 is visible")
        finish(pod, node, "c", undisturbed)


def test_a_new_state_on_a_full_volume_ends_it(make_pod: MakePod, undisturbed: dict[str, bytes]) -> None:
    pod = make_pod()
    pod.volumes["state"].fill()
    with pod.start() as node:
        ends_and_says(node, "No space left")
    pod.volumes["state"].relieve()
    with pod.start() as node:
        finish(pod, node, "abc", undisturbed)


def ends_and_says(node: Container, why: str) -> None:
    """A restart helps once the cause is gone, and Kubernetes sees to it; the last lines say what the cause is."""
    assert node.wait() == 1
    assert why in "".join(node.lines[-2:]), node.output


def test_versions_on_a_volume_that_turns_read_only(make_pod: MakePod, undisturbed: dict[str, bytes]) -> None:
    pod = make_pod()
    with pod.start() as node:
        give_and_wait(pod, node, "a")
        pod.volumes["published"].remount("ro")
        offer(pod, "b", 2, SLOW)
        retry = node.said("is tried again")
        assert retry["fields"]["reason"] == "write_failed"
        assert node.probe("readinessProbe")[0] == node.probe("livenessProbe")[0] == 200
        pod.volumes["published"].remount("rw")
        node.said("version 2 is visible")
        finish(pod, node, "c", undisturbed)


def test_a_state_whose_disk_fails_under_it(make_pod: MakePod, undisturbed: dict[str, bytes]) -> None:
    if not (shutil.which("mkfs.ext4") and Path("/dev/loop-control").exists()):
        pytest.skip("needs mkfs.ext4 and loop devices")
    pod = make_pod(sizes={"state": "1m"})
    state = pod.volumes["state"]
    state.on_disk("96M", pod.fs_group)
    with pod.start() as node:
        give_and_wait(pod, node, "a")
        state.break_disk()
        offer(pod, "b", 2, SLOW)
        assert node.said("is tried again")["fields"]["reason"] == "write_failed"
        assert node.probe("readinessProbe")[0] == node.probe("livenessProbe")[0] == 200
        assert node.stop()[0] == 0
    state.mend_disk()
    with pod.start() as node:
        node.said("version 2 is visible")
        finish(pod, node, "c", undisturbed)


def test_started_on_a_read_only_state_it_ends_and_says_why(make_pod: MakePod, undisturbed: dict[str, bytes]) -> None:
    pod = make_pod()
    with pod.start() as node:
        give_and_wait(pod, node, "a")
        assert node.kill() == 137
    pod.volumes["state"].remount("ro")
    offer(pod, "b", 2, SLOW)
    for _ in range(2):
        with pod.start() as node:
            ends_and_says(node, "Read-only file system")
    pod.volumes["state"].remount("rw")
    with pod.start() as node:
        node.said("version 2 is visible")
        finish(pod, node, "c", undisturbed)


# ---- the share of a registry


@pytest.mark.parametrize("how", ["empty", "dead"])
def test_a_share_that_vanishes_is_unreachable_and_comes_back(
    make_pod: MakePod, undisturbed: dict[str, bytes], how: str
) -> None:
    if how == "dead" and not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("needs /dev/fuse")
    pod = make_pod()
    share = pod.volumes["registry-inbox"]
    with pod.start() as node:
        give_and_wait(pod, node, "a")
        share.empty_over() if how == "empty" else share.dead_over()
        node.said("empty, where another directory" if how == "empty" else "not connected")
        assert node.probe("readinessProbe")[0] == node.probe("livenessProbe")[0] == 200
        assert node.metrics()['mergenode_registry_errors_total{registry="inbox"}'] >= 1
        share.back()
        finish(pod, node, "bc", undisturbed)


def test_started_without_its_share_it_is_not_ready_until_it_is_back(
    make_pod: MakePod, undisturbed: dict[str, bytes]
) -> None:
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("needs /dev/fuse")
    pod = make_pod()
    with pod.start() as node:
        give_and_wait(pod, node, "a")
        assert node.kill() == 137
    with pod.start() as node:
        node.until_it_runs()
        pod.volumes["registry-inbox"].dead_over()  # while torch is loaded
        node.said("not connected")
        assert node.probe("startupProbe")[0] == node.probe("livenessProbe")[0] == 200
        status, answer = node.probe("readinessProbe")
        assert status == 503 and "inbox" in answer
        pod.volumes["registry-inbox"].back()
        node.until_ready()
        finish(pod, node, "bc", undisturbed)


# ---- another machine


def test_moved_to_another_machine_it_goes_on_from_its_volume(make_pod: MakePod, undisturbed: dict[str, bytes]) -> None:
    """Other devices, other inodes, another host name; killed in the middle of a fold on the old one."""
    old, new = make_pod(), make_pod()
    with old.start() as node:
        give_and_wait(old, node, "a")
        in_the_middle_of_a_fold(old, node, "b")
        assert node.kill() == 137
    for name in ("state", "published", "registry-inbox"):
        old.volumes[name].copy_to(new.volumes[name])
    with new.start() as node:
        node.said("version 2 is visible")
        assert not new.facts("duplicate", "rejected"), "the old contributions are known by their content"
        finish(new, node, "c", undisturbed)


# ---- settings


def test_settings_change_with_the_config_map(make_pod: MakePod) -> None:
    pod = make_pod()

    def fewer(document: Manifest) -> None:
        document["publish"]["keep"] = 1
        document["log"] = {"format": "json", "level": "debug"}
        document["gates"] = {"norm": {"action": "observe", "max_ratio": 3.0}}
        document["http"]["listen"] = "0.0.0.0:9999"

    with pod.start() as node:
        give_and_wait(pod, node, "a")
        success = node.metrics()["mergenode_config_last_reload_success_timestamp_seconds"]
        pod.configure(fewer)
        applied = node.said("settings in force now")
        assert {"publish.keep", "log.level"} <= set(applied["fields"]["applied"])
        assert node.said("not in force until a restart")["fields"]["restart"] == ["http.listen"]
        metrics = node.metrics()
        assert metrics["mergenode_config_last_reload_success_timestamp_seconds"] > success
        assert metrics["mergenode_config_reload_failed"] == 0 and metrics["mergenode_config_restart_pending"] == 1
        pod.mount_config("publish: {keeep: 3}\n")
        refused = node.said("the settings stay as they were")
        assert "publish.keeep" in refused["message"] and refused["level"] == "error"
        assert node.metrics()["mergenode_config_reload_failed"] == 1
        pod.configure()
        node.said("settings in force now")
        metrics = node.metrics()
        assert metrics["mergenode_config_reload_failed"] == metrics["mergenode_config_restart_pending"] == 0
        assert node.stop()[0] == 0
