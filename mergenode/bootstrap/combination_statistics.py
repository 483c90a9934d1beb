"""The statistics of a combined state, from those of two states whose nodes may be at work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mergenode.adapters.durable import free_bytes, tree_bytes
from mergenode.adapters.engines.local.combine import LocalCombiner, Part, linked
from mergenode.adapters.store.generations import FolderGenerations
from mergenode.bootstrap.combination_sides import Outrun, moved_on
from mergenode.errors import FatalError, MergenodeError
from mergenode.ledger.combination import Combination
from mergenode.ports.observer import Observer
from mergenode.ports.restater import Restatement
from mergenode.types import Candidate, Head

_MARGIN_BYTES = 16 << 20


def make_statistics(
    states: tuple[Path, Path], plan: Combination, leaving: tuple[Candidate, ...], combiner: LocalCombiner,
    observer: Observer,
) -> Restatement:  # fmt: skip
    """Write generation 1 of the state that the combiner's engine works on.

    ``leaving``: what leaves the side ``plan.reduced`` first. Durability: synced on return.

    Raises:
        Outrun: a node retired the statistics that were being read.
        FatalError: statistics are damaged or missing, files were replaced, not enough disk or memory.
    """
    target = combiner.engine.generation_folder(1)
    wanted = [0, 1] if plan.taken is None else [plan.taken]
    in_place: list[int] = []
    try:
        parts: dict[int, Part] = {}
        for number in wanted:
            parts[number], pinned = _pinned(states[number], plan.sides[number].head, combiner.scratch / f"{number}")
            if not pinned:
                in_place.append(number)
        if plan.taken is not None:
            return combiner.take_over(parts[plan.taken], target, observer)
        _refuse_small_disk(parts, combiner.scratch, plan)
        if plan.reduced is not None:
            parts[plan.reduced] = _reduced(plan, leaving, parts[plan.reduced], combiner, observer)
        return combiner.add((parts[0], parts[1]), target, observer)
    except MergenodeError as error:
        for number in in_place:
            if moved_on(states[number], plan.sides[number].head):
                raise Outrun(states[number]) from error
        raise


def _pinned(state: Path, head: Head, scratch: Path) -> tuple[Part, bool]:
    """The committed generation of a state under a second name, so that its node may retire it meanwhile.

    Where the file system cannot do that it is read in place (False), and has to be read again when it is retired.
    """
    folder = FolderGenerations(state).folder(head.generation)
    try:
        held = linked(folder, scratch / folder.name)
        if folder.is_dir():  # so it was there all the time, and every file of it was seen
            return Part(scratch / folder.name if held else folder, head, origin=folder), held
    except FileNotFoundError:
        pass  # retired while it was linked, or missing from the start
    if moved_on(state, head):
        raise Outrun(state)
    raise FatalError(
        f"{folder}: the statistics of generation {head.generation}, which the ledger names, are missing",
        hint="Restore that state directory from a backup.",
    )


def _reduced(
    plan: Combination, leaving: tuple[Candidate, ...], part: Part, combiner: LocalCombiner, observer: Observer
) -> Part:
    """The part without what the other one holds as well, or with totals that do not count it where it may stay."""
    totals, withdraw = part.head.totals, combiner.engine.method.withdraw
    for member in plan.overlapping:
        assert withdraw is not None  # it goes with ``idempotent``
        totals = withdraw(totals, {"delta_sq": member.norm**2}, member.weight)
    part = replace(part, head=replace(part.head, totals=totals))
    return combiner.without(part, leaving, observer) if leaving else part


def _refuse_small_disk(parts: dict[int, Part], scratch: Path, plan: Combination) -> None:
    sizes = {number: tree_bytes(part.folder) for number, part in parts.items()}
    needed = sum(sizes.values()) + (sizes[plan.reduced] if plan.leaving and plan.reduced is not None else 0)
    free = free_bytes(scratch)
    if needed + _MARGIN_BYTES > free:
        raise FatalError(
            f"{scratch.parent.parent}: the combination may need {needed / 1e9:.2f} GB of disk, {free / 1e9:.2f} GB "
            "are free",
            hint="Free space there or choose another --output; nothing was written.",
        )
