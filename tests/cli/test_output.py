"""Numbers and names as commands print them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.cli.drift import drift_table
from mergenode.cli.facts import fact_fields, sentence, subject
from mergenode.cli.output import number_text, percent_text, print_json, visible
from mergenode.ledger.records import KINDS
from mergenode.sizes import bytes_text, seconds_text
from tests.support import facts


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (3 << 40, "3.0 TiB"),
        (5 << 50, "5120.0 TiB"),
    ],
)
def test_bytes(count: int, text: str) -> None:
    assert bytes_text(count) == text


def test_what_is_not_defined_is_a_dash() -> None:
    assert (number_text(None), percent_text(None)) == ("-", "-")
    assert (number_text(0.123456), percent_text(0.5), percent_text(0.0)) == ("0.1235", "50.0%", "0.0%")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.00 s"), (59.9, "59.90 s"), (60, "1 min 0 s"), (3600, "1 h 0 min"), (90061, "25 h 1 min")],
)
def test_seconds(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_visible_text_is_one_printable_encodable_line(text: str) -> None:
    shown = visible(text)
    assert shown.isprintable()
    shown.encode("utf-8")
    assert shown == text or not text.isprintable()


def test_lone_surrogates_are_escaped() -> None:
    assert visible("a\udcffb") == "a\\udcffb"


def test_json_refuses_what_is_no_json() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        print_json({"x": float("nan")})


EVERY_KIND = [
    facts.initialised(),
    facts.discovered(),
    facts.rejected(),
    facts.duplicate(),
    facts.folded(),
    facts.published(),
    facts.pruned(1, 2),
    facts.retracted(),
    facts.admitted(),
    facts.restated(2, 1),
    facts.mixed(),
    facts.yielded(),
    facts.deferred(),
    facts.united(2, 1),
    facts.heard(),
    facts.ruled(),
    facts.forgotten(),
    facts.scored(),
    facts.selected(m1=0.5),
    facts.deselected(),
    facts.quarantined(),
    facts.released(),
]


def test_every_kind_of_fact_has_words_and_fields() -> None:
    assert {fact.kind for fact in EVERY_KIND} == set(KINDS)
    for fact in EVERY_KIND:
        fields = fact_fields(7, fact)
        assert list(fields)[:3] == ["sequence", "kind", "time"] and fields["kind"] == fact.kind
        assert set(fields) == {"sequence", "kind", "trace_id", *(name for name in fact.__dataclass_fields__)}
        assert sentence(fact) != fact.kind, "a kind without words of its own"
        assert (subject(fact) == "") == (fact.kind in ("initialised", "restated", "united")), (
            "the whole merge has no name"
        )


def test_the_whole_model_comes_first_whatever_the_order() -> None:
    table = drift_table(
        [{"group": "b", "parameters": 1}, {"group": "*", "parameters": 3}, {"group": "a", "parameters": 2}]
    )
    assert list(table.columns[0].cells) == ["whole model", "b", "a"]
