"""What a scenario is: a fault on real nodes, at which one alert fires, and how it is mended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.deploy.observability.stage import Node, Stage


@dataclass(frozen=True)
class Fault:
    """The fault is there. ``node``: on whose host its operator types the commands of the runbook.

    ``places``: word of a command -> what stands there now; ``others``: the same for commands that start like this.
    ``codes``: start of a command -> exit codes that are right beside 0, because the command tells of the fault.
    ``told``: what the summary or description has to say. ``meanwhile``: happens before the commands are typed.
    """

    node: Node
    places: Mapping[str, object] = field(default_factory=dict)
    codes: Mapping[str, set[int]] = field(default_factory=dict)
    told: tuple[str, ...] = ()
    others: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    meanwhile: Callable[[], object] | None = None


Play = Callable[["Stage"], Iterator[Fault]]
"""A generator: brings the fault about, yields once, and then mends it."""


@dataclass(frozen=True)
class Scenario:
    """``beside``: other alerts that the same fault has to raise, each with the reason why it does.

    ``altered``: what is not as on a real node, empty where nothing is. ``root``: it needs mounts.
    """

    alert: str
    fault: str
    play: Play
    beside: Mapping[str, str]
    altered: str
    root: bool
    alone: bool


SCENARIOS: dict[str, Scenario] = {}


def provokes(
    alert: str, fault: str, *, beside: Mapping[str, str] | None = None, altered: str = "", root: bool = False,
    alone: bool = False,
) -> Callable[[Play], Play]:  # fmt: skip
    """Enter a scenario into the table. ``alone``: it concerns all targets, so nothing else may be on stage."""

    def enter(play: Play) -> Play:
        assert alert not in SCENARIOS, f"two scenarios for {alert}"
        SCENARIOS[alert] = Scenario(alert, fault, play, beside or {}, altered, root, alone)
        return play

    return enter
