"""Which heads' weights arrived, so that an older one is still known after a restart."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

from blake3 import blake3

from mergenode.adapters.durable import replace_file
from mergenode.errors import RejectedError
from mergenode.wire.blocks import ID_BYTES
from mergenode.wire.heads import Head, pack_head, parse_head
from mergenode.wire.packing import Unpacking, packed_number

_MAGIC = b"mergenode arrived 1\n"


def store_arrived(path: Path, heads: Mapping[UUID, Head]) -> None:
    """Durability: on return. OSError: the disk is full or failing."""
    packed = [pack_head(heads[node_id]) for node_id in sorted(heads)]
    body = _MAGIC + b"".join(packed_number(len(head), 4) + head for head in packed)
    replace_file(path, body + blake3(body).digest())


def load_arrived(path: Path) -> dict[UUID, Head]:
    """By node. Empty when there is no file or it is damaged: the weights arrive again then."""
    try:
        data = path.read_bytes()
        body, checksum = data[:-ID_BYTES], data[-ID_BYTES:]
        fields, heads = Unpacking(body, path.name), {}
        if checksum != blake3(body).digest() or fields.raw(len(_MAGIC), "the first line") != _MAGIC:
            return {}
        while fields.remaining:
            head = parse_head(fields.raw(fields.number(4, "a length"), "a head"))
            heads[head.node_id] = head
    except (FileNotFoundError, RejectedError):
        return {}
    return heads
