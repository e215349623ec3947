"""Versions of engines and of their API, as numbers that can be compared."""

from __future__ import annotations

import re


def release(version: str) -> tuple[int, ...]:
    """The first two numbers of a version, such as ``(1, 44)``; fewer if it has not as many.

    Args:
        version: as an engine tells it, of itself or of its API.
    """
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])
