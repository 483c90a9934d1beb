"""What a contribution is, by the bytes that were read of it."""

from __future__ import annotations

from blake3 import blake3

from mergenode.adapters.checkpoints.digest import ContentDigest
from mergenode.adapters.checkpoints.side_cars import content_with
from mergenode.adapters.checkpoints.weights import WeightFiles
from mergenode.adapters.engines.local.incoming import Source, side_key
from mergenode.adapters.engines.local.tensors import SLICE_ELEMENTS, read_slice
from mergenode.types import Digest, TensorSpec


def finish_content(source: Source) -> Digest:
    """What a contribution is to its method, after a pass: its weights, and the side-cars that the method asked for."""
    side_cars = source.contribution.side_cars
    found = {kind: side_content(source, kind) for kind in side_cars.files}
    return content_with(weights_content(source), found)


def weights_content(source: Source) -> Digest:
    """The content digest of the weights alone; tensors that the pass did not need are hashed now."""
    identity = ContentDigest()
    files = source.contribution.weights
    for name, spec in files.specs.items():
        identity.add(name, spec.dtype, spec.shape, _digest(source, files, spec, name))
    return identity.finish(source.contribution.canonical_config)


def side_content(source: Source, kind: str) -> Digest:
    """The content digest of one side-car."""
    identity = ContentDigest()
    side_cars = source.contribution.side_cars
    for name, place in side_cars.places[kind].items():
        files = side_cars.files[kind]
        spec = files.specs[place]
        identity.add(name, spec.dtype, spec.shape, _digest(source, files, spec, side_key(kind, name)))
    return identity.finish()


def _digest(source: Source, files: WeightFiles, spec: TensorSpec, key: str) -> bytes:
    """The digest of one tensor's bytes; what the pass did not read is read now."""
    if key not in source.digests:
        hasher = blake3()
        for start in range(0, spec.numel, SLICE_ELEMENTS):
            _, buffer = read_slice(files, spec, start, min(start + SLICE_ELEMENTS, spec.numel))
            hasher.update(buffer)
        source.digests[key] = hasher.hexdigest()
    return bytes.fromhex(source.digests[key])
