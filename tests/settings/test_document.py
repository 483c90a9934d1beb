"""YAML as plain data: core-schema scalars, duplicate keys, variables, lines, bounds."""

from __future__ import annotations

import math

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.errors import UsageError
from mergenode.settings.document import MAX_BYTES, dotted, parse_document, read_document


def parse(text: str, **environment: str):
    return parse_document("node.yaml", text, environment)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-3", -3),
        ("1e-3", 1e-3),
        ("0.5", 0.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("2e8", 2e8),
        (".inf", math.inf),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("yes", "yes"),
        ("on", "on"),
        ("2024-01-01", "2024-01-01"),
        ("12:30:45", "12:30:45"),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("'5'", "5"),
        ('"null"', "null"),
        ("2GiB", "2GiB"),
        ("127.0.0.1:9464", "127.0.0.1:9464"),
    ],
)
def test_scalars_mean_what_yaml_1_2_says(text: str, value: object) -> None:
    found = parse(f"a: {text}").data["a"]
    assert found == value and type(found) is type(value)


def test_nan_is_a_number_here_and_left_to_validation() -> None:
    assert math.isnan(parse("a: .nan").data["a"])


_plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.text("ab: #-'\"\n$é", max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1, max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), _plain, max_size=4))
def test_what_yaml_writes_is_read_back(data: dict[str, object]) -> None:
    assert parse(yaml.safe_dump(data)).data == data


def test_every_key_and_entry_knows_its_line() -> None:
    document = parse("# comment\na: 1\nb:\n  - x\n  - {c: 2,\n     d: 3}\n")
    lines = {dotted(where): line for where, line in document.lines.items()}
    assert lines == {"": 2, "a": 2, "b": 3, "b[0]": 4, "b[1]": 5, "b[1].c": 5, "b[1].d": 6}
    assert document.line_of(("b", 1, "missing", "deeper")) == 5
    assert document.line_of(("nowhere",)) == 2


def test_a_key_written_twice_is_an_error_that_names_both_lines() -> None:
    with pytest.raises(UsageError) as error:
        parse("http:\n  listen: a\n  other: b\n  listen: c\n")
    assert error.value.message == "node.yaml:4: setting 'http.listen' is written twice, first on line 2"


def test_variables_are_expanded_in_values_only() -> None:
    text = "a: ${ROOT}/models\nb: ${NONE:-x y}\nc: ${EMPTY:-d}\nd: $${ROOT}\n${ROOT}: 1\n# ${UNSET}\ne: $ROOT\n"
    data = parse(text, ROOT="/srv", EMPTY="").data
    assert data == {"a": "/srv/models", "b": "x y", "c": "d", "d": "${ROOT}", "${ROOT}": 1, "e": "$ROOT"}


def test_an_unquoted_variable_means_the_value_in_it() -> None:
    data = parse("a: ${N}\nb: '${N}'\nc: ${M:-null}\n", N="7").data
    assert data == {"a": 7, "b": "7", "c": None}


def test_the_content_of_a_variable_is_not_expanded_again_nor_parsed_as_yaml() -> None:
    assert parse("a: ${X}", X="${Y} {b: 1}\n- c").data == {"a": "${Y} {b: 1}\n- c"}


def test_an_unset_variable_is_named_with_line_and_setting() -> None:
    with pytest.raises(UsageError) as error:
        parse("\n\npublish: {path: '${WHERE}/out'}")
    assert error.value.message == "node.yaml:3: environment variable 'WHERE' is not set, but 'publish.path' uses it"
    assert "${WHERE:-value}" in error.value.hint


def test_a_malformed_variable_is_refused() -> None:
    with pytest.raises(UsageError, match=r"node.yaml:1: 'a': not a variable"):
        parse("a: ${not closed")


@pytest.mark.parametrize(
    "text",
    [
        "a: [1, 2",
        "a: b: c",
        "\ta: 1",
        "a: !!python/object/apply:os.system [id]",
        "a: !!python/none",
        "a: !x 1",
        "a: !!map {b: 1}\nb: !!omap [a]",
        "--- 1\n--- 2",
        "? [a]\n: 1",
        "<<: {a: 1}",
        "a: \x00",
        "a: *nobody",
        "&a a: &b [*b]",
        "[" * 5000,
        "a: " + "{b: " * 100 + "1" + "}" * 100,
    ],
)
def test_hostile_or_broken_text_is_one_usage_error_with_the_file(text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse(text)
    assert error.value.message.startswith("node.yaml")
    assert "\n" not in error.value.message


def test_aliases_cannot_blow_up_memory() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
    with pytest.raises(UsageError, match="aliases included"):
        parse(bomb)


def test_an_alias_is_the_value_it_names() -> None:
    assert parse("a: &x {b: 1}\nc: *x").data == {"a": {"b": 1}, "c": {"b": 1}}


def test_files_that_are_no_settings(tmp_path) -> None:
    missing, directory, large, latin = (tmp_path / name for name in ("missing", "directory", "large", "latin"))
    directory.mkdir()
    large.write_bytes(b"#" * (MAX_BYTES + 1))
    latin.write_bytes(b"a: 1\nb: caf\xe9\n")
    for path, words in [
        (missing, "No such file"),
        (directory, "Is a directory"),
        (large, "larger than 1 MiB"),
        (latin, ":2: not UTF-8"),
    ]:
        with pytest.raises(UsageError) as error:
            read_document(path, {})
        assert str(path) in error.value.message and words in error.value.message


def test_an_empty_file_is_an_empty_document() -> None:
    assert parse("# nothing\n").data == {}
