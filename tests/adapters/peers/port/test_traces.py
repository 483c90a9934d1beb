"""What goes with calls between nodes, seen by the one that is called."""

from __future__ import annotations

import asyncio
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mergenode.adapters.peers.weights.blob_service import BlobService, ServingLimits
from mergenode.adapters.peers.weights.fetching import Fetcher, FetchSettings, Order
from mergenode.adapters.peers.weights.shelf import Shelf, ShelfLimits
from mergenode.adapters.peers.weights.sources import Source
from mergenode.tracing.context import Place, read_traceparent
from mergenode.tracing.ids import weights_trace
from mergenode.tracing.spans import Span, Tracer
from tests.support.checkpoints import base_tensors, finetuned, write_single
from tests.support.intake import Intake, open_uploads
from tests.support.peer_nodes import identity, start_node, stopping
from tests.support.peer_servers import ThreadedServer, insecure_channel
from tests.support.stored_models import noisy_model


class Seen:
    """The place that each call says it comes from."""

    def __init__(self) -> None:
        self.places: list[Place | None] = []

    def caller(self, context: Any) -> str:
        self.places.append(read_traceparent(context.invocation_metadata() or ()))
        return "somebody"


def test_heartbeats_and_heads_of_one_conversation_have_one_id(tmp_path: Path) -> None:
    seen = Seen()

    async def talk() -> None:
        nodes = [await start_node(tmp_path / "a", identity(1), calls=False)]
        async with stopping(nodes):

            def caller(context: Any) -> str:
                nodes[0].changed.set()
                return seen.caller(context)

            nodes[0].service._caller_of = caller
            nodes.append(await start_node(tmp_path / "b", identity(2), [nodes[0].address]))
            await nodes[0].until(lambda: len(seen.places) >= 4)

    asyncio.run(talk())
    assert None not in seen.places and len({place.trace_id for place in seen.places if place}) == 1


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_fetch_has_the_id_of_the_weights_on_both_sides(tmp_path: Path, share: float) -> None:
    seen, spans = Seen(), list[Span]()
    theirs, ours = (Shelf(tmp_path / name, time.monotonic, ShelfLimits(min_free=0)) for name in ("theirs", "ours"))
    manifest = theirs.put([noisy_model(tmp_path / "model.safetensors", (1000, 30))])
    service = BlobService(theirs, limits=ServingLimits(), caller_of=seen.caller)
    server = ThreadedServer(service)
    source = Source("a", f"127.0.0.1:{server.port}")
    with closing(service):
        fetcher = Fetcher(ours, insecure_channel, settings=FetchSettings(tracer=Tracer(spans.append, share)))
        assert fetcher.fetch(Order(manifest.root, lambda: [source]))
        server.stop()
    trace_id = weights_trace(manifest.root.hex())
    assert {place.trace_id for place in seen.places if place} == {trace_id} and len(seen.places) == 1
    assert {place.sampled for place in seen.places if place} == {share > 0}
    assert [span.name for span in spans] == ["fetch"] * bool(share)
    assert all(place.span_id == spans[0].place.span_id for place in seen.places if place and spans)


def test_an_intake_takes_the_parent_from_its_caller_and_the_id_from_nobody(tmp_path: Path) -> None:
    spans, told = list[Span](), list[str]()
    base = write_single(tmp_path / "base", base_tensors())
    model = write_single(tmp_path / "tuned", finetuned(base_tensors()))
    with Intake(open_uploads(tmp_path / "state", base)) as intake:
        intake.service._tracer = Tracer(spans.append, 1.0)
        report = intake.push(model, tracer=Tracer(spans.append, 1.0))
        told = [span.name for span in spans]
    push = spans[-1]
    assert told == ["intake missing", "intake put", "intake commit", "push"]
    assert {span.place.trace_id for span in spans} == {report.trace_id}
    assert push.parent is None and push.attributes["outcome"] == "accepted"
    assert report.trace_id and all(span.place.trace_id == report.trace_id for span in spans)
