"""The second step: the service on the Swarm.

A service is created without a task, recorded, and only then started. Starting names the version of the
service that was seen, so that it happens once, whoever tries how often; and a worker that has lost the
job does not get as far, because it cannot record the service.
"""

from __future__ import annotations

import logging

from die_algorithm import faults
from die_algorithm.container_rules import ContainerRules
from die_algorithm.errors import ServiceGone
from die_algorithm.fail_points import Point
from die_algorithm.image_reference import ImageReference
from die_algorithm.models import EngineFacts, Job, JobState
from die_algorithm.service_spec import service_spec, shortfalls
from die_algorithm.settings import Settings
from die_algorithm.steps.digests import Digests
from die_algorithm.steps.ledger import Ledger
from die_algorithm.swarm import Swarm

LOGGER = logging.getLogger(__name__)


class Dispatch:
    """Makes the job's service and starts it.

    Args:
        settings: the operator's.
        rules: what containers may do.
        ledger: the jobs' records.
        swarm: where containers run.
    """

    def __init__(
        self, settings: Settings, rules: ContainerRules, ledger: Ledger, swarm: Swarm
    ) -> None:
        self._settings = settings
        self._rules = rules
        self._ledger = ledger
        self._swarm = swarm
        self._digests = Digests(swarm.resolve_digest)
        self._facts: EngineFacts | None = None

    def forget_engine(self) -> None:
        """The engine was away, and may come back as another one."""
        self._facts = None

    def run(self, job: Job) -> Job:
        """Take the next half of the step."""
        if job.digest is None:
            # Recorded before the service exists, so that a repeated step runs the same image.
            with self._ledger.fail_points.around(Point.DIGEST_RESOLVED):
                digest = self._digests.of(job)
            return self._ledger.write(job, digest=digest, waiting=None)
        image = ImageReference.parse(job.request.image)
        spec = service_spec(
            job,
            self._settings,
            image=image.pinned(job.digest),
            engine=self._engine_facts(),
            rules=self._rules,
        )
        with self._ledger.fail_points.around(Point.SERVICE_CREATED):
            service_id = self._swarm.create_service(spec)
        with self._ledger.fail_points.around(Point.SERVICE_RECORDED):
            return self._ledger.reach(job, JobState.DISPATCHED, service_id=service_id)

    def _engine_facts(self) -> EngineFacts:
        """What the engine is, asked once until it was away."""
        facts = self._facts
        if facts is None:
            # Another thread may forget them at any time, because the engine was away.
            facts = self._facts = self._swarm.facts()
            for shortfall in shortfalls(self._settings, facts):
                LOGGER.warning("Containers are less shut in than they could be: %s.", shortfall)
        return facts

    def start(self, job: Job) -> Job:
        """Start the service of a dispatched job, unless it is started already."""
        try:
            with self._ledger.fail_points.around(Point.SERVICE_STARTED):
                self._swarm.start_service(job.service_id or job.service_name)
        except ServiceGone:
            return self._ledger.fail(job, faults.disappeared())
        return self._ledger.write(job, waiting=None) if job.waiting else job
