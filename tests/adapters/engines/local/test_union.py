"""Parts from strangers: what no merge could have made is refused, the last good part stays, nobody is harmed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mergenode.adapters.engines.local.part_file import TEXT
from mergenode.errors import FatalError, RejectReason
from tests.support.checkpoints import Tensors, write_single
from tests.support.local_node import same_bits
from tests.support.united_nodes import UnitedNode, moved, settle, small_base

Forge = Callable[[Tensors, dict[str, Any]], None]


def first_of(tensors: Tensors, statistic: str) -> str:
    return next(name for name in tensors if name.startswith(f"{statistic}."))


def put(value: float, statistic: str = "sum") -> Forge:
    def forge(tensors: Tensors, text: dict[str, Any]) -> None:
        name = first_of(tensors, statistic)
        tensors[name] = tensors[name].clone()
        tensors[name].reshape(-1)[0] = value

    return forge


def rename(old: str, new: str) -> Forge:
    def forge(tensors: Tensors, text: dict[str, Any]) -> None:
        tensors[new] = tensors.pop(first_of(tensors, old))

    return forge


def reshape(change: Callable[[Tensor], Tensor]) -> Forge:
    def forge(tensors: Tensors, text: dict[str, Any]) -> None:
        name = first_of(tensors, "sum")
        tensors[name] = change(tensors[name]).contiguous()

    return forge


def say(**fields: Any) -> Forge:
    def forge(tensors: Tensors, text: dict[str, Any]) -> None:
        text.update(fields)

    return forge


def scaled(tensors: Tensors, text: dict[str, Any]) -> None:
    for name in tensors:
        tensors[name] = tensors[name] * 1000.0


def without_text(tensors: Tensors, text: dict[str, Any]) -> None:
    text.clear()


def other_totals(tensors: Tensors, text: dict[str, Any]) -> None:
    text["totals"]["weight_sum"] *= 1e-6


def fewer_named(tensors: Tensors, text: dict[str, Any]) -> None:
    text["contributions"] = text["contributions"][:1]


FORGED: dict[str, tuple[Forge, RejectReason]] = {
    "a NaN": (put(float("nan")), RejectReason.NOT_FINITE),
    "an infinity": (put(float("inf")), RejectReason.NOT_FINITE),
    "a value beyond all models": (put(1e35), RejectReason.NORM_TOO_LARGE),
    "a merge far too large": (scaled, RejectReason.DIGEST_MISMATCH),
    "a changed value": (put(0.123), RejectReason.DIGEST_MISMATCH),
    "a tensor that is not in the base": (rename("sum", "sum.evil"), RejectReason.TENSOR_UNEXPECTED),
    "a statistic that the method does not have": (rename("sum", "evil.a.weight"), RejectReason.SHAPE_MISMATCH),
    "another shape": (reshape(lambda tensor: tensor[:-1]), RejectReason.SHAPE_MISMATCH),
    "another type": (reshape(lambda tensor: tensor.double()), RejectReason.DTYPE_MISMATCH),
    "no text": (without_text, RejectReason.TENSOR_MISSING),
    "another base": (say(base=f"blake3:{'1' * 64}"), RejectReason.OTHER_BASE),
    "another method": (say(method="ties"), RejectReason.OTHER_BASE),
    "another node's id": (say(node="00000000-0000-0000-0000-000000000009"), RejectReason.HEADER_INVALID),
    "totals of other contributions": (other_totals, RejectReason.DIGEST_MISMATCH),
    "fewer contributions than were folded": (fewer_named, RejectReason.DIGEST_MISMATCH),
    "no statistics": (say(statistics=None), RejectReason.HEADER_INVALID),
    "another digest": (say(statistics=f"blake3:{'2' * 64}"), RejectReason.DIGEST_MISMATCH),
}


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[UnitedNode, UnitedNode]]:
    nodes = [UnitedNode(tmp_path / f"n{n}", n, small_base(whole=False), {"method": {"name": "iso"}}) for n in range(2)]
    for number, node in enumerate(nodes):
        node.start()
        for more in range(2):
            tuned = moved(small_base(whole=False), 2 * number + more, whole=False)
            write_single(node.real.inbox / f"m{number}-{more}", tuned)
    settle(*nodes)
    yield nodes[0], nodes[1]
    for node in nodes:
        node.stop()


def offered(node: UnitedNode) -> tuple[Tensors, dict[str, Any]]:
    assert node.exchange.own is not None
    tensors = load_file(node.exchange.own.weights)
    return tensors, json.loads(bytes(tensors.pop(TEXT).tolist()))


@pytest.mark.parametrize("what", FORGED)
def test_a_forged_part_is_refused_and_the_last_good_one_stays(pair: tuple[UnitedNode, UnitedNode], what: str) -> None:
    good, liar = pair
    forge, reason = FORGED[what]
    before, version = good.published(), good.manifest["version"]
    tensors, text = offered(liar)
    forge(tensors, text)
    if text:
        encoded = json.dumps(text, sort_keys=True, separators=(",", ":")).encode()
        tensors[TEXT] = torch.frombuffer(bytearray(encoded), dtype=torch.uint8)
    liar.exchange.offer_tensors(tensors)
    liar.exchange.send(good.exchange)

    good.rest()

    assert good.exchange.accused == [reason.value]
    assert good.manifest["version"] == version
    assert all(same_bits(before[name], tensor) for name, tensor in good.published().items())
    assert good.rest() == 0, "it is refused once"
    assert len(list((good.real.state / "union" / "parts").iterdir())) == 2, "nothing of it stays"


def test_a_merge_far_larger_than_those_of_all_others_is_refused(tmp_path: Path) -> None:
    base = small_base(whole=False)
    nodes = [UnitedNode(tmp_path / f"n{n}", n, base, {"method": {"name": "iso"}}) for n in range(5)]
    for number, node in enumerate(nodes):
        node.start()
        far = 60.0 if number == 4 else 1.0
        tuned = {name: base[name] + far * 0.01 * torch.sign(moved(base, number, whole=False)[name]) for name in base}
        write_single(node.real.inbox / "m", tuned)
        node.rest()
    judge = nodes[0]
    for node in nodes[1:]:
        node.exchange.send(judge.exchange)
        judge.rest()
    assert judge.exchange.accused == [RejectReason.NORM_TOO_LARGE.value]
    assert judge.manifest["count"] == 4
    for node in nodes:
        node.stop()


def test_a_part_that_was_damaged_on_disk_is_heard_again(pair: tuple[UnitedNode, UnitedNode]) -> None:
    node, other = pair
    (place,) = (node.real.state / "union" / "parts").glob("*.safetensors")
    copied = bytearray(place.read_bytes())
    copied[-1] ^= 1
    place.unlink()
    place.write_bytes(bytes(copied))
    write_single(node.real.inbox / "more", moved(small_base(whole=False), 9, whole=False))
    node.loop.act(node.loop.decide())

    settle(node, other)

    assert node.manifest["model"] == other.manifest["model"]
    assert node.manifest["count"] == 5


def test_memory_that_cannot_hold_the_largest_step_is_refused_at_the_start(tmp_path: Path) -> None:
    base = {"a.weight": torch.zeros(3000, 3000)}
    node = UnitedNode(tmp_path, 0, base, {"method": {"name": "aswudi"}, "engine": {"memory_limit": "64MiB"}})
    with pytest.raises(FatalError, match="memory_limit"):
        node.start()
    node.stop()
