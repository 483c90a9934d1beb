from __future__ import annotations

from pathlib import Path

import pytest

from mergenode.adapters.registries import filesystem
from mergenode.adapters.registries.filesystem import file_system, notifies


def _mounts() -> dict[str, str]:
    """Mount points by type, as the kernel tells it."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return {line.split()[4]: line.split(" - ")[1].split()[0] for line in lines}


@pytest.mark.parametrize("kind", ["tmpfs", "ext4", "overlay", "xfs", "btrfs"])
def test_agrees_with_the_mount_table(kind: str) -> None:
    points = [Path(point) for point, found in _mounts().items() if found == kind and Path(point).is_dir()]
    if not points:
        pytest.skip(f"no {kind} mounted here")
    for point in points:
        assert file_system(point).name == kind.removesuffix("4")
        assert notifies(point)


def test_pseudo_and_missing_paths_count_as_silent(tmp_path: Path) -> None:
    assert not notifies(Path("/proc"))
    assert not notifies(tmp_path / "missing")


@pytest.mark.parametrize(
    ("magic", "name", "expected"),
    [
        (0x6969, "nfs", False),
        (0xFF534D42, "cifs", False),
        (0xFE534D42, "smb2", False),
        (0x65735546, "fuse", False),
        (0x01021997, "9p", False),
        (0x0BD00BD0, "lustre", False),
        (0x00C36400, "ceph", False),
        (0xDEAD, "unknown", False),
        (-1, "unknown", False),
        (0xEF53, "ext", True),
        (0x58465342, "xfs", True),
        (0x794C7630, "overlay", True),
    ],
)
def test_kinds_by_magic(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, magic: int, name: str, expected: bool) -> None:
    monkeypatch.setattr(filesystem, "_statfs_magic", lambda path: magic)
    found = file_system(tmp_path)
    assert (found.name, found.notifies) == (name, expected)


def test_no_number_is_both_local_and_remote() -> None:
    assert not filesystem._LOCAL.keys() & filesystem._REMOTE.keys()


def test_without_statfs_everything_is_silent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(filesystem, "_statfs", lambda: None)
    assert file_system(tmp_path).name == "unknown"
    assert not notifies(tmp_path)
