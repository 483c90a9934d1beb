"""Hash chain of facts, lineage of merges."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.ledger.chain import GENESIS, lineage, link
from mergenode.types import Digest
from tests.support.facts import digest

STEP = {"base": digest(0), "method": "opcm", "options": {"alpha": 0.5}, "content": digest(1), "weight": 1.0}


def test_the_hash_of_the_first_fact_never_changes() -> None:
    assert link(GENESIS, 1, "{}") == "4b8a4e55c64ceae51edd7aeefed8739e987fd60858798e3ebd4e4cc395948b40"


@settings(deadline=None, max_examples=100)
@given(
    first=st.tuples(st.sampled_from([GENESIS, "1" * 64]), st.integers(1, 30), st.text("0123\n{}", max_size=4)),
    second=st.tuples(st.sampled_from([GENESIS, "1" * 64]), st.integers(1, 30), st.text("0123\n{}", max_size=4)),
)
def test_different_links_have_different_hashes(first: tuple[str, int, str], second: tuple[str, int, str]) -> None:
    assert (link(*first) == link(*second)) == (first == second)


def test_lineage_is_the_same_everywhere() -> None:
    first = lineage(None, **STEP)
    assert first == lineage(None, **STEP | {"options": {"alpha": 0.5}, "weight": 1})
    assert first == "blake2b:0c03b4b43cc89bbd95ac1f6c15ede477ed8284b767d32c4e152f684fd89a200a"
    assert lineage(None, **STEP | {"options": {"a": 1, "b": (2, 3)}}) == lineage(
        None, **STEP | {"options": {"b": [2, 3], "a": 1}}
    )


@pytest.mark.parametrize(
    "change",
    [
        {"base": digest(9)},
        {"method": "average"},
        {"options": {"alpha": 0.25}},
        {"options": {}},
        {"content": digest(2)},
        {"weight": 0.5},
    ],
)
def test_everything_that_determines_the_merge_changes_the_lineage(change: dict[str, object]) -> None:
    assert lineage(None, **STEP | change) != lineage(None, **STEP)


def test_the_order_of_contributions_is_part_of_the_lineage() -> None:
    def after(*contents: Digest) -> Digest | None:
        newest = None
        for content in contents:
            newest = lineage(newest, **STEP | {"content": content})
        return newest

    assert after(digest(1), digest(2)) != after(digest(2), digest(1))
    assert after(digest(1), digest(2)) != after(digest(2))


def test_a_number_that_is_not_finite_has_no_lineage() -> None:
    with pytest.raises(ValueError, match="not a finite number"):
        lineage(None, **STEP | {"weight": float("nan")})
