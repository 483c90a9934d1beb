"""The order of decisions, one rule per test: each fails when two steps change places."""

from dataclasses import replace

import pytest

from mergenode.ledger.actions import (
    Action,
    Deselect,
    Discover,
    Evict,
    Fold,
    Index,
    MarkDuplicate,
    Mix,
    Publish,
    Refuse,
    Restate,
    Select,
    Stop,
    Wait,
)
from mergenode.ledger.changes import Change
from mergenode.ledger.plan import SHORTEST_WAIT_SECONDS, next_action, pending, settled_requests
from mergenode.ledger.records import ContributionFact
from mergenode.ledger.selection import Standing
from mergenode.ledger.view import Policy, View
from mergenode.types import Candidate, Head, Listing, Refused, Unsettled
from tests.support.facts import deselected, digest, discovered, duplicate, folded, rejected

FOLDED_ONCE = Head(generation=1, count=1)
PUBLISHED_ONCE = Head(generation=1, count=1, published_generation=1, version=1)


def candidate(number: int, **changes: object) -> Candidate:
    return replace(Candidate("inbox", f"m{number}", f"r{number}", f"/inbox/m{number}"), **changes)


def refused(number: int) -> Refused:
    return Refused("inbox", f"m{number}", f"r{number}", "path_unsafe", "m points outside")


def inbox(*entries: Candidate | Refused | Unsettled) -> dict[str, Listing]:
    def those(kind: type) -> tuple:
        return tuple(entry for entry in entries if isinstance(entry, kind))

    return {"inbox": Listing(those(Candidate), those(Unsettled), those(Refused))}


def outcomes(*facts: ContributionFact) -> dict[tuple[str, str, str], ContributionFact]:
    return {(fact.registry, fact.name, fact.revision): fact for fact in facts}


def view(*entries: Candidate | Refused | Unsettled, facts: tuple = (), **changes: object) -> View:
    """A view of one registry; candidates were discovered in the order of ``facts``."""
    known = outcomes(*facts)
    order = {key: sequence for sequence, key in enumerate(known, start=1)}
    base = View(head=Head(), listings=inbox(*entries), outcomes=known, order=order)
    return replace(base, **changes)


READY = {"facts": (discovered(1), discovered(2))}
BOTH = (candidate(1), candidate(2))


def test_nothing_at_all_waits_for_a_poll() -> None:
    assert next_action(view()) == Wait(10.0, "nothing is pending")


# ---- recording


def test_what_is_new_is_discovered_together_by_registry_and_name() -> None:
    listings = {"z": Listing((candidate(3, registry="z"),)), **inbox(candidate(2), candidate(1))}
    assert next_action(View(head=Head(), listings=listings)) == Discover(
        (candidate(1), candidate(2), candidate(3, registry="z"))
    )


def test_discovery_comes_before_folding_what_is_known() -> None:
    assert next_action(view(*BOTH, facts=(discovered(1),))) == Discover((candidate(2),))


def test_discovery_comes_before_publishing() -> None:
    assert next_action(view(candidate(1), head=FOLDED_ONCE)) == Discover((candidate(1),))


def test_an_entry_listed_twice_is_discovered_once() -> None:
    assert next_action(view(candidate(1), candidate(1))) == Discover((candidate(1),))


def test_a_refused_entry_is_recorded_once() -> None:
    assert next_action(view(refused(2), refused(1))) == Refuse((refused(1), refused(2)))
    assert isinstance(next_action(view(refused(1), facts=(rejected(1),))), Wait)


def test_an_entry_that_was_discovered_and_is_refused_now_is_recorded() -> None:
    assert next_action(view(refused(1), facts=(discovered(1),))) == Refuse((refused(1),))


@pytest.mark.parametrize("settled", [folded(1), duplicate(1)])
def test_a_refusal_does_not_undo_what_is_in_the_merge(settled: ContributionFact) -> None:
    assert isinstance(next_action(view(refused(1), facts=(settled,))), Wait)


def test_a_refusal_is_recorded_before_anything_is_folded() -> None:
    assert next_action(view(refused(3), *BOTH, **READY)) == Refuse((refused(3),))


# ---- folding


def test_contributions_are_folded_in_order_of_discovery() -> None:
    facts = (discovered(2), discovered(1))
    assert next_action(view(*BOTH, facts=facts)) == Fold(candidate(2))


def test_without_a_known_discovery_the_name_decides() -> None:
    assert next_action(view(candidate(2), candidate(1), **READY, order={})) == Fold(candidate(1))


def test_known_order_comes_before_unknown() -> None:
    assert next_action(view(*BOTH, **READY, order={candidate(2).key: 9})) == Fold(candidate(2))


def test_a_forced_candidate_goes_first() -> None:
    pushed = candidate(2, forced=True)
    assert next_action(view(candidate(1), pushed, **READY)) == Fold(pushed)


