"""Everything that an operator can mend, looked at once."""

from __future__ import annotations

import dataclasses

from die_algorithm.check import Check
from die_algorithm.doctor.administrators import administrator_checks
from die_algorithm.doctor.manager import manager_check, open_engine_checks
from die_algorithm.doctor.nodes import node_checks
from die_algorithm.doctor.places import look_at_database, look_at_results, user_checks
from die_algorithm.doctor.protections import engine_checks, shortfall_checks
from die_algorithm.doctor.proxies import proxy_checks
from die_algorithm.doctor.registries import registry_checks
from die_algorithm.doctor.withheld import withheld_checks
from die_algorithm.policy import Policy
from die_algorithm.readiness import database_check, results_check, storagehub_check
from die_algorithm.settings import Settings


def examine(settings: Settings, policy: Policy) -> list[Check]:
    """Everything an operator can mend, what only warns included. Names tell where it was looked.

    Nothing is made or changed: whoever asks may be another user than the service's.

    Args:
        settings: the operator's.
        policy: the same.
    """
    swarm, facts = manager_check(settings)
    checks = [
        database_check(settings, look_at_database),
        results_check(settings, look_at_results),
        *user_checks(settings),
        storagehub_check(settings),
        *registry_checks(settings, policy),
        *administrator_checks(settings),
        *proxy_checks(settings),
        swarm,
        *open_engine_checks(settings),
    ]
    if facts is not None:
        checks += engine_checks(facts)
        checks += shortfall_checks(settings, policy.containers, facts)
        if swarm.passed:
            checks += node_checks(settings, policy.containers, facts)
            checks += withheld_checks(settings, policy.containers)
    return [
        dataclasses.replace(check, name=f"{check.name} at {check.place}") if check.place else check
        for check in checks
    ]
