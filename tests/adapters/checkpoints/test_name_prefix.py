"""One prefix of difference between names, found or denied like by trying them all."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.adapters.checkpoints.name_prefix import SAME, Prefix, uniform_prefix

NAMES = st.sets(st.lists(st.sampled_from("ab"), min_size=1, max_size=3).map(".".join), min_size=1, max_size=4)


def _by_trying(names: set[str], there: set[str]) -> bool:
    """Whether any prefix at all does it; at least one whole component, as names are made of components."""
    adds = {other[: len(other) - len(name)] for other in there for name in names if other.endswith("." + name)}
    strips = {name[: position + 1] for name in names for position, letter in enumerate(name) if letter == "."}
    if names <= there:
        return True
    return any({add + name for name in names} <= there for add in adds) or any(
        all(name.startswith(strip) for name in names) and {name[len(strip) :] for name in names} <= there
        for strip in strips
    )


@given(NAMES, NAMES, st.sampled_from(["", "a.", "b.a.", "model."]), st.booleans())
@settings(deadline=None, max_examples=400)
def test_found_exactly_when_there_is_one(names: set[str], others: set[str], prefix: str, add: bool) -> None:
    longer = {prefix + name for name in names}
    first, second = (names, longer | others) if add else (longer, names | others)
    for wanted, there in ((first, second), (names, others)):
        found = uniform_prefix(wanted, there)
        assert (found is not None) == _by_trying(wanted, there)
        if found is not None:
            assert all(found.apply(name) in there for name in wanted)


def test_equal_names_need_none() -> None:
    assert uniform_prefix(["a.b", "c"], {"a.b", "c", "d", "x.a.b", "x.c"}) == SAME


def test_says_what_it_does() -> None:
    assert str(uniform_prefix(["h.0.w"], {"transformer.h.0.w"})) == "with the prefix 'transformer.'"
    assert str(uniform_prefix(["model.h.0.w"], {"h.0.w"})) == "without the prefix 'model.'"
    assert Prefix(strip="model.").apply("model.x") == "x"
