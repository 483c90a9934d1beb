"""One daemon per state directory, whatever ends its process."""

import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mergenode.adapters.store import lock as lock_module
from mergenode.adapters.store.lock import StateLock, read_lock
from mergenode.adapters.store.lock_file import LockOwner
from mergenode.errors import FatalError


class Holder:
    """Another process that holds the lock until it is killed or told to go."""

    def __init__(self, state_dir: Path, node: str = "other") -> None:
        self._from_child, told = os.pipe()
        go, self._to_child = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                with StateLock(state_dir, node=node):
                    os.write(told, b"h")
                    os.read(go, 1)
                code = 0
            finally:
                os._exit(code)
        os.close(told)
        os.close(go)
        assert os.read(self._from_child, 1) == b"h"

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self._reap()

    def release(self) -> None:
        os.write(self._to_child, b"g")
        assert self._reap() == 0

    def _reap(self) -> int:
        _, status = os.waitpid(self.pid, 0)
        os.close(self._from_child)
        os.close(self._to_child)
        return status


def in_a_child(act: Callable[[], bool]) -> bool:
    """What ``act`` says when a forked process runs it."""
    child = os.fork()
    if child == 0:
        code = 2
        try:
            code = 0 if act() else 1
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in (0, 1), "the child failed"
    return os.waitstatus_to_exitcode(status) == 0


def is_refused(state_dir: Path) -> bool:
    try:
        StateLock(state_dir).close()
    except FatalError:
        return True
    return False


def test_a_second_process_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    holder = Holder(tmp_path, node="node-b")
    with pytest.raises(FatalError) as refused:
        StateLock(tmp_path)
    assert f"process {holder.pid} on {socket.gethostname()} (node node-b)" in refused.value.message
    assert str(tmp_path) in refused.value.message
    assert "node.state" in refused.value.hint
    assert read_lock(tmp_path) == LockOwner(holder.pid, socket.gethostname(), 1, "node-b", held=True)
    holder.release()
    StateLock(tmp_path).close()


def test_a_killed_holder_leaves_no_lock_behind(tmp_path: Path) -> None:
    holder = Holder(tmp_path)
    holder.kill()
    assert read_lock(tmp_path) == LockOwner(holder.pid, socket.gethostname(), 1, "other", held=False)
    with StateLock(tmp_path) as lock:
        assert lock.epoch == 2


def test_holders_that_were_killed_are_counted_until_one_gives_the_lock_back(tmp_path: Path) -> None:
    counted = []
    for _ in range(2):
        Holder(tmp_path).kill()
        owner = read_lock(tmp_path)
        assert owner is not None and not owner.ended
        counted.append(owner.killed)
    for _ in range(2):
        with StateLock(tmp_path) as lock:
            counted.append(lock.killed)
    assert counted == [0, 1, 2, 0]


