"""The overview, the version, exit codes, and what is imported for them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from mergenode import __version__
from mergenode.cli.lazy import LazyGroup
from mergenode.cli.root import COMMANDS, cli
from mergenode.errors import (
    FatalError,
    RejectedError,
    RejectReason,
    TransientError,
    TransientReason,
    UsageError,
)

ROOT = Path(__file__).parents[2]
HEAVY = {
    "torch",
    "numpy",
    "scipy",
    "grpc",
    "starlette",
    "uvicorn",
    "watchdog",
    "prometheus_client",
    "safetensors",
    "blake3",
}
OURS = ("commit", "ingest", "status", "history", "show", "config")


def python(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *args],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def imported_by(*args: str) -> tuple[int, set[str]]:
    """Exit code of the command line and the top-level modules that it imported."""
    code = (
        "import sys, atexit\n"
        "tops = lambda: {name.partition('.')[0] for name in sys.modules}\n"
        "atexit.register(lambda: sys.stderr.write('MODULES ' + ' '.join(tops())))\n"
        "import mergenode.cli\nfrom mergenode.__main__ import main\n"
        f"sys.argv = ['mergenode', *{list(args)!r}]\nmain()\n"
    )
    done = python("-c", code)
    return done.returncode, set(done.stderr.rpartition("MODULES ")[2].split())


@pytest.mark.parametrize(
    "args",
    [
        ["--help"],
        ["--version"],
        ["config", "schema"],
        ["status", "--help"],
        ["ingest", "--help"],
        ["commit", "--help"],
    ],
)
def test_cheap_commands_import_nothing_heavy(args: list[str]) -> None:
    code, modules = imported_by(*args)
    assert code == 0 and "mergenode" in modules
    assert not modules & HEAVY


def test_config_check_imports_nothing_heavy(config: Path) -> None:
    code, modules = imported_by("config", "check", str(config))
    assert code == 0 and "pydantic" in modules
    assert not modules & HEAVY


def test_help_lists_every_command_with_its_line(run) -> None:
    result = run("--help")
    assert result.exit_code == 0
    for name, line in COMMANDS.items():
        assert f"  {name} " in result.stdout and line in result.stdout


@pytest.mark.parametrize("name", OURS)
def test_every_command_has_help_with_an_example(run, name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0
    assert "Example" in result.stdout and f"mergenode {name}" in result.stdout


def test_no_command_is_a_usage_error_with_the_overview(run) -> None:
    result = run()
    assert result.exit_code == 2 and result.stdout == "" and "Commands:" in result.stderr


def test_version(run) -> None:
    assert run("--version").stdout == f"mergenode {__version__}\n"


def test_verbose_version_names_what_computes(run) -> None:
    import torch

    lines = dict(line.split(": ", 1) for line in run("--version", "--verbose").stdout.splitlines()[1:])
    assert lines["torch"] == torch.__version__
    assert lines["python"].startswith("3.")
    assert lines["cpu capability"] == torch.backends.cpu.get_cpu_capability()
    assert {"platform", "blas", "processor", "package safetensors", "package blake3"} <= lines.keys()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["statsu"], "error: unknown command 'statsu'; did you mean 'status'?"),
        (["xyzzy"], "error: unknown command 'xyzzy'"),
        (["config", "chekc"], "error: unknown command 'chekc'; did you mean 'check'?"),
        (["status", "--jsno"], "error: unknown option '--jsno'; did you mean '--json'?"),
        (["--verison"], "error: unknown option '--verison'; did you mean '--version'?"),
        (["--verbose"], "error: --verbose belongs to --version"),
        (["history", "--limit", "0"], "error: invalid value for '--limit': 0 is not in the range x>=1."),
        (["trace"], "error: missing argument 'NAME|ID'"),
    ],
)
def test_wrong_usage_is_one_line_a_hint_and_exit_2(run, args: list[str], message: str) -> None:
    result = run(*args)
    assert result.exit_code == 2 and result.stdout == ""
    error, hint = result.stderr.splitlines()
    assert error.removesuffix(".") == message.removesuffix(".")
    assert hint.startswith("hint: `mergenode") and "--help" in hint


def failing(error: BaseException | None, result: object = None) -> LazyGroup:
    """A command line whose command ``fail`` ends in this error or result."""
    group = LazyGroup("mergenode", lazy={"fail": ""})

    @click.command()
    def fail() -> object:
        if error is not None:
            raise error
        return result

    group.get_command = lambda ctx, name: fail  # type: ignore[method-assign]
    return group


@pytest.mark.parametrize(
    ("error", "code", "stderr"),
    [
        (FatalError("broken", hint="mend it"), 1, "error: broken\nhint: mend it\n"),
        (UsageError("wrong a\nwrong b"), 2, "error: wrong a\nerror: wrong b\n"),
        (RejectedError(RejectReason.NOT_FINITE, "NaN in a"), 1, "error: NaN in a\n"),
        (TransientError(TransientReason.DISK_FULL, "full"), 1, "error: full\n"),
        (PermissionError(13, "Permission denied", "/x"), 1, "error: /x: Permission denied\n"),
        (KeyboardInterrupt(), 130, "\nerror: interrupted\n"),
        (FatalError("esc \x1b[31m"), 1, "error: esc \\x1b[31m\n"),
        (None, 0, ""),
    ],
    ids=str,
)
def test_errors_are_lines_and_exit_codes_never_tracebacks(capsys, error, code: int, stderr: str) -> None:
    with pytest.raises(SystemExit) as ended:
        failing(error).main(["fail"], "mergenode")
    assert ended.value.code == code
    assert capsys.readouterr().err == stderr


def test_a_traceback_is_there_on_request(capsys, monkeypatch) -> None:
    monkeypatch.setenv("MERGENODE_TRACEBACK", "1")
    with pytest.raises(SystemExit):
        failing(FatalError("broken")).main(["fail"], "mergenode")
    assert "Traceback" in capsys.readouterr().err


def test_a_defect_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        failing(ZeroDivisionError()).main(["fail"], "mergenode")


def test_a_returned_number_is_the_exit_code() -> None:
    with pytest.raises(SystemExit) as ended:
        failing(None, 1).main(["fail"], "mergenode")
    assert ended.value.code == 1


def test_a_command_that_is_not_installed_fails_only_when_called(monkeypatch, run) -> None:
    monkeypatch.setitem(cli.lazy, "teleport", "Not there.")  # type: ignore[attr-defined]
    assert run("--help").exit_code == 0
    result = run("teleport")
    assert result.exit_code == 1
    assert result.stderr == "error: the command 'teleport' is not part of this installation\n"


def test_a_reader_that_leaves_ends_the_command_silently() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "mergenode", "config", "schema"],
        cwd=ROOT,
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")
