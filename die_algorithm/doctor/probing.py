"""What containers can do on each machine, seen from inside."""

from __future__ import annotations

from die_algorithm.check import Check, Level
from die_algorithm.container_rules import ContainerRules
from die_algorithm.doctor.placement import fitting_nodes
from die_algorithm.errors import ImageError, InvalidParameterValue, SettingsError, SwarmError
from die_algorithm.probe import NodeReport, Probe
from die_algorithm.runtime import swarm_client
from die_algorithm.settings import Settings


def probe_nodes(settings: Settings, rules: ContainerRules) -> list[Check]:
    """Look from inside at what containers can do, on each node that jobs may run on.

    Args:
        settings: the operator's.
        rules: what containers may do.
    """
    try:
        swarm = swarm_client(settings)
    except SettingsError as error:
        return [_no_probe("probe", str(error))]
    try:
        nodes = fitting_nodes(settings, swarm.nodes())
        reports = Probe(settings, rules, swarm).run(nodes)
    except (SwarmError, ImageError, InvalidParameterValue) as error:
        return [_no_probe("probe", str(error))]
    finally:
        swarm.close()
    if not reports:
        return [_no_probe("probe", "No node fits the setting 'placement'.")]
    return [check for report in reports for check in _probed(report)]


def _probed(report: NodeReport) -> list[Check]:
    if report.trouble:
        return [_no_probe(f"probe on {report.hostname}", report.trouble)]
    return [
        Check(
            name=f"{each.finding.name} on {report.hostname}",
            level=each.level,
            text=each.finding.text,
            remedy=each.remedy,
        )
        for each in report.judgements
    ]


def _no_probe(name: str, text: str) -> Check:
    return Check(
        name=name,
        level=Level.FAIL,
        text=text,
        remedy="The image of the setting 'probe_image' must be where the nodes pull images from; it is "
        "made from examples/probe.",
    )
