"""``mergenode verify``, composed: the chain, the digests, and on request the whole merge once more."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from mergenode.adapters.engines.local.check import check_generation, check_version
from mergenode.adapters.store.generations import FolderGenerations
from mergenode.adapters.store.sqlite_ledger import open_reader
from mergenode.bootstrap.parts import LEDGER
from mergenode.bootstrap.replaying import replay_everything
from mergenode.bootstrap.union import union_state
from mergenode.ports.ledger_store import LedgerReader
from mergenode.ports.observer import Observer, Progress
from mergenode.settings import Settings


@dataclass(slots=True)
class Verification:
    """What was checked and what is wrong, one sentence each."""

    checked: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def verify(settings: Settings, observer: Observer, *, replay: bool = False) -> Verification:
    """Check ledger, statistics and versions; with ``replay`` fold everything again from the base and compare.

    Reads only, except for a scratch folder in the state directory while replaying. Works while the node runs: what
    retention or a newer fold removed meanwhile is not a problem.

    Raises:
        FatalError: there is no ledger, or the base cannot be read.
    """
    state = settings.node.state
    found = Verification()
    reader = open_reader(state / LEDGER)
    try:
        found.problems += reader.verify()
        counts = reader.counts()
        found.checked.append(f"ledger: {sum(counts.values())} facts, chain and transitions")
        _statistics(state, reader, observer, found)
        _versions(settings, reader, observer, found)
        if (union_state(settings) / LEDGER).is_file():
            _union(settings, observer, found)
        if replay:
            sentence, problem = replay_everything(settings, reader, observer)
            found.checked += [sentence] if sentence else []
            found.problems += [problem] if problem else []
    finally:
        reader.close()
    return found


def _statistics(state: Path, reader: LedgerReader, observer: Observer, found: Verification) -> None:
    head = reader.head()
    if not head.generation:
        return
    folder = FolderGenerations(state).folder(head.generation)
    problems = list(check_generation(folder, head.statistics, _Told(observer, f"generation {head.generation}")))
    if problems and reader.head().generation != head.generation:
        _statistics(state, reader, observer, found)  # a newer fold replaced it meanwhile
        return
    found.problems += problems
    found.checked.append(f"statistics: generation {head.generation}, every tensor")


def _union(settings: Settings, observer: Observer, found: Verification) -> None:
    """The second ledger of a node of a union: what it added up and published."""
    with closing(open_reader(union_state(settings) / LEDGER)) as reader:
        found.problems += [f"union: {problem}" for problem in reader.verify()]
        found.checked.append(f"ledger of the union: {sum(reader.counts().values())} facts, chain and transitions")
        _statistics(union_state(settings), reader, observer, found)
        _versions(settings, reader, observer, found)


def _versions(settings: Settings, reader: LedgerReader, observer: Observer, found: Verification) -> None:
    for fact in reader.versions():
        folder = settings.publish.path / f"v{fact.version:06d}"
        problems = list(check_version(folder, fact.digest, _Told(observer, folder.name)))
        if problems and fact.version not in {kept.version for kept in reader.versions()}:
            continue  # pruned meanwhile
        found.problems += problems
        found.checked.append(f"version {fact.version}: manifest and every tensor")


class _Told:
    """Bytes read so far, told to the observer."""

    def __init__(self, observer: Observer, subject: str) -> None:
        self._observer, self._subject, self._done = observer, subject, 0

    def __call__(self, name: str, nbytes: int) -> None:
        self._done += nbytes
        self._observer.progress(Progress("verify", self._subject, 0, 0, self._done, 0))