def test_a_rejected_revision_is_left_alone_unless_forced() -> None:
    assert isinstance(next_action(view(candidate(1), facts=(rejected(1),))), Wait)
    pushed = candidate(1, forced=True)
    assert next_action(view(pushed, facts=(rejected(1),))) == Fold(pushed)


@pytest.mark.parametrize("settled", [folded(1), duplicate(1)])
@pytest.mark.parametrize("forced", [False, True])
def test_what_is_in_the_merge_is_never_folded_again(settled: ContributionFact, forced: bool) -> None:
    observed = view(candidate(1, forced=forced), facts=(settled,))
    assert isinstance(next_action(observed), Wait)
    assert pending(observed) == ()


def test_a_request_for_what_is_in_the_merge_is_reported_as_settled() -> None:
    done, plain, open_ = candidate(1, forced=True), candidate(2), candidate(3, forced=True)
    observed = view(done, plain, open_, facts=(folded(1), folded(2), rejected(3)))
    assert settled_requests(observed) == (done,)


def test_a_new_revision_under_an_old_name_is_a_new_contribution() -> None:
    fresh = candidate(1, revision="r1b")
    assert next_action(view(fresh, facts=(folded(1),))) == Discover((fresh,))
    facts = (folded(1), discovered(1, revision="r1b"))
    assert next_action(view(fresh, facts=facts)) == Fold(fresh)


def test_a_candidate_that_backs_off_blocks_no_other() -> None:
    assert next_action(view(*BOTH, **READY, waiting={candidate(1).key: 5.0})) == Fold(candidate(2))


def test_promised_content_that_was_folded_is_not_read() -> None:
    promised = candidate(1, content=digest(7))
    observed = view(promised, facts=(discovered(1),), contents={digest(7): "m7"})
    assert next_action(observed) == MarkDuplicate(promised, digest(7), "m7")
    assert next_action(replace(observed, contents={digest(8): "m8"})) == Fold(promised)


# ---- publishing


def test_a_commit_is_published_before_the_next_fold() -> None:
    assert next_action(view(*BOTH, **READY, head=FOLDED_ONCE)) == Publish(generation=1, version=1)


def test_folding_waits_while_publishing_backs_off() -> None:
    observed = view(*BOTH, **READY, head=FOLDED_ONCE, publish_wait_seconds=4.0)
    assert next_action(observed) == Wait(4.0, "generation 1 waits to be published")


def test_a_published_commit_is_not_published_again() -> None:
    assert next_action(view(*BOTH, **READY, head=PUBLISHED_ONCE)) == Fold(candidate(1))


def test_versions_count_publications_not_generations() -> None:
    head = Head(generation=9, count=9, published_generation=6, version=2)
    assert next_action(view(head=head)) == Publish(generation=9, version=3)


@pytest.mark.parametrize(("generation", "expected"), [(6, Fold), (7, Fold), (8, Publish), (9, Publish)])
def test_a_publication_is_due_after_that_many_folds(generation: int, expected: type[Action]) -> None:
    head = Head(generation=generation, count=generation, published_generation=5, version=1)
    policy = Policy(publish_every_contributions=3)
    assert isinstance(next_action(view(*BOTH, **READY, head=head, policy=policy)), expected)


def test_a_publication_is_due_after_that_much_time() -> None:
    policy = Policy(publish_every_contributions=100, publish_every_seconds=60, poll_seconds=600)
    head = replace(PUBLISHED_ONCE, generation=2)
    early = view(head=head, policy=policy, seconds_since_publish=45.0)
    assert next_action(early) == Wait(15.0, "nothing is pending")
    assert next_action(replace(early, seconds_since_publish=60.0)) == Publish(2, 2)
    assert isinstance(next_action(replace(early, head=PUBLISHED_ONCE, seconds_since_publish=99.0)), Wait)


def test_with_a_period_the_first_version_does_not_wait_for_it() -> None:
    policy = Policy(publish_every_contributions=100, publish_every_seconds=60)
    assert next_action(view(head=FOLDED_ONCE, policy=policy)) == Publish(1, 1)


def test_a_fold_is_shown_before_it_is_published_and_nothing_is_folded_meanwhile() -> None:
    held = view(*BOTH, **READY, head=FOLDED_ONCE, hold_seconds=4.0)
    assert next_action(held) == Wait(4.0, "generation 1 is shown before it is published")
    assert next_action(replace(held, hold_seconds=0.0)) == Publish(1, 1)
    assert next_action(replace(held, head=PUBLISHED_ONCE)) == Fold(candidate(1))


def test_what_is_not_due_is_not_held() -> None:
    policy = Policy(publish_every_contributions=2)
    assert next_action(view(*BOTH, **READY, head=FOLDED_ONCE, hold_seconds=4.0, policy=policy)) == Fold(candidate(1))


