"""Reading what no contribution can be blamed for: the base and the node's own statistics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mergenode.errors import FatalError, RejectedError, TransientError


@contextmanager
def reading_own(what: str) -> Iterator[None]:
    """Errors of reading ``what`` (the base, the statistics) as errors of the node.

    The same files stand behind every contribution: a failing read makes the whole node wait, so that none overtakes
    another, and a damaged file is the operator's affair, never a reason to refuse whoever came along.

    Raises:
        TransientError: with ``of_node`` set, for every transient error.
        FatalError: for every rejection.
    """
    try:
        yield
    except TransientError as error:
        raise TransientError(
            error.reason,
            f"{what}: {error.message}",
            hint=error.hint or f"Check the disk that holds the {what}; the work goes on where it stopped.",
            of_node=True,
        ) from error
    except RejectedError as error:
        raise FatalError(
            f"{what}: {error.message}",
            hint=f"The {what} cannot be used any more as the node knew it; restore it, then start the node again.",
        ) from error
