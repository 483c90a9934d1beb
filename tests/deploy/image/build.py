"""Builds the image of ``deploy/Dockerfile`` without a container engine: buildah in a chroot, files alone.

No registry is asked: the base is made of Debian's own packages, and wheels come from an index on loopback, which holds
what pip, as this machine configures it, takes for requirements/run.txt. Base and wheels are kept in FOLDER.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.manifests import ROOT

FOLDER = ROOT / ".venv/image-check"
SUITE = "bookworm"
PACKAGES = "python3,python3-venv,ca-certificates"
PYTHON = "3.11"
"""Of SUITE."""

NEEDED = {"buildah": "buildah", "mmdebstrap": "mmdebstrap", "unshare": "util-linux", "nsenter": "util-linux"}
"""Commands, and the packages of Debian that have them."""


def reason_against() -> str | None:
    """Why the image cannot be built and run here; None where it can."""
    lacking = sorted({package for command, package in NEEDED.items() if shutil.which(command) is None})
    if lacking:
        return f"not installed: {', '.join(lacking)} (Debian: apt-get install {' '.join(lacking)})"
    if os.geteuid() != 0:
        return "needs root: buildah in a chroot, namespaces and mounts"
    return None


def base() -> Path:
    """A tar file of a small Debian with Python. Idempotent: made once."""
    path = FOLDER / f"{SUITE}.tar"
    if not path.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        staged = path.with_suffix(".new")
        done("mmdebstrap", "--quiet", "--format=tar", "--variant=minbase", f"--include={PACKAGES}", SUITE, staged)
        staged.replace(path)
    return path


def wheels() -> list[Path]:
    """What pip takes for requirements/run.txt on this machine, in the version of Python that the base has."""
    requirements = ROOT / "requirements/run.txt"
    folder = FOLDER / f"wheels-{hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]}"
    if not folder.exists():
        staged = folder.with_suffix(".new")
        shutil.rmtree(staged, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", f"--python-version={PYTHON}"]
        done(*pip, "--dest", staged, "-r", requirements)
        staged.rename(folder)
    return sorted(folder.glob("*.whl"))


class Builder:
    """Images and containers in a store of its own, which vanishes with the block."""

    def __init__(self) -> None:
        self._store = FOLDER / "store"
        self._own = ["buildah", "--storage-driver", "vfs", "--root", self._store / "root"]
        self._own += ["--runroot", self._store / "run"]

    def __enter__(self) -> Builder:
        self._empty()
        (self._store / "run").mkdir(parents=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._empty()

    def _empty(self) -> None:
        if self._store.exists():
            done(*self._own, "rm", "--all")
            shutil.rmtree(self._store)

    def buildah(self, *arguments: str | Path) -> str:
        return done(*self._own, *arguments)

    def load_base(self, tar: Path) -> str:
        """The base as an image; returns its name."""
        container = self.buildah("from", "scratch").strip()
        self.buildah("add", "--quiet", container, tar, "/")
        self.buildah("commit", "--quiet", "--rm", container, "localhost/base:check")
        return "localhost/base:check"

    def build(self, name: str, context: Path, arguments: Mapping[str, str], *options: str) -> str:
        """The image of the Dockerfile; returns what the build said."""
        given = [f"--build-arg={key}={value}" for key, value in arguments.items()]
        return self.buildah(
            "bud", "--isolation", "chroot", "--pull-never", "--ignorefile", ROOT / "deploy/Dockerfile.dockerignore",
            "-f", ROOT / "deploy/Dockerfile", "-t", name, *given, *options, context,
        )  # fmt: skip

    def config(self, name: str) -> dict[str, Any]:
        """What the image says of containers that run it: User, Env, Entrypoint, Cmd, ..."""
        inspected = json.loads(self.buildah("inspect", "--type", "image", name))
        return dict(inspected["OCIv1"]["config"])

    def files(self, name: str) -> Path:
        """The files of an image, in a container of its own."""
        return Path(self.buildah("mount", self.buildah("from", "--pull-never", name).strip()).strip())


def done(*command: str | Path) -> str:
    """Run a command to its end; returns what it printed. Raises with what it complained of."""
    result = subprocess.run([str(part) for part in command], check=False, capture_output=True, text=True, timeout=1200)
    if result.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{result.stdout[-4000:]}{result.stderr[-4000:]}")
    return result.stdout
