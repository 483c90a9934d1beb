"""The parts of the selection benchmark that need no model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import pytest
import torch
from torch import Tensor

from benchmarks.selection.gate_tables import DEFAULTS, evidence_of, false_positives, table, tuned
from benchmarks.selection.literal import BASE, frank_wolfe
from benchmarks.selection.screening import factors
from benchmarks.selection.suite import (
    IRRELEVANT,
    OTHERS,
    RELEVANT,
    SEEDS,
    TARGETS,
    irrelevant,
    other_tasks,
    relevant,
    universe,
)
from benchmarks.selection.summary import differences, standard_error, summarise
from mergenode.gates.evidence import Descent, Evidence, GroupEvidence, MatrixSpectrum, SpectraSummary
from mergenode.selectors.contract import WHOLE, Options, Scores, State
from mergenode.selectors.running import run

GROUPS = {"one": slice(0, 4), "two": slice(4, 10)}


@pytest.mark.parametrize("seed", SEEDS)
def test_every_smaller_pool_is_part_of_the_larger_and_nothing_is_in_it_twice(seed: int) -> None:
    largest = irrelevant(seed, max(IRRELEVANT))
    assert len(largest) == max(IRRELEVANT) == len({candidate.name for candidate in largest})
    for count in IRRELEVANT:
        assert irrelevant(seed, count) == largest[:count]
    assert [candidate.source.rsplit("-", 1)[0] for candidate in relevant(seed, 8)] == [*TARGETS, *TARGETS]
    assert len({candidate.name for candidate in relevant(seed, max(RELEVANT))}) == max(RELEVANT)
    assert {candidate.source.rsplit("-", 1)[0] for candidate in other_tasks(seed, 10)} == set(OTHERS)


def test_no_irrelevant_one_is_an_expert_of_a_target_as_it_came() -> None:
    for seed in SEEDS:
        experts = {candidate.name for candidate in relevant(seed, max(RELEVANT))}
        assert experts.isdisjoint(candidate.name for candidate in irrelevant(seed, max(IRRELEVANT)))
        assert experts <= {candidate.name for candidate in universe(seed)}


def test_long_vectors_are_left_cut_or_left_out() -> None:
    norms = {"a": 1.0, "b": 2.0, "c": 2.0, "d": 40.0, "zero": 0.0}
    assert set(factors(norms, "none").values()) == {1.0}
    assert factors(norms, "clip") == {"a": 1.0, "b": 1.0, "c": 1.0, "d": 0.1, "zero": 1.0}
    assert factors(norms, "gate") == {"a": 1.0, "b": 1.0, "c": 1.0, "zero": 1.0}
    with pytest.raises(ValueError, match="no screen 'other'"):
        factors(norms, "other")


class _Quadratic:
    """f = half the squared distance of theta to a target: the oracle that the selector of mergenode asks."""

    def __init__(self, vertices: Mapping[str, Tensor], target: Tensor) -> None:
        self.vertices, self.target = vertices, target

    def theta(self, state: State) -> Tensor:
        total = torch.zeros_like(self.target)
        for group, weights in state.weights.items():
            part = slice(None) if group == WHOLE else GROUPS[group]
            for name, weight in weights.items():
                total[part] += weight * self.vertices[name][part]
        return total

    def scores(self, state: State, only: frozenset[str] | None = None) -> Scores:
        gradient = self.theta(state) - self.target
        return {
            name: {group: float(gradient[part] @ vector[part]) for group, part in GROUPS.items()}
            for name, vector in self.vertices.items()
            if only is None or name in only
        }

    def losses(self, start: State, end: State, shares: Sequence[float]) -> Sequence[float]:
        raise NotImplementedError

    def distances(self, direction: Mapping[str, Mapping[str, float]]) -> Mapping[str, float]:
        raise NotImplementedError


@pytest.mark.parametrize("by_group", [False, True])
def test_mergenode_takes_the_steps_of_the_literal_algorithm(by_group: bool) -> None:
    draw = torch.Generator().manual_seed(3)
    vertices = {name: torch.randn(10, generator=draw, dtype=torch.float64) for name in "abcdef"}
    oracle = _Quadratic(vertices, 0.6 * vertices["a"] + 0.3 * vertices["d"])
    options = Options(variant="plain", step="schedule", by_group=by_group, rounds=12, tolerance=0.0)
    ours = run(State(), oracle, options)
    groups = GROUPS if by_group else {WHOLE: slice(None)}
    theta, steps, weights = frank_wolfe(vertices, groups, lambda here: here - oracle.target, options.rounds)
    assert len(steps) == len(ours.rounds) == 12
    for step, part in zip(steps, ours.rounds, strict=True):
        assert {group: move.toward for group, move in part.proposal.moves.items()} == step.chosen
        assert part.proposal.gap == pytest.approx(step.gap, abs=1e-12)
    assert torch.allclose(oracle.theta(ours.state), theta, atol=1e-12)
    for group, expected in weights.items():
        expected.pop(BASE, None)
        assert ours.state.of(group) == pytest.approx(expected, abs=1e-12)


def _evidence(norm: float = 1.0, excess: float = 0.1, drop: float = 0.0) -> Evidence:
    whole = GroupEvidence(group=WHOLE, parameters=10, norm=norm, cosine=0.1, share_kept=0.9, sign_conflict=0.45)
    layer = GroupEvidence(group="layer.0", parameters=10, norm=norm)
    worst = MatrixSpectrum(name="w", rank=4, energy=1.0, shares=(0.4, 0.7, 0.9, 1.0))
    return Evidence(
        groups={WHOLE: whole, "layer.0": layer},
        history={WHOLE: (1.0, 1.1, 0.9), "layer.0": (1.0, 1.0, 1.0)},
        merged=True,
        not_finite=(),
        frozen_changed=(),
        spectra=SpectraSummary(matrices=3, median=(excess, 0.4, 0.5, None), worst=worst),
        scores_before={"task": 0.8},
        scores_after={"task": 0.8 - drop},
        descent=Descent(inner=-0.1, gradient_norm=1.0, delta_norm=1.0),
    )


def _record(kind: str, evidence: Evidence) -> dict[str, object]:
    return {"kind": kind, "name": kind, "evidence": json.loads(json.dumps(asdict(evidence)))}


def test_evidence_survives_being_kept() -> None:
    evidence = _evidence()
    assert evidence_of(json.loads(json.dumps(asdict(evidence)))) == evidence


def test_tuned_thresholds_pass_what_they_were_tuned_on_and_no_more_than_a_margin() -> None:
    honest = [_evidence(), _evidence(norm=2.0, excess=0.2, drop=0.03)]
    options = tuned(honest)
    records = [_record("honest", evidence) for evidence in honest]
    records += [_record("long", _evidence(norm=3.5)), _record("thin", _evidence(excess=0.35))]
    records += [_record("worse", _evidence(drop=0.06))]
    rows = table(records, options)
    assert all(
        told == {"judged": 2, "names": []} for gate, told in false_positives(rows).items() if gate != "signature"
    )
    assert [sorted(row["messages"]) for row in rows[2:]] == [["norm"], ["top_share"], ["evaluation"]]
    assert not any(told["names"] for told in false_positives(table(records, DEFAULTS)).values())


def _told(label: str, seed: int, others: int, accuracy: float) -> dict[str, object]:
    pool = {"kind": "irrelevant", "relevant": 4, "others": others}
    tasks = {"a": accuracy}
    return {"label": label, "seed": seed, "pool": pool, "screen": "clip", "accuracy": accuracy, "tasks": tasks}


def test_seeds_are_summarised_with_their_standard_error() -> None:
    records = [_told("x", seed, 0, value) for seed, value in enumerate((0.70, 0.72, 0.74))]
    records += [_told("x", seed, 32, value) for seed, value in enumerate((0.70, 0.72, 0.75))]
    records += [_told("expert lang-1", 0, 0, 0.6), _told("expert lang-2", 1, 0, 0.8)]
    rows = {(row["label"], row["others"]): row for row in summarise(records)}
    assert rows["x", 0]["accuracy"] == pytest.approx(0.72)
    assert rows["x", 0]["error"] == pytest.approx(0.02 / 3**0.5)
    assert rows["expert lang", 0]["accuracy"] == pytest.approx(0.7)
    (change,) = differences(records)
    assert change["change"] == pytest.approx(0.01 / 3)
    assert change["within_one_standard_error"]
    assert standard_error([0.7]) is None
