"""What must work on the service's own side for a job to run."""

from __future__ import annotations

from die_algorithm.check import Check
from die_algorithm.readiness.database import database_check
from die_algorithm.readiness.results import results_check
from die_algorithm.readiness.storagehub import storagehub_check
from die_algorithm.settings import Settings


def service_checks(settings: Settings) -> list[Check]:
    """What must work now for a job to run."""
    return [database_check(settings), results_check(settings), storagehub_check(settings)]
