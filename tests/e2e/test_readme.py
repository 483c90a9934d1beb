"""The commands of the README, run in its order in an empty directory.

Blocks fenced as ``console`` that follow an HTML comment ``<!-- run -->`` are run: lines that begin with ``$ `` are
commands (continued after a backslash), the others their output. Numbers, digests and times differ from run to run; the
words of the output have to be there.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.real_node import ROOT, environment

BLOCK = re.compile(r"^<!-- run -->\n+```console\n(.*?)^```", re.DOTALL | re.MULTILINE)


@dataclass
class Command:
    text: str
    output: list[str] = field(default_factory=list)

    def words(self) -> set[str]:
        """Plain words of the output that the README shows."""
        shown = re.sub(r"blake[23]b?:\S+|\S*/\S*|\S*\d\S*", " ", " ".join(self.output))
        return set(re.findall(r"[A-Za-z_]{4,}", shown))


def commands(text: str) -> list[Command]:
    found: list[Command] = []
    continued = False
    for block in BLOCK.findall(text):
        for line in block.splitlines():
            if continued:
                found[-1].text += "\n" + line
            elif line.startswith("$ "):
                found.append(Command(line[2:]))
            else:
                assert found, f"output before any command: {line}"
                found[-1].output.append(line)
                continue
            continued = line.endswith("\\")
    return found


def test_blocks_are_taken_apart() -> None:
    text = (
        "<!-- run -->\n```console\n$ echo one \\\n    two\none two\n$ true\n```\n```console\n$ not this\n```\n"
        "<!-- run -->\n\n```console\n$ last\n...\nblake3:abcdef word12 done well\n```\n"
    )
    found = commands(text)
    assert [command.text for command in found] == ["echo one \\\n    two", "true", "last"]
    assert found[0].output == ["one two"] and found[2].words() == {"done", "well"}


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """An environment in which ``mergenode`` and ``python`` are this checkout's."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, line in (("python", ""), ("mergenode", "-m mergenode ")):
        script = tools / name
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {line}"$@"\n')
        script.chmod(0o755)
    return environment() | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}


@pytest.mark.slow
def test_the_readme_works_as_it_is_written(tmp_path: Path, shell: dict[str, str]) -> None:
    place = tmp_path / "place"
    place.mkdir()
    found = commands((ROOT / "README.md").read_text())
    assert len(found) >= 10
    try:
        _follow(found, place, shell)
    finally:
        for file in place.glob("*/pid"):  # of nodes that a command left in the background
            with suppress(ProcessLookupError):
                os.kill(int(file.read_text()), signal.SIGKILL)


def _follow(found: list[Command], place: Path, shell: dict[str, str]) -> None:
    for command in found:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command.text],
            cwd=place, env=shell, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, f"$ {command.text}\n{done.stdout}"
        missing = command.words() - set(re.findall(r"[A-Za-z_]{4,}", done.stdout))
        assert not missing, f"$ {command.text}\n{done.stdout}\nthe README also shows {sorted(missing)}"
