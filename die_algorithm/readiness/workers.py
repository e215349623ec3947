"""What workers say of themselves and of the Swarm."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from die_algorithm.check import Check, Level
from die_algorithm.errors import DieError
from die_algorithm.models import WorkerReport


def worker_checks(
    reports: Callable[[], Sequence[WorkerReport]], *, works_here: bool
) -> list[Check]:
    """Whether jobs are carried on, and whether the Swarm can be used: only workers talk to it.

    Args:
        reports: what the workers say of themselves.
        works_here: whether the worker of this process works, if it has one.
    """
    try:
        alive = [report for report in reports() if report.is_alive]
    except DieError:
        alive = []
    if not alive or not works_here:
        return [
            Check(
                name="worker",
                level=Level.FAIL,
                text="No worker comes round: jobs are accepted, but do not go on.",
                remedy="Restart the service, or start one with 'die worker'; its log has the reason.",
            )
        ]
    trouble = next((report.trouble for report in alive if report.trouble), "")
    return [
        Check(name="worker", level=Level.OK, text="The worker works."),
        Check(
            name="Docker Swarm",
            level=Level.FAIL if trouble else Level.OK,
            text=trouble or "The Swarm can be used.",
        ),
    ]
