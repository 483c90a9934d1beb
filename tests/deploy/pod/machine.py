"""A machine of a cluster, as far as pods can tell: volumes and shares in a mount namespace of its own.

Whatever is mounted there vanishes with the process that holds the namespace, and that one ends with these tests,
however they end: nothing is left on the host.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import pytest

Result = TypeVar("Result")
_CLONE_FS, _CLONE_NEWNS = 0x200, 0x20000
_HOLD = 'mount -t tmpfs -o mode=755 machine "$1" && mount --make-shared "$1" && echo ready && exec cat'


class Machine:
    """``place``: an existing directory on the host, over which the machine mounts its own."""

    def __init__(self, place: Path, hostname: str) -> None:
        self.hostname = hostname
        self.place = place
        self.pods = 0
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", _HOLD, "sh", str(place)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "ready\n":
            raise OSError(self._holder.communicate()[1])

    def close(self) -> None:
        """Its mounts go with it. Whoever runs in it should have ended."""
        self._holder.communicate()

    def command(self, *command: str | Path) -> list[str]:
        """The command line that runs a command in the namespace of the machine."""
        return ["nsenter", f"--target={self._holder.pid}", "--mount", "--", *map(str, command)]

    def run(self, *command: str | Path) -> None:
        subprocess.run(self.command(*command), check=True)

    def seen(self, inner: Path) -> Path:
        """A path of the machine, for this process."""
        return Path(f"/proc/{self._holder.pid}/root{inner}")

    def inside(self, work: Callable[[], Result]) -> Result:
        """What ``work`` returns in the namespace of the machine, which a thread enters that ends then.

        For whatever resolves links on its way, as SQLite does: below ``seen`` there is one that leads out.
        """
        return in_namespaces(self._holder.pid, {"mnt": _CLONE_NEWNS}, work)

    def volume(self, name: str, *, size: str, group: int = 0, mode: str = "2775") -> Volume:
        """A small file system of its own, empty, and writable for the group as ``fsGroup`` makes it."""
        self.seen(self.place / name).mkdir()
        options = f"nosuid,nodev,size={size},gid={group},mode={mode}"
        self.run("mount", "-t", "tmpfs", "-o", options, name, self.place / name)
        self.run("mount", "--make-shared", self.place / name)
        return Volume(self, self.place / name)

    def folder(self, name: str) -> Path:
        """A directory for the kubelet's own purposes."""
        self.seen(self.place / name).mkdir()
        return self.place / name


def in_namespaces(process: int, kinds: Mapping[str, int], work: Callable[[], Result]) -> Result:
    """What ``work`` returns in these namespaces of a process. Raises what it raises."""
    libc = ctypes.CDLL(None, use_errno=True)

    def entered() -> Result:
        if libc.unshare(_CLONE_FS):
            raise OSError(ctypes.get_errno(), "unshare")
        for name, kind in kinds.items():
            namespace = os.open(f"/proc/{process}/ns/{name}", os.O_RDONLY)
            try:
                if libc.setns(namespace, kind):
                    raise OSError(ctypes.get_errno(), f"setns {name}")
            finally:
                os.close(namespace)
        return work()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(entered).result()


