"""The worker's loop."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from datetime import timedelta

from die_algorithm.errors import StoreError
from die_algorithm.janitor import Janitor
from die_algorithm.job_store import JobStore
from die_algorithm.models import Job
from die_algorithm.steps import DiskWatch, Steps
from die_algorithm.swarm import Swarm
from die_algorithm.worker.driver import Driver
from die_algorithm.worker.held_jobs import HeldJobs, log_store_error
from die_algorithm.worker.next_step import Pool, is_watched
from die_algorithm.worker.pools import Pools
from die_algorithm.worker.transfer_turns import TransferTurns
from die_algorithm.worker.watch import Watch
from die_algorithm.worker_place import WorkerPlace

LOGGER = logging.getLogger(__name__)

#: Seconds between two turns at least: what happens within them is looked at together.
_BREATH = 0.05
#: Seconds until a failed turn is tried again.
_TURN_AGAIN = 5.0
#: Seconds until documents are made again that could not be in an unforeseen way.
_PUBLISH_AGAIN = 60.0
#: Seconds without a turn after which the loop counts as stuck.
_STUCK = 60.0


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
        transfers: how many results are fetched from StorageHub at once, and as many files from public links.
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
        self._place = place
        self._janitor = janitor
        self._publish = publish
        #: When jobs' documents are made again, by their ids.
        self._publish_at: dict[str, float] = {}
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._held = HeldJobs(store, place, lease)
        self._pools = Pools(transfers)
        self._turns = TransferTurns(self._pools, transfers)
        self._driver = Driver(
            steps,
            self._held,
            self._pools,
            wake=self._wake,
            stopping=self._stopping,
            on_end=on_end,
        )
        self._watch = Watch(
            swarm,
            steps,
            disk_watch,
            janitor,
            held=self._held,
            pools=self._pools,
            driver=self._driver,
            stopping=self._stopping,
            wake=self.wake,
        )
        self._expiry: Future[None] | None = None
        self._last_turn: float | None = None
        #: How many turns it has begun.
        self.turns = 0

    @property
    def is_stuck(self) -> bool:
        """Whether the loop has begun to work and not come round for a minute."""
        last = self._last_turn
        return last is not None and time.monotonic() - last > _STUCK

    def wake(self) -> None:
        """Take the next turn now, and look for new jobs, and those cancelled while they waited."""
        self._held.hurry()
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
            self._last_turn = time.monotonic()
            while not self._stopping.is_set():
                self.turns += 1
                pause, began = self._turn(), time.monotonic()
                self._last_turn = began
                if self._wake.wait(pause):
                    self._stopping.wait(began + _BREATH - time.monotonic())
                self._wake.clear()
        self._pools.shut_down()
        self._hand_over()
        self._place.leave()

    def _hand_over(self) -> None:
        try:
            if self._last_turn is not None:
                self._held.end_lease()
        except StoreError:
            LOGGER.warning("The worker's lease could not be ended; it runs out by itself.")

    def _turn(self) -> float:
        """Look at all jobs once.

        Returns:
            Seconds until the next look.
        """
        try:
            if self._held.keep_lease():
                self._janitor.hurry()
            self._held.take_more()
            return self._look()
        except StoreError as error:
            log_store_error("The worker cannot work", error)
        except Exception:  # the loop must not end, whatever nobody foresaw
            LOGGER.exception("A turn of the worker failed; it tries again.")
        return _TURN_AGAIN

    def _look(self) -> float:
        jobs = self._held.read()
        for job in self._turns.choose([job for job in jobs if not is_watched(job)]):
            self._driver.carry_on(job)
        self._publish_changed()
        self._begin_expiry()
        self._watch.look_at_disks()
        return self._watch.look_at_tasks([job for job in jobs if is_watched(job)])

    def _begin_expiry(self) -> None:
        if self._expiry is None or self._expiry.done():
            self._expiry = self._pools.submit(Pool.EXPIRY, self._expire)

    def _expire(self) -> None:
        try:
            self._janitor.expire()
        except StoreError as error:
            log_store_error("What has had its time cannot be removed", error)
        except Exception:  # it is tried again, whatever nobody foresaw
            LOGGER.exception("What has had its time could not be removed.")

    def _publish_changed(self) -> None:
        """Publish what has changed; what cannot be is tried again in a later turn."""
        if self._publish is None:
            return
        now = time.monotonic()
        self._publish_at = {job_id: at for job_id, at in self._publish_at.items() if now < at}
        for job in self._store.unpublished(besides=self._publish_at):
            try:
                self._publish(job)
            except OSError:
                LOGGER.exception("Job %s: its documents could not be written.", job.id)
                return
            except Exception:  # one job's documents must not keep all jobs from being looked at
                LOGGER.exception("Job %s: its documents could not be made.", job.id)
                self._publish_at[job.id] = now + _PUBLISH_AGAIN
                continue
            self._store.mark_published(job)
