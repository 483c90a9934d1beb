"""Kills between writes, full disks, readers beside the writer: all facts or none, always a valid chain."""

import json
import os
import random
import resource
import signal
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from mergenode.adapters.store.sqlite_ledger import SqliteLedger, open_reader
from mergenode.errors import FatalError, TransientError, TransientReason
from mergenode.ledger.records import Fact
from tests.support.facts import digest, discovered, folded, initialised, published

GROUP = 3
"""Facts per append in these tests: discovered, folded, published."""


def group(number: int) -> tuple[Fact, ...]:
    return (discovered(number), folded(number), published(number))


def append_until_killed(path: Path, told: int, started: int) -> None:
    """The child: appends group after group and tells, after each, that it is durable. Never returns."""
    ledger = SqliteLedger(path)
    number = ledger.head().generation
    os.write(started, b"s")
    while True:
        number += 1
        ledger.append(*group(number))
        os.write(told, number.to_bytes(4, "big"))


@pytest.mark.slow
def test_a_kill_loses_nothing_that_was_told_and_tears_nothing(tmp_path: Path) -> None:
    path, draw = tmp_path / "ledger.sqlite", random.Random(7)
    with closing(SqliteLedger(path)) as ledger:
        ledger.append(initialised())
    told_before = 0
    for _ in range(40):
        told = _killed_run(path, appends=draw.randrange(6), spin=draw.randrange(20_000))
        with closing(SqliteLedger(path)) as ledger:
            facts = [fact for _, fact in ledger.facts()]
            groups = (len(facts) - 1) // GROUP
            expected = [fact for number in range(1, groups + 1) for fact in group(number)]
            assert facts == [initialised(), *expected], "a prefix, in whole groups"
            assert groups >= max(told, told_before), "what append returned from is durable"
            assert ledger.verify() == []
            told_before = groups


def _killed_run(path: Path, *, appends: int, spin: int) -> int:
    """Fork a writer, kill it soon after its ``appends``-th append; returns the last append it told of."""
    told_read, told_write = os.pipe()
    started_read, started_write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            append_until_killed(path, told_write, started_write)
        finally:
            os._exit(1)
    os.close(told_write)
    os.close(started_write)
    assert os.read(started_read, 1) == b"s"
    last = b"\0\0\0\0"
    for _ in range(appends):
        last = os.read(told_read, 4)
    sum(range(spin))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the child failed instead of being killed"
    while more := os.read(told_read, 4):
        last = more
    os.close(told_read)
    os.close(started_read)
    return int.from_bytes(last, "big")


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Writes beyond ``size`` fail, as on a full or failing disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("extra", [0, 1, 24, 100, 4096, 4120, 5000, 9000, 12_000, 20_000, 40_000])
def test_a_write_that_fails_anywhere_appends_nothing(tmp_path: Path, extra: int) -> None:
    path = tmp_path / "ledger.sqlite"
    with closing(SqliteLedger(path)) as ledger:
        ledger.append(initialised(), *group(1))
        size = path.with_name("ledger.sqlite-wal").stat().st_size
        large = folded(2, warnings=("x" * 60_000,))
        with largest_file(size + extra), pytest.raises(TransientError) as failed:
            ledger.append(discovered(2), large)
        assert failed.value.reason in (TransientReason.WRITE_FAILED, TransientReason.DISK_FULL)
        assert str(path) in failed.value.message
        assert failed.value.hint
        assert ledger.counts() == {"initialised": 1, "discovered": 1, "folded": 1, "published": 1}
        assert ledger.verify() == []
        assert ledger.append(discovered(2), large) == 6
        assert ledger.verify() == []
    with closing(SqliteLedger(path)) as ledger:
        assert ledger.head().generation == 2
        assert ledger.verify() == []


def test_a_full_disk_is_told_as_such(tmp_path: Path) -> None:
    """SQLite's own page limit stands in for the disk: it raises the same code, SQLITE_FULL."""
    path = tmp_path / "ledger.sqlite"
    with closing(SqliteLedger(path)) as ledger:
        ledger.append(initialised())
        (pages,) = ledger._connection.execute("PRAGMA page_count").fetchone()
        ledger._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(TransientError) as full:
            ledger.append(discovered(1), folded(1, warnings=("x" * 60_000,)))
        assert full.value.reason == TransientReason.DISK_FULL
        assert "free space" in full.value.hint
        ledger._connection.execute("PRAGMA max_page_count = 1000000")
        assert ledger.append(discovered(1)) == 2
        assert ledger.verify() == []


def test_a_file_that_became_read_only_is_a_transient_failure(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with closing(SqliteLedger(path)) as ledger:
        ledger.append(initialised())
        ledger._connection.execute("PRAGMA query_only = ON")
        with pytest.raises(TransientError) as failed:
            ledger.append(discovered(1))
        assert failed.value.reason == TransientReason.WRITE_FAILED
        assert ledger.head().generation == 0


def test_what_was_appended_is_synced(tmp_path: Path) -> None:
    with closing(SqliteLedger(tmp_path / "ledger.sqlite")) as ledger:
        assert ledger._connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert ledger._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_the_index_refuses_a_second_fold_even_if_the_rules_were_gone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with closing(SqliteLedger(path)) as ledger:
        ledger.append(initialised(), folded(1))
    with closing(sqlite3.connect(path)) as connection, pytest.raises(sqlite3.IntegrityError):
        connection.execute("INSERT INTO members SELECT content, 3 FROM facts WHERE kind = 'folded'")


def test_readers_in_many_threads_see_only_whole_groups(tmp_path: Path) -> None:
    path, rounds = tmp_path / "ledger.sqlite", 60
    torn: list[object] = []
    with closing(SqliteLedger(path)) as ledger, closing(open_reader(path)) as shared:
        ledger.append(initialised())
        finished = threading.Event()

        def read() -> None:
            seen = 0
            while not finished.is_set():
                head, counts = shared.head(), shared.counts()
                if head.version != head.generation or head.generation < seen:
                    torn.append(head)
                if counts.get("folded") != counts.get("published"):
                    torn.append(counts)
                seen = head.generation

        readers = [threading.Thread(target=read) for _ in range(3)]
        for reader in readers:
            reader.start()
        try:
            for number in range(1, rounds + 1):
                ledger.append(*group(number))
        finally:
            finished.set()
            for reader in readers:
                reader.join()
        assert shared.head() == ledger.head()
        assert shared.verify() == []
    assert torn == []


def test_an_open_stream_does_not_hold_up_the_writer(tmp_path: Path) -> None:
    with closing(SqliteLedger(tmp_path / "ledger.sqlite")) as ledger:
        ledger.append(initialised(), *(fact for number in range(1, 101) for fact in group(number)))
        stream = ledger.folds()
        assert next(stream)[1].generation == 1
        ledger.append(*group(101))
        assert [fact.generation for _, fact in stream] == list(range(2, 102))


def test_an_older_process_reads_what_a_reader_cannot_change(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with closing(SqliteLedger(path)) as ledger:
        ledger.append(initialised(), folded(1))
    with closing(open_reader(path)) as reader:
        assert reader.by_content(digest(1)) == folded(1)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader._connection.execute("DELETE FROM facts")


def test_an_illegal_fact_leaves_no_transaction_open(tmp_path: Path) -> None:
    with closing(SqliteLedger(tmp_path / "ledger.sqlite")) as ledger:
        with pytest.raises(FatalError):
            ledger.append(folded(1))
        assert ledger.append(initialised()) == 1
        assert json.loads(ledger._rows("SELECT body FROM facts")[0][0])["kind"] == "initialised"
