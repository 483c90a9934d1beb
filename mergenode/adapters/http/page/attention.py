"""What an operator should look at, in the order of urgency, each with what to do next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mergenode.adapters.http.live import Live, RegistryState
from mergenode.adapters.http.page.markup import size
from mergenode.adapters.http.page.recent import Recent
from mergenode.adapters.http.page.wording import age
from mergenode.adapters.http.probes import liveness, readiness

BAD, LOOK = "bad", "look"
DAY = 86400.0


@dataclass(frozen=True, slots=True)
class Matter:
    """``level``: ``bad``: something does not work; ``look``: somebody has to decide or know."""

    level: str
    what: str
    next: str
    anchor: str = ""


def matters(recent: Recent, live: Live, peers: Mapping[str, Any] | None, stalled_after_seconds: float) -> list[Matter]:
    """Everything that is not well; empty when all is."""
    found = [*_probes(live, stalled_after_seconds), *_retry(live), *_registries(live.registries), *_disk(live),
             *_contributions(recent, live), *_rounds(recent), *_peers(peers)]  # fmt: skip
    return sorted(found, key=lambda matter: matter.level != BAD)


def headline(found: Sequence[Matter], live: Live) -> tuple[str, str]:
    """The look and the words of the first line of the page."""
    if live.draining:
        return LOOK, "Stopping"
    if any(matter.level == BAD for matter in found):
        return BAD, "Something is wrong"
    if not live.loaded:
        return LOOK, "Starting"
    if found:
        return LOOK, "Working; 1 thing to look at" if len(found) == 1 else f"Working; {len(found)} things to look at"
    return "good", "All is well"


def _probes(live: Live, stalled_after_seconds: float) -> Iterator[Matter]:
    for check in liveness(live, stalled_after_seconds).checks:
        if not check.ok:
            yield Matter(BAD, check.detail, "Look at the last lines of the log; then restart the node: it resumes.")
    if live.loaded and not live.draining:
        failing = {f"registry {state.name}" for state in live.registries if state.error}
        for check in readiness(live).checks:
            if not check.ok and check.name not in failing:
                yield Matter(LOOK, check.detail, "It was asked; if this stays, check that its directory is there.",
                             "queue")  # fmt: skip


def _retry(live: Live) -> Iterator[Matter]:
    if live.retry is None:
        return
    retry = live.retry
    yield Matter(
        BAD if retry.reason in ("disk_full", "write_failed") else LOOK,
        f"{retry.subject} is tried again after {retry.delay_seconds:.0f} s: {retry.message}",
        retry.hint or f"Nothing is lost. docs/outcomes.md has {retry.reason}; the log has every attempt.",
    )


def _registries(registries: Iterable[RegistryState]) -> Iterator[Matter]:
    for state in registries:
        if state.error:
            yield Matter(BAD, f"registry {state.name}: {state.error}",
                         "Check that its directory is mounted and readable by the user of the node; it is asked again.",
                         "queue")  # fmt: skip


def _disk(live: Live) -> Iterator[Matter]:
    disk = live.disk
    if disk is not None and disk.statistics_bytes and disk.free_bytes < 2 * disk.statistics_bytes:
        yield Matter(
            LOOK, f"{size(disk.free_bytes)} free; the statistics alone have {size(disk.statistics_bytes)}",
            "Make room, lower publish.keep or snapshots.keep; mergenode plan says what the node needs.",
        )  # fmt: skip


def _contributions(recent: Recent, live: Live) -> Iterator[Matter]:
    if recent.in_quarantine:
        count = "1 contribution is" if recent.in_quarantine == 1 else f"{recent.in_quarantine} contributions are"
        yield Matter(LOOK, f"{count} in quarantine", "Release or drop: mergenode quarantine list.", "quarantine")
    lately = [fact for fact in recent.rejected if _within_a_day(fact.time, live.time)]
    if lately:
        last = lately[-1]
        count = "1 contribution was" if len(lately) == 1 else f"{len(lately)} contributions were"
        yield Matter(LOOK, f"{count} rejected within a day, last {last.name}: {last.reason}",
                     last.hint or f"docs/outcomes.md has {last.reason}.", "problems")  # fmt: skip


def _rounds(recent: Recent) -> Iterator[Matter]:
    if recent.rounds and (failed := recent.rounds[-1].training_failed):
        yield Matter(LOOK, f"the training of the newest round failed: {failed}",
                     "Look at the log of the task; mergenode task check tries it.", "peers")  # fmt: skip


def _peers(peers: Mapping[str, Any] | None) -> Iterator[Matter]:
    if peers is None:
        return
    away = [peer for peer in peers["peers"] if peer["neighbour"] and peer["state"] in ("suspect", "down")]
    if away:
        names = ", ".join(f"{peer['address'] or peer['node_id'][:8]} ({peer['state']})" for peer in away[:4])
        all_of_them = sum(1 for peer in peers["peers"] if peer["neighbour"])
        yield Matter(
            LOOK, f"{len(away)} of {all_of_them} neighbours do not answer: {names}",
            "This node goes on with the others. Check those nodes and the line.", "peers",
        )  # fmt: skip
    if peers["bans"]:
        count = len(peers["bans"])
        yield Matter(LOOK, f"{count} node is not listened to" if count == 1 else f"{count} nodes are not listened to",
                     "mergenode peers says why.", "peers")  # fmt: skip


def _within_a_day(time: str, now: str) -> bool:
    seconds = age(time, now)
    return seconds is not None and seconds < DAY
