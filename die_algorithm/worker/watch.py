"""The watch on running jobs: looks at the Swarm for all of them at once."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from die_algorithm.errors import StoreError, SwarmError
from die_algorithm.janitor import Janitor
from die_algorithm.job_in_hand import job_in_hand
from die_algorithm.models import Job, JobService, JobState, TaskPhase, TaskReport
from die_algorithm.steps import DiskWatch, Steps
from die_algorithm.swarm import Swarm
from die_algorithm.worker.driver import Driver
from die_algorithm.worker.held_jobs import HeldJobs, log_store_error
from die_algorithm.worker.next_step import Pool, is_watched
from die_algorithm.worker.pools import Pools

LOGGER = logging.getLogger(__name__)

#: Seconds between two looks at the Swarm: the least, for each job that runs, and the most (swarm.md,
#: "Seeing the end").
_LOOK, _LOOK_PER_JOB, _LONGEST_LOOK = 0.1, 0.0006, 0.5
#: Seconds between two turns when nothing runs.
_IDLE = 0.5
#: Seconds between two looks at the Swarm when nothing runs, to know whether it is there.
_IDLE_LOOK = 2.0
#: Seconds until a Swarm is looked at again that was away.
_AWAY = 1.0


class Watch:
    """Looks at tasks, and now and then at disks, in threads of their own, and gives jobs their steps.

    Args:
        swarm: whose tasks are looked at.
        steps: what the looks mean for a job.
        disk_watch: tells whose containers have written too much.
        janitor: removes what nothing needs any more.
        held: the jobs that the worker holds.
        pools: the threads.
        driver: takes the steps.
        stopping: set when the worker stops.
        wake: called when there may be new jobs.
    """

    def __init__(
        self,
        swarm: Swarm,
        steps: Steps,
        disk_watch: DiskWatch,
        janitor: Janitor,
        *,
        held: HeldJobs,
        pools: Pools,
        driver: Driver,
        stopping: threading.Event,
        wake: Callable[[], None],
    ) -> None:
        self._swarm = swarm
        self._steps = steps
        self._disk_watch = disk_watch
        self._janitor = janitor
        self._held = held
        self._pools = pools
        self._driver = driver
        self._stopping = stopping
        self._wake = wake
        self._looking: Future[None] | None = None
        self._looked_at = 0.0
        self._idle_look_at = 0.0
        #: The tasks that ran at the last look at the Swarm, by the ids of their jobs.
        self._running: dict[str, TaskReport] = {}
        self._looking_at_disks: Future[None] | None = None

    def look_at_tasks(self, jobs: list[Job]) -> float:
        """Begin a look at the Swarm if one is due, however often this is called.

        Args:
            jobs: those whose next step depends on their task.

        Returns:
            Seconds until the next look is due.
        """
        pause = min(_LOOK + _LOOK_PER_JOB * len(jobs), _LONGEST_LOOK) if jobs else _IDLE
        if _is_under_way(self._looking):
            return pause
        now = time.monotonic()
        left = self._looked_at + pause - now
        if left > 0:
            return left
        self._looking = self._pools.submit(Pool.WATCH, lambda: self._look(jobs))
        self._looked_at = now
        return pause

    def look_at_disks(self) -> None:
        """Begin a look at what containers have written if one is due."""
        due = self._running and self._disk_watch.is_due
        if due and not _is_under_way(self._looking_at_disks):
            self._looking_at_disks = self._pools.submit(Pool.DISKS, self._look_at_disks)

    # -- tasks

    def _look(self, jobs: list[Job]) -> None:
        try:
            reports = self._reports(jobs)
            self._running = {
                job_id: report
                for job_id, report in reports.items()
                if report.phase is TaskPhase.RUNNING
            }
            without = [job for job in jobs if job.id not in reports]
            findings = self._janitor.sweep(without, self._held.known)
        except SwarmError as error:
            self._wait_for_swarm(jobs, error)
            return
        except StoreError as error:
            log_store_error("The Swarm cannot be watched", error)
            return
        except Exception:  # the watch must go on, whatever nobody foresaw
            LOGGER.exception("A look at the Swarm failed; it is repeated.")
            return
        if self._held.trouble:
            LOGGER.info("The Swarm can be watched again.")
            self._held.trouble = ""
        self._attend_to_all(jobs, reports)
        for job in findings.lost:
            self._driver.take(job, self._steps.lose)
        for orphan in findings.orphans:
            self._start_rebuilding(orphan)

    def _reports(self, jobs: list[Job]) -> dict[str, TaskReport]:
        """One report for each job with a task; while there are no jobs, a look now and then will do.

        A Swarm that was away is asked each time: nothing but an answer shows that it is back.
        """
        now = time.monotonic()
        if not jobs and not self._held.trouble and now < self._idle_look_at:
            return {}
        self._idle_look_at = now + _IDLE_LOOK
        services = {job.id: job.service_id for job in jobs}
        return {
            report.job_id: report
            for report in self._swarm.task_reports()
            # Of a job that was dispatched once more, the first task may be listed for a moment yet.
            if services.get(report.job_id) in (None, report.service_id)
        }

    def _wait_for_swarm(self, jobs: list[Job], error: SwarmError) -> None:
        if not self._held.trouble:
            LOGGER.warning("The Swarm cannot be watched: %s", error.reason)
            self._held.trouble = str(error)
            self._steps.forget_engine()
        for job in jobs:
            if job.stopped_at is None:
                self._driver.take(job, lambda job: self._steps.wait_out(job, error))
            elif self._steps.has_stopped(job, task_is_listed=True):
                self._driver.carry_on(job)
        self._stopping.wait(_AWAY)

    def _attend_to_all(self, jobs: list[Job], reports: dict[str, TaskReport]) -> None:
        for job in jobs:
            try:
                self._attend(job, reports.get(job.id))
            except Exception:  # one job must not keep the others from being looked at
                LOGGER.exception("Job %s cannot be looked at.", job.id)

    def _attend(self, job: Job, report: TaskReport | None) -> None:
        """Give a watched job the step that the look at its task asks for, if any."""
        if job.stopped_at is not None:
            if self._steps.has_stopped(job, task_is_listed=report is not None):
                self._driver.carry_on(job)
        elif report is None:
            if job.state is JobState.DISPATCHED:
                self._driver.start_service(job)
        elif self._needs_attention(job, report):
            self._driver.take(job, lambda job: self._steps.observe(job, report))

    def _needs_attention(self, job: Job, report: TaskReport) -> bool:
        if report.phase not in (TaskPhase.STARTING, TaskPhase.RUNNING):
            return True
        started = report.phase is TaskPhase.RUNNING and job.state is JobState.DISPATCHED
        return started or job.waiting is not None or self._steps.is_overdue(job)

    # -- services without a record

    def _start_rebuilding(self, orphan: JobService) -> None:
        """Let the record of a service be made that has none; StorageHub is asked for that."""
        self._pools.start(
            Pool.CLEAN_UP, orphan.job_id, lambda: self._rebuild(orphan), even_paused=True
        )

    def _rebuild(self, orphan: JobService) -> None:
        try:
            with job_in_hand(orphan.job_id):
                self._janitor.rebuild(orphan)
        finally:
            self._pools.release(orphan.job_id)
            self._wake()

    # -- disks

    def _look_at_disks(self) -> None:
        running, jobs = self._running, dict(self._held.known)
        try:
            for job in self._disk_watch.look(running, jobs):
                self._stop_writing(job, running[job.id])
        except Exception:  # the watch must go on, whatever nobody foresaw
            LOGGER.exception("A look at what containers have written failed; it is repeated.")

    def _stop_writing(self, job: Job, report: TaskReport) -> None:
        if is_watched(job) and job.state is JobState.RUNNING:
            self._driver.take(job, lambda job: self._steps.overflow(job, report))


def _is_under_way(look: Future[None] | None) -> bool:
    return look is not None and not look.done()
