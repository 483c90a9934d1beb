"""Nodes on real files and with a real plug-in do what the loop of the paper does."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from torch import Tensor

from mergenode.adapters.clock import SystemClock
from mergenode.adapters.observers.fan_out import FanOut
from mergenode.adapters.tasks.round_worker import RoundWorker
from mergenode.bootstrap.parts import open_state
from mergenode.bootstrap.rounds import open_rounds
from mergenode.bootstrap.verification import verify
from mergenode.cli.history import history
from mergenode.cli.show import show
from mergenode.daemon.lifecycle import Lifecycle
from mergenode.daemon.restate import leaving_members
from mergenode.daemon.rounds import Rounds
from mergenode.errors import RejectedError, UsageError
from mergenode.ledger.changes import Change
from mergenode.ledger.records import Mixed
from mergenode.mixers.activation_matching import match_activations
from mergenode.mixers.graph import derive
from mergenode.mixers.symmetry import Symmetry
from mergenode.mixers.topology import Topology, ring
from mergenode.mixers.weight_matching import match_weights
from mergenode.settings import Settings, parse_settings
from tests.support.round_exchange import WireExchange, Wires, copies_in, node_id
from tests.support.round_task import SOURCE, Task, network
from tests.support.round_trainer import InProcess

PEERS, ROUNDS = 5, 3


def settings_of(folder: Path, number: int, *, plugin: bool = True, **mixer: object) -> Settings:
    options = {"start": f"{folder}/{number}/start", **mixer}
    written = ", ".join(f"{key}: {value}" for key, value in options.items())
    task = f'{{entrypoint: "round_task:Task{number}", path: {folder}/plugins}}' if plugin else "{}"
    return parse_settings(
        f"""
node: {{name: n{number}, state: {folder}/{number}/state}}
base: {folder}/base
registries: []
publish: {{path: {folder}/{number}/published, keep: 2}}
http: {{listen: null}}
task: {task}
mixer: {{name: dimat, {written}}}
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


def opened(
    stack: ExitStack, folder: Path, wires: Wires, number: int, *, incarnation: int = 1, plugin: bool = True,
    observer: FanOut | None = None, **mixer: object,
) -> Rounds:  # fmt: skip
    settings = settings_of(folder, number, plugin=plugin, **mixer)
    clock = SystemClock()
    lifecycle = Lifecycle(clock, drain_seconds=0.0)
    stack.callback(lifecycle.close)
    ledger = stack.enter_context(open_state(settings))
    exchange = WireExchange(wires, node_id(number), incarnation)
    return stack.enter_context(open_rounds(settings, exchange, ledger, observer or FanOut([]), lifecycle))


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


