"""Transfers: killed anywhere, lied to, and complete in the end, with little fetched twice."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from mergenode.types import DType, TensorSpec
from mergenode.wire.blocks import BLOCK_BYTES, ID_BYTES, Root, block_count
from mergenode.wire.journal import indexes_in, pack_journal, parse_journal
from mergenode.wire.manifest import Manifest, TensorEntry
from mergenode.wire.transfer import Transfer, Verdict, begin, sync_bytes, unsound_blocks
from mergenode.wire.wanted import indexes_of
from tests.support.wire_models import described, flat, model_of

MIB = 1 << 20


class Killed(BaseException):
    """The process dies here."""


@dataclass
class Machine:
    """A file and a journal on a disk that forgets what was not synced, and a count of steps until death."""

    size: int
    steps: int = 1 << 60
    durable: bytearray = field(init=False)
    pending: dict[int, bytes] = field(default_factory=dict)
    journal: bytes | None = None
    fetched: int = 0

    def __post_init__(self) -> None:
        self.durable = bytearray(self.size)

    def step(self) -> None:
        self.steps -= 1
        if self.steps < 0:
            raise Killed

    def fetch(self, data: bytes) -> bytes:
        self.fetched += len(data)
        self.step()
        return data

    def write(self, offset: int, data: bytes) -> None:
        self.step()
        self.pending[offset] = data

    def sync(self) -> None:
        self.step()
        self.settle(1.0, random.Random(0))

    def settle(self, share: float, chance: random.Random) -> None:
        """A share of the pending writes reaches the disk, the rest is forgotten."""
        for offset, data in self.pending.items():
            if chance.random() < share:
                self.durable[offset : offset + len(data)] = data
        self.pending.clear()

    def store(self, journal: bytes) -> None:
        self.step()
        self.journal = journal


def one_life(manifest: Manifest, data: bytes, machine: Machine, chance: random.Random, lies: float) -> Transfer:
    """What an adapter does between start and death or completion."""
    journal = None if machine.journal is None else parse_journal(machine.journal, manifest.root, manifest.block_count)
    state = begin(manifest, journal)
    while not state.complete:
        for index in indexes_of(state.requests(4), manifest.block_count):
            place = manifest.place(index)
            block = bytearray(machine.fetch(data[place.offset : place.offset + place.length]))
            if chance.random() < lies:
                bit = chance.randrange(8 * len(block))
                block[bit // 8] ^= 1 << bit % 8
            state, verdict = state.received(place, bytes(block), f"peer {chance.randrange(3)}")
            if verdict is Verdict.VERIFIED:
                machine.write(place.offset, bytes(block))
            if state.sync_due:
                machine.sync()
                state = state.synced()
                machine.store(pack_journal(state.journal))
    return state


def small_model(blocks: int = 120) -> tuple[Manifest, bytes]:
    """Blocks of 40 to 80 bytes."""
    chance = random.Random(5)
    model = model_of(*((f"t{n:03d}", DType.U8, chance.randbytes(chance.randint(40, 80))) for n in range(blocks)))
    manifest = described(model)
    return manifest, flat(manifest, model)


def test_undisturbed_nothing_is_fetched_twice() -> None:
    manifest, data = small_model()
    machine = Machine(len(data))
    assert one_life(manifest, data, machine, random.Random(1), lies=0).complete
    assert bytes(machine.durable) == data and machine.fetched == len(data)


def test_killed_at_any_step_it_goes_on_and_ends_the_same() -> None:
    """Every step of a transfer is the last one once; what was not synced is partly forgotten."""
    manifest, data = small_model(40)
    count = Machine(len(data))
    one_life(manifest, data, count, random.Random(1), lies=0)
    kills = 0
    for last in range((1 << 60) - count.steps):
        machine = Machine(len(data), steps=last)
        with pytest.raises(Killed):
            one_life(manifest, data, machine, random.Random(1), lies=0)
        kills += 1
        machine.settle(random.Random(last).random(), random.Random(last))
        machine.steps = 1 << 60
        assert one_life(manifest, data, machine, random.Random(2), lies=0).complete
        assert bytes(machine.durable) == data
        assert machine.fetched - len(data) <= max(place.length for place in manifest.places())
    assert kills == 4 * manifest.block_count  # fetch, write, sync, journal


def test_killed_five_times_among_liars_less_than_a_twentieth_is_fetched_twice() -> None:
    manifest, data = small_model()
    flips = 0
    for seed in range(20):
        chance = random.Random(seed)
        machine = Machine(len(data))
        for _ in range(5):
            machine.steps = chance.randrange(80)
            with pytest.raises(Killed):
                one_life(manifest, data, machine, chance, lies=0)
            machine.settle(chance.random(), chance)
        assert machine.fetched - sum(
            manifest.place(index).length for index in indexes_in(journalled(machine, manifest))
        )
        machine.steps = 1 << 60
        one_life(manifest, data, machine, chance, lies=0)
        assert bytes(machine.durable) == data
        assert machine.fetched <= 1.05 * len(data)
        bad = Machine(len(data))
        state = one_life(manifest, data, bad, chance, lies=0.2)
        assert bytes(bad.durable) == data, "every flipped bit was caught"
        flips += len(state.struck)
    assert flips > 300


def journalled(machine: Machine, manifest: Manifest) -> int:
    if machine.journal is None:
        return 0
    return parse_journal(machine.journal, manifest.root, manifest.block_count).written


@pytest.mark.parametrize("size", [1 << 30, 15 << 30, 140 << 30])
def test_what_one_death_may_cost_large_models(size: int) -> None:
    """By the sizes alone: most that is unsynced, and the block that is under way."""
    ids = bytes(ID_BYTES * block_count(size))
    manifest = Manifest((TensorEntry(TensorSpec("w", DType.U8, (size,)), ids),))
    assert begin(manifest).sync_at + BLOCK_BYTES <= size / 100
    assert begin(manifest).sync_at <= 256 * MIB
    assert manifest.total_bytes == size


def test_when_to_sync() -> None:
    assert [sync_bytes(size) for size in (0, 100 * MIB, 800 * MIB)] == [0, 0, 0]
    assert sync_bytes(2000 * MIB) == 12 * MIB
    assert sync_bytes(1 << 50) == 256 * MIB
    manifest, data = small_model()
    state = Transfer(manifest.root, manifest.block_count, 100, begin(manifest).wanted)
    place = manifest.place(0)
    assert place.length <= 100
    state, _ = state.received(place, data[: place.length], "a")
    assert not state.sync_due
    place = manifest.place(1)
    state, _ = state.received(place, data[place.offset :][: place.length], "a")
    assert state.sync_due == (state.unsynced > 100)
    assert not state.journal.written and state.synced().journal.written == 0b11


def test_verdicts() -> None:
    manifest, data = small_model()
    place = manifest.place(3)
    good = data[place.offset : place.offset + place.length]
    state = begin(manifest)
    for bad in (good[:-1], good + b"x", b"", bytes(len(good))):
        assert state.received(place, bad, "liar")[1] is Verdict.CORRUPT
    struck, _ = state.failed(3, "liar")
    assert struck.failed(4, "liar")[1] is Verdict.CORRUPT
    assert struck.failed(3, "other")[1] is Verdict.CORRUPT
    banned, verdict = struck.received(place, bytes(len(good)), "liar")
    assert verdict is Verdict.BANNED and banned.banned == {"liar"}
    state, verdict = banned.received(place, good, "other")
    assert verdict is Verdict.VERIFIED
    assert state.received(place, good, "other") == (state, Verdict.REPEATED)
    assert Transfer(manifest.root, 120, 0, 0b1).received(place, good, "other")[1] is Verdict.UNASKED


def test_blocks_that_were_hashed_on_the_way_are_judged_alike() -> None:
    manifest, data = small_model()
    state = begin(manifest)
    for place in manifest.places():
        good = data[place.offset : place.offset + place.length]
        assert state.hashed(place, place.id, "a") == state.received(place, good, "a")
        assert state.hashed(place, None, "a") == state.received(place, good[:-1], "a")
        state, _ = state.hashed(place, place.id, "a")
        assert state.hashed(place, None, "a") == (state, Verdict.REPEATED)
    assert state.synced().complete


def test_a_sync_covers_what_was_verified_when_it_began() -> None:
    manifest, _ = small_model()
    state = begin(manifest)
    first, second = manifest.place(0), manifest.place(1)
    begun, _ = state.hashed(first, first.id, "a")
    later, _ = begun.hashed(second, second.id, "a")
    synced = later.synced(begun)
    assert (synced.written, synced.verified, synced.unsynced) == (0b01, 0b10, second.length)
    assert synced.synced() == later.synced() and begun.synced(begun) == begun.synced()


def test_the_disk_is_not_believed_either() -> None:
    manifest, data = small_model()
    machine = Machine(len(data))
    state = one_life(manifest, data, machine, random.Random(1), lies=0)

    def read(offset: int, length: int) -> bytes:
        return bytes(machine.durable[offset : offset + length])

    every = range(manifest.block_count)
    assert unsound_blocks(manifest, every, read) == []
    for index in every:
        machine.durable[manifest.place(index).offset] ^= 1
        assert unsound_blocks(manifest, every, read) == [index]
        machine.durable[manifest.place(index).offset] ^= 1
    again = state.lost([7, 9])
    assert again.requests(10) == [(7, 1), (9, 1)] and not again.complete
    assert again.journal.written == state.journal.written & ~(1 << 7 | 1 << 9)


def test_a_journal_of_another_manifest_is_refused() -> None:
    manifest, _ = small_model()
    other = Transfer(Root(b"x" * 32), manifest.block_count, 0, 0).journal
    with pytest.raises(ValueError, match="another manifest"):
        begin(manifest, other)


def test_an_empty_model_is_complete_at_once() -> None:
    assert begin(described({})).complete
