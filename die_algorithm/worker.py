"""Carries all unfinished jobs on: one look at the database and one at the Swarm for all of them.

There is no thread and no process per job. The loop looks which jobs need a step and gives them to
small pools, one for each outside thing that may be slow; the many jobs that merely run cost one row of
one list call. Because every turn starts from the records, a restart is no special case.

A worker carries the jobs that it holds. It holds those that it has taken from the queue, and those
whose holder has let its lease run out.
"""

from __future__ import annotations

import enum
import itertools
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta

from die_algorithm import faults
from die_algorithm.errors import StaleJob, StepInterrupted, StoreError, SwarmError
from die_algorithm.janitor import Janitor
from die_algorithm.job_in_hand import job_in_hand
from die_algorithm.job_store import JobStore
from die_algorithm.models import Job, JobService, JobState, TaskPhase, TaskReport
from die_algorithm.steps import DiskWatch, Steps
from die_algorithm.swarm import Swarm
from die_algorithm.turns import in_turn
from die_algorithm.worker_place import WorkerPlace

LOGGER = logging.getLogger(__name__)

#: Seconds between two looks at the Swarm: the least, for each job that runs, and the most (swarm.md,
#: "Seeing the end").
_LOOK, _LOOK_PER_JOB, _LONGEST_LOOK = 0.1, 0.0006, 0.5
#: Seconds between two turns at least: what happens within them is looked at together.
_BREATH = 0.05
#: Seconds between two looks at the database when nothing runs.
_IDLE = 0.5
#: Seconds until a job that waits out an outage is tried again, and until a failed turn is.
_OUTAGE_PAUSE = 5.0
#: Seconds between two looks at the Swarm when nothing runs, to know whether it is there.
_IDLE_LOOK = 2.0
#: Seconds between two searches for jobs to take over, while there is a queue to look at anyway.
_CLAIM_EVERY = 2.0
#: Seconds until a service without a task is started again.
_START_AGAIN = 2.0


class _Room(enum.Enum):
    """Where a step is taken: what hangs in one of them keeps no job in the others waiting."""

    STAGE_IN = "stage-in"
    #: Staging in a file that comes over a public link: that may take hours.
    FETCH = "fetch"
    DISPATCH = "dispatch"
    STAGE_OUT = "stage-out"
    #: Observing, and stopping containers: nothing here waits for StorageHub.
    END = "end"
    #: Removing folders, and ending jobs.
    CLEAN_UP = "clean-up"
    #: Looking at the Swarm for all jobs at once.
    WATCH = "watch"
    #: Looking at what containers have written: the engine may need long to tell.
    DISKS = "disks"


#: What takes long there: each owner gets a turn.
_TRANSFERS = (_Room.FETCH, _Room.STAGE_OUT)

_THREADS = {
    _Room.STAGE_IN: 4,
    _Room.DISPATCH: 4,
    _Room.END: 8,
    _Room.CLEAN_UP: 8,
    _Room.WATCH: 1,
    _Room.DISKS: 1,
}


