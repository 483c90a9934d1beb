"""Transfers between real processes that are killed, and onto disks that are full."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mergenode.adapters.peers.weights.fetching import Fetcher, FetchSettings, Order
from mergenode.adapters.peers.weights.shelf import Shelf
from mergenode.adapters.peers.weights.sources import Patience, Source
from mergenode.wire.manifest import Manifest
from tests.support.peer_servers import insecure_channel
from tests.support.relay import Faults, Relay
from tests.support.stored_models import MIB, noisy_model
from tests.support.transfer_notes import TransferNotes

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {**os.environ, "GRPC_ENABLE_FORK_SUPPORT": "0", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
BLOCK = MIB
"""Tensors of 1 MiB, as the matrices of small models are; a cut costs one of them."""
KILLS = 5
UNDER_WAY = 4 * MIB
"""What may be lost in buffers of both systems when a connection breaks, before the receiver sees it."""

pytestmark = pytest.mark.slow


def started(module: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", f"tests.support.{module}", *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)


class ServingProcess:
    """A serving node that can be killed and comes back behind the same relay."""

    def __init__(self, shelf: Path) -> None:
        self._shelf = shelf
        self.kills = 0
        self.relay: Relay | None = None
        self.start()

    def start(self) -> None:
        self.process = started("serving_process", self._shelf, 0)
        assert self.process.stdout is not None
        port = int(self.process.stdout.readline())
        if self.relay is None:
            self.relay = Relay(("127.0.0.1", port), Faults(rate=100e6))
        self.relay.redirect(("127.0.0.1", port))

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.kills += 1

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        if self.relay is not None:
            self.relay.close()


class Offered:
    def __init__(self, folder: Path, blocks: int) -> None:
        self.file = noisy_model(folder / "model.safetensors", [BLOCK] * blocks)
        shelf = Shelf(folder / "served", time.monotonic)
        self.manifest: Manifest = shelf.put([self.file])
        self.server = ServingProcess(folder / "served")
        assert self.server.relay is not None
        self.relay = self.server.relay

    def assert_same(self, path: Path | None) -> None:
        """All data after the headers, byte for byte."""
        assert path is not None
        with self.file.open("rb") as first, path.open("rb") as second:
            for file in (first, second):
                file.seek(int.from_bytes(file.read(8), "little"), 1)
            while piece := first.read(16 * MIB):
                assert second.read(16 * MIB) == piece
            assert not second.read(1)


@pytest.fixture
def offered(tmp_path: Path) -> Iterator[Offered]:
    offered = Offered(tmp_path, 256)
    yield offered
    offered.server.close()


def test_a_server_killed_five_times_costs_less_than_a_twentieth(offered: Offered, tmp_path: Path) -> None:
    notes, total = TransferNotes(), offered.manifest.total_bytes
    due = threading.Semaphore(0)
    marks = [total * (number + 1) // (KILLS + 1) for number in range(KILLS)]
    report = notes.progress

    def progress(made: object) -> None:
        report(made)  # type: ignore[arg-type]  # as it came
        if marks and notes.reported[-1].done >= marks[0]:
            marks.pop(0)
            due.release()

    def kill_and_restart() -> None:
        for _ in range(KILLS):
            due.acquire()
            offered.server.kill()
            offered.server.start()

    notes.progress = progress  # type: ignore[method-assign]  # a tap
    killer = threading.Thread(target=kill_and_restart)
    killer.start()
    shelf = Shelf(tmp_path / "shelf", time.monotonic, observer=notes)
    settings = FetchSettings(patience=Patience(first_pause=0.1, longest_pause=0.5))
    fetcher = Fetcher(shelf, insecure_channel, notes, settings=settings)
    assert fetcher.fetch(Order(offered.manifest.root, lambda: [Source("a", offered.relay.address)]))
    killer.join()
    offered.assert_same(shelf.whole(offered.manifest.root))
    assert offered.server.kills == KILLS
    assert notes.counts["in_bytes"] == total, "a verified block is never fetched twice"
    assert notes.counts["wasted"] <= 0.05 * total
    assert offered.relay.counts["down"] <= 1.05 * total + KILLS * UNDER_WAY


def test_a_receiver_killed_five_times_goes_on_from_its_journal(offered: Offered, tmp_path: Path) -> None:
    total, shelf = offered.manifest.total_bytes, tmp_path / "shelf"
    arguments = (shelf, offered.manifest.root.hex(), offered.relay.address)
    kills = 0
    for number in range(KILLS):
        receiver = started("fetching_process", *arguments)
        assert receiver.stdout is not None
        for line in receiver.stdout:
            if json.loads(line)["done"] >= total * (number + 1) // (KILLS + 1):
                receiver.kill()
                kills += 1
                break
        receiver.communicate()
        assert list(shelf.glob("[0-9a-f]*")) == [], "complete or absent"
    receiver = started("fetching_process", *arguments)
    ended = json.loads(receiver.communicate()[0].splitlines()[-1])
    assert kills == KILLS and ended["how"] == "whole", ended
    offered.assert_same(shelf / offered.manifest.root.hex() / "weights.safetensors")
    assert ended["counts"]["resumed"] >= total * KILLS // (KILLS + 1) - total // 100 - 3 * BLOCK
    assert os.listdir(shelf) == [offered.manifest.root.hex()]


def test_a_stopped_server_is_left_and_taken_up_again(tmp_path: Path) -> None:
    """SIGSTOP: the connection looks alive, nothing comes."""
    offered = Offered(tmp_path, 32)
    notes, shelf = TransferNotes(), Shelf(tmp_path / "shelf", time.monotonic)
    process = offered.server.process
    stalled = notes.stalled

    def progress(made: object) -> None:
        if len(notes.reported) == 0:
            process.send_signal(19)
        notes.reported.append(made)  # type: ignore[arg-type]  # as it came

    def go_on(peer: str) -> None:
        stalled(peer)
        process.send_signal(18)

    notes.progress, notes.stalled = progress, go_on  # type: ignore[method-assign]  # taps
    offered.relay.set(Faults(rate=20e6))
    try:
        settings = FetchSettings(patience=Patience(idle_seconds=1.0, first_pause=0.1))
        fetcher = Fetcher(shelf, insecure_channel, notes, settings=settings)
        assert fetcher.fetch(Order(offered.manifest.root, lambda: [Source("a", offered.relay.address)]))
        offered.assert_same(shelf.whole(offered.manifest.root))
        assert notes.counts["stalled"] == 1
    finally:
        offered.server.close()


def may_mount() -> bool:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    attempt = ["unshare", "-m", "--propagation", "private", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(attempt, capture_output=True, check=False).returncode == 0


@pytest.mark.root
def test_a_full_disk_ends_it_and_more_space_lets_it_go_on(tmp_path: Path) -> None:
    """A real tmpfs that is too small, then grows."""
    if not may_mount():
        pytest.skip("needs root and the right to mount a tmpfs in a mount namespace")
    offered = Offered(tmp_path, 24)
    disk, result = tmp_path / "disk", tmp_path / "result"
    disk.mkdir()
    script = (
        'mount -t tmpfs -o size=16m tmpfs "$0" && result="$1" && shift && "$@"; '
        'ls -A "$0" > "$result.after"; du -sk "$0" > "$result.used"; '
        'mount -o remount,size=64m "$0"; "$@"; cp "$0"/[0-9a-f]*/weights.safetensors "$result"'
    )
    fetching = [sys.executable, "-m", "tests.support.fetching_process", str(disk), offered.manifest.root.hex()]
    isolated = ["unshare", "-m", "--propagation", "private", "sh", "-c", script, str(disk), str(result)]
    try:
        done = subprocess.run(
            [*isolated, *fetching, offered.relay.address],
            capture_output=True, text=True, env=ENVIRONMENT, timeout=120, check=True,
        )  # fmt: skip
    finally:
        offered.server.close()
    ended = [said for said in map(json.loads, done.stdout.splitlines()) if "how" in said]
    assert [said["how"] for said in ended] == ["TransientError", "whole"], done.stdout
    assert "disk_full" in ended[0]["message"]
    assert not [name for name in (tmp_path / "result.after").read_text().split() if not name.startswith(".")]
    assert int((tmp_path / "result.used").read_text().split()[0]) < 1024, "what did not fit was given back"
    offered.assert_same(result)
