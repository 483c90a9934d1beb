from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from mergenode.adapters.registries.folder import FolderRegistry
from mergenode.adapters.registries.marker import write_marker
from mergenode.adapters.registries.requests import RequestsRegistry, requests_directory, submit_request
from mergenode.errors import RejectReason, TransientError, TransientReason, UsageError
from mergenode.types import Candidate, Digest, Listing
from tests.support.clock import FakeClock
from tests.support.registry_contract import RegistryContract
from tests.support.registry_files import safetensors_bytes, write_sharded, write_single

DIGEST = Digest("blake3:" + "ab" * 32)


@dataclass
class Desk:
    """A state directory with requests, a folder of checkpoints that is no registry, and one that is."""

    state: Path
    models: Path
    inbox: Path
    clock: FakeClock
    registry: RequestsRegistry

    def submit(self, path: Path) -> Path:
        self.clock.advance(1)
        return submit_request(self.state, path, clock=self.clock)

    def put(self, name: str) -> None:
        self.submit(write_single(self.models / name))

    def replace(self, name: str) -> None:
        write_single(self.models / name, elements=9)

    def remove(self, name: str) -> None:
        (found,) = (c for c in self.registry.list().candidates if c.name == name)
        self.registry.settled(found)

    def vanish(self) -> None:
        requests_directory(self.state).rename(self.state / "away")

    def come_back(self) -> None:
        (self.state / "away").rename(requests_directory(self.state))

    def files(self) -> list[str]:
        return os.listdir(requests_directory(self.state))

    def only(self) -> Candidate:
        listing = self.registry.list()
        assert not listing.refused and not listing.unsettled
        (candidate,) = listing.candidates
        return candidate


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    for name in ("models", "inbox"):
        (tmp_path / name).mkdir()
    clock = FakeClock(unix=time.time())
    registry = RequestsRegistry(tmp_path / "state", roots={"inbox": tmp_path / "inbox"}, clock=clock)
    return Desk(tmp_path / "state", tmp_path / "models", tmp_path / "inbox", clock, registry)


class TestContract(RegistryContract):
    @pytest.fixture
    def place(self, desk: Desk) -> Desk:
        return desk


def test_a_request_is_offered_at_once_and_forced(desk: Desk) -> None:
    path = write_single(desk.models / "one")
    write_marker(path, content=DIGEST, weight=0.5)
    request = desk.submit(path)
    assert json.loads(request.read_text()) == {"path": str(path), "time": desk.clock.now()}
    found = desk.only()
    assert (found.registry, found.name, found.location) == ("ingest", "one", str(path))
    assert (found.forced, found.attested, found.weight, found.content) == (True, True, 0.5, DIGEST)


def test_an_incomplete_checkpoint_is_offered_too_so_that_validation_gives_the_reason(desk: Desk) -> None:
    desk.submit(write_sharded(desk.models / "one", 3, missing=(2,)))
    assert desk.only().name == "one"


@pytest.mark.parametrize("marked", [False, True])
@pytest.mark.parametrize("bare", [False, True])
def test_inside_a_registry_it_is_the_same_contribution(desk: Desk, marked: bool, bare: bool) -> None:
    path = desk.inbox / ("x.safetensors" if bare else "one")
    if bare:
        path.write_bytes(safetensors_bytes())
    else:
        write_single(path)
    if marked:
        write_marker(path, content=DIGEST)
    desk.submit(path)
    folder = FolderRegistry(desk.inbox, "inbox", clock=desk.clock, settle_seconds=0, settle_polls=1)
    (listed,) = folder.list().candidates
    asked = desk.only()
    assert asked.key == listed.key and asked.location == listed.location
    assert asked.forced and not listed.forced


def test_it_is_the_same_contribution_through_a_link_to_the_registry(desk: Desk, tmp_path: Path) -> None:
    write_single(desk.inbox / "one")
    (tmp_path / "alias").symlink_to(desk.inbox)
    desk.submit(tmp_path / "alias" / "one")
    assert desk.only().registry == "inbox"


def test_deeper_inside_a_registry_it_is_a_path_of_its_own(desk: Desk) -> None:
    (desk.inbox / "run").mkdir()
    desk.submit(write_single(desk.inbox / "run" / "checkpoint-5"))
    assert desk.only().registry == "ingest"


def test_a_named_registry_is_used_only_when_it_is_configured(desk: Desk) -> None:
    path = write_single(desk.models / "one")
    submit_request(desk.state, path, registry="inbox", clock=desk.clock)
    found = desk.only()
    assert found.registry == "inbox"
    desk.registry.settled(found)
    submit_request(desk.state, path, registry="other", clock=desk.clock)
    assert desk.only().registry == "ingest"


def test_settling_removes_the_request_for_good(desk: Desk) -> None:
    path = write_single(desk.inbox / "one")
    desk.submit(path)
    desk.submit(path)
    found = desk.only()
    assert len(desk.files()) == 2
    desk.registry.settled(found)
    assert desk.files() == [] and desk.registry.list() == Listing()


def test_a_request_that_comes_while_the_first_is_folded_stays(desk: Desk) -> None:
    path = write_single(desk.models / "one")
    desk.submit(path)
    first = desk.only()
    write_single(path, elements=9)
    desk.submit(path)
    desk.registry.settled(first)
    assert len(desk.files()) == 1
    assert desk.only().revision != first.revision


