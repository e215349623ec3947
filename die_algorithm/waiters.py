"""Those who wait for jobs to end, in this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

#: Seconds between two looks at the records: a job that another machine's worker carries ends without
#: a word.
_LOOK_AGAIN = 0.2


class Waiters:
    """Threads that wait, each for a job; one look at the records is for all of them.

    Args:
        ended: tells which of some jobs, given by their ids, have ended; may raise.
    """

    def __init__(self, ended: Callable[[Collection[str]], Collection[str]]) -> None:
        self._ended = ended
        self._closed = threading.Event()
        self._events: dict[str, list[threading.Event]] = {}
        self._lock = threading.Lock()
        self._looking = threading.Lock()
        self._look_at = 0.0

    def close(self) -> None:
        """Let all return at once, now and from now on."""
        self._closed.set()
        with self._lock:
            for events in self._events.values():
                for event in events:
                    event.set()

    def notify(self, job_id: str) -> None:
        """Let those return who wait for a job."""
        with self._lock:
            for event in self._events.get(job_id, ()):
                event.set()

    def wait(self, job_id: str, timeout: float) -> None:
        """Wait until a job has ended, for some seconds at most, or until all may go."""
        deadline = time.monotonic() + timeout
        with self._waiting(job_id) as event:
            # It may have ended before there was anybody to notify.
            if job_id in self._ended([job_id]):
                return
            while not self._closed.is_set():
                left = deadline - time.monotonic()
                if left <= 0 or event.wait(min(left, _LOOK_AGAIN)):
                    return
                self._look()

    def _look(self) -> None:
        """Look for all who wait, unless somebody does or has just done so."""
        if not self._looking.acquire(blocking=False):
            return
        try:
            if time.monotonic() < self._look_at:
                return
            with self._lock:
                waited_for = list(self._events)
            for job_id in self._ended(waited_for):
                self.notify(job_id)
            self._look_at = time.monotonic() + _LOOK_AGAIN
        finally:
            self._looking.release()

    @contextmanager
    def _waiting(self, job_id: str) -> Iterator[threading.Event]:
        event = threading.Event()
        with self._lock:
            self._events.setdefault(job_id, []).append(event)
        try:
            yield event
        finally:
            with self._lock:
                self._events[job_id].remove(event)
                if not self._events[job_id]:
                    del self._events[job_id]
