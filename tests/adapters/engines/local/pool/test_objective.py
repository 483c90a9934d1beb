"""The pool through a loss: what sketches save, and that they change no choice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mergenode.adapters.engines.local.pool.objective import PoolObjective
from mergenode.adapters.tasks.worker import TaskWorker
from mergenode.daemon.choosing import PoolChanged, choose
from mergenode.daemon.selected import Naming, selected_fact
from mergenode.errors import FatalError, TransientError, TransientReason
from mergenode.ledger.groups import layer_group
from mergenode.ledger.selection import entrant, target_of
from mergenode.ports.pool import WHOLE
from mergenode.ports.task import TaskProgram
from mergenode.selectors.contract import Options, State
from mergenode.types import Candidate, Digest, DType
from tests.support.choosing_task import weights, write_plugin
from tests.support.facts import TIME
from tests.support.local_node import LocalNode
from tests.support.models import Tensors, fine_tune
from tests.support.pools import Pool


class Nearness:
    """A plug-in in this process: half the squared distance to a goal."""

    def __init__(self, goal: Tensors) -> None:
        self.goal = {name: values.double() for name, values in goal.items() if values.is_floating_point()}
        self.failure: Exception | None = None
        self.asked, self.spoil = 0, 0.0

    def _loss(self, model: Tensors) -> float:
        return 0.5 * sum(float((model[name].double() - values).square().sum()) for name, values in self.goal.items())

    def losses_by_batch(self, checkpoint: Path, *, batches: int | None = None) -> list[float]:
        """The samples are the tensors."""
        if self.failure is not None:
            raise self.failure
        self.asked += 1
        model = load_file(checkpoint / "model.safetensors")
        return [
            self.spoil + 0.5 * float((model[name].double() - values).square().sum())
            for name, values in self.goal.items()
        ]

    def gradient(self, checkpoint: Path, out: Path, *, batches: int | None = None) -> float:
        if self.failure is not None:
            raise self.failure
        model = load_file(checkpoint / "model.safetensors")
        save_file({name: (model[name].double() - values).float() for name, values in self.goal.items()}, out)
        return self._loss(model)

    def losses(self, start: Path, end: Path, gammas: Sequence[float], *, batches: int | None = None) -> list[float]:
        here, there = (load_file(place / "model.safetensors") for place in (start, end))
        ends = {name: (here[name].double(), there[name].double()) for name in self.goal}
        return [self._loss({name: (1 - g) * one + g * two for name, (one, two) in ends.items()}) for g in gammas]


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    return Pool(tmp_path)


def offered(pool: Pool, count: int) -> dict[Digest, Candidate]:
    candidates = [pool.tuned(seed, ratio=0.05) for seed in range(count)]
    return {pool.engine.index(candidate).content: candidate for candidate in candidates}


def objective(pool: Pool, asked: str = "this", **changes: object) -> PoolObjective:
    one, two = fine_tune(pool.base, 0, ratio=0.05), fine_tune(pool.base, 1, ratio=0.05)
    goal = {
        name: (one[name].double() * 0.5 + two[name].double() * 0.5).to(values.dtype)
        for name, values in pool.base.items()
    }
    scratch = pool.root / "scratch"
    return PoolObjective(pool=pool.engine, plugin=Nearness(goal), scratch=scratch, asked=asked, **changes)  # type: ignore[arg-type]  # any field


def groups_of(pool: Pool) -> tuple[str, ...]:
    return tuple(dict.fromkeys(layer_group(name) for name, values in pool.base.items() if values.is_floating_point()))


@pytest.mark.parametrize("layers", [False, True], ids=["model", "layers"])
def test_reading_as_far_as_sketches_ask_for_chooses_what_reading_everything_does(pool: Pool, layers: bool) -> None:
    candidates = offered(pool, 6)
    groups = groups_of(pool) if layers else ()
    options = Options(variant="away", step="line", by_group=layers, rounds=6)
    chosen = [
        choose(objective(pool, groups=groups, exact_up_to=limit), candidates, State(), options, 1e-4)
        for limit in (None, 0)
    ]
    assert chosen[0].state == chosen[1].state and chosen[0].losses == chosen[1].losses
    relevant = set(list(candidates)[:2])
    for shares in chosen[0].state.weights.values():
        assert [shares[content] for content in sorted(relevant)] == pytest.approx([0.5, 0.5], abs=0.1)
        assert sum(share for content, share in shares.items() if content not in relevant) < 0.01
    assert set(chosen[0].state.weights) <= (set(groups) or {WHOLE})
    assert chosen[1].proposal.score.keys() >= relevant


def test_what_cannot_be_read_any_more_is_named(pool: Pool) -> None:
    candidates = offered(pool, 3)
    gone = list(candidates.values())[2]
    (Path(gone.location) / "model.safetensors").unlink()
    with pytest.raises(PoolChanged) as changed:
        choose(objective(pool), candidates, State(), Options(), 0.01)
    assert [found.candidate for found in changed.value.unreadable] == [gone]


def test_a_plug_in_that_is_unfit_now_is_tried_again(pool: Pool) -> None:
    asked = objective(pool)
    asked.plugin.failure = FatalError("its model has other shapes", hint="look")  # type: ignore[attr-defined]
    with pytest.raises(TransientError) as failed:
        asked.gradient_at({})
    assert failed.value.reason is TransientReason.TASK_FAILED and failed.value.hint == "look"


def test_what_an_earlier_process_left_is_removed(pool: Pool) -> None:
    (pool.root / "scratch" / "end").mkdir(parents=True)
    (pool.root / "scratch" / "end" / "model.safetensors").write_bytes(b"half")
    objective(pool)
    assert list((pool.root / "scratch").iterdir()) == []


def test_the_mix_of_the_newest_gradient_is_written_once(pool: Pool) -> None:
    candidates = offered(pool, 2)
    asked = objective(pool)
    weights = {WHOLE: dict.fromkeys(candidates, 0.5)}
    loss = asked.gradient_at(weights)
    before = (pool.root / "scratch" / "start" / "model.safetensors").stat().st_mtime_ns
    along = asked.losses_along(weights, {}, [0.0, 0.5, 1.0])
    assert (pool.root / "scratch" / "start" / "model.safetensors").stat().st_mtime_ns == before
    assert along[0] == pytest.approx(loss, rel=1e-6) and along[0] < along[1] < along[2]
    assert torch.isfinite(torch.tensor(along)).all()


@pytest.mark.parametrize("exact", [None, 0], ids=["read", "sketched"])
def test_shortened_ones_count_that_short(pool: Pool, exact: int | None) -> None:
    candidates = offered(pool, 3)
    first, second, third = candidates
    asked = objective(pool, exact_up_to=exact)
    asked.gradient_at({WHOLE: {first: 0.25, second: 0.5}})
    plain = asked.scores(candidates, frozenset(candidates)).scores
    asked.shorten({first: 0.5, third: 0.125})
    loss = asked.gradient_at({WHOLE: {first: 0.5, second: 0.5}})
    short = asked.scores(candidates, frozenset(candidates)).scores
    for content, factor in ((first, 0.5), (second, 1.0), (third, 0.125)):
        assert short[content][WHOLE] == pytest.approx(factor * plain[content][WHOLE], rel=1e-5, abs=1e-9)
    asked.shorten({})
    assert asked.gradient_at({WHOLE: {first: 0.25, second: 0.5}}) == pytest.approx(loss, rel=1e-6)


@pytest.mark.parametrize("layers", [False, True], ids=["model", "layers"])
def test_what_is_folded_is_the_mix_that_was_chosen(pool: Pool, layers: bool) -> None:
    candidates = offered(pool, 3)
    names: dict[str, list[str]] = {}
    for name, values in pool.base.items():
        if values.is_floating_point():
            names.setdefault(layer_group(name), []).append(name)
    naming = Naming(groups=names if layers else {})
    options = Options(variant="away", step="line", by_group=layers, rounds=3)
    asked = objective(pool, groups=tuple(names) if layers else ())
    chosen = choose(asked, candidates, State(), options, 1e-6)
    fact = selected_fact(chosen, candidates, {}, naming, objective="asked", time=TIME, seconds=0.0)
    node = LocalNode(
        pool.root / "node", pool.root / "base", method="task_arithmetic", options={"scale": 1.0}, dtype=DType.F32
    )
    for content, terms in target_of(fact).items():
        node.fold_candidate(entrant(candidates[content], content, terms))
    pool.engine.trial(fact.weights, pool.root / "mix")
    mix, merged = load_file(pool.root / "mix" / "model.safetensors"), node.published(pool.root / "published")
    assert mix.keys() == merged.keys()
    for name, values in mix.items():
        torch.testing.assert_close(merged[name].double(), values.double(), rtol=2e-3, atol=2e-5)


def test_losses_alone_are_those_of_the_base_with_one_task_vector_and_are_remembered(pool: Pool) -> None:
    candidates = offered(pool, 2)
    first, second = candidates
    asked = objective(pool)
    assert asked.remembered(first) is None
    found = asked.losses_alone(first)
    whole = asked.gradient_at({WHOLE: {first: 1.0}})
    assert sum(found) == pytest.approx(whole, rel=1e-6) and len(found) > 1
    later = objective(pool)
    assert later.remembered(first) == tuple(found) and later.remembered(second) is None
    assert objective(pool, "something else").remembered(first) is None
    later.keep_only([second])
    assert later.remembered(first) is None


def test_alone_a_task_vector_is_as_long_as_it_counts(pool: Pool) -> None:
    (first,) = offered(pool, 1)
    asked = objective(pool)
    asked.shorten({first: 0.5})
    short = asked.losses_alone(first)
    asked.shorten({})
    assert sum(short) == pytest.approx(asked.gradient_at({WHOLE: {first: 0.5}}), rel=1e-6)


def test_a_damaged_record_is_made_again(pool: Pool) -> None:
    (first,) = offered(pool, 1)
    asked = objective(pool)
    found = asked.losses_alone(first)
    [record] = (pool.root / "state" / "pool").glob("*.losses")
    record.write_bytes(record.read_bytes()[:-1])
    assert asked.remembered(first) is None
    assert asked.losses_alone(first) == found and asked.remembered(first) == tuple(found)


def test_where_no_loss_is_a_number_the_base_tells_whose_fault_it_is(pool: Pool) -> None:
    (first,) = offered(pool, 1)
    asked = objective(pool)
    plugin = asked.plugin
    assert isinstance(plugin, Nearness)
    plugin.spoil = float("inf")
    with pytest.raises(TransientError, match="not even at the base") as failed:
        asked.losses_alone(first)
    assert failed.value.reason is TransientReason.TASK_FAILED and asked.remembered(first) is None
    real = plugin.losses_by_batch

    def only_this(checkpoint: Path, *, batches: int | None = None) -> list[float]:
        plugin.spoil = 0.0 if plugin.asked % 2 else float("inf")
        return real(checkpoint, batches=batches)

    plugin.asked = 0
    plugin.losses_by_batch = only_this  # type: ignore[method-assign]
    assert asked.losses_alone(first) == [float("inf")] * len(plugin.goal)
    assert asked.remembered(first) == (float("inf"),) * len(plugin.goal)


def test_a_failing_plug_in_leaves_no_record(pool: Pool) -> None:
    (first,) = offered(pool, 1)
    asked = objective(pool)
    asked.plugin.failure = FatalError("its model has other shapes", hint="look")  # type: ignore[attr-defined]
    with pytest.raises(TransientError):
        asked.losses_alone(first)
    assert asked.remembered(first) is None


def test_a_plug_in_in_a_process_tells_batches_apart(tmp_path: Path) -> None:
    """The first task vector is half of the way to the goal, the third leads nowhere."""
    pool = Pool(tmp_path, base=weights(0))
    program = TaskProgram(entrypoint="choosing_task:Task", path=write_plugin(tmp_path / "plugins"))
    contents = [
        pool.engine.index(pool.add(f"m{seed}", {k: v + weights(seed, 0.2)[k] for k, v in weights(0).items()})).content
        for seed in (1, 3)
    ]
    with TaskWorker(program) as worker:
        asked = PoolObjective(pool=pool.engine, plugin=worker, scratch=tmp_path / "scratch", asked="this")
        found = [asked.losses_alone(content) for content in contents]
        mean = asked.gradient_at({WHOLE: {contents[0]: 1.0}})
    assert [len(losses) for losses in found] == [2, 2] and sum(found[0]) < sum(found[1])
    assert sum(found[0]) / 2 == pytest.approx(mean, rel=1e-5)
    assert asked.remembered(contents[0]) == tuple(found[0])
