"""Removes what nothing needs any more, and finds again what was lost."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import time
from collections.abc import Container, Sequence
from datetime import timedelta

from die_algorithm.errors import DieError, StoreError, SwarmError, UnreadableJob
from die_algorithm.job_store import JobStore
from die_algorithm.models import Job, JobSecret, JobService
from die_algorithm.results import Results
from die_algorithm.steps import Steps
from die_algorithm.swarm import Swarm

LOGGER = logging.getLogger(__name__)

#: Seconds between two looks at the services.
_SWEEP_EVERY = 15.0
#: Seconds between two looks at the secrets, which are left over only where a worker has died.
_SECRETS_EVERY = 300.0
#: Seconds between two looks for expired results and records.
_EXPIRE_EVERY = 5.0
#: Seconds between two looks for results without a record, which are left over only where a database was lost;
#: and how many are removed at once.
_RESULTS_EVERY, _RESULTS_AT_ONCE = 3600.0, 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class Findings:
    """What a look at all services has found."""

    #: Dispatched jobs without a task that will never have one.
    lost: Sequence[Job] = ()
    #: Services of ours without a record.
    orphans: Sequence[JobService] = ()


class Janitor:
    """Compares the Swarm's services with the jobs' records, and removes what has expired.

    Args:
        store: the jobs' records.
        steps: what to do with a job.
        swarm: whose services are looked at.
        results: where zips and logs are published.
        result_retention: for how long they are kept.
    """

    def __init__(
        self,
        store: JobStore,
        steps: Steps,
        swarm: Swarm,
        *,
        results: Results,
        result_retention: timedelta,
    ) -> None:
        self._store = store
        self._steps = steps
        self._swarm = swarm
        self._results = results
        self._result_retention = result_retention
        self._sweep_at = 0.0
        self._secrets_at = 0.0
        self._expire_at = 0.0
        self._results_at = 0.0

    def hurry(self) -> None:
        """Take the next look at the services now: the records may be others than before."""
        self._sweep_at = 0.0

    def sweep(self, without_task: Sequence[Job], known: Container[str]) -> Findings:
        """Look at all services, if it is time to.

        Args:
            without_task: dispatched jobs that have no task.
            known: the ids of jobs under way.

        Returns:
            What the worker has to deal with.

        Raises:
            SwarmError: the services cannot be listed.
        """
        now = time.monotonic()
        if now < self._sweep_at:
            return Findings()
        services = {service.job_id: service for service in self._swarm.job_services()}
        self._sweep_at = now + _SWEEP_EVERY
        if now >= self._secrets_at:
            self._sweep_secrets(services)
            self._secrets_at = now + _SECRETS_EVERY
        self._steps.keep_time_of(known)
        orphans = [
            service
            for service in services.values()
            if service.job_id not in known and self._is_orphan(service)
        ]
        lost = [
            job
            for job in without_task
            if job.stopped_at is None and self._steps.is_lost(job, has_service=job.id in services)
        ]
        return Findings(lost=lost, orphans=orphans)

    def _sweep_secrets(self, services: Container[str]) -> None:
        """Remove the secrets of jobs that have ended, or of which nobody knows.

        What keeps it from that, such as a proxy that lets nobody list secrets, keeps no job from going on.
        """
        try:
            for secret in self._swarm.job_secrets():
                if secret.job_id not in services and self._is_needless(secret):
                    LOGGER.warning("The secret of job %s is left over: removed.", secret.job_id)
                    self._swarm.remove_secret(secret.secret_id)
        except SwarmError as error:
            LOGGER.warning("Left secrets cannot be removed: %s", error)

    def _is_needless(self, secret: JobSecret) -> bool:
        try:
            job = self._store.get(secret.job_id)
        except UnreadableJob:
            return False
        return self._steps.is_ours(secret) and (job is None or job.state.is_final)

    def expire(self) -> None:
        """Remove what has had its time, if it is time to look.

        Raises:
            StoreError: it cannot be found out.
        """
        now = time.monotonic()
        if now < self._expire_at:
            return
        self._expire_at = now + _EXPIRE_EVERY
        self._store.erase_traces()
        for job in self._store.due():
            try:
                self._steps.expire(job)
            except OSError as error:
                LOGGER.warning("Job %s: its files cannot be removed: %s", job.id, error.strerror)
            except StoreError as error:
                LOGGER.warning("Job %s: its record cannot be changed: %s", job.id, error)
        if now >= self._results_at:
            self._results_at = now + _RESULTS_EVERY
            try:
                self._remove_lost_results()
            except (OSError, StoreError) as error:
                LOGGER.warning("Results without a record cannot be looked for: %s", error)

    def _remove_lost_results(self) -> None:
        """Remove the results, when they have had their time, of jobs that no record names any more."""
        since = time.time() - self._result_retention.total_seconds()
        without_record = (
            (key, job_id)
            for key, job_id in self._results.untouched(since)
            if self._is_without_record(key, job_id)
        )
        removed = filter(self._is_removed, without_record)
        if sum(1 for _ in itertools.islice(removed, _RESULTS_AT_ONCE)) == _RESULTS_AT_ONCE:
            self._results_at = 0.0  # there may be more

    def _is_removed(self, lost: tuple[str, str]) -> bool:
        key, job_id = lost
        try:
            self._results.remove_folder(key)
        except OSError as error:
            LOGGER.warning("Job %s: its files cannot be removed: %s", job_id, error.strerror)
            return False
        LOGGER.warning("The results of job %s, of which there is no record, are removed.", job_id)
        return True

    def _is_without_record(self, key: str, job_id: str) -> bool:
        try:
            job = self._store.get(job_id)
        except UnreadableJob:
            return False
        # A record that was made again names another folder.
        return job is None or job.result_key != key

    def _is_orphan(self, service: JobService) -> bool:
        """Look at a service of a job that this worker does not carry; remove it if the job has ended.

        Returns:
            Whether this installation has made it, and has no record of it.
        """
        try:
            job = self._store.get(service.job_id)
        except UnreadableJob:
            return False  # nobody knows what it is for: it is left alone, like its record
        if job is None:
            return self._steps.is_ours(service)
        if job.state.is_final:
            LOGGER.warning("Job %s has ended, but its service has not: removed.", job.id)
            self._remove(service)
        return False

    def rebuild(self, orphan: JobService) -> None:
        """Make the record of a service that has none, because the database was lost."""
        try:
            if self._steps.rebuild(orphan) is None:
                LOGGER.warning("The service of job %s is unreadable: removed.", orphan.job_id)
                self._remove(orphan)
        except DieError as error:
            LOGGER.warning("The record of job %s cannot be made now: %s", orphan.job_id, error)

    def _remove(self, service: JobService) -> None:
        try:
            self._swarm.remove_service(service.service_id)
        except SwarmError as error:
            LOGGER.warning("The service of job %s cannot be removed: %s", service.job_id, error)
