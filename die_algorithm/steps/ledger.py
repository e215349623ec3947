"""The one way in which a step ends: a write of the job's record."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Container
from datetime import UTC, datetime, timedelta
from typing import TypedDict, Unpack

from die_algorithm import faults
from die_algorithm.credentials import has_expired, holds, redact
from die_algorithm.errors import DieError, DiskTrouble, StepInterrupted
from die_algorithm.fail_points import FailPoints
from die_algorithm.job_store import JobStore
from die_algorithm.models import (
    Deadlines,
    Expiry,
    Failure,
    Folder,
    Job,
    JobState,
    ResultFile,
    UserToken,
    Waiting,
)
from die_algorithm.settings import Settings
from die_algorithm.stopwatches import Stopwatches

LOGGER = logging.getLogger(__name__)


#: Outages of a job that count as past when the next begins; who breaks each long transfer off has as many.
_MOST_PASSED = 5


class JobChanges(TypedDict, total=False):
    """What steps write of a job; its state changes by :meth:`Ledger.reach` alone."""

    token: UserToken | None
    folder: Folder | None
    input_folder: Folder | None
    staged_item: str | None
    digest: str | None
    service_id: str | None
    exit_code: int | None
    failure: Failure | None
    log_tail: str
    result: ResultFile | None
    copy_pending: bool
    saved_as: str
    waiting: Waiting | None
    folder_kept: bool
    token_file: bool
    task_over: bool
    stopped_at: datetime | None
    expiry: Expiry | None


class Ledger:
    """Writes jobs' records, and knows how long their states have lasted.

    Every writing method may raise StaleJob, if another worker holds the job by now, and
    StoreUnavailable.

    Args:
        settings: the operator's.
        store: the jobs' records.
        fail_points: where to die on purpose.
        stopwatches: count what has passed.
    """

    def __init__(
        self,
        settings: Settings,
        store: JobStore,
        fail_points: FailPoints,
        stopwatches: Stopwatches,
    ) -> None:
        self.fail_points = fail_points
        self._settings = settings
        self._store = store
        self._stopwatches = stopwatches
        #: Of jobs that still wait by their records: when the last trouble began that is over, and how many
        #: of the job's were before it.
        self._passed: dict[str, tuple[datetime, int]] = {}

    def reach(self, job: Job, state: JobState, **changes: Unpack[JobChanges]) -> Job:
        """Record that a job has got into another state."""
        reached = {**job.reached, state: datetime.now(UTC)}
        there = dataclasses.replace(job, state=state, reached=reached, waiting=None)
        saved = self.write(there, **changes)
        LOGGER.info("Job %s: %s.", job.id, state.value)
        return saved

    def take_back(self, job: Job) -> Job:
        """Record that a dispatched job of which nothing has run is to be dispatched once more.

        Its service stays in the record, and says that there was one.
        """
        reached = dict(job.reached)
        del reached[JobState.DISPATCHED]
        before = dataclasses.replace(job, state=JobState.STAGED_IN, reached=reached)
        return self.write(before, waiting=None)

    def write(self, job: Job, **changes: Unpack[JobChanges]) -> Job:
        """Record other changes; what of them comes from outside, without the user token.

        Raises:
            StaleJob: also if the job has got an outcome, but was cancelled before: whoever asked for that
                may have been told that it is dismissed.
        """
        changed = dataclasses.replace(job, **changes)
        has_outcome = changed.result or changed.failure
        is_new = bool(has_outcome and not (job.result or job.failure))
        written = _without_token(changed, job.token) if job.token else changed
        return self._store.save(written, unless_cancelled=is_new)

    def fail(self, job: Job, failure: Failure) -> Job:
        """Record that a job cannot succeed any more; its clean-up comes next."""
        LOGGER.warning("Job %s fails: %s: %s", job.id, failure.fault_class.value, failure.text)
        return self.write(job, failure=failure, waiting=None)

    def wait_out(self, job: Job, error: DieError) -> Job:
        """Note that a job waits for something that is away, or give it up after the patience."""
        ends = job.failure or job.result or job.cancel_requested
        former = self._trouble(job)
        if former and not ends and self.patience_is_over(job):
            return self.fail(job, faults.given_up(error, former.since))
        if former:
            return job
        LOGGER.warning("Job %s waits: %s", job.id, error)
        waiting = Waiting(
            reason=faults.waiting_for(error),
            since=datetime.now(UTC),
            is_for_disk=isinstance(error, DiskTrouble),
        )
        return self.write(job, waiting=waiting)

    def goes_well(self, job: Job, lasted: timedelta) -> None:
        """Take that what the job waits for has worked for so long, without a write of the record.

        After as long as the job may wait, the next trouble is another one. Not at once: who breaks each
        transfer off would be tried for ever. Nor with a disk: it is written to the end before it fails.
        """
        if job.waiting is None or job.waiting.is_for_disk:
            return
        since, before = self._passed.get(job.id, (None, -1))
        is_another = since != job.waiting.since and before + 1 < _MOST_PASSED
        if is_another and lasted > self._settings.outage_patience:
            self._passed[job.id] = (job.waiting.since, before + 1)

    def _trouble(self, job: Job) -> Waiting | None:
        """What the job waits for, unless that is over."""
        if job.waiting is None:
            return None
        since, _ = self._passed.get(job.id, (None, 0))
        return None if since == job.waiting.since else job.waiting

    def forget(self, job: Job) -> None:
        """Remove the record of an ended job."""
        self._store.remove(job)
        LOGGER.info("Job %s: its record has expired.", job.id)

    def fresh(self, job: Job) -> Job | None:
        """The job as it is recorded now."""
        return self._store.get(job.id)

    def held(self, job: Job) -> Job:
        """The job as it is recorded now, which is this worker's still.

        Raises:
            StepInterrupted: another one has it by now.
        """
        fresh = self.fresh(job)
        if fresh is None or fresh.fence != job.fence:
            raise StepInterrupted("the job has gone to another worker")
        return fresh

    # -- time

    def keep_time_of(self, job_ids: Container[str]) -> None:
        """Forget how long other jobs' states have lasted."""
        self._stopwatches.keep_only(job_ids)
        for job_id in list(self._passed):
            if job_id not in job_ids:
                self._passed.pop(job_id, None)

    def deadlines(self, job: Job) -> Deadlines:
        """What the job may take."""
        return job.deadlines or self._settings.deadlines

    def patience_is_over(self, job: Job) -> bool:
        """Whether the job has waited for something that is away as long as it may."""
        trouble = self._trouble(job)
        if trouble is None:
            return False
        waited = self._stopwatches.elapsed(job.id, "waiting", trouble.since)
        return waited > self._settings.outage_patience

    def in_state(self, job: Job) -> timedelta:
        """How long the job has been in its state."""
        return self._stopwatches.elapsed(job.id, "state", job.updated_at)

    def since_stop(self, job: Job) -> timedelta:
        """How long the job's container has been asked to end."""
        if job.stopped_at is None:
            return timedelta(0)
        return self._stopwatches.elapsed(job.id, "stopped", job.stopped_at)

    def is_past_total(self, job: Job) -> bool:
        """Whether the job's program should have ended by now."""
        total = self._stopwatches.elapsed(job.id, "accepted", job.accepted_at)
        return total > self.deadlines(job).total

    def has_expired_token(self, job: Job) -> bool:
        """Whether the job's user token says that it opens nothing any more."""
        return has_expired(job.token_expires_at, datetime.now(UTC))

    def is_overdue(self, job: Job) -> bool:
        """Whether a dispatched job is past a deadline."""
        deadlines = self.deadlines(job)
        limit = deadlines.run if job.state is JobState.RUNNING else deadlines.start
        return self.in_state(job) > limit or self.is_past_total(job)


def _without_token(job: Job, token: UserToken) -> Job:
    """The job as others may see it: engines, registries and file names may repeat what they were told."""

    def masked(text: str) -> str:
        return redact(text, token)

    failure, result = job.failure, job.result
    if failure is not None:
        failure = dataclasses.replace(failure, text=masked(failure.text))
    if result is not None:
        result = dataclasses.replace(
            result,
            notes=tuple(map(masked, result.notes)),
            # Under another name it would not be found.
            single_files=tuple(f for f in result.single_files if not holds(f.path, token)),
        )
    folder, input_folder = (
        each and dataclasses.replace(each, name=masked(each.name), path=masked(each.path))
        for each in (job.folder, job.input_folder)
    )
    return dataclasses.replace(
        job, failure=failure, result=result, folder=folder, input_folder=input_folder
    )
