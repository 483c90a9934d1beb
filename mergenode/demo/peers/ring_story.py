"""Five real nodes train and mix; one is killed and comes back, two are cut off and come back. Nothing is staged."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from mergenode.demo.peers.nodes import Fleet, Member
from mergenode.demo.peers.results import Event, PeersResults
from mergenode.demo.peers.watching import Mixing, mixings
from mergenode.demo.report import Report

CELL = 9
POLL_SECONDS = 0.25
PATIENCE_SECONDS = 240.0
"""For one epoch of all nodes: some machines are busy."""


@dataclass(frozen=True, slots=True)
class Script:
    """Rounds of every node that takes part: before the kill, while ``victim`` is away, once it is back, while
    ``island`` is cut off, after that. ``victim`` and ``island`` are places in the fleet."""

    before: int = 3
    away: int = 2
    back: int = 2
    apart: int = 3
    after: int = 3
    victim: int = 3
    island: tuple[int, ...] = (3, 4)


class RingStory:
    """Plays a script against one fleet and fills ``results``."""

    def __init__(
        self, fleet: Fleet, report: Report, results: PeersResults, script: Script | None = None,
        read: Callable[[Member], Sequence[Mixing]] = lambda member: mixings(member.name, member.process),
    ) -> None:  # fmt: skip
        self.fleet, self.report, self.results = fleet, report, results
        self.script = script or Script()
        self._read = read

    def play(self) -> None:
        """Everything, from the start of the processes to their end.

        Raises:
            FatalError: a node ended by itself, or an epoch took longer than patience lasts.
        """
        script, names = self.script, [member.name for member in self.fleet.members]
        self.fleet.start()
        self._header()
        self._rounds(script.before, names)
        self._kill_and_restart(names)
        self._part_and_heal(names)
        self._rounds(script.after, names)
        self.results.exit_codes = self.fleet.stop()
        self.results.mixings = [each for member in self.fleet.members for each in self._read(member)]

    def _kill_and_restart(self, names: Sequence[str]) -> None:
        victim = self.fleet.members[self.script.victim]
        others = [name for name in names if name != victim.name]
        began = time.time()
        victim.process.kill()
        self.report.say(f"SIGKILL: {victim.name} is gone; the others go on without it", "bold red")
        self._rounds(self.script.away, others)
        offset = victim.process.launch()
        victim.process.await_ready(offset)
        self.results.events.append(Event(f"{victim.name} killed", began, time.time()))
        self.report.say(f"{victim.name} is started again, with what it had on disk", "bold green")
        self._rounds(self.script.back, names)

    def _part_and_heal(self, names: Sequence[str]) -> None:
        island = [names[place] for place in self.script.island]
        main = [name for name in names if name not in island]
        began = time.time()
        self.results.cut_connections = self.fleet.part(island, main)
        self.report.say(
            f"partition: {', '.join(island)} cannot reach {', '.join(main)} "
            f"({self.results.cut_connections} connections cut); both sides go on",
            "bold red",
        )
        self._rounds(self.script.apart, names)
        self.fleet.heal()
        self.results.events.append(Event(f"{' and '.join(island)} cut off", began, time.time()))
        self.report.say("healed", "bold green")

    def _rounds(self, count: int, names: Collection[str]) -> None:
        """Wait until each of these nodes has committed so many rounds more, telling each on the way.

        Epochs are no measure: a node that was away leaves those out that it missed.
        """
        watched = [member for member in self.fleet.members if member.name in names]
        for _ in range(count):
            before = {member.name: len(self._read(member)) for member in watched}
            for member in watched:
                self._await(member, before[member.name])
            self._row(watched)

    def _await(self, member: Member, before: int) -> None:
        """Raises FatalError: it ended, or took longer than patience lasts; with the end of its log."""

        def mixed() -> bool | None:
            return True if len(self._read(member)) > before else None

        member.process.wait("get through a round", mixed, PATIENCE_SECONDS, POLL_SECONDS)

    def _header(self) -> None:
        cells = "".join(f"{member.name:>{CELL}}" for member in self.fleet.members)
        self.report.say(f"{'accuracy in % after':<22}{cells}{'mean':>{CELL}}{'spread':>{CELL}}", "bold")

    def _row(self, watched: Sequence[Member]) -> None:
        """The model that each node has now."""
        newest = {member.name: self._read(member)[-1] for member in watched}
        cells = "".join(
            f"{100 * newest[member.name].mixed:{CELL}.1f}" if member.name in newest else f"{'-':>{CELL}}"
            for member in self.fleet.members
        )
        epochs = sorted({each.epoch + 1 for each in newest.values()})
        label = f"mix {epochs[0]}" + (f" to {epochs[-1]}" if len(epochs) > 1 else "")
        mean = sum(each.mixed for each in newest.values()) / len(newest)
        spreads = [each.spread for each in newest.values() if each.spread is not None]
        spread = f"{sum(spreads) / len(spreads):{CELL}.2f}" if spreads else f"{'-':>{CELL}}"
        self.report.say(f"{label:<22}{cells}{100 * mean:{CELL}.1f}{spread}")
