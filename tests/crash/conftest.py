"""One pair of runners and one story for all fault tests."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.crash_parts import KINDS
from tests.support.crash_runners import Runners
from tests.support.crash_story import Story
from tests.support.crash_world import World, make_world

MEMORY = Path("/dev/shm")
"""Thousands of fsyncs cost nothing here. What is killed is the process, not the machine."""


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory on a file system in memory where there is one."""
    if not os.access(MEMORY, os.W_OK):
        yield tmp_path_factory.mktemp("crash")
        return
    path = Path(tempfile.mkdtemp(prefix="mergenode-crash-", dir=MEMORY))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def runners() -> Iterator[Runners]:
    started = Runners(2)
    yield started
    started.close()


@pytest.fixture(scope="session")
def world(scratch: Path) -> World:
    return make_world(scratch / "world")


@pytest.fixture(scope="session")
def stories(scratch: Path, runners: Runners, world: World) -> Callable[[str], Story]:
    """The undisturbed story of each kind of node, told once."""

    @cache
    def told(kind: str) -> Story:
        folder = tempfile.mkdtemp(prefix=f"sites-{kind}-", dir=scratch)  # another one when telling it failed
        story = Story(Path(folder), world, runners, KINDS[kind])
        story.tell()
        return story

    return told


@pytest.fixture(scope="session")
def story(stories: Callable[[str], Story]) -> Story:
    return stories("opcm")
