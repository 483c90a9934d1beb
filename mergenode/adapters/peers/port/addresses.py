"""Addresses of nodes: ``host:port``, a host with colons in brackets."""

from __future__ import annotations

_MOST_CHARACTERS = 255 + 6


def host_of(address: str) -> str:
    """The host of ``host:port``, without brackets."""
    return address.rpartition(":")[0].removeprefix("[").removesuffix("]")


def joined(host: str, port: int) -> str:
    """``host:port``, with brackets where the host needs them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def checked_address(text: str) -> str:
    """``text`` if it can be the address of a node. Raises ValueError otherwise.

    Names are resolved by grpc, to which a prefix such as ``unix:`` means something else; so none is let through.
    """
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    plain = text.isascii() and text.isprintable() and not set(text) & set(" /?#@%,")
    if (
        not plain or not host.strip("[]") or (":" in host and not bracketed) or len(text) > _MOST_CHARACTERS
        or not port.isdigit() or not 0 < int(port) < 1 << 16
    ):  # fmt: skip
        raise ValueError(f"{text[:64]!r} is not an address such as node-b:50051")
    return text
