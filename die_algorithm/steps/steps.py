"""The order of the steps, and what their errors mean for a job."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container

from die_algorithm import faults
from die_algorithm.container_rules import ContainerRules
from die_algorithm.errors import (
    ArchiveError,
    DieError,
    ImageError,
    JobFault,
    LinkError,
    StorageHubError,
    SwarmError,
    TokenRejected,
)
from die_algorithm.fail_points import FailPoints
from die_algorithm.images import Images
from die_algorithm.job_store import JobStore
from die_algorithm.models import Failure, Job, JobSecret, JobService, JobState, TaskReport
from die_algorithm.public_links import PublicLinks
from die_algorithm.results import Results
from die_algorithm.settings import Settings
from die_algorithm.steps.clean_up import CleanUp
from die_algorithm.steps.dispatch import Dispatch
from die_algorithm.steps.ledger import Ledger
from die_algorithm.steps.monitor import Monitor
from die_algorithm.steps.recovery import Recovery
from die_algorithm.steps.stage_in import StageIn
from die_algorithm.steps.stage_out import StageOut
from die_algorithm.steps.transfers import Transfers
from die_algorithm.steps.workspace_copy import WorkspaceCopy
from die_algorithm.stopwatches import Stopwatches
from die_algorithm.storagehub import StorageHub
from die_algorithm.swarm import Swarm

LOGGER = logging.getLogger(__name__)


class Steps:
    """The steps, with what they need.

    Every method that returns a job returns it as recorded afterwards, and may raise StoreError: the
    record could not be written, and the step is to be repeated.

    Args:
        settings: the operator's.
        store: the jobs' records.
        storagehub: the users' workspaces.
        swarm: where containers run.
        results: where zips and logs are published.
        rules: what containers may do.
        public_links: files that are in no workspace.
        images: which images there are, and may be run.
        fail_points: where to die on purpose.
        stopwatches: count what has passed.
    """

    def __init__(
        self,
        settings: Settings,
        store: JobStore,
        storagehub: StorageHub,
        swarm: Swarm,
        results: Results,
        *,
        rules: ContainerRules,
        public_links: PublicLinks,
        images: Images,
        fail_points: FailPoints,
        stopwatches: Stopwatches,
    ) -> None:
        self._ledger = Ledger(settings, store, fail_points, stopwatches)
        self._recovery = Recovery(settings, store, storagehub)
        self._transfers = Transfers(self._ledger)
        self._stage_in = StageIn(
            settings,
            store,
            self._ledger,
            storagehub,
            public_links=public_links,
            transfers=self._transfers,
        )
        self._dispatch = Dispatch(settings, self._ledger, swarm, rules=rules, images=images)
        self._monitor = Monitor(settings, rules, self._ledger, swarm, results)
        self._stage_out = StageOut(settings, self._ledger, storagehub, results, self._transfers)
        self._workspace_copy = WorkspaceCopy(self._ledger, storagehub, results, self._transfers)
        self._clean_up = CleanUp(
            settings,
            self._ledger,
            storagehub,
            swarm,
            results,
            search_folders=self._recovery.search_folders,
        )

    def interrupt(self) -> None:
        """Break off all transfers, because the service stops."""
        self._transfers.interrupt()

    def advance(self, job: Job) -> Job:
        """Take the next step of a job that the Swarm does not have to be watched for."""
        return self._guarded(job, self._next_step(job))

    def start(self, job: Job) -> Job:
        """Start the container of a dispatched job, unless that was done."""
        return self._guarded(job, self._dispatch.start)

    def observe(self, job: Job, report: TaskReport) -> Job:
        """Record what one look at the Swarm told about a dispatched job's task."""
        return self._guarded(job, lambda job: self._monitor.run(job, report))

    def overflow(self, job: Job, report: TaskReport) -> Job:
        """Record that a running job's container has written more than it may."""
        return self._guarded(job, lambda job: self._monitor.overflow(job, report))

    def lose(self, job: Job) -> Job:
        """Record that a dispatched job is lost, see :meth:`is_lost`."""
        return self._guarded(job, self._monitor.lost)

    def forget_engine(self) -> None:
        """The engine was away, and may come back as another one."""
        self._dispatch.forget_engine()

    def wait_out(self, job: Job, error: DieError) -> Job:
        """Note that a job waits for something that is away, or give it up after the patience."""
        return self._ledger.wait_out(job, error)

    def fail(self, job: Job, failure: Failure) -> Job:
        """Record that a job cannot succeed any more; its clean-up comes next."""
        return self._ledger.fail(job, failure)

    def skip_copy(self, job: Job) -> Job:
        """Record that a job's result is not saved in its owner's workspace."""
        return self._ledger.write(job, copy_pending=False, waiting=None)

    def keep_time_of(self, job_ids: Container[str]) -> None:
        """Forget what is kept in memory of other jobs, because they have ended."""
        self._ledger.keep_time_of(job_ids)

    def is_overdue(self, job: Job) -> bool:
        """Whether a dispatched job is past a deadline."""
        return self._ledger.is_overdue(job)

    def is_lost(self, job: Job, *, has_service: bool) -> bool:
        """Whether a dispatched job without a task will never have one."""
        return self._monitor.is_lost(job, has_service=has_service)

    def has_stopped(self, job: Job, *, task_is_listed: bool) -> bool:
        """Whether a job that was stopped can be ended."""
        return self._clean_up.has_stopped(job, task_is_listed=task_is_listed)

    def is_ours(self, service: JobService | JobSecret) -> bool:
        """Whether this installation has made a service or secret."""
        return self._recovery.is_ours(service)

    def rebuild(self, service: JobService) -> Job | None:
        """Make a job's record from its service; None if the service does not tell enough."""
        return self._recovery.rebuild(service)

    def expire(self, job: Job) -> None:
        """Remove what an ended job need not have any more.

        Raises:
            OSError: a file cannot be removed.
        """
        self._clean_up.expire(job)

    def _next_step(self, job: Job) -> Callable[[Job], Job]:
        if job.copy_pending and not job.cancel_requested:
            return self._workspace_copy.run
        if job.result or job.failure or job.cancel_requested:
            return self._clean_up.run
        if job.state is not JobState.STAGING_OUT and self._ledger.is_past_total(job):
            return self._give_up
        if job.state is not JobState.STAGING_OUT and self._ledger.has_expired_token(job):
            return lambda job: self._ledger.fail(job, faults.token_expired(job.token_expires_at))
        if not job.is_admitted:
            # It was handed over because it has waited too long, by a clock that was set forward.
            return lambda job: job
        return {
            JobState.ACCEPTED: self._stage_in.run,
            JobState.STAGED_IN: self._dispatch.run,
            JobState.STAGING_OUT: self._stage_out.run,
        }[job.state]

    def _give_up(self, job: Job) -> Job:
        return self._ledger.fail(job, faults.took_too_long(self._ledger.deadlines(job).total))

    def _guarded(self, job: Job, step: Callable[[Job], Job]) -> Job:
        """Run a step and turn its errors into what they mean for the job."""
        try:
            return step(job)
        except faults.PASSING as error:
            if isinstance(error, SwarmError):
                self.forget_engine()
            return self.wait_out(job, error)
        except (
            StorageHubError,
            LinkError,
            ImageError,
            SwarmError,
            ArchiveError,
            JobFault,
        ) as error:
            LOGGER.warning("Job %s: %s: %s", job.id, type(error).__name__, error)
            if isinstance(error, TokenRejected) and self._ledger.has_expired_token(job):
                return self.fail(job, faults.token_expired(job.token_expires_at))
            return self.fail(job, faults.failure(error))
