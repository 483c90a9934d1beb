from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from mergenode.adapters.checkpoints.limits import Limits
from mergenode.adapters.registries import folder as subject
from mergenode.adapters.registries.filesystem import FileSystem
from mergenode.adapters.registries.folder import FolderRegistry
from mergenode.adapters.registries.marker import write_marker
from mergenode.errors import RejectReason, TransientError, TransientReason
from mergenode.types import Digest, Refused, Unsettled
from tests.support.clock import FakeClock
from tests.support.registry_contract import RegistryContract
from tests.support.registry_files import safetensors_bytes, shard_names, write_sharded, write_single

DIGEST = Digest("blake3:" + "ab" * 32)


@dataclass
class Inbox:
    """A folder registry whose clock starts now, so that fresh files are young on disk, too."""

    root: Path
    clock: FakeClock
    registry: FolderRegistry

    def settle(self) -> None:
        self.clock.advance(31.0)

    def catch_up(self) -> None:
        """Set the wall clock to the real one, so that what is written next is young again."""
        self.clock.jump(time.time() - self.clock.unix())

    def put(self, name: str) -> None:
        write_marker(write_single(self.root / name), content=DIGEST)

    def replace(self, name: str) -> None:
        write_marker(write_single(self.root / name, elements=9), content=DIGEST)

    def remove(self, name: str) -> None:
        shutil.rmtree(self.root / name)

    def vanish(self) -> None:
        self.root.rename(self.root.with_name("away"))

    def come_back(self) -> None:
        self.root.with_name("away").rename(self.root)

    def names(self) -> list[str]:
        return [candidate.name for candidate in self.registry.list().candidates]

    def unsettled(self) -> Unsettled:
        listing = self.registry.list()
        assert not listing.candidates and not listing.refused
        (entry,) = listing.unsettled
        return entry

    def refused(self) -> Refused:
        listing = self.registry.list()
        assert not listing.candidates and not listing.unsettled
        (entry,) = listing.refused
        assert entry.hint and entry.message.isprintable() and entry.name.isprintable()
        return entry


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    root = tmp_path / "inbox"
    root.mkdir()
    clock = FakeClock(unix=time.time())
    return Inbox(root, clock, FolderRegistry(root, "inbox", clock=clock))


class TestContract(RegistryContract):
    @pytest.fixture
    def place(self, inbox: Inbox) -> Inbox:
        return inbox


def test_name_and_root(inbox: Inbox) -> None:
    assert (inbox.registry.name, inbox.registry.root) == ("inbox", inbox.root)


def test_a_marked_directory_is_attested_at_once(inbox: Inbox) -> None:
    write_marker(write_single(inbox.root / "one"), content=DIGEST, weight=0.5, profile={"*.mlp.*": 0.25})
    (found,) = inbox.registry.list().candidates
    assert (found.registry, found.name, found.location) == ("inbox", "one", str(inbox.root / "one"))
    assert (found.attested, found.weight, found.content, found.forced) == (True, 0.5, DIGEST, False)
    assert found.profile == (("*.mlp.*", 0.25),)
    assert found.revision.startswith(f"content:{DIGEST}")
    assert found.size_bytes == (inbox.root / "one" / "model.safetensors").stat().st_size


def test_a_marked_bare_file_is_attested_at_once(inbox: Inbox) -> None:
    (inbox.root / "x.safetensors").write_bytes(safetensors_bytes())
    assert inbox.unsettled().name == "x.safetensors"
    write_marker(inbox.root / "x.safetensors", weight=2.0)
    (found,) = inbox.registry.list().candidates
    assert (found.name, found.attested, found.weight) == ("x.safetensors", True, 2.0)
    assert found.revision.startswith("listing:")


def test_an_unmarked_directory_has_to_lie_still(inbox: Inbox) -> None:
    write_single(inbox.root / "one")
    waiting = inbox.unsettled()
    assert waiting.name == "one" and waiting.seconds_left is not None and 25 < waiting.seconds_left <= 30
    inbox.settle()
    (found,) = inbox.registry.list().candidates
    assert not found.attested and found.content is None and found.weight == 1.0


def test_what_lay_there_before_the_node_started_is_complete_at_first_sight(inbox: Inbox) -> None:
    write_single(inbox.root / "one")
    inbox.settle()
    assert inbox.names() == ["one"]


