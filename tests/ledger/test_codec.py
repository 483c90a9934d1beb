"""Facts come back from their text exactly, and nothing else comes back at all."""

import json
import math
from dataclasses import fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.errors import FatalError, RejectReason
from mergenode.ledger.canonical import canonical, parse
from mergenode.ledger.codec import decode, encode
from mergenode.ledger.records import KINDS, Fact, Published
from mergenode.types import Digest
from tests.support.facts import digest, discovered, folded, initialised, pruned, published, rejected

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=12)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FINITE | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=6,
)
OBJECT = st.dictionaries(ANY_TEXT, JSON, max_size=3)
FIELDS = {
    "int": st.integers(),
    "int | None": st.none() | st.integers(),
    "float": FINITE,
    "float | None": st.none() | FINITE,
    "bool": st.booleans(),
    "str": ANY_TEXT,
    "Digest": ANY_TEXT.map(Digest),
    "Digest | None": st.none() | ANY_TEXT.map(Digest),
    "Mapping[str, Any]": OBJECT,
    "Mapping[str, float]": st.dictionaries(ANY_TEXT, FINITE, max_size=3),
    "Mapping[str, int]": st.dictionaries(ANY_TEXT, st.integers(), max_size=3),
    "tuple[float, ...]": st.lists(FINITE, max_size=3).map(tuple),
    "tuple[Mapping[str, Any], ...]": st.lists(OBJECT, max_size=2).map(tuple),
    "tuple[str, ...]": st.lists(ANY_TEXT, max_size=3).map(tuple),
    "tuple[int, ...]": st.lists(st.integers(), max_size=3).map(tuple),
}


def _facts(kind: type[Fact]) -> st.SearchStrategy[Fact]:
    return st.builds(kind, **{field.name: FIELDS[field.type] for field in fields(kind)})


@pytest.mark.parametrize("kind", KINDS)
def test_every_fact_comes_back(kind: str) -> None:
    @settings(deadline=None, max_examples=60)
    @given(fact=_facts(KINDS[kind]))
    def comes_back(fact: Fact) -> None:
        body = encode(fact)
        assert body.isascii()
        assert decode(body, 1) == fact
        assert canonical(parse(body)) == body
        assert encode(decode(body, 1)) == body

    comes_back()


def test_the_text_is_sorted_compact_and_names_its_kind() -> None:
    fact = Published(time="t", version=1, generation=2, digest=Digest("d"), path="é", seconds=0.1)
    assert encode(fact) == (
        '{"digest":"d","generation":2,"kind":"published","path":"\\u00e9","round":null,"scale":{},"seconds":0.1,'
        '"time":"t","version":1}'
    )


def test_whole_numbers_in_float_fields_become_floats() -> None:
    body = encode(folded(1, weight=2, totals={"norm_sum": 3}))
    assert '"weight":2.0' in body
    assert '"totals":{"norm_sum":3.0}' in body


def test_enumerations_are_recorded_as_their_values() -> None:
    body = encode(rejected(1, reason=RejectReason.NOT_FINITE))
    assert '"reason":"not_finite"' in body
    assert type(decode(body, 1).reason) is str


@pytest.mark.parametrize("number", [5e-324, -0.0, 1e308, 0.1 + 0.2, 1e22, 2.0**53 + 2])
def test_floats_come_back_bit_for_bit(number: float) -> None:
    back = decode(encode(folded(1, norm=number)), 1).norm
    assert back == number
    assert math.copysign(1, back) == math.copysign(1, number)


@pytest.mark.parametrize(
    "fact",
    [
        folded(1, norm=math.nan),
        folded(1, totals={"a": math.inf}),
        folded(1, groups=({"cosine": -math.inf},)),
        initialised(options={"alpha": [math.nan]}),
        folded(1, generation=1.0),
        folded(1, generation=True),
        folded(1, weight=True),
        folded(1, weight="1"),
        folded(1, name=None),
        folded(1, name=b"m"),
        folded(1, warnings="one"),
        folded(1, warnings=(1,)),
        initialised(options={1: "a"}),
        initialised(options={"a": {2}}),
        initialised(options=[]),
        pruned("1"),
    ],
)
def test_what_no_reader_accepts_is_not_written(fact: Fact) -> None:
    with pytest.raises(FatalError, match=rf"{fact.kind} fact cannot be recorded"):
        encode(fact)


def test_a_kind_the_ledger_does_not_know_is_not_written() -> None:
    with pytest.raises(FatalError, match="not a kind of fact"):
        encode(type("Novel", (Published,), {})(**{"time": "t", "version": 1, "generation": 1,
                                                   "digest": digest(1), "path": ""}))  # fmt: skip


def _changed(**changes: object) -> str:
    body = json.loads(encode(discovered(1)))
    for name, value in changes.items():
        if value is ...:
            del body[name]
        else:
            body[name] = value
    return json.dumps(body)


@pytest.mark.parametrize(
    ("body", "finding"),
    [
        (_changed(kind="blended"), "unknown kind 'blended'"),
        (_changed(kind=...), "unknown kind None"),
        (_changed(kind=["discovered"]), "unknown kind"),
        (_changed(colour="red"), "unknown field 'colour'"),
        (_changed(location=...), "field 'location' is missing"),
        (_changed(size_bytes=1.5), "'size_bytes' holds 1.5, not a int"),
        (_changed(size_bytes=True), "'size_bytes' holds True"),
        (_changed(name=7), "'name' holds 7"),
        (_changed(name=None), "'name' holds None"),
        ('{"kind":"discovered","kind":"discovered"}', "same key twice"),
        ('{"kind":"pruned","time":"t","versions":[NaN]}', "NaN is not a finite number"),
        ('{"kind":"pruned","time":"t","versions":[1e999]}', "1e999 is not a finite number"),
        ('{"kind":"pruned","time":"t","versions":[1.0]}', r"'versions\[0\]' holds 1.0"),
        ('{"kind":"pruned","time":"t","versions":{}}', "'versions' holds {}"),
        ("[" * 100_000, "nested too deeply"),
        ("1" * 5000, "Exceeds the limit"),
        ("[]", "not a JSON object"),
        ("", "Expecting value"),
        ("{", "Expecting property name"),
    ],
)
def test_what_was_never_written_is_refused_with_its_sequence_number(body: str, finding: str) -> None:
    with pytest.raises(FatalError, match=rf"ledger fact 4711 cannot be read: .*{finding}") as refused:
        decode(body, 4711)
    assert "newer mergenode" in refused.value.hint


def test_facts_written_before_a_field_existed_get_its_default() -> None:
    assert decode(_changed(size_bytes=...), 1) == discovered(1, size_bytes=0)
    assert decode('{"kind":"published","time":"t","version":1,"generation":1,"digest":"d","path":"p"}', 1)


def test_an_integer_where_a_float_is_declared_was_not_written_by_encode() -> None:
    body = encode(published(1)).replace('"seconds":0.0', '"seconds":0')
    with pytest.raises(FatalError, match="'seconds' holds 0"):
        decode(body, 1)
