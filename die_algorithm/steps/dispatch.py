"""The second step: the service on the Swarm.

A service is created without a task, recorded, and only then started. Starting names the version of the
service that was seen, so that it happens once, whoever tries how often; and a worker that has lost the
job does not get as far, because it cannot record the service.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from die_algorithm import faults
from die_algorithm.container_rules import ContainerRules
from die_algorithm.errors import ImageError, ImageForbidden, JobFault, ServiceGone
from die_algorithm.fail_points import FetchPoint, Point, SecretPoint
from die_algorithm.image_reference import ImageReference
from die_algorithm.images import Images
from die_algorithm.models import EngineFacts, Failure, FaultClass, Job, JobState
from die_algorithm.service_spec import secret_spec, service_spec, shortfalls
from die_algorithm.settings import Settings
from die_algorithm.steps.digests import Digests
from die_algorithm.steps.ledger import Ledger
from die_algorithm.swarm import Swarm

LOGGER = logging.getLogger(__name__)


class Dispatch:
    """Makes the job's service and starts it.

    Args:
        settings: the operator's.
        ledger: the jobs' records.
        swarm: where containers run.
        rules: what containers may do.
        images: which images there are, and may be run.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        swarm: Swarm,
        *,
        rules: ContainerRules,
        images: Images,
    ) -> None:
        self._settings = settings
        self._rules = rules
        self._ledger = ledger
        self._swarm = swarm
        self._images = images
        self._digests = Digests(images.resolve)
        self._facts: EngineFacts | None = None

    def forget_engine(self) -> None:
        """The engine was away, and may come back as another one."""
        self._facts = None

    def run(self, job: Job) -> Job:
        """Take the next half of the step."""
        image = ImageReference.recorded(job.request.image)
        self._demand_allowed(job)
        if job.digest is None:
            # Recorded before the service exists, so that a repeated step runs the same image.
            with self._ledger.fail_points.around(Point.DIGEST_RESOLVED):
                found = self._digests.of(job)
                self._demand(lambda: self._images.check_resolved(image, found))
            return self._ledger.write(
                job, digest=found.digest, token_file=found.wants_token_file, waiting=None
            )
        pinned = image.pinned(job.digest)
        if job.service_id:
            return self._try_again(job, job.service_id, pinned)
        spec = service_spec(
            job,
            self._settings,
            image=pinned,
            engine=self._engine_facts(),
            rules=self._rules,
            secret_id=self._secret_id(job),
        )
        with self._ledger.fail_points.around(Point.SERVICE_CREATED):
            service_id = self._swarm.create_service(spec)
        with self._ledger.fail_points.around(Point.SERVICE_RECORDED):
            return self._ledger.reach(job, JobState.DISPATCHED, service_id=service_id)

    def _try_again(self, job: Job, service_id: str, image: ImageReference) -> Job:
        """Decide about a job whose task was refused, because its machine could not fetch the image.

        If the registry was away since, or limited us, the machine is given another try when it is back:
        nothing of the job has run.

        Raises:
            JobFault, ImageNotFound: the job fails.
            RegistryUnavailable: it waits.
        """
        self._images.confirm(image)
        if job.waiting is None:
            raise _fault(faults.not_fetched())
        with self._ledger.fail_points.around(FetchPoint.SERVICE_REMOVED):
            self._swarm.remove_service(service_id)
        # Before the next is made: a clean-up would look for this one.
        with self._ledger.fail_points.around(FetchPoint.FORGOTTEN):
            return self._ledger.write(job, service_id=None, waiting=None)

    def _demand_token(self, job: Job) -> None:
        if self._ledger.has_expired_token(job):
            raise _fault(faults.token_expired(job.token_expires_at))

    def _demand_allowed(self, job: Job) -> None:
        """Look at the policy again: it may have changed since, or the job was not held to it then.

        Raises:
            JobFault: the image may not be run.
        """
        image, digest = ImageReference.recorded(job.request.image), job.digest
        self._demand(lambda: self._images.check(image, job.owner, job.vre))
        if digest is not None:
            self._demand(lambda: self._images.check_recorded(image, digest))

    def _demand(self, check: Callable[[], None]) -> None:
        """Make a refusal of the policy the job's failure.

        Raises:
            JobFault: the image may not be run.
        """
        try:
            check()
        except ImageForbidden as error:
            raise JobFault(FaultClass.IMAGE, error.text) from None

    def _secret_id(self, job: Job) -> str | None:
        """Make the secret with the token for an image that wants it as a file."""
        if not job.token_file:
            return None
        with self._ledger.fail_points.around(SecretPoint.CREATED):
            return self._swarm.create_secret(secret_spec(job, self._settings))

    def _engine_facts(self) -> EngineFacts:
        """What the engine is, asked once until it was away."""
        facts = self._facts
        if facts is None:
            # Another thread may forget them at any time, because the engine was away.
            facts = self._facts = self._swarm.facts()
            for shortfall in shortfalls(self._settings, facts, self._rules):
                LOGGER.warning("Containers are less shut in than they could be: %s", shortfall.text)
        return facts

    def start(self, job: Job) -> Job:
        """Start the service of a dispatched job, unless it is started already.

        Not with a token that has expired meanwhile, since its program could do nothing, nor with an image
        that may not be run any more; a program that runs goes on.
        """
        service = job.service_id or job.service_name
        try:
            self._demand_startable(job, service)
            with self._ledger.fail_points.around(Point.SERVICE_STARTED):
                self._swarm.start_service(service)
        except ServiceGone:
            return self._ledger.fail(job, faults.disappeared())
        return self._ledger.write(job, waiting=None) if job.waiting else job

    def _demand_startable(self, job: Job, service: str) -> None:
        try:
            self._demand_token(job)
            self._demand_allowed(job)
        except (JobFault, ImageError):
            if not self._swarm.is_started(service):
                raise


def _fault(failure: Failure) -> JobFault:
    return JobFault(failure.fault_class, failure.text)
