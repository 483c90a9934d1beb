"""Long work under way, collected from many threads, and what metrics say of it."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import pytest
from prometheus_client import CollectorRegistry

from mergenode.adapters.observers.activities import MAX_ACTIVITIES, ActivityBook
from mergenode.adapters.observers.activity_metrics import KINDS, ActivityMetrics
from mergenode.ports.activity import Activity, ActivityKind
from mergenode.ports.observer import Progress
from tests.support.observed import TIME, HandClock


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def book(clock: HandClock) -> ActivityBook:
    return ActivityBook(clock)


def shown(book: ActivityBook, clock: HandClock) -> tuple[Activity, ...]:
    return book.picture(clock.monotonic()).activities


def test_work_is_there_from_its_first_word_to_its_last(book: ActivityBook, clock: HandClock) -> None:
    book.progress(Progress("fold", "m", 0, 4, 0, 400))
    for done in range(1, 4):
        clock.advance(2.0)
        book.progress(Progress("fold", "m", done, 4, 100 * done, 400))
    clock.advance(0.5)
    (found,) = shown(book, clock)
    assert (found.kind, found.subject, found.started, found.elapsed_seconds) == ("fold", "m", TIME, 6.5)
    assert (found.bytes_done, found.bytes_total, found.steps_done, found.share) == (300, 400, 3, 0.75)
    assert (found.rate, found.unit, found.remaining_seconds) == (pytest.approx(50.0), "bytes", pytest.approx(1.5))
    assert found.silent_seconds == 0.5
    book.progress(Progress("fold", "m", 4, 4, 400, 400, over=True))
    assert shown(book, clock) == ()


def test_taken_up_after_a_kill_it_is_further_not_faster(book: ActivityBook, clock: HandClock) -> None:
    book.progress(Progress("fold", "m", 0, 10, 0, 1000))
    book.progress(Progress("fold", "m", 8, 10, 800, 1000, free_bytes=800))
    clock.advance(5.0)
    book.progress(Progress("fold", "m", 9, 10, 900, 1000, free_bytes=800))
    (found,) = shown(book, clock)
    assert (found.bytes_done, found.taken_over_bytes) == (900, 800)
    assert (found.rate, found.remaining_seconds) == (pytest.approx(20.0), pytest.approx(5.0))


def test_without_bytes_steps_are_the_measure(book: ActivityBook, clock: HandClock) -> None:
    book.progress(Progress("selection", "9 contributions", 0, 20, 0, 0, step="rounds"))
    clock.advance(10.0)
    book.progress(Progress("selection", "9 contributions", 5, 20, 0, 0, step="rounds"))
    (found,) = shown(book, clock)
    assert (found.rate, found.unit, found.remaining_seconds, found.share) == (0.5, "rounds", 30.0, 0.25)


def test_what_is_done_never_becomes_less(book: ActivityBook, clock: HandClock) -> None:
    book.progress(Progress("objective", "loss()", 0, 0, 0, 0, step="batches"))
    for done in (5, 3, -7, 4):
        clock.advance(1.0)
        book.progress(Progress("objective", "loss()", done, 0, 0, 0, step="batches"))
    assert [each.steps_done for each in shown(book, clock)] == [5]


def test_the_loop_is_busy_with_the_innermost_and_transfers_are_beside_it(book: ActivityBook, clock: HandClock) -> None:
    for kind in ("replay", "fold", "transfer"):
        book.progress(Progress(kind, kind, 0, 1, 0, 1))
    picture = book.picture(clock.monotonic())
    assert [each.kind for each in picture.activities] == ["replay", "fold", "transfer"]
    assert picture.innermost is not None and picture.innermost.progress.activity == "fold"
    book.progress(Progress("fold", "fold", 1, 1, 1, 1, over=True))
    innermost = book.picture(clock.monotonic()).innermost
    assert innermost is not None and innermost.progress.activity == "replay"


def test_what_others_begin_cannot_fill_the_memory(book: ActivityBook, clock: HandClock) -> None:
    for number in range(1000):
        book.progress(Progress("transfer", f"m{number}", 0, 0, 0, 1))
    assert len(shown(book, clock)) == MAX_ACTIVITIES
    for number in range(1000):
        book.progress(Progress("transfer", f"m{number}", 0, 0, 1, 1, over=True))
    assert shown(book, clock) == ()


def test_many_threads_tell_while_somebody_looks(book: ActivityBook, clock: HandClock) -> None:
    def work(name: str) -> None:
        for _ in range(50):
            for done in range(10):
                book.progress(Progress("transfer", name, 0, 0, done, 10))
            book.progress(Progress("transfer", name, 0, 0, 10, 10, over=True))

    threads = [threading.Thread(target=work, args=(str(number),)) for number in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert all(0 <= each.bytes_done <= 10 for each in shown(book, clock))
    assert shown(book, clock) == ()


def values(registry: CollectorRegistry) -> Mapping[tuple[str, str], float]:
    return {
        (sample.name.removeprefix("mergenode_"), sample.labels["kind"]): sample.value
        for family in registry.collect()
        for sample in family.samples
    }


def activity(kind: str, **fields: object) -> Activity:
    return Activity(kind=kind, subject="s", **fields)  # type: ignore[arg-type]  # as each test needs them


def test_metrics_add_up_what_is_of_one_kind() -> None:
    registry = CollectorRegistry()
    works = [
        activity("transfer", bytes_done=10, bytes_total=100, rate=5.0, remaining_seconds=18.0),
        activity("transfer", bytes_done=90, bytes_total=100, rate=2.0, remaining_seconds=5.0),
        activity("selection", steps_done=5, steps_total=20, unit="rounds", rate=0.5, remaining_seconds=30.0),
        activity("training"),
        activity("made up"),
    ]
    ActivityMetrics(registry, lambda: works)
    found = values(registry)
    assert found["activities", "transfer"] == 2.0 and found["activities", "fold"] == 0.0
    assert found["activities", "other"] == found["activities", "training"] == 1.0
    assert found["activity_progress_ratio", "transfer"] == 0.5
    assert found["activity_bytes_per_second", "transfer"] == 7.0
    assert found["activity_remaining_seconds", "transfer"] == 18.0
    assert found["activity_progress_ratio", "selection"] == 0.25
    assert ("activity_bytes_per_second", "selection") not in found
    assert not {("activity_progress_ratio", "training"), ("activity_remaining_seconds", "training")} & set(found)


def test_a_time_that_is_not_known_is_not_guessed_from_the_others() -> None:
    registry = CollectorRegistry()
    works = [activity("transfer", bytes_total=1, remaining_seconds=18.0), activity("transfer", bytes_total=1)]
    ActivityMetrics(registry, lambda: works)
    assert ("activity_remaining_seconds", "transfer") not in values(registry)


def test_the_number_of_series_is_bounded() -> None:
    registry = CollectorRegistry()
    names = [*ActivityKind, *map(str, range(100))]
    ActivityMetrics(
        registry,
        lambda: [activity(name, bytes_done=1, bytes_total=2, rate=1.0, remaining_seconds=1.0) for name in names],
    )
    assert len(values(registry)) == 4 * len(KINDS)
