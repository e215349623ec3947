"""What takes long and comes in pieces or pages, and how it is broken off."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta

from die_algorithm.errors import StepInterrupted, StoreUnavailable
from die_algorithm.models import Job
from die_algorithm.steps.ledger import Ledger

#: Seconds between two looks whether a transfer is wanted still.
_LOOK = 1.0


class Transfers:
    """The transfers of all jobs.

    Args:
        ledger: the jobs' records.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._interrupted = threading.Event()

    def interrupt(self) -> None:
        """Break off all of them, because the service stops."""
        self._interrupted.set()

    def interruptible(self, job: Job, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Pass pieces on until the service stops, or the job is cancelled or another worker's.

        Raises:
            StepInterrupted: that has happened.
        """
        check = self.interruption(job)
        for chunk in chunks:
            check()
            yield chunk

    def interruption(self, job: Job) -> Callable[[], None]:
        """A check to be made between two pieces, as often as one likes.

        It raises StepInterrupted when the service stops, the job is cancelled, or it is no longer this
        worker's. While the jobs' database is away, the transfer goes on.
        """
        began = time.monotonic()
        look = began + _LOOK

        def check() -> None:
            nonlocal look
            if self._interrupted.is_set():
                raise StepInterrupted("the service stops")
            if time.monotonic() > look:
                look = time.monotonic() + _LOOK
                self._check_wanted(job)
                self._ledger.goes_well(job, timedelta(seconds=time.monotonic() - began))

        return check

    def _check_wanted(self, job: Job) -> None:
        try:
            fresh = self._ledger.held(job)
        except StoreUnavailable:
            return  # what has come so far would be lost, and the transfer needs no database
        if fresh.cancel_requested:
            raise StepInterrupted("the job was cancelled")
