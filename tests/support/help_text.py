"""The help of every command as one text.

After a change: ``python -m tests.support.help_text > tests/golden/help.txt``.
"""

from __future__ import annotations

import click

from mergenode.cli.root import cli

_WIDTH = 100


def help_text() -> str:
    """Overview, commands, subcommands, in the order of the overview."""
    parts: list[str] = []

    def add(command: click.Command, parent: click.Context | None, name: str) -> None:
        context = click.Context(command, info_name=name, parent=parent, max_content_width=_WIDTH, terminal_width=_WIDTH)
        parts.append(f"$ {context.command_path} --help\n{command.get_help(context)}\n")
        if isinstance(command, click.Group):
            for child in command.list_commands(context):
                found = command.get_command(context, child)
                assert found is not None
                add(found, context, child)

    add(cli, None, "mergenode")
    return "\n".join(parts)


if __name__ == "__main__":
    click.echo(help_text(), nl=False)
