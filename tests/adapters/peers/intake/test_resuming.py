"""Cut and killed in the middle, on either side: it goes on where it was."""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import torch

from mergenode.adapters.checkpoints.digest import content_digest
from mergenode.adapters.clock import SystemClock
from mergenode.adapters.peers.intake.upload_blocks import UploadBlocks
from mergenode.adapters.peers.pushing.local_model import describe_model
from mergenode.adapters.peers.pushing.pushing import Pushing, PushOrder, PushReport, PushTimes
from mergenode.adapters.registries.pushes import pushes_directory
from mergenode.wire.blocks import BLOCK_BYTES
from mergenode.wire.transfer import Verdict
from tests.support.checkpoints import write_single
from tests.support.intake import BOUND_SECONDS, LINEAGE, Intake, open_uploads
from tests.support.local_node import load_model
from tests.support.real_node import ROOT, environment

BLOCKS = 12


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A base and a fine-tune of it, of twelve blocks."""
    place = tmp_path_factory.mktemp("large")
    draw = torch.Generator().manual_seed(1)
    shape = (2048, BLOCK_BYTES // 2 // 2048)
    base = {f"w{number}": torch.randn(shape, generator=draw).bfloat16() for number in range(BLOCKS)}
    tuned = {name: (tensor.float() + 0.01).bfloat16() for name, tensor in base.items()}
    return write_single(place / "base", base), write_single(place / "tuned", tuned)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Served:
    """An intake process that can be killed after so many blocks, and started again on the same port."""

    def __init__(self, state: Path, base: Path) -> None:
        self.state, self.base, self.port = state, base, free_port()
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.intake_process", self.state, self.base, str(self.port)],
            cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.until("serving")

    def until(self, text: str, times: int = 1) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            times -= text in line
            if not times:
                return
        raise AssertionError(f"ended without {text!r}")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def served(state: Path, base: Path) -> Iterator[Served]:
    server = Served(state, base)
    try:
        yield server
    finally:
        if server.process.returncode is None:
            server.kill()


def test_the_node_is_killed_at_random_blocks(large: tuple[Path, Path], tmp_path: Path) -> None:
    base, tuned = large
    kills = 0
    with served(tmp_path / "state", base) as server, describe_model(tuned) as model:
        draw = random.Random(4)
        after = [draw.randrange(1, 4) for _ in range(2)]

        def killer() -> None:
            nonlocal kills
            for blocks in after:
                server.until("block", blocks)
                server.kill()
                kills += 1
                server.start()

        thread = threading.Thread(target=killer)
        thread.start()
        pushing = Pushing(
            model, PushOrder(name="tuned", lineage=LINEAGE),
            lambda: grpc.insecure_channel(f"127.0.0.1:{server.port}", (("grpc.use_local_subchannel_pool", 1),)),
            address="node", clock=SystemClock(), pause=threading.Event().wait, compress=False,
            times=PushTimes(reach=600.0), jitter=lambda: 0.1,
        )  # fmt: skip
        report = pushing.push()
        thread.join()
    assert (report.outcome, kills) == ("accepted", 2)
    (place,) = pushes_directory(tmp_path / "state").iterdir()
    assert content_digest(place) == content_digest(tuned)
    twice = report.bytes_sent - report.bytes_total
    # What was not whole yet, and what windows and sockets held: less than a block each on such a line.
    assert twice <= 0.05 * report.bytes_total + kills * 2 * BLOCK_BYTES


def test_the_pusher_is_killed_at_random_blocks(
    large: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was taken stays: the next one sends the rest, and the one after that nothing."""
    base, tuned = large
    taken, verdicts, real = threading.Semaphore(0), list[Verdict](), UploadBlocks.put

    def put(self: UploadBlocks, *args: Any) -> Verdict:
        verdicts.append(real(self, *args))
        taken.release()
        return verdicts[-1]

    monkeypatch.setattr(UploadBlocks, "put", put)
    with Intake(open_uploads(tmp_path / "state", base)) as intake:
        command = [sys.executable, "-m", "mergenode", "push", tuned, "--to", intake.address, "--json"]
        draw = random.Random(5)
        for _ in range(2):
            process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL)
            for _ in range(draw.randrange(1, 4)):
                assert taken.acquire(timeout=BOUND_SECONDS)
            process.send_signal(signal.SIGKILL)
            process.wait()
        done = [
            json.loads(subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, check=True).stdout)
            for _ in range(2)
        ]
    assert [each["outcome"] for each in done] == ["accepted", "accepted"]
    assert 0 < done[0]["blocks_sent"] < BLOCKS and done[1]["blocks_sent"] == 0
    assert verdicts.count(Verdict.VERIFIED) == BLOCKS
    assert len(verdicts) <= BLOCKS + 2, "at most the block that was being written when the pusher died"
    (place,) = pushes_directory(tmp_path / "state").iterdir()
    assert content_digest(place) == content_digest(tuned)


def test_two_pushers_at_once(large: tuple[Path, Path], tmp_path: Path) -> None:
    """The same root under two names, and another model beside it."""
    base, tuned = large
    tensors = load_model(tuned)
    other = write_single(tmp_path / "other", tensors | {"w0": tensors["w0"] + 1})
    reports: dict[str, PushReport] = {}
    with Intake(open_uploads(tmp_path / "state", base)) as intake:

        def push(name: str, path: Path) -> None:
            reports[name] = intake.push(path, name, pusher=f"team-{name}")

        threads = [
            threading.Thread(target=push, args=(name, path))
            for name, path in (("a", tuned), ("b", tuned), ("c", other))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(2 * BOUND_SECONDS)
    assert sorted((reports["a"].outcome, reports["b"].outcome)) == ["accepted", "duplicate"]
    assert reports["c"].outcome == "accepted"
    places = {content_digest(place) for place in pushes_directory(tmp_path / "state").iterdir()}
    assert places == {content_digest(tuned), content_digest(other)}
