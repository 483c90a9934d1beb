"""``*.safetensors.index.json``: which shard holds which tensor, as the checkpoint claims."""

from __future__ import annotations

from mergenode.adapters.checkpoints.json_scan import DuplicateKey, JsonFault, JsonScanner
from mergenode.adapters.checkpoints.limits import Limits
from mergenode.errors import RejectedError, RejectReason

_HINT = "Save the checkpoint again so that the index is written with the shards."


def parse_index(text: bytes, *, file: str, limits: Limits) -> dict[str, str]:
    """Tensor name -> shard file name. Shard names are plain file names that end in ``.safetensors``.

    Raises:
        RejectedError: INDEX_INVALID, SHARD_NAME_UNSAFE, TOO_MANY_TENSORS; the message names file and tensor.
    """
    scanner = JsonScanner(text)
    weight_map: dict[str, str] | None = None
    try:
        for key in scanner.keys(limits.name_characters):
            if key != "weight_map":
                scanner.skip()
            elif weight_map is not None:
                raise DuplicateKey("the key 'weight_map' is there twice")
            else:
                weight_map = _weight_map(scanner, file, limits)
        scanner.end()
    except JsonFault as error:
        raise RejectedError(RejectReason.INDEX_INVALID, f"{file}: {error}", hint=_HINT) from error
    if not weight_map:
        raise RejectedError(
            RejectReason.INDEX_INVALID, f"{file}: has no weight_map with at least one tensor", hint=_HINT
        )
    return weight_map


def _weight_map(scanner: JsonScanner, file: str, limits: Limits) -> dict[str, str]:
    found: dict[str, str] = {}
    shards: dict[str, str] = {}  # one string object per shard, however many tensors name it
    for tensor in scanner.keys(limits.name_characters * 6):
        if tensor in found:
            raise DuplicateKey(f"tensor {tensor!r} is there twice")
        if len(found) == limits.tensors:
            raise RejectedError(RejectReason.TOO_MANY_TENSORS, f"{file}: names more than {limits.tensors} tensors")
        shard = scanner.string(1024)
        if shard not in shards:
            _check_shard_name(shard, tensor, file)
            shards[shard] = shard
        found[tensor] = shards[shard]
    if len(shards) > limits.files:
        raise RejectedError(
            RejectReason.TOO_LARGE, f"{file}: names {len(shards)} shards, at most {limits.files} are read"
        )
    return found


def _check_shard_name(shard: str, tensor: str, file: str) -> None:
    plain = "/" not in shard and "\\" not in shard and shard.isprintable() and not shard.startswith(".")
    if plain and shard.endswith(".safetensors") and len(shard.encode()) <= 255:
        return
    raise RejectedError(
        RejectReason.SHARD_NAME_UNSAFE,
        f"{file}: tensor {tensor!r}: shard name {shard[:80]!r} is not the plain name of a .safetensors file",
        hint="An index names files of its own directory only.",
    )
