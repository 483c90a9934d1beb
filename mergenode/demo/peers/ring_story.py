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
    """Epochs after which something happens, once all nodes that run have committed them. The others are places."""

    kill: int = 2
    back: int = 4
    part: int = 6
    heal: int = 8
    end: int = 10
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
        self._told = -1
        self._found: dict[str, list[Mixing]] = {}

    def play(self) -> None:
        """Everything, from the start of the processes to their end.

        Raises:
            FatalError: a node ended by itself, or an epoch took longer than patience lasts.
        """
        script, names = self.script, [member.name for member in self.fleet.members]
        self.fleet.start()
        self._header()
        self._until(script.kill, names)
        self._kill_and_restart()
        self._until(script.part, names)
        self._part_and_heal(names)
        self._until(script.end, names)
        self.results.exit_codes = self.fleet.stop()
        self.results.mixings = [each for member in self.fleet.members for each in self._read(member)]

    def _kill_and_restart(self) -> None:
        victim = self.fleet.members[self.script.victim]
        others = [member.name for member in self.fleet.members if member is not victim]
        began = time.time()
        victim.process.kill()
        self.report.say(f"SIGKILL: {victim.name} is gone; the others go on without it", "bold red")
        self._until(self.script.back, others)
        offset = victim.process.launch()
        victim.process.await_ready(offset)
        self.results.events.append(Event(f"{victim.name} killed", began, time.time()))
        self.report.say(f"{victim.name} is started again, with what it had on disk", "bold green")

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
        self._until(self.script.heal, names)
        self.fleet.heal()
        self.results.events.append(Event(f"{' and '.join(island)} cut off", began, time.time()))
        self.report.say("healed", "bold green")

    def _until(self, epoch: int, names: Collection[str]) -> None:
        """Wait until all of these nodes have committed this epoch or a later one, telling every epoch on the way."""
        watched = [member for member in self.fleet.members if member.name in names]
        for due in range(self._told + 1, epoch + 1):
            for member in watched:
                self._await(member, due)
            self._told = due
            self._row(due, names)

    def _await(self, member: Member, epoch: int) -> None:
        """Raises FatalError: it ended, or took longer than patience lasts; with the end of its log."""

        def reached() -> bool | None:
            self._found[member.name] = list(self._read(member))
            newest = self._found[member.name][-1:]
            return True if newest and newest[0].epoch >= epoch else None

        member.process.wait(f"get through epoch {epoch}", reached, PATIENCE_SECONDS, POLL_SECONDS)

    def _header(self) -> None:
        cells = "".join(f"{member.name:>{CELL}}" for member in self.fleet.members)
        self.report.say(f"{'accuracy in % after':<22}{cells}{'mean':>{CELL}}{'spread':>{CELL}}", "bold")

    def _row(self, epoch: int, names: Collection[str]) -> None:
        """The model that each node has after this epoch: nodes that fell behind skip epochs to be with the others."""
        cells, scores, spreads = "", [], []
        for member in self.fleet.members:
            until = [each for each in self._found.get(member.name, ()) if each.epoch <= epoch]
            if member.name not in names or not until:
                cells += f"{'-':>{CELL}}"
                continue
            cells += f"{100 * until[-1].mixed:{CELL}.1f}"
            scores.append(until[-1].mixed)
            spreads += [] if until[-1].spread is None else [until[-1].spread]
        mean = f"{100 * sum(scores) / len(scores):{CELL}.1f}" if scores else f"{'-':>{CELL}}"
        spread = f"{sum(spreads) / len(spreads):{CELL}.2f}" if spreads else f"{'-':>{CELL}}"
        self.report.say(f"{f'mix {epoch + 1}':<22}{cells}{mean}{spread}")
