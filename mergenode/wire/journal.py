"""What a transfer remembers between two lives: which blocks are safely on disk, one bit each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from blake3 import blake3

from mergenode.errors import RejectedError, RejectReason
from mergenode.wire.blocks import ID_BYTES, Root
from mergenode.wire.packing import Unpacking, packed_number

MAGIC = b"mergenode journal 1\n"


def bits_of(indexes: Iterable[int]) -> int:
    """A set of block indexes as a whole number: bit i is block i."""
    bits = bytearray()
    for index in indexes:
        if index >= 8 * len(bits):
            bits.extend(bytes(index // 8 + 1 - len(bits)))
        bits[index // 8] |= 1 << index % 8
    return int.from_bytes(bits, "little")


def indexes_in(bits: int) -> Iterator[int]:
    """The block indexes of a set, ascending."""
    for number, byte in enumerate(bits.to_bytes((bits.bit_length() + 7) // 8, "little")):
        for bit in range(8):
            if byte >> bit & 1:
                yield 8 * number + bit


def packed_bits(bits: int, blocks: int) -> bytes:
    """As ``MissingReply.wanted`` and the journal have it. OverflowError: a bit beyond ``blocks``."""
    if bits >> blocks:
        raise OverflowError(f"a bit beyond {blocks} blocks")
    return bits.to_bytes((blocks + 7) // 8, "little")


def unpacked_bits(data: bytes, blocks: int, where: str) -> int:
    """The set behind ``packed_bits``. RejectedError (HEADER_INVALID): of another length, or bits beyond ``blocks``."""
    fields = Unpacking(data, where)
    bits = int.from_bytes(fields.raw((blocks + 7) // 8, f"{blocks} bits"), "little")
    fields.end()
    if bits >> blocks:
        raise fields.malformed(f"a bit beyond {blocks} blocks")
    return bits


@dataclass(frozen=True, slots=True)
class Journal:
    """Progress of one transfer: ``written`` holds the blocks whose bytes were synced before this was."""

    root: Root
    blocks: int
    written: int = 0


def pack_journal(journal: Journal) -> bytes:
    """The journal's file: a line, root, number of blocks, one bit per block, BLAKE3-256 of all that.

    A few kilobytes for any model, so it is replaced as a whole; the caller renames it into place and syncs.
    """
    count = packed_number(journal.blocks, 8)
    body = MAGIC + journal.root + count + packed_bits(journal.written, journal.blocks)
    return body + blake3(body).digest()


def parse_journal(data: bytes, root: Root, blocks: int) -> Journal:
    """The journal of the transfer of ``root`` (``blocks`` from its manifest).

    Raises:
        RejectedError: DIGEST_MISMATCH (damaged), HEADER_INVALID (of another transfer or version). Nothing is lost
            then but time: hash what is on disk (``unsound_blocks``), or begin again.
    """
    fields = Unpacking(data, "journal")
    body = fields.raw(max(0, len(data) - ID_BYTES), "the journal")
    if fields.raw(ID_BYTES, "the checksum") != blake3(body).digest():
        raise RejectedError(RejectReason.DIGEST_MISMATCH, "journal: damaged", hint="The blocks on disk are hashed.")
    inner = Unpacking(body, "journal")
    if inner.raw(len(MAGIC), "the first line") != MAGIC:
        raise inner.malformed("it is of another version")
    if inner.raw(ID_BYTES, "the root") != root or inner.number(8, "the number of blocks") != blocks:
        raise inner.malformed(f"it is not of the transfer of {root.hex()[:12]}")
    return Journal(root, blocks, unpacked_bits(inner.raw(inner.remaining, "the bits"), blocks, "journal"))
