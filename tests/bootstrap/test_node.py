"""The daemon, composed and run in this process."""

from __future__ import annotations

import json
import os
import socket
import threading
from pathlib import Path

import pytest

from mergenode.adapters.observers.fan_out import FanOut
from mergenode.adapters.registries.marker import write_marker
from mergenode.adapters.store.lock import StateLock
from mergenode.bootstrap.node import registries_of, run_node
from mergenode.bootstrap.policy import policy_of
from mergenode.bootstrap.verification import verify
from mergenode.errors import FatalError
from mergenode.ledger.actions import Stop
from mergenode.ledger.records import Folded
from mergenode.ports.observer import Progress
from mergenode.settings import load_settings
from tests.support.clock import FakeClock
from tests.support.real_node import RealNode


@pytest.fixture
def node(tmp_path: Path) -> RealNode:
    return RealNode(tmp_path)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_whole_life(node: RealNode) -> None:
    node.put("a", 1)
    node.put("b", 2)
    assert node.run_once() == Stop("nothing is pending", complete=True)
    assert node.outcomes() == {"a": ["folded"], "b": ["folded"]} and node.versions() == [1, 2]
    assert (node.published / "latest").resolve().name == "v000002"
    node.put("c", 3)
    assert node.run_once().complete
    assert node.versions() == [1, 2, 3] and node.manifest()["count"] == 3
    assert node.problems() == []


def test_every_fact_is_one_line_of_the_log(node: RealNode) -> None:
    node.put("a", 1)
    node.run_once()
    events = [json.loads(line)["event"] for line in node.log.splitlines()]
    for event in ("initialised", "discovered", "folded", "published"):
        assert events.count(event) == 1


def test_nothing_stays_open_and_no_thread_stays(node: RealNode) -> None:
    node.configure(http={"listen": "127.0.0.1:0"})
    node.put("a", 1)
    node.run_once()
    before, threads = descriptors(), threading.active_count()
    for seed in range(2, 5):
        node.put(f"m{seed}", seed)
        node.run_once()
    assert (descriptors(), threading.active_count()) == (before, threads)


def test_a_port_that_is_taken_is_fatal_and_leaves_nothing_open(node: RealNode) -> None:
    node.run_once()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        node.configure(http={"listen": f"127.0.0.1:{taken.getsockname()[1]}"})
        before = descriptors()
        with pytest.raises(FatalError) as caught:
            node.run_once()
        assert str(taken.getsockname()[1]) in caught.value.message
        del caught
        assert descriptors() == before


def test_a_second_node_on_one_state_is_refused(node: RealNode) -> None:
    node.run_once()
    with StateLock(node.state, node="first"), pytest.raises(FatalError) as caught:
        node.run_once()
    assert str(os.getpid()) in caught.value.message
    assert node.run_once().complete


def test_asked_to_stop_while_the_base_is_read(node: RealNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a large base takes minutes, and nothing of it is kept."""
    progress = FanOut.progress

    def stop_at_first(self: FanOut, told: Progress) -> None:
        progress(self, told)
        if told.activity == "hash" and not sent:
            sent.append(told)
            os.kill(os.getpid(), 15)

    sent: list[Progress] = []
    monkeypatch.setattr(FanOut, "progress", stop_at_first)
    stop = run_node(load_settings(node.config))
    assert sent and not stop.complete
    assert stop.why == "asked to stop, while reading base"
    monkeypatch.undo()
    node.put("a", 1)
    assert node.run_once().complete


def test_registries_and_the_operators_requests(node: RealNode) -> None:
    (node.root / "more").mkdir()
    node.configure(registries=["./inbox", {"url": "./more", "name": "second"}])
    registries = registries_of(load_settings(node.config), FakeClock())
    assert list(registries) == ["inbox", "second", "ingest"]
    assert all(registry.name == name for name, registry in registries.items())


def test_without_registries_requests_are_enough(node: RealNode) -> None:
    node.configure(registries=[])
    assert node.run_once().complete


def test_policy(node: RealNode) -> None:
    slow = {"url": "./inbox", "settle_seconds": 7, "poll_seconds": 9}
    fast = {"url": "./other", "settle_seconds": 3, "poll_seconds": 2}
    node.configure(registries=[slow, fast], publish={"keep": 4, "every": {"contributions": None, "seconds": 60}})
    policy = policy_of(load_settings(node.config))
    assert (policy.poll_seconds, policy.keep, policy.publish_every_seconds) == (2, 4, 60)
    assert policy.publish_every_contributions > 1 << 60
    assert policy.once_patience_seconds == 37


def test_versions_follow_the_settings(node: RealNode) -> None:
    node.configure(publish={"every": {"contributions": 2}, "keep": 1})
    for seed in range(1, 6):
        node.put(f"m{seed}", seed)
    node.run_once()
    assert [(fact.version, fact.generation) for fact in node.facts("published")] == [(1, 2), (2, 4), (3, 5)]  # type: ignore[attr-defined]
    assert sorted(path.name for path in node.published.iterdir()) == ["latest", "v000003"]


def test_the_newest_version_comes_back_with_the_same_bytes(node: RealNode) -> None:
    node.put("a", 1)
    node.run_once()
    lost = {path.name: path.read_bytes() for path in (node.published / "v000001").iterdir()}
    (node.published / "v000001").rename(node.root / "lost")
    assert node.run_once().complete
    again = {path.name: path.read_bytes() for path in (node.published / "v000001").iterdir()}
    assert again == lost and node.versions() == [1]


def test_a_profile_in_the_marker_is_folded_recorded_and_replayed(node: RealNode) -> None:
    name = next(name for name in node.tensors if name.endswith("weight"))
    write_marker(node.put("a", 1), profile={name: 0.0})
    node.put("b", 2)
    assert node.run_once().complete
    folded = {fact.name: fact for fact in node.facts("folded") if isinstance(fact, Folded)}
    assert (folded["a"].profile, folded["b"].profile) == ({name: 0.0}, {})
    first, second = sorted(node.manifest()["contributions"], key=lambda entry: entry["name"])
    assert first["profile"] == {name: 0.0} and "profile" not in second
    found = verify(load_settings(node.config), FanOut([]), replay=True)
    assert found.problems == []


def test_a_strangers_version_is_fatal_and_untouched(node: RealNode) -> None:
    (node.published / "v000001").mkdir(parents=True)
    (node.published / "v000001/model.safetensors").write_bytes(b"precious")
    node.put("a", 1)
    with pytest.raises(FatalError, match="already there"):
        node.run_once()
    assert (node.published / "v000001/model.safetensors").read_bytes() == b"precious"
    assert node.outcomes() == {"a": ["folded"]}, "the commit stands"
    (node.published / "v000001").rename(node.root / "moved")
    assert node.run_once().complete and node.versions() == [1]


def test_the_base_written_to_while_the_node_runs_never_blames_a_contribution(node: RealNode) -> None:
    node.put("a", 1)
    node.run_once()
    (node.base / "model.safetensors").unlink()
    node.put("b", 2)
    with pytest.raises(FatalError, match="base"):
        node.run_once()
    assert "b" not in node.outcomes()
