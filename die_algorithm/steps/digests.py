"""What image references mean, each asked of the registry once for all jobs that it may serve.

A registry counts what it is asked, and Docker Hub refuses those who ask too often. A job runs the image
as its reference meant it when the job was accepted or later, so what was asked after that is an answer
for it: hundreds of waiting jobs with one image cost one question. Only what is surely later counts: a
job may have been accepted on another machine, and clocks are set.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from die_algorithm.image_reference import ImageReference
from die_algorithm.models import ImageFacts, Job

_MOST = 256
#: By how much the clocks of two machines may differ, and what a clock may gain while it is set gently.
_CLOCKS_DIFFER = timedelta(seconds=5)


@dataclasses.dataclass(frozen=True)
class _Answer:
    asked_at: datetime
    #: The same by the clock that nobody sets, in seconds.
    asked: float
    facts: ImageFacts

    def serves(self, job: Job) -> bool:
        age = timedelta(seconds=time.monotonic() - self.asked)
        was_set = abs(datetime.now(UTC) - self.asked_at - age) > _CLOCKS_DIFFER
        return not was_set and self.asked_at > job.accepted_at + _CLOCKS_DIFFER


class Digests:
    """Remembers the answers, of each reference the last.

    Args:
        resolve: asks the registry; may raise.
    """

    def __init__(self, resolve: Callable[[ImageReference], ImageFacts]) -> None:
        self._resolve = resolve
        self._lock = threading.Lock()
        self._answers: OrderedDict[str, _Answer] = OrderedDict()

    def of(self, job: Job) -> ImageFacts:
        """What a job's image is, asked for since the job was accepted.

        Raises:
            ImageError, SwarmError: as the registry is asked.
        """
        reference = job.request.image
        with self._lock:
            known = self._answers.get(reference)
        if known and known.serves(job):
            return known.facts
        asked_at, asked = datetime.now(UTC), time.monotonic()
        facts = self._resolve(ImageReference.recorded(reference))
        with self._lock:
            self._answers[reference] = _Answer(asked_at, asked, facts)
            self._answers.move_to_end(reference)
            if len(self._answers) > _MOST:
                self._answers.popitem(last=False)
        return facts
