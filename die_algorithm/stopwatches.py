"""How long something has lasted, by a clock that nobody sets.

Moments are recorded as wall time, which a restart can read. A wall clock jumps when it is set, so what
has passed since a moment is taken from it once only, when the moment is first seen, and from then on
counted by the monotonic clock: a jump neither ends a job nor lets one run for ever. A jump forward that
was seen to happen is left out of what is taken from the wall clock later: a job may have waited in the
queue before it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Container
from datetime import UTC, datetime, timedelta


def _wall_time() -> datetime:
    return datetime.now(UTC)


#: Seconds by which the two clocks may drift apart between two looks without a jump.
_DRIFT = 5.0


class Stopwatches:
    """Durations since recorded moments. Several threads may ask at once.

    Args:
        wall: the time of day.
        monotonic: seconds that only ever grow.
    """

    def __init__(
        self,
        wall: Callable[[], datetime] = _wall_time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._started: dict[str, dict[str, tuple[datetime, float]]] = {}
        self._lock = threading.Lock()
        self._apart = self._wall().timestamp() - self._monotonic()
        #: Up to which moment the wall clock was right before a jump forward, and its seconds.
        self._jumps: list[tuple[float, float]] = []

    def elapsed(self, job_id: str, what: str, since: datetime) -> timedelta:
        """What has passed since a moment of a job.

        Args:
            job_id: the job's.
            what: tells its moments apart.
            since: the moment; another one than before starts the watch anew.
        """
        self._look_for_jump()
        watches = self._started.setdefault(job_id, {})
        moment, start = watches.get(what, (None, 0.0))
        if moment != since:
            start = self._monotonic() - self._passed(since)
            watches[what] = (since, start)
        return timedelta(seconds=self._monotonic() - start)

    def _look_for_jump(self) -> None:
        with self._lock:
            now = self._wall().timestamp()
            apart = now - self._monotonic()
            jump = apart - self._apart
            if jump > _DRIFT:
                self._jumps.append((now - jump, jump))
            self._apart = apart

    def _passed(self, since: datetime) -> float:
        """Seconds since a moment by the wall clock, without its jumps."""
        moment = since.timestamp()
        jumped = sum(jump for until, jump in self._jumps if moment <= until)
        return max(self._wall().timestamp() - moment - jumped, 0.0)

    def keep_only(self, job_ids: Container[str]) -> None:
        """Drop what is known of all other jobs, because they have ended."""
        for job_id in list(self._started):
            if job_id not in job_ids:
                self._started.pop(job_id, None)
