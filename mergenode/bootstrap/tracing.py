"""Where spans go, as settings and the environment say. The library is imported only where they go somewhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

import mergenode
from mergenode.adapters.spans.queue import SpanQueue
from mergenode.errors import UsageError
from mergenode.settings.tracing import TracingSettings
from mergenode.tracing.spans import SILENT, Tracer

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_GRPC, _HTTP = "grpc", "http/protobuf"
_GRPC_PORT = 4317
_TRACES_PATH = "/v1/traces"

Counted = Callable[[str, int], None]


def _uncounted(_outcome: str, _spans: int) -> None:
    """Where nobody asks for metrics."""


@contextmanager
def open_tracing(
    settings: TracingSettings, service: str, instance: str, warn: Callable[[str], None], counted: Counted = _uncounted,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Tracer]:  # fmt: skip
    """A tracer that exports until the end of the block, or one that nobody listens to.

    ``counted``: so many spans were ``exported``, ``failed`` or ``dropped``. Raises UsageError when the settings name an
    endpoint and the extra ``otel`` is not installed; where only the environment names one, that is a warning.
    """
    env = os.environ if environment is None else environment
    if not _wanted(settings, env):
        yield SILENT
        return
    share = _share(settings, env, warn)
    try:
        from mergenode.adapters.spans.otlp import exporter_to, exporting  # noqa: PLC0415 - an extra

        exporter = exporter_to(_endpoint(settings, env), _protocol(settings, env))
    except ImportError as error:
        what = f"traces cannot be exported, a package is missing: {error.name}"
        if settings.endpoint is not None:
            raise UsageError(what, hint="Install it with `pip install 'mergenode[otel]'`.") from error
        warn(what)
        yield SILENT
        return
    attributes = {"service.version": mergenode.__version__, "service.instance.id": instance}
    if "OTEL_SERVICE_NAME" not in env:
        attributes["service.name"] = service
    queue = SpanQueue(exporting(exporter, attributes, mergenode.__version__), counted, warn)
    try:
        yield Tracer(queue.put, share)
    finally:
        if queue.close():
            exporter.shutdown()


def _wanted(settings: TracingSettings, env: Mapping[str, str]) -> bool:
    if env.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or env.get("OTEL_TRACES_EXPORTER") == "none":
        return False
    return settings.endpoint is not None or any(env.get(name) for name in _ENDPOINTS)


def _protocol(settings: TracingSettings, env: Mapping[str, str]) -> str:
    if settings.protocol != "auto":
        return settings.protocol
    said = next((env[name] for name in _PROTOCOLS if env.get(name)), None)
    if said is not None:
        return _GRPC if said == _GRPC else _HTTP
    endpoint = settings.endpoint or next((env[name] for name in _ENDPOINTS if env.get(name)), "")
    return _GRPC if f":{_GRPC_PORT}" in endpoint else _HTTP


def _endpoint(settings: TracingSettings, env: Mapping[str, str]) -> str | None:
    """None: the exporter reads the environment itself."""
    endpoint = settings.endpoint
    if endpoint is None or _protocol(settings, env) == _GRPC or urlsplit(endpoint).path.strip("/"):
        return endpoint
    return endpoint.rstrip("/") + _TRACES_PATH


def _share(settings: TracingSettings, env: Mapping[str, str], warn: Callable[[str], None]) -> float:
    if settings.sample is not None:
        return settings.sample
    said = env.get("OTEL_TRACES_SAMPLER_ARG", "")
    try:
        share = float(said) if said else 1.0
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= 1.0:
        warn(f"OTEL_TRACES_SAMPLER_ARG is {said!r}, no number from 0 to 1: all traces are exported")
        return 1.0
    return share
