"""What ``deploy/Dockerfile`` says of a container that runs its image."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support.manifests import ROOT


@dataclass(frozen=True)
class Image:
    """``paths``: where the program lies on this machine; what the image has in /opt/mergenode."""

    entrypoint: tuple[str, ...]
    environment: dict[str, str]
    directory: str
    user: tuple[int, int]
    paths: tuple[str, ...]


def described() -> Image:
    """The last stage of the Dockerfile, with the environment of these tests in the place of its virtual one."""
    text = (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    last = text[text.rindex("\nFROM ") :]
    environment = dict(re.findall(r"([A-Z_]+)=(\S+)", " ".join(re.findall(r"^ENV (.*)$", last, re.M))))
    environment["PATH"] = f"{Path(sys.prefix, 'bin')}:/usr/local/bin:/usr/bin:/bin"
    (entrypoint,) = re.findall(r"^ENTRYPOINT (.*)$", last, re.M)
    (directory,) = re.findall(r"^WORKDIR (.*)$", last, re.M)
    ((user, group),) = re.findall(r"^USER (\d+):(\d+)$", last, re.M)
    return Image(
        entrypoint=tuple(json.loads(entrypoint)),
        environment=environment,
        directory=directory,
        user=(int(user), int(group)),
        paths=(sys.base_prefix, sys.prefix, str(ROOT / "mergenode")),
    )
