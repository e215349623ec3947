"""A worker that has lost a job to another one, and does not know it yet."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from jobs_fixture import make_job

from die_algorithm.errors import StaleJob, StoreUnavailable
from die_algorithm.job_store import JobStore
from die_algorithm.job_store.tables import JOBS
from die_algorithm.models import Failure, Job, JobState
from die_algorithm.worker import Worker
from die_algorithm.worker_place import WorkerPlace

LEASE = timedelta(minutes=1)
DIGEST = f"sha256:{'ab' * 32}"


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[JobStore]:
    url = f"sqlite:///{tmp_path / 'jobs.sqlite'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql_database")
    with closing(JobStore(url, tmp_path / "token.key")) as store:
        yield store


def hand_over(store: JobStore, holder: str) -> None:
    """Let all jobs under way go to a worker; a job's record is not written by that."""
    store.leases.take(holder, LEASE)
    store.leases.end(holder)
    store.leases.take(holder, LEASE)
    assert store.leases.claim(holder) == 1


def test_a_former_holder_cannot_write_even_on_the_version_that_it_read(store: JobStore) -> None:
    store.add_found(make_job(state=JobState.STAGED_IN))
    hand_over(store, "one")
    (job,) = store.held("one")
    store.leases.end("one")
    hand_over(store, "two")
    with pytest.raises(StaleJob):
        store.save(dataclasses.replace(job, digest=DIGEST))
    (same,) = store.held("two")
    assert (same.version, same.digest) == (job.version, None)


def test_a_transaction_of_a_frozen_worker_keeps_its_jobs_from_nobody(
    postgresql_database: str, tmp_path: Path
) -> None:
    key = tmp_path / "token.key"
    with (
        closing(JobStore(postgresql_database, key)) as frozen,
        closing(JobStore(postgresql_database, key)) as other,
    ):
        frozen.add_found(make_job())

        def freeze_over_a_write() -> None:
            with frozen._database.writing() as connection:
                connection.execute(sa.update(JOBS).values(version=JOBS.c.version + 1))
                hand_over(other, "other")

        with pytest.raises(StoreUnavailable):
            freeze_over_a_write()
        (job,) = other.held("other")
        assert job.version == 0


class Steps:
    """Takes a step, as part of which the job is lost to another worker, that goes on with it."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self.taken: list[JobState] = []
        self.failed: list[Job] = []

    def advance(self, job: Job) -> Job:
        """Take the step, and lose the job."""
        self.taken.append(job.state)
        after = self._store.save(dataclasses.replace(job, digest=DIGEST))
        self._store.leases.end("one")
        hand_over(self._store, "two")
        (taken_over,) = self._store.held("two")
        self._store.save(dataclasses.replace(taken_over, state=JobState.DISPATCHED))
        return after

    def fail(self, job: Job, _failure: Failure) -> Job:
        """Note that the worker gives the job up."""
        self.failed.append(job)
        return job


def test_a_worker_takes_no_step_of_a_job_that_it_has_lost_and_does_not_let_it_fail(
    store: JobStore, tmp_path: Path
) -> None:
    job = make_job(state=JobState.STAGED_IN)
    store.add_found(job)
    hand_over(store, "one")
    (job,) = store.held("one")
    steps, nobody = Steps(store), Any
    place = WorkerPlace(tmp_path / "worker.lock")
    worker = Worker(store, steps, nobody, place, nobody, lease=LEASE, transfers=1)  # type: ignore[arg-type]
    worker._work(job, worker._carry_on)
    assert steps.taken == [JobState.STAGED_IN]
    assert steps.failed == []
    (kept,) = store.held("two")
    assert (kept.state, kept.failure) == (JobState.DISPATCHED, None)
