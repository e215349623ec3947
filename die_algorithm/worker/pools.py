"""The threads of a worker: a pool for each outside thing that may be slow."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor

from die_algorithm.worker.next_step import Pool

_THREADS = {
    Pool.STAGE_IN: 4,
    Pool.DISPATCH: 4,
    Pool.END: 8,
    Pool.CLEAN_UP: 8,
    Pool.WATCH: 1,
    Pool.DISKS: 1,
    Pool.EXPIRY: 1,
}


class Pools:
    """The pools, and which jobs are in one: no job is in two at once.

    Several threads may ask at once.

    Args:
        transfers: how many threads each pool of transfers has.
    """

    def __init__(self, transfers: int) -> None:
        self._executors = {
            pool: ThreadPoolExecutor(
                _THREADS.get(pool, transfers), thread_name_prefix=f"die-{pool.value}"
            )
            for pool in Pool
        }
        self._lock = threading.Lock()
        self._in_flight: set[str] = set()
        self._not_before: dict[str, float] = {}

    def submit(self, pool: Pool, action: Callable[[], None]) -> Future[None]:
        """Let a thread of a pool do something that is about no one job."""
        return self._executors[pool].submit(action)

    def start(
        self, pool: Pool, job_id: str, action: Callable[[], None], *, even_paused: bool = False
    ) -> None:
        """Let a thread do something about a job, unless the job is in a pool already, or pauses.

        Args:
            pool: whose thread.
            job_id: the job's.
            action: what to do; it ends by calling :meth:`release`, whatever happens.
            even_paused: whether to do it although the job pauses.
        """
        with self._lock:
            if job_id in self._in_flight or not (even_paused or self.may_go_on(job_id)):
                return
            self._in_flight.add(job_id)
            self._not_before.pop(job_id, None)
        self.submit(pool, action)

    def release(self, job_id: str, pause: float = 0.0) -> None:
        """Note that nothing is done about a job any more.

        Args:
            job_id: the job's.
            pause: seconds for which it is not to be started again.
        """
        with self._lock:
            self._in_flight.discard(job_id)
            if pause:
                self._not_before[job_id] = time.monotonic() + pause

    def may_go_on(self, job_id: str) -> bool:
        """Whether a job does not pause."""
        return time.monotonic() >= self._not_before.get(job_id, 0.0)

    def in_flight(self, job_ids: Collection[str]) -> set[str]:
        """Those of some jobs that are in a pool."""
        with self._lock:
            return self._in_flight & set(job_ids)

    def shut_down(self) -> None:
        """Begin nothing more, and wait for what is under way."""
        # The watches before the others: they give jobs to the others.
        for pool in reversed(Pool):
            self._executors[pool].shutdown(cancel_futures=True)
