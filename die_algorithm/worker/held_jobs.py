"""Whose jobs they are: a worker's lease, and what it has read of the jobs that it holds by it."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from datetime import timedelta

from die_algorithm.errors import StaleJob, StoreError
from die_algorithm.job_store import JobStore
from die_algorithm.models import Job
from die_algorithm.worker_place import WorkerPlace

LOGGER = logging.getLogger(__name__)

#: Seconds between two looks at the queue.
_ADMIT_EVERY = 0.5
#: Seconds between two searches for jobs to take over, while there is a queue to look at anyway.
_CLAIM_EVERY = 2.0


class HeldJobs:
    """The jobs that a worker holds. Its loop keeps the lease; its threads note what they have changed.

    Every method that asks the store may raise StoreError.

    Args:
        store: the jobs' records.
        place: names the worker, once it is taken.
        lease: how long the worker may be silent before another one takes its jobs over.
    """

    def __init__(self, store: JobStore, place: WorkerPlace, lease: timedelta) -> None:
        self._store = store
        self._place = place
        self._lease = lease
        self._known: dict[str, Job] = {}
        self._trouble = ""
        self._openings = 0
        self._renew_at = self._admit_at = self._claim_at = 0.0

    # -- the lease

    def keep_lease(self) -> bool:
        """Renew the lease when it is time to.

        Returns:
            Whether it is a new one: nothing that was known of the jobs holds any more.
        """
        now = time.monotonic()
        openings = self._store.openings
        is_new = openings != self._openings
        if now < self._renew_at and not is_new:
            return False
        leases = self._store.leases
        # Unless the database is another one, it has run out: others may have the jobs by now.
        begins = is_new or not leases.renew(self._place.name, self._lease, self._trouble)
        if begins:
            LOGGER.info("The worker begins a lease.")
            leases.take(self._place.name, self._lease, self._trouble)
            self._known = {}
            self._admit_at = self._claim_at = now
        self._openings = openings
        self._renew_at = now + self._lease.total_seconds() / 3
        return begins

    def end_lease(self) -> None:
        """Let other workers take the jobs now, not when the lease has run out."""
        self._store.leases.end(self._place.name)

    @property
    def trouble(self) -> str:
        """Why the worker cannot work at the moment, as its lease tells the others; empty if it can."""
        return self._trouble

    @trouble.setter
    def trouble(self, trouble: str) -> None:
        self._trouble, self._renew_at = trouble, 0.0

    # -- taking jobs

    def take_more(self) -> None:
        """Take jobs from the queue, and those that nobody holds any more, when it is time to."""
        now = time.monotonic()
        if now >= self._admit_at:
            self._admit_at = now + _ADMIT_EVERY
            self._store.queue.admit(self._place.name)
        if now >= self._claim_at:
            self._claim_at = now + _CLAIM_EVERY
            if taken := self._store.leases.claim(self._place.name):
                LOGGER.info("The worker has taken over %d jobs.", taken)

    def hurry(self) -> None:
        """Look for new jobs in the next turn, and for those cancelled while they waited."""
        self._claim_at = self._admit_at = 0.0

    # -- what is known of them

    @property
    def known(self) -> Mapping[str, Job]:
        """The jobs as they were last read or written, by their ids. Other threads change them."""
        return self._known

    def read(self) -> list[Job]:
        """All jobs that the worker holds, as they are recorded now."""
        jobs = self._store.held(self._place.name, self._known)
        self._known = {job.id: job for job in jobs}
        return jobs

    def note(self, job: Job) -> None:
        """Note what was just written: the next turn need not read it."""
        self._known[job.id] = job
        if job.state.is_final:
            self._admit_at = 0.0  # there is a free place

    def latest(self, job: Job) -> Job | None:
        """The job, unless what is known of it is older than its last step."""
        fresh = self._store.get(job.id)
        if fresh and (fresh.version, fresh.fence) == (job.version, job.fence):
            return fresh
        return None

    def still_held(self, job: Job) -> Job:
        """The job as it is recorded now; with another one's fence it would be no more ours to change.

        Raises:
            StaleJob: it has gone to another worker.
        """
        fresh = self._store.get(job.id)
        if fresh is None or fresh.fence != job.fence:
            raise StaleJob(f"The job {job.id} has gone to another worker.")
        return fresh


def log_store_error(what: str, error: StoreError) -> None:
    """Log what the database has kept from being done; that is repeated, so a line each will do."""
    LOGGER.error("%s, because the jobs' database cannot be used: %s", what, error.reason)
