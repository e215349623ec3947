"""Whether the service is ready, as it was found just now: a look is dear, and many may ask."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from die_algorithm.check import Check, Level

#: Seconds for which what was found is told again.
_TOLD_FOR = 2.0
#: Seconds for which it is told while a new look is under way, which waits for others.
_TOLD_MEANWHILE = 15.0
#: Seconds for which one who cannot be told anything waits for the look that is under way.
_PATIENCE = 5.0

_HANGS = Check(
    name="look",
    level=Level.FAIL,
    text="A look at what the service needs does not come back: a disk may hang.",
    remedy="Look whether the folders of 'data_dir' and 'results_dir' can be listed.",
)


class Readiness:
    """Looks one at a time, each for all who ask: one look may wait for seconds for what hangs, or for ever.

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
        is_of_use = self._age() <= _TOLD_MEANWHILE
        if not self._looking.acquire(timeout=0 if is_of_use else _PATIENCE):
            return list(self._found) if is_of_use else [_HANGS]
        try:
            if self._age() > _TOLD_FOR:
                self._found = self._look()
                self._found_at = time.monotonic()
            return list(self._found)
        finally:
            self._looking.release()

    def _age(self) -> float:
        return time.monotonic() - self._found_at
