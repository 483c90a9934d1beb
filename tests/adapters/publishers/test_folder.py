"""Versions as directories: whole or not there, ``latest`` always at a whole one."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest
from blake3 import blake3

from mergenode.adapters import durable
from mergenode.adapters.publishers.folder import FolderPublisher, complete_version, config_for
from mergenode.errors import FatalError, TransientError, TransientReason

CARD = "---\ntags: [merge]\n---\n# Merged | model\n"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    base = tmp_path / "base"
    (base / "tokenizer").mkdir(parents=True)
    (base / "config.json").write_text('{"model_type": "llama", "torch_dtype": "bfloat16"}')
    (base / "tokenizer/vocab.txt").write_text("a\nb\n")
    (base / "generation_config.json").write_text("{}")
    (base / "README.md").write_text("the base's own card")
    (base / "model.safetensors").write_bytes(b"weights of the base")
    (base / "pytorch_model.bin").write_bytes(b"pickled")
    (base / ".hidden").write_text("secret")
    return base


@pytest.fixture
def publisher(tmp_path: Path, base: Path) -> FolderPublisher:
    return FolderPublisher(tmp_path / "published", base)


def release(publisher: FolderPublisher, version: int, lineage: str = "l") -> Path:
    staging = Path(publisher.stage(version))
    (staging / "model.safetensors").write_bytes(b"merged %d" % version)
    manifest = {"version": version, "lineage": lineage, "dtype": None}
    publisher.publish(version, manifest, json.dumps(manifest).encode(), CARD)
    publisher.point_latest(version)
    return publisher.folder(version)


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_version_is_a_checkpoint_with_everything_of_the_base(publisher: FolderPublisher, base: Path) -> None:
    folder = release(publisher, 1)
    assert names(folder) == [
        "README.md", "config.json", "generation_config.json", "mergenode.json", "model.safetensors",
        "tokenizer/vocab.txt",
    ]  # fmt: skip
    assert (folder / "README.md").read_text() == CARD
    assert (folder / "config.json").read_bytes() == (base / "config.json").read_bytes()
    assert publisher.visible(1) == {"version": 1, "lineage": "l", "dtype": None}
    assert publisher.digest(1) == f"blake3:{blake3((folder / 'mergenode.json').read_bytes()).hexdigest()}"
    assert publisher.path(1) == str(folder)


def test_side_files_are_copies(publisher: FolderPublisher, base: Path) -> None:
    folder = release(publisher, 1)
    (base / "tokenizer/vocab.txt").write_text("changed later")
    assert (folder / "tokenizer/vocab.txt").read_text() == "a\nb\n"


def test_a_bare_base_file_has_no_side_files(tmp_path: Path) -> None:
    (tmp_path / "base.safetensors").write_bytes(b"w")
    publisher = FolderPublisher(tmp_path / "published", tmp_path / "base.safetensors")
    assert names(release(publisher, 1)) == ["README.md", "mergenode.json", "model.safetensors"]


def test_nothing_is_visible_before_it_is_whole(publisher: FolderPublisher) -> None:
    staging = Path(publisher.stage(1))
    (staging / "model.safetensors").write_bytes(b"half")
    assert publisher.visible(1) is None and not publisher.holds(1)
    assert [path.name for path in publisher.root.iterdir()] == [staging.name]
    assert staging.name.startswith(".")


def test_leftovers_of_an_earlier_attempt_are_removed(publisher: FolderPublisher) -> None:
    staging = Path(publisher.stage(1))
    (staging / "stale.safetensors").write_bytes(b"old")
    assert list(Path(publisher.stage(1)).iterdir()) == []
    assert "stale.safetensors" not in names(release(publisher, 1))


@pytest.mark.parametrize("kind", ["directory", "file", "link", "dangling"])
def test_a_version_in_the_way_is_never_replaced(publisher: FolderPublisher, tmp_path: Path, kind: str) -> None:
    publisher.root.mkdir()
    target = publisher.folder(1)
    other = tmp_path / "other"
    if kind == "directory":
        target.mkdir()
        (target / "mergenode.json").write_text('{"lineage": "of somebody else"}')
    elif kind == "file":
        target.write_text("?")
    else:
        if kind == "link":
            other.mkdir()
        target.symlink_to(other)
    with pytest.raises(FatalError, match="already there") as caught:
        publisher.stage(1)
    assert str(target) in caught.value.message and "publish.path" in caught.value.hint
    with pytest.raises(FatalError):
        publisher.publish(1, {}, b"{}", CARD)
    assert target.is_symlink() == (kind in ("link", "dangling"))


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe"])
def test_a_manifest_that_cannot_be_read_is_nobodys(publisher: FolderPublisher, content: bytes) -> None:
    folder = release(publisher, 1)
    (folder / "mergenode.json").write_bytes(content)
    assert publisher.visible(1) == {}


def test_latest_moves_in_one_step(publisher: FolderPublisher) -> None:
    release(publisher, 1)
    ended = threading.Event()
    missing: list[str] = []

    def reader() -> None:
        while not ended.is_set():
            try:
                (publisher.root / "latest" / "mergenode.json").read_bytes()
            except OSError as error:
                missing.append(str(error))

    thread = threading.Thread(target=reader)
    thread.start()
    for version in range(2, 40):
        release(publisher, version)
    ended.set()
    thread.join()
    assert missing == []
    assert os.readlink(publisher.root / "latest") == "v000039"


def test_latest_is_a_relative_link(publisher: FolderPublisher, tmp_path: Path) -> None:
    release(publisher, 1)
    publisher.root.rename(tmp_path / "moved")
    assert (tmp_path / "moved/latest/model.safetensors").read_bytes() == b"merged 1"


def test_what_is_no_link_is_not_replaced_by_one(publisher: FolderPublisher) -> None:
    version = release(publisher, 1)
    latest = publisher.root / "latest"
    latest.unlink()
    version.rename(latest)  # as a copy that follows links would leave it
    with pytest.raises(FatalError, match="is not a link to the newest version") as refused:
        release(publisher, 2)
    assert "move it away" in refused.value.hint
    assert (latest / "model.safetensors").read_bytes() == b"merged 1"
    latest.rename(version)
    publisher.point_latest(2)
    assert os.readlink(latest) == "v000002"


def test_latest_survives_a_leftover_and_is_set_twice(publisher: FolderPublisher) -> None:
    release(publisher, 1)
    (publisher.root / ".latest.new").symlink_to("nowhere")
    release(publisher, 2)
    publisher.point_latest(2)
    assert (publisher.root / "latest").resolve() == publisher.folder(2).resolve()
    assert not (publisher.root / ".latest.new").is_symlink()


def test_retention_keeps_the_newest(publisher: FolderPublisher) -> None:
    for version in range(1, 6):
        release(publisher, version)
    assert publisher.prune(2) == [1, 2, 3]
    assert publisher.prune(2) == []
    assert sorted(path.name for path in publisher.root.iterdir()) == ["latest", "v000004", "v000005"]


@pytest.mark.parametrize("latest", [1, 3, 5])
@pytest.mark.parametrize("keep", [0, 1, 2, 10])
def test_retention_never_removes_what_latest_points_at(publisher: FolderPublisher, latest: int, keep: int) -> None:
    for version in range(1, 6):
        release(publisher, version)
    publisher.point_latest(latest)
    publisher.prune(keep)
    assert (publisher.root / "latest/mergenode.json").is_file()
    assert all(publisher.holds(version) for version in range(latest + 1, 6)), "above latest is not this node's"


def test_retention_leaves_strangers_alone(publisher: FolderPublisher) -> None:
    strangers = ["v1", "v0000001", "v-00001", "v²", "v٣", "vbest", "backup", "v000099", "v" + "9" * 200]
    for version in range(1, 4):
        release(publisher, version)
    for name in strangers:
        (publisher.root / name).mkdir()
    assert publisher.prune(1) == [1, 2]
    assert {path.name for path in publisher.root.iterdir()} == {*strangers, "latest", "v000003"}


def test_retention_cleans_up_after_a_kill(publisher: FolderPublisher) -> None:
    release(publisher, 1)
    for name in (".v000009.staging", ".v000008.removing"):
        (publisher.root / name).mkdir()
        (publisher.root / name / "model.safetensors").write_bytes(b"x")
    publisher.prune(5)
    assert sorted(path.name for path in publisher.root.iterdir()) == ["latest", "v000001"]


def test_a_version_on_another_disk_is_pruned_as_the_link_it_is(publisher: FolderPublisher, tmp_path: Path) -> None:
    for version in (1, 2):
        release(publisher, version)
    publisher.folder(1).rename(tmp_path / "archive")
    publisher.folder(1).symlink_to(tmp_path / "archive")
    assert publisher.prune(1) == [1]
    assert not publisher.folder(1).is_symlink()
    assert (tmp_path / "archive/mergenode.json").is_file(), "what it led to belongs to somebody else"


def test_a_published_directory_may_be_a_link(publisher: FolderPublisher, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    publisher.root.symlink_to(tmp_path / "elsewhere")
    for version in range(1, 4):
        release(publisher, version)
    publisher.prune(1)
    assert sorted(path.name for path in (tmp_path / "elsewhere").iterdir()) == ["latest", "v000003"]
    assert publisher.sizes()[0] > 0


def test_a_reader_of_a_removed_version_sees_all_of_it_or_nothing(
    publisher: FolderPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in (1, 2):
        release(publisher, version)
    seen: list[bool] = []
    rmtree = durable.shutil.rmtree

    def watched(path: Path, *args: object) -> None:
        seen.append(publisher.folder(1).exists())
        rmtree(path)

    monkeypatch.setattr(durable.shutil, "rmtree", watched)
    publisher.prune(1)
    assert seen == [False]


def test_a_full_disk_is_transient_and_leaves_nothing_visible(
    publisher: FolderPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    staging = Path(publisher.stage(1))
    (staging / "model.safetensors").write_bytes(b"w")

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TransientError) as caught:
        publisher.publish(1, {}, b"{}", CARD)
    assert caught.value.reason is TransientReason.DISK_FULL
    assert not publisher.holds(1)
    monkeypatch.undo()
    release(publisher, 1)


def test_everything_is_synced_before_the_rename(publisher: FolderPublisher, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    fsync, rename = os.fsync, os.rename

    def watched_sync(fd: int) -> None:
        steps.append(Path(os.readlink(f"/proc/self/fd/{fd}")).name)
        fsync(fd)

    def watched_rename(source: Path, target: Path) -> None:
        steps.append("RENAME")
        rename(source, target)

    staging = Path(publisher.stage(1))
    (staging / "model.safetensors").write_bytes(b"w")
    monkeypatch.setattr(os, "fsync", watched_sync)
    monkeypatch.setattr(os, "rename", watched_rename)
    publisher.publish(1, {}, b"{}", CARD)
    cut = steps.index("RENAME")
    files = {"model.safetensors", "config.json", "generation_config.json", "vocab.txt", "README.md", "mergenode.json"}
    assert set(steps[:cut]) == files | {"tokenizer", staging.name}
    assert publisher.root.name in steps[cut:]


@pytest.mark.parametrize(
    ("dtype", "name"), [("F32", "float32"), ("BF16", "bfloat16"), ("F16", "float16"), (None, "bfloat16")]
)
def test_the_config_declares_the_published_type(base: Path, tmp_path: Path, dtype: str | None, name: str) -> None:
    (tmp_path / "out").mkdir()
    complete_version(tmp_path / "out", base, {"dtype": dtype}, CARD, b"{}")
    assert json.loads((tmp_path / "out/config.json").read_bytes())["torch_dtype"] == name


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"dtype": "float16"}', {"dtype": "float32"}),
        (b'{"dtype": "float16", "torch_dtype": "float16"}', {"dtype": "float32", "torch_dtype": "float32"}),
        (b'{"model_type": "x"}', {"model_type": "x"}),
        (b"not json", None),
        (b"[1, 2]", None),
        (b"\xff", None),
    ],
)
def test_config_for(content: bytes, expected: dict[str, str] | None) -> None:
    changed = config_for(content, "F32")
    assert changed == content if expected is None else json.loads(changed) == expected
    assert config_for(content, None) == content


def test_an_unreadable_place_is_transient(publisher: FolderPublisher, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(path: object) -> None:
        raise OSError(107, "Transport endpoint is not connected")

    monkeypatch.setattr(os, "statvfs", away)
    with pytest.raises(TransientError):
        publisher.sizes()


def test_sizes_count_what_is_there(publisher: FolderPublisher) -> None:
    assert publisher.sizes()[0] == 0
    folder = release(publisher, 1)
    used, free = publisher.sizes()
    assert used == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) and free > 0
