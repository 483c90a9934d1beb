"""The section ``task``: where the plug-in is, and what it may use."""

from __future__ import annotations

from pathlib import Path

import pytest

from mergenode.errors import UsageError
from mergenode.ports.task import DEFAULT_MEMORY_LIMIT, DEFAULT_TIMEOUT, TaskOptions
from mergenode.settings import Settings, load_settings


def loaded(directory: Path, task: str) -> Settings:
    file = directory / "node.yaml"
    file.write_text(f"base: ./base\nregistries: []\n{task}\n")
    return load_settings(file, {})


def test_without_the_section_there_is_no_plugin(tmp_path: Path) -> None:
    task: TaskOptions = loaded(tmp_path, "").task
    assert (task.entrypoint, task.path) == (None, None)
    assert (task.memory_limit, task.timeout) == (DEFAULT_MEMORY_LIMIT, DEFAULT_TIMEOUT)


def test_a_plugin_with_its_limits(tmp_path: Path) -> None:
    written = "task: {entrypoint: 'a_package.task:Task', path: ./code, memory_limit: 1GiB, timeout: 5}"
    task = loaded(tmp_path, written).task
    assert task.entrypoint == "a_package.task:Task"
    assert task.path == tmp_path / "code"
    assert (task.memory_limit, task.timeout) == (1 << 30, 5.0)
    assert loaded(tmp_path, "task: {path: null}").task.path is None


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("{entrypoint: a_package.task}", "module and a class"),
        ("{entrypoint: 'a package:Task'}", "module and a class"),
        ("{entrypoint: 'a_package:Task()'}", "module and a class"),
        ("{entrypoint: ':Task'}", "module and a class"),
        ("{memory_limit: 1MiB}", "task.memory_limit"),
        ("{timeout: 0}", "task.timeout"),
        ("{timeout: .inf}", "task.timeout"),
        ("{path: ''}", "task.path"),
        ("{entry_point: 'a:B'}", "entrypoint"),
    ],
)
def test_what_means_nothing_is_told_with_its_line(tmp_path: Path, task: str, said: str) -> None:
    with pytest.raises(UsageError, match=r"node\.yaml:3") as caught:
        loaded(tmp_path, f"task: {task}")
    assert said in caught.value.message + caught.value.hint
