"""Samples into medians, ratios and a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from benchmarks.peers.contests import Contest
from benchmarks.peers.measured_process import Usage

Samples = Mapping[str, Sequence[Usage]]
"""Measured runs by entry label."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One target of one contest: our share of the peer's medians against what was promised."""

    contest: str
    peer: str
    cpu_ratio: float
    cpu_limit: float
    memory_ratio: float
    memory_limit: float

    @property
    def met(self) -> bool:
        return self.cpu_ratio <= self.cpu_limit and self.memory_ratio <= self.memory_limit


def verdicts(contests: Sequence[Contest], samples: Samples) -> list[Verdict]:
    """Every target for which both sides were measured."""
    found = []
    for contest in contests:
        ours = _ours(contest, samples)
        for target in contest.targets:
            if ours and target.peer in samples:
                cpu, memory = ratios(samples[ours], samples[target.peer])
                found.append(Verdict(contest.method, target.peer, cpu, target.cpu, memory, target.memory))
    return found


def ratios(ours: Sequence[Usage], theirs: Sequence[Usage]) -> tuple[float, float]:
    """Medians of CPU seconds and of peak RSS, ours over theirs."""
    cpu = median(u.cpu_seconds for u in ours) / median(u.cpu_seconds for u in theirs)
    return cpu, median(u.peak_rss_mib for u in ours) / median(u.peak_rss_mib for u in theirs)


def table(contests: Sequence[Contest], samples: Samples) -> str:
    """Markdown: one row per entry, and our share of every peer in the peer's row."""
    rows = [
        "| merge | CPU s, median (min-max) | wall s | peak RSS MiB | of it anon MiB | ours / it: CPU | RSS |",
        "|---|---|---|---|---|---|---|",
    ]
    for contest in contests:
        ours = _ours(contest, samples)
        for entry in contest.entries:
            if entry.label not in samples:
                continue
            runs = samples[entry.label]
            share = ("", "")
            if ours and entry.tool != "mergenode":
                cpu, memory = ratios(samples[ours], runs)
                share = (f"{cpu:.2f}", f"{memory:.2f}")
            cells = (entry.label, *(_spread(runs, name, digits) for name, digits in _COLUMNS), *share)
            rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def as_json(samples: Samples) -> dict[str, Any]:
    """Every run, so that other statistics can be made of them."""
    return {label: [asdict(usage) for usage in runs] for label, runs in samples.items()}


def _ours(contest: Contest, samples: Samples) -> str | None:
    """The entry of ours that is held against the others: the first one measured."""
    return next((e.label for e in contest.entries if e.tool == "mergenode" and e.label in samples), None)


_COLUMNS = (("cpu_seconds", 1), ("wall_seconds", 1), ("peak_rss_mib", 0), ("peak_anon_mib", 0))


def _spread(runs: Sequence[Usage], name: str, digits: int) -> str:
    values = [getattr(run, name) for run in runs]
    text = f"{median(values):.{digits}f}"
    return f"{text} ({min(values):.{digits}f}-{max(values):.{digits}f})" if len(set(values)) > 1 else text
