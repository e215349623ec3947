"""The places of those whose requests are held open until their jobs have ended, counted by owner."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from die_algorithm.errors import ServerBusy


class SyncPlaces:
    """How many synchronous requests may wait at once: half of the places are the most for one owner.

    So nobody is kept out by one other user. It may be used by several threads.

    Args:
        places: for all owners together.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._places_of_one = max(1, places // 2)
        self._held: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def held_by(self, owner: str) -> Iterator[None]:
        """Hold one of the places.

        Raises:
            ServerBusy: none is free, or the owner holds as many as one may.
        """
        self._take(owner)
        try:
            yield
        finally:
            self._give_back(owner)

    def _take(self, owner: str) -> None:
        with self._lock:
            if self._held[owner] >= self._places_of_one:
                raise _busy(
                    f"You have as many synchronous requests under way as one user may, {self._places_of_one}."
                )
            if self._held.total() >= self._places:
                raise _busy("Too many synchronous requests are under way.")
            self._held[owner] += 1

    def _give_back(self, owner: str) -> None:
        with self._lock:
            self._held[owner] -= 1
            # Or there would be one for each who has ever asked.
            if not self._held[owner]:
                del self._held[owner]


def _busy(why: str) -> ServerBusy:
    return ServerBusy(
        f"{why} Nothing was started; try again later, or ask for an asynchronous job "
        "(storeExecuteResponse=true and status=true, or in WPS 2.0 mode='async')."
    )
