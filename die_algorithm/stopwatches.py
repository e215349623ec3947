"""How long something has lasted, by a clock that nobody sets.

Moments are recorded as wall time, which a restart can read. A wall clock jumps when it is set, so what
has passed since a moment is taken from it once only, when the moment is first seen, and from then on
counted by the monotonic clock: a jump neither ends a job nor lets one run for ever.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container
from datetime import UTC, datetime, timedelta


def _wall_time() -> datetime:
    return datetime.now(UTC)


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

    def elapsed(self, job_id: str, what: str, since: datetime) -> timedelta:
        """What has passed since a moment of a job.

        Args:
            job_id: the job's.
            what: tells its moments apart.
            since: the moment; another one than before starts the watch anew.
        """
        watches = self._started.setdefault(job_id, {})
        moment, start = watches.get(what, (None, 0.0))
        if moment != since:
            before = max((self._wall() - since).total_seconds(), 0.0)
            start = self._monotonic() - before
            watches[what] = (since, start)
        return timedelta(seconds=self._monotonic() - start)

    def keep_only(self, job_ids: Container[str]) -> None:
        """Drop what is known of all other jobs, because they have ended."""
        for job_id in list(self._started):
            if job_id not in job_ids:
                self._started.pop(job_id, None)
