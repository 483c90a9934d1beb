from __future__ import annotations

import errno
import os
import resource
import shutil
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from watchdog.observers.inotify_c import InotifyConstants, InotifyEvent

from mergenode.adapters.registries import inotify
from mergenode.adapters.registries import watch as subject
from mergenode.adapters.registries.filesystem import FileSystem, notifies
from mergenode.adapters.registries.folder import FolderRegistry
from mergenode.adapters.registries.inotify import INSTANCE
from mergenode.adapters.registries.marker import write_marker
from mergenode.adapters.registries.watch import FolderWatch, SilentWatch, Throttle, open_watch
from tests.support.clock import FakeClock
from tests.support.registry_files import safetensors_bytes, write_single

PATIENCE = 20.0
"""Longest wait for an event that has to come; never reached when all is well."""


@dataclass
class Pokes:
    """Counts pokes and lets a test wait for the next one."""

    count: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def __call__(self) -> None:
        with self._changed:
            self.count += 1
            self._changed.notify_all()

    def wait_for_more_than(self, count: int) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self.count > count, PATIENCE)


@dataclass
class Watched:
    root: Path
    watch: FolderWatch
    pokes: Pokes
    messages: list[str]

    def poked_by(self, change: Callable[[], object]) -> bool:
        """Whether a poke follows the change."""
        before = self.pokes.count
        change()
        return self.pokes.wait_for_more_than(before)


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    root = tmp_path / "inbox"
    root.mkdir()
    if not notifies(root):
        pytest.skip("the temporary directory lies on a file system that does not notify")
    messages: list[str] = []
    watch = FolderWatch(root, on_message=messages.append, debounce_seconds=0.01)
    yield Watched(root, watch, Pokes(), messages)
    watch.stop()
    assert INSTANCE._observer is None, "the last watch ends the inotify instance"


def test_what_happens_in_the_root_pokes(watched: Watched) -> None:
    watched.watch.start(watched.pokes)
    assert watched.watch.active and not watched.messages
    file = watched.root / "x.safetensors"
    assert watched.poked_by(lambda: file.write_bytes(safetensors_bytes()))
    assert watched.poked_by(lambda: write_marker(file))
    assert watched.poked_by(lambda: file.rename(watched.root / "y.safetensors"))
    assert watched.poked_by((watched.root / "y.safetensors").unlink)


def test_what_happens_inside_an_entry_pokes(watched: Watched) -> None:
    watched.watch.start(watched.pokes)
    assert watched.poked_by(lambda: write_single(watched.root / "one"))
    assert watched.poked_by(lambda: (watched.root / "one" / "more.safetensors").write_bytes(b"x"))
    assert watched.poked_by(lambda: write_marker(watched.root / "one"))


def test_an_entry_renamed_in_pokes_and_is_watched_itself(watched: Watched, tmp_path: Path) -> None:
    watched.watch.start(watched.pokes)
    write_single(tmp_path / "elsewhere")
    assert watched.poked_by(lambda: (tmp_path / "elsewhere").rename(watched.root / "one"))
    assert watched.poked_by(lambda: (watched.root / "one" / "config.json").write_text("[]"))


def test_names_in_progress_do_not_poke(watched: Watched) -> None:
    watched.watch.start(watched.pokes)
    write_single(watched.root / ".one")
    (watched.root / "x.safetensors.part").write_bytes(b"x")
    assert watched.poked_by((watched.root / "visible").mkdir)
    assert watched.pokes.count == 1, "events come in order, so the earlier ones were read and left out"


