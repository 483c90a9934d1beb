"""A state directory that may be read and not written: another user's, or on a read-only mount."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from mergenode.adapters.store.lock import StateLock, read_lock
from mergenode.adapters.store.sqlite_ledger import SqliteLedger, open_reader
from mergenode.errors import FatalError
from tests.support.facts import folded, initialised, published

NOBODY = 65534


@pytest.fixture
def state() -> Iterator[Path]:
    """A closed state that everybody may read; only its owner may write."""
    with TemporaryDirectory() as root:
        Path(root).chmod(0o755)
        state = Path(root) / "state"
        state.mkdir(mode=0o755)
        with closing(SqliteLedger(state / "ledger.sqlite")) as ledger:
            ledger.append(initialised(), folded(1), published(1))
        (state / "ledger.sqlite").chmod(0o644)
        yield state


@contextmanager
def without_rights(state: Path) -> Iterator[None]:
    """As a user that may not write there."""
    if os.geteuid() == 0:
        os.seteuid(NOBODY)
        try:
            yield
        finally:
            os.seteuid(0)
    else:
        state.chmod(0o555)
        try:
            yield
        finally:
            state.chmod(0o755)


def test_a_closed_ledger_is_read_and_nothing_is_left_beside_it(state: Path) -> None:
    with without_rights(state), closing(open_reader(state / "ledger.sqlite")) as reader:
        assert reader.head().version == 1
        assert list(reader.verify()) == []
    assert [path.name for path in state.iterdir()] == ["ledger.sqlite"]


def test_beside_a_writer_what_it_commits_is_seen(state: Path) -> None:
    with closing(SqliteLedger(state / "ledger.sqlite")) as ledger:
        with without_rights(state), closing(open_reader(state / "ledger.sqlite")) as reader:
            assert reader.head().count == 1
        ledger.append(folded(2))
        with without_rights(state), closing(open_reader(state / "ledger.sqlite")) as reader:
            assert reader.head().count == 2


def test_what_a_killed_writer_left_is_seen(state: Path) -> None:
    pid = os.fork()
    if pid == 0:
        SqliteLedger(state / "ledger.sqlite").append(folded(2))
        os._exit(0)  # nothing is closed
    assert os.waitpid(pid, 0)[1] == 0
    assert (state / "ledger.sqlite-wal").stat().st_size > 0
    with without_rights(state), closing(open_reader(state / "ledger.sqlite")) as reader:
        assert reader.head().count == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_lock_that_may_not_be_read_says_who_may(state: Path) -> None:
    StateLock(state).close()
    with without_rights(state), pytest.raises(FatalError, match="cannot see who holds the state directory") as refused:
        read_lock(state)
    assert "the user that the node runs as" in refused.value.hint
