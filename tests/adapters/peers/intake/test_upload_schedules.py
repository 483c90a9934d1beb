"""Any schedule of good, wrong and repeated blocks, deaths and restarts ends with the model, or with what lacks."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.adapters.checkpoints.digest import content_digest
from mergenode.adapters.peers.intake.intake_refusals import RefusedError
from mergenode.adapters.peers.intake.push_records import PushRecord
from mergenode.adapters.peers.intake.upload import Upload
from mergenode.adapters.peers.intake.upload_terms import terms_of
from mergenode.adapters.peers.intake.uploads import IntakeSide, Uploads
from mergenode.adapters.peers.pushing.local_model import LocalModel, describe_model
from mergenode.adapters.registries.pushes import pushes_directory
from mergenode.wire.encoding import Encoded, Encoding, encode_block
from mergenode.wire.journal import indexes_in
from mergenode.wire.v1.intake_pb2 import BeginRequest
from tests.support.checkpoints import base_tensors, finetuned, write_single
from tests.support.intake import FakeOutcomes, open_uploads
from tests.support.killed_calls import Killed, KilledCalls

STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["put", "packed", "wrong", "repeat"]), st.integers(0, 100)),
        st.tuples(st.sampled_from(["sync", "restart", "commit"]), st.just(0)),
        st.tuples(st.just("kill"), st.integers(0, 12)),
    ),
    max_size=25,
)


def go_on() -> None:
    """Nobody ends the work."""


class Line:
    """One upload, driven step by step."""

    def __init__(self, uploads: Uploads, model: LocalModel) -> None:
        self.uploads, self.model = uploads, model
        manifest = model.manifest
        self.terms, self.files = terms_of("team-a", "mergenode", BeginRequest(
            lineage="mergenode", name="tuned", root=manifest.root, manifest_bytes=len(manifest.packed),
            weight_bytes=manifest.total_bytes, files=dict(model.files),
        ))  # fmt: skip

    def begun(self) -> Upload | PushRecord:
        upload_id, _ = self.uploads.begin(self.terms, dict(self.files))
        upload = self.uploads.of("team-a", upload_id)
        if isinstance(upload, Upload) and not upload.prepared:
            upload.spool(0, self.model.manifest.packed)
            self.uploads.prepare(upload, go_on)
        return upload

    def step(self, kind: str, number: int) -> None:
        if kind == "kill":
            try:
                with KilledCalls(number).installed():
                    self.step("put", number)
                    self.step("sync", 0)
                    self.uploads.commit("team-a", self.terms.id, go_on)
            except (Killed, RefusedError):
                pass
            self.step("restart", 0)
        elif kind == "restart":
            self.uploads = Uploads(self.uploads.side)
        else:
            self._on(self.begun(), kind, number)

    def _on(self, upload: Upload | PushRecord, kind: str, number: int) -> None:
        if isinstance(upload, PushRecord):
            return
        with upload.used():
            blocks = upload.blocks()
            wanted = list(indexes_in(blocks.wanted))
            if kind == "commit":
                if wanted:
                    with pytest.raises(RefusedError, match="missing"):
                        self.uploads.commit("team-a", self.terms.id, go_on)
                return
            if kind == "sync":
                blocks.sync()
                return
            index = wanted[number % len(wanted)] if wanted else number % self.model.manifest.block_count
            place = self.model.manifest.place(index)
            data = self.model.read(place)
            if kind == "packed":
                blocks.put(index, encode_block(data, place.tensor.spec.dtype, accept={Encoding.SPLIT_ZSTD}), "team-a")
            elif kind == "wrong":
                blocks.put(index, Encoded(Encoding.RAW, bytes(len(data))), "team-a")
            else:
                for _ in range(2 if kind == "repeat" else 1):
                    blocks.put(index, Encoded(Encoding.RAW, data), "team-a")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[IntakeSide, Path]:
    """A node of a base, which is read once, and a fine-tune."""
    place = tmp_path_factory.mktemp("models")
    base = write_single(place / "base", base_tensors())
    return open_uploads(place / "state", base).side, write_single(place / "tuned", finetuned(base_tensors()))


@settings(deadline=None, max_examples=25)
@given(steps=STEPS)
def test_every_schedule_can_be_completed(models: tuple[IntakeSide, Path], steps: list[tuple[str, int]]) -> None:
    node, tuned = models
    with tempfile.TemporaryDirectory() as directory, describe_model(tuned) as model:
        side = replace(node, state=Path(directory), outcomes=FakeOutcomes())
        line = Line(Uploads(side), model)
        for kind, number in steps:
            line.step(kind, number)
        upload = line.begun()
        if isinstance(upload, Upload):
            with upload.used():
                for index in list(indexes_in(upload.blocks().wanted)):
                    block = model.read(model.manifest.place(index))
                    upload.blocks().put(index, Encoded(Encoding.RAW, block), "team-a")
        record = line.uploads.commit("team-a", line.terms.id, go_on)
        assert content_digest(pushes_directory(side.state) / record.entry) == content_digest(tuned)
