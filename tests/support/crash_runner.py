"""A process that has everything imported and forks one child per job: one JSON line in, one JSON line out.

Run as ``python -m tests.support.crash_runner`` from the repository root. The child is the real node (or the real
one-shot merge) with taps below it; it ends by itself, or by SIGKILL at the operation that the job names.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mergenode.adapters.clock import SystemClock
from mergenode.adapters.engines.local import shards
from mergenode.adapters.engines.local.engine import Resources
from mergenode.adapters.observers.fan_out import FanOut
from mergenode.adapters.observers.log import configure_logging
from mergenode.bootstrap.combination import CombineRequest, combine_states
from mergenode.bootstrap.node import run_node
from mergenode.bootstrap.one_shot import MergeRequest, merge_once
from mergenode.bootstrap.verification import verify
from mergenode.daemon.lifecycle import Lifecycle
from mergenode.errors import MergenodeError
from mergenode.settings import load_settings
from tests.support import crash_swaps, crash_taps
from tests.support.crash_world import REGISTRIES, SHARD_BYTES, make_site, make_world

CHILD_SECONDS = 60.0
MOST_WAITS = 300

DONE, INCOMPLETE, REFUSED, DEFECT, ENDLESS = 0, 1, 2, 70, 71


def wait_without_waiting() -> None:
    """Waiting moves both clocks on instead of taking time; a node that waits for ever is ended."""
    skipped = [0.0, 0]
    monotonic, unix = time.monotonic, time.time

    def wait(_self: Lifecycle, seconds: float) -> bool:
        skipped[0] += seconds
        skipped[1] += 1
        if skipped[1] > MOST_WAITS:
            os._exit(ENDLESS)
        return False

    Lifecycle.wait = wait  # type: ignore[method-assign]  # the point of this function
    SystemClock.monotonic = lambda _self: monotonic() + skipped[0]  # type: ignore[method-assign]  # as above
    SystemClock.unix = lambda _self: unix() + skipped[0]  # type: ignore[method-assign]  # as above


def do_run(job: dict[str, Any], found: dict[str, Any]) -> int:
    settings = load_settings(Path(job["site"]) / "node.yaml")
    stop = run_node(settings, once=True)
    found["why"] = stop.why
    return DONE if stop.complete else INCOMPLETE


def do_verify(job: dict[str, Any], found: dict[str, Any]) -> int:
    settings = load_settings(Path(job["site"]) / "node.yaml")
    found["problems"] = verify(settings, FanOut([]), replay=bool(job.get("replay"))).problems
    return DONE


def do_merge(job: dict[str, Any], found: dict[str, Any]) -> int:
    request = MergeRequest(
        base=Path(job["base"]),
        output=Path(job["output"]),
        models=[(Path(path), 1.0) for path in job["models"]],
        method=job["method"],
        options={},
        dtype=None,
        resources=Resources(memory_limit=2 << 30, threads=1, device="cpu"),
        max_relative_norm=0.95,
    )
    found["count"] = merge_once(request, FanOut([]))["count"]
    return DONE


def do_combine(job: dict[str, Any], found: dict[str, Any]) -> int:
    request = CombineRequest(
        states=(Path(job["states"][0]), Path(job["states"][1])),
        base=Path(job["base"]),
        output=Path(job["output"]),
        resources=Resources(memory_limit=2 << 30, threads=1, device="cpu"),
    )
    found["statistics"] = combine_states(request, FanOut([])).restated.statistics
    return DONE


ACTIONS: dict[str, Callable[[dict[str, Any], dict[str, Any]], int]] = {
    "run": do_run,
    "verify": do_verify,
    "merge": do_merge,
    "combine": do_combine,
}


def child(job: dict[str, Any], report: int) -> int:
    """Never returns to the runner: the caller ends the process with the returned code."""
    site = Path(job["site"])

    def tell(**facts: object) -> None:
        os.write(report, json.dumps(facts).encode() + b"\n")

    log = Path(job.get("log") or site / "log").open("a", buffering=1)  # noqa: SIM115 - open until the child ends
    configure_logging("json", "debug", log)
    wait_without_waiting()
    shards.SHARD_BYTES = SHARD_BYTES
    for swap in job.get("swaps", ()):
        crash_swaps.SWAPS[swap]()
    plan = crash_taps.Plan(**{**job.get("plan", {}), "fail": frozenset(job.get("plan", {}).get("fail", ()))})
    roots = crash_taps.roots_of((site, ""), *((Path(path), short) for path, short in job.get("roots", {}).items()))
    tap = crash_taps.Tap(roots, plan, lambda label: tell(killed=label))
    crash_taps.install(tap)
    found: dict[str, Any] = {}
    try:
        code = DONE
        for action in job["actions"]:
            code = code or ACTIONS[action](job, found)
    except MergenodeError as error:
        code = REFUSED
        found.update(error=type(error).__name__, message=error.message, hint=error.hint)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the test has to hear of it
        code = DEFECT
        found.update(error=type(error).__name__, message=repr(error))
    tell(exit=code, ops=tap.log, reads=tap.read_log, fired=tap.fired, **found)
    return code


def perform(job: dict[str, Any]) -> dict[str, Any]:
    """Fork, collect what the child tells, wait for its end; a child that takes too long is killed."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = DEFECT
        try:
            os.close(reading)
            code = child(job, writing)
        finally:
            os._exit(code)
    os.close(writing)
    told, deadline, late = b"", time.monotonic() + CHILD_SECONDS, False
    while True:
        ready, _, _ = select.select([reading], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            late = True
            os.kill(pid, signal.SIGKILL)
            continue
        part = os.read(reading, 1 << 16)
        if not part:
            break
        told += part
    os.close(reading)
    _, status = os.waitpid(pid, 0)
    answer: dict[str, Any] = {"status": os.waitstatus_to_exitcode(status), "late": late}
    for line in told.splitlines():
        answer.update(json.loads(line))
    return answer


def warm() -> None:
    """One undisturbed run here, so that no child pays for imports and first calls."""
    with tempfile.TemporaryDirectory() as scratch:
        site = make_site(Path(scratch) / "site", make_world(Path(scratch) / "world"), REGISTRIES)
        with (site.root / "log").open("w") as log:
            configure_logging("json", "debug", log)
            do_run({"site": str(site.root)}, {})
            do_verify({"site": str(site.root)}, {})
    gc.collect()
    gc.freeze()  # children share what is here: a collection would copy it page by page


def main() -> None:
    warm()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    for line in sys.stdin:
        answers.write(json.dumps(perform(json.loads(line))) + "\n")


if __name__ == "__main__":
    main()