class Volume:
    """One of them. ``path``: in the machine; ``seen``: the same for this process."""

    def __init__(self, machine: Machine, path: Path) -> None:
        self.machine = machine
        self.path = path

    @property
    def seen(self) -> Path:
        return self.machine.seen(self.path)

    def fill(self, *, but: int = 0) -> None:
        """Leave ``but`` free bytes, by a file that somebody left there."""
        free = os.statvfs(self.seen)
        with (self.seen / ".ballast").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(4096, free.f_bavail * free.f_frsize - but))

    def relieve(self) -> None:
        (self.seen / ".ballast").unlink()

    def remount(self, mode: str) -> None:
        """``ro`` or ``rw``, everywhere at once. Fails while somebody holds a file open for writing."""
        self.machine.run("mount", "-o", f"remount,{mode}", self.path)

    def on_disk(self, size: str, group: int) -> None:
        """Lie on a real file system instead, made in a file; empty."""
        self.machine.run("umount", self.path)
        self.machine.run("truncate", "-s", size, self._image)
        self.machine.run("mkfs.ext4", "-q", "-m", "0", self._image)
        self.mount_disk()
        self.machine.run("chgrp", str(group), self.path)
        self.machine.run("chmod", "2775", self.path)

    def mount_disk(self) -> None:
        """As the kubelet mounts it for a new pod."""
        self.machine.run("mount", "-o", "loop,errors=remount-ro", self._image, self.path)
        self.machine.run("mount", "--make-shared", self.path)

    def break_disk(self) -> None:
        """What the kernel does after an error of the device: read-only at once, whoever has files open."""
        self.machine.run("mount", "-o", "remount,abort", self.path)

    def mend_disk(self) -> None:
        """Checked, and mounted anew."""
        self.machine.run("umount", self.path)
        self.machine.run("sh", "-c", 'e2fsck -p "$1" || [ $? = 1 ]', "sh", self._image)  # 1: errors were mended
        self.mount_disk()

    @property
    def _image(self) -> Path:
        return self.path.with_suffix(".image")

    def empty_over(self) -> None:
        """The share goes and leaves the empty directory that it was mounted on."""
        self.machine.run("mount", "-t", "tmpfs", "-o", "mode=755", "nothing", self.path)

    def dead_over(self) -> None:
        """The server of the share goes: whoever looks gets ENOTCONN, as ESTALE of NFS an error of the transport."""
        mounted_with_nobody_behind_it = (
            "import ctypes, os, sys\n"
            "fd = os.open('/dev/fuse', os.O_RDWR)\n"
            "options = f'fd={fd},rootmode=40000,user_id=0,group_id=0,allow_other'.encode()\n"
            "libc = ctypes.CDLL(None, use_errno=True)\n"
            "if libc.mount(b'dead', sys.argv[1].encode(), b'fuse', 0, options): sys.exit(ctypes.get_errno())\n"
        )
        self.machine.run("python3", "-c", mounted_with_nobody_behind_it, self.path)

    def back(self) -> None:
        """What lay over it goes again."""
        self.machine.run("umount", self.path)

    def copy_to(self, other: Volume) -> None:
        """Byte for byte, owners and times as well; other inodes on another device."""
        subprocess.run(["cp", "-a", f"{self.seen}/.", str(other.seen)], check=True)

    def clear(self) -> None:
        for entry in self.seen.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()


class Cgroup:
    """A memory cgroup of either version."""

    def __init__(self, name: str, limit: int) -> None:
        v1 = Path("/sys/fs/cgroup/memory")
        self.v1 = v1.is_dir()
        self.path = (v1 if self.v1 else v1.parent) / name
        self.target = "/sys/fs/cgroup/memory" if self.v1 else "/sys/fs/cgroup"
        try:
            self.path.mkdir()
            (self.path / ("memory.limit_in_bytes" if self.v1 else "memory.max")).write_text(str(limit))
        except OSError as error:
            with suppress(OSError):
                self.path.rmdir()
            pytest.skip(f"no memory cgroup can be made here: {error}")

    def peak(self) -> int:
        """Most bytes that were ever charged."""
        return int((self.path / ("memory.max_usage_in_bytes" if self.v1 else "memory.peak")).read_text())

    def kills(self) -> int:
        """How often the kernel ended a process in it for want of memory."""
        events = (self.path / ("memory.oom_control" if self.v1 else "memory.events")).read_text()
        return int(dict(line.split() for line in events.splitlines())["oom_kill"])

    def remove(self) -> None:
        self.path.rmdir()


def reasons_against() -> str:
    """Why no pod can be made here; empty when one can."""
    if os.geteuid() != 0:
        return "needs root"
    missing = [name for name in ("unshare", "nsenter", "setpriv", "pivot_root", "mount") if not shutil.which(name)]
    if missing:
        return f"needs {', '.join(missing)} (util-linux)"
    trial = ["unshare", "--mount", "--pid", "--ipc", "--uts", "--net", "--fork", "--propagation", "private"]
    done = subprocess.run([*trial, "mount", "-t", "tmpfs", "none", "/mnt"], check=False, capture_output=True, text=True)
    return f"no namespaces: {done.stderr.strip()}" if done.returncode else ""
