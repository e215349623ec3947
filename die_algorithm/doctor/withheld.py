"""What a proxy before the engine keeps from the service."""

from __future__ import annotations

from die_algorithm.check import Check, Level
from die_algorithm.container_rules import ContainerRules
from die_algorithm.doctor.manager import PATIENCE
from die_algorithm.errors import SwarmError
from die_algorithm.runtime import swarm_client
from die_algorithm.settings import Settings


def withheld_checks(settings: Settings, rules: ContainerRules) -> list[Check]:
    """Warn of what the service may not ask; jobs go on without (reference: safety 2.9)."""
    swarm = swarm_client(settings, timeout=PATIENCE)
    try:
        of_ends, of_disks = swarm.withheld_of_ends(), swarm.withheld_of_disks()
    except SwarmError:
        return []  # of an engine that is away other checks tell
    finally:
        swarm.close()
    is_bounded = any(limits.disk for limits in rules.all_limits(settings))
    checks = [_unknown_ends(of_ends)] if of_ends else []
    return [*checks, _unknown_disks(of_disks)] if of_disks and is_bounded else checks


def _unknown_ends(withheld: list[str]) -> Check:
    return Check(
        name="docker_host",
        level=Level.WARN,
        text="A proxy before the engine, or the engine itself, does not let this service ask why a "
        "container ended: what ran out of memory, or was stopped by the engine's restart, counts as what "
        "its exit code says.",
        remedy=f"Let it pass {' and '.join(withheld)}.",
    )


def _unknown_disks(withheld: list[str]) -> Check:
    return Check(
        name="disk_limit",
        level=Level.WARN,
        text="A proxy before the engine, or the engine itself, does not let this service ask what "
        "containers write to their own disks, or to their volumes: nothing bounds that.",
        remedy=f"Let it pass {' and '.join(withheld)}, or give the engines a quota "
        "for each container (storage option 'overlay2.size' on xfs with 'pquota').",
    )
