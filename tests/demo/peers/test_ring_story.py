"""The story's script against processes that do nothing: what happens when, and what is told."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from mergenode.demo.node import NodeProcess
from mergenode.demo.peers import ring_story
from mergenode.demo.peers.nodes import RING, UNION, Fleet, Member, ring_edges
from mergenode.demo.peers.picture import draw
from mergenode.demo.peers.results import PeersResults
from mergenode.demo.peers.ring_story import RingStory, Script
from mergenode.demo.peers.union_story import model_digest, whole
from mergenode.demo.peers.watching import Mixing, mixing
from mergenode.demo.report import Report
from mergenode.errors import FatalError
from mergenode.settings import load_settings

IDLE = """\
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("http://here", flush=True)
while True:
    signal.pause()
"""


class IdleNode(NodeProcess):
    """A process that says that it is ready and then waits for its end."""

    program = IDLE

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-c", self.program]


class EndingNode(IdleNode):
    program = IDLE.replace("while True:", "while False:")


class Ledgers:
    """Every look finds every node that runs one round further; one that was away joins the epoch of the others."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.rounds: dict[str, list[Mixing]] = {member.name: [] for member in fleet.members}
        self.reached: list[tuple[str, frozenset[str]]] = []

    def __call__(self, member: Member) -> Sequence[Mixing]:
        if member.process.process.poll() is None:
            own = self.rounds[member.name]
            newest = max((each[-1].epoch for each in self.rounds.values() if each), default=-1)
            epoch = max(own[-1].epoch + 1 if own else 0, newest - 1)
            reachable = (each.name for each in self.fleet.members if self.fleet.reaches(member.name, each.name))
            self.reached.append((member.name, frozenset(reachable)))
            own.append(Mixing(member.name, epoch, 10.0 * epoch, 0.5, 0.6, 2, 1.5 if epoch else None))
        return self.rounds[member.name]


def told(report: Report) -> str:
    file = report.console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


@pytest.fixture
def report() -> Report:
    return Report(Console(file=io.StringIO(), width=120))


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring_story, "POLL_SECONDS", 0.0)


def test_what_is_done_to_the_nodes(tmp_path: Path, report: Report) -> None:
    results = PeersResults()
    with Fleet(tmp_path, ring_edges(5), RING, IdleNode) as fleet:
        ledgers = Ledgers(fleet)
        RingStory(fleet, report, results, Script(before=3, away=2, back=1, apart=2, after=2), ledgers).play()
        again = fleet.members[3].process.process
    assert results.exit_codes == [0] * 5
    assert [event.what for event in results.events] == ["node-4 killed", "node-4 and node-5 cut off"]
    assert again.returncode == 0
    assert len(results.mixings) == sum(len(rounds) for rounds in ledgers.rounds.values())
    apart = {name: reach for name, reach in ledgers.reached if len(reach) < 5}
    assert set(apart) == {f"node-{number}" for number in range(1, 6)}
    assert apart["node-5"] == {"node-4", "node-5"}
    assert apart["node-1"] == {"node-1", "node-2", "node-3"}
    assert all(reach == set(ledgers.rounds) for _, reach in ledgers.reached[-5:])
    text = told(report)
    rows = [line.split()[-7:] for line in text.splitlines() if line.strip().startswith("mix")]
    assert [row[3] for row in rows] == ["60.0"] * 3 + ["-"] * 2 + ["60.0"] * 5
    assert text.index("SIGKILL") < text.index("started again") < text.index("partition") < text.index("healed")


def test_a_node_that_ends_by_itself_is_told_with_its_log(tmp_path: Path, report: Report) -> None:
    with Fleet(tmp_path, ring_edges(3), RING, EndingNode) as fleet:
        story = RingStory(fleet, report, PeersResults(), Script(), lambda member: [])
        with pytest.raises(FatalError, match="ended") as caught:
            story.play()
    assert "node.log" in caught.value.hint + caught.value.message


def test_nothing_is_left_when_the_fleet_closes(tmp_path: Path) -> None:
    with Fleet(tmp_path, ring_edges(3), RING, IdleNode) as fleet:
        fleet.start()
        processes = [member.process.process for member in fleet.members]
        assert sorted(fleet.names_by_pid().values()) == ["node-1", "node-2", "node-3"]
    assert all(process.poll() is not None for process in processes)


@pytest.mark.parametrize("template", [RING, UNION])
def test_the_settings_are_valid_and_lead_through_the_relays(tmp_path: Path, template: str) -> None:
    with Fleet(tmp_path, ring_edges(5), template) as fleet:
        for place, member in enumerate(fleet.members):
            settings = load_settings(member.process.config)
            near = {fleet.members[(place + step) % 5].relay.address for step in (-1, 1)}
            assert set(settings.peers.neighbours) == near
            assert settings.peers.advertise == member.relay.address
            assert settings.peers.address == ("127.0.0.1", member.port)


def fact(**changes: object) -> SimpleNamespace:
    about = {
        "epoch": 4, "time": "2026-01-01T00:00:10Z", "metrics": {"accuracy": 0.7}, "kept_own": False, "spread": 2.0,
        "scores": {"own": {"accuracy": 0.7}, "mixed": {"accuracy": 0.8}}, "parents": ({}, {}),
    }  # fmt: skip
    return SimpleNamespace(**{**about, **changes})


def test_a_round_as_the_ledger_tells_it() -> None:
    told = mixing("a", fact())
    assert (told.epoch, told.trained, told.mixed, told.heard) == (4, 0.7, 0.8, 2)
    assert mixing("a", fact(time="2026-01-01T00:00:20Z")).when == told.when + 10
    alone = mixing("a", fact(scores={}, parents=()))
    assert (alone.mixed, alone.heard) == (0.7, 0)
    assert mixing("a", fact(kept_own=True)).mixed == 0.7


def test_the_picture_of_a_finished_story(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    results = PeersResults(references={"local": [0.7, 0.8], "activations": [0.6, 0.85]})
    results.mixings = [Mixing(f"node-{n}", e, 5.0 * e, 0.5, 0.6, 2, None) for n in range(5) for e in range(3)]
    results.events = [ring_story.Event("node-4 killed", 1.0, 4.0), ring_story.Event("cut off", 6.0, 8.0)]
    draw(results, {"local": "local only", "activations": "activation matching"}, tmp_path / "peers.png")
    assert (tmp_path / "peers.png").read_bytes()[:4] == b"\x89PNG"
    results.write(tmp_path / "results.json")
    assert len(json.loads((tmp_path / "results.json").read_text())["mixings"]) == 15


def test_a_union_is_whole_when_all_contributions_are_in(tmp_path: Path) -> None:
    process = NodeProcess(tmp_path)
    assert whole(process) is None
    latest = tmp_path / "published" / "latest"
    latest.mkdir(parents=True)
    for count, expected in ((2, False), (3, True)):
        (latest / "mergenode.json").write_text(json.dumps({"count": count, "tensors": {"w": "x"}}))
        assert (whole(process) is not None) == expected
    assert model_digest({"tensors": {"a": "1", "b": "2"}}) == model_digest({"tensors": {"b": "2", "a": "1"}})
    assert model_digest({"tensors": {"a": "1"}}) != model_digest({"tensors": {"a": "2"}})
