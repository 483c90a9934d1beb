"""The limit of the container is found where each kind of control group writes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mergenode.adapters.container_memory import memory_limit


def system(root: Path, group: str, files: dict[str, str]) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(group)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V1 = "5:cpu,cpuacct:/kubepods/pod1\n4:memory:/kubepods/pod1\n0::/\n"
NO_LIMIT = "9223372036854771712\n"


@pytest.mark.parametrize(
    ("group", "files", "limit"),
    [
        ("0::/\n", {"memory.max": "1073741824\n"}, 1 << 30),
        ("0::/\n", {"memory.max": "max\n"}, None),
        ("0::/a.slice/b.service\n", {"a.slice/memory.max": "100\n", "a.slice/b.service/memory.max": "max\n"}, 100),
        ("0::/a.slice/b.service\n", {"a.slice/memory.max": "100\n", "a.slice/b.service/memory.max": "70\n"}, 70),
        (V1, {"memory/memory.limit_in_bytes": "4096\n"}, 4096),
        (V1, {"memory/memory.limit_in_bytes": NO_LIMIT, "memory/kubepods/pod1/memory.limit_in_bytes": "77\n"}, 77),
        (V1, {"memory/memory.limit_in_bytes": NO_LIMIT}, None),
        ("4:memory:/../../outside\n", {"memory/memory.limit_in_bytes": "5\n"}, 5),
        ("0::/\n", {"memory.max": "many\n"}, None),
        ("what is this\n", {"memory.max": "1\n"}, None),
        ("", {}, None),
    ],
)
def test_the_smallest_limit_counts(tmp_path: Path, group: str, files: dict[str, str], limit: int | None) -> None:
    assert memory_limit(system(tmp_path, group, files)) == limit


def test_a_system_without_control_groups_has_no_limit(tmp_path: Path) -> None:
    assert memory_limit(tmp_path) is None


def test_here_it_can_be_asked() -> None:
    assert memory_limit() is None or (memory_limit() or 0) > 0
