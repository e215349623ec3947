"""The digests of image references, each asked of the registry once for all jobs that it may serve.

A registry counts what it is asked, and Docker Hub refuses those who ask too often. A job runs the image
as its reference meant it when the job was accepted or later, so what was asked after that is an answer
for it: hundreds of waiting jobs with one image cost one question.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime

from die_algorithm.image_reference import ImageReference
from die_algorithm.models import Job

_MOST = 256


class Digests:
    """Remembers the answers, of each reference the last.

    Args:
        resolve: asks the registry; may raise.
    """

    def __init__(self, resolve: Callable[[ImageReference], str]) -> None:
        self._resolve = resolve
        self._lock = threading.Lock()
        self._answers: OrderedDict[str, tuple[datetime, str]] = OrderedDict()

    def of(self, job: Job) -> str:
        """The digest of a job's image, asked for since the job was accepted.

        Raises:
            SwarmError: as the registry is asked.
        """
        reference = job.request.image
        with self._lock:
            asked_at, digest = self._answers.get(reference, (None, ""))
        if asked_at is not None and asked_at >= job.accepted_at:
            return digest
        asked_at = datetime.now(UTC)
        digest = self._resolve(ImageReference.parse(reference))
        with self._lock:
            self._answers[reference] = (asked_at, digest)
            self._answers.move_to_end(reference)
            if len(self._answers) > _MOST:
                self._answers.popitem(last=False)
        return digest
