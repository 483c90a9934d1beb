"""What the loop does at every look besides deciding: nothing depends on it, so nothing of it is ever raised."""

from __future__ import annotations

from mergenode.daemon.contribute import Line
from mergenode.daemon.observation import Observation
from mergenode.errors import TransientError


def forget_interrupted_work(line: Line, seen: Observation) -> None:
    """Finished shards wait for their contribution or request; when it is nowhere in sight they only take space."""
    if seen.unreachable or any(listing.unsettled for listing in seen.listings.values()):
        return
    try:
        line.generations.discard()
        line.restater.clear()
    except TransientError as error:
        line.observer.message("warning", f"removed at the next chance: {error.message}", hint=error.hint)


def measure(line: Line) -> None:
    """How much of the disk is used, to whoever watches."""
    try:
        (statistics, free), (published, _) = line.generations.sizes(), line.publisher.sizes()
    except TransientError as error:
        line.observer.message("debug", f"sizes are not known: {error.message}")
    else:
        line.observer.sizes(statistics_bytes=statistics, published_bytes=published, disk_free_bytes=free)