def test_a_change_comes_before_the_version_that_is_held() -> None:
    change = Change("1", contents=(digest(1),))
    assert next_action(view(head=FOLDED_ONCE, hold_seconds=4.0, changes=(change,))) == Restate(change)


def test_once_holds_nothing() -> None:
    assert next_action(view(head=FOLDED_ONCE, hold_seconds=400.0, once=True)) == Publish(1, 1)


# ---- waiting


def test_the_wait_ends_when_the_first_thing_may_be_ready() -> None:
    unsettled = Unsettled("inbox", "m9", "still written", 3.0)
    facts = (discovered(1), discovered(2))
    waiting = {candidate(1).key: 8.0, candidate(2).key: 5.0}
    observed = view(*BOTH, unsettled, facts=facts, waiting=waiting)
    assert next_action(observed).seconds == 3.0
    assert next_action(replace(observed, listings=inbox(*BOTH))).seconds == 5.0
    assert next_action(replace(observed, listings=inbox(Unsettled("inbox", "m9", "shards", None)))).seconds == 10


def test_a_wait_is_never_so_short_that_the_loop_spins() -> None:
    for observed in (
        view(Unsettled("inbox", "m9", "still written", 0.0)),
        view(Unsettled("inbox", "m9", "still written", -5.0)),
        view(node_wait_seconds=1e-9),
        view(head=FOLDED_ONCE, publish_wait_seconds=1e-9),
    ):
        assert next_action(observed).seconds == SHORTEST_WAIT_SECONDS


def test_when_the_disk_refuses_everything_waits_in_its_place() -> None:
    assert next_action(view(*BOTH, refused(3), head=FOLDED_ONCE, node_wait_seconds=7.0)).seconds == 7.0


def test_a_wait_says_what_is_left() -> None:
    entries = (candidate(1), Unsettled("inbox", "m9", "shards"))
    observed = view(*entries, facts=(discovered(1),), waiting={candidate(1).key: 1.0})
    why = next_action(replace(observed, unreachable=frozenset({"s3"}))).why
    assert why == "1 that back off, 1 that are not complete yet, unreachable registries: s3"


# ---- stopping


@pytest.mark.parametrize("once", [False, True])
def test_asked_to_stop_it_stops_even_before_a_due_publication(once: bool) -> None:
    busy = view(*BOTH, **READY, head=FOLDED_ONCE, node_wait_seconds=3.0, draining=True, once=once)
    assert next_action(busy) == Stop("asked to stop", complete=False)
    assert next_action(view(draining=True, head=PUBLISHED_ONCE)) == Stop("asked to stop", complete=True)


def test_once_does_everything_and_then_stops() -> None:
    assert next_action(view(*BOTH, **READY, once=True)) == Fold(candidate(1))
    assert next_action(view(*BOTH, facts=(folded(1), rejected(2)), once=True)) == Stop("nothing is pending")


def test_once_publishes_the_remainder_before_it_stops() -> None:
    policy = Policy(publish_every_contributions=5)
    assert next_action(view(head=FOLDED_ONCE, policy=policy, once=True)) == Publish(1, 1)
    assert isinstance(next_action(view(head=FOLDED_ONCE, policy=policy)), Wait)


LATE = view(candidate(1), facts=(discovered(1),), waiting={candidate(1).key: 40.0}, once=True)


@pytest.mark.parametrize(
    "observed",
    [
        LATE,
        view(Unsettled("inbox", "m9", "still written", 40.0), once=True),
        view(head=FOLDED_ONCE, publish_wait_seconds=40.0, once=True),
        view(
            head=FOLDED_ONCE,
            policy=Policy(publish_every_contributions=9),
            publish_wait_seconds=40.0,
            once=True,
        ),
        view(node_wait_seconds=40.0, once=True),
        view(unreachable=frozenset({"s3"}), policy=Policy(poll_seconds=40.0), once=True),
    ],
)
def test_once_waits_within_its_patience_and_then_admits_what_is_left(observed: View) -> None:
    assert isinstance(next_action(replace(observed, idle_seconds=20.0)), Wait)
    given_up = next_action(replace(observed, idle_seconds=20.1))
    assert isinstance(given_up, Stop)
    assert not given_up.complete
    assert given_up.why not in ("", "nothing is pending")


def test_once_does_not_wait_for_what_may_never_settle() -> None:
    stopped = next_action(view(Unsettled("inbox", "m9", "shard 2 of 3 is missing"), once=True))
    assert stopped == Stop("done, except for 1 that are not complete yet", complete=False)


def test_once_publishes_even_when_something_is_left() -> None:
    observed = replace(LATE, head=FOLDED_ONCE, policy=Policy(publish_every_contributions=9), idle_seconds=99.0)
    assert next_action(observed) == Publish(1, 1)


