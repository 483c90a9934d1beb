"""Serves the application beside the daemon, in a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time

from starlette.types import ASGIApp
from uvicorn import Config, Server

from mergenode.adapters.http.connection import BoundedConnection
from mergenode.adapters.http.listener import BACKLOG, listen
from mergenode.adapters.observers.repeats import RepeatLimit
from mergenode.errors import FatalError

START_SECONDS = 30.0
STOP_SECONDS = 15.0
_MAX_HEADER_BYTES = 16 * 1024
_KEEP_ALIVE_SECONDS = 5
_FINISH_SECONDS = 2

_LOGGER = logging.getLogger("mergenode.http")
_SERVER_LOGGER = "uvicorn.error"


class HttpServer:
    """One application on one address. Installs no signal handlers; thread and socket end with ``stop``."""

    def __init__(self, app: ASGIApp, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._server = _AnnouncedServer(
            Config(
                app,
                http=BoundedConnection,
                ws="none",
                lifespan="off",
                loop="asyncio",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=BACKLOG,
                h11_max_incomplete_event_size=_MAX_HEADER_BYTES,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=_FINISH_SECONDS,
            )
        )
        self._thread: threading.Thread | None = None
        self._forward = _Forward()

    def start(self) -> tuple[str, int]:
        """Bind, serve, and return the bound address; answers are given from then on.

        Raises:
            FatalError: the address cannot be listened on (named, with what holds it), or nothing came up.
        """
        assert self._thread is None, "a server is started once"
        listener = listen(self._host, self._port)
        host, port = listener.getsockname()[:2]
        self._adopt_log()
        self._thread = threading.Thread(target=self._serve, args=(listener,), name="mergenode-http", daemon=True)
        self._thread.start()
        if not self._server.announced.wait(START_SECONDS) or not self._server.started:
            self.stop()
            raise FatalError(f"the HTTP server on {host}:{port} did not start", hint="see the log for the cause")
        return str(host), int(port)

    def stop(self) -> bool:
        """Stop accepting, let running answers finish for two seconds, and join.

        Returns False when the thread was still busy after fifteen seconds; it is a daemon thread and ends with
        the process. Idempotent.
        """
        if self._thread is None:
            return True
        self._server.should_exit = True
        self._thread.join(STOP_SECONDS)
        if self._thread.is_alive():
            return False  # what it still has to say belongs into our log
        logger = logging.getLogger(_SERVER_LOGGER)
        logger.removeHandler(self._forward)
        logger.propagate = True
        return True

    def _serve(self, listener: socket.socket) -> None:
        with listener:
            try:
                # Signals are left alone: the server only takes them over on the main thread.
                asyncio.run(self._server.serve(sockets=[listener]))
            finally:
                self._server.announced.set()

    def _adopt_log(self) -> None:
        logger = logging.getLogger(_SERVER_LOGGER)
        logger.addHandler(self._forward)
        logger.propagate = False


class _AnnouncedServer(Server):
    """Tells another thread when it accepts connections."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.announced = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.announced.set()


class _Forward(logging.Handler):
    """Hands the server's own lines to the log of the node; what any client can provoke, once a minute."""

    def __init__(self) -> None:
        super().__init__()
        self._repeats = RepeatLimit(time.monotonic)

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage().strip()
        suppressed = self._repeats.admit(text)
        if suppressed is None:
            return
        # Start, stop and answers cut off by the stop are detail: the daemon says where it listens.
        cut = record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError)
        level = logging.DEBUG if cut or record.levelno <= logging.INFO else record.levelno
        fields = {"suppressed": suppressed} if suppressed else {}
        _LOGGER.log(level, "%s", text, exc_info=record.exc_info, extra={"event": "http", "fields": fields})
