"""The newest head of every node, on disk before it is acted upon, and the heads that this node signs."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Protocol
from uuid import UUID

from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mergenode.adapters.durable import disk_errors, replace_file
from mergenode.adapters.peers.membership.keyed_heads import KeyedHead, unpacked
from mergenode.errors import FatalError, RejectedError
from mergenode.wire.admission import Admitted, Expectation, HeadBook, HeadFault, Known, Refused, sign_head
from mergenode.wire.blocks import Root
from mergenode.wire.heads import Head, parse_head
from mergenode.wire.identity import node_id_of
from mergenode.wire.limits import DEFAULT_WIRE_LIMITS
from mergenode.wire.packing import malformed

HEADS, PROOFS = "heads", "proofs"
MOST_HEADS = 512
"""Nodes whose heads are kept; 8 MiB of disk at most."""
MOST_PROOFS = 64
_LONGEST_FILE = DEFAULT_WIRE_LIMITS.head_bytes + 96


class Identity(Protocol):
    """Who signs here. ``incarnation`` was made durable before this start signed anything, and never comes again."""

    @property
    def node_id(self) -> UUID: ...
    @property
    def incarnation(self) -> int: ...
    @property
    def key(self) -> Ed25519PrivateKey: ...


@dataclass(frozen=True, slots=True)
class Held:
    """A head that was admitted, and how it was signed."""

    head: Head
    keyed: KeyedHead


class HeadStore:
    """Heads of one lineage in ``directory``, one file for each node. Thread-safe; readers never wait for the disk.

    Positions are never signed twice: ``seq`` counts in memory within an incarnation, and the incarnation was raised
    durably before this object was made. So a process that dies between signing and writing leaves positions unused,
    and its successor signs in another incarnation.

    Raises:
        TransientError: the directory cannot be made.
        FatalError: this node's own head is of this start or a later one.
    """

    def __init__(
        self, directory: Path, identity: Identity, lineage: str, report: Callable[[str, str], None] | None = None
    ) -> None:
        """``report``: level and words for the log."""
        self.lineage = lineage
        self._heads, self._proofs = directory / HEADS, directory / PROOFS
        self._identity = identity
        self._report = report or (lambda level, text: None)
        self._expected: Expectation | None = None
        self._lock = threading.Lock()
        self._seq = 0
        self._held: Mapping[UUID, Held] = MappingProxyType({})
        for folder in (self._heads, self._proofs):
            with disk_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
        self._load()

    def _load(self) -> None:
        held: dict[UUID, Held] = {}
        for name in sorted(os.listdir(self._heads)):
            path = self._heads / name
            if name.startswith(".") or path.is_symlink() or not path.is_file():
                continue
            try:
                with path.open("rb") as file:
                    keyed, head = unpacked(file.read(_LONGEST_FILE + 1), str(path))
            except RejectedError as error:
                self._report("warning", f"{error.message}; the head is asked for again")
                continue
            ours = head.lineage == self.lineage and path == self._path(head.node_id)
            if ours and len(held) < MOST_HEADS:
                held[head.node_id] = Held(head, keyed)
        own = held.get(self._identity.node_id)
        if own is not None and own.head.incarnation >= self._identity.incarnation:
            raise FatalError(
                f"{self._heads}: this node signed in start {own.head.incarnation}, and this would be start "
                f"{self._identity.incarnation}: its identity was restored from a copy, or two of it run",
                hint="Stop the other one; remove the directory of the identity to become a new node.",
            )
        self._held = MappingProxyType(held)

    def expect(self, schema_hash: bytes, base: Root, min_epoch: int = 0) -> None:
        """Which heads are admitted from now on; before the first call none is. Others that are held are dropped."""
        with self._lock:
            self._expected = Expectation(self.lineage, schema_hash, base, {}, min_epoch)
            foreign = [
                held.head.node_id
                for held in self._held.values()
                if (held.head.schema_hash, held.head.base) != (schema_hash, base)
            ]
            for node_id in foreign:
                self._path(node_id).unlink(missing_ok=True)
            kept = {node_id: held for node_id, held in self._held.items() if node_id not in foreign}
            self._held = MappingProxyType(kept)

    @property
    def expected(self) -> Expectation | None:
        """What ``expect`` said, without keys."""
        return self._expected

    @property
    def held(self) -> Mapping[UUID, Held]:
        """The newest head of every node, this one included. A picture that does not change."""
        return self._held

    def admit(self, keyed: KeyedHead, listened: Callable[[UUID], bool]) -> Admitted | Known | Refused:
        """Judge a head by what it is, whoever relayed it.

        Durability: an admitted head is synced on return, and only then is it in ``held``. Idempotence: ``Known``.

        Raises:
            TransientError: the disk is full or failing; the head is not admitted.
        """
        with self._lock:
            verdict = self._judge(keyed, listened)
            if isinstance(verdict, Admitted):
                self._keep(Held(verdict.head, keyed))
            elif isinstance(verdict, Refused) and verdict.fault is HeadFault.CONFLICTING and verdict.other is not None:
                self._prove(keyed, verdict)
            return verdict

    def _judge(self, keyed: KeyedHead, listened: Callable[[UUID], bool]) -> Admitted | Known | Refused:
        try:
            head = parse_head(keyed.signed.head)
        except RejectedError as error:
            return Refused(HeadFault.MALFORMED, error.message, error.hint)
        name = f"head {head.position} of {head.node_id}"
        own = head.node_id == self._identity.node_id
        name, why = f"head {head.position} of {head.node_id}", "" if own else self._unknown(head.node_id, listened)
        if self._expected is None or why:
            hint = "It is asked for again; a node is known once a neighbour sees it."
            return Refused(HeadFault.UNKNOWN_NODE, f"{name}: {why or 'nothing is expected yet'}", hint, head)
        key = keyed.public_key()
        if node_id_of(key) != head.node_id:
            hint = "Whoever sent it made it up."
            return Refused(HeadFault.SIGNATURE, f"{name}: the key is not that of the node", hint, head)
        book = HeadBook({node_id: held.keyed.signed for node_id, held in self._held.items()})
        verdict = book.admit(keyed.signed, replace(self._expected, keys={head.node_id: key}))
        if own and isinstance(verdict, Admitted):
            hint = "Two copies of this node run with one state directory copied: stop one, and remove its identity."
            return Refused(HeadFault.CONFLICTING, f"{name}: signed as this node, but not by it", hint, head)
        return verdict

    def _unknown(self, node_id: UUID, listened: Callable[[UUID], bool]) -> str:
        """Why no head of this node is judged; empty: it is."""
        if not listened(node_id):
            return "nobody here knows the node, or it is banned"
        if node_id not in self._held and len(self._held) >= MOST_HEADS:
            return f"heads of {MOST_HEADS} nodes are kept already"
        return ""

    def publish(self, draft: Head) -> Head:
        """Sign a head of this node with the next position. Who signs, lineage, schema and base are set here.

        Durability: synced on return. Raises TransientError when it cannot be written; the position is not used again.
        """
        with self._lock:
            assert self._expected is not None, "publishing comes after expect"
            self._seq += 1
            head = replace(
                draft,
                lineage=self.lineage,
                node_id=self._identity.node_id,
                incarnation=self._identity.incarnation,
                seq=self._seq,
                schema_hash=self._expected.schema_hash,
                base=self._expected.base,
            )
            signed = sign_head(head, self._identity.key)
            self._keep(Held(head, KeyedHead(signed, self._identity.key.public_key().public_bytes_raw())))
            return head

    def page(self, after: bytes, min_epoch: int, budget: int) -> tuple[Sequence[Held], bool]:
        """Heads by node id behind ``after``, at most ``budget`` bytes, and whether there are more."""
        found: list[Held] = []
        for node_id, held in sorted(self._held.items(), key=lambda item: item[0].bytes):
            if node_id.bytes <= after or held.head.epoch < min_epoch:
                continue
            budget -= len(held.keyed.packed()) + 16
            if budget < 0 and found:
                return found, True
            found.append(held)
        return found, False

    def _keep(self, held: Held) -> None:
        path = self._path(held.head.node_id)
        with disk_errors(path):
            replace_file(path, held.keyed.packed())
        self._held = MappingProxyType({**self._held, held.head.node_id: held})

    def _prove(self, keyed: KeyedHead, verdict: Refused) -> None:
        """Keep both heads. The first proofs stay: they say when it began, and what comes later cannot push them out."""
        assert verdict.head is not None and verdict.other is not None
        head = verdict.head
        ends = blake3(keyed.signed.head).hexdigest(length=4)
        path = self._proofs / f"{head.node_id}-{head.incarnation}-{head.seq}-{ends}.proof"
        if path.exists() or sum(not name.startswith(".") for name in os.listdir(self._proofs)) >= MOST_PROOFS:
            return
        first = KeyedHead(verdict.other, keyed.key).packed()
        with contextlib.suppress(OSError):  # a proof less is no reason to stop
            replace_file(path, len(first).to_bytes(4, "little") + first + keyed.packed())

    def _path(self, node_id: UUID) -> Path:
        return self._heads / f"{node_id}.head"


def read_proof(path: Path) -> tuple[Head, Head]:
    """Two heads of one position, both signed by the node they name. RejectedError: the file proves nothing."""
    data = path.read_bytes()[: 4 + 2 * _LONGEST_FILE]
    middle = 4 + int.from_bytes(data[:4], "little")
    one, other = (unpacked(part, str(path))[1] for part in (data[4:middle], data[middle:]))
    if (one.node_id, one.position) != (other.node_id, other.position) or one == other:
        raise malformed(str(path), "these two heads do not contradict each other")
    return one, other
