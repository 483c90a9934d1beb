"""Who looks at a finished fold before it is committed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from mergenode.types import Candidate, FoldResult, Head

OBSERVE, QUARANTINE, REJECT = "observe", "quarantine", "reject"
"""What follows from a verdict, the mildest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One gate has something against a contribution. ``action``: OBSERVE, QUARANTINE or REJECT.

    ``reason``: its code. ``message``: what, where and how much; ``hint``: what to do next. ``numbers``: what was
    compared, by bounded names.
    """

    gate: str
    action: str
    reason: str
    message: str
    hint: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)


class Gatekeeper(Protocol):
    """Asked after a fold and before its commit, while the fold lies durable in the folding folder. Decides nothing."""

    def judge(self, candidate: Candidate, head: Head, result: FoldResult) -> tuple[Verdict, ...]:
        """What gates have against this contribution; empty: nothing.

        ``head``: the committed merge, without it. ``result``: what its fold found out.

        Durability: nothing but scratch files, removed at the next start. Idempotence: asked again after a kill it
        says the same, as long as its settings and the task plug-in do.

        Raises:
            TransientError: it cannot be judged now (TASK_FAILED: the plug-in failed); try again later.
            FatalError: the operator has to act.
        """
        ...


class _Open:
    def judge(self, candidate: Candidate, head: Head, result: FoldResult) -> tuple[Verdict, ...]:
        return ()


OPEN: Gatekeeper = _Open()
"""There are no gates."""
