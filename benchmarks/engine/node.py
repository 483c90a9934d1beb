"""A real node as the thing that is measured: bytes it moves, and how long a committed checkpoint stays unseen."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from mergenode.adapters.store.sqlite_ledger import open_reader
from mergenode.ledger.records import Folded

_GIVE_UP_SECONDS = 900


def write_settings(folder: Path, base: Path, method: str = "opcm") -> Path:
    """A node on ``folder/inbox``, without HTTP."""
    (folder / "inbox").mkdir(parents=True)
    settings = folder / "node.yaml"
    settings.write_text(
        f"node: {{state: ./state}}\nbase: {json.dumps(str(base))}\nregistries: [./inbox]\n"
        f"method: {{name: {method}}}\npublish: {{path: ./published, keep: 1}}\n"
        "http: {listen: null}\nengine: {threads: 1}\n"
    )
    return settings


def fold_traffic(models: Path, folder: Path) -> float:
    """Bytes per parameter that the second fold and its publish read and write, model, statistics and version."""
    shutil.rmtree(folder, ignore_errors=True)
    settings = write_settings(folder, models / "base")
    for number in (1, 2):
        shutil.copytree(models / f"tuned-{number}", folder / "inbox" / f"tuned-{number}")
        _mergenode("commit", str(folder / "inbox" / f"tuned-{number}"))
    _mergenode("run", "-c", str(settings), "--once")
    reader = open_reader(folder / "state" / "ledger.sqlite")
    folds = [fact for _, fact in reader.facts(kinds=["folded"]) if isinstance(fact, Folded)]
    reader.close()
    last = folds[-1]
    parameters = last.groups[0]["parameters"]
    version = folder / "published" / "latest"
    weights = sum(file.stat().st_size for file in version.glob("*.safetensors"))
    base = sum(file.stat().st_size for file in (models / "base").glob("*.safetensors"))
    statistics = sum(file.stat().st_size for file in (folder / "state" / "statistics").glob("*/*.safetensors"))
    shutil.rmtree(folder)
    # The publish reads base and statistics and writes the version; the fold's own counters tell the rest.
    return float(last.bytes_read + last.bytes_written + base + statistics + weights) / float(parameters)


def fold_command(models: Path, folder: Path, method: str, contributions: int) -> list[str]:
    """A node with committed contributions before it, and the command that folds and publishes them all."""
    shutil.rmtree(folder, ignore_errors=True)
    settings = write_settings(folder, models / "base", method)
    for number in range(1, contributions + 1):
        entry = folder / "inbox" / f"tuned-{number}"
        shutil.copytree(models / f"tuned-{number}", entry)
        _mergenode("commit", str(entry))
    return [sys.executable, "-m", "mergenode", "run", "-c", str(settings), "--once"]


def publish_latency(models: Path, folder: Path) -> float:
    """Seconds from the rename of a complete checkpoint into the registry to the moment its version is visible."""
    shutil.rmtree(folder, ignore_errors=True)
    settings = write_settings(folder, models / "base")
    incoming = folder / "inbox" / ".tuned-1.partial"
    shutil.copytree(models / "tuned-1", incoming)
    _mergenode("commit", str(incoming))
    node = subprocess.Popen([sys.executable, "-m", "mergenode", "run", "-c", str(settings)], stderr=subprocess.PIPE)
    try:
        assert node.stderr is not None
        for line in node.stderr:
            if b"initialised" in line:
                break
        started = time.monotonic()
        incoming.rename(folder / "inbox" / "tuned-1")
        latest = folder / "published" / "latest"
        while not latest.exists():
            if node.poll() is not None or time.monotonic() - started > _GIVE_UP_SECONDS:
                sys.exit("the node ended or hangs; run it by hand: mergenode run -c " + str(settings))
            time.sleep(0.01)
        return time.monotonic() - started
    finally:
        node.send_signal(signal.SIGTERM)
        node.communicate()


def _mergenode(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "mergenode", *arguments], check=True, capture_output=True)
