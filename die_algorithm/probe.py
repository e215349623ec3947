"""Looks from inside at what jobs' containers can do, on each node that jobs may run on.

The probe runs with the very task that a job's service would have. A second one on the same node only
listens, so that the first can try whether containers reach each other.
"""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from die_algorithm.container_rules import ContainerRules
from die_algorithm.errors import SwarmError, SwarmUnavailable
from die_algorithm.image_reference import ImageReference
from die_algorithm.models import EngineFacts, NodeFacts, TaskPhase
from die_algorithm.probe_report import Judgement, findings, judge
from die_algorithm.service_spec import INSTANCE_LABEL, PROBE_LABEL, task_template
from die_algorithm.settings import Settings
from die_algorithm.swarm import Swarm

#: Seconds for a node to pull the image and to run it.
_PATIENCE = 180.0
_INTERVAL = 0.25
_LOG_LIMIT = 256 * 1024
_LOG_TIMEOUT = 10.0
_OVER = (TaskPhase.COMPLETE, TaskPhase.FAILED, TaskPhase.REJECTED, TaskPhase.LOST)
_ADDRESS = "address "

_Found = TypeVar("_Found")


@dataclasses.dataclass(frozen=True, kw_only=True)
class NodeReport:
    """What the probe saw on one node."""

    hostname: str
    judgements: Sequence[Judgement] = ()
    #: Why there are none.
    trouble: str = ""


class Probe:
    """Runs the probe on nodes, one after the other, and leaves nothing behind.

    Args:
        settings: the operator's.
        rules: what containers may do.
        swarm: where containers run.
        patience: seconds for each of a node's two containers.
    """

    def __init__(
        self,
        settings: Settings,
        rules: ContainerRules,
        swarm: Swarm,
        *,
        patience: float = _PATIENCE,
    ) -> None:
        self._settings = settings
        self._swarm = swarm
        self._patience = patience
        self._image = ImageReference.recorded(settings.probe_image)
        self._limits = rules.limits_for(self._image.name, settings)

    def run(self, nodes: Sequence[NodeFacts]) -> list[NodeReport]:
        """Look at nodes.

        Raises:
            SwarmError: the Swarm does not answer.
            ImageError: the image is not there, or its registry does not answer.
            InvalidParameterValue: the setting ``probe_image`` names no image.
        """
        self._remove_left_overs()
        engine = self._swarm.facts()
        image = self._image.pinned(self._swarm.resolve_digest(self._image))
        managers = _managers(self._swarm.nodes())
        return [self._look(node, image, engine, managers) for node in nodes]

    def _remove_left_overs(self) -> None:
        for service_id in self._swarm.services_labelled(
            PROBE_LABEL, INSTANCE_LABEL, self._instance
        ):
            self._swarm.remove_service(service_id)

    @property
    def _instance(self) -> str:
        return self._settings.instance_name

    def _look(
        self,
        node: NodeFacts,
        image: ImageReference,
        engine: EngineFacts,
        managers: Sequence[str],
    ) -> NodeReport:
        def service(*words: str) -> contextlib.AbstractContextManager[str]:
            return self._service(words, node, image, engine)

        try:
            with service("--listen", "600") as listener:
                peers = self._wait_for(listener, _addresses)
                with service(*_each("--peer", peers), *_each("--manager", managers)) as looker:
                    found = self._wait_for(looker, findings)
        except SwarmError as error:
            return NodeReport(hostname=node.hostname, trouble=str(error))
        judgements = [
            judge(each, limits=self._limits, settings=self._settings, engine=engine)
            for each in found
        ]
        return NodeReport(hostname=node.hostname, judgements=judgements)

    @contextlib.contextmanager
    def _service(
        self, words: Sequence[str], node: NodeFacts, image: ImageReference, engine: EngineFacts
    ) -> Iterator[str]:
        """A service that is there as long as it is looked at; its id."""
        labels = {PROBE_LABEL: "1", INSTANCE_LABEL: self._instance}
        task = task_template(
            ["probe", *words],
            self._settings,
            image=image,
            engine=engine,
            limits=self._limits,
            labels=labels,
        )
        place = f"node.id=={node.attributes['node.id']}"
        task["Placement"] = {"Constraints": [*self._settings.placement, place]}
        service_id = self._swarm.create_service(
            {
                "Name": f"die-probe-{secrets.token_hex(8)}",
                "Labels": labels,
                "TaskTemplate": task,
                "Mode": {"Replicated": {"Replicas": 1}},
                "EndpointSpec": {"Mode": "dnsrr"},
            }
        )
        try:
            yield service_id
        finally:
            self._swarm.remove_service(service_id)

    def _wait_for(self, service_id: str, read: Callable[[str], _Found | None]) -> _Found:
        """Wait until a probe has written what is looked for.

        Raises:
            SwarmUnavailable: it ended without, or did not do so in time.
        """
        deadline = time.monotonic() + self._patience
        last = "no task"
        while time.monotonic() < deadline:
            report = self._swarm.task_report(service_id)
            if report is not None:
                last = f"{report.state}: {report.message}"
                if report.phase is TaskPhase.RUNNING or report.phase in _OVER:
                    log = self._swarm.log_tail(service_id, limit=_LOG_LIMIT, timeout=_LOG_TIMEOUT)
                    found = read(log.decode(errors="replace"))
                    if found is not None:
                        return found
                if report.phase in _OVER:
                    break
            time.sleep(_INTERVAL)
        raise SwarmUnavailable(f"The probe told nothing; its task is {last}")


def _managers(nodes: Sequence[NodeFacts]) -> list[str]:
    """The managers' addresses, as far as they mean the same from inside of a container."""
    found = []
    for node in nodes:
        with contextlib.suppress(ValueError):
            address = ipaddress.ip_address(node.manager_address)
            if not (address.is_loopback or address.is_unspecified):
                found.append(str(address))
    return found


def _each(option: str, values: Sequence[str]) -> list[str]:
    return [word for value in values for word in (option, value)]


def _addresses(log: str) -> list[str] | None:
    """Where the one that listens can be found, of each kind of address that it has."""
    lines = [line for line in log.splitlines() if line.startswith(_ADDRESS)]
    return lines[0].split()[1:] if lines else None
