"""Where a process can be made to die on purpose, to show that nothing is lost by it.

The names are those of a job's steps (reference: safety 5.0). In production nothing listens.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Point(enum.Enum):
    """What a process may die just before and just after."""

    REQUEST_PARSED = "S0-request-parsed"
    ACCEPTED = "S1-accepted"
    FOLDER_CREATED = "S2-folder-created"
    DIGEST_RESOLVED = "S3-digest-resolved"
    SERVICE_CREATED = "S4-service-created"
    SERVICE_RECORDED = "S5-service-recorded"
    SERVICE_STARTED = "S5b-service-started"
    RUNNING_RECORDED = "S6-running-recorded"
    END_RECORDED = "S7-end-recorded"
    FOLDER_DOWNLOADED = "S8-folder-downloaded"
    ZIP_VERIFIED = "S9-zip-verified"
    ZIP_PUBLISHED = "S10-zip-published"
    SERVICE_REMOVED = "S11-service-removed"
    FOLDER_REMOVED = "S12-folder-removed"
    END_REACHED = "S13-end-reached"


class InputPoint(enum.Enum):
    """The same for those jobs whose file has to be put into the workspace first."""

    FOLDER_CREATED = "S2i-input-folder-created"
    UPLOADED = "S2j-input-uploaded"
    FOLDER_REMOVED = "S12i-input-folder-removed"


class SecretPoint(enum.Enum):
    """The same for those jobs whose image wants the token as a file."""

    CREATED = "S3s-secret-created"
    REMOVED = "S11s-secret-removed"


class FetchPoint(enum.Enum):
    """The same for those jobs whose image no machine could fetch at the first try."""

    RETURNED = "S5f-returned"
    SERVICE_REMOVED = "S5g-unfetched-service-removed"
    FORGOTTEN = "S5h-unfetched-service-forgotten"


AnyPoint = Point | InputPoint | SecretPoint | FetchPoint


class FailPoints:
    """Tells where in a job's way a process is.

    Args:
        reached: called with ``<name>:before`` and ``<name>:after``; None in production.
    """

    def __init__(self, reached: Callable[[str], None] | None = None) -> None:
        self._reached = reached

    def before(self, point: AnyPoint) -> None:
        """It is about to happen."""
        if self._reached:
            self._reached(f"{point.value}:before")

    def after(self, point: AnyPoint) -> None:
        """It has just happened."""
        if self._reached:
            self._reached(f"{point.value}:after")

    @contextmanager
    def around(self, point: AnyPoint) -> Iterator[None]:
        """It happens in the block."""
        self.before(point)
        yield
        self.after(point)
