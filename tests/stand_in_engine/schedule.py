"""What happens later: one thread and a heap, however much is waiting."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable

LOGGER = logging.getLogger(__name__)


class Schedule:
    """Calls actions at their time, one after the other in a thread of its own."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="stand-in-schedule", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; what is still to come will not happen."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Call the action in some seconds. It may not take long, and must look if it is still wanted."""
        entry = (time.monotonic() + seconds, next(self._order), action)
        with self._changed:
            heapq.heappush(self._heap, entry)
            if self._heap[0] is entry:
                self._changed.notify()

    def _run(self) -> None:
        while (action := self._next()) is not None:
            try:
                action()
            except Exception:  # one broken container must not stop all others
                LOGGER.exception("An action of the stand-in failed.")

    def _next(self) -> Callable[[], None] | None:
        """Wait for the next action; None at the end."""
        with self._changed:
            while not self._stopped:
                left = self._heap[0][0] - time.monotonic() if self._heap else None
                if left is not None and left <= 0:
                    return heapq.heappop(self._heap)[2]
                self._changed.wait(left)
            return None
