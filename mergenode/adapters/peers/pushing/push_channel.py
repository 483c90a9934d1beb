"""How a pushing team reaches a node: certificate, token, or nothing on loopback."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import grpc

from mergenode.errors import UsageError

_SCHEME = "grpc://"
_TOKEN_BYTES = 16 << 10
_MESSAGE_BYTES = 4 << 20
_KEEPALIVE_MS, _PATIENCE_MS = 30_000, 10_000
_OPTIONS = (
    ("grpc.max_receive_message_length", _MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", _PATIENCE_MS),
    ("grpc.http2.ping_timeout_ms", _PATIENCE_MS),  # what counts when the other process is frozen
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.use_local_subchannel_pool", 1),  # or a new channel would inherit the waits of a broken one
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PushCredentials:
    """Paths of PEM files and of a token. ``insecure``: no TLS although the address is not loopback."""

    certificate: Path | None = None
    key: Path | None = None
    authority: Path | None = None
    token: Path | None = None
    insecure: bool = False

    @property
    def tls(self) -> bool:
        return any((self.certificate, self.key, self.authority))


def push_address(text: str) -> str:
    """``host:port`` of what the user wrote, ``grpc://`` before it or not. Raises UsageError."""
    address = text.removeprefix(_SCHEME).rstrip("/")
    host, _, port = address.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 1 << 16 or "/" in address:
        raise UsageError(f"--to {text!r} is not host:port", hint="For example --to merge.example.org:50051.")
    return address


def is_loopback(address: str) -> bool:
    """Whether nobody between here and ``host:port`` can listen. Of names only ``localhost`` is believed."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def channels_to(address: str, credentials: PushCredentials) -> Callable[[], grpc.Channel]:
    """Opens a channel for each attempt; files are read anew each time, so certificates may be replaced meanwhile.

    Raises UsageError for what does not go together, or a file that cannot be read.
    """
    if bool(credentials.certificate) != bool(credentials.key):
        raise UsageError("--tls-cert and --tls-key belong together")
    plain = not credentials.tls and not credentials.token
    if not credentials.tls and not is_loopback(address):
        if credentials.token is not None:
            raise UsageError(
                f"a token would travel to {address} in the clear", hint="Name the authority of the node with --tls-ca."
            )
        if plain and not credentials.insecure:
            raise UsageError(
                f"{address} is not on this machine and there is nothing to know it by",
                hint="Give --tls-ca, and --tls-cert with --tls-key or --token-file; or --insecure if the network is "
                "all yours.",
            )
    if not credentials.tls:
        return lambda: grpc.insecure_channel(address, _OPTIONS)

    def secure() -> grpc.Channel:
        parts = [_pem(path) for path in (credentials.authority, credentials.key, credentials.certificate)]
        return grpc.secure_channel(address, grpc.ssl_channel_credentials(*parts), _OPTIONS)

    secure().close()  # says now what is wrong with the files
    return secure


def token_metadata(credentials: PushCredentials) -> tuple[tuple[str, str], ...]:
    """What goes with every call. Raises UsageError when the token cannot be read."""
    if credentials.token is None:
        return ()
    text = _read(credentials.token).decode("ascii", "replace").strip()
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise UsageError(f"{credentials.token}: holds no token", hint="One line, as the node's operator gave it.")
    return (("authorization", f"Bearer {text}"),)


def _pem(path: Path | None) -> bytes | None:
    return None if path is None else _read(path)


def _read(path: Path) -> bytes:
    try:
        with open(path, "rb") as stream:
            data = stream.read(_TOKEN_BYTES * 64)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    return data
