"""Where traces go."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import field_validator

from mergenode.settings.section import Section, setting


class TracingSettings(Section):
    """Spans of what happens to contributions, for an OpenTelemetry collector. Needs `pip install mergenode[otel]`."""

    endpoint: str | None = setting(
        None,
        "URL of an OTLP receiver, such as http://collector:4318; null: the environment's OTEL_EXPORTER_OTLP_ENDPOINT, "
        "and no export without it.",
        unit="URL",
        why="nothing leaves the node unasked",
    )
    protocol: Literal["auto", "http/protobuf", "grpc"] = setting(
        "auto",
        "How spans travel; auto takes OTEL_EXPORTER_OTLP_PROTOCOL, else grpc for port 4317 and http/protobuf for "
        "others.",
        unit="protocol name",
        why="these are the usual ports of collectors",
    )
    sample: float | None = setting(
        None,
        "Share of contributions whose spans are exported, the same ones on every node; null takes the environment's "
        "OTEL_TRACES_SAMPLER_ARG, or all.",
        unit="ratio",
        why="a contribution is a dozen spans, and those who ask for traces want to see them",
        ge=0,
        le=1,
    )

    @field_validator("endpoint")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("not an http:// or https:// URL with a host")
        if parts.username or parts.password:
            raise ValueError("credentials do not belong into the URL: set OTEL_EXPORTER_OTLP_HEADERS")
        return value