@pytest.fixture
def in_process(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes cost seconds each; that they do the same is for one test to show."""
    monkeypatch.setattr("mergenode.bootstrap.rounds.RoundWorker", InProcess)
    monkeypatch.syspath_prepend(world / "plugins")
    monkeypatch.delitem(sys.modules, "round_task", raising=False)


def check_against_the_loop(world: Path, matching: str) -> None:
    wires = ring_of(world)
    with ExitStack() as stack:
        options = {"synchronous": "true", "matching": matching, "rounds": ROUNDS, "defence": "{clip: null}"}
        nodes = [opened(stack, world, wires, number, **options) for number in range(PEERS)]
        in_turn(nodes, ROUNDS)
        for number, wanted in enumerate(list(literal(matching))[-1]):
            got = load_file(world / str(number) / "published/latest/model.safetensors")
            for name, tensor in wanted.items():
                torch.testing.assert_close(got[name], tensor, atol=1e-6, rtol=1e-6)
        facts = mixes(nodes[0])
        assert [fact.epoch for fact in facts] == list(range(ROUNDS))
        assert all(abs(fact.own_weight - 1 / 3) < 1e-9 and len(fact.parents) == 2 for fact in facts)
        assert all(set(fact.scores) == {"own", "mixed"} for fact in facts)


def mixes(node: Rounds) -> list[Mixed]:
    return [fact for _, fact in node.circle.line.ledger.facts(kinds=["mixed"]) if isinstance(fact, Mixed)]


@pytest.mark.parametrize("matching", ["none", "weights", "activations"])
@pytest.mark.usefixtures("in_process")
def test_synchronous_rounds_are_the_loop_of_the_paper(world: Path, matching: str) -> None:
    check_against_the_loop(world, matching)


@pytest.mark.slow
def test_and_so_they_are_with_the_plugin_in_processes_of_its_own(world: Path) -> None:
    check_against_the_loop(world, "activations")


@pytest.mark.usefixtures("in_process")
def test_a_restarted_node_goes_on_and_everything_verifies(world: Path) -> None:
    wires = ring_of(world, 2)
    with ExitStack() as stack:
        in_turn([opened(stack, world, wires, number) for number in range(2)], 2)
    with ExitStack() as stack:
        nodes = [opened(stack, world, wires, number, incarnation=2) for number in range(2)]
        assert [node.state.number for node in nodes] == [2, 2]
        in_turn(nodes, 4)
        assert [fact.number for fact in mixes(nodes[0])] == [0, 1, 2, 3]
        offered = nodes[0].circle.exchange.offers[-1]
        assert {parent.node_id for parent in offered.parents} == {node_id(0), node_id(1)}
        assert offered.metrics["degree"] == 1.0 and "loss" in offered.metrics
    found = verify(settings_of(world, 0), FanOut([]))
    assert found.problems == [] and "version 4: manifest and every tensor" in found.checked
    kept = sorted(path.name for path in (world / "0/published").iterdir())
    assert kept == ["latest", "v000003", "v000004"]
    assert {path.suffix for path in (world / "0/state/rounds").iterdir()} == {".json", ".safetensors"}
    assert len(list((world / "0/state/rounds").iterdir())) == 2, (
        "the state, and the model that the next round starts with"
    )
    shown = CliRunner().invoke(show, ["latest", "-c", str(written(world))], env={"COLUMNS": "200"})
    assert "3, epoch 3" in shown.output and "this one" in shown.output and "50.0%" in shown.output
    back = Change("rollback", rollback_to=3)
    with (
        open_state(settings_of(world, 0)) as ledger,
        pytest.raises(RejectedError, match="no contributions were merged"),
    ):
        leaving_members(ledger, back)
    told = CliRunner().invoke(history, ["-c", str(written(world))], env={"COLUMNS": "300"})
    assert told.exit_code == 0 and "mixed" in told.output and "epoch 3, own 50.0%" in " ".join(told.output.split())


def written(world: Path) -> Path:
    place = world / "node.yaml"
    lines = [f"node: {{state: {world}/0/state}}", f"base: {world}/base", "registries: []"]
    place.write_text("\n".join([*lines, f"publish: {{path: {world}/0/published}}"]))
    return place


@pytest.mark.usefixtures("in_process")
def test_a_neighbour_that_sends_rubbish_is_refused_and_reported(world: Path) -> None:
    wires = ring_of(world, 3)
    broken = {name: tensor * float("nan") for name, tensor in network(seed=2).state_dict().items()}
    save_file(broken, world / "broken.safetensors")
    other = {"0.weight": torch.zeros(3, 3)}
    save_file(other, world / "other.safetensors")
    lies = {node_id(1): world / "broken.safetensors", node_id(2): world / "other.safetensors"}
    wires.tamper = lambda sender, receiver, head, path: (head, lies.get(sender, path))
    with ExitStack() as stack:
        nodes = [opened(stack, world, wires, number, matching="activations") for number in range(3)]
        in_turn(nodes, 1)
        (fact,) = mixes(nodes[0])
        assert fact.own_weight == 1.0 and not fact.parents
        assert [(entry["node"], entry["code"]) for entry in fact.refused] == [
            (node_id(1).hex, "not_finite"), (node_id(2).hex, "schema")
        ]  # fmt: skip
        assert nodes[0].circle.exchange.accused == [(node_id(1), "not_finite"), (node_id(2), "schema")]


@pytest.mark.usefixtures("in_process")
def test_the_guard_keeps_the_own_model_when_the_mix_is_worse(world: Path) -> None:
    """Trained networks of different initialisations, averaged without matching, are worse than each of them."""
    wires, models = ring_of(world, 2), [network(seed=number) for number in range(2)]
    for number, model in enumerate(models):
        for _ in range(60):
            Task(number).train(model, 0)
        save_file(model.state_dict(), world / str(number) / "start/model.safetensors")
    with ExitStack() as stack:
        options = {
            "defence": "{guard: 0.0, clip: null}",
            "topology": "ring",
            "members": f"[{node_id(0)}, {node_id(1)}]",
        }
        nodes = [opened(stack, world, wires, number, **options) for number in range(2)]
        in_turn(nodes, 1)
        for number, node in enumerate(nodes):
            (fact,) = mixes(node)
            assert fact.kept_own and fact.own_weight == 1.0
            model = models[number]
            Task(number).train(model, 0)
            got = load_file(world / str(number) / "published/latest/model.safetensors")
            assert all(torch.equal(got[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("mixer", "message"),
    [
        ({"topology": "ring", "members": f"[{node_id(1)}, {node_id(2)}]"}, "which mixer.members does not name"),
        ({"start": "{folder}/nowhere"}, "mixer.start"),
        (
            {"topology": "custom", "members": f"[{node_id(0)}, {node_id(1)}]", "matrix": "[[0.5, 0.4], [0.4, 0.5]]"},
            "sums to",
        ),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("in_process")
def test_settings_that_do_not_fit_are_refused_at_the_start(world: Path, mixer: dict[str, str], message: str) -> None:
    options = {name: value.replace("{folder}", str(world)) for name, value in mixer.items()}
    with ExitStack() as stack, pytest.raises(UsageError, match=message):
        opened(stack, world, ring_of(world, 2), 0, **options)


@pytest.mark.usefixtures("in_process")
def test_a_plugin_without_what_is_asked_for_is_refused(world: Path) -> None:
    (world / "plugins/round_task.py").write_text("class Task0:\n    def build_model(self):\n        pass\n")
    for mixer in ({"matching": "weights"}, {"defence": "{guard: 0.1}"}):
        with ExitStack() as stack, pytest.raises(UsageError, match=r"lacks calibration_batches|nothing to judge"):
            opened(stack, world, ring_of(world, 2), 0, **mixer)


def test_registries_and_rounds_do_not_go_together(tmp_path: Path) -> None:
    text = "base: ./base\nregistries: [./inbox]\nmixer: {name: dimat}\n"
    with pytest.raises(UsageError, match="contributions of registries have no place in it"):
        parse_settings(text, directory=tmp_path)


def test_without_a_plugin_models_are_only_mixed(world: Path) -> None:
    wires = ring_of(world, 2)
    with ExitStack() as stack:
        nodes = [opened(stack, world, wires, number, plugin=False, defence="{clip: null}") for number in range(2)]
        in_turn(nodes, 1)
    first, second = (load_file(world / f"{number}/published/latest/model.safetensors") for number in range(2))
    for name, tensor in network(seed=0).state_dict().items():
        middle = (tensor.double() + network(seed=1).state_dict()[name].double()) / 2
        assert torch.equal(first[name], second[name]) and torch.equal(first[name], middle.float())


def test_a_node_runs_until_its_rounds_are_done_or_it_is_asked_to_stop(world: Path) -> None:
    with ExitStack() as stack:
        node = opened(stack, world, Wires({node_id(0): frozenset()}), 0, plugin=False, rounds=2, wait="{shortest: 0}")
        node.once = True
        assert node.run().why == "2 rounds are done" and node.state.epoch == 2
        node.once = False
        node.lifecycle.request_stop()
        assert node.run().complete


class Beats(FanOut):
    """How often the node showed that it lives."""

    count = 0

    def heartbeat(self) -> None:
        self.count += 1


@pytest.mark.usefixtures("in_process")
def test_a_training_under_way_is_a_sign_of_life(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it waits for the plug-in a worker asks again and again whether to stop."""
    workers: list[RoundWorker] = []

    class Kept(InProcess):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            workers.append(self)

    monkeypatch.setattr("mergenode.bootstrap.rounds.RoundWorker", Kept)
    beats = Beats([])
    with ExitStack() as stack:
        node = opened(stack, world, Wires({node_id(0): frozenset()}), 0, observer=beats)
        before = beats.count
        assert not workers[0]._stop() and beats.count == before + 1
        node.lifecycle.request_stop()
        assert workers[0]._stop()


class Killed(BaseException):
    """The process ends here."""


def test_killed_before_any_step_on_the_disk_the_same_models_come_out(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real files, no plug-in; the other node lives on."""
    names, wanted, count = ("replace", "rename", "link", "fsync", "unlink"), b"", 0
    real = {name: getattr(os, name) for name in names}
    while True:
        count += 7
        folder = world / f"try {count}"
        for place in ("base", "0/start", "1/start"):
            shutil.copytree(world / place, folder / place)
        left = [count]

        def step(name: str, left: list[int] = left) -> Callable[..., object]:
            def called(*arguments: object, **options: object) -> object:
                left[0] -= 1
                if left[0] == 0:
                    raise Killed
                return real[name](*arguments, **options)

            return called

        wires, killed = ring_of(folder, 2), False
        with ExitStack() as stack:
            other = opened(stack, folder, wires, 1, plugin=False, rounds=2)
            for incarnation in (1, 2):
                with ExitStack() as mine:
                    try:
                        node = opened(mine, folder, wires, 0, plugin=False, rounds=2, incarnation=incarnation)
                        for _ in range(100):
                            with monkeypatch.context() as patch:
                                for name in names if incarnation == 1 else ():
                                    patch.setattr(os, name, step(name))
                                node.step()
                            other.step()
                    except Killed:
                        killed = True
                        continue
                break
        first, latest = (folder / f"0/published/{name}/model.safetensors" for name in ("v000001", "latest"))
        got = first.read_bytes() + latest.read_bytes()
        wanted = wanted or got
        assert got == wanted and verify(settings_of(folder, 0, plugin=False), FanOut([])).problems == []
        if not killed:
            break
    assert count > 40
