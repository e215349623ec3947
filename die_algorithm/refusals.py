"""Ends the loops of clients who go on asking for a status that they are refused."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

#: Refusals of one status that are borne within so many seconds; who polls each second stays below.
_BORNE = 20
_WITHIN = 10.0
#: Statuses that are counted at once; above that the oldest ones are forgotten.
_MOST = 1024
#: Characters of an id that are told apart; a job's has 36.
_LONGEST = 40


class Refusals:
    """Counts how often a job's status was refused of late. It may be used by several threads.

    OWSLib asks at once again, without a pause and for ever, when the answer is HTTP 401 or 404 (0.35,
    ``WPSExecution.checkStatus``). It stops, and shows the text, when the answer is HTTP 429.
    """

    def __init__(self) -> None:
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._lock = threading.Lock()

    def are_too_many(self, job_id: str) -> bool:
        """Count one more.

        Args:
            job_id: the id that was asked for, whether there is such a job or not.
        """
        now, key = time.monotonic(), job_id[:_LONGEST]
        with self._lock:
            began, count = self._counts.pop(key, (now, 0))
            if now - began > _WITHIN:
                began, count = now, 0
            self._counts[key] = (began, count + 1)
            while len(self._counts) > _MOST:
                self._counts.popitem(last=False)
        return count >= _BORNE
