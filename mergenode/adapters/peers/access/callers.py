"""Who calls, and what they may do: from the certificate of the connection, or from a token that they send.

Never from what a message says. A token, where one is sent, speaks for the caller alone: the certificate then only
opened the connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import unquote

import grpc

from mergenode.adapters.peers.access.tokens import TokenFault, TokenRefusedError, TokenVerifier, push_scope

_BEARER = "bearer "
_EVERY_PUSH = push_scope("*")
_TLS = b"ssl"
_MOST_CHARACTERS = 512


class Role(StrEnum):
    """What a caller may do. Closed."""

    PEER = "peer"
    PUSHER = "pusher"
    ADMIN = "admin"


class Stranger(StrEnum):
    """Why nobody was recognised, beside the faults of tokens. Closed: metrics use these words."""

    NO_CREDENTIALS = "no_credentials"
    TOKENS_OFF = "token_not_taken"


@dataclass(frozen=True, slots=True)
class Caller:
    """``name``: stable over calls and connections. ``scopes``: such as ``push:LINEAGE``. ``quota``: bytes pushed in
    24 hours that its token allows, or None: what the settings say."""

    name: str
    roles: frozenset[Role]
    scopes: frozenset[str] = frozenset({_EVERY_PUSH})
    quota: int | None = None

    def may_push(self, lineage: str) -> bool:
        """Whether the caller may push contributions into this lineage. Nodes may: they forward what they folded."""
        scoped = bool(self.scopes & {_EVERY_PUSH, push_scope(lineage)})
        return scoped and not self.roles.isdisjoint({Role.PUSHER, Role.PEER})


class UnknownCallerError(Exception):
    """Nobody that this node knows. ``fault`` is for metrics; callers are not told."""

    def __init__(self, fault: TokenFault | Stranger) -> None:
        super().__init__(fault.value)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Callers:
    """Recognises callers. ``patterns``: per role, for the names in certificates; ``tokens``: None for none taken.

    ``trusting``: whoever reaches the port without TLS may do everything. That is for loopback, and for those who
    wrote ``insecure: true``.
    """

    patterns: Mapping[Role, Sequence[str]]
    tokens: TokenVerifier | None = None
    trusting: bool = False

    def recognise(self, context: grpc.aio.ServicerContext[Any, Any]) -> Caller:
        """Raises UnknownCallerError."""
        connection = context.auth_context()
        token = _token(tuple(context.invocation_metadata() or ()))
        encrypted = _TLS in connection.get("transport_security_type", ())
        if token is not None and (encrypted or self.tokens is not None):
            return self._by_token(token)
        if not encrypted and self.trusting:
            return Caller(unquote(context.peer().rpartition(":")[0]), frozenset(Role))
        names = _names(connection)
        if not encrypted or not names:
            raise UnknownCallerError(Stranger.NO_CREDENTIALS)
        return caller_named(names, self.patterns)

    def _by_token(self, token: str) -> Caller:
        if self.tokens is None:
            raise UnknownCallerError(Stranger.TOKENS_OFF)
        try:
            claims = self.tokens.verify(token)
        except TokenRefusedError as error:
            raise UnknownCallerError(error.fault) from error
        pushes = any(scope.startswith(push_scope("")) for scope in claims.scopes)
        roles = frozenset({Role.PUSHER} if pushes else ())
        return Caller(f"token:{claims.subject}", roles, claims.scopes, claims.quota)


def caller_named(names: Sequence[str], patterns: Mapping[Role, Sequence[str]]) -> Caller:
    """The holder of a certificate with these names, URIs first; the first that has a role becomes the caller's name."""
    roles_of = {name: [role for role in Role if _fits(name, patterns.get(role, ()))] for name in names}
    known = [name for name in names if roles_of[name]]
    return Caller((known or list(names))[0], frozenset(role for roles in roles_of.values() for role in roles))


def caller_of(context: grpc.aio.ServicerContext[Any, Any]) -> Caller:
    """Who makes the call that this handler answers. Ask on the handler's own task, before handing work to a thread."""
    del context  # each call is a task of its own, and its caller lies in the context of that task
    return _CALLER.get()


_CALLER: ContextVar[Caller] = ContextVar("caller")


def announce(caller: Caller) -> None:
    """From now on ``caller_of`` answers this, in the call that the running task serves."""
    _CALLER.set(caller)


def _fits(name: str, patterns: Sequence[str]) -> bool:
    """URIs fit patterns with a colon, DNS names those without, so neither passes for the other; * fits all."""
    is_uri = ":" in name
    return any(
        pattern == "*" or ((":" in pattern) is is_uri and fnmatchcase(name, pattern if is_uri else pattern.lower()))
        for pattern in patterns
    )


def _names(connection: Mapping[str, Iterable[bytes]]) -> tuple[str, ...]:
    """URI and DNS names of the certificate, as the handshake verified it."""
    uris = [text for text in map(_text, connection.get("peer_uri", ())) if ":" in text]
    hosts = [text.lower() for text in map(_text, connection.get("peer_dns", ())) if text and ":" not in text]
    return (*uris, *hosts)


def _text(name: bytes) -> str:
    text = name.decode("ascii", "replace")
    return text if text.isascii() and text.isprintable() and len(text) <= _MOST_CHARACTERS else ""


def _token(metadata: Sequence[tuple[str, str | bytes]]) -> str | None:
    """The bearer token of a call, empty when there is something else in its place; None when there is nothing."""
    found = [value for key, value in metadata if key == "authorization"]
    if not found:
        return None
    value = found[0]
    if len(found) > 1 or not isinstance(value, str) or not value.lower().startswith(_BEARER):
        return ""
    return value[len(_BEARER) :].strip()
