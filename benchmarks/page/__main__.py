"""Builds ledgers of several lengths and times the page of each, from the question to the last byte, over a socket."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import ProxyHandler, build_opener

from prometheus_client import CollectorRegistry

from mergenode.adapters.http.app import create_app
from mergenode.adapters.http.live import LiveStatus
from mergenode.adapters.http.server import HttpServer
from mergenode.adapters.store.sqlite_ledger import SqliteLedger, open_reader
from mergenode.ledger.records import Fact, Left
from tests.support.page_story import StoryClock, lively, story

_AT_ONCE = 5000
"""Facts per append: one transaction is quick, all of them at once need memory."""


def build(path: Path, contributions: int, groups: int) -> None:
    """The ledger of a node that folded so many contributions to a model of so many layer groups."""
    with closing(SqliteLedger(path)) as ledger:
        for batch in _batches(story(contributions, groups), _AT_ONCE):
            ledger.append(*batch)


def measured(path: Path, repeats: int) -> tuple[list[float], list[float], int]:
    """Seconds on the clock and of CPU (of the whole process) per page, and its bytes. The first one does not count."""
    live = LiveStatus(StoryClock(), ["team-inbox", "pushes"])
    lively(live)
    opener = build_opener(ProxyHandler({}))
    wall, cpu, size = [], [], 0
    with closing(open_reader(path)) as reader:
        server = HttpServer(create_app("node", reader, CollectorRegistry(), live), "127.0.0.1", 0)
        host, port = server.start()
        try:
            for _ in range(repeats + 1):
                began, worked = time.perf_counter(), time.process_time()
                with opener.open(f"http://{host}:{port}/", timeout=60) as answer:
                    size = len(answer.read())
                wall.append(time.perf_counter() - began)
                cpu.append(time.process_time() - worked)
        finally:
            server.stop()
    return wall[1:], cpu[1:], size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contributions", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--groups", type=int, nargs="+", default=[27])
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    print("| contributions | layer groups | ledger MiB | page KiB | ms, median (min-max) | CPU ms, median |")
    print("|---|---|---|---|---|---|")
    for groups in arguments.groups:
        for contributions in arguments.contributions:
            with TemporaryDirectory() as folder:
                path = Path(folder) / "ledger.sqlite"
                build(path, contributions, groups)
                wall, cpu, size = measured(path, arguments.repeats)
                print(_row(contributions, groups, path.stat().st_size, size, wall, cpu), flush=True)


def _row(contributions: int, groups: int, ledger: int, page: int, wall: list[float], cpu: list[float]) -> str:
    clock, work = ([1e3 * seconds for seconds in each] for each in (wall, cpu))
    told = f"{statistics.median(clock):.0f} ({min(clock):.0f}-{max(clock):.0f})"
    sizes = f"{ledger / 2**20:.0f} | {page / 1024:.0f}"
    return f"| {contributions:,} | {groups} | {sizes} | {told} | {statistics.median(work):.0f} |"


def _batches(facts: Iterator[Fact], size: int) -> Iterator[list[Fact]]:
    """In order; who leaves stays with the fact that restates the merge without it."""
    while batch := list(islice(facts, size)):
        while isinstance(batch[-1], Left):
            batch.append(next(facts))
        yield batch


if __name__ == "__main__":
    main()
