"""A node with a life behind it, for those who look at its page: facts and signs of life, the same every time."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from mergenode.adapters.http.live import LiveStatus
from mergenode.ledger.records import Fact, Initialised, Mixed, Pruned
from mergenode.ports.observer import Progress
from mergenode.types import Listing, Unsettled
from tests.support import facts
from tests.support.observed import HandClock

END = "2026-11-30T09:12:00Z"
"""When the page of these stories is looked at."""
TEAMS = ("chat", "code-review", "legal-qa", "translate-de", "radiology", "search-rank", "summaries", "sql-agent")
TASKS = {"chat": 0.71, "code": 0.63, "legal": 0.68, "german": 0.74}
_KEPT_VERSIONS = 6


class StoryClock(HandClock):
    """Stands at the end of the story."""

    def now(self) -> str:
        return END


def layer_names(count: int) -> list[str]:
    """Layer groups of a model with that many of them in all."""
    return ["model.embed_tokens", *(f"model.layers.{layer}" for layer in range(count - 3)), "model.norm", "lm_head"]


def story(contributions: int, groups: int = 27, *, kept_versions: int = _KEPT_VERSIONS) -> Iterator[Fact]:
    """The facts of a node that folded so many contributions: each published; now and then something goes wrong.

    A contribution in eleven points against the merge in some layers, one in fifty is far too large, one in thirteen
    is rejected, one is retracted near the end. Two wait in quarantine.
    """
    draw = random.Random(7)
    names = layer_names(groups)
    yield Initialised(time=_time(contributions + 2, contributions), ledger_id="a1", base=facts.digest(0), method="opcm",
                      options={"alpha": 0.5, "variant": "full"})  # fmt: skip
    energy, generation, count = dict.fromkeys(names, 0.0), 0, 0
    for number in range(1, contributions + 1):
        time = _time(contributions - number, contributions)
        name = f"{TEAMS[number % len(TEAMS)]}-{1 + number // len(TEAMS)}"
        named = {"name": name, "registry": "team-inbox", "revision": f"r{number}", "time": time}
        if number % 13 == 5:
            yield facts.rejected(number, **_rejection(number) | named | {"name": f"{name}-first-try"})
        generation, count = generation + 1, count + 1
        reports = _reports(draw, names, energy, number)
        yield facts.folded(
            number, **named, generation=generation, count=count, groups=tuple(reports), seconds=41.0 + draw.random(),
            norm=reports[0]["delta_norm"], relative_norm=reports[0]["delta_norm"] / reports[0]["base_norm"],
            weighing=_scores(number) if number % 3 == 0 else {},
            warnings=("norm is 6.1 times the median of the merge",) if number % 51 == 9 else (),
        )  # fmt: skip
        if number == contributions - 3 and contributions > 10:
            gone = number - 2
            generation, count = generation + 1, count - 1
            yield facts.retracted(gone, why="license of the data withdrawn", time=time, registry="team-inbox",
                                  name=f"{TEAMS[gone % len(TEAMS)]}-{1 + gone // len(TEAMS)}")  # fmt: skip
            yield facts.restated(generation, count, time=time)
        yield facts.published(number, generation=generation, time=time, path=f"/srv/published/v{number:06d}",
                              scale={"used": 1.0, "update_norm": reports[0]["merge_norm"]})  # fmt: skip
        if number > kept_versions:
            yield Pruned(time=time, versions=(number - kept_versions,))
    for number, ratio in ((90_001, 23.4), (90_002, 8.7)):
        yield facts.quarantined(
            number, name=f"ads-ranking-{number % 10}", registry="team-inbox", time=_time(0, contributions),
            message=f"norm is {ratio} times the median of the merge (limit 5)",
            hint="Release it if its rate was raised on purpose; else ask its team for an earlier checkpoint.",
        )  # fmt: skip


def rounds(number: int) -> Iterator[Mixed]:
    """Rounds with three neighbours whose models come closer."""
    draw = random.Random(3)
    for each in range(number):
        spread = 4.0 * math.exp(-each / 8) + 0.6 + 0.2 * draw.random()
        node = f"{each % 3:08d}-0000-0000-0000-00000000000b"
        yield Mixed(
            time=_time(number - each, number), number=each, epoch=each + 4, root="ab" * 32, content=facts.digest(each),
            own_weight=0.25,
            parents=tuple({"node": node, "weight": 0.25, "distance": spread, "epoch": each} for _ in "abc"),
            missing=1 if each % 9 == 4 else 0, spread=spread, update=1.1 + draw.random(), kept_own=each % 11 == 7,
            scores={"mixed": {"chat": 0.6 + 0.004 * each}, "own": {"chat": 0.58 + 0.004 * each}},
            seconds={"train": 61.0, "collect": 9.0, "mix": 4.0},
        )  # fmt: skip


def lively(live: LiveStatus) -> None:
    """A node that folds, waits for one upload, and has a full disk in sight."""
    live.state_loaded()
    live.listed("team-inbox", Listing(unsettled=(Unsettled(
        "team-inbox", "legal-qa-next", "model-00002-of-00003.safetensors is missing", 41.0),)), 3)  # fmt: skip
    live.listed("pushes", Listing(), 1)
    live.sizes(statistics_bytes=28 << 30, published_bytes=84 << 30, disk_free_bytes=212 << 30)
    live.progress(Progress("fold", "summaries-9", 0, 291, 0, 14 << 30))
    clock = live._clock
    assert isinstance(clock, HandClock)
    clock.advance(19)
    live.progress(Progress("fold", "summaries-9", 121, 291, 6 << 30, 14 << 30))
    live.heartbeat()


def _time(back: int, of: int) -> str:
    """``back`` contributions before the end, which come faster and faster."""
    end = datetime(2026, 11, 30, 9, 1, tzinfo=UTC)
    return (end - timedelta(minutes=back * (31 + 200 * back / max(of, 1)))).strftime("%Y-%m-%dT%H:%M:%SZ")


def _reports(draw: random.Random, names: list[str], energy: dict[str, float], number: int) -> list[dict[str, Any]]:
    hijacks, huge = number % 11 == 6, number % 51 == 9
    reports, totals = [], {"delta": 0.0, "kept": 0.0, "merge": 0.0, "base": 0.0, "dot": 0.0, "before": 0.0}
    for place, name in enumerate(names):
        depth = place / len(names)
        base = 40.0 + 25.0 * (name in ("model.embed_tokens", "lm_head")) if name != "model.norm" else 1.5
        delta = base * 0.006 * (0.5 + depth) * draw.uniform(0.6, 1.6) * (7.0 if huge else 1.0)
        target = hijacks and 0.35 < depth < 0.6
        share = max(0.04, (0.97 - 0.33 * depth) * draw.uniform(0.85, 1.0) / (1 + 0.004 * min(number, 120)))
        share *= 0.22 if target else 1.0
        cosine = -draw.uniform(0.2, 0.6) if target else draw.gauss(0.02, 0.035)
        before = math.sqrt(energy[name])
        energy[name] = 0.94 * energy[name] + (share * delta) ** 2
        merge = math.sqrt(energy[name])
        for key, value in (("delta", delta**2), ("kept", (share * delta) ** 2), ("merge", merge**2), ("base", base**2),
                           ("dot", cosine * delta * before), ("before", before**2)):  # fmt: skip
            totals[key] += value
        reports.append(_report(name, delta, share * delta, merge, base, cosine if before else None))
    root = {key: math.sqrt(abs(value)) for key, value in totals.items()}
    cosine = totals["dot"] / (root["delta"] * root["before"]) if root["before"] else None
    return [_report("*", root["delta"], root["kept"], root["merge"], root["base"], cosine), *reports]


def _report(name: str, delta: float, kept: float, merge: float, base: float, cosine: float | None) -> dict[str, Any]:
    return {
        "group": name, "parameters": 1_000_000, "delta_norm": delta, "kept_norm": kept, "merge_norm": merge,
        "base_norm": base, "cosine": cosine, "share_kept": kept / delta, "effective_rank": 17.5, "capacity_taken": 0.4,
    }  # fmt: skip


def _scores(number: int) -> dict[str, Any]:
    draw = random.Random(number)
    fall = 0.05 if number % 11 == 6 else 0.0
    return {"tasks": {
        task: {"before": start, "after": start + 0.18 * (1 - math.exp(-number / 25)) + draw.uniform(-0.01, 0.01) - fall}
        for task, start in TASKS.items()
    }}  # fmt: skip


def _rejection(number: int) -> dict[str, Any]:
    kinds = (
        ("shape_mismatch", "lm_head.weight is 32001x4096, the base has 32000x4096",
         "Push a fine-tune of this base; the tokenizer was extended."),
        ("not_finite", "model.layers.11.mlp.up_proj.weight: NaN in 3 of 16777216 values",
         "The run diverged: push an earlier checkpoint."),
    )  # fmt: skip
    reason, message, hint = kinds[number // 13 % 2]
    return {"reason": reason, "message": message, "hint": hint}
