"""Nodes on real files and with a real plug-in do what the loop of the paper does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mergenode.adapters.clock import SystemClock
from mergenode.adapters.observers.fan_out import FanOut
from mergenode.bootstrap.parts import open_state
from mergenode.bootstrap.rounds import open_rounds
from mergenode.daemon.lifecycle import Lifecycle
from mergenode.daemon.rounds import Rounds
from mergenode.ledger.records import Mixed
from mergenode.mixers.activation_matching import match_activations
from mergenode.mixers.graph import derive
from mergenode.mixers.symmetry import Symmetry
from mergenode.mixers.topology import Topology, ring
from mergenode.mixers.weight_matching import match_weights
from mergenode.settings import Settings, parse_settings
from tests.support.round_exchange import WireExchange, Wires, copies_in, node_id
from tests.support.round_task import SOURCE, Task, network

PEERS, ROUNDS = 5, 3


def settings_of(folder: Path, number: int, **mixer: object) -> Settings:
    written = ", ".join(f"{key}: {value}" for key, value in mixer.items())
    return parse_settings(
        f"""
node: {{name: n{number}, state: {folder}/{number}/state}}
base: {folder}/base
registries: []
publish: {{path: {folder}/{number}/published, keep: 2}}
http: {{listen: null}}
task: {{entrypoint: "round_task:Task{number}", path: {folder}/plugins}}
mixer: {{name: dimat, start: {folder}/{number}/start, {written}}}
""",
        directory=folder,
    )


@pytest.fixture
def world(tmp_path: Path) -> Path:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins/round_task.py").write_text(SOURCE)
    for number in range(PEERS):
        place = tmp_path / str(number) / "start"
        place.mkdir(parents=True)
        save_file(network(seed=number).state_dict(), place / "model.safetensors")
    (tmp_path / "base").mkdir()
    save_file(network(seed=0).state_dict(), tmp_path / "base/model.safetensors")
    return tmp_path


def opened(stack: ExitStack, folder: Path, wires: Wires, number: int, **mixer: object) -> Rounds:
    settings = settings_of(folder, number, **mixer)
    clock = SystemClock()
    lifecycle = Lifecycle(clock, drain_seconds=0.0)
    stack.callback(lifecycle.close)
    ledger = stack.enter_context(open_state(settings))
    exchange = WireExchange(wires, node_id(number))
    return stack.enter_context(open_rounds(settings, exchange, ledger, FanOut([]), lifecycle))


def ring_of(folder: Path, peers: int = PEERS) -> Wires:
    edges = {node_id(i): frozenset({node_id((i - 1) % peers), node_id((i + 1) % peers)}) for i in range(peers)}
    return Wires(edges, store=copies_in(folder / "sent"))


def in_turn(nodes: list[Rounds], rounds: int) -> None:
    """Step by step, everybody in turn, until all have finished so many rounds."""
    for _ in range(1000):
        busy = [node for node in nodes if node.state.number < rounds]
        if not busy:
            return
        for node in busy:
            node.step()
    raise AssertionError([(node.state.number, node.state.phase) for node in nodes])


def literal(matching: str) -> Iterator[list[dict[str, Tensor]]]:
    """DIMAT as its authors' loop has it, in memory: everybody trains, then mixes what all had before the mix."""
    topology: Topology = ring(PEERS)
    models = [network(seed=number) for number in range(PEERS)]
    tasks = [Task(number) for number in range(PEERS)]
    for epoch in range(ROUNDS):
        for model, task in zip(models, tasks, strict=True):
            model.train()
            task.train(model, epoch)
        states = [{name: tensor.clone() for name, tensor in model.state_dict().items()} for model in models]
        for number, model in enumerate(models):
            batches = [(inputs,) for inputs, _ in tasks[number].calibration_batches()]
            symmetry = derive(model, batches[0])
            mixed = {name: torch.zeros_like(tensor, dtype=torch.float64) for name, tensor in states[number].items()}
            for other, weight in topology.weights(number, topology.neighbours(number)).items():
                aligned = aligned_to(symmetry, states[number], states[other], matching, batches)
                for name in mixed:
                    mixed[name] += weight * aligned[name].double()
            model.load_state_dict({name: tensor.float() for name, tensor in mixed.items()})
        yield [{name: tensor.clone() for name, tensor in model.state_dict().items()} for model in models]


def aligned_to(
    symmetry: Symmetry, own: dict[str, Tensor], other: dict[str, Tensor], matching: str, batches: list[tuple[Tensor]]
) -> dict[str, Tensor]:
    if matching == "none" or own is other:
        return other
    if matching == "weights":
        return symmetry.permuted(other, match_weights(symmetry, own, other))
    return symmetry.permuted(other, match_activations(symmetry, own, [other], batches)[0])


@pytest.mark.parametrize("matching", ["none", "weights", "activations"])
def test_synchronous_rounds_are_the_loop_of_the_paper(world: Path, matching: str) -> None:
    wires = ring_of(world)
    with ExitStack() as stack:
        nodes = [
            opened(
                stack,
                world,
                wires,
                number,
                synchronous="true",
                matching=matching,
                rounds=ROUNDS,
                defence="{clip: null}",
            )
            for number in range(PEERS)
        ]
        in_turn(nodes, ROUNDS)
        for number, wanted in enumerate(list(literal(matching))[-1]):
            got = load_file(world / str(number) / "published/latest/model.safetensors")
            for name, tensor in wanted.items():
                torch.testing.assert_close(got[name], tensor, atol=1e-6, rtol=1e-6)
        facts = [fact for _, fact in nodes[0].circle.line.ledger.facts(kinds=["mixed"]) if isinstance(fact, Mixed)]
        assert [fact.epoch for fact in facts] == list(range(ROUNDS))
        assert all(abs(fact.own_weight - 1 / 3) < 1e-9 and len(fact.parents) == 2 for fact in facts)
