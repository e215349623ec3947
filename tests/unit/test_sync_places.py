"""One user's synchronous requests leave places for others', and all together are not more than there are."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest

from die_algorithm.errors import ServerBusy
from die_algorithm.sync_places import SyncPlaces


def taken(places: SyncPlaces, owner: str, stack: ExitStack) -> int:
    """How many places an owner gets until one is refused."""
    for count in range(100):
        try:
            stack.enter_context(places.held_by(owner))
        except ServerBusy:
            return count
    raise AssertionError("no end of places")


@pytest.mark.parametrize(("places", "of_one"), [(1, 1), (2, 1), (3, 1), (4, 2), (32, 16)])
def test_one_owner_gets_half_of_the_places(places: int, of_one: int) -> None:
    with ExitStack() as stack:
        assert taken(SyncPlaces(places), "alice", stack) == of_one


def test_all_owners_together_get_as_many_as_there_are() -> None:
    places = SyncPlaces(5)
    with ExitStack() as stack:
        assert [taken(places, owner, stack) for owner in ("alice", "bob", "carol")] == [2, 2, 1]


def test_each_is_told_whose_requests_are_too_many() -> None:
    places = SyncPlaces(2)
    with places.held_by("alice"):
        with pytest.raises(ServerBusy, match="You have as many"), places.held_by("alice"):
            pass
        with places.held_by("bob"), pytest.raises(ServerBusy, match="Too many"):
            places.held_by("carol").__enter__()


def test_a_place_is_free_again_and_its_owner_forgotten_however_it_was_left() -> None:
    places = SyncPlaces(1)

    def leave(number: int) -> None:
        with suppress(ServerBusy, ZeroDivisionError), places.held_by("alice"):
            _ = 1 // (number % 2)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(leave, range(1000)))
    with places.held_by("bob"):
        pass
    assert not places._held
