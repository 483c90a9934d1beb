"""Runs as process 1 of a container that is being made: file system, limits, identity; then becomes what it is to run.

Started by ``container`` inside fresh namespaces, as root, with one argument: a JSON object with the fields of ``Plan``.
Needs nothing but the standard library and the commands of util-linux.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

DEVICES = ("null", "zero", "full", "random", "urandom")
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_OLD = ".old"


class Mount(TypedDict):
    source: str
    target: str
    read_only: bool


class Plan(TypedDict):
    """``image``: paths of this machine that the container sees at the same place, never writable."""

    root: str
    image: list[str]
    mounts: list[Mount]
    cgroup: str
    cgroup_target: str
    hostname: str
    user: int
    group: int
    supplementary: list[int]
    directory: str
    command: list[str]
    environment: dict[str, str]


def run(*command: str | Path) -> None:
    subprocess.run([str(part) for part in command], check=True)


def bind(source: str | Path, target: Path, *, read_only: bool) -> None:
    if Path(source).is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    # Made a slave of its source, so that what happens to a share on the machine happens here.
    run("mount", "--bind", "--make-slave", source, target)
    if read_only:
        run("mount", "-o", "remount,bind,ro,nosuid,nodev", target)


def image(root: Path, paths: Sequence[str]) -> None:
    """Of parents of the paths nothing is seen but their names: they may belong to others."""
    for path in ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/usr", *paths):
        here, there = Path(path), root / path.lstrip("/")
        if here.is_symlink():
            there.symlink_to(os.readlink(here))
        elif here.exists() and not there.exists():
            bind(here, there, read_only=True)


def small_files(root: Path, plan: Plan) -> None:
    """What an image and a runtime put into /etc and /dev."""
    etc = root / "etc"
    etc.mkdir()
    user, group = plan["user"], plan["group"]
    (etc / "passwd").write_text(f"root:x:0:0::/root:/bin/sh\nmergenode:x:{user}:{group}::/tmp:/usr/sbin/nologin\n")
    (etc / "group").write_text(f"root:x:0:\nmergenode:x:{group}:\n")
    (etc / "hostname").write_text(plan["hostname"] + "\n")
    (etc / "hosts").write_text(f"127.0.0.1 localhost {plan['hostname']}\n")
    (etc / "resolv.conf").touch()
    if Path("/etc/ld.so.cache").exists():
        bind("/etc/ld.so.cache", etc / "ld.so.cache", read_only=True)
    for device in DEVICES:
        bind(f"/dev/{device}", root / "dev" / device, read_only=False)
    shared = root / "dev/shm"
    shared.mkdir()
    run("mount", "-t", "tmpfs", "-o", "nosuid,nodev,mode=1777,size=64m", "shm", shared)


def enter(plan: Plan) -> None:
    """The new root, and nothing of the old one."""
    root = Path(plan["root"])
    run("mount", "-t", "tmpfs", "-o", "mode=755", "root", root)
    image(root, plan["image"])
    small_files(root, plan)
    for each in plan["mounts"]:
        bind(each["source"], root / each["target"].lstrip("/"), read_only=each["read_only"])
    (root / "proc").mkdir()
    run("mount", "-t", "proc", "-o", "nosuid,nodev,noexec", "proc", root / "proc")
    bind(plan["cgroup"], root / plan["cgroup_target"].lstrip("/"), read_only=True)
    (root / _OLD).mkdir()
    run("pivot_root", root, root / _OLD)
    os.chdir("/")
    run("umount", "-l", f"/{_OLD}")
    Path("/", _OLD).rmdir()
    run("mount", "-o", "remount,ro", "/")


def loopback() -> None:
    with socket.socket() as any_socket:
        request = struct.pack("16sh14x", b"lo", 0)
        _, flags = struct.unpack("16sh14x", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request))
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))


def main(plan: Plan) -> None:
    Path(plan["cgroup"], "cgroup.procs").write_text("0")
    socket.sethostname(plan["hostname"])
    loopback()
    enter(plan)
    os.chdir(plan["directory"])
    os.umask(0o022)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    groups = ",".join(map(str, plan["supplementary"]))
    identity = [f"--reuid={plan['user']}", f"--regid={plan['group']}", f"--groups={groups}"]
    # Once more: that a process ends with its parent is forgotten when it changes its user.
    powerless = ["--pdeathsig=KILL", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all"]
    os.execve("/usr/bin/setpriv", ["setpriv", *identity, *powerless, "--", *plan["command"]], plan["environment"])


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
