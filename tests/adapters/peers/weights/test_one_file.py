"""The one file of a model: what others read from it, and that its bytes follow from the manifest."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings

from mergenode.adapters.checkpoints.weights import open_weights
from mergenode.adapters.peers.weights.one_file import plan_file, write_one_file
from mergenode.types import DType
from mergenode.wire.blocks import BLOCK_BYTES
from tests.support.wire_models import Model, described, flat, model_of, models


def written(path: Path, model: Model) -> None:
    def read_into(name: str, offset: int, buffer: memoryview) -> None:
        buffer[:] = model[name][1][offset : offset + len(buffer)]

    write_one_file(path, described(model), read_into)


@settings(deadline=None)
@given(models())
def test_what_is_read_from_it_is_the_model(model: Model) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        written(path, model)
        assert path.stat().st_size == plan_file(described(model)).size
        with open_weights(path) as weights:
            assert dict(weights.specs) == {name: spec for name, (spec, _) in model.items()}
            for name, (spec, data) in model.items():
                found = bytearray(spec.nbytes)
                weights.read_into(name, 0, memoryview(found))
                assert bytes(found) == data


def test_blocks_lie_where_the_plan_says(tmp_path: Path) -> None:
    model = model_of(("b", DType.U8, bytes(range(256)) * (BLOCK_BYTES // 256) + b"tail"), ("a", DType.I16, b"abcd"))
    written(tmp_path / "weights.safetensors", model)
    manifest, data = described(model), (tmp_path / "weights.safetensors").read_bytes()
    plan = plan_file(manifest)
    assert data[: len(plan.header)] == plan.header and len(plan.header) % 8 == 0
    assert data[len(plan.header) :] == flat(manifest, model)
    for place in manifest.places():
        block = data[plan.offset(place) : plan.offset(place) + place.length]
        assert block == model[place.tensor.spec.name][1][place.first_byte : place.first_byte + place.length]
