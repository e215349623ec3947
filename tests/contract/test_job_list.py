"""The list of jobs, from SQLite and PostgreSQL: in order, as the records say it, and without reading them."""

from __future__ import annotations

import dataclasses
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest
from jobs_fixture import ACCEPTED_AT, make_job
from store_fixture import Place

from die_algorithm.job_store import JobStore
from die_algorithm.job_store.listing import listed_job
from die_algorithm.models import Job, JobState, ListedJob


@pytest.fixture
def store(place: Place) -> Iterator[JobStore]:
    with closing(place.open()) as store:
        yield store


def added(store: JobStore, number: int, owner: str = "alice", **changes: Any) -> Job:
    """A job of its own second and image."""
    job = make_job(image=f"docker.io/a/b:{number}", owner=owner, **changes)
    shift = timedelta(seconds=number)
    return store.add(
        dataclasses.replace(
            job, reached={state: moment + shift for state, moment in job.reached.items()}
        )
    )


def test_the_newest_come_first_and_each_owner_has_his_own(store: JobStore) -> None:
    jobs = [added(store, n, "alice" if n % 3 else "bob") for n in (3, 1, 4, 2, 6, 5)]
    newest = sorted(map(listed_job, jobs), key=lambda job: job.accepted_at, reverse=True)
    assert store.latest(None, 10) == newest
    assert store.latest(None, 2) == newest[:2]
    assert store.latest("bob", 10) == [newest[0], newest[3]]
    assert store.latest("carol", 10) == []


@pytest.mark.parametrize("state", JobState)
def test_a_list_says_of_a_job_what_its_record_says(store: JobStore, state: JobState) -> None:
    job = added(store, 0, state=JobState.ACCEPTED)
    changed = store.save(
        dataclasses.replace(make_job(state=state), id=job.id, version=0, owner="alice")
    )
    assert store.latest(None, 1) == [listed_job(changed)]
    (listed,) = store.latest(None, 1)
    assert listed == ListedJob(
        id=job.id,
        owner="alice",
        state=state,
        image=changed.request.image,
        accepted_at=ACCEPTED_AT,
        reached_at=changed.updated_at,
    )
    assert listed.reached_at.utcoffset() == timedelta(0)


def test_no_record_is_read_for_a_list(store: JobStore, place: Place) -> None:
    jobs = [added(store, n) for n in range(3)]
    place.execute("UPDATE jobs SET record = ''")
    assert store.latest("alice", 10) == [listed_job(job) for job in reversed(jobs)]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE jobs SET state = 'x' WHERE id = :id",
        "UPDATE jobs SET image = x'00' WHERE id = :id",
        "UPDATE jobs SET owner = x'ff' WHERE id = :id",
        "UPDATE jobs SET accepted_at = 'never' WHERE id = :id",
        "UPDATE jobs SET reached_at = 5 WHERE id = :id",
    ],
)
def test_what_is_damaged_in_the_row_of_one_job_is_read_from_its_record(
    sqlite_place: Place, damage: str
) -> None:
    with closing(sqlite_place.open()) as store:
        jobs = [added(store, n) for n in range(3)]
        sqlite_place.execute(damage, id=jobs[1].id)
        listed = {job.id: job for job in store.latest(None, 10)}
        assert listed == {job.id: listed_job(job) for job in jobs}


def test_a_list_takes_memory_for_what_it_says_not_for_the_logs(store: JobStore) -> None:
    log, count = "x" * 2**16, 100
    for number in range(count):
        added(store, number, log_tail=log)
    store.latest("alice", 1)  # what is made once
    tracemalloc.start()
    try:
        listed = store.latest("alice", count)
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(listed) == count
    assert peak < count * len(log) / 10
