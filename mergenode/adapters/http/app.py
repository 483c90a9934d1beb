"""The HTTP face of a node: metrics, probes, status. Read-only; it decides nothing and knows no secret."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from mergenode.adapters.http.documents import encode, fact_document
from mergenode.adapters.http.headers import StrictHeaders
from mergenode.adapters.http.live import Live, LiveStatus
from mergenode.adapters.http.page.document import Wish, status_page
from mergenode.adapters.http.page.stylesheet import STYLESHEET
from mergenode.adapters.http.probes import Verdict, liveness, readiness, startup
from mergenode.adapters.http.quarantine import quarantine_document
from mergenode.adapters.http.status import status_document
from mergenode.adapters.http.tensors import (
    DEFAULT_TENSORS,
    MAX_TENSORS,
    TensorQuery,
    TensorTable,
    newest_fold,
    tensors_document,
)
from mergenode.errors import MergenodeError
from mergenode.ports.ledger_store import LedgerReader

STALLED_AFTER_SECONDS = 900.0
"""Longer than any single tensor takes; an orchestrator restarts the node after it."""

DEFAULT_HISTORY = 50
MAX_HISTORY = 200
"""A folded fact carries a report per layer group, so a page of history stays within a few megabytes."""

MAX_OFFSET = 99_999_999
REFRESH = ("10", "30", "60", "300")
"""Seconds after which the page may be asked to load itself again."""

PeersDocument = Callable[[], dict[str, object]]


class StatusApp:
    """The endpoints, over explicit sources. ``reader`` is asked from worker threads, several at a time."""

    def __init__(
        self,
        node: str,
        reader: LedgerReader,
        metrics: CollectorRegistry,
        live: LiveStatus,
        stalled_after_seconds: float,
        peers: PeersDocument | None = None,
        tensors: TensorTable | None = None,
    ) -> None:
        self._node = node
        self._reader = reader
        self._metrics_registry = metrics
        self._live = live
        self._stalled_after = stalled_after_seconds
        self._peers_document = peers
        self._tensor_table = tensors

    def routes(self) -> list[Route]:
        probes: dict[str, Callable[[Live], Verdict]] = {
            "/livez": self._liveness,
            "/healthz": self._liveness,
            "/readyz": readiness,
            "/startupz": startup,
        }
        return [
            Route("/", self._page),
            Route("/metrics", self._metrics),
            Route("/api/v1/status", self._status),
            Route("/api/v1/history", self._history),
            Route("/api/v1/versions", self._versions),
            Route("/api/v1/peers", self._peers),
            Route("/api/v1/tensors", self._tensors),
            Route("/api/v1/quarantine", self._quarantine),
            *(Route(path, self._probe(judge)) for path, judge in probes.items()),
        ]

    def _liveness(self, live: Live) -> Verdict:
        return liveness(live, self._stalled_after)

    def _probe(self, judge: Callable[[Live], Verdict]) -> Callable[[Request], object]:
        # A coroutine that waits for nothing answers while every worker thread is busy with slow documents.
        async def probe(request: Request) -> Response:
            verdict = judge(self._live.snapshot())
            document = verdict.document(verbose="verbose" in request.query_params)
            return _json(document, 200 if verdict.ok else 503)

        return probe

    def _metrics(self, request: Request) -> Response:
        exposition, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(exposition(self._metrics_registry), headers={"content-type": content_type})

    def _status(self, request: Request) -> Response:
        return _json(status_document(self._node, self._reader, self._live.snapshot(), self._stalled_after))

    def _history(self, request: Request) -> Response:
        limit = _limit(request.query_params.get("limit"))
        facts = self._reader.facts(newest=limit)
        return _json({"facts": [{"sequence": number, **fact_document(fact)} for number, fact in facts]})

    def _versions(self, request: Request) -> Response:
        latest = self._reader.head().version
        versions = [
            {**fact_document(version), "latest": version.version == latest} for version in self._reader.versions()
        ]
        return _json({"versions": versions})

    def _quarantine(self, request: Request) -> Response:
        return _json(quarantine_document(self._reader, _limit(request.query_params.get("limit"))))

    def _peers(self, request: Request) -> Response:
        if self._peers_document is None:
            return _json(_error(404, "this node has no peers", "set peers.listen"), 404)
        return _json(self._peers_document())

    def _tensors(self, request: Request) -> Response:
        asked = request.query_params
        query = TensorQuery(
            offset=_number("offset", asked.get("offset"), 0, MAX_OFFSET, default=0),
            limit=_number("limit", asked.get("limit"), 1, MAX_TENSORS, default=DEFAULT_TENSORS),
            group=asked.get("group"),
        )
        fold = newest_fold(self._reader)
        rows = None if fold is None or self._tensor_table is None else self._tensor_table(fold.generation)
        if fold is None or rows is None:
            why = "nothing was folded yet" if fold is None else f"the merge changed after {fold.name} was folded"
            return _json(_error(404, why, "figures are there after the next fold; /api/v1/history has groups"), 404)
        return _json(tensors_document(fold, rows, query))

    def _page(self, request: Request) -> Response:
        # A page that was asked for wrongly is still the page: it has to be there when somebody is in a hurry.
        asked, refresh = request.query_params.get("heat"), request.query_params.get("refresh", "")
        wish = Wish(asked, int(refresh) if refresh in REFRESH else None)
        peers = None if self._peers_document is None else self._peers_document()
        page = status_page(
            self._node, self._reader, self._live.snapshot(), self._stalled_after, peers=peers, wish=wish
        )  # fmt: skip
        return HTMLResponse(page)


def create_app(
    node: str,
    reader: LedgerReader,
    metrics: CollectorRegistry,
    live: LiveStatus,
    *,
    stalled_after_seconds: float = STALLED_AFTER_SECONDS,
    peers: PeersDocument | None = None,
    tensors: TensorTable | None = None,
) -> ASGIApp:
    """The application of one node. GET and HEAD only; every error is a JSON document.

    Args:
        node: its name, shown on the page and in the status.
        reader: the ledger; must be usable from any thread.
        metrics: what ``/metrics`` exposes, as OpenMetrics to who accepts it.
        live: what the node is doing, collected as an observer of the daemon.
        stalled_after_seconds: without a turn of the loop or progress for this long, ``/livez`` answers 503.
        peers: what ``/api/v1/peers`` answers, asked from worker threads; None: the node has none.
        tensors: what the fold of a generation did to each tensor; asked from worker threads, too.
    """
    app = Starlette(
        routes=StatusApp(node, reader, metrics, live, stalled_after_seconds, peers, tensors).routes(),
        exception_handlers={
            HTTPException: _refused,
            MergenodeError: _unavailable,
            Exception: _failed,
        },
    )
    app.router.redirect_slashes = False
    return StrictHeaders(app, STYLESHEET)


def _json(document: dict[str, object], status: int = 200) -> Response:
    return Response(encode(document), status_code=status, media_type="application/json")


def _limit(text: str | None) -> int:
    return _number("limit", text, 1, MAX_HISTORY, default=DEFAULT_HISTORY)


def _number(name: str, text: str | None, least: int, most: int, *, default: int) -> int:
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and least <= int(text) <= most):
        raise HTTPException(400, f"{name} must be a number from {least} to {most}")
    return int(text)


def _error(status: int, message: str, hint: str = "") -> dict[str, object]:
    return {"error": {"status": status, "message": message, "hint": hint}}


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = _json(_error(error.status_code, error.detail), error.status_code)
    response.headers.update(error.headers or {})
    return response


def _unavailable(request: Request, error: Exception) -> Response:
    assert isinstance(error, MergenodeError)
    return _json(_error(503, error.message, error.hint), 503)


def _failed(request: Request, error: Exception) -> Response:
    # The traceback goes to the log (the server writes it), never to the caller.
    return _json(_error(500, "the node could not answer", "see the log of the node"), 500)
