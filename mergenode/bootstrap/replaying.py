"""``mergenode verify --replay``, composed: what was done to the merge, done again and compared."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from mergenode.adapters.durable import remove_tree
from mergenode.adapters.engines.local.engine import LocalEngine
from mergenode.adapters.engines.local.restate import LocalRestater
from mergenode.adapters.store.generations import FolderGenerations
from mergenode.bootstrap.parts import engine_of
from mergenode.errors import MergenodeError
from mergenode.ledger.records import Admitted, Fact, Folded, Left, Member, Restated
from mergenode.ledger.restatement import REPLAYED, SUBTRACTED, Replay, Subtract, as_candidate
from mergenode.ports.ledger_store import LedgerReader
from mergenode.ports.observer import Observer
from mergenode.settings import Settings
from mergenode.types import Candidate, Digest, Head

REPLAY = ".replay"


def replay_everything(settings: Settings, reader: LedgerReader, observer: Observer) -> tuple[str, str]:
    """Fold, subtract and replay again from the base, in a scratch folder; what was checked, and what is wrong.

    One of the two is empty. Stops at the first difference. What came before a replay from the base is not done again:
    nothing of it is in the merge, and the files of what left then may be gone for good.
    """
    scratch = settings.node.state / REPLAY
    remove_tree(scratch)
    generations = FolderGenerations(scratch)
    generations.prepare()
    try:
        starts = {fact.start for _, fact in reader.history() if isinstance(fact, Restated) and fact.start}
        again = _Again(engine_of(settings, generations, observer), generations, observer, starts)
        anew = _last_from_base(reader)
        for sequence, fact in reader.history():
            if isinstance(fact, Admitted):
                return "replay: not possible, this merge was combined from the statistics of other nodes", ""
            if sequence < anew:
                again.pass_over(fact)
            elif problem := again.follow(fact):
                return "", f"replay: {problem}"
        return f"replay: {again.folds} contributions folded again from the base, same statistics", ""
    finally:
        remove_tree(scratch)


def _last_from_base(reader: LedgerReader) -> int:
    """Sequence number of the newest replay from the base, if no later one began before it; 0 when there is none."""
    found = generation = 0
    for sequence, fact in reader.history():
        if isinstance(fact, Restated) and fact.how == REPLAYED:
            if not fact.start:
                found, generation = sequence, fact.generation
            elif fact.start < generation:
                return 0  # from a snapshot that is older
    return found


@dataclass(slots=True)
class _Again:
    """The merge as it is made again. ``moments``: heads and members of the generations that replays began from."""

    engine: LocalEngine
    generations: FolderGenerations
    observer: Observer
    starts: set[int]
    head: Head = field(default_factory=Head)
    members: dict[Digest, Member] = field(default_factory=dict)
    leaving: list[Member] = field(default_factory=list)
    moments: dict[int, tuple[Head, int]] = field(default_factory=dict)
    folds: int = 0

    def follow(self, fact: Fact) -> str:
        """Do again what this fact tells; what differs, or an empty text."""
        problem = ""
        match fact:
            case Folded():
                problem = self._fold(fact)
                self.members[fact.content] = fact
            case Left():
                self.leaving.append(self.members.pop(fact.content))
            case Restated():
                problem = self._restate(fact)
                self.leaving.clear()
        if self.head.generation in self.starts:
            self.moments[self.head.generation] = (self.head, len(self.members))
        return problem

    def pass_over(self, fact: Fact) -> None:
        """Remember who is in the merge after this fact; its statistics are not needed."""
        match fact:
            case Folded():
                self.members[fact.content] = fact
            case Left():
                del self.members[fact.content]

    def _fold(self, fact: Folded) -> str:
        self.folds += 1
        if missing := self._missing([as_candidate(fact)], fact.generation):
            return missing
        try:
            result = self.engine.fold(as_candidate(fact), self.head, self.observer)
        except MergenodeError as error:
            return f"{fact.name}: {error.message}"
        if result.content != fact.content:
            return f"{fact.location} now holds {result.content}, not {fact.content}: replaced since"
        made = Head(fact.generation, fact.count, result.totals, result.statistics)
        return self._compare(made, fact.statistics)

    def _restate(self, fact: Restated) -> str:
        way = self._way(fact)
        candidates = way.removed if isinstance(way, Subtract) else way.folded
        if missing := self._missing(candidates, fact.generation):
            return missing
        restater = LocalRestater(self.engine)
        try:
            result = restater.restate(way, self.observer)
            restater.clear()
        except MergenodeError as error:
            return error.message
        self.folds += len(candidates)
        return self._compare(Head(fact.generation, fact.count, result.totals, result.statistics), fact.statistics)

    def _way(self, fact: Restated) -> Subtract | Replay:
        if fact.how == SUBTRACTED:
            return Subtract(self.head, tuple(as_candidate(member) for member in self.leaving))
        start, held = self.moments[fact.start] if fact.start else (Head(), 0)
        return Replay(start, tuple(as_candidate(member) for member in list(self.members.values())[held:]))

    def _missing(self, candidates: tuple[Candidate, ...] | list[Candidate], generation: int) -> str:
        for candidate in candidates:
            if not Path(candidate.location).exists():
                where = f"the replay ends before generation {generation}"
                return f"{candidate.name} is no longer at {candidate.location}; {where}"
        return ""

    def _compare(self, made: Head, recorded: Digest) -> str:
        if made.statistics != recorded:
            return f"generation {made.generation} comes out as {made.statistics}, not {recorded}"
        self.generations.install(made.generation)
        if self.head.generation and self.head.generation not in self.starts:
            remove_tree(self.generations.folder(self.head.generation))
        self.head = made
        return ""
