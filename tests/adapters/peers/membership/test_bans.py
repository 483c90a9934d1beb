"""Bans: by order and by offences, longer each time, durable, and no clock that is set changes them."""

from __future__ import annotations

import math
from pathlib import Path
from uuid import UUID

import pytest

from mergenode.adapters.peers.membership import bans as module
from mergenode.adapters.peers.membership.bans import LONGEST_SECONDS, MOST_RECORDS, PARDON_SECONDS, WINDOW_SECONDS, Bans
from mergenode.errors import TransientError
from tests.support.clock import FakeClock

ONE, TWO = UUID(int=1), UUID(int=2)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "peers" / "bans.json"


def offend(bans: Bans, node: UUID = ONE, times: int = 3) -> bool:
    return [bans.offend(node, "signature: forged") for _ in range(times)][-1]


def length(bans: Bans, clock: FakeClock, node: UUID = ONE) -> float:
    return bans.banned()[node].ends - clock.monotonic()


def test_by_order_for_a_while_or_until_lifted(file: Path, clock: FakeClock) -> None:
    bans = Bans(file, clock)
    bans.ban(ONE, 60.0, "by hand")
    bans.ban(TWO, None, "for good")
    assert set(bans.banned()) == {ONE, TWO} and math.isinf(bans.banned()[TWO].ends)
    clock.advance(60)
    assert set(bans.banned()) == {TWO}
    assert bans.lift(TWO) and not bans.lift(TWO) and not bans.lift(ONE)
    assert bans.banned() == {} and Bans(file, clock).banned() == {}


def test_three_offences_within_an_hour_and_each_ban_is_twice_as_long(file: Path, clock: FakeClock) -> None:
    said: list[str] = []
    bans = Bans(file, clock, lambda level, text: said.append(text))
    assert not offend(bans, times=2)
    clock.advance(WINDOW_SECONDS + 1)
    assert not offend(bans, times=2)
    lengths = []
    for _ in range(9):
        assert offend(bans, times=1) or offend(bans, times=2)
        assert not bans.offend(ONE, "while banned nothing counts")
        lengths.append(length(bans, clock))
        clock.advance(lengths[-1])
        assert ONE not in bans.banned()
    assert lengths == [900.0 * 2**k for k in range(7)] + [LONGEST_SECONDS] * 2
    assert said[0] == f"{ONE} is banned for 15 minutes: signature: forged" and len(said) == 9
    clock.advance(PARDON_SECONDS)
    assert offend(bans) and length(bans, clock) == 900.0


def test_bans_outlive_the_process_and_strikes_too(file: Path, clock: FakeClock) -> None:
    bans = Bans(file, clock)
    offend(bans)
    bans.ban(TWO, None, "for good")
    clock.advance(100)
    again = Bans(file, clock)
    assert set(again.banned()) == {ONE, TWO} and length(again, clock) == pytest.approx(800.0)
    assert again.banned()[ONE].reason == "signature: forged"
    clock.advance(800)
    assert set(again.banned()) == {TWO}
    offend(again)
    assert length(again, clock) == pytest.approx(1800.0)


def test_a_clock_that_is_set_neither_lifts_nor_prolongs(file: Path, clock: FakeClock) -> None:
    bans = Bans(file, clock)
    bans.ban(ONE, 60.0, "by hand")
    for jump in (3600.0, -7200.0, 3600.0):
        clock.jump(jump)
        assert length(bans, clock) == 60.0
        assert bans.unix(bans.banned()[ONE]) == clock.unix() + 60.0


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"bans": [{"node": "x"}]}', b'{"bans": 3}', b"\xff", b'{"bans": [3]}']
)
def test_a_damaged_file_is_told_and_stops_nothing(file: Path, clock: FakeClock, content: bytes) -> None:
    file.parent.mkdir()
    file.write_bytes(content)
    said: list[str] = []
    bans = Bans(file, clock, lambda level, text: said.append(text))
    assert bans.banned() == {} and len(said) == 1 and str(file) in said[0]
    bans.ban(ONE, 60.0, "by hand")
    assert set(Bans(file, clock).banned()) == {ONE}


def test_without_a_disk_a_ban_holds_until_the_process_ends(
    file: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "no space left")

    monkeypatch.setattr(module, "replace_file", full)
    said: list[str] = []
    bans = Bans(file, clock, lambda level, text: said.append(text))
    assert offend(bans) and ONE in bans.banned() and "does not outlive" in said[0]
    with pytest.raises(TransientError):
        bans.ban(TWO, None, "by hand")
    assert TWO in bans.banned()


def test_records_are_bounded(file: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bans, "_write", lambda bans: None)
    bans = Bans(file, clock)
    bans.ban(ONE, None, "for good")
    for number in range(MOST_RECORDS + 50):
        clock.advance(1)
        bans.ban(UUID(int=10 + number), 10_000.0, "x" * 5000)
        bans.offend(UUID(int=10_000 + number), "once")
    assert len(bans.banned()) == MOST_RECORDS and ONE in bans.banned()
    assert len(bans._offences) == MOST_RECORDS and len(bans.banned()[ONE].reason) <= 300
