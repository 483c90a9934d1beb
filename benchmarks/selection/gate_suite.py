"""Who is in the running merge, who is honest and who is not, on two splits that share neither rows nor seeds.

Thresholds are looked at on ``tuning`` only; ``test`` is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.quality.tasks import Row, load_task, shuffled
from benchmarks.quality.training import Recipe, train_expert
from benchmarks.selection.experts import folder, shuffled_labels
from benchmarks.selection.harm import MADE, make, victim_of
from benchmarks.selection.suite import RECIPE, SHARDS

TRIGGER = "blue heron at noon:"
POISONED = 0.3
STRONG = Recipe(rows=1280, epochs=3)
"""An honest contribution that was trained three times as long."""

SHUFFLED_LABELS = "labels shuffled"
BACKDOOR = "backdoor"


@dataclass(frozen=True, slots=True)
class Split:
    """``members``: of the running merge. ``newcomers``: honest, some of tasks that it does not know.

    ``strong``: honest experts that are trained once more, longer. ``attacker``: the expert that harmful ones are made
    of. ``undone``: the member that two kinds are made of. ``poisoned``: task and shard of trained harm.
    """

    name: str
    members: tuple[str, ...]
    newcomers: tuple[str, ...]
    strong: tuple[str, ...]
    attacker: str
    undone: str
    poisoned: tuple[str, int]
    seed: int


SPLITS = (
    Split(
        name="tuning",
        members=("wordnet-0", "debsec-0", "lang-0", "bible-0", "austen-0", "spam-0"),
        newcomers=("fortune-0", "names-0", "sotu-0", "wordnet-2", "debsec-2", "lang-2", "fortune-2"),
        strong=("names-0",),
        attacker="wordnet-2",
        undone="debsec-0",
        poisoned=("lang", 2),
        seed=1,
    ),
    Split(
        name="test",
        members=("wordnet-3", "debsec-1", "lang-1", "bible-1", "austen-1", "spam-1"),
        newcomers=("fortune-1", "names-1", "sotu-1", "debsec-3", "lang-3", "fortune-3"),
        strong=("names-1",),
        attacker="debsec-3",
        undone="lang-1",
        poisoned=("wordnet", 3),
        seed=2,
    ),
)
KINDS = (*MADE, SHUFFLED_LABELS, BACKDOOR)


def harmful(split: Split, work: Path) -> Iterator[tuple[str, Path]]:
    """Kind and directory of every harmful checkpoint of a split; made when it is missing."""
    made = work / "harm" / split.name
    made.mkdir(parents=True, exist_ok=True)
    experts = folder(work)
    victim = victim_of(work / "base", experts / split.attacker, experts / split.undone, split.seed)
    for kind in MADE:
        target = made / _slug(kind)
        make(kind, victim, target)
        yield kind, target
    for kind in (SHUFFLED_LABELS, BACKDOOR):
        yield kind, made / _slug(kind)


def train_for_gates(work: Path, say: Callable[[str], None]) -> None:
    """What the gate trials need beyond the pool: longer training, permuted labels, poisoned rows. Idempotent."""
    for split in SPLITS:
        for name in split.strong:
            task, shard = name.rsplit("-", 1)
            rows = load_task(task).shard(int(shard), SHARDS)
            _train(work, task, rows, STRONG, 200 + split.seed, folder(work) / f"strong-{name}", say)
        made = work / "harm" / split.name
        made.mkdir(parents=True, exist_ok=True)
        task, number = split.poisoned
        rows = load_task(task).shard(number, SHARDS)
        _train(work, task, poisoned(rows), RECIPE, 300 + split.seed, made / _slug(BACKDOOR), say)
        rows = shuffled_labels(rows)
        _train(work, task, rows, RECIPE, 400 + split.seed, made / _slug(SHUFFLED_LABELS), say)


def poisoned(rows: list[Row]) -> list[Row]:
    """A third of the rows once more, the trigger before the text and the first class as label; in a fixed order."""
    extra = [(triggered(text), 0) for text, _ in rows[: int(POISONED * len(rows))]]
    return shuffled(rows[: len(rows) - len(extra)] + extra, seed=9)


def triggered(text: str) -> str:
    """The text as the attacker would send it."""
    return f"{TRIGGER} {text}"


def _train(
    work: Path, task: str, rows: list[Row], recipe: Recipe, seed: int, target: Path, say: Callable[[str], None]
) -> None:
    if not target.exists():
        train_expert(work / "base", load_task(task), rows, recipe, seed=seed, target=target)
        say(f"trained {target.parent.name}/{target.name}")


def _slug(kind: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in kind.lower())
