"""Removes what nothing needs any more, and finds again what was lost."""

from __future__ import annotations

import logging
import time
from collections.abc import Container, Sequence

from die_algorithm.errors import StorageHubError, StoreError, SwarmError
from die_algorithm.job_store import JobStore
from die_algorithm.models import Job, JobService
from die_algorithm.steps import Steps
from die_algorithm.swarm import Swarm

LOGGER = logging.getLogger(__name__)

#: Seconds between two looks at the services.
_SWEEP_EVERY = 15.0
#: Seconds between two looks for expired results and records.
_EXPIRE_EVERY = 5.0


class Janitor:
    """Compares the Swarm's services with the jobs' records, and removes what has expired.

    Args:
        store: the jobs' records.
        steps: what to do with a job.
        swarm: whose services are looked at.
    """

    def __init__(self, store: JobStore, steps: Steps, swarm: Swarm) -> None:
        self._store = store
        self._steps = steps
        self._swarm = swarm
        self._sweep_at = 0.0
        self._expire_at = 0.0

    def hurry(self) -> None:
        """Take the next look at the services now: the records may be others than before."""
        self._sweep_at = 0.0

    def sweep(self, without_task: Sequence[Job], known: Container[str]) -> list[Job]:
        """Look at all services, if it is time to.

        Args:
            without_task: dispatched jobs that have no task.
            known: the ids of jobs under way.

        Returns:
            Those of the jobs without a task that will never have one.

        Raises:
            SwarmError: the services cannot be listed.
        """
        now = time.monotonic()
        if now < self._sweep_at:
            return []
        services = {service.job_id: service for service in self._swarm.job_services()}
        self._sweep_at = now + _SWEEP_EVERY
        self._steps.keep_time_of(known)
        for service in services.values():
            if service.job_id not in known:
                self._look_after(service)
        return [
            job
            for job in without_task
            if job.stopped_at is None and self._steps.is_lost(job, has_service=job.id in services)
        ]

    def expire(self) -> None:
        """Remove what has had its time, if it is time to look."""
        now = time.monotonic()
        if now < self._expire_at:
            return
        self._expire_at = now + _EXPIRE_EVERY
        for job in self._store.due():
            try:
                self._steps.expire(job)
            except OSError as error:
                LOGGER.warning("Job %s: its files cannot be removed: %s", job.id, error.strerror)
            except StoreError as error:
                LOGGER.warning("Job %s: its record cannot be changed: %s", job.id, error)

    def _look_after(self, service: JobService) -> None:
        """Take a service that belongs to no job that this worker carries."""
        job = self._store.get(service.job_id)
        if job is not None and job.state.is_final:
            LOGGER.warning("Job %s has ended, but its service has not: removed.", job.id)
            self._remove(service)
        elif job is None and self._steps.is_ours(service):
            self._rebuild(service)

    def _rebuild(self, service: JobService) -> None:
        try:
            if self._steps.rebuild(service) is None:
                LOGGER.warning("The service of job %s is unreadable: removed.", service.job_id)
                self._remove(service)
        except StorageHubError as error:
            LOGGER.warning("The record of job %s waits for StorageHub: %s", service.job_id, error)

    def _remove(self, service: JobService) -> None:
        try:
            self._swarm.remove_service(service.service_id)
        except SwarmError as error:
            LOGGER.warning("A service cannot be removed: %s", error)
