"""The third step: from the first sight of the task to its recorded end."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

from die_algorithm import faults
from die_algorithm.container_rules import ContainerRules
from die_algorithm.credentials import longest_form, redact, without_cut_token
from die_algorithm.errors import SwarmError
from die_algorithm.fail_points import FetchPoint, Point
from die_algorithm.models import Failure, Job, JobState, TaskPhase, TaskReport
from die_algorithm.results import Results
from die_algorithm.settings import Settings
from die_algorithm.states import failure as failure_of
from die_algorithm.states import is_unfetched
from die_algorithm.steps.ledger import Ledger
from die_algorithm.swarm import Swarm
from die_algorithm.terminal_text import clean_text

LOGGER = logging.getLogger(__name__)

#: Seconds within which the tail of a log must be fetched; ``service logs`` can hang (swarm.md).
_LOG_TIMEOUT = 5.0
#: After so long, a program that has ended well is believed, though the engine is asked in vain whether it was
#: restarted under it.
_LONG_AGO = timedelta(minutes=10)
#: Characters of what an engine says of a failed container that are logged.
_REASON = 500
#: A service this young may not have its task yet.
_TASK_APPEARS = timedelta(seconds=10)


class Monitor:
    """Records what looks at the Swarm tell.

    Args:
        settings: the operator's.
        rules: what containers may do.
        ledger: the jobs' records.
        swarm: where containers run.
        results: where logs are published.
    """

    def __init__(
        self,
        settings: Settings,
        rules: ContainerRules,
        ledger: Ledger,
        swarm: Swarm,
        results: Results,
    ) -> None:
        self._settings = settings
        self._rules = rules
        self._ledger = ledger
        self._swarm = swarm
        self._results = results

    def is_lost(self, job: Job, *, has_service: bool) -> bool:
        """Whether a dispatched job without a task will never have one."""
        if has_service:
            return self._ledger.is_overdue(job)
        return self._ledger.in_state(job) > _TASK_APPEARS

    def lost(self, job: Job) -> Job:
        """Record that there is no task, and will be none."""
        # With a service, it is its deadline that is over.
        if self._ledger.is_overdue(job):
            return self._ledger.fail(job, self._overdue(job, None))
        return self._ledger.write(job, failure=faults.disappeared(), waiting=None, task_over=True)

    def run(self, job: Job, report: TaskReport) -> Job:
        """Record what one look told about a dispatched job's task."""
        if report.phase in (TaskPhase.STARTING, TaskPhase.RUNNING):
            return self._going_on(job, report)
        return self._ended(job, report)

    def overflow(self, job: Job, report: TaskReport) -> Job:
        """Record that a running job's container has written more than it may."""
        limits = self._rules.limits_of(job, self._settings)
        failure = faults.wrote_too_much(limits.disk)
        return self._over(job, report, failure, task_over=False)

    def _going_on(self, job: Job, report: TaskReport) -> Job:
        if report.phase is TaskPhase.RUNNING and job.state is JobState.DISPATCHED:
            with self._ledger.fail_points.around(Point.RUNNING_RECORDED):
                return self._ledger.reach(job, JobState.RUNNING)
        if job.waiting:
            return self._ledger.write(job, waiting=None)
        if not self._ledger.is_overdue(job):
            return job
        return self._over(job, report, self._overdue(job, report), task_over=False)

    def _overdue(self, job: Job, report: TaskReport | None) -> Failure:
        deadlines = self._ledger.deadlines(job)
        if self._ledger.is_past_total(job):
            return faults.took_too_long(deadlines.total)
        if job.state is JobState.RUNNING:
            return faults.ran_too_long(deadlines.run)
        return faults.never_started(report.message if report else "", deadlines.start)

    def _ended(self, job: Job, report: TaskReport) -> Job:
        if self._is_worth_another_try(job, report):
            LOGGER.warning("Job %s: its machine could not fetch the image.", job.id)
            with self._ledger.fail_points.around(FetchPoint.RETURNED):
                return self._ledger.take_back(job)
        log = self._log(job, report)
        oom, cut_off = self._circumstances(report)
        failure = failure_of(
            report,
            command=job.request.command[0],
            memory_limit=self._rules.limits_of(job, self._settings).memory,
            oom_killed=oom,
            log_tail=log,
            cut_off=cut_off,
        )
        return self._over(job, report, failure, log, task_over=True)

    def _is_worth_another_try(self, job: Job, report: TaskReport) -> bool:
        """Whether perhaps the registry alone has kept the container from being made.

        Somebody who updates the service by hand makes a second task, after one that may have run.
        """
        if job.state is not JobState.DISPATCHED or not is_unfetched(report):
            return False
        return not self._swarm.has_run(report.service_id)

    def _circumstances(self, report: TaskReport) -> tuple[bool | None, bool | None]:
        """Whether memory or a restart of the engine ended a container, as far as anybody knows.

        Raises:
            SwarmUnavailable: the engine went away after it told of the end. It is asked again: a guess
                would blame the program for what a restart did.
        """
        if report.phase not in (TaskPhase.COMPLETE, TaskPhase.FAILED) or not report.container_id:
            return None, None
        try:
            cut_off = self._swarm.cut_off(report)
            if report.phase is TaskPhase.COMPLETE:
                return None, cut_off
            return self._swarm.oom_killed(report.container_id), cut_off
        except faults.PASSING:
            ago = datetime.now(UTC) - report.told_at
            if report.phase is TaskPhase.COMPLETE and ago > _LONG_AGO:
                return None, None
            raise
        except SwarmError as error:
            LOGGER.warning("Job %s: nobody knows why it ended: %s", report.job_id, error)
            return None, None

    def _over(
        self,
        job: Job,
        report: TaskReport,
        failure: Failure | None,
        log: str | None = None,
        *,
        task_over: bool,
    ) -> Job:
        """Record the end of the task before anything of it is removed."""
        log = self._log(job, report) if log is None else log
        LOGGER.info(
            "Job %s: task ended as %s, exit code %s.%s",
            job.id,
            report.state,
            report.exit_code,
            _reason(job, report),
        )
        with self._ledger.fail_points.around(Point.END_RECORDED):
            ended = self._ledger.reach(
                job,
                JobState.STAGING_OUT,
                failure=failure,
                exit_code=report.exit_code,
                log_tail=log,
                task_over=task_over,
            )
        # After the record: a worker that has lost the job writes over nobody's log.
        self._publish_log(ended, log)
        return ended

    def _log(self, job: Job, report: TaskReport) -> str:
        if job.token is None:
            return ""  # what cannot be masked is not shown
        if report.phase is TaskPhase.LOST and report.state == "running":
            return ""  # its machine is away, and the engine would wait for it
        # So much more than is kept as may have to go at its beginning.
        limit = self._settings.log_tail + longest_form(job.token)
        raw = self._swarm.log_tail(report.service_id, limit=limit, timeout=_LOG_TIMEOUT)
        text = clean_text(raw)
        if len(raw) >= limit:
            text = without_cut_token(text, job.token)
        shown = redact(text, job.token).encode()
        # What is no text has become longer.
        return shown[-self._settings.log_tail :].decode(errors="ignore")

    def _publish_log(self, job: Job, log: str) -> None:
        try:
            self._results.write_log(job, log)
        except OSError:
            # The record holds the log too; a full disk must not keep the job from its end.
            LOGGER.exception("Job %s: the log could not be published.", job.id)


def _reason(job: Job, report: TaskReport) -> str:
    """What the engine says of a container that failed, as a sentence of the log.

    It names paths, networks and devices of the machine, which are the operator's business.
    """
    if report.phase not in (TaskPhase.REJECTED, TaskPhase.FAILED) or job.token is None:
        return ""
    # Masked before it is cut: too little of a token may be left to know it by.
    words = " ".join(redact(clean_text(report.message), job.token).split())
    shown = words if len(words) <= _REASON else f"{words[:_REASON]}…"
    return f" The engine says: {shown}" if shown else ""
