"""Forwarding by itself: a ledger in memory, files on disk, neighbours that answer, refuse or are away."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import pytest

from mergenode.adapters.checkpoints.digest import content_digest
from mergenode.adapters.clock import SystemClock
from mergenode.adapters.peers.port.channels import open_channel
from mergenode.adapters.peers.pushing.forwarding import Forwarding, ForwardingSide, Send, travelling_name
from mergenode.adapters.peers.pushing.local_model import LocalModel, describe_model
from mergenode.adapters.peers.pushing.pushing import PushOrder, PushReport
from mergenode.adapters.peers.pushing.sending import NotNowError, Sending
from mergenode.errors import FatalError
from mergenode.ledger.records import Folded, Initialised, Restated, Retracted
from mergenode.tracing.ids import push_trace
from mergenode.types import Digest
from tests.support.checkpoints import base_tensors, finetuned, write_single
from tests.support.clock import FakeClock
from tests.support.heard import Heard
from tests.support.intake import Intake, open_uploads
from tests.support.memory_ledger import MemoryLedger

NEAR, FAR = UUID(int=1), UUID(int=2)
BASE = Digest("blake3:" + "0" * 64)
TIME = "2026-01-01T00:00:00Z"
REPORT = PushReport(
    score=None,
    outcome="accepted", folded=False, share_kept=None, reason="", message="", hint="", trace_id="ab" * 16, upload="",
    root="", bytes_total=0, bytes_sent=0, blocks=0, blocks_sent=0,
)  # fmt: skip


@dataclass
class World:
    """A node with neighbours; ``faults`` per address are raised instead of an answer."""

    root: Path
    base: Digest = BASE
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    up: dict[UUID, str] = field(default_factory=lambda: {NEAR: "near:1", FAR: "far:1"})
    faults: dict[str, Exception] = field(default_factory=dict)
    sent: list[tuple[str, str]] = field(default_factory=list)
    orders: list[PushOrder] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    heard: threading.Event = field(default_factory=threading.Event)
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        start = Initialised(time=TIME, ledger_id="one", base=self.base, method="opcm", options={})
        self.ledger.append(start)

    def fold(self, name: str, seed: int, registry: str = "inbox", weight: float = 1.0) -> Path:
        path = write_single(self.root / name, finetuned(base_tensors(), seed=seed))
        generation = len(list(self.ledger.folds())) + 1
        self.ledger.append(
            Folded(
                time=TIME,
                registry=registry,
                name=name,
                revision="1",
                generation=generation,
                location=str(path),
                content=content_digest(path),
                contribution_kind="full",
                weight=weight,
                count=generation,
                totals={},
                statistics=BASE,
                lineage=BASE,
                norm=1.0,
                relative_norm=1.0,
                profile={"head*": 0.5},
            )
        )
        return path

    def life(self, send: Send | None = None, hang_up: Callable[[], None] = lambda: None) -> Forwarding:
        """A start of the node: what it knows of neighbours is what lies on the disk."""
        side = ForwardingSide(
            ledger=self.ledger, file=self.root / "state" / "forwarded.json", lineage="mergenode",
            neighbours=lambda: dict(self.up), clock=self.clock, random=lambda: 1.0,
            tell=self.tell,
        )  # fmt: skip
        return Forwarding(side, send or self.send, hang_up)

    def tell(self, level: str, text: str) -> None:
        self.told.append(f"{level}: {text}")
        if level == "warning":
            self.heard.set()

    def send(self, model: LocalModel, order: PushOrder, address: str) -> PushReport:
        if address in self.faults:
            raise self.faults[address]
        self.sent.append((order.name, address))
        self.orders.append(order)
        return REPORT


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_everything_goes_to_everybody_once_over_restarts(world: World) -> None:
    world.fold("one", 1, weight=0.25)
    world.fold("two@0123456789ab", 2, registry="push")
    world.life().work()
    wanted = [("one", "near:1"), ("one", "far:1"), ("two", "near:1"), ("two", "far:1")]
    assert world.sent == wanted
    assert (world.orders[0].weight, world.orders[0].profile, world.orders[0].base) == (0.25, {"head*": 0.5}, BASE)
    world.life().work()
    assert world.sent == wanted
    world.fold("three", 3)
    world.life().work()
    assert world.sent == [*wanted, ("three", "near:1"), ("three", "far:1")]


def test_who_is_away_holds_up_nobody_and_gets_all_later(world: World) -> None:
    world.fold("one", 1)
    world.fold("two", 2)
    del world.up[FAR]
    world.life().work()
    assert world.sent == [("one", "near:1"), ("two", "near:1")]
    world.up[FAR] = "far:1"
    world.life().work()
    assert world.sent[2:] == [("one", "far:1"), ("two", "far:1")]


def test_an_unreachable_neighbour_rests_for_longer_each_time(world: World) -> None:
    world.fold("one", 1)
    world.faults["far:1"] = NotNowError("far:1: nothing listens there")
    forwarding = world.life()
    forwarding.work()
    forwarding.work()  # it rests
    assert world.sent == [("one", "near:1")]
    assert world.told == [
        "info: forwarded one to 00000000-0000-0000-0000-000000000001: accepted, there it is trace abababab",
        "warning: one does not reach 00000000-0000-0000-0000-000000000002 now: far:1: nothing listens there",
    ]
    world.clock.advance(1.0)
    forwarding.work()  # and again, for two seconds
    del world.faults["far:1"]
    world.clock.advance(1.5)
    forwarding.work()
    assert world.sent == [("one", "near:1")]
    world.clock.advance(0.5)
    forwarding.work()
    assert world.sent == [("one", "near:1"), ("one", "far:1")]


def test_what_is_not_taken_is_said_and_the_next_one_goes(world: World) -> None:
    world.fold("one", 1)
    del world.up[NEAR]
    world.faults["far:1"] = FatalError("far:1: above its quota", hint="Wait.")
    forwarding = world.life()
    forwarding.work()
    assert any("does not take one: far:1: above its quota (Wait.)" in line for line in world.told)
    world.fold("two", 2)
    world.faults.clear()
    world.clock.advance(1.0)
    forwarding.work()
    assert world.sent == [("two", "far:1")]
    world.clock.advance(600.0)
    forwarding.work()
    assert world.sent == [("two", "far:1"), ("one", "far:1")]


def test_files_that_are_gone_or_others_are_passed_over_with_one_warning(world: World) -> None:
    shutil.rmtree(world.fold("gone", 1))
    write_single(world.fold("other", 2), finetuned(base_tensors(), seed=9))
    world.fold("kept", 3)
    forwarding = world.life()
    forwarding.work()
    forwarding.work()
    assert {name for name, _ in world.sent} == {"kept"}
    warnings = [line for line in world.told if line.startswith("warning")]
    assert len(warnings) == 2 and "its files are gone" in warnings[0] and "holds other weights" in warnings[1]


def test_a_share_that_is_away_is_waited_for(world: World) -> None:
    path = world.fold("share/one", 1)
    away = path.parent.rename(world.root / "away")
    forwarding = world.life()
    forwarding.work()
    assert not world.sent and "cannot be forwarded now" in world.told[-1]
    away.rename(path.parent)
    world.clock.advance(60.0)
    forwarding.work()
    assert len(world.sent) == 2


def test_names_travel_without_what_a_push_added() -> None:
    def named(registry: str, name: str) -> str:
        fact = Folded(
            time=TIME, registry=registry, name=name, revision="1", generation=1, location="/", content=BASE,
            contribution_kind="full", weight=1.0, count=1, totals={}, statistics=BASE, lineage=BASE, norm=1.0,
            relative_norm=1.0,
        )  # fmt: skip
        return travelling_name(fact)

    assert named("push", "maths@0123456789ab") == named("push", "maths@0123456789ab-0123456789ab") == "maths"
    assert named("inbox", "team@maths") == "team@maths"
    assert named("inbox", "maths.safetensors") == "maths"
    assert len(named("inbox", "\N{GREEK SMALL LETTER PI}" * 127).encode()) == 100


@pytest.fixture
def intake(tmp_path: Path) -> Iterator[Intake]:
    base = write_single(tmp_path / "base", base_tensors())
    with Intake(open_uploads(tmp_path / "neighbour", base)) as running:
        yield running


def test_through_real_sockets_the_neighbour_holds_the_same_content(tmp_path: Path, intake: Intake) -> None:
    world = World(tmp_path, base=content_digest(tmp_path / "base"))
    path = world.fold("one", 1)
    world.up = {NEAR: intake.address}
    heard = Heard()
    sending = Sending(lambda address: open_channel(address, None), SystemClock(), observer=heard)
    world.life(sending.send).work()
    with describe_model(path) as model:
        there = push_trace("one", model.manifest.root.hex())
    assert world.told[-1].endswith(f": accepted, there it is trace {there[:8]}")
    (entry,) = (each for each in (world.root / "neighbour" / "pushes").iterdir() if each.is_dir())
    assert content_digest(entry) == next(iter(world.ledger.folds()))[1].content
    assert {word.subject for word in heard.of("transfer")} == {f"one to {intake.address}"}
    assert heard.words[-1].over and heard.words[-1].bytes_done == heard.words[-1].bytes_total > 0
    sending.stop()
    with describe_model(path) as model, pytest.raises(NotNowError, match="the node ends"):
        sending.send(model, PushOrder(name="one", lineage="mergenode"), intake.address)


def test_nobody_there_is_one_attempt(world: World) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        sending = Sending(lambda place: open_channel(place, None), SystemClock())
        with describe_model(world.fold("one", 1)) as model, pytest.raises(NotNowError, match="nothing listens there"):
            sending.send(model, PushOrder(name="one", lineage="mergenode"), address)


def test_an_address_that_is_none_ends_one_attempt(world: World) -> None:
    """Nodes say themselves where they can be called."""
    sending = Sending(lambda place: open_channel(place, None), SystemClock())
    with describe_model(world.fold("one", 1)) as model, pytest.raises(NotNowError, match="nonsense"):
        sending.send(model, PushOrder(name="one", lineage="mergenode"), "nonsense")


def test_a_disk_that_fails_is_said_and_tried_again(world: World) -> None:
    world.fold("one", 1)
    forwarding = world.life()
    (world.root / "state").write_text("in the way")
    forwarding.start()
    assert world.heard.wait(60)
    forwarding.stop()
    assert "contributions are not forwarded now" in world.told[0]
    (world.root / "state").unlink()
    world.life().work()
    assert (world.root / "state" / "forwarded.json").exists()


def test_a_call_under_way_ends_with_the_node(world: World) -> None:
    """As in a node: the call waits for a neighbour that takes the connection and says nothing."""
    world.fold("one", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        world.up = {NEAR: f"127.0.0.1:{silent.getsockname()[1]}"}
        sending = Sending(lambda address: open_channel(address, None), SystemClock())
        forwarding = world.life(sending.send, sending.stop)
        forwarding.start()
        connection = silent.accept()[0]
        forwarding.stop()
        connection.close()
    assert not world.told and not (world.root / "state").exists()


def test_retracted_contributions_stay_here(world: World) -> None:
    world.fold("one", 1)
    (_, fact) = next(iter(world.ledger.folds()))
    world.ledger.append(
        Retracted(time=TIME, registry="inbox", name="one", revision="1", content=fact.content),
        Restated(
            time=TIME, generation=2, count=0, totals={}, statistics=BASE, lineage=None, how="subtracted",
        ),
    )  # fmt: skip
    world.life().work()
    assert not world.sent
