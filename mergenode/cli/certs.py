"""``mergenode certs``: an authority of one's own for a trial, certificates, and tokens for teams."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mergenode.cli.lazy import SuggestingGroup
from mergenode.cli.output import Command, console, field_table, json_option, print_json
from mergenode.errors import UsageError
from mergenode.sizes import parse_size

if TYPE_CHECKING:
    from mergenode.adapters.peers.access.certificate_facts import CertificateFacts

_DIR = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
_NAME = click.argument("name")
_MOST_DAYS = 3650

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


def _days(default: int) -> Callable[[Command], Command]:
    days = click.IntRange(1, _MOST_DAYS)
    return click.option("--days", type=days, default=default, show_default=True, help="How long it is valid.")


_FORCE = click.option("--force", is_flag=True, help="Make new keys in place of those that are there.")


@click.group(cls=SuggestingGroup)
def certs() -> None:
    """Make certificates and tokens for a trial, and look at them.

    For trials: the authority's key lies in a file, nothing is revoked, nothing renews itself. Production uses
    cert-manager or the like; it writes the same files, and a running node takes them over.

    \b
    Example:
      mergenode certs init ./certs
      mergenode certs node ./certs node-a --host node-a.example.org
      mergenode certs token ./certs team-x --lineage mergenode --quota 10GiB
    """


@certs.command()
@_DIR
@_days(365)
@_FORCE
def init(folder: Path, days: int, force: bool) -> None:
    """Make an authority and a key for tokens in DIR. Whoever reads ca.key or token.key can be anybody.

    \b
    Example:
      mergenode certs init ./certs
    """
    from mergenode.adapters.peers.access.trial_folder import AUTHORITY, TOKENS, TrialFolder

    TrialFolder(folder).initialise(days, force=force)
    click.echo(f"authority in {folder / AUTHORITY}; keys that check tokens in {folder / TOKENS}")
    click.echo("for trials only: production uses cert-manager or the like")


@certs.command()
@_DIR
@_NAME
@click.option("--host", "hosts", multiple=True, metavar="HOST",
              help="DNS name or IP address that others call, or find it by (dns:); repeatable. Default: this "
              "machine alone.")  # fmt: skip
@_days(90)
@_FORCE
def node(folder: Path, name: str, hosts: tuple[str, ...], days: int, force: bool) -> None:
    """Make the certificate of a node, in DIR/NAME, for `peers.tls`.

    \b
    Example:
      mergenode certs node ./certs node-a --host node-a.example.org --host 10.0.0.7
    """
    _issue(folder, "peer", name, hosts or LOCAL_HOSTS, days, force)


@certs.command()
@_DIR
@_NAME
@_days(90)
@_FORCE
def pusher(folder: Path, name: str, days: int, force: bool) -> None:
    """Make the certificate of a team that pushes contributions, in DIR/NAME.

    \b
    Example:
      mergenode certs pusher ./certs team-x
    """
    _issue(folder, "pusher", name, (), days, force)


@certs.command()
@_DIR
@_NAME
@_days(90)
@_FORCE
def admin(folder: Path, name: str, days: int, force: bool) -> None:
    """Make the certificate of an operator, in DIR/NAME.

    \b
    Example:
      mergenode certs admin ./certs alice
    """
    _issue(folder, "admin", name, (), days, force)


@certs.command()
@_DIR
@_NAME
@click.option("--lineage", "lineages", multiple=True, required=True, metavar="LINEAGE",
              help="Exchange that NAME may push into; may be repeated; * for all.")  # fmt: skip
@click.option("--quota", metavar="SIZE", help="Most that NAME may push in 24 hours; default: what the node allows.")
@_days(7)
@click.option("--audience", default="mergenode", show_default=True, help="As in peers.tokens.audience of the node.")
def token(folder: Path, name: str, lineages: tuple[str, ...], quota: str | None, days: int, audience: str) -> None:
    """Print a token with which the team NAME may push. Whoever has it can use it: send it as you send passwords.

    \b
    Example:
      mergenode certs token ./certs team-x --lineage mergenode --quota 10GiB --days 7 > team-x.token
    """
    from mergenode.adapters.peers.access.trial_folder import TrialFolder

    try:
        most = None if quota is None else parse_size(quota)
    except ValueError as error:
        raise UsageError(f"--quota {quota}: {error}") from error
    click.echo(TrialFolder(folder).token(name, lineages, most, days, audience))


@certs.command()
@click.argument("file", type=click.Path(path_type=Path))
@json_option
@click.pass_context
def show(ctx: click.Context, file: Path, as_json: bool) -> None:
    """Say for whom and until when the certificates in FILE (PEM) are. Exits 1 when one of them is not valid now.

    \b
    Example:
      mergenode certs show ./certs/node-a/tls.crt
    """
    from mergenode.adapters.peers.access.certificate_facts import facts_in

    found = facts_in(file)
    if as_json:
        print_json({"certificates": [_document(facts) for facts in found]})
    else:
        for facts in found:
            rows = ((name, _text(value)) for name, value in _document(facts).items())
            console().print(field_table(rows))
    if any(facts.state != "valid" for facts in found):
        ctx.exit(1)


def _issue(folder: Path, role: str, name: str, hosts: tuple[str, ...], days: int, force: bool) -> None:
    from mergenode.adapters.peers.access.trial_folder import TrialFolder

    made = TrialFolder(folder).issue(role, name, hosts, days, force=force)
    click.echo(f"{made}: tls.crt, tls.key and ca.crt for {role} {name}, valid for {days} days")


def _document(facts: CertificateFacts) -> dict[str, object]:
    return {
        "subject": facts.subject,
        "names": list(facts.names),
        "roles": list(facts.roles),
        "issuer": facts.issuer,
        "authority": facts.authority,
        "valid_from": facts.begins.isoformat(),
        "valid_until": facts.ends.isoformat(),
        "days_left": facts.days_left,
        "state": facts.state,
    }


def _text(value: object) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return (", ".join(value) or "-") if isinstance(value, list) else value
