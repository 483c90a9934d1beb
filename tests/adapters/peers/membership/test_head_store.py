"""Heads on disk before they count, one position signed once, and refusals with their codes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from mergenode.adapters.peers.membership import head_store
from mergenode.adapters.peers.membership.head_store import MOST_HEADS, MOST_PROOFS, HeadStore, read_proof
from mergenode.adapters.peers.membership.keyed_heads import KeyedHead
from mergenode.errors import FatalError, RejectedError, TransientError
from mergenode.wire.admission import Admitted, HeadFault, Known, Refused, SignedHead
from tests.support.peer_nodes import BASE, LINEAGE, SCHEMA, draft, identity, keyed

OWN, ONE, TWO = (identity(number) for number in (1, 2, 3))


def everybody(node_id: UUID) -> bool:
    return True


def opened(folder: Path, incarnation: int = 1, said: list[str] | None = None) -> HeadStore:
    report = (lambda level, text: None) if said is None else lambda level, text: said.append(text)
    store = HeadStore(folder, identity(1, incarnation), LINEAGE, report)
    store.expect(SCHEMA, BASE, 1)
    return store


def refused(store: HeadStore, head: KeyedHead, listened: Callable[[UUID], bool] = everybody) -> Refused:
    verdict = store.admit(head, listened)
    assert isinstance(verdict, Refused) and verdict.message and verdict.hint
    return verdict


def test_an_admitted_head_is_on_disk_and_cannot_be_replayed_after_a_restart(tmp_path: Path) -> None:
    store = opened(tmp_path)
    first, second = keyed(ONE, seq=1), keyed(ONE, seq=2)
    assert isinstance(store.admit(first, everybody), Admitted)
    assert isinstance(store.admit(second, everybody), Admitted)
    assert isinstance(store.admit(second, everybody), Known)
    again = opened(tmp_path, 2)
    assert again.held[ONE.node_id].keyed == second
    assert refused(again, first).fault is HeadFault.REPLAYED
    assert isinstance(again.admit(keyed(ONE, incarnation=2), everybody), Admitted)


def test_a_head_that_cannot_be_written_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(tmp_path)

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "no space left")

    monkeypatch.setattr(head_store, "replace_file", full)
    with pytest.raises(TransientError):
        store.admit(keyed(ONE), everybody)
    with pytest.raises(TransientError):
        store.publish(draft())
    assert store.held == {}
    monkeypatch.undo()
    assert isinstance(store.admit(keyed(ONE), everybody), Admitted)
    assert store.publish(draft()).position == (1, 2), "a position is not used again"


OTHER_KEY = KeyedHead(keyed(ONE).signed, keyed(TWO).key)


@pytest.mark.parametrize(
    ("head", "fault"),
    [
        (KeyedHead(SignedHead(b"garbage", b"s" * 64), b"k" * 32), HeadFault.MALFORMED),
        (OTHER_KEY, HeadFault.SIGNATURE),
        (replace(keyed(ONE), signed=replace(keyed(ONE).signed, signature=b"s" * 64)), HeadFault.SIGNATURE),
        (keyed(ONE, lineage="others"), HeadFault.LINEAGE),
        (keyed(ONE, schema_hash=b"x" * 32), HeadFault.SCHEMA),
        (keyed(ONE, base=b"x" * 32), HeadFault.BASE),
        (keyed(ONE, epoch=0), HeadFault.STALE),
    ],
    ids=lambda value: value.value if isinstance(value, HeadFault) else "",
)
def test_refusals_have_their_codes_and_leave_nothing(tmp_path: Path, head: KeyedHead, fault: HeadFault) -> None:
    store = opened(tmp_path)
    assert refused(store, head).fault is fault
    assert store.held == {} and os.listdir(tmp_path / "heads") == []


def test_who_is_not_listened_to_is_unknown_whatever_it_signs(tmp_path: Path) -> None:
    store = opened(tmp_path)
    assert refused(store, keyed(ONE), lambda node_id: False).fault is HeadFault.UNKNOWN_NODE
    unset = HeadStore(tmp_path / "unset", OWN, LINEAGE)
    assert refused(unset, keyed(ONE)).fault is HeadFault.UNKNOWN_NODE


def test_two_heads_in_one_position_are_kept_as_proof_for_anybody(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.admit(keyed(ONE), everybody)
    for number in range(MOST_PROOFS + 10):
        other = keyed(ONE, root=number.to_bytes(32, "big"))
        verdict = refused(store, other)
        assert verdict.fault is HeadFault.CONFLICTING and verdict.other == keyed(ONE).signed
        refused(store, other)
    proofs = sorted((tmp_path / "proofs").iterdir())
    assert len(proofs) == MOST_PROOFS and all(path.stat().st_size < 2000 for path in proofs)
    one, other_head = read_proof(proofs[0])
    assert one.node_id == other_head.node_id == ONE.node_id and one.root != other_head.root
    proofs[0].write_bytes(proofs[0].read_bytes()[:-1] + b"\xff")
    with pytest.raises(RejectedError):
        read_proof(proofs[0])


def test_a_head_that_another_process_signed_as_this_node_is_noticed(tmp_path: Path) -> None:
    store = opened(tmp_path, 3)
    own = store.publish(draft())
    assert isinstance(store.admit(store.held[OWN.node_id].keyed, everybody), Known), "our own comes back by relays"
    assert refused(store, keyed(OWN, 3, own.seq, root=b"q" * 32)).fault is HeadFault.CONFLICTING
    assert refused(store, keyed(OWN, 4)).fault is HeadFault.CONFLICTING
    assert refused(store, keyed(OWN, 2)).fault is HeadFault.REPLAYED
    assert store.held[OWN.node_id].head == own


def test_an_identity_that_went_back_signs_nothing(tmp_path: Path) -> None:
    opened(tmp_path, 3).publish(draft())
    for incarnation in (2, 3):
        with pytest.raises(FatalError, match="restored from a copy, or two of it run"):
            opened(tmp_path, incarnation)
    assert opened(tmp_path, 4).publish(draft()).position == (4, 1)


def test_damaged_files_are_told_and_asked_for_again(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for who in (ONE, TWO):
        store.admit(keyed(who), everybody)
    path = tmp_path / "heads" / f"{ONE.node_id}.head"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    (tmp_path / "heads" / ".half.new").write_bytes(b"x")
    (tmp_path / "heads" / "empty.head").write_bytes(b"")
    said: list[str] = []
    again = opened(tmp_path, 2, said)
    assert set(again.held) == {TWO.node_id} and len(said) == 2 and str(path) in " ".join(said)
    assert isinstance(again.admit(keyed(ONE), everybody), Admitted)


def test_heads_of_another_model_are_dropped_when_the_base_changes(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.admit(keyed(ONE), everybody)
    store.publish(draft())
    store.expect(b"x" * 32, BASE)
    assert store.held == {} and os.listdir(tmp_path / "heads") == []


def test_the_number_of_nodes_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_store, "MOST_HEADS", 2)
    assert MOST_HEADS == 512
    store = opened(tmp_path)
    for number in (2, 3):
        assert isinstance(store.admit(keyed(identity(number)), everybody), Admitted)
    assert refused(store, keyed(identity(4))).fault is HeadFault.UNKNOWN_NODE
    assert isinstance(store.admit(keyed(identity(3), seq=2), everybody), Admitted)
    assert store.publish(draft()), "this node itself always has a place"


def test_pages_cover_everything_once_in_order(tmp_path: Path) -> None:
    store = opened(tmp_path)
    people = [identity(number) for number in range(2, 12)]
    for number, who in enumerate(people):
        store.admit(keyed(who, epoch=number + 1), everybody)
    size = len(keyed(people[0]).packed()) + 16
    for budget in (1, size, 3 * size, 100 * size):
        seen, after, more = [], b"", True
        while more:
            page, more = store.page(after, 4, budget)
            assert 1 <= len(page) <= max(1, budget // size)
            seen += [held.head.node_id for held in page]
            after = seen[-1].bytes
        assert seen == sorted((who.node_id for who in people[3:]), key=lambda each: each.bytes)


SIGNER = """
import sys
from pathlib import Path
from mergenode.adapters.durable import replace_file
from mergenode.adapters.peers.membership import head_store
from tests.support.peer_nodes import BASE, LINEAGE, SCHEMA, draft, identity