def test_a_record_of_an_earlier_release_accuses_nobody(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text('{"epoch": 4, "pid": 7, "host": "x", "node": ""}'.ljust(1023) + "\n")
    with StateLock(tmp_path) as lock:
        assert (lock.epoch, lock.killed) == (5, 0)


def test_a_second_lock_in_the_same_process_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    with StateLock(tmp_path, node="me"):
        for _ in range(2):
            with pytest.raises(FatalError, match=f"process {os.getpid()} on .* \\(node me\\)"):
                StateLock(tmp_path)
        assert in_a_child(lambda: is_refused(tmp_path)), "the refusal dropped the lock"
    assert not is_refused(tmp_path)


def test_reading_the_lock_in_the_process_that_holds_it_does_not_drop_it(tmp_path: Path) -> None:
    with StateLock(tmp_path, node="me"):
        assert read_lock(tmp_path) == LockOwner(os.getpid(), socket.gethostname(), 1, "me", held=True)
        assert in_a_child(lambda: is_refused(tmp_path))


def test_reading_takes_no_lock_and_creates_nothing(tmp_path: Path) -> None:
    assert read_lock(tmp_path) is None
    assert read_lock(tmp_path / "absent") is None
    assert list(tmp_path.iterdir()) == []
    StateLock(tmp_path).close()
    assert in_a_child(lambda: read_lock(tmp_path) is not None and not is_refused(tmp_path))


def test_the_epoch_grows_with_every_holder(tmp_path: Path) -> None:
    for epoch in range(1, 12):
        with StateLock(tmp_path) as lock:
            assert lock.epoch == epoch
            owner = read_lock(tmp_path)
            assert owner is not None
            assert owner.epoch == epoch
    assert (tmp_path / "lock").stat().st_size == 1024


def test_a_forked_child_holds_nothing_and_takes_nothing_away(tmp_path: Path) -> None:
    with StateLock(tmp_path) as lock:

        def child() -> bool:
            lock.close()
            owner = read_lock(tmp_path)
            return owner is not None and owner.held and owner.pid == os.getppid() and is_refused(tmp_path)

        assert in_a_child(child)
        assert in_a_child(lambda: is_refused(tmp_path)), "the child's close released the parent's lock"


def test_a_forked_child_does_not_keep_the_lock_alive(tmp_path: Path) -> None:
    go, tell = os.pipe()
    lock = StateLock(tmp_path)
    child = os.fork()
    if child == 0:
        os.read(go, 1)
        os._exit(0)
    lock.close()
    assert not is_refused(tmp_path)
    os.write(tell, b"g")
    assert os.waitpid(child, 0)[1] == 0
    os.close(go)
    os.close(tell)


def test_a_forked_child_may_lock_what_its_parent_gave_up(tmp_path: Path) -> None:
    """It keeps neither its parent's descriptor nor its parent's belief that the lock is held."""
    go, tell = os.pipe()
    lock = StateLock(tmp_path)
    child = os.fork()
    if child == 0:
        code = 2
        try:
            os.read(go, 1)
            open_files = {os.readlink(entry) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()}
            code = 1 if is_refused(tmp_path) or str(tmp_path / "lock") in open_files else 0
        finally:
            os._exit(code)
    lock.close()
    os.write(tell, b"g")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.close(go)
    os.close(tell)


def test_a_started_program_does_not_inherit_the_descriptor(tmp_path: Path) -> None:
    with StateLock(tmp_path):
        code = "import os; print([os.readlink(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd') if "
        code += "os.path.islink(f'/proc/self/fd/{n}')])"
        shown = subprocess.run([sys.executable, "-c", code], close_fds=False, capture_output=True, check=True)
        assert str(tmp_path) not in shown.stdout.decode()


def test_closing_twice_is_harmless_even_when_somebody_else_locks_in_between(tmp_path: Path) -> None:
    first = StateLock(tmp_path)
    first.close()
    with StateLock(tmp_path):
        first.close()
        assert in_a_child(lambda: is_refused(tmp_path))


def test_two_directories_are_two_locks(tmp_path: Path) -> None:
    with StateLock(tmp_path / "a"), StateLock(tmp_path / "b"):
        assert is_refused(tmp_path / "a")
        assert is_refused(tmp_path / "b")


def test_the_state_directory_is_created_for_its_owner_alone(tmp_path: Path) -> None:
    with StateLock(tmp_path / "new" / "state"):
        assert (tmp_path / "new" / "state").stat().st_mode & 0o077 == 0
        assert (tmp_path / "new" / "state" / "lock").stat().st_mode & 0o077 == 0


def test_a_directory_reached_by_two_paths_is_one_directory(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "alias").symlink_to("state")
    with StateLock(tmp_path / "state"):
        assert is_refused(tmp_path / "alias")


def test_names_of_any_kind_fit_into_the_record(tmp_path: Path) -> None:
    for name in ("", "\U0001f600" * 300, 'quote " and \\', "\udc80", "x" * 5000):
        with StateLock(tmp_path, node=name):
            owner = read_lock(tmp_path)
            assert owner is not None
            assert owner.node == name[:64]


@pytest.mark.parametrize("content", [b"", b"\0" * 1024, b" \n"])
def test_a_lock_file_that_was_never_completed_counts_as_new(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "lock").write_bytes(content)
    assert read_lock(tmp_path) is None
    with StateLock(tmp_path) as lock:
        assert lock.epoch == 1


@pytest.mark.parametrize(
    "content", [b"4711", b"{}", b"[]", b'{"epoch": "many"}', b"\xff\xfe", b"[" * 1024, b'{"epoch": null}']
)
def test_a_file_that_is_no_lock_file_is_not_overwritten(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "lock").write_bytes(content)
    for attempt in (StateLock, read_lock):
        with pytest.raises(FatalError, match="is not a lock file") as refused:
            attempt(tmp_path)
        assert refused.value.hint
    assert (tmp_path / "lock").read_bytes() == content


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("text")
    (tmp_path / "lock").symlink_to("precious")
    for attempt in (StateLock, read_lock):
        with pytest.raises(FatalError, match="cannot lock"):
            attempt(tmp_path)
    assert (tmp_path / "precious").read_text() == "text"


def test_a_state_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("text")
    with pytest.raises(FatalError, match="cannot lock the state directory") as refused:
        StateLock(tmp_path / "state")
    assert refused.value.hint


def test_a_failed_attempt_leaves_no_descriptor_open(tmp_path: Path) -> None:
    holder = Holder(tmp_path)
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(3):
        assert is_refused(tmp_path)
    assert sorted(os.listdir("/proc/self/fd")) == before
    holder.release()


def test_a_file_system_without_locks_is_named_as_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock_module.fcntl, "lockf", without_locks)
    with pytest.raises(FatalError, match="No locks available") as refused:
        StateLock(tmp_path)
    assert "POSIX locks" in refused.value.hint


def test_a_full_disk_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FatalError, match="No space left") as caught:
        StateLock(tmp_path)
    assert "free space" in caught.value.hint
