"""Whole transfers between two processes, alternating with a plain TLS copy, and over a long line."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from benchmarks.models import main as generate
from tests.support.certificates import Authority
from tests.support.relay import Faults, Relay

CPU_LIMIT, SPEED_LIMIT, MEMORY_LIMIT, LINE_LIMIT, TUNED_LIMIT = 1.15, 0.8, 120.0, 0.9, 0.27
LINE_RATE, ROUND_TRIP = 40e6, 0.080
_TENSOR = 64 << 20


@dataclass
class Run:
    """One transfer: seconds, CPU seconds of both ends, peak memory of the client and the server in MiB."""

    what: str
    nbytes: int
    seconds: float
    client_cpu: float
    server_cpu: float
    client_mib: float
    server_mib: float

    @property
    def cpu_per_gb(self) -> float:
        return (self.client_cpu + self.server_cpu) / self.nbytes * 1e9

    @property
    def gb_per_second(self) -> float:
        return self.nbytes / self.seconds / 1e9


class Server:
    """A server process and what it says."""

    def __init__(self, *arguments: object) -> None:
        self.process = started(*arguments)
        self.ready = self._said()
        self.address = f"127.0.0.1:{self.ready['port']}"

    def used(self) -> dict[str, float]:
        assert self.process.stdin is not None
        self.process.stdin.write("?\n")
        self.process.stdin.flush()
        return self._said()

    def end(self) -> None:
        self.process.communicate(timeout=30)

    def _said(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        said: dict[str, Any] = json.loads(self.process.stdout.readline())
        return said


def measure(work: Path, nbytes: int, repeats: int) -> list[Run]:
    """Both copies alternately, ``repeats`` times each; every file is compared with what was sent."""
    _certificates(work)
    model = work / "noise.safetensors"
    if not model.exists() or model.stat().st_size < nbytes:
        _noise(model, nbytes)
    size = model.stat().st_size
    plain = Server("tls-server", work, model)
    runs = []
    try:
        for _ in range(repeats):
            runs.append(_one("tls", plain, size, "tls-client", work, work / "copy", plain.address, size))
            runs.append(_node_run(work, model, size))
    finally:
        plain.end()
    return runs


def _node_run(work: Path, model: Path, size: int) -> Run:
    """With a new server each time: what one caller asks for twice is hashed on the second time, as after an error."""
    node = Server("node-server", work, fresh(work / "server"), model)
    try:
        shelf, root = fresh(work / "client"), node.ready["roots"][0]
        run = _one("node", node, size, "node-client", work, shelf, node.address, root)
        _assert_same_data(model, shelf / root / "weights.safetensors")
        return run
    finally:
        node.end()


def measure_line(work: Path, nbytes: int) -> Run:
    """Through the relay: 40 MB/s, 80 ms there and back."""
    _certificates(work)
    model = work / "line.safetensors"
    _noise(model, nbytes)
    node = Server("node-server", work, fresh(work / "server"), model)
    try:
        with Relay(("127.0.0.1", node.ready["port"]), Faults(latency=ROUND_TRIP / 2, rate=LINE_RATE)) as relay:
            shelf = fresh(work / "client")
            arguments = ("node-client", work, shelf, relay.address, node.ready["roots"][0])
            return _one("line", node, model.stat().st_size, *arguments)
    finally:
        node.end()


def measure_tuned(work: Path, preset: str, ratio: float) -> tuple[Run, float]:
    """A fine-tune to a node that holds its base; the second figure is the share of its bytes that came over TCP."""
    _certificates(work)
    models = work / f"models-{preset}-{ratio}"
    if not (models / "tuned-1" / "config.json").exists():
        sizes = ["--preset", preset, "--fine-tunes", "1", "--seed", "0", "--ratio", str(ratio)]
        generate([*sizes, "--out", str(models)])
    base, tuned = (next((models / name).glob("*.safetensors")) for name in ("base", "tuned-1"))
    node = Server("node-server", work, fresh(work / "server"), base, tuned)
    try:
        with Relay(("127.0.0.1", node.ready["port"])) as relay:
            shelf = fresh(work / "client")
            size, root = tuned.stat().st_size, node.ready["roots"][1]
            run = _one("tuned", node, size, "node-client", work, shelf, relay.address, root, base)
            return run, relay.counts["down"] / size
    finally:
        node.end()


def judge(runs: list[Run], line: Run, tuned: tuple[Run, float], work: Path) -> bool:
    """Print a table and what the limits say; write ``transport.json``."""
    print("| transfer | GB/s | CPU-s/GB | client | server | peak MiB client | server |")
    print("|---|---|---|---|---|---|---|")
    for what in ("tls", "node"):
        chosen = [run for run in runs if run.what == what]
        print(_row(what, chosen))
    print(_row("line", [line]))
    print(_row("tuned", [tuned[0]]))
    cpu, speed = (
        _median(figure, runs, "node") / _median(figure, runs, "tls") for figure in ("cpu_per_gb", "gb_per_second")
    )
    memory = max(run.client_mib for run in (*runs, line, tuned[0]) if run.what != "tls")
    verdicts = [
        (f"CPU for a GB against plain TLS: {cpu:.2f}", cpu <= CPU_LIMIT, f"<= {CPU_LIMIT}"),
        (f"speed against plain TLS: {speed:.2f}", speed >= SPEED_LIMIT, f">= {SPEED_LIMIT}"),
        (f"peak memory of the client: {memory:.0f} MiB", memory <= MEMORY_LIMIT, f"<= {MEMORY_LIMIT:.0f}"),
        (
            f"share of a line of {LINE_RATE / 1e6:.0f} MB/s and {ROUND_TRIP * 1e3:.0f} ms: "
            f"{line.gb_per_second * 1e9 / LINE_RATE:.2f}",
            line.gb_per_second * 1e9 >= LINE_LIMIT * LINE_RATE,
            f">= {LINE_LIMIT}",
        ),
        (f"fine-tune at 0.3%, bytes on the wire: {tuned[1]:.3f}", tuned[1] <= TUNED_LIMIT, f"<= {TUNED_LIMIT}"),
    ]
    print()
    for text, held, limit in verdicts:
        print(f"{'ok  ' if held else 'MISS'} {text} ({limit})")
    found = {"runs": [asdict(run) for run in (*runs, line, tuned[0])], "tuned_share": tuned[1]}
    (work / "transport.json").write_text(json.dumps(found, indent=2) + "\n")
    return all(held for _, held, _ in verdicts)


def fresh(folder: Path) -> Path:
    """An empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def started(*arguments: object) -> subprocess.Popen[str]:
    """One end, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.wire.endpoint", *map(str, arguments)]
    environment = {**os.environ, "GRPC_ENABLE_FORK_SUPPORT": "0", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def _one(what: str, server: Server, size: int, *arguments: object) -> Run:
    before = server.used()
    client = started(*arguments)
    said, _ = client.communicate()
    assert client.returncode == 0, arguments
    found, after = json.loads(said), server.used()
    return Run(
        what, size, found["seconds"], found["cpu"], after["cpu"] - before["cpu"], found["peak_mib"], after["peak_mib"]
    )


def _row(name: str, runs: list[Run]) -> str:
    def span(values: list[float], digits: int) -> str:
        middle = f"{statistics.median(values):.{digits}f}"
        return middle if len(values) == 1 else f"{middle} ({min(values):.{digits}f} to {max(values):.{digits}f})"

    client, server = ([getattr(run, f"{end}_cpu") / run.nbytes * 1e9 for run in runs] for end in ("client", "server"))
    speeds, cpus = [run.gb_per_second for run in runs], [run.cpu_per_gb for run in runs]
    parts = [span(speeds, 3), span(cpus, 2), f"{statistics.median(client):.2f}", f"{statistics.median(server):.2f}"]
    peaks = [f"{max(run.client_mib for run in runs):.0f}", f"{max(run.server_mib for run in runs):.0f}"]
    return f"| {name} | " + " | ".join([*parts, *peaks]) + " |"


def _median(figure: str, runs: list[Run], what: str) -> float:
    return statistics.median(float(getattr(run, figure)) for run in runs if run.what == what)


def _certificates(work: Path) -> None:
    work.mkdir(parents=True, exist_ok=True)
    issued = Authority().issue("spiffe://mergenode/peer/benchmark")
    for name in ("certificate", "key", "authority"):
        (work / f"{name}.pem").write_bytes(getattr(issued, name))


def _noise(path: Path, nbytes: int) -> None:
    """Bytes that do not compress, as 16-bit tensors of 64 MiB."""
    source = np.random.default_rng(0)
    count = max(1, nbytes // _TENSOR)
    size = min(_TENSOR, nbytes)
    save_file({f"layer.{n}": np.frombuffer(source.bytes(size), np.int16) for n in range(count)}, path)


def _assert_same_data(sent: Path, arrived: Path) -> None:
    """Both files end with the same tensors in the same order."""
    with sent.open("rb") as first, arrived.open("rb") as second:
        for file in (first, second):
            file.seek(int.from_bytes(file.read(8), "little"), 1)
        while piece := first.read(1 << 24):
            assert second.read(1 << 24) == piece, "another model arrived"
        assert not second.read(1)