folder = Path(sys.argv[1])
count = folder / "incarnation"
incarnation = int(count.read_text()) + 1 if count.exists() else 1
replace_file(count, str(incarnation).encode())  # as the identity does: durable before anything is signed
sign = head_store.sign_head

def told(head, key):
    signed = sign(head, key)
    print(head.incarnation, head.seq, signed.signature.hex(), flush=True)
    return signed

head_store.sign_head = told
store = head_store.HeadStore(folder / "peers", identity(1, incarnation), LINEAGE)
store.expect(SCHEMA, BASE)
for number in range(1_000_000):
    store.publish(draft(epoch=number, root=(incarnation * 10**6 + number).to_bytes(32, "big")))
"""


def test_killed_at_any_moment_no_position_is_ever_signed_twice(tmp_path: Path) -> None:
    """Positions are told when they are signed, before they are written; then the process dies."""
    signed: dict[tuple[str, str], str] = {}
    for deaths in range(1, 4):
        command = [sys.executable, "-c", SIGNER, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for number, line in enumerate(process.stdout):
                incarnation, seq, signature = line.split()
                assert (incarnation, seq) not in signed
                signed[incarnation, seq] = signature
                if number == 10 * deaths:
                    process.send_signal(signal.SIGKILL)
    assert {incarnation for incarnation, _ in signed} == {"1", "2", "3"} and len(signed) >= 60
