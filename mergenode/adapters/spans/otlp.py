"""Spans as OpenTelemetry knows them, to a collector by OTLP over HTTP or gRPC. Needs the extra ``otel``.

Only the library's values and its exporters are used, no providers and no globals: ids are derived here, the queue is
ours, and whoever embeds mergenode keeps his own OpenTelemetry.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from mergenode.adapters.spans.queue import Export
from mergenode.tracing.context import Place
from mergenode.tracing.spans import Span

GRPC, HTTP = "grpc", "http/protobuf"
TIMEOUT_SECONDS = 10.0
_KINDS = {"push": SpanKind.CLIENT, "fetch": SpanKind.CLIENT, "intake": SpanKind.SERVER}
_LOGGERS = ("opentelemetry.exporter", "opentelemetry.sdk")


def exporter_to(endpoint: str | None, protocol: str) -> SpanExporter:
    """``endpoint`` None: as the standard ``OTEL_EXPORTER_OTLP_*`` variables say, which give all else in any case."""
    for name in _LOGGERS:  # a dead collector is told once a minute by ourselves
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    if protocol == GRPC:
        from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as by_grpc  # noqa: PLC0415 - half a second

        plain = endpoint is not None and endpoint.startswith("http://")
        return by_grpc.OTLPSpanExporter(endpoint=endpoint, insecure=True if plain else None, timeout=TIMEOUT_SECONDS)
    from opentelemetry.exporter.otlp.proto.http import trace_exporter as by_http  # noqa: PLC0415 - half a second

    return by_http.OTLPSpanExporter(endpoint=endpoint, timeout=TIMEOUT_SECONDS)


def exporting(exporter: SpanExporter, attributes: Mapping[str, str], version: str) -> Export:
    """Batches of our spans to an exporter. ``attributes``: of the process, beside those of the environment."""
    resource = Resource.create(dict(attributes))
    scope = InstrumentationScope("mergenode", version)

    def export(spans: Sequence[Span]) -> bool:
        return exporter.export([_readable(span, resource, scope) for span in spans]) is SpanExportResult.SUCCESS

    return export


def _readable(span: Span, resource: Resource, scope: InstrumentationScope) -> ReadableSpan:
    status = Status(StatusCode.ERROR, span.fault) if span.fault else Status(StatusCode.UNSET)
    return ReadableSpan(
        name=span.name,
        context=_context(span.place),
        parent=None if span.parent is None else _context(span.parent),
        resource=resource,
        attributes={f"mergenode.{name}": value for name, value in span.attributes.items()},
        links=[Link(_context(link)) for link in span.links],
        kind=_KINDS.get(span.name.partition(" ")[0], SpanKind.INTERNAL),
        instrumentation_scope=scope,
        status=status,
        start_time=span.begun,
        end_time=span.ended,
    )


def _context(place: Place) -> SpanContext:
    flags: Any = TraceFlags(TraceFlags.SAMPLED if place.sampled else TraceFlags.DEFAULT)
    return SpanContext(int(place.trace_id, 16), int(place.span_id, 16), is_remote=False, trace_flags=flags)
