"""Whether the service is ready, as it was found just now: a look is dear, and many may ask."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from die_algorithm.check import Check

#: Seconds for which what was found is told again.
_TOLD_FOR = 2.0
#: Seconds for which it is told while a new look is under way, which waits for others.
_TOLD_MEANWHILE = 15.0


class Readiness:
    """Looks one at a time, each for all who ask: one look may wait for seconds for what hangs.

    Args:
        look: looks.
    """

    def __init__(self, look: Callable[[], list[Check]]) -> None:
        self._look = look
        self._looking = threading.Lock()
        self._found: list[Check] = []
        self._found_at = -math.inf

    def look(self) -> list[Check]:
        """What was found just now, or a moment ago."""
        if self._age() <= _TOLD_FOR:
            return list(self._found)
        # Who cannot be told anything else waits for the look that is under way.
        if not self._looking.acquire(blocking=self._age() > _TOLD_MEANWHILE):
            return list(self._found)
        try:
            if self._age() > _TOLD_FOR:
                self._found = self._look()
                self._found_at = time.monotonic()
            return list(self._found)
        finally:
            self._looking.release()

    def _age(self) -> float:
        return time.monotonic() - self._found_at
