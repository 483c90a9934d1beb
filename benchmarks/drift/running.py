"""Plays one story on a real node process: push, scrape the fold while its version is held, then version and scores."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.drift.plan import Push
from benchmarks.drift.teams import Suite
from mergenode.adapters.observers.distance_instruments import FOLDS_BACK
from mergenode.demo.checkpoints import read_weights, write_full
from mergenode.demo.network import Weights
from mergenode.demo.node import NodeProcess
from mergenode.demo.scores import Examination
from mergenode.errors import FatalError
from mergenode.ledger.records import Folded

GATES = ("norm", "alignment", "sign_conflict", "top_share")
HOLD_SECONDS = 1.0
"""Stands for minutes, as a fold stands for hours: time for one scrape and one look at the rules."""


@dataclass(frozen=True, slots=True)
class Step:
    """After one push. ``scores``: of the version, per field.

    ``held``: every sample that a scrape saw when the fold was committed and no version held it, as Prometheus writes
    it; ``series``: the same with the version.
    """

    name: str
    kind: str
    version: int
    scores: dict[str, float]
    held: dict[str, float]
    series: dict[str, float]
    facts: dict[str, Any]
    moved: float | None = None
    """Distance from the version ten folds before, over the norm of the base, measured on the weights."""


def play(pushes: Sequence[Push], suite: Suite, folder: Path) -> list[Step]:
    """All pushes, one after another, with every gate on observe. ``folder`` is made and removed again."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "inbox").mkdir(parents=True)
    write_full(folder / "base", suite.base, suite.config)
    (folder / "node.yaml").write_text(json.dumps(_settings(folder)))
    examination, node = Examination(suite.digits, suite.config), NodeProcess(folder)
    steps, versions = [], [suite.base]
    try:
        node.start()
        url = next(word for word in node.log_since(0).split() if word.startswith("http://"))
        for push in pushes:
            hidden = write_full(folder / "inbox" / f".{push.name}", push.weights(), suite.config)
            hidden.rename(folder / "inbox" / push.name)
            fact = node.wait_outcome(push.name)
            if not isinstance(fact, Folded):
                raise FatalError(f"{push.name} was not folded but {fact.kind}: {fact}")
            held = _held(url, fact.generation, steps[-1].version if steps else 0)
            published = node.wait_version(fact.generation)
            versions = [*versions, read_weights(Path(published.path))][-FOLDS_BACK - 1 :]
            scores = examination.score(versions[-1])
            series = node.wait("show the version", lambda version=published.version: _shown(url, version))
            steps.append(
                Step(push.name, push.kind, published.version, scores, held, series, _told(fact),
                     _apart(suite, versions))
            )  # fmt: skip
    finally:
        node.close()
    shutil.rmtree(folder)
    return steps


def _apart(suite: Suite, versions: Sequence[Weights]) -> float | None:
    """Of the newest and the oldest, when there are ten folds between them and the oldest is no base."""
    if len(versions) <= FOLDS_BACK or versions[0] is suite.base:
        return None
    moved = sum(float((versions[-1][name] - versions[0][name]).double().square().sum()) for name in suite.base)
    return float((moved / sum(float(each.double().square().sum()) for each in suite.base.values())) ** 0.5)


def _told(fact: Folded) -> dict[str, Any]:
    return {"generation": fact.generation, "groups": list(fact.groups), "findings": list(fact.findings)}


def _held(url: str, generation: int, version: int) -> dict[str, float]:
    """What is shown of a fold before a version holds it. Raises FatalError: this machine was too slow to look."""
    found = _scrape(url)
    if found["mergenode_newest_fold_generation"] != generation or found["mergenode_version"] != version:
        raise FatalError(f"generation {generation} was published before it was scraped: raise HOLD_SECONDS")
    return found


def _shown(url: str, version: int) -> dict[str, float] | None:
    """All samples, once they are those of this version."""
    found = _scrape(url)
    return found if found["mergenode_version"] == version else None


def _scrape(url: str) -> dict[str, float]:
    """All samples, now."""
    found = {}
    for family in text_string_to_metric_families(httpx.get(f"{url}metrics").text):
        for sample in family.samples:
            labels = ",".join(f'{key}="{value}"' for key, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def _settings(folder: Path) -> dict[str, Any]:
    registry = {"url": "./inbox", "settle_seconds": 0, "settle_polls": 1, "poll_seconds": 0.2}
    return {
        "base": "./base",
        "registries": [registry],
        "method": {"name": "opcm", "alpha": 0.5},
        "publish": {"path": "./published", "keep": 3, "hold_seconds": HOLD_SECONDS},
        "http": {"listen": "127.0.0.1:0"},
        "engine": {"threads": 1},
        "gates": {name: {"action": "observe"} for name in GATES},
    }


def saved(steps: Sequence[Step], file: Path) -> None:
    """As JSON; it appears whole."""
    private = file.with_suffix(".new")
    private.write_text(json.dumps([asdict(step) for step in steps]) + "\n")
    private.rename(file)


def loaded(file: Path) -> list[Step]:
    """What ``saved`` wrote."""
    return [Step(**step) for step in json.loads(file.read_text())]
