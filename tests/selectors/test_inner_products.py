"""Scores by group: sums, order, refusals."""

from __future__ import annotations

from math import inf, nan

from mergenode.selectors.contract import BASE, WHOLE
from mergenode.selectors.inner_products import best_first, current, per_group, rank, refusals


def test_scores_by_group_add_up_for_the_whole_model() -> None:
    scores = {"a": {"x": 1.0, "y": -3.0}, "b": {"x": -1.0}}
    assert per_group(scores, False) == {WHOLE: {"a": -2.0, "b": -1.0}}


def test_a_group_that_is_left_out_counts_as_zero() -> None:
    scores = {"a": {"x": 1.0, "y": -3.0}, "b": {"x": -1.0}}
    assert per_group(scores, True) == {"x": {"a": 1.0, "b": -1.0}, "y": {"a": -3.0, "b": 0.0}}


def test_sums_do_not_depend_on_the_order_of_groups() -> None:
    values = {"x": 1e16, "y": 1.0, "z": -1e16}
    turned = dict(reversed(values.items()))
    assert per_group({"a": values}, False) == per_group({"a": turned}, False) == {WHOLE: {"a": 1.0}}


def test_the_base_comes_before_contents_of_the_same_score() -> None:
    row = {"b": 0.0, "a": 0.0, "c": -1.0}
    assert best_first(row) == ["c", BASE, "a", "b"]
    assert max((BASE, *row), key=lambda vertex: rank(vertex, row)) == "b"


def test_theta_scores_the_mean_of_its_vertices() -> None:
    assert current({"a": 0.5, "b": 0.25}, {"a": 2.0, "b": -4.0, "c": 9.0}) == 0.0
    assert current({}, {"a": 2.0}) == 0.0


def test_what_cannot_be_computed_with_is_named() -> None:
    scores = {"a": {"x": 1.0}, "b": {"x": inf, "y": nan}, "c": {"x": 1.0, "y": -1e101}}
    assert refusals(scores) == {
        "b": "the inner product with the gradient is inf in group x",
        "c": "the inner product with the gradient is -1e+101 in group y",
    }
