"""What containers write to disks of their own: nothing but a look now and then bounds it.

The engine has no limit for a service's layer, and no event when a disk fills. It tells of its own
containers only: those on other nodes of the Swarm are left to quotas of the engines there.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from die_algorithm.container_rules import ContainerRules
from die_algorithm.errors import SwarmError, SwarmUnavailable
from die_algorithm.job_in_hand import job_in_hand
from die_algorithm.models import Job, TaskReport
from die_algorithm.settings import Settings
from die_algorithm.swarm import Swarm

LOGGER = logging.getLogger(__name__)

#: Seconds between two looks.
_EVERY = 10.0
#: The engine adds up files for us for at most so much of its time.
_SHARE = 0.1
#: Containers that cannot be looked at, after which a look is given up.
_REFUSALS = 3


class DiskWatch:
    """Looks, at a pace of its own, which containers have written more than they may.

    Args:
        settings: the operator's.
        rules: what containers may do.
        swarm: where containers run.
    """

    def __init__(self, settings: Settings, rules: ContainerRules, swarm: Swarm) -> None:
        self._settings = settings
        self._rules = rules
        self._swarm = swarm
        self._look_at = 0.0

    @property
    def is_due(self) -> bool:
        """Whether it is time for the next look."""
        return time.monotonic() >= self._look_at

    def look(self, running: Mapping[str, TaskReport], jobs: Mapping[str, Job]) -> list[Job]:
        """Look once.

        Args:
            running: reports of tasks that run, by the ids of their jobs.
            jobs: those that may be stopped, by their ids.

        Returns:
            The jobs whose containers have written too much.
        """
        limits = {
            job_id: limit
            for job_id in running.keys() & jobs.keys()
            if (limit := self._rules.limits_of(jobs[job_id], self._settings).disk)
        }
        began = time.monotonic()
        # The container's id says whose it is: its labels may be the image's own.
        containers = {
            container_id: job_id
            for job_id in limits
            if (container_id := running[job_id].container_id)
        }
        written = self._written(containers)
        ended = time.monotonic()
        self._look_at = ended + max(_EVERY, (ended - began) / _SHARE)
        return [
            jobs[job_id]
            for job_id, limit in limits.items()
            if written.get(running[job_id].container_id or "", 0) > limit
        ]

    def _written(self, containers: Mapping[str, str]) -> dict[str, int]:
        if not containers:
            return {}
        try:
            return self._swarm.written()
        except SwarmUnavailable as error:
            # Perhaps because of one container with millions of files: it must not hide the others.
            LOGGER.warning("What containers have written cannot be told at once: %s", error)
        except SwarmError as error:
            LOGGER.warning("What containers have written cannot be told: %s", error)
            return {}
        return self._written_one_by_one(containers)

    def _written_one_by_one(self, containers: Mapping[str, str]) -> dict[str, int]:
        found: dict[str, int] = {}
        refusals = 0
        for container_id, job_id in containers.items():
            try:
                with job_in_hand(job_id):
                    found[container_id] = self._swarm.written_by(container_id) or 0
            except SwarmError as error:
                LOGGER.warning("Job %s: what it has written cannot be told: %s", job_id, error)
                refusals += 1
                if refusals == _REFUSALS:
                    break  # then it is the engine
        return found
