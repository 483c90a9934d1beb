"""The file that blocks are written into is what any safetensors library reads."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from safetensors import safe_open

from mergenode.adapters.checkpoints.weights import open_weights
from mergenode.adapters.peers.intake.staging import StagedWeights
from mergenode.types import DType
from tests.support.wire_models import Model, described, flat, model_of, models


@settings(deadline=None, max_examples=30)
@given(models())
def test_blocks_in_any_order_make_the_file(model: Model) -> None:
    manifest = described(model)
    everything = flat(manifest, model)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.safetensors"
        staged = StagedWeights(path, manifest)
        staged.create()
        staged.allocate()
        for place in reversed(list(manifest.places())):
            staged.write(place, everything[place.offset : place.offset + place.length])
        staged.sync()
        staged.close()
        again = StagedWeights(path, manifest)
        assert again.open() and path.stat().st_size == again.size
        for place in manifest.places():
            assert again.read(place) == everything[place.offset : place.offset + place.length]
        again.close()
        with open_weights(path) as weights:
            assert set(weights.specs) == set(model)
            for name, (spec, data) in model.items():
                buffer = bytearray(spec.nbytes)
                weights.read_into(name, 0, memoryview(buffer))
                assert (weights.specs[name], bytes(buffer)) == (spec, data)


def test_odd_bytes_before_wide_elements_do_no_harm(tmp_path: Path) -> None:
    model = model_of(("a", DType.U8, b"123"), ("b", DType.F64, bytes(range(16))), ("c", DType.BF16, b"xy"))
    manifest = described(model)
    staged = StagedWeights(tmp_path / "model.safetensors", manifest)
    staged.create()
    for place in manifest.places():
        staged.write(place, model[place.tensor.spec.name][1])
    staged.close()
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert file.get_tensor("b").view(dtype=file.get_tensor("a").dtype).tolist() == list(range(16))
        assert file.metadata() == {"format": "pt"}


def test_a_file_of_another_size_is_not_taken_for_it(tmp_path: Path) -> None:
    manifest = described(model_of(("a", DType.U8, b"123")))
    staged = StagedWeights(tmp_path / "x", manifest)
    assert not staged.open()
    (tmp_path / "x").write_bytes(b"short")
    assert not staged.open()
    staged.close()