class Worker:
    """The loop. One at a time works on a machine: the others wait for its place.

    Args:
        store: the jobs' records.
        steps: what to do with a job.
        swarm: to watch the tasks.
        place: held while working.
        janitor: removes what nothing needs any more.
        disk_watch: tells whose containers have written too much.
        lease: how long the worker may be silent before another one takes its jobs over.
        transfers: how many results are fetched from StorageHub at once.
        on_end: called with the id of each job that has ended.
        publish: called with each job whose record has changed until it has not raised.
    """

    def __init__(
        self,
        store: JobStore,
        steps: Steps,
        swarm: Swarm,
        place: WorkerPlace,
        janitor: Janitor,
        *,
        disk_watch: DiskWatch,
        lease: timedelta,
        transfers: int,
        on_end: Callable[[str], None] = lambda _job_id: None,
        publish: Callable[[Job], None] | None = None,
    ) -> None:
        self._store = store
        self._steps = steps
        self._swarm = swarm
        self._place = place
        self._janitor = janitor
        self._disk_watch = disk_watch
        self._lease = lease
        self._on_end = on_end
        self._publish = publish
        self._transfers = transfers
        self._pools = {
            room: ThreadPoolExecutor(
                _THREADS.get(room, transfers), thread_name_prefix=f"die-{room.value}"
            )
            for room in _Room
        }
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._known: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._in_flight: set[str] = set()
        self._not_before: dict[str, float] = {}
        #: Counts the transfers that were given away, and of each owner who has one, the number of the last.
        self._turns = itertools.count()
        self._last_turns: dict[_Room, dict[str, float]] = {room: {} for room in _TRANSFERS}
        self._started: dict[str, float] = {}
        self._watching: Future[None] | None = None
        self._watched_at = 0.0
        #: The tasks that ran at the last look at the Swarm, by the ids of their jobs.
        self._running: dict[str, TaskReport] = {}
        self._watching_disks: Future[None] | None = None
        self._trouble = ""
        self._renew_at = 0.0
        self._openings = 0
        self._admit_at = self._claim_at = 0.0
        self._idle_look_at = 0.0
        self._last_turn: float | None = None

    @property
    def is_stuck(self) -> bool:
        """Whether the loop has begun to work and not come round for a minute."""
        last = self._last_turn
        return last is not None and time.monotonic() - last > 60

    def wake(self) -> None:
        """Take the next turn now, and look for new jobs, and those cancelled while they waited."""
        self._claim_at = self._admit_at = 0.0
        self._wake.set()

    def stop(self) -> None:
        """Make :meth:`run` return soon: transfers are broken off, to be repeated at the next start."""
        self._stopping.set()
        self._steps.interrupt()
        self._wake.set()

    def run(self) -> None:
        """Work until stopped."""
        if self._place.take(self._stopping):
            LOGGER.info("The worker works.")
            while not self._stopping.is_set():
                pause, began = self._turn(), time.monotonic()
                self._last_turn = began
                if self._wake.wait(pause):
                    self._stopping.wait(began + _BREATH - time.monotonic())
                self._wake.clear()
        # The watches first: they give jobs to the others.
        for room in reversed(_Room):
            self._pools[room].shutdown(cancel_futures=True)
        self._hand_over()
        self._place.leave()

    def _hand_over(self) -> None:
        """Let other workers take the jobs now, not when the lease has run out."""
        try:
            if self._last_turn is not None:
                self._store.leases.end(self._place.name)
        except StoreError:
            LOGGER.warning("The worker's lease could not be ended; it runs out by itself.")

    def _turn(self) -> float:
        """Look at all jobs once.

        Returns:
            Seconds until the next look.
        """
        try:
            self._keep_lease()
            self._take_jobs()
            return self._look()
        except StoreError as error:
            _complain("The worker cannot work", error)
        except Exception:  # the loop must not end, whatever nobody foresaw
            LOGGER.exception("A turn of the worker failed; it tries again.")
        return _OUTAGE_PAUSE

    # -- whose jobs

    def _keep_lease(self) -> None:
        now = time.monotonic()
        openings = self._store.openings
        is_new = openings != self._openings
        if now < self._renew_at and not is_new:
            return
        leases = self._store.leases
        if is_new or not leases.renew(self._place.name, self._lease, self._trouble):
            # The database is another one, or it has run out: others may have the jobs by now.
            LOGGER.info("The worker begins a lease.")
            leases.take(self._place.name, self._lease)
            self._known = {}
            self._admit_at = self._claim_at = now
            self._janitor.hurry()
        self._openings = openings
        self._renew_at = now + self._lease.total_seconds() / 3

    def _take_jobs(self) -> None:
        now = time.monotonic()
        if now >= self._admit_at:
            self._admit_at = now + _IDLE
            self._store.queue.admit(self._place.name)
        if now >= self._claim_at:
            self._claim_at = now + _CLAIM_EVERY
            if taken := self._store.leases.claim(self._place.name):
                LOGGER.info("The worker has taken over %d jobs.", taken)

    def _look(self) -> float:
        jobs = self._store.held(self._place.name, self._known)
        self._known = {job.id: job for job in jobs}
        watched = [job for job in jobs if _is_watched(job)]
        for job in self._chosen([job for job in jobs if not _is_watched(job)]):
            self._start(job, self._carry_on)
        pause = min(_LOOK + _LOOK_PER_JOB * len(watched), _LONGEST_LOOK) if watched else _IDLE
        self._publish_changed()
        self._look_at_disks()
        return self._look_at_swarm(watched, pause)

    def _look_at_swarm(self, watched: list[Job], pause: float) -> float:
        """Look at the Swarm, however often the turns come, at this distance.

        Returns:
            Seconds until the next look is due.
        """
        if self._watching is not None and not self._watching.done():
            return pause
        now = time.monotonic()
        left = self._watched_at + pause - now
        if left > 0:
            return left
        self._watching = self._pools[_Room.WATCH].submit(self._watch, watched)
        self._watched_at = now
        return pause

    def _look_at_disks(self) -> None:
        busy = self._watching_disks is not None and not self._watching_disks.done()
        if self._running and self._disk_watch.is_due and not busy:
            self._watching_disks = self._pools[_Room.DISKS].submit(self._watch_disks)

    def _watch_disks(self) -> None:
        running, jobs = self._running, dict(self._known)
        try:
            for job in self._disk_watch.look(running, jobs):
                self._stop_writing(job, running[job.id])
        except Exception:  # the watch must go on, whatever nobody foresaw
            LOGGER.exception("A look at what containers have written failed; it is repeated.")

    def _stop_writing(self, job: Job, report: TaskReport) -> None:
        if _is_watched(job) and job.state is JobState.RUNNING:
            self._start(job, lambda job: self._changed(job, self._steps.overflow(job, report)))

    def _chosen(self, jobs: list[Job]) -> list[Job]:
        """Leave out transfers that have to wait, so that one owner's keep nobody else's from the rooms."""
        chosen = [job for job in jobs if _room(job) not in _TRANSFERS]
        for room in _TRANSFERS:
            chosen += self._in_turn(room, [job for job in jobs if _room(job) is room])
        return chosen

    def _in_turn(self, room: _Room, jobs: list[Job]) -> list[Job]:
        """Those whose turn it is.

        A transfer may take hours, so they are not given away before there is a thread for them.
        """
        transfers = {job.id: job for job in jobs}
        owners = {job.owner for job in jobs}
        last_turn = self._last_turns[room]
        with self._lock:
            under_way = [transfers.pop(job_id) for job_id in self._in_flight & transfers.keys()]
        waiting = ((job.id, job.owner) for job in transfers.values() if self._may_go_on(job))
        turns = in_turn(waiting, Counter(job.owner for job in under_way), last_turn)
        free = max(self._transfers - len(under_way), 0)
        chosen = [transfers[job_id] for job_id in itertools.islice(turns, free)]
        # Where there is one thread, none is under way now, and only this tells whose turn it is.
        last_turn |= {job.owner: next(self._turns) for job in chosen}
        self._last_turns[room] = {o: last for o, last in last_turn.items() if o in owners}
        return chosen

    def _may_go_on(self, job: Job) -> bool:
        return time.monotonic() >= self._not_before.get(job.id, 0.0)

    # -- the Swarm

    def _watch(self, jobs: list[Job]) -> None:
        """Look at the Swarm for all jobs at once."""
        try:
            self._janitor.expire()
            reports = self._look_at_tasks(jobs)
            self._running = {
                job_id: report
                for job_id, report in reports.items()
                if report.phase is TaskPhase.RUNNING
            }
            without = [job for job in jobs if job.id not in reports]
            findings = self._janitor.sweep(without, self._known)
        except SwarmError as error:
            self._wait_for_swarm(jobs, error)
            return
        except StoreError as error:
            _complain("The Swarm cannot be watched", error)
            return
        except Exception:  # the watch must go on, whatever nobody foresaw
            LOGGER.exception("A look at the Swarm failed; it is repeated.")
            return
        if self._trouble:
            LOGGER.info("The Swarm can be watched again.")
            self._trouble, self._renew_at = "", 0.0
        for job in jobs:
            try:
                self._attend(job, reports.get(job.id))
            except Exception:  # one job must not keep the others from being looked at
                LOGGER.exception("Job %s cannot be looked at.", job.id)
        for job in findings.lost:
            self._start(job, lambda job: self._changed(job, self._steps.lose(job)))
        for orphan in findings.orphans:
            self._start_rebuilding(orphan)

    def _start_rebuilding(self, orphan: JobService) -> None:
        """Let the record of a service be made that has none; StorageHub is asked for that."""
        with self._lock:
            if orphan.job_id in self._in_flight:
                return
            self._in_flight.add(orphan.job_id)
        self._pools[_Room.CLEAN_UP].submit(self._rebuild, orphan)

    def _rebuild(self, orphan: JobService) -> None:
        try:
            with job_in_hand(orphan.job_id):
                self._janitor.rebuild(orphan)
        finally:
            with self._lock:
                self._in_flight.discard(orphan.job_id)
            self.wake()

    def _look_at_tasks(self, jobs: list[Job]) -> dict[str, TaskReport]:
        """One report for each job with a task; while there are no jobs, a look now and then will do."""
        now = time.monotonic()
        if not jobs and now < self._idle_look_at:
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
        if not self._trouble:
            LOGGER.warning("The Swarm cannot be watched: %s", error.reason)
            self._trouble, self._renew_at = str(error), 0.0
            self._steps.forget_engine()
        for job in jobs:
            if job.stopped_at is None:
                self._start(job, lambda job: self._changed(job, self._steps.wait_out(job, error)))
            elif self._steps.has_stopped(job, task_is_listed=True):
                self._start(job, self._carry_on)
        self._stopping.wait(1.0)

    def _attend(self, job: Job, report: TaskReport | None) -> None:
        """Give a watched job the step that the look at its task asks for, if any."""
        if job.stopped_at is not None:
            if self._steps.has_stopped(job, task_is_listed=report is not None):
                self._start(job, self._carry_on)
        elif report is None:
            if job.state is JobState.DISPATCHED and self._may_start(job):
                self._start(job, self._start_service)
        elif self._needs_attention(job, report):
            self._start(job, lambda job: self._changed(job, self._steps.observe(job, report)))

    def _needs_attention(self, job: Job, report: TaskReport) -> bool:
        if report.phase not in (TaskPhase.STARTING, TaskPhase.RUNNING):
            return True
        started = report.phase is TaskPhase.RUNNING and job.state is JobState.DISPATCHED
        return started or job.waiting is not None or self._steps.is_overdue(job)

    def _may_start(self, job: Job) -> bool:
        """Whether a service without a task should be started: one just started has none yet."""
        return time.monotonic() - self._started.get(job.id, 0.0) > _START_AGAIN

    def _start_service(self, job: Job) -> Job:
        self._started[job.id] = time.monotonic()
        return self._changed(job, self._steps.start(job))

    # -- steps

    def _carry_on(self, job: Job) -> Job:
        """Take the next step, and all after it that belong into the same room."""
        room = _room(job)
        while True:
            after = self._changed(job, self._steps.advance(job))
            if after.state is JobState.DISPATCHED and job.state is JobState.STAGED_IN:
                after = self._start_service(after)
            idle = after.version == job.version
            over = idle or after.state.is_final or after.waiting or _is_watched(after)
            if over or _room(after) is not room or self._stopping.is_set():
                return after
            # Read again: a cancel that came meanwhile must not wait for the steps to come.
            job = self._still_held(after)

    def _still_held(self, job: Job) -> Job:
        """The job as it is recorded now; with another one's fence it would be no more ours to change.

        Raises:
            StaleJob: it has gone to another worker.
        """
        fresh = self._store.get(job.id)
        if fresh is None or fresh.fence != job.fence:
            raise StaleJob(f"The job {job.id} has gone to another worker.")
        return fresh

    def _changed(self, before: Job, after: Job) -> Job:
        if after.version != before.version:
            self._known[after.id] = after  # the next turn need not read it
            if after.state.is_final:
                self._started.pop(after.id, None)
                self._on_end(after.id)
                self._admit_at = 0.0  # there is a free place
            if after.state.is_final or _needs_turn(after):
                self._wake.set()
        return after

    def _start(self, job: Job, action: Callable[[Job], Job]) -> None:
        with self._lock:
            if job.id in self._in_flight or time.monotonic() < self._not_before.get(job.id, 0.0):
                return
            self._in_flight.add(job.id)
            self._not_before.pop(job.id, None)
        self._pools[_room(job)].submit(self._work, job, action)

    def _work(self, job: Job, action: Callable[[Job], Job]) -> None:
        after, pause, room = job, 0.0, _room(job)
        try:
            fresh = self._store.get(job.id)
            # The list this turn began with may be older than the last step of this job.
            if fresh and (fresh.version, fresh.fence) == (job.version, job.fence):
                with job_in_hand(job.id):
                    after = action(fresh)
                pause = _OUTAGE_PAUSE if after.waiting else 0.0
            else:
                self._wake.set()
        except StaleJob:
            LOGGER.info("Job %s was written meanwhile; it is looked at again.", job.id)
            self._wake.set()
        except StepInterrupted as reason:
            LOGGER.info("Job %s: a transfer was broken off: %s.", job.id, reason)
            self._wake.set()
        except StoreError as error:
            _complain(f"Job {job.id}: a step failed", error)
            pause = _OUTAGE_PAUSE
        except Exception:  # a job must end, whatever nobody foresaw
            LOGGER.exception("Job %s: a step failed in an unforeseen way.", job.id)
            self._give_up(job)
            pause = _OUTAGE_PAUSE
        finally:
            with self._lock:
                self._in_flight.discard(job.id)
                if pause:
                    self._not_before[job.id] = time.monotonic() + pause
            if room in _TRANSFERS:
                self._wake.set()  # somebody else's may have its turn
        is_over = after.state.is_final or self._stopping.is_set()
        if after.version != job.version and not (is_over or _needs_turn(after)):
            self._start(after, self._carry_on)

    def _give_up(self, job: Job) -> None:
        """Let a job fail; if it is at its clean-up already, that is tried again."""
        try:
            fresh = self._still_held(job)
            if fresh.copy_pending:
                self._changed(fresh, self._steps.skip_copy(fresh))
            elif not (fresh.state.is_final or _is_at_clean_up(fresh)):
                self._changed(fresh, self._steps.fail(fresh, faults.internal()))
        except StaleJob:
            LOGGER.info("Job %s has gone to another worker, which may know better.", job.id)
        except StoreError as error:
            _complain(f"Job {job.id}: its failure could not be written", error)

    # -- publishing

    def _publish_changed(self) -> None:
        """Publish what has changed; what cannot be is tried again in the next turn."""
        if self._publish is None:
            return
        for job in self._store.unpublished():
            try:
                self._publish(job)
            except OSError:
                LOGGER.exception("Job %s: its documents could not be written.", job.id)
                return
            self._store.mark_published(job)


