"""A group of commands whose modules are imported only when called, so that help stays instant."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click

from mergenode.cli.failures import ReaderGoneError, exit_code_of
from mergenode.errors import FatalError


class SuggestingGroup(click.Group):
    """A group that answers a misspelt command with the nearest one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, known = args[0], self.list_commands(ctx)
        if name not in known and not name.startswith("-"):
            near = get_close_matches(name, known, n=1)
            suggestion = f"; did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"unknown command {name!r}{suggestion}", ctx=ctx)
        return super().resolve_command(ctx, args)


class LazyGroup(SuggestingGroup):
    """Commands by name: module ``mergenode.cli.NAME`` holds the command ``NAME``.

    Args:
        commands: name -> one line for the overview, in the order in which the overview shows them.
    """

    def __init__(self, *args: Any, lazy: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = dict(lazy or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.lazy:
            return None
        module = f"mergenode.cli.{cmd_name}"
        try:
            command = getattr(import_module(module), cmd_name)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            raise FatalError(f"the command {cmd_name!r} is not part of this installation") from error
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(self.lazy.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError as error:
            # Before click sees it: click would call it a failure of ours.
            raise ReaderGoneError from error
        return result

    def main(  # type: ignore[override]  # click overloads it on standalone_mode; here it always ends the process
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> Any:
        """Run and end the process: 0 done, 1 failed, 2 usage, 130 interrupted, 141 reader of a pipe left."""
        extra["standalone_mode"] = False

        def run() -> object:
            return super(LazyGroup, self).main(args, prog_name, **extra)

        sys.exit(exit_code_of(run))
