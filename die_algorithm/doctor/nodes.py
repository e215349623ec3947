"""What the settings demand of the Swarm's networks and machines."""

from __future__ import annotations

from collections.abc import Sequence

from die_algorithm.check import Check, Level
from die_algorithm.container_rules import ContainerLimits, ContainerRules
from die_algorithm.doctor.manager import PATIENCE
from die_algorithm.doctor.placement import fitting_nodes
from die_algorithm.errors import SwarmError
from die_algorithm.models import EngineFacts, NodeFacts
from die_algorithm.runtime import swarm_client
from die_algorithm.service_spec import forbids_new_privileges
from die_algorithm.settings import Settings
from die_algorithm.versions import release

#: The oldest engine whose tasks can forbid new privileges.
_FORBIDDING_ENGINE = (25,)


def node_checks(settings: Settings, rules: ContainerRules, facts: EngineFacts) -> list[Check]:
    """What the settings demand of the Swarm and it does not have."""
    swarm = swarm_client(settings, timeout=PATIENCE)
    try:
        joinable = not settings.network or swarm.can_join(settings.network)
        nodes = swarm.nodes()
    except SwarmError:
        check = Check(
            name="nodes",
            level=Level.FAIL,
            text="The Swarm does not tell its nodes and networks.",
            remedy="See with 'docker node ls' whether most of its managers are up.",
        )
        return [check]
    finally:
        swarm.close()
    checks = [] if joinable else [_no_network(settings.network)]
    fitting = fitting_nodes(settings, nodes)
    if not fitting:
        return [*checks, _no_node(settings)]
    checks += old_engine_checks(rules.all_limits(settings), fitting, facts)
    return checks + limit_checks(settings, fitting) + disk_checks(settings, fitting)


def _no_network(network: str) -> Check:
    return Check(
        name="network",
        level=Level.FAIL,
        text=f"The Swarm has no network {network!r} that services can join.",
        remedy="Make it with scripts/job_network on each node, or change the setting 'network'.",
    )


def _no_node(settings: Settings) -> Check:
    if not settings.placement:
        return Check(
            name="nodes",
            level=Level.FAIL,
            text="No node of the Swarm is ready and active: containers would never start.",
            remedy="See 'docker node ls'; 'docker node update --availability active' lets a node work.",
        )
    return Check(
        name="placement",
        level=Level.FAIL,
        text=f"No node that is ready meets {', '.join(settings.placement)}: containers would never "
        "start.",
        remedy="Label a node with 'docker node update', or change the setting 'placement'.",
    )


def old_engine_checks(
    rules: Sequence[ContainerLimits], nodes: Sequence[NodeFacts], facts: EngineFacts
) -> list[Check]:
    """Nodes whose engines drop what the manager's engine takes on for them."""
    held = [limits for limits in rules if forbids_new_privileges(limits, facts)]
    # Of the Swarm's only node, and where the operator gives his word, all is known already.
    if facts.nodes == 1 or not held or held[0].engines_forbid_new_privileges:
        return []
    old = [node for node in nodes if () < release(node.engine_version) < _FORBIDDING_ENGINE]
    if not old:
        return []
    oldest = min(old, key=lambda node: release(node.engine_version))
    strict = any(limits.profile == "strict" for limits in held)
    text = (
        f"{', '.join(node.hostname for node in old)} may have an engine that ignores no-new-privileges "
        f"for services: the oldest is {oldest.engine_version}. The service judges by the manager's engine."
    )
    if strict:
        text += " Images of the profile 'strict' would run there without."
    return [
        Check(
            name="profile strict" if strict else "no-new-privileges",
            level=Level.FAIL if strict else Level.WARN,
            text=text,
            remedy="Install Docker Engine 25 or later there, choose other nodes with 'placement', or set "
            '"no-new-privileges": true in each node\'s daemon.json and '
            "'engines_forbid_new_privileges = true' in the policy file.",
        )
    ]


def limit_checks(settings: Settings, nodes: Sequence[NodeFacts]) -> list[Check]:
    """Compare the limits with the nodes that jobs may run on."""
    checks = []
    small = [node.hostname for node in nodes if node.cpus < settings.cpu_limit]
    if small:
        checks.append(
            Check(
                name="cpu_limit",
                level=Level.FAIL if len(small) == len(nodes) else Level.WARN,
                text=f"'cpu_limit' is {settings.cpu_limit:g}, but {', '.join(small)} has fewer CPUs: "
                "the engine would reject every container there.",
                remedy="Lower the setting 'cpu_limit', or choose other nodes with 'placement'.",
            )
        )
    small = [node.hostname for node in nodes if node.memory < settings.memory_limit]
    if small:
        checks.append(
            Check(
                name="memory_limit",
                level=Level.WARN,
                text=f"'memory_limit' is {settings.memory_limit.human_readable()}, but "
                f"{', '.join(small)} has less: one container may take all of its memory.",
                remedy="Lower the setting 'memory_limit'.",
            )
        )
    return checks


def disk_checks(settings: Settings, nodes: Sequence[NodeFacts]) -> list[Check]:
    """An engine tells only of its own containers what they write."""
    if len(nodes) < 2 or not settings.disk_limit:
        return []
    return [
        Check(
            name="disk_limit",
            level=Level.WARN,
            text="What containers write to their own disks is looked at on the engine that "
            f"'docker_host' names, and not on all of {', '.join(node.hostname for node in nodes)}.",
            remedy="Give the engines of the other nodes a quota for each container (storage option "
            "'overlay2.size' on xfs with 'pquota'), or choose one node with 'placement'.",
        )
    ]
