"""How many requests may wait for what others answer: one who hangs must not silence the service."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from die_algorithm.errors import ServiceUnavailable

#: Threads that never wait for StorageHub, so that a StorageHub that hangs silences nothing else; and
#: how many may wait for it in any case.
_FREE_THREADS = 4
_LEAST = 2
#: How many may wait for hosts of public links.
_LINK_CHECKS = 3
#: Seconds to wait for one of these places.
_PATIENCE = 2.0


class Questions:
    """The places of those who wait for answers.

    Args:
        threads: that answer requests and do not wait for jobs.
    """

    def __init__(self, threads: int) -> None:
        self._storagehub = threading.BoundedSemaphore(
            max(_LEAST, threads - _FREE_THREADS - _LINK_CHECKS)
        )
        # Their own: a host that hangs must not take the places of those who ask StorageHub.
        self._links = threading.BoundedSemaphore(_LINK_CHECKS)

    @contextmanager
    def to_storagehub(self) -> Iterator[None]:
        """Hold one of the places of those who wait for StorageHub.

        Raises:
            ServiceUnavailable: all are taken, because it hangs.
        """
        with _place(self._storagehub, storagehub_away()):
            yield

    @contextmanager
    def to_link_host(self) -> Iterator[None]:
        """Hold one of the places of those who wait for a public link's host.

        Raises:
            ServiceUnavailable: all are taken.
        """
        busy = ServiceUnavailable(
            "Too many public links are being checked at the moment. Nothing was started; try again in a "
            "minute."
        )
        with _place(self._links, busy):
            yield


@contextmanager
def _place(places: threading.BoundedSemaphore, refusal: ServiceUnavailable) -> Iterator[None]:
    if not places.acquire(timeout=_PATIENCE):
        raise refusal
    try:
        yield
    finally:
        places.release()


def storagehub_away() -> ServiceUnavailable:
    """What a client is told when StorageHub cannot be asked."""
    return ServiceUnavailable(
        "StorageHub does not answer at the moment, so the request cannot be checked. Nothing was "
        "started or changed; try again in a minute."
    )
