"""What the fact about a selection says: weights, profiles by layer group, reasons, and how much of it is kept."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.daemon.choosing import Chosen
from mergenode.daemon.selected import LISTED, Naming, profile_for, selected_fact
from mergenode.ledger.codec import decode, encode
from mergenode.ledger.considered import CHOSEN, UNLISTED, Considered, considered
from mergenode.ledger.groups import layer_group
from mergenode.ledger.records import Selected
from mergenode.methods.scaling import profile_factor
from mergenode.selectors.contract import Options, State, Stop
from mergenode.selectors.frank_wolfe import propose
from mergenode.types import Candidate
from tests.support.facts import TIME, digest

PART = st.sampled_from(["a", "b", "1", "10", "layers", "model", "weight", "w*", "x[0]", "q?"])
NAMES = st.lists(st.lists(PART, min_size=1, max_size=4).map(".".join), min_size=1, max_size=12, unique=True)


def fact(weights: dict, scores: dict[int, float], naming: Naming, *, by_group: bool = False) -> Selected:
    """A selection with these shares; ``scores``: <g, tau> by number of the contribution."""
    pool = {digest(number): Candidate("inbox", f"m{number}", f"r{number}", f"/m{number}") for number in scores}
    state = State(weights, 3)
    groups = sorted(naming.groups) or ["*"]
    table = {digest(number): dict.fromkeys(groups, value / len(groups)) for number, value in scores.items()}
    proposal = propose(state, table, Options(by_group=by_group))
    chosen = Chosen(
        state=state, proposal=proposal, loss=0.5, losses=(1.0, 0.5), gaps=(0.5, 0.1), rounds=1, stop=Stop.ROUNDS
    )
    norms = {digest(number): float(number) for number in scores}
    return selected_fact(chosen, pool, norms, naming, objective="asked", time=TIME, seconds=1.0)


def test_shares_are_weights_and_the_largest_is_folded_first() -> None:
    found = fact(
        {"*": {digest(1): 0.2, digest(2): 0.5, digest(3): 0.004}},
        {1: -1.0, 2: -1.0, 3: -1.0, 4: -0.5, 5: 2.0},
        Naming(floor=0.01),
    )
    assert [(entry["name"], entry["weight"]) for entry in found.target] == [("m2", 0.5), ("m1", 0.2)]
    assert {entry["name"]: entry["why"] for entry in found.contents} == {
        "m2": "chosen", "m1": "chosen", "m3": "crumb", "m4": "useless", "m5": "useless",
    }  # fmt: skip
    assert found.counts == {"chosen": 2, "crumb": 1, "useless": 2} and found.size == 5
    assert found.weights == {"*": {digest(1): 0.2, digest(2): 0.5}}, "crumbs are the base's"
    assert found.position == 3 and decode(encode(found), 1) == found


def test_relative_weights_have_a_mean_of_one() -> None:
    found = fact({"*": {digest(1): 0.1, digest(2): 0.3}}, {1: -1.0, 2: -1.0}, Naming(weights="relative"))
    assert [entry["weight"] for entry in found.target] == pytest.approx([1.5, 0.5])


def test_by_layer_group_a_weight_and_factors_of_it() -> None:
    naming = Naming(groups={"l.0": ["l.0.a", "l.0.b"], "l.1": ["l.1.a"], "head": ["head.weight"]})
    weights = {"l.0": {digest(1): 0.5}, "l.1": {digest(1): 0.25, digest(2): 0.75}}
    found = fact(weights, {1: -1.0, 2: -1.0}, naming, by_group=True)
    first = next(entry for entry in found.target if entry["name"] == "m1")
    assert first["weight"] == 0.5
    assert first["profile"] == {"l.1.*": 0.5, "head.*": 0.0}
    shares = {entry["name"]: entry["share"] for entry in found.contents}
    assert shares == pytest.approx({"m1": 0.25, "m2": 0.25})


@settings(deadline=None, max_examples=200)
@given(names=NAMES, data=st.data())
def test_every_tensor_gets_the_factor_of_its_group(names: list[str], data: st.DataObject) -> None:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(layer_group(name), []).append(name)
    factors = {group: data.draw(st.sampled_from([0.0, 0.25, 0.5, 1.0])) for group in groups}
    profile = profile_for(factors, groups)
    for group, members in groups.items():
        for name in members:
            assert profile_factor(name, profile.items()) == factors[group]
            assert sum(fnmatchcase(name, pattern) for pattern in profile) <= 1


def test_a_fact_about_a_large_pool_stays_small() -> None:
    scores = {number: float(number) for number in range(1, 1001)} | {2000: -1.0}
    found = fact({"*": {digest(2000): 0.5}}, scores, Naming())
    assert len(found.contents) == 1 + LISTED and found.size == 1001
    assert found.contents[0]["name"] == "m2000" and found.contents[1]["name"] == "m1"
    assert sum(found.counts.values()) == 1001
    assert len(encode(found)) < 60_000
    left_out = [considered(found, digest(number)) for number in range(1, 1001)]
    assert {each.why for each in left_out if each is not None} == {"useless", UNLISTED} and None not in left_out
    assert considered(found, digest(2000)) == Considered(CHOSEN, -0.5) and considered(found, digest(1001)) is None