def test_on_a_remote_file_system_listings_count_not_time_stamps(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "file_system", lambda path: FileSystem("nfs", notifies=False))
    write_single(inbox.root / "one")
    inbox.settle()
    assert inbox.unsettled().name == "one"
    inbox.clock.advance(15)
    assert inbox.unsettled().name == "one"
    inbox.clock.advance(15)
    assert inbox.names() == ["one"]


def test_a_clock_set_forward_while_copying_completes_nothing(inbox: Inbox) -> None:
    write_single(inbox.root / "one")
    inbox.unsettled()
    inbox.clock.jump(3600)
    assert inbox.unsettled().name == "one"


def test_writing_in_place_with_size_and_mtime_restored_starts_the_wait_again(inbox: Inbox) -> None:
    file = write_single(inbox.root / "one") / "model.safetensors"
    inbox.unsettled()
    inbox.clock.advance(29)
    status = file.stat()
    with open(file, "r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"\x07")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    # Only the change time tells.
    waiting = [inbox.unsettled().name]
    inbox.clock.advance(0.5)
    waiting.append(inbox.unsettled().name)
    assert waiting == ["one", "one"]


def test_an_entry_renamed_in_is_attested_at_once(inbox: Inbox) -> None:
    write_single(inbox.root / ".one.tmp-3")
    write_single(inbox.root / "two.partial")
    (inbox.root / "x.safetensors.part").write_bytes(safetensors_bytes())
    assert inbox.registry.list().candidates == () and inbox.registry.list().unsettled == ()
    (inbox.root / ".one.tmp-3").rename(inbox.root / "one")
    (inbox.root / "two.partial").rename(inbox.root / "two")
    (inbox.root / "x.safetensors.part").rename(inbox.root / "x.safetensors")
    first = inbox.registry.list()
    assert [(c.name, c.attested) for c in first.candidates] == [
        ("one", True),
        ("two", True),
        ("x.safetensors", True),
    ]
    assert inbox.registry.list() == first


def test_a_rename_does_not_attest_later_changes(inbox: Inbox) -> None:
    write_single(inbox.root / ".one")
    inbox.registry.list()
    (inbox.root / ".one").rename(inbox.root / "one")
    assert inbox.names() == ["one"]
    write_single(inbox.root / "one", elements=6)
    assert inbox.unsettled().name == "one"


def test_a_new_entry_that_got_the_inode_of_an_unfinished_one_is_not_attested(inbox: Inbox) -> None:
    write_single(inbox.root / ".one")
    inbox.registry.list()
    (inbox.root / ".one").rename(inbox.root / "one")
    for file in list((inbox.root / "one").iterdir()):
        file.rename(inbox.root.with_name(file.name))
    write_single(inbox.root / "one")
    assert inbox.unsettled().name == "one"


def test_a_shrunken_file_of_the_same_inode_is_not_attested(inbox: Inbox) -> None:
    (inbox.root / "x.safetensors.part").write_bytes(safetensors_bytes(50))
    inbox.registry.list()
    (inbox.root / "x.safetensors.part").rename(inbox.root / "x.safetensors")
    (inbox.root / "x.safetensors").write_bytes(safetensors_bytes(3))
    assert inbox.unsettled().name == "x.safetensors"


def test_a_growing_file_is_reported_with_its_bytes(inbox: Inbox) -> None:
    whole = safetensors_bytes(100)
    directory = write_single(inbox.root / "one")
    (directory / "model.safetensors").write_bytes(whole[:200])
    inbox.settle()
    assert inbox.unsettled().why == f"file model.safetensors is 200 of {len(whole)} bytes"
    assert inbox.unsettled().seconds_left is None
    inbox.catch_up()
    (directory / "model.safetensors").write_bytes(whole)
    assert "still" in inbox.unsettled().why
    inbox.settle()
    assert inbox.names() == ["one"]


def test_a_preallocated_file_is_caught_by_the_header_or_has_to_lie_still(inbox: Inbox) -> None:
    whole = safetensors_bytes(100)
    file = write_single(inbox.root / "one") / "model.safetensors"
    file.write_bytes(b"\0" * len(whole))
    assert inbox.unsettled().name == "one"
    with open(file, "r+b") as stream:
        stream.write(whole[:150])
    assert inbox.unsettled().seconds_left is not None


def test_missing_shards_are_waited_for_and_never_rejected(inbox: Inbox) -> None:
    directory = write_sharded(inbox.root / "one", 3, missing=(2,))
    inbox.clock.advance(1e7)
    assert inbox.unsettled().why == f"shard {shard_names(3)[1]} of the index is missing"
    inbox.catch_up()
    (directory / shard_names(3)[1]).write_bytes(safetensors_bytes())
    inbox.unsettled()
    inbox.settle()
    assert inbox.names() == ["one"]


def test_giving_up_offers_it_so_that_validation_gives_the_reason(tmp_path: Path) -> None:
    write_sharded(tmp_path / "one", 3, missing=(2,))
    clock = FakeClock(unix=time.time())
    registry = FolderRegistry(tmp_path, "r", clock=clock, give_up_seconds=3600)
    assert registry.list().unsettled
    clock.advance(3601)
    assert [candidate.attested for candidate in registry.list().candidates] == [False]


def test_a_copied_marker_that_came_before_the_weights_waits_for_them(inbox: Inbox, tmp_path: Path) -> None:
    source = write_single(tmp_path / "source", elements=100)
    write_marker(source, content=DIGEST)
    target = inbox.root / "one"
    target.mkdir()
    for name in ("config.json", "mergenode.commit.json"):
        shutil.copy(source / name, target / name)
    assert inbox.unsettled().why == "file model.safetensors of the commit marker is missing"
    whole = (source / "model.safetensors").read_bytes()
    (target / "model.safetensors").write_bytes(whole[:150])
    assert inbox.unsettled().why == f"file model.safetensors is 150 of {len(whole)} bytes"
    time_before = time.time_ns()
    while time.time_ns() - time_before < 20_000_000:  # let the coarse clock of the file system tick
        os.utime(target / "config.json")
    (target / "model.safetensors").write_bytes(whole)
    assert inbox.unsettled().why == "files changed after the commit marker"
    inbox.settle()
    (found,) = inbox.registry.list().candidates
    assert found.attested and found.content == DIGEST


def test_another_config_than_the_committed_one_is_waited_for(inbox: Inbox) -> None:
    directory = write_single(inbox.root / "one")
    write_marker(directory)
    (directory / "config.json").write_text("[]")
    assert inbox.unsettled().why.startswith("file config.json is not the one that was committed")


def test_a_stale_marker_beside_new_weights_is_reported(inbox: Inbox) -> None:
    inbox.put("one")
    write_single(inbox.root / "one", elements=77)
    inbox.settle()
    assert inbox.unsettled().why.endswith("commit it again")


def test_damaged_files_copied_again_under_the_same_marker_are_another_revision(inbox: Inbox) -> None:
    inbox.put("one")
    (before,) = inbox.registry.list().candidates
    os.utime(inbox.root / "one" / "model.safetensors", ns=(1, 1))
    inbox.settle()
    (after,) = inbox.registry.list().candidates
    assert after.content == before.content and after.revision != before.revision


def test_side_files_do_not_make_a_new_revision(inbox: Inbox) -> None:
    directory = write_single(inbox.root / "one")
    inbox.settle()
    (before,) = inbox.registry.list().candidates
    inbox.catch_up()
    (directory / "README.md").write_text("hello")
    (directory / "logs").mkdir()
    (directory / "logs" / "train.log").write_text("x")
    assert inbox.unsettled().name == "one"
    inbox.settle()
    (after,) = inbox.registry.list().candidates
    assert after == before


@pytest.mark.parametrize("change", ["size", "mtime", "name", "config"])
def test_what_makes_a_new_revision(inbox: Inbox, change: str) -> None:
    directory = write_single(inbox.root / "one")
    inbox.settle()
    (before,) = inbox.registry.list().candidates
    file = directory / "model.safetensors"
    if change == "size":
        file.write_bytes(safetensors_bytes(5))
    elif change == "mtime":
        os.utime(file, ns=(5, 5))
    elif change == "name":
        file.rename(directory / "other.safetensors")
    else:
        (directory / "config.json").write_text("{} ")
    inbox.settle()
    (after,) = inbox.registry.list().candidates
    assert after.revision != before.revision


def test_an_adapter_is_an_entry_and_unrelated_things_are_not(inbox: Inbox) -> None:
    adapter = inbox.root / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    (adapter / "adapter_model.safetensors").write_bytes(safetensors_bytes())
    for name in ("notes.txt", "x.safetensors.commit.json", "mergenode.commit.json", "x.safetensors.tmp"):
        (inbox.root / name).write_text("x")
    for name in ("empty", "lost+found", ".git"):
        (inbox.root / name).mkdir()
    (inbox.root / "docs").mkdir()
    (inbox.root / "docs" / "a.txt").write_text("x")
    os.mkfifo(inbox.root / "pipe")
    inbox.settle()
    listing = inbox.registry.list()
    assert [candidate.name for candidate in listing.candidates] == ["adapter"]
    assert not listing.unsettled and not listing.refused


def test_a_checkpoint_one_level_too_deep_is_pointed_out(inbox: Inbox) -> None:
    (inbox.root / "run").mkdir()
    write_single(inbox.root / "run" / "checkpoint-5")
    inbox.settle()
    assert inbox.unsettled().why == "no weights at its top level, they lie deeper: checkpoint-5/model.safetensors"


def test_a_copy_that_goes_on_in_a_subdirectory_is_waited_for(inbox: Inbox) -> None:
    directory = write_single(inbox.root / "one")
    (directory / "a" / "b").mkdir(parents=True)
    inbox.unsettled()
    inbox.clock.advance(29)
    (directory / "a" / "b" / "more.txt").write_text("x")
    inbox.unsettled()
    inbox.clock.advance(0.5)
    assert inbox.unsettled().name == "one"


def test_a_partial_file_inside_is_waited_for_but_hidden_ones_are_not(inbox: Inbox) -> None:
    directory = write_single(inbox.root / "one")
    (directory / ".cache").mkdir()
    (directory / ".cache" / "x.incomplete").write_text("x")
    (directory / ".gitattributes").write_text("x")
    inbox.settle()
    assert inbox.names() == ["one"]
    (directory / "vocab.json.part").write_text("x")
    inbox.settle()
    assert inbox.unsettled().why == "file vocab.json.part is still being written"


# refusals


def test_pickles_only_are_refused_once_they_lie_still(inbox: Inbox) -> None:
    directory = inbox.root / "one"
    directory.mkdir()
    (directory / "config.json").write_text("{}")
    (directory / "pytorch_model.bin").write_bytes(b"x")
    assert inbox.unsettled().name == "one"
    inbox.settle()
    refused = inbox.refused()
    assert refused.reason is RejectReason.PICKLE_ONLY and "pytorch_model.bin" in refused.message
    (directory / "model.safetensors").write_bytes(safetensors_bytes())
    inbox.settle()
    assert inbox.names() == ["one"]


def test_a_bare_pickle_is_refused(inbox: Inbox) -> None:
    (inbox.root / "model.pt").write_bytes(b"x")
    inbox.settle()
    assert inbox.refused().reason is RejectReason.PICKLE_ONLY


def test_a_bad_marker_is_refused_once_it_lies_still(inbox: Inbox) -> None:
    directory = write_single(inbox.root / "one")
    marker = directory / "mergenode.commit.json"
    marker.write_text('{"schema": "mergenode.com')
    assert inbox.unsettled().name == "one"
    inbox.settle()
    refused = inbox.refused()
    assert refused.reason is RejectReason.MARKER_INVALID and "mergenode.commit.json" in refused.message
    assert inbox.refused() == refused
    write_marker(directory)
    assert inbox.names() == ["one"]


@pytest.mark.parametrize("where", ["entry", "weights", "marker", "dangling"])
def test_links_out_of_the_registry_are_refused_at_once(inbox: Inbox, tmp_path: Path, where: str) -> None:
    outside = write_single(tmp_path / "outside")
    write_marker(outside)
    if where == "entry":
        (inbox.root / "one").symlink_to(outside)
    else:
        directory = write_single(inbox.root / "one")
        (directory / "config.json").unlink()
        name = {"weights": "model.safetensors", "marker": "mergenode.commit.json"}.get(where, "config.json")
        (directory / name).unlink(missing_ok=True)
        (directory / name).symlink_to(tmp_path / "nowhere" if where == "dangling" else outside / name)
    assert inbox.refused().reason is RejectReason.PATH_UNSAFE
    assert inbox.refused() == inbox.refused()


def test_links_inside_the_registry_are_followed(inbox: Inbox) -> None:
    store = inbox.root / ".store"
    store.mkdir()
    write_single(store / "abc")
    (inbox.root / "one").symlink_to(".store/abc")
    inbox.settle()
    (found,) = inbox.registry.list().candidates
    assert (found.name, found.location) == ("one", str(store / "abc"))


def test_another_name_of_a_listed_entry_is_not_a_second_contribution(inbox: Inbox) -> None:
    write_single(inbox.root / "v3")
    (inbox.root / "latest").symlink_to("v3")
    (inbox.root / "loop").symlink_to("loop")
    (inbox.root / "self").symlink_to(".")
    (inbox.root / "notes").symlink_to("/etc/hostname")
    inbox.settle()
    listing = inbox.registry.list()
    assert [candidate.name for candidate in listing.candidates] == ["v3"]
    assert {refused.name for refused in listing.refused} <= {"self"}


def test_a_registry_behind_a_link_works(inbox: Inbox, tmp_path: Path) -> None:
    inbox.put("one")
    (tmp_path / "alias").symlink_to(inbox.root)
    registry = FolderRegistry(tmp_path / "alias", "alias", clock=inbox.clock)
    assert [candidate.name for candidate in registry.list().candidates] == ["one"]


@pytest.mark.parametrize("target", ["blobs/0123", "nowhere", "/etc/hostname"])
def test_a_link_to_something_that_is_no_weights_file_is_refused(inbox: Inbox, target: str) -> None:
    (inbox.root / "blobs").mkdir()
    (inbox.root / "blobs" / "0123").write_bytes(safetensors_bytes())
    (inbox.root / "x.safetensors").symlink_to(target)
    assert inbox.refused().reason is RejectReason.PATH_UNSAFE


def test_a_broken_index_is_the_validations_to_refuse(inbox: Inbox) -> None:
    for number, text in enumerate(["{", "[]", '{"weight_map": 3}', '{"weight_map": {"w": 3}}', "[" * 50_000]):
        directory = write_single(inbox.root / f"m{number}")
        (directory / "model.safetensors.index.json").write_text(text)
    unsafe = write_single(inbox.root / "unsafe") / "model.safetensors.index.json"
    unsafe.write_text('{"weight_map": {"w": "../../etc/passwd"}}')
    inbox.settle()
    assert len(inbox.names()) == 6


@pytest.mark.parametrize("name", ["model.safetensors", "adapter_config.json"])
def test_a_pipe_in_place_of_a_file_is_refused_and_never_opened(inbox: Inbox, name: str) -> None:
    directory = write_single(inbox.root / "one")
    (directory / name).unlink(missing_ok=True)
    os.mkfifo(directory / name)
    assert inbox.refused().reason is RejectReason.NOT_REGULAR_FILE


def test_a_bare_pipe_is_refused(inbox: Inbox) -> None:
    os.mkfifo(inbox.root / "x.safetensors")
    assert inbox.refused().reason is RejectReason.NOT_REGULAR_FILE


def test_a_directory_in_place_of_weights_is_refused(inbox: Inbox) -> None:
    directory = write_single(inbox.root / "one")
    (directory / "b.safetensors").mkdir()
    assert inbox.refused().reason is RejectReason.NOT_REGULAR_FILE


@pytest.mark.parametrize("name", [b"a\nb", b"\xff\xfe", b"\x1b[31mred", "\u202ecod".encode()])
def test_names_that_cannot_be_stored_are_refused_escaped(inbox: Inbox, name: bytes) -> None:
    write_single(inbox.root / os.fsdecode(name))
    inbox.put("good")
    listing = inbox.registry.list()
    assert [candidate.name for candidate in listing.candidates] == ["good"]
    (refused,) = listing.refused
    assert refused.reason is RejectReason.PATH_UNSAFE
    for text in (*refused.key, refused.message):
        assert text.isprintable() and text.encode("utf-8")


def test_odd_names_inside_an_entry_crash_nothing(inbox: Inbox) -> None:
    directory = write_single(inbox.root / "one")
    for name in (b"\xff.safetensors", b"a\nb.safetensors", b"-00001-of-99999.safetensors"):
        (directory / os.fsdecode(name)).write_bytes(b"x")
    inbox.settle()
    assert inbox.unsettled().why.isprintable()


def test_too_many_files_are_refused(tmp_path: Path) -> None:
    directory = write_single(tmp_path / "one")
    for number in range(12):
        (directory / f"{number}.txt").write_text("x")
    (directory / "deep").mkdir()
    registry = FolderRegistry(
        tmp_path, "r", clock=FakeClock(unix=time.time() + 60), limits=Limits(directory_entries=10)
    )
    (refused,) = registry.list().refused
    assert refused.reason is RejectReason.TOO_LARGE


def test_a_root_with_too_many_names_is_an_error(tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / f"{number}.txt").write_text("x")
    registry = FolderRegistry(tmp_path, "r", clock=FakeClock(), limits=Limits(directory_entries=10))
    with pytest.raises(TransientError, match="more than 10"):
        registry.list()


def _failing(original: Callable[..., int], code: int, part: str) -> Callable[..., int]:
    def fail(path: object, *args: object, **kwargs: object) -> int:
        if part in str(path):
            raise OSError(code, os.strerror(code), str(path))
        return original(path, *args, **kwargs)

    return fail


def test_an_unreadable_entry_is_refused_until_its_permissions_change(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_single(inbox.root / "one")
    inbox.put("good")
    inbox.settle()
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", _failing(os.open, errno.EACCES, "inbox/one"))
        listing = inbox.registry.list()
        assert [candidate.name for candidate in listing.candidates] == ["good"]
        (refused,) = listing.refused
        assert refused.reason is RejectReason.PATH_UNSAFE and "permission" in refused.message and refused.hint
    assert inbox.names() == ["good", "one"]


def test_an_unreadable_file_is_refused_and_a_failing_one_is_retried(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_single(inbox.root / "one")
    inbox.settle()
    for code, refused in ((errno.EACCES, 1), (errno.EIO, 0)):
        with monkeypatch.context() as patched:
            patched.setattr(os, "open", _failing(os.open, code, "model.safetensors"))
            listing = inbox.registry.list()
        assert (len(listing.refused), len(listing.unsettled)) == (refused, 1 - refused)
    assert inbox.names() == ["one"]


def test_a_share_that_dies_while_it_is_listed_is_unreachable(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    inbox.put("one")
    for code in (errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT):
        with monkeypatch.context() as patched:
            patched.setattr(os, "open", _failing(os.open, code, "inbox/one"))
            with pytest.raises(TransientError) as caught:
                inbox.registry.list()
        assert caught.value.reason is TransientReason.REGISTRY_UNREACHABLE
    assert inbox.names() == ["one"]


# roots that come and go


def test_an_empty_directory_where_another_one_was_is_an_unmounted_share(inbox: Inbox) -> None:
    inbox.put("one")
    before = inbox.registry.list()
    inbox.vanish()
    inbox.root.mkdir()
    for _ in range(3):
        with pytest.raises(TransientError) as caught:
            inbox.registry.list()
        assert caught.value.reason is TransientReason.REGISTRY_UNREACHABLE
    inbox.root.rmdir()
    inbox.come_back()
    assert inbox.registry.list() == before


def test_the_same_directory_emptied_is_really_empty(inbox: Inbox) -> None:
    inbox.put("one")
    inbox.registry.list()
    inbox.remove("one")
    assert inbox.names() == []


def test_another_directory_with_checkpoints_is_taken_as_it_is(inbox: Inbox) -> None:
    inbox.put("one")
    inbox.registry.list()
    inbox.vanish()
    inbox.root.mkdir()
    inbox.put("two")
    assert inbox.names() == ["two"]


def test_a_root_that_is_a_file_or_never_was_is_unreachable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for name in ("file", "missing"):
        with pytest.raises(TransientError) as caught:
            FolderRegistry(tmp_path / name, "r", clock=FakeClock()).list()
        assert caught.value.reason is TransientReason.REGISTRY_UNREACHABLE and name in caught.value.message


def test_entries_that_vanish_while_they_are_listed_are_left_out(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    inbox.put("one")
    inbox.put("two")
    original = subject.read_top_level

    def listed_too_late(root: Path, limit: int) -> object:
        top = original(root, limit)
        shutil.rmtree(root / "one")
        return top

    monkeypatch.setattr(subject, "read_top_level", listed_too_late)
    assert inbox.names() == ["two"]


def test_memory_is_bounded_by_what_is_listed_now(inbox: Inbox) -> None:
    for round_number in range(30):
        write_single(inbox.root / f"entry-{round_number}")
        write_single(inbox.root / f".unfinished-{round_number}")
        inbox.registry.list()
        shutil.rmtree(inbox.root / f"entry-{round_number}")
        shutil.rmtree(inbox.root / f".unfinished-{round_number}")
    inbox.registry.list()
    registry = inbox.registry
    assert not registry._memory and not registry._unfinished and not registry._reader._small


def test_no_descriptor_stays_open(inbox: Inbox) -> None:
    inbox.put("one")
    inbox.registry.list()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        inbox.registry.list()
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_unchanged_entry_is_not_read_again(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sharded(inbox.root / "one", 3)
    inbox.registry.list()
    opened = []
    original = os.open
    monkeypatch.setattr(os, "open", lambda path, *a, **k: opened.append(str(path)) or original(path, *a, **k))
    inbox.registry.list()
    assert not [path for path in opened if path.endswith((".safetensors", ".json"))]
