"""Everybody derives the same id, and nobody another's."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.tracing import ids
from mergenode.tracing.ids import contribution_trace, first_span, is_sampled, merge_trace, push_trace, weights_trace

ANY = st.text(alphabet=st.characters(exclude_categories=()), max_size=12)
ROOT = st.binary(min_size=32, max_size=32).map(bytes.hex)


def test_ids_are_those_of_other_machines_and_versions() -> None:
    """Written down: nodes of several versions have to agree."""
    assert contribution_trace("inbox", "team-1", "r1") == "37b5f43e6f2c5d53767a65101cb7958a"
    assert push_trace("tuned", "00" * 32) == "0fe1d5531f6ea9a37d8165df838dc9c3"
    assert weights_trace("ab") == "7b6ef81ae4e078c982f4d41d3046ed74"


@settings(deadline=None)
@given(first=st.tuples(ANY, ANY, ANY), second=st.tuples(ANY, ANY, ANY))
def test_two_keys_have_two_ids(first: tuple[str, str, str], second: tuple[str, str, str]) -> None:
    assert (contribution_trace(*first) == contribution_trace(*second)) == (first == second)
    assert int(contribution_trace(*first), 16) > 0 and len(contribution_trace(*first)) == ids.TRACE_DIGITS


@settings(deadline=None)
@given(name=ANY, root=ROOT, revision=ANY, content=ROOT)
def test_the_entry_of_a_push_has_the_id_that_its_pusher_derived(
    name: str, root: str, revision: str, content: str
) -> None:
    entry = f"{name or 'x'}@{root[: ids.ROOT_DIGITS]}"
    told = push_trace(name or "x", root)
    assert contribution_trace(ids.PUSHES, entry, revision) == told
    # The same tensors with other adapter settings get a longer name, and stay the same push for their pusher.
    assert contribution_trace(ids.PUSHES, f"{entry}-{content[:12]}", revision) == told
    assert contribution_trace("inbox", entry, revision) != told


def test_other_things_have_other_ids() -> None:
    assert len({weights_trace("ab"), merge_trace("ab"), push_trace("ab", ""), contribution_trace("ab", "", "")}) == 4
    assert contribution_trace(ids.PUSHES, "no-root", "r") != push_trace("no-root", "")


@settings(deadline=None)
@given(key=st.tuples(ANY, ANY, ANY), share=st.floats(0, 1), more=st.floats(0, 1))
def test_who_samples_more_samples_all_that_others_do(key: tuple[str, str, str], share: float, more: float) -> None:
    trace_id = contribution_trace(*key)
    assert is_sampled(trace_id, 1.0) and not is_sampled(trace_id, 0.0)
    assert not is_sampled(trace_id, share) or is_sampled(trace_id, max(share, more))
    assert first_span(trace_id) == trace_id[16:]