def test_requests_survive_a_restart_and_keep_their_order(desk: Desk) -> None:
    for name in ("c", "a", "b"):
        desk.put(name)
    again = RequestsRegistry(desk.state, roots={}, clock=desk.clock)
    assert [candidate.name for candidate in again.list().candidates] == ["c", "a", "b"]


def test_asking_before_the_node_ever_ran(tmp_path: Path) -> None:
    submit_request(tmp_path / "new" / "state", write_single(tmp_path / "one"))
    registry = RequestsRegistry(tmp_path / "new" / "state", roots={}, clock=FakeClock())
    assert [candidate.name for candidate in registry.list().candidates] == ["one"]


def test_a_relative_path_is_made_absolute(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    write_single(desk.models / "one")
    monkeypatch.chdir(desk.models)
    desk.submit(Path("./sub/../one"))
    assert desk.only().location == str(desk.models / "one")


def test_the_name_of_a_link_is_kept_and_what_it_leads_to_is_read(desk: Desk) -> None:
    write_single(desk.models / "abc")
    (desk.models / "pretty").symlink_to("abc")
    desk.submit(desk.models / "pretty")
    found = desk.only()
    assert (found.name, found.location) == ("pretty", str(desk.models / "abc"))


@pytest.mark.parametrize("name", ["missing", "a\nb", os.fsdecode(b"\xff")])
def test_what_cannot_be_asked_for(desk: Desk, name: str) -> None:
    if name != "missing":
        write_single(desk.models / name)
    with pytest.raises(UsageError) as caught:
        desk.submit(desk.models / name)
    assert caught.value.message.isprintable() and desk.files() == []


def test_a_pipe_cannot_be_asked_for(desk: Desk) -> None:
    os.mkfifo(desk.models / "x.safetensors")
    with pytest.raises(UsageError):
        desk.submit(desk.models / "x.safetensors")


def _spoiled(desk: Desk, how: str) -> Path:
    path = desk.models / "one"
    path.mkdir()
    if how == "gone":
        desk.submit(path)
        shutil.rmtree(path)
        return path
    if how == "pickle":
        (path / "model.bin").write_bytes(b"x")
    elif how == "marker":
        write_single(path)
        (path / "mergenode.commit.json").write_text("{")
    elif how == "link":
        write_single(path)
        (path / "model.safetensors").unlink()
        (path / "model.safetensors").symlink_to("/etc/hostname")
    desk.submit(path)
    return path


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("gone", RejectReason.NO_WEIGHTS),
        ("empty", RejectReason.NO_WEIGHTS),
        ("pickle", RejectReason.PICKLE_ONLY),
        ("marker", RejectReason.MARKER_INVALID),
        ("link", RejectReason.PATH_UNSAFE),
    ],
)
def test_a_bad_path_is_refused_with_the_reason(desk: Desk, how: str, reason: RejectReason) -> None:
    path = _spoiled(desk, how)
    listing = desk.registry.list()
    assert not listing.candidates
    (refused,) = listing.refused
    assert (refused.registry, refused.name, refused.reason) == ("ingest", "one", reason)
    assert str(path) in refused.message and refused.hint
    assert desk.registry.list() == listing


def test_asking_again_for_a_bad_path_is_another_refusal(desk: Desk) -> None:
    _spoiled(desk, "empty")
    desk.submit(desk.models / "one")
    assert len({refused.key for refused in desk.registry.list().refused}) == 2


def test_refused_requests_are_cleared_away_after_a_while(desk: Desk) -> None:
    _spoiled(desk, "empty")
    desk.put("two")
    assert len(desk.registry.list().refused) == 1
    desk.clock.advance(599)
    assert len(desk.registry.list().refused) == 1
    desk.clock.advance(1)
    desk.registry.list()
    listing = desk.registry.list()
    assert listing.refused == () and [candidate.name for candidate in listing.candidates] == ["two"]


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"{}", b'{"path": 3}', b'{"path": "relative"}', b'{"path": "/x", "extra": 1}',
        b'{"path": "/x\\n"}', b'{"path": "/x\\udcff"}', b'{"path": "/x", "registry": 3}', b"[" * 60_000,
        b'{"path": "/' + b"x" * 70_000 + b'"}', b"\xff",
    ],
)  # fmt: skip
def test_a_damaged_request_is_refused_and_the_others_go_on(desk: Desk, content: bytes) -> None:
    desk.put("good")
    (requests_directory(desk.state) / "0-bad.json").write_bytes(content)
    listing = desk.registry.list()
    assert [candidate.name for candidate in listing.candidates] == ["good"]
    (refused,) = listing.refused
    assert "0-bad.json" in refused.message and refused.message.isprintable()


def test_other_files_in_the_directory_are_left_alone(desk: Desk) -> None:
    directory = requests_directory(desk.state)
    for name in (".x.json.new", "note.txt", "y.json.tmp"):
        (directory / name).write_text("x")
    (directory / "link.json").symlink_to("/etc/hostname")
    os.mkfifo(directory / "pipe.json")
    listing = desk.registry.list()
    assert len(listing.refused) == 2 and not listing.candidates


def test_a_full_disk_is_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_single(desk.models / "one")

    def full(*args: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(TransientError) as caught:
        desk.submit(path)
    assert caught.value.reason is TransientReason.DISK_FULL
    monkeypatch.undo()
    assert desk.registry.list() == Listing()
