"""From exceptions to exit codes and one clear line on standard error."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import traceback
from collections.abc import Callable

import click

from mergenode.errors import MergenodeError, UsageError

FAILED = 1
USAGE = 2
INTERRUPTED = 130
READER_GONE = 141

TRACEBACK_VARIABLE = "MERGENODE_TRACEBACK"


class ReaderGoneError(Exception):
    """The program that read our output through a pipe has ended, as ``head`` does; nothing is wrong."""


def exit_code_of(run: Callable[[], object]) -> int:
    """Call ``run``; tell what went wrong on standard error and return the exit code.

    Errors of mergenode and of the operating system are one ``error:`` line (per problem) and a ``hint:``,
    without traceback unless MERGENODE_TRACEBACK=1. Anything else is a defect and passes through.
    """
    try:
        result = run()
    except ReaderGoneError:
        _silence_stdout()
        return READER_GONE
    except (KeyboardInterrupt, click.Abort):
        tell("interrupted")
        return INTERRUPTED
    except (click.ClickException, MergenodeError, OSError) as error:
        if os.environ.get(TRACEBACK_VARIABLE) == "1":
            traceback.print_exc()
        return _explain(error)
    return result if isinstance(result, int) else 0


def _explain(error: click.ClickException | MergenodeError | OSError) -> int:
    if isinstance(error, MergenodeError):
        tell(error.message, error.hint)
        return USAGE if isinstance(error, UsageError) else FAILED
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        tell(f"{where}{error.strerror or error}")
        return FAILED
    if type(error).__name__ == "NoArgsIsHelpError":  # click 8.2 and later: the message is the help page
        click.echo(error.format_message(), err=True)
    else:
        tell(*_from_click(error))
    return error.exit_code


def tell(message: str, hint: str = "") -> None:
    """Write an error to standard error: ``error: ...`` per line of the message, then ``hint: ...``."""
    lines = [f"error: {line}" for line in message.splitlines()] + ([f"hint: {hint}"] if hint else [])
    for line in lines:
        with contextlib.suppress(OSError):  # standard error may be closed too
            click.echo(_one_line(line), err=True)


def _from_click(error: click.ClickException) -> tuple[str, str]:
    message = re.sub(r"\s+", " ", error.format_message()).strip()
    if isinstance(error, click.NoSuchOption):
        near = f"; did you mean {error.possibilities[0]!r}?" if error.possibilities else ""
        message = f"unknown option {error.option_name!r}{near}"
    elif message[:1].isupper() and not message[1:2].isupper():
        message = message[0].lower() + message[1:].removesuffix(".")
    context = error.ctx if isinstance(error, click.UsageError) else None
    return message, f"`{context.command_path} --help` shows how" if context else ""


def _one_line(text: str) -> str:
    """Names of files and settings come from outside: no control codes reach the terminal."""
    return "".join(mark if mark.isprintable() else mark.encode("unicode_escape").decode("ascii") for mark in text)


def _silence_stdout() -> None:
    """What is still buffered has no reader: send it nowhere, or the interpreter complains while it ends."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