# ---- other nodes


def test_what_other_nodes_want_comes_before_folding_unless_it_backs_off() -> None:
    assert next_action(view(*BOTH, **READY, mixing="step")) == Mix("step")
    assert next_action(view(*BOTH, **READY, mixing="step", mix_wait_seconds=3.0)) == Fold(candidate(1))
    assert isinstance(next_action(view(mixing="step", mix_wait_seconds=3.0)), Wait)


def test_a_merge_that_is_not_what_is_published_is_never_published() -> None:
    apart = Policy(publishes=False)
    assert next_action(view(*BOTH, **READY, head=Head(generation=1), policy=apart)) == Fold(candidate(1))
    stop = next_action(view(head=Head(generation=1), policy=apart, once=True))
    assert stop == Stop("nothing is pending")
    assert next_action(view(head=Head(generation=1), policy=apart, draining=True)) == Stop("asked to stop")


# ---- where a selector chooses


def choosing(*, facts: tuple = (), **standing: object) -> View:
    listed = tuple(candidate(number) for number in (1, 2, 3))
    return view(*listed, facts=facts or tuple(map(discovered, (1, 2, 3))), selection=Standing(**standing))


def test_a_selection_is_carried_out_in_this_order() -> None:
    ahead = {"leaving": (digest(1),), "unread": (candidate(3),), "entering": (candidate(2),), "due": True}
    assert next_action(choosing(**ahead)) == Deselect((digest(1),))
    assert next_action(choosing(**ahead | {"leaving": ()})) == Index(candidate(3))
    assert next_action(choosing(**ahead | {"leaving": (), "unread": ()})) == Fold(candidate(2))
    assert next_action(choosing(due=True, crowded=True)) == Select(), "a newcomer gets its chance first"
    assert next_action(choosing(crowded=True, wait_seconds=5.0)) == Evict()
    assert next_action(choosing()) == Wait(10.0, "nothing is pending"), "what is listed is not folded by itself"


@pytest.mark.parametrize(
    "way",
    [{"leaving": (digest(1),)}, {"entering": (candidate(2),)}, {"lacking": (digest(3),)}],
    ids=lambda way: next(iter(way)),
)
def test_a_merge_between_two_selections_is_never_published(way: dict[str, object]) -> None:
    waiting = {key: 5.0 for key in (candidate(number).key for number in (1, 2, 3))}
    for once in (False, True):
        now = replace(choosing(**way, wait_seconds=5.0), head=FOLDED_ONCE, waiting=waiting, once=once)
        assert not isinstance(next_action(now), Publish)
        assert next_action(replace(now, draining=True)) == Stop("asked to stop", complete=False)
    assert isinstance(next_action(replace(choosing(), head=FOLDED_ONCE)), Publish)


def test_a_merge_that_was_reached_is_published_before_the_next_selection() -> None:
    assert isinstance(next_action(replace(choosing(due=True), head=FOLDED_ONCE)), Publish)


def test_a_selection_that_backs_off_waits_and_gives_up_with_once() -> None:
    now = choosing(due=True, wait_seconds=3.0)
    assert next_action(now) == Wait(3.0, "a selection that backs off")
    spent = replace(now, once=True, idle_seconds=59.0)
    assert next_action(spent) == Stop("done, except for a selection that backs off", complete=False)
    assert next_action(replace(now, once=True)) == Wait(3.0, "a selection that backs off")


def test_a_pool_above_its_limit_holds_up_no_version_and_no_selection() -> None:
    assert isinstance(next_action(replace(choosing(crowded=True), head=FOLDED_ONCE)), Publish)
    failing = choosing(crowded=True, evict_wait_seconds=3.0)
    assert next_action(failing) == Wait(3.0, "a pool above its limit")
    assert next_action(replace(failing, once=True)) == Wait(3.0, "a pool above its limit")
    spent = replace(failing, once=True, idle_seconds=59.0)
    assert next_action(spent) == Stop("done, except for a pool above its limit", complete=False)
    assert next_action(replace(failing, draining=True)) == Stop("asked to stop", complete=False)
    assert next_action(choosing(due=True, crowded=True, evict_wait_seconds=3.0)) == Select()


def test_what_was_refused_comes_back_into_the_pool_when_it_is_asked_for() -> None:
    asked = candidate(1, forced=True)
    now = view(asked, facts=(rejected(1),), selection=Standing())
    assert next_action(now) == Discover((asked,))
    assert isinstance(next_action(view(candidate(1), facts=(rejected(1),), selection=Standing())), Wait)
    assert settled_requests(view(asked, facts=(folded(1),), selection=Standing())) == ()


def test_without_a_selector_what_one_left_out_is_folded() -> None:
    assert next_action(view(candidate(1), facts=(deselected(1),))) == Fold(candidate(1))
