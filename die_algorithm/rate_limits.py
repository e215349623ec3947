"""Counts what each of many does, and says who does too much of it."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

#: Who are counted at once; above that those are forgotten who have done nothing for longest.
_MOST = 10_000
#: Characters of a name that are told apart.
_LONGEST = 200


class RateLimits:
    """A bucket of permissions for each name, which fills up again within a minute.

    It may be used by several threads.

    Args:
        per_minute: permissions in a full bucket, and how many come back in a minute; 0: no limit.
        clock: seconds that only go on.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._full = per_minute
        self._clock = clock
        #: What was left in each bucket, and when.
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, name: str) -> int:
        """Use a permission.

        Returns:
            0, or if there was none: seconds until there is one, rounded up.
        """
        if not self._full:
            return 0
        name = name[:_LONGEST]
        with self._lock:
            left, now = self._left(name)
            if left < 1:
                return self._seconds(left)
            self._buckets[name] = (left - 1, now)
            self._buckets.move_to_end(name)
            while len(self._buckets) > _MOST:
                self._buckets.popitem(last=False)
        return 0

    def wait(self, name: str) -> int:
        """What :meth:`take` would return, without using a permission."""
        if not self._full:
            return 0
        with self._lock:
            left, _now = self._left(name[:_LONGEST])
        return 0 if left >= 1 else self._seconds(left)

    def _left(self, name: str) -> tuple[float, float]:
        now = self._clock()
        left, then = self._buckets.get(name, (float(self._full), now))
        return min(self._full, left + (now - then) * self._full / 60), now

    def _seconds(self, left: float) -> int:
        return max(1, math.ceil((1 - left) * 60 / self._full))
