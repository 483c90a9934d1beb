"""What a node remembers of how long others take."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from mergenode.daemon.round import Watch
from mergenode.ports.exchange import Arrived
from mergenode.wire.blocks import Root
from mergenode.wire.heads import Head

NODE, OTHER = UUID(int=1), UUID(int=2)


def arrived(node: UUID, epoch: int) -> Arrived:
    root = Root(bytes(32))
    head = Head(
        lineage="words", node_id=node, incarnation=1, epoch=epoch, seq=epoch, root=root, schema_hash=root, base=root
    )
    return Arrived(head, Path("weights.safetensors"))


def test_a_head_is_noted_once_however_often_the_wait_is_looked_at() -> None:
    """Noted at every look, it would make the deadline run ahead of the clock while somebody else is missing."""
    watch, here = Watch(0.0), {NODE: arrived(NODE, 3)}
    for now in (12.0, 22.0, 32.0):
        watch.expect({NODE: True, OTHER: True}, 3, since=10.0)
        watch.note(here, now)
    assert watch.noted == [2.0]
    watch.note({**here, OTHER: arrived(OTHER, 3)}, 40.0)
    assert watch.noted == [2.0, 30.0]


def test_the_next_epoch_is_waited_for_anew() -> None:
    watch = Watch(0.0)
    watch.expect({NODE: True}, 3, since=10.0)
    watch.note({NODE: arrived(NODE, 3)}, 12.0)
    watch.expect({NODE: True}, 4, since=20.0)
    watch.note({NODE: arrived(NODE, 3)}, 25.0)
    watch.note({NODE: arrived(NODE, 4)}, 27.0)
    assert watch.noted == [2.0, 7.0]
