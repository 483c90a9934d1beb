"""``mergenode combine``, composed: two state directories in, a new one with a ledger of its own out."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mergenode.adapters.checkpoints.base_cache import base_of
from mergenode.adapters.checkpoints.limits import Limits
from mergenode.adapters.clock import SystemClock
from mergenode.adapters.durable import (
    disk_errors,
    remove_tree,
    rename_directory,
    sync_directory,
)
from mergenode.adapters.engines.local.combine import LocalCombiner
from mergenode.adapters.engines.local.engine import LocalEngine, Resources
from mergenode.adapters.store.generations import FolderGenerations
from mergenode.adapters.store.lock import StateLock
from mergenode.adapters.store.sqlite_ledger import SqliteLedger
from mergenode.bootstrap.combination_plan import plan_of
from mergenode.bootstrap.combination_sides import Outrun, read_side
from mergenode.bootstrap.combination_statistics import make_statistics
from mergenode.bootstrap.output_path import free_output
from mergenode.bootstrap.parts import BASE_CACHE, LEDGER
from mergenode.errors import FatalError, RejectedError, TransientError, TransientReason, UsageError
from mergenode.ledger.combination import Combination, facts_of
from mergenode.ledger.records import Fact, Initialised, Restated
from mergenode.ledger.restatement import COMBINED
from mergenode.methods.contract import Method
from mergenode.ports.observer import Observer
from mergenode.ports.restater import Restatement

SCRATCH = "combining"
"""Below the state that is being made; gone before its ledger appears."""

_MOST_STARTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class CombineRequest:
    """What the command line asks for: two state directories, the base both were made for, and a new directory."""

    states: tuple[Path, Path]
    base: Path
    output: Path
    resources: Resources


@dataclass(frozen=True, slots=True, kw_only=True)
class Combined:
    """What was made: the decision, the first and the last fact of the new ledger."""

    combination: Combination
    origin: Initialised
    restated: Restated


def combine_states(request: CombineRequest, observer: Observer) -> Combined:
    """Make the merge of two states, each contribution in it once, as the new state ``request.output``.

    The inputs are read only, also while nodes work on them: what counts is what was committed when this began.
    Durability: the output exists whole and synced, or not at all.

    Raises:
        UsageError: the output is taken, a state is none, or the two do not belong together.
        FatalError: what both hold cannot be told apart any more, damaged statistics, not enough disk or memory.
        TransientError: the disk is full or failing.
    """
    output = free_output(request.output)
    if os.path.realpath(request.states[0]) == os.path.realpath(request.states[1]):
        raise UsageError(f"{request.states[0]} is named twice", hint="Name the state directories of two nodes.")
    for state in request.states:
        if Path(os.path.realpath(output)).is_relative_to(os.path.realpath(state)):
            raise UsageError(
                f"{request.output} lies inside {state}, which is only read",
                hint="Choose an --output outside of both states.",
            )
    for _ in range(_MOST_STARTS):
        try:
            return _attempt(request, output, observer)
        except Outrun as outrun:
            observer.message("warning", f"{outrun.state} went on while it was read: reading it again")
    raise TransientError(
        TransientReason.CHANGED_WHILE_READING,
        f"the nodes fold faster than their states can be read ({_MOST_STARTS} attempts)",
        hint="Put --output on the file system of both states, or stop the nodes meanwhile.",
    )


def _attempt(request: CombineRequest, output: Path, observer: Observer) -> Combined:
    clock = SystemClock()
    started, now = clock.monotonic(), clock.now()
    sides = (read_side(request.states[0], now), read_side(request.states[1], now))
    method, plan, leaving = plan_of(request.states, sides)
    origin = replace(sides[0].origin, time=now, ledger_id=secrets.token_hex(16))
    staging = output.parent / f".{output.name}.combining"
    with disk_errors(output.parent), StateLock(staging):
        try:
            _clear(staging)
            engine = _engine(request, origin, method, staging, observer)
            combiner = LocalCombiner(engine, staging / SCRATCH)
            done = make_statistics(request.states, plan, leaving, combiner, observer)
            restated = _restated(plan, done, clock.now(), clock.monotonic() - started)
            remove_tree(combiner.scratch)
            _write_ledger(staging, (origin, *facts_of(plan), restated))
            rename_directory(staging, output)
        finally:
            remove_tree(staging)
    return Combined(combination=plan, origin=origin, restated=restated)


def _clear(staging: Path) -> None:
    """Remove what a killed attempt left. The lock is ours."""
    for entry in staging.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            remove_tree(entry)
        elif entry.name != "lock":
            entry.unlink()


def _restated(plan: Combination, done: Restatement, time: str, seconds: float) -> Restated:
    return Restated(
        time=time,
        generation=1,
        count=len(plan.admitted),
        totals=done.totals,
        statistics=done.statistics,
        lineage=plan.lineage,
        how=COMBINED,
        seconds=seconds,
        bytes_read=done.bytes_read,
        bytes_written=done.bytes_written,
    )


def _write_ledger(staging: Path, facts: Sequence[Fact]) -> None:
    """The last file: it is what makes a directory a state. Durable on return."""
    sync_directory(staging)
    ledger = SqliteLedger(staging / LEDGER)
    try:
        ledger.append(*facts)
    finally:
        ledger.close()
    sync_directory(staging)


def _engine(
    request: CombineRequest, origin: Initialised, method: Method, staging: Path, observer: Observer
) -> LocalEngine:
    """An engine on the new state. Raises UsageError when the base is not the one that the states were made for."""
    generations = FolderGenerations(staging)
    generations.prepare()
    try:
        base = base_of(request.base, cache=staging / BASE_CACHE, limits=Limits(), observer=observer)
    except RejectedError as error:
        raise FatalError(f"base {request.base}: {error.message}", hint=error.hint) from error
    if base.digest != origin.base:
        raise UsageError(
            f"{request.base} has digest {base.digest}, but the states were made for {origin.base}",
            hint="Name the base of the two nodes; `mergenode status` shows its digest.",
        )
    return LocalEngine(
        base_path=request.base,
        base=base,
        method=method,
        folding=generations.folding,
        generations=generations.statistics,
        resources=replace(request.resources, limit_name="--memory-limit", exclude_name=""),  # options are given
    )
