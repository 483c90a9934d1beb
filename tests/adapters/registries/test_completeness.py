from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.adapters.registries.completeness import (
    Complete,
    EntrySeen,
    FileSeen,
    Instant,
    Memory,
    SettleRule,
    Waiting,
    decide,
    remember,
    settle_seconds_left,
)
from mergenode.adapters.registries.marker import FilePromise, Marker
from tests.support.registry_files import shard_names

RULE = SettleRule(seconds=30.0, polls=3)
START = 1_000_000.0
"""Wall clock at monotonic zero."""


def at(seconds: float, *, wall: float = START) -> Instant:
    return Instant(unix=wall + seconds, monotonic=seconds)


def weights(size: int = 10, name: str = "model.safetensors", changed: float = 0.0, declared: int = 10) -> FileSeen:
    return FileSeen(name, size, ctime_ns=int((START + changed) * 1e9), declared=declared)


def entry(*files: FileSeen, **values: object) -> EntrySeen:
    files = files or (weights(),)
    newest = max(file.ctime_ns for file in files)
    return EntrySeen("x", files, **{"newest_change_ns": newest, "fingerprint": b"1", **values})  # type: ignore[arg-type]  # test builder


def seen_over(*moments: float, rule: SettleRule = RULE, found: EntrySeen | None = None) -> Complete | Waiting:
    """The decision after listings at these moments that always found the same."""
    found = found or entry()
    memory = None
    for moment in moments:
        memory = remember(memory, found.fingerprint, at(moment))
    assert memory is not None
    return decide(found, memory, rule, at(moments[-1]))


FUTURE = {"newest_change_ns": int((START + 1e6) * 1e9)}
"""A change time that cannot be believed: only listings count."""


@pytest.mark.parametrize(
    ("moments", "complete"),
    [
        ((0,), False),
        ((0, 10, 20), False),
        ((0, 10, 29.9), False),
        ((0, 10, 30), True),
        ((0, 40), False),
        ((0, 1, 2, 3, 4, 5), False),
        ((0, 1, 30), True),
    ],
)
def test_stable_over_enough_listings_and_seconds(moments: tuple[float, ...], complete: bool) -> None:
    decision = seen_over(*moments, found=entry(**FUTURE))
    assert isinstance(decision, Complete) == complete
    assert decision == Complete(attested=False) if complete else decision != Complete(attested=False)


def test_it_says_how_long_it_still_takes() -> None:
    decision = seen_over(0, 10, found=entry(**FUTURE))
    assert decision == Waiting("waiting until it lies still", 20.0)


def test_any_change_starts_the_wait_again() -> None:
    first = remember(None, b"1", at(0))
    first = remember(first, b"1", at(20))
    second = remember(first, b"2", at(29))
    assert second == Memory(b"2", at(29), 1)
    assert isinstance(decide(entry(**FUTURE, fingerprint=b"2"), second, RULE, at(31)), Waiting)


def test_an_entry_that_lay_there_before_is_complete_at_first_sight() -> None:
    old = entry(weights(changed=-30.0))
    assert seen_over(0, found=old) == Complete(attested=False)
    young = entry(weights(changed=-29.0))
    assert seen_over(0, found=young) == Waiting("waiting until it lies still", pytest.approx(1.0))


def test_a_change_time_in_the_future_is_never_believed() -> None:
    assert isinstance(seen_over(0, 1, found=entry(weights(changed=3600.0))), Waiting)


def test_a_clock_that_was_set_forward_does_not_age_files() -> None:
    memory = remember(None, b"1", at(0))
    jumped = Instant(unix=START + 3600.0, monotonic=5.0)
    assert isinstance(decide(entry(), remember(memory, b"1", jumped), RULE, jumped), Waiting)


def test_another_machines_clock_needs_a_larger_age() -> None:
    rule = replace(RULE, clock_skew_seconds=3600.0)
    assert isinstance(seen_over(0, rule=rule, found=entry(weights(changed=-3600.0))), Waiting)
    assert seen_over(0, rule=rule, found=entry(weights(changed=-3631.0))) == Complete(attested=False)


def test_renamed_in_is_attested_at_once_and_until_it_changes() -> None:
    found = entry(weights(changed=0.0))
    memory = remember(None, b"1", at(0), renamed_in=True)
    assert decide(found, memory, RULE, at(0)) == Complete(attested=True)
    memory = remember(memory, b"1", at(5))
    assert decide(found, memory, RULE, at(5)) == Complete(attested=True)
    memory = remember(memory, b"2", at(6))
    assert isinstance(decide(replace(found, fingerprint=b"2"), memory, RULE, at(6)), Waiting)


def _marked(files: dict[str, FilePromise], *seen: FileSeen, changed: float = 1.0) -> EntrySeen:
    return entry(*seen, marker=Marker(files), marker_change_ns=int((START + changed) * 1e9))


def test_a_marker_written_last_is_enough_at_once() -> None:
    assert seen_over(2, found=_marked({"model.safetensors": FilePromise(10)}, weights())) == Complete(attested=True)


