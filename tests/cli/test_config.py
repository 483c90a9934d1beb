"""config check and config schema."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mergenode.settings import settings_schema


def test_check_of_a_good_file(run, config: Path) -> None:
    result = run("config", "check", config)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{config}: ok (node node-t, method opcm, watches inbox)\n"
    assert not (config.parent / "state").exists(), "checking creates nothing"


def test_check_names_every_problem(run, config: Path) -> None:
    config.write_text("base: ./base\nregistries: [./inbox]\nhttps: {}\nlog: {level: loud}\n")
    result = run("config", "check", config)
    assert result.exit_code == 2 and result.stdout == ""
    assert result.stderr.splitlines()[:2] == [
        f"error: {config}:3: unknown setting 'https'; did you mean 'http'?",
        f"error: {config}:4: setting 'log.level' is \"loud\"; allowed is 'debug', 'info', 'warning' or 'error'",
    ]


def test_check_names_paths_that_cannot_be_used(run, config: Path) -> None:
    folder = config.parent
    (folder / "base").rmdir()
    (folder / "inbox").rmdir()
    (folder / "inbox").write_text("not a directory")
    (folder / "file").write_text("")
    config.write_text(config.read_text() + "publish: {path: ./file/published}\n")
    result = run("config", "check", config)
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        f"error: {config}: base: {folder}/base does not exist or is hidden from this user",
        f"error: {config}: registries[0]: {folder}/inbox is not a directory",
        f"error: {config}: publish.path: {folder}/file is not a directory",
        "hint: relative paths count from the directory of the settings file",
    ]


@pytest.mark.parametrize(
    ("method", "error"),
    [
        (
            "{name: tsvm, rank_share: 2}",
            "method.rank_share is 2; more than 1, up to 2, goes with method.merge: agree only",
        ),
        ("{name: tsvm, rank_share: 2, merge: agree, rank: adaptive}", "method.rank: adaptive does not go with"),
        ("{name: iso, scale: evaluate}", "method.scale: evaluate needs scores: set task.entrypoint"),
        ('{name: iso, profile: {"": 1}}', "method.profile holds an empty pattern"),
    ],
)
@pytest.mark.parametrize("command", [("config", "check"), ("run", "--once", "-c"), ("plan", "-c"), ("advise", "-c")])
def test_options_that_do_not_go_together_are_found_by_all_commands(
    run, config: Path, command: tuple[str, ...], method: str, error: str
) -> None:
    config.write_text(f"{config.read_text()}method: {method}\n")
    line = len(config.read_text().splitlines())
    result = run(*command, config)
    assert result.exit_code == 2 and result.stdout == ""
    assert result.stderr.startswith(f"error: {config}:{line}: {error}")
    assert not (config.parent / "state").exists(), "a refused run leaves nothing"


@pytest.mark.parametrize("option", ["scale: 1.0e300", "scale: -2e6", 'profile: {"*": 1e300}'])
def test_factors_that_no_model_could_stand_are_refused(run, config: Path, option: str) -> None:
    config.write_text(f"{config.read_text()}method: {{name: iso, {option}}}\n")
    result = run("config", "check", config)
    assert result.exit_code == 2 and "1000000" in result.stderr


def test_check_of_a_missing_file(run, tmp_path: Path) -> None:
    result = run("config", "check", tmp_path / "none.yaml")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {tmp_path}/none.yaml: No such file or directory\n")


def test_schema_is_json_alone_on_stdout(run) -> None:
    result = run("config", "schema")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout) == settings_schema()
