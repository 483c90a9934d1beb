"""Where spans go, against collectors that really listen."""

from __future__ import annotations

import builtins
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

import mergenode
from mergenode.bootstrap.tracing import open_tracing
from mergenode.errors import UsageError
from mergenode.settings.tracing import TracingSettings
from mergenode.tracing.context import at, within
from mergenode.tracing.ids import is_sampled
from mergenode.tracing.spans import SILENT
from tests.support.otlp_receiver import Received, grpc_receiver, http_receiver

TRACE, OTHER = "a" * 31 + "1", "b" * 31 + "2"


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_SAMPLER_ARG", "OTEL_SERVICE_NAME"):
        monkeypatch.delenv(name, raising=False)


class Node:
    def __init__(self, **settings: Any) -> None:
        self.settings = TracingSettings(**settings)
        self.counts: Counter[str] = Counter()
        self.warned: list[str] = []

    def tracing(self, **environment: str) -> AbstractContextManager[Any]:
        def counted(outcome: str, spans: int) -> None:
            self.counts[outcome] += spans

        return open_tracing(self.settings, "mergenode", "node-a", self.warned.append, counted, environment)


@pytest.mark.parametrize(
    ("receiver", "protocol"), [(http_receiver, "http/protobuf"), (http_receiver, "auto"), (grpc_receiver, "grpc")]
)
def test_spans_arrive_as_they_were(receiver: Callable[[], AbstractContextManager[Received]], protocol: str) -> None:
    with receiver() as received:
        node = Node(endpoint=received.endpoint, protocol=protocol)
        with node.tracing() as tracer, within(at(TRACE)):
            fold = tracer.span("fold", TRACE, contribution="one", bytes_read=7, links=(at(OTHER),))
            with fold, tracer.span("commit", TRACE):
                pass
            with pytest.raises(ValueError, match="broken"), tracer.span("publish", TRACE):
                raise ValueError("broken")
    assert node.counts == {"exported": 3} and node.warned == []
    (fold,), (commit,), (publish,) = received.named("fold"), received.named("commit"), received.named("publish")
    assert fold.trace_id.hex() == TRACE and commit.parent_span_id == fold.span_id and fold.parent_span_id == b""
    assert [link.trace_id.hex() for link in fold.links] == [OTHER]
    told = {each.key: each.value.string_value or each.value.int_value for each in fold.attributes}
    assert told == {"mergenode.contribution": "one", "mergenode.bytes_read": 7}
    assert fold.start_time_unix_nano <= commit.start_time_unix_nano <= fold.end_time_unix_nano
    assert publish.status.code == 2 and "broken" in publish.status.message
    resource = received.resources[0]
    assert (resource["service.name"], resource["service.instance.id"]) == ("mergenode", "node-a")
    assert resource["service.version"] == mergenode.__version__


def test_the_standard_variables_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    with http_receiver() as received:
        said = {"OTEL_EXPORTER_OTLP_ENDPOINT": received.endpoint, "OTEL_SERVICE_NAME": "merges"}
        for name, value in said.items():  # the exporter reads the process's own
            monkeypatch.setenv(name, value)
        node = Node()
        with node.tracing(**said, OTEL_TRACES_SAMPLER_ARG="0.5") as tracer:
            for number in range(64):
                with tracer.span("fold", f"{number:016x}{number << 58:016x}"):
                    pass
    traces = {span.trace_id.hex() for span in received.spans}
    assert traces == {
        trace for trace in (f"{number:016x}{number << 58:016x}" for number in range(64)) if is_sampled(trace, 0.5)
    }
    assert len(traces) == 32 and received.resources[0]["service.name"] == "merges"


@pytest.mark.parametrize(
    "environment",
    [
        {}, {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"},
    ],
)  # fmt: skip
def test_nothing_is_exported_unasked(environment: dict[str, str]) -> None:
    with Node().tracing(**environment) as tracer:
        assert tracer is SILENT


def test_a_collector_that_is_not_there_is_told_once_and_counted() -> None:
    node = Node(endpoint="http://127.0.0.1:1", sample=1.0)
    with node.tracing() as tracer, tracer.span("fold", TRACE):
        pass
    # Either the export failed in the time that a node that ends gives it, or it was still tried then.
    assert node.counts in ({"failed": 1}, {})
    assert all(text.startswith("spans do not reach their collector") for text in node.warned)


def test_without_the_extra_only_a_setting_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any, **more: Any) -> Any:
        if name == "mergenode.adapters.spans.otlp":
            raise ModuleNotFoundError("No module", name="opentelemetry")
        return real(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UsageError) as raised, Node(endpoint="http://127.0.0.1:1").tracing():
        pass
    assert "mergenode[otel]" in raised.value.hint
    node = Node()
    with node.tracing(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1") as tracer:
        assert tracer is SILENT
    assert node.warned == ["traces cannot be exported, a package is missing: opentelemetry"]


@pytest.mark.parametrize("said", ["much", "2", "nan"])
def test_a_share_that_is_none_is_told(said: str) -> None:
    node = Node(endpoint="http://127.0.0.1:1")
    with node.tracing(OTEL_TRACES_SAMPLER_ARG=said) as tracer:
        assert tracer.share == 1.0
    assert len(node.warned) == 1


@pytest.mark.parametrize("endpoint", ["collector:4317", "ftp://x", "http://", "http://user:secret@x:4318"])
def test_an_endpoint_that_is_none_is_refused(endpoint: str) -> None:
    with pytest.raises(ValueError, match="endpoint"):
        TracingSettings(endpoint=endpoint)
