"""What every ``Registry`` must do. A test module subclasses this and provides the fixture ``place``."""

from __future__ import annotations

from typing import Protocol

import pytest

from mergenode.errors import TransientError, TransientReason
from mergenode.ports.registry import Registry
from mergenode.types import Candidate, Listing


class Place(Protocol):
    """A registry and a hand on what lies behind it. After ``put`` or ``replace`` it is complete."""

    registry: Registry

    def put(self, name: str) -> None: ...

    def replace(self, name: str) -> None:
        """Other weights under the same name."""
        ...

    def remove(self, name: str) -> None: ...

    def vanish(self) -> None:
        """The place cannot be reached any more."""
        ...

    def come_back(self) -> None:
        """The place is there again, as it was."""
        ...


def names(listing: Listing) -> list[str]:
    return sorted(candidate.name for candidate in listing.candidates)


class RegistryContract:
    def test_an_empty_place_lists_nothing(self, place: Place) -> None:
        assert place.registry.list() == Listing()

    def test_a_complete_checkpoint_is_offered_once(self, place: Place) -> None:
        place.put("one")
        (candidate,) = place.registry.list().candidates
        assert candidate.name == "one"
        assert candidate.revision and candidate.location and candidate.size_bytes > 0

    def test_listing_twice_without_a_change_gives_equal_values(self, place: Place) -> None:
        place.put("one")
        place.put("two")
        first = place.registry.list()
        assert place.registry.list() == first
        assert names(first) == ["one", "two"]

    def test_keys_are_unique_and_can_be_stored(self, place: Place) -> None:
        for name in ("one", "two", "with space", "naïve-名前"):
            place.put(name)
        candidates = place.registry.list().candidates
        assert len({candidate.key for candidate in candidates}) == 4
        for text in (text for candidate in candidates for text in (*candidate.key, candidate.location)):
            assert text.encode("utf-8") and text.isprintable()

    def test_other_weights_under_the_same_name_are_another_revision(self, place: Place) -> None:
        place.put("one")
        (before,) = place.registry.list().candidates
        place.replace("one")
        (after,) = place.registry.list().candidates
        assert after.name == before.name
        assert after.revision != before.revision

    def test_what_was_removed_is_no_longer_offered(self, place: Place) -> None:
        place.put("one")
        place.put("two")
        place.registry.list()
        place.remove("one")
        assert names(place.registry.list()) == ["two"]

    def test_an_unreachable_place_is_an_error_and_never_empty(self, place: Place) -> None:
        place.put("one")
        before = place.registry.list()
        place.vanish()
        for _ in range(2):
            with pytest.raises(TransientError) as caught:
                place.registry.list()
            assert caught.value.reason is TransientReason.REGISTRY_UNREACHABLE
            assert caught.value.message and caught.value.hint
        place.come_back()
        assert place.registry.list().candidates == before.candidates

    def test_settling_is_harmless_twice_and_for_strangers(self, place: Place) -> None:
        place.put("one")
        (candidate,) = place.registry.list().candidates
        place.registry.settled(Candidate("elsewhere", "x", "y", "/z"))
        assert place.registry.list().candidates == (candidate,)
        place.registry.settled(candidate)
        place.registry.settled(candidate)
        place.registry.list()

    def test_closing_twice_is_harmless(self, place: Place) -> None:
        place.registry.close()
        place.registry.close()
