"""The listening socket, or a clear word on why there is none."""

from __future__ import annotations

import errno
import socket

from mergenode.adapters.http.port_holder import holder_of_port
from mergenode.errors import FatalError

BACKLOG = 128
MAX_PORT = 65535


def listen(host: str, port: int, *, setting: str = "http.listen") -> socket.socket:
    """A bound, listening TCP socket; port 0 takes a free one. The caller owns it. ``setting``: what hints speak of.

    Raises:
        FatalError: the address is unknown, taken, not of this machine or not permitted.
    """
    if not 0 <= port <= MAX_PORT:
        # The resolver would take the port modulo 65536 and listen somewhere else.
        raise FatalError(
            f"cannot listen on {host}:{port}: no such port", hint=f"set {setting} to a port from 0 to 65535"
        )
    try:
        candidates = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise FatalError(
            f"cannot listen on {host}:{port}: the host name is not known ({error})",
            hint=f"set {setting} to an address of this machine, for example 127.0.0.1:9464",
        ) from error
    family, kind, protocol, _, address = candidates[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _explained(error, host, port, setting) from error
    listener.setblocking(False)
    return listener


def _explained(error: OSError, host: str, port: int, setting: str) -> FatalError:
    where = f"cannot listen on {host}:{port}"
    if error.errno == errno.EADDRINUSE:
        holder = holder_of_port(port)
        return FatalError(
            f"{where}: address in use{f' by {holder}' if holder else ''}",
            hint=f"stop the other process or set {setting} to another port (0 takes a free one)",
        )
    if error.errno == errno.EACCES:
        return FatalError(f"{where}: not permitted", hint=f"set {setting} to a port above 1023")
    if error.errno == errno.EADDRNOTAVAIL:
        return FatalError(f"{where}: not an address of this machine", hint=f"set {setting} to 127.0.0.1 or 0.0.0.0")
    return FatalError(f"{where}: {error.strerror}", hint=f"set {setting} to another address")
