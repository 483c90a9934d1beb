"""What every ``Exchange`` must do. A test module subclasses this and provides the fixture ``pair``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mergenode.ports.exchange import Arrived, Exchange, Offer
from mergenode.wire.heads import Head, Parent


class Pair(Protocol):
    """Two nodes of one lineage that are neighbours, and a hand on what lies between them."""

    first: Exchange
    second: Exchange

    def until(self, happened: Callable[[], bool]) -> None:
        """Let messages move until this is so; fails when it does not come about."""
        ...

    def pass_time(self) -> None:
        """Whatever holds weights for a while after they were used lets go."""
        ...

    def cut(self) -> None:
        """Nothing moves between them any more."""
        ...

    def heal(self) -> None:
        """It does again."""
        ...


def model(folder: Path, seed: int, name: str = "model.safetensors") -> Path:
    """A small model; equal seeds give equal weights."""
    source = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"layer.{number}": source.standard_normal((3, 5 + number)).astype(np.float32) for number in range(3)}
    save_file(tensors, folder / name)
    return folder / name


def same_weights(arrived: Arrived, file: Path) -> bool:
    """Bit for bit."""
    found, wanted = load_file(arrived.weights), load_file(file)
    return found.keys() == wanted.keys() and all(found[name].tobytes() == wanted[name].tobytes() for name in wanted)


def newest_arrived(pair: Pair) -> Head | None:
    """The head of the first node whose weights are at the second."""
    arrived = pair.second.arrived().get(pair.first.node_id)
    return None if arrived is None else arrived.head


class ExchangeContract:
    def test_nothing_was_heard_of_before_anybody_offers(self, pair: Pair) -> None:
        assert pair.first.newest() == {} and pair.first.arrived() == {}
        assert pair.first.node_id != pair.second.node_id and pair.first.incarnation >= 1

    def test_an_offer_arrives_whole_at_the_other_node(self, pair: Pair, tmp_path: Path) -> None:
        file = model(tmp_path / "models", 1)
        parents = (Parent(pair.second.node_id, pair.first.offer(Offer(weights=[file], epoch=1)).root, 0.5),)
        more = Offer(weights=[file], epoch=2, weight=2.0, push_sum=0.5, parents=parents, metrics={"accuracy": 0.25})
        head = pair.first.offer(more)
        pair.until(lambda: newest_arrived(pair) == head)
        assert same_weights(pair.second.arrived()[pair.first.node_id], file)
        assert pair.second.newest() == {pair.first.node_id: head}
        assert (head.node_id, head.incarnation) == (pair.first.node_id, pair.first.incarnation)
        assert (head.epoch, head.weight, head.push_sum, head.parents) == (2, 2.0, 0.5, parents)
        assert dict(head.metrics) == {"accuracy": 0.25}

    def test_the_files_may_be_removed_once_they_are_offered(self, pair: Pair, tmp_path: Path) -> None:
        pair.cut()
        file = model(tmp_path / "models", 1)
        pair.first.offer(Offer(weights=[file], epoch=1))
        file.unlink()
        pair.heal()
        pair.until(lambda: pair.first.node_id in pair.second.arrived())
        assert same_weights(pair.second.arrived()[pair.first.node_id], model(tmp_path / "again", 1))

    def test_several_files_are_one_model(self, pair: Pair, tmp_path: Path) -> None:
        whole = load_file(model(tmp_path, 1))
        names = sorted(whole)
        save_file({names[0]: whole[names[0]]}, tmp_path / "one.safetensors")
        save_file({name: whole[name] for name in names[1:]}, tmp_path / "two.safetensors")
        parts = [tmp_path / "one.safetensors", tmp_path / "two.safetensors"]
        head = pair.first.offer(Offer(weights=parts, epoch=1))
        assert pair.first.offer(Offer(weights=[tmp_path / "model.safetensors"], epoch=1)).root == head.root
        pair.until(lambda: pair.first.node_id in pair.second.arrived())
        assert same_weights(pair.second.arrived()[pair.first.node_id], tmp_path / "model.safetensors")

    def test_equal_weights_have_one_root_and_positions_only_grow(self, pair: Pair, tmp_path: Path) -> None:
        first = pair.first.offer(Offer(weights=[model(tmp_path / "one", 1)], epoch=1))
        second = pair.first.offer(Offer(weights=[model(tmp_path / "two", 1)], epoch=1))
        third = pair.first.offer(Offer(weights=[model(tmp_path / "three", 2)], epoch=2))
        assert first.root == second.root != third.root and first.schema_hash == third.schema_hash
        assert first.position < second.position < third.position

    def test_both_may_offer_the_same_weights(self, pair: Pair, tmp_path: Path) -> None:
        files = [model(tmp_path / "one", 1), model(tmp_path / "two", 1)]
        pair.first.offer(Offer(weights=[files[0]], epoch=1))
        pair.second.offer(Offer(weights=[files[1]], epoch=1))
        pair.until(lambda: bool(pair.first.arrived()) and bool(pair.second.arrived()))
        assert same_weights(pair.first.arrived()[pair.second.node_id], files[0])
        assert same_weights(pair.second.arrived()[pair.first.node_id], files[0])

    def test_what_arrived_stays_readable_until_it_is_released(self, pair: Pair, tmp_path: Path) -> None:
        files = [model(tmp_path / str(seed), seed) for seed in range(3)]
        pair.first.offer(Offer(weights=[files[0]], epoch=1))
        pair.until(lambda: pair.first.node_id in pair.second.arrived())
        old = pair.second.arrived()[pair.first.node_id]
        for epoch, file in enumerate(files[1:], start=2):
            head = pair.first.offer(Offer(weights=[file], epoch=epoch))
            pair.until(lambda head=head: newest_arrived(pair) == head)  # type: ignore[misc]  # bound now
        assert same_weights(old, files[0])
        pair.pass_time()
        pair.second.release([old.head.root])
        assert same_weights(old, files[0])
        pair.second.release([])
        assert not old.weights.exists()
        assert same_weights(pair.second.arrived()[pair.first.node_id], files[2])

    def test_what_came_before_a_cut_stays_and_the_rest_comes_after(self, pair: Pair, tmp_path: Path) -> None:
        files = [model(tmp_path / str(seed), seed) for seed in range(2)]
        pair.first.offer(Offer(weights=[files[0]], epoch=1))
        pair.until(lambda: pair.first.node_id in pair.second.arrived())
        pair.cut()
        head = pair.first.offer(Offer(weights=[files[1]], epoch=2))
        assert same_weights(pair.second.arrived()[pair.first.node_id], files[0])
        pair.heal()
        pair.until(lambda: pair.second.arrived()[pair.first.node_id].head == head)
        assert same_weights(pair.second.arrived()[pair.first.node_id], files[1])

    def test_neighbours_are_named_and_whether_they_are_up(self, pair: Pair) -> None:
        pair.until(lambda: pair.first.neighbours().get(pair.second.node_id) is True)
        pair.cut()
        pair.until(lambda: pair.first.neighbours().get(pair.second.node_id) is False)

    def test_listeners_are_called_when_weights_are_here(self, pair: Pair, tmp_path: Path) -> None:
        seen: list[bool] = []
        pair.second.listen(lambda: seen.append(pair.first.node_id in pair.second.arrived()))
        pair.first.offer(Offer(weights=[model(tmp_path / "models", 1)], epoch=1))
        pair.until(lambda: any(seen))

    def test_an_accusation_changes_nothing_here(self, pair: Pair, tmp_path: Path) -> None:
        pair.first.offer(Offer(weights=[model(tmp_path / "models", 1)], epoch=1))
        pair.until(lambda: pair.first.node_id in pair.second.arrived())
        pair.second.accuse(pair.first.node_id, "norm", "far from the others")
        assert pair.second.newest().keys() == {pair.first.node_id}

    @pytest.mark.parametrize("copies", [2, 3])
    def test_a_tensor_that_is_there_twice_is_refused(self, pair: Pair, tmp_path: Path, copies: int) -> None:
        files = [model(tmp_path / str(copy), 1) for copy in range(copies)]
        with pytest.raises(ValueError):
            pair.first.offer(Offer(weights=files, epoch=1))
        assert pair.second.newest() == {}
