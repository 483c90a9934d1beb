"""Runs as process 1 of fresh namespaces, as root: makes a container of the files of an image and becomes its program.

Argument: a JSON object with the fields of ``Plan``. What a container runtime does, as far as a node can tell: a
read-only root, mounts, a user without capabilities, process 1. Needs the standard library and ``mount``.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import TypedDict

DEVICES = ("null", "zero", "full", "random", "urandom")
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 24, 38


class Plan(TypedDict):
    """``volumes``: sizes of small file systems by place; ``binds``: paths of this machine, seen there and read-only."""

    root: str
    volumes: dict[str, str]
    binds: dict[str, str]
    user: int
    group: int
    directory: str
    command: list[str]
    environment: dict[str, str]


def mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


def below(root: Path, place: str) -> Path:
    """A place in the container; made, as runtimes make it."""
    path = root / place.lstrip("/")
    path.mkdir(parents=True, exist_ok=True)
    return path


def build(plan: Plan) -> None:
    """The file system, and nothing of it writable but the volumes."""
    root = Path(plan["root"])
    mount("--bind", root, root)
    mount("-t", "proc", "-o", "nosuid,nodev,noexec", "proc", below(root, "/proc"))
    mount("-t", "tmpfs", "-o", "mode=755,nosuid", "dev", below(root, "/dev"))
    for device in DEVICES:
        (root / "dev" / device).touch()
        mount("--bind", f"/dev/{device}", root / "dev" / device)
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    for place, source in plan["binds"].items():
        mount("--bind", source, below(root, place))
        mount("-o", "remount,bind,ro,nosuid,nodev", root / place.lstrip("/"))
    owner = f"uid={plan['user']},gid={plan['group']},mode=0770"
    for place, size in plan["volumes"].items():
        mount("-t", "tmpfs", "-o", f"nosuid,nodev,size={size},{owner}", "volume", below(root, place))
    mount("-o", "remount,bind,ro", root)
    os.chroot(root)
    os.chdir(plan["directory"])


def loopback() -> None:
    with socket.socket() as any_socket:
        request = struct.pack("16sh14x", b"lo", 0)
        _, flags = struct.unpack("16sh14x", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request))
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))


def surrender(user: int, group: int) -> None:
    """No rights, now and later."""
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in range(int(Path("/proc/sys/kernel/cap_last_cap").read_text()) + 1):
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    os.setgroups([group])
    os.setgid(group)
    os.setuid(user)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")
    # That a process ends with its parent is forgotten when it changes its user.
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def main(plan: Plan) -> None:
    loopback()
    build(plan)
    surrender(plan["user"], plan["group"])
    os.umask(0o022)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.execvpe(plan["command"][0], plan["command"], plan["environment"])


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
