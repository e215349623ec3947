"""What came of a look at one thing that the service needs, for the operator."""

from __future__ import annotations

import dataclasses
import enum


class Level(enum.Enum):
    """How bad it is."""

    #: As it should be.
    OK = "ok"
    #: Jobs run, but something should be mended.
    WARN = "warn"
    #: Jobs cannot run, or must not.
    FAIL = "fail"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """One thing looked at."""

    name: str
    level: Level
    #: What was found, in a sentence.
    text: str
    #: What to do about it; empty if nothing needs to be done, or if the text says it.
    remedy: str = ""
    #: What was tried: an address or a file. For the operator alone, so it is no part of the text.
    place: str = ""

    @property
    def passed(self) -> bool:
        """Whether jobs may run."""
        return self.level is not Level.FAIL