def test_a_marker_that_came_before_its_files_has_to_lie_still_first() -> None:
    found = _marked({"model.safetensors": FilePromise(10)}, weights(changed=2.0))
    assert seen_over(3, found=found) == Waiting("files changed after the commit marker", pytest.approx(29.0))
    assert seen_over(3, 10, 33, found=found) == Complete(attested=True)


def test_a_log_that_grows_after_the_commit_changes_nothing() -> None:
    log = FileSeen("training.log", 5, ctime_ns=int((START + 99) * 1e9))
    assert seen_over(100, found=_marked({"model.safetensors": FilePromise(10)}, weights(), log)) == Complete(True)


@pytest.mark.parametrize(
    ("promise", "file", "words"),
    [
        (FilePromise(10), None, "missing"),
        (FilePromise(20), weights(10), "10 of 20 bytes"),
        (FilePromise(5), weights(10), "commit it again"),
        (FilePromise(10, "a" * 64), replace(weights(), blake3="b" * 64), "commit it again"),
    ],
)
def test_a_marker_waits_for_what_it_promises(promise: FilePromise, file: FileSeen | None, words: str) -> None:
    other = weights(name="other.safetensors")
    found = _marked({"model.safetensors": promise}, *([file] if file else []), other)
    decision = seen_over(0, 1000, 2000, found=found)
    assert isinstance(decision, Waiting) and decision.seconds_left is None
    assert "model.safetensors" in decision.why and words in decision.why


def test_a_matching_marker_leaves_a_short_file_to_the_validation() -> None:
    short = weights(size=10, declared=99)
    assert seen_over(2, found=_marked({"model.safetensors": FilePromise(10)}, short)) == Complete(attested=True)


LACKING = {
    "nothing": (entry(FileSeen("config.json", 2, 0)), "no weights yet"),
    "too deep": (entry(FileSeen("config.json", 2, 0), nested="a/b.safetensors"), "a/b.safetensors"),
    "growing": (entry(weights(size=4, declared=12)), "model.safetensors is 4 of 12 bytes"),
    "index shard": (entry(weights(), shards=("model.safetensors", "b.safetensors")), "b.safetensors"),
    "only an index": (entry(FileSeen("i.json", 2, 0), shards=("b.safetensors",)), "b.safetensors"),
    "numbered shard": (entry(*(weights(name=name) for name in shard_names(3)[::2])), shard_names(3)[1]),
    "part file": (entry(weights(), FileSeen("tokenizer.json.part", 1, 0)), "tokenizer.json.part"),
    "hostile count": (entry(weights(name="m-00001-of-99999.safetensors")), "m-00002-of-99999.safetensors"),
}


@pytest.mark.parametrize("case", LACKING)
@pytest.mark.parametrize("renamed_in", [False, True])
def test_what_is_missing_is_named_and_waited_for_without_end(case: str, renamed_in: bool) -> None:
    found, words = LACKING[case]
    memory = remember(None, b"1", at(0), renamed_in=renamed_in)
    for moment in (1e3, 1e6, 1e8):
        memory = remember(memory, b"1", at(moment))
        decision = decide(found, memory, RULE, at(moment))
        assert isinstance(decision, Waiting) and decision.seconds_left is None
        assert words in decision.why


@pytest.mark.parametrize("case", LACKING)
def test_giving_up_hands_it_to_the_validation(case: str) -> None:
    found = replace(LACKING[case][0], **FUTURE)
    rule = replace(RULE, give_up_seconds=500.0)
    assert isinstance(seen_over(0, 499, rule=rule, found=found), Waiting)
    assert seen_over(0, 500, rule=rule, found=found) == Complete(attested=False)


def test_a_file_longer_than_declared_is_complete_and_the_validations_to_refuse() -> None:
    assert seen_over(0, 15, 30, found=entry(weights(size=11, declared=10))) == Complete(attested=False)


@settings(deadline=None, max_examples=200)
@given(
    history=st.lists(st.tuples(st.sampled_from([b"1", b"2"]), st.integers(0, 20)), min_size=1, max_size=15),
    polls=st.integers(1, 5),
    seconds=st.integers(0, 40),
)
def test_settling_equals_looking_back_over_the_whole_history(
    history: list[tuple[bytes, int]], polls: int, seconds: int
) -> None:
    rule = SettleRule(seconds=seconds, polls=polls)
    memory, moment, told = None, 0.0, []
    for fingerprint, pause in history:
        moment += pause
        memory = remember(memory, fingerprint, at(moment))
        told.append((fingerprint, moment))
    run = []
    for fingerprint, when in reversed(told):
        if fingerprint != told[-1][0]:
            break
        run.append(when)
    settled = len(run) >= polls and run[0] - run[-1] >= seconds
    left = settle_seconds_left(entry(**FUTURE), memory, rule, at(moment))
    assert (left is None) == settled
    if left is not None:
        assert left == max(0.0, seconds - (run[0] - run[-1]))
