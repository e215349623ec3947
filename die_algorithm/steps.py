"""The five steps of a job: stage in, dispatch, monitor, stage out, clean up.

This is the one place that knows their order. Each step may be repeated: before it makes something it
looks whether a former try already did, by the deterministic name of folder and service, and what is
already gone counts as removed. A step ends with one write of the record; until then nothing has
happened as far as the job is concerned.

::

    ACCEPTED ──stage_in──► STAGED_IN ──dispatch──► DISPATCHED ──observe──► RUNNING
                                                        │                     │
                                                        └──────observe────────┤
                                                                              ▼
    SUCCEEDED | FAILED | DISMISSED ◄──clean_up── (result or failure) ◄──stage_out── STAGING_OUT

A failure in any step is recorded first and cleaned up after, so that a restart between the two
finds it. What may pass (StorageHub, registry or engine away) is waited out for the operator's
patience.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from die_algorithm import faults
from die_algorithm.archive import build_archive
from die_algorithm.credentials import LONGEST_TOKEN, redact
from die_algorithm.errors import (
    ArchiveError,
    DieError,
    ItemUnusable,
    JobFault,
    NoRoom,
    StepInterrupted,
    StorageHubError,
    SwarmError,
)
from die_algorithm.image_reference import ImageReference
from die_algorithm.job_store import JobStore
from die_algorithm.models import (
    EngineFacts,
    Failure,
    FaultClass,
    Folder,
    Job,
    JobState,
    TaskPhase,
    TaskReport,
    UserToken,
    Waiting,
)
from die_algorithm.results import Results
from die_algorithm.service_spec import service_spec
from die_algorithm.settings import Settings
from die_algorithm.states import failure as failure_of
from die_algorithm.storagehub import StorageHub
from die_algorithm.swarm import Swarm
from die_algorithm.terminal_text import clean_text

LOGGER = logging.getLogger(__name__)

#: Seconds within which the tail of a log must be fetched; ``service logs`` can hang (swarm.md).
_LOG_TIMEOUT = 5.0
#: Seconds between two looks whether a job was cancelled, while its result is fetched.
_LOOK_FOR_CANCEL = 1.0
#: A service this young may not have its task yet.
_TASK_APPEARS = timedelta(seconds=10)


class Steps:
    """The steps, with what they need.

    Args:
        settings: the operator's.
        store: the jobs' records.
        storagehub: the users' workspaces.
        swarm: where containers run.
        results: where zips and logs are published.
    """

    def __init__(
        self,
        settings: Settings,
        store: JobStore,
        storagehub: StorageHub,
        swarm: Swarm,
        results: Results,
    ) -> None:
        self._settings = settings
        self._store = store
        self._storagehub = storagehub
        self._swarm = swarm
        self._results = results
        self._facts: EngineFacts | None = None
        self._interrupted = threading.Event()

    def interrupt(self) -> None:
        """Break off all transfers, because the service stops."""
        self._interrupted.set()

    def advance(self, job: Job) -> Job:
        """Take the next step of a job that the Swarm does not have to be watched for.

        Returns:
            The job as recorded afterwards.

        Raises:
            StoreError: the record could not be written; the step will be repeated.
        """
        return self._guarded(job, self._next_step(job))

    def observe(self, job: Job, report: TaskReport | None) -> Job:
        """Take what one look at the Swarm told about a dispatched job.

        Args:
            job: a dispatched or running job.
            report: its task's, or None if the job is lost, see :meth:`is_lost`.
        """
        return self._guarded(job, lambda job: self._monitor(job, report))

    def wait_out(self, job: Job, error: DieError) -> Job:
        """Note that a job waits for something that is away, or give it up after the patience."""
        if job.waiting and self._patience_over(job.waiting):
            return self.fail(job, faults.given_up(error, job.waiting.since))
        if job.waiting:
            return job
        LOGGER.warning("Job %s waits: %s", job.id, error)
        return self._store.save(
            dataclasses.replace(
                job, waiting=Waiting(reason=faults.waiting_for(error), since=datetime.now(UTC))
            )
        )

    def is_overdue(self, job: Job) -> bool:
        """Whether a dispatched job is past the deadline of its state."""
        deadline = (
            self._settings.run_deadline
            if job.state is JobState.RUNNING
            else self._settings.start_deadline
        )
        return datetime.now(UTC) - job.updated_at > deadline

    def is_lost(self, job: Job, *, has_service: bool) -> bool:
        """Whether a dispatched job without a task will never have one."""
        if has_service:
            return self.is_overdue(job)
        return datetime.now(UTC) - job.updated_at > _TASK_APPEARS

    def fail(self, job: Job, failure: Failure) -> Job:
        """Record that a job cannot succeed any more; its clean-up comes next."""
        LOGGER.warning("Job %s fails: %s: %s", job.id, failure.fault_class.value, failure.text)
        return self._store.save(dataclasses.replace(job, failure=failure, waiting=None))

    def _patience_over(self, waiting: Waiting) -> bool:
        return datetime.now(UTC) - waiting.since > self._settings.outage_patience

    def _next_step(self, job: Job) -> Callable[[Job], Job]:
        if job.result or job.failure or job.cancel_requested:
            return self._clean_up
        return {
            JobState.ACCEPTED: self._stage_in,
            JobState.STAGED_IN: self._dispatch,
            JobState.STAGING_OUT: self._stage_out,
        }[job.state]

    def _guarded(self, job: Job, step: Callable[[Job], Job]) -> Job:
        """Run a step and turn its errors into what they mean for the job."""
        try:
            return step(job)
        except faults.PASSING as error:
            self._facts = None
            return self.wait_out(job, error)
        except (StorageHubError, SwarmError, ArchiveError, JobFault) as error:
            LOGGER.warning("Job %s: %s: %s", job.id, type(error).__name__, error)
            return self.fail(job, faults.failure(error))

    # -- stage in

    def _stage_in(self, job: Job) -> Job:
        token = _token(job)
        root = self._storagehub.workspace_root(token)
        existing = self._storagehub.find_child(token, root.id, job.folder_name)
        if existing is None:
            folder_id = self._storagehub.create_folder(
                token, root.id, job.folder_name, f"Results of {job.request.image}, job {job.id}"
            )
        else:
            folder_id = existing.id
        folder = Folder(
            id=folder_id, name=job.folder_name, path=f"{root.path.rstrip('/')}/{job.folder_name}"
        )
        return self._reach(job, JobState.STAGED_IN, folder=folder)

    # -- dispatch

    def _dispatch(self, job: Job) -> Job:
        image = ImageReference.parse(job.request.image)
        if job.digest is None:
            # Recorded before the service exists, so that a repeated step runs the same image.
            digest = self._swarm.resolve_digest(image)
            return self._store.save(dataclasses.replace(job, digest=digest, waiting=None))
        # Another thread may forget them at any time, because the engine was away.
        facts = self._facts = self._facts or self._swarm.facts()
        spec = service_spec(job, self._settings, image=image.pinned(job.digest), engine=facts)
        service_id = self._swarm.create_service(spec)
        return self._reach(job, JobState.DISPATCHED, service_id=service_id)

    # -- monitor

    def _monitor(self, job: Job, report: TaskReport | None) -> Job:
        if report is None:
            raise JobFault(
                FaultClass.SYSTEM,
                "The job's container has disappeared from the Swarm before it ended. Submit the job "
                "again; if it happens again, tell the operator.",
            )
        if report.phase in (TaskPhase.STARTING, TaskPhase.RUNNING):
            return self._going_on(job, report)
        return self._ended(job, report)

    def _going_on(self, job: Job, report: TaskReport) -> Job:
        if report.phase is TaskPhase.RUNNING and job.state is JobState.DISPATCHED:
            return self._reach(job, JobState.RUNNING)
        if job.waiting:
            return self._store.save(dataclasses.replace(job, waiting=None))
        if not self.is_overdue(job):
            return job
        if job.state is JobState.RUNNING:
            return self._over(job, report, faults.ran_too_long(self._settings.run_deadline))
        return self._over(job, report, faults.never_started(report, self._settings.start_deadline))

    def _ended(self, job: Job, report: TaskReport) -> Job:
        oom, cut_off = self._circumstances(report)
        log = self._log(job, report)
        failure = failure_of(
            report,
            command=job.request.command[0],
            memory_limit=self._settings.memory_limit,
            oom_killed=oom,
            log_tail=log,
            cut_off=cut_off,
        )
        return self._over(job, report, failure, log)

    def _circumstances(self, report: TaskReport) -> tuple[bool | None, bool | None]:
        """Whether memory or a restart of the engine ended a container, as far as anybody knows."""
        if report.phase is not TaskPhase.FAILED or not report.container_id:
            return None, None
        try:
            return (
                self._swarm.oom_killed(report.container_id),
                self._swarm.cut_off(report),
            )
        except SwarmError as error:
            LOGGER.warning("Job %s: nobody knows why it ended: %s", report.job_id, error)
            return None, None

    def _over(
        self, job: Job, report: TaskReport, failure: Failure | None, log: str | None = None
    ) -> Job:
        """Record the end of the task before anything of it is removed."""
        log = self._log(job, report) if log is None else log
        self._publish_log(job, log)
        LOGGER.info(
            "Job %s: task ended as %s, exit code %s.", job.id, report.state, report.exit_code
        )
        return self._reach(
            job, JobState.STAGING_OUT, failure=failure, exit_code=report.exit_code, log_tail=log
        )

    def _log(self, job: Job, report: TaskReport) -> str:
        if job.token is None:
            return ""  # what cannot be masked is not shown
        # A token that lies across the cut would escape the mask, so more is fetched than is kept.
        raw = self._swarm.log_tail(
            report.service_id,
            limit=self._settings.log_tail + LONGEST_TOKEN,
            timeout=_LOG_TIMEOUT,
        )
        return redact(clean_text(raw), job.token)[-self._settings.log_tail :]

    def _publish_log(self, job: Job, log: str) -> None:
        try:
            self._results.write_log(job, log)
        except OSError:
            # The record holds the log too; a full disk must not keep the job from its end.
            LOGGER.exception("Job %s: the log could not be published.", job.id)

    # -- stage out

    def _stage_out(self, job: Job) -> Job:
        token, folder = _token(job), _folder(job)
        try:
            destination = self._results.new_zip_path(job)
        except OSError as error:
            raise NoRoom("The result cannot be written.") from error
        result = build_archive(
            destination,
            top=folder.name,
            listing=lambda: self._storagehub.walk(
                token, folder.id, max_items=self._settings.max_result_files
            ),
            folder_zip=lambda: self._transfer(job, token, folder.id),
            single_file=lambda item: self._transfer(job, token, item.id),
            max_size=self._settings.max_result_size,
            max_files=self._settings.max_result_files,
        )
        return self._store.save(dataclasses.replace(job, result=result, waiting=None))

    @contextmanager
    def _transfer(self, job: Job, token: UserToken, item_id: str) -> Iterator[Iterator[bytes]]:
        """Download, and break off when the service stops or the job is cancelled."""
        with self._storagehub.download(token, item_id) as download:
            yield self._interruptible(job, download)

    def _interruptible(self, job: Job, chunks: Iterable[bytes]) -> Iterator[bytes]:
        look = time.monotonic() + _LOOK_FOR_CANCEL
        for chunk in chunks:
            if self._interrupted.is_set():
                raise StepInterrupted("the service stops")
            if time.monotonic() > look:
                look = time.monotonic() + _LOOK_FOR_CANCEL
                if (fresh := self._store.get(job.id)) and fresh.cancel_requested:
                    raise StepInterrupted("the job was cancelled")
            yield chunk

    # -- clean up

    def _clean_up(self, job: Job) -> Job:
        """Remove what the job made on Swarm and StorageHub, and only then end it."""
        try:
            self._swarm.remove_service(job.service_name)
        except SwarmError as error:
            if job.waiting is None or not self._patience_over(job.waiting):
                return self.wait_out(job, error)
            # The job has waited long enough for its end; the worker sweeps the service later.
            LOGGER.error("Job %s: its service could not be removed: %s", job.id, error)  # noqa: TRY400
        kept = not self._remove_folder(job)
        if job.result:
            state = JobState.SUCCEEDED
        elif job.failure:
            state = JobState.FAILED
        else:
            state = JobState.DISMISSED
        return self._reach(job, state, token=None, folder_kept=kept)

    def _remove_folder(self, job: Job) -> bool:
        """Remove the temp folder, unless a failed job left something in it.

        Returns:
            Whether it is gone. StorageHub being away does not keep a job from its end: the folder is
            then named in the outcome instead.
        """
        if job.token is None:
            return job.folder is None
        try:
            folder_id = job.folder.id if job.folder else self._find_folder(job, job.token)
            if folder_id is None:
                return True
            if job.failure and self._storagehub.walk(job.token, folder_id, max_items=1):
                return False
            self._storagehub.delete(job.token, folder_id)
        except ItemUnusable:
            return True  # a former try has removed it, or the user has
        except StorageHubError as error:
            LOGGER.warning("Job %s: its folder could not be removed: %s", job.id, error)
            return False
        return True

    def _find_folder(self, job: Job, token: UserToken) -> str | None:
        """Find the folder of a job that died between making and recording it."""
        root = self._storagehub.workspace_root(token)
        found = self._storagehub.find_child(token, root.id, job.folder_name)
        return found.id if found else None

    # -- records

    def _reach(self, job: Job, state: JobState, **changes: object) -> Job:
        reached = {**job.reached, state: datetime.now(UTC)}
        saved = self._store.save(
            dataclasses.replace(job, state=state, reached=reached, waiting=None, **changes)  # type: ignore[arg-type]
        )
        LOGGER.info("Job %s: %s.", job.id, state.value)
        return saved


def _token(job: Job) -> UserToken:
    if job.token is None:
        raise JobFault(
            FaultClass.SYSTEM,
            "The service can no longer read the user token of this job. Submit the job again.",
        )
    return job.token


def _folder(job: Job) -> Folder:
    if job.folder is None:
        raise JobFault(FaultClass.SYSTEM, "The job has lost its temp folder. Submit it again.")
    return job.folder