def _complain(what: str, error: StoreError) -> None:
    """Log what the database has kept from being done; that is repeated, so a line each will do."""
    LOGGER.error("%s, because the jobs' database cannot be used: %s", what, error.reason)


def _is_watched(job: Job) -> bool:
    """Whether the job's next step depends on what its task does."""
    if job.stopped_at is not None:
        return not job.state.is_final
    watched = job.state in (JobState.DISPATCHED, JobState.RUNNING)
    return watched and not (job.failure or job.cancel_requested)


def _needs_turn(job: Job) -> bool:
    """Whether more than the job itself decides when it gets its next step."""
    return _is_watched(job) or _room(job) in _TRANSFERS


def _is_at_clean_up(job: Job) -> bool:
    """Whether nothing but its end can become of the job."""
    return bool(job.failure or job.result or job.cancel_requested)


def _room(job: Job) -> _Room:
    if job.copy_pending and not job.cancel_requested:
        return _Room.STAGE_OUT
    if _is_at_clean_up(job):
        runs = JobState.DISPATCHED in job.reached and not job.task_over and not job.stopped_at
        return _Room.END if runs and not job.result else _Room.CLEAN_UP
    return {
        JobState.ACCEPTED: _Room.FETCH if job.request.link else _Room.STAGE_IN,
        JobState.STAGED_IN: _Room.DISPATCH,
        JobState.STAGING_OUT: _Room.STAGE_OUT,
    }.get(job.state, _Room.END)
