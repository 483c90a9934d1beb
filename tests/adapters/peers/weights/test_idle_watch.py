"""Calls in which nothing happens are ended; those that move are not."""

from __future__ import annotations

import threading

from mergenode.adapters.peers.weights.idle_watch import IdleWatch
from mergenode.adapters.peers.weights.sources import Patience
from mergenode.wire.blocks import BLOCK_BYTES


def test_silence_is_ended() -> None:
    cancelled = threading.Event()
    with IdleWatch(Patience(idle_seconds=0.02), cancelled.set) as watch:
        assert cancelled.wait(30)
    assert watch.expired


def test_a_drip_of_pieces_without_a_block_is_ended() -> None:
    cancelled = threading.Event()
    patience = Patience(idle_seconds=0.2, slowest_block=BLOCK_BYTES / 0.1)
    with IdleWatch(patience, cancelled.set) as watch:
        while not cancelled.wait(0.01):
            watch.piece()
    assert watch.expired


def test_blocks_keep_it_alive() -> None:
    cancelled = threading.Event()
    patience = Patience(idle_seconds=5.0, slowest_block=BLOCK_BYTES / 0.1)
    with IdleWatch(patience, cancelled.set) as watch:
        watch.piece()
        watch.block()
    assert not watch.expired and not cancelled.is_set()
