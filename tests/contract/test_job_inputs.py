"""Files that were sent with the Execute: kept beside the job's record, as long as the job is under way."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest
from jobs_fixture import make_job
from store_fixture import Place, finish, submit, take_all

from die_algorithm.errors import StoreUnavailable
from die_algorithm.job_store import JobStore
from die_algorithm.models import ContentDigest, Job, JobState

DATA = bytes(range(256)) * 1000


def job_with(data: bytes) -> Job:
    digest = hashlib.sha256(data).hexdigest()
    content = ContentDigest(media_type="text/csv", size=len(data), sha256=digest)
    job = make_job(state=JobState.ACCEPTED)
    return dataclasses.replace(job, request=dataclasses.replace(job.request, content=content))


def kept(place: Place) -> int:
    return int(place.execute("SELECT count(*) FROM inputs")[0][0])


def test_content_is_what_it_was_until_the_job_ends(store: JobStore, place: Place) -> None:
    job = store.add(job_with(DATA), content=DATA)
    assert store.get(job.id) == job
    assert store.content(job.id) == DATA
    (held,) = take_all(store)
    held = store.save(dataclasses.replace(held, state=JobState.STAGED_IN))
    assert store.content(job.id) == DATA
    finish(store, held)
    assert store.content(job.id) is None
    assert kept(place) == 0


def test_a_job_without_content_has_none(store: JobStore) -> None:
    assert store.content(submit(store).id) is None


def test_a_retry_keeps_no_second_copy(store: JobStore, place: Place) -> None:
    first = store.add(job_with(DATA), idempotency_key="key", content=DATA)
    assert store.add(job_with(DATA), idempotency_key="key", content=DATA).id == first.id
    assert kept(place) == 1


def test_job_and_content_are_committed_together_or_not_at_all(
    store: JobStore, place: Place
) -> None:
    place.execute("DROP TABLE inputs")
    job = job_with(DATA)
    with pytest.raises(StoreUnavailable):
        store.add(job, content=DATA)
    assert store.get(job.id) is None


def test_erased_content_leaves_no_trace_in_the_file(
    sqlite_store: JobStore, sqlite_place: Place
) -> None:
    canary = b"canary in the content " * 500
    sqlite_store.add(job_with(canary), content=canary)
    (held,) = take_all(sqlite_store)
    finish(sqlite_store, held)
    sqlite_place.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert canary[:100] not in sqlite_place.bytes_on_disk()
