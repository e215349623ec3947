"""Whether results can be published."""

from __future__ import annotations

from collections.abc import Callable

from die_algorithm.check import Check, Level
from die_algorithm.readiness.disk_room import demand_room
from die_algorithm.results import Results
from die_algorithm.settings import Settings


def use_results(settings: Settings) -> str:
    """Write a result's file, and remove it again.

    Returns:
        what was found, in a sentence.

    Raises:
        OSError: it cannot be written, or the disk is about to be full.
    """
    Results(settings.results_path).check()
    demand_room(settings.results_path)
    return "Results can be written."


def results_check(settings: Settings, use: Callable[[Settings], str] = use_results) -> Check:
    """A failure if results cannot be published.

    Args:
        settings: the operator's.
        use: finds out, and says what was found. It raises ``OSError``.
    """
    name, place = "results", str(settings.results_path)
    try:
        text = use(settings)
    except OSError as error:
        return Check(
            name=name,
            level=Level.FAIL,
            text=f"No file can be written into the folder of the results: {error.strerror}.",
            remedy="Make room, or set 'results_dir' to a folder that the service's user may write.",
            place=place,
        )
    return Check(name=name, level=Level.OK, text=text, place=place)