def test_a_root_behind_a_link_is_watched(watched: Watched, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(watched.root)
    watch = FolderWatch(tmp_path / "alias", on_message=watched.messages.append)
    watch.start(watched.pokes)
    try:
        assert watch.active
        assert watched.poked_by((watched.root / "one").mkdir)
    finally:
        watch.stop()


def test_stopping_is_final_and_idempotent(watched: Watched) -> None:
    watched.watch.stop()
    watched.watch.start(watched.pokes)
    watched.watch.stop()
    watched.watch.stop()
    assert not watched.watch.active
    (watched.root / "one").mkdir()
    assert watched.pokes.count == 0


def test_starting_twice_watches_once(watched: Watched) -> None:
    watched.watch.start(watched.pokes)
    watched.watch.start(watched.pokes)
    assert len(INSTANCE._subscriptions) == 1


def test_a_removed_root_ends_the_watch_and_it_can_start_again(watched: Watched) -> None:
    watched.watch.start(watched.pokes)
    shutil.rmtree(watched.root)
    assert not watched.watch.active
    watched.watch.start(watched.pokes)
    watched.watch.start(watched.pokes)
    assert len(watched.messages) == 1, "the same failure is told once"
    assert not watched.watch.active
    watched.root.mkdir()
    assert not watched.watch.active
    watched.watch.start(watched.pokes)
    assert watched.watch.active
    assert watched.poked_by((watched.root / "one").mkdir)


def test_a_root_that_was_replaced_is_not_the_one_that_is_watched(watched: Watched, tmp_path: Path) -> None:
    watched.watch.start(watched.pokes)
    watched.root.rename(tmp_path / "away")
    assert not watched.watch.active
    watched.root.mkdir()
    assert not watched.watch.active
    watched.watch.start(watched.pokes)
    assert watched.watch.active
    assert watched.poked_by((watched.root / "one").mkdir)


def test_two_watches_share_one_instance_and_end_apart(watched: Watched, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    others = [
        FolderWatch(path, on_message=watched.messages.append, debounce_seconds=0.01)
        for path in (tmp_path / "second", watched.root)
    ]
    watched.watch.start(watched.pokes)
    descriptors = len(os.listdir("/proc/self/fd"))
    pokes = [Pokes(), Pokes()]
    for other, poke in zip(others, pokes, strict=True):
        other.start(poke)
    assert len(os.listdir("/proc/self/fd")) == descriptors
    others[1].stop()
    assert watched.poked_by((watched.root / "one").mkdir)
    assert (pokes[0].count, pokes[1].count) == (0, 0)
    watched.watch.stop()
    (tmp_path / "second" / "two").mkdir()
    assert pokes[0].wait_for_more_than(0)
    others[0].stop()
    assert not watched.messages


def test_a_second_watch_on_a_root_that_vanished_can_start_while_the_first_is_dead(watched: Watched) -> None:
    watched.watch.start(watched.pokes)
    shutil.rmtree(watched.root)
    watched.root.mkdir()
    second = FolderWatch(watched.root, on_message=watched.messages.append)
    (subscription,) = INSTANCE._subscriptions
    emitter = INSTANCE._observer.emitters.copy().pop()  # type: ignore[union-attr]  # a watch is running
    emitter.join(PATIENCE)
    assert not subscription.alive
    pokes = Pokes()
    second.start(pokes)
    assert second.active
    (watched.root / "one").mkdir()
    assert pokes.wait_for_more_than(0)
    second.stop()


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENOSPC])
def test_inotify_limits_mean_polling_and_one_message(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def exhausted() -> None:
        raise OSError(code, "inotify limit reached")

    with monkeypatch.context() as patched:
        patched.setattr(inotify, "InotifyObserver", exhausted)
        watched.watch.start(watched.pokes)
        watched.watch.start(watched.pokes)
    assert not watched.watch.active
    (message,) = watched.messages
    assert str(watched.root) in message and "polling" in message and "limit" in message
    watched.watch.start(watched.pokes)
    assert watched.watch.active


def test_a_process_without_free_descriptors_polls(watched: Watched) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(int(name) for name in os.listdir("/proc/self/fd")) + 1
    held = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (used, hard))
    try:
        try:
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            watched.watch.start(watched.pokes)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in held:
            os.close(descriptor)
    assert not watched.watch.active and len(watched.messages) == 1


def test_missing_roots_and_files_poll(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for name in ("missing", "file"):
        messages: list[str] = []
        watch = FolderWatch(tmp_path / name, on_message=messages.append)
        watch.start(Pokes())
        assert not watch.active and len(messages) == 1
        watch.stop()


def test_deaf_file_systems_get_no_watch_and_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "file_system", lambda path: FileSystem("nfs", notifies=False))
    messages: list[str] = []
    watch = open_watch(tmp_path, messages.append)
    assert isinstance(watch, SilentWatch)
    watch.start(Pokes())
    assert not watch.active and INSTANCE._observer is None
    watch.stop()
    (message,) = messages
    assert "nfs" in message and "polling" in message


def test_local_file_systems_get_a_watch(watched: Watched) -> None:
    watch = open_watch(watched.root, watched.messages.append)
    watch.start(watched.pokes)
    assert watch.active
    watch.stop()
    assert isinstance(open_watch(watched.root / "missing", watched.messages.append), FolderWatch)


def test_lost_events_lose_no_checkpoint(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """An overflowing queue drops events; the next listing finds everything."""
    monkeypatch.setattr(subject._Handler, "on_any_event", lambda self, event: None)
    watched.watch.start(watched.pokes)
    for number in range(20):
        write_marker(write_single(watched.root / f"m{number:02d}"))
    INSTANCE._observer._inotify_fd.handle_event(_overflow())  # type: ignore[union-attr]  # a watch is running
    listing = FolderRegistry(watched.root, "r", clock=FakeClock()).list()
    assert len(listing.candidates) == 20 and watched.pokes.count == 0
    monkeypatch.undo()
    assert watched.watch.active
    assert watched.poked_by(lambda: (watched.root / "m07" / "again.txt").write_text("x"))


def _overflow() -> InotifyEvent:
    return InotifyEvent(-1, InotifyConstants.IN_Q_OVERFLOW, 0, b"")


def test_a_forked_child_starts_afresh(watched: Watched) -> None:
    watched.watch.start(watched.pokes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads is what is tested
        child = os.fork()
    if child == 0:
        fresh = INSTANCE._observer is None and not INSTANCE._subscriptions and INSTANCE._lock.acquire(blocking=False)
        os._exit(0 if fresh else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert watched.watch.active


# the throttle alone


def test_the_first_signal_is_passed_on_at_once_and_a_burst_once_more() -> None:
    pokes = Pokes()
    throttle = Throttle(pokes, seconds=0.05)
    for _ in range(100):
        throttle.signal()
    assert pokes.count >= 1
    assert pokes.wait_for_more_than(1), "what came during the pause is passed on after it"
    throttle.close()
    assert pokes.count < 100


def test_an_urgent_signal_does_not_wait() -> None:
    pokes = Pokes()
    throttle = Throttle(pokes, seconds=3600.0)
    throttle.signal()
    throttle.signal()
    assert pokes.count == 1
    throttle.signal(urgent=True)
    assert pokes.count == 2
    throttle.close()


def test_nothing_follows_the_close() -> None:
    pokes = Pokes()
    throttle = Throttle(pokes, seconds=3600.0)
    throttle.signal()
    throttle.close()
    throttle.signal()
    throttle.signal(urgent=True)
    throttle._rested()
    assert pokes.count == 1
