"""Small models for tests of what travels: tensors of every type with any bits."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np
from hypothesis import strategies as st

from mergenode.types import DType, TensorSpec
from mergenode.wire.blocks import Root
from mergenode.wire.describing import describe
from mergenode.wire.manifest import Manifest

Model = Mapping[str, tuple[TensorSpec, bytes]]

NAMES = st.text(st.characters(categories=["L", "N"], include_characters="._"), min_size=1, max_size=12).filter(
    lambda name: name not in ("..", "__metadata__")
)


@st.composite
def models(draw: st.DrawFn) -> Model:
    """Up to five tensors; a few elements each."""
    model = {}
    for name in draw(st.lists(NAMES, unique=True, max_size=5)):
        spec = TensorSpec(name, draw(st.sampled_from(DType)), tuple(draw(st.lists(st.integers(0, 4), max_size=3))))
        model[name] = (spec, draw(st.binary(min_size=spec.nbytes, max_size=spec.nbytes)))
    return model


def model_of(*tensors: tuple[str, DType, bytes]) -> Model:
    """Vectors of the given bytes."""
    return {name: (TensorSpec(name, dtype, (len(data) // dtype.size,)), data) for name, dtype, data in tensors}


def described(model: Model, base_root: Root | None = None) -> Manifest:
    """The manifest of a model."""

    def read_into(name: str, offset: int, buffer: memoryview) -> None:
        buffer[:] = model[name][1][offset : offset + len(buffer)]

    return describe([spec for spec, _ in model.values()], read_into, base_root)


def flat(manifest: Manifest, model: Model) -> bytes:
    """All blocks, one after another."""
    return b"".join(model[entry.spec.name][1] for entry in manifest.tensors)


def bf16_bits(values: np.ndarray) -> np.ndarray:
    """Finite float32 values rounded to bfloat16, ties to even; the result holds the bits."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def fine_tuned_bf16(shape: tuple[int, ...], ratio: float, seed: int) -> tuple[bytes, bytes]:
    """Normal weights in bfloat16, and the same after an update of ``ratio`` times their norm."""
    source = np.random.default_rng(seed)
    base = bf16_bits(source.standard_normal(prod(shape), np.float32) * 0.02)
    exact = (base.astype(np.uint32) << 16).view(np.float32)
    update = source.standard_normal(prod(shape), np.float32)
    update *= ratio * np.linalg.norm(exact) / np.linalg.norm(update)
    return base.tobytes(), bf16_bits(exact + update).tobytes()
