"""The queue: its limits hold whoever comes at once, owners take turns, and a key is one job."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from datetime import timedelta
from functools import partial

import pytest
import sqlalchemy as sa
from jobs_fixture import ACCEPTED_AT, make_job
from store_fixture import (
    LEASE,
    DatabaseClock,
    Place,
    at_once,
    current,
    finish,
    run_together,
    submit,
    take_all,
    wait_for_lock,
)

from die_algorithm.errors import QueueFull
from die_algorithm.job_store import JobStore
from die_algorithm.job_store.tables import JOBS
from die_algorithm.models import Job, JobState

WORKER = "worker"
THREADS = 16


@contextmanager
def stores(place: Place, number: int, **limits: int) -> Iterator[list[JobStore]]:
    """Several stores on one database, as of several processes."""
    with ExitStack() as stack:
        yield [stack.enter_context(closing(place.open(**limits))) for _ in range(number)]


def waits(store: JobStore) -> int:
    return len(store.queue.places())


def admitted(store: JobStore) -> list[Job]:
    """Let the worker take what it can; all it holds."""
    store.queue.admit(WORKER)
    return store.held(WORKER)


def moment(store: JobStore, job: Job) -> float:
    with store._database.reading() as connection:
        query = sa.select(JOBS.c.admitted_at).where(JOBS.c.id == job.id)
        return float(connection.execute(query).scalar_one())


def submit_many(store: JobStore, owner: str, number: int) -> None:
    """Jobs as if submitted one a second, in one transaction: a test need not wait for each."""
    jobs = [
        make_job(
            state=JobState.ACCEPTED,
            owner=owner,
            reached={JobState.ACCEPTED: ACCEPTED_AT + timedelta(seconds=second)},
        )
        for second in range(number)
    ]
    with store._database.writing() as connection:
        connection.execute(JOBS.insert(), [store._row(job) for job in jobs])


def owners_served(store: JobStore, ends: int) -> list[str]:
    """Whose jobs got the one place, one after the other."""
    owners = []
    for _ in range(ends):
        (job,) = admitted(store)
        owners.append(job.owner)
        finish(store, job)
    return owners


# -- admission


def test_a_waiting_job_that_gets_a_place_is_held_with_a_new_fence(store: JobStore) -> None:
    job = submit(store)
    assert not current(store, job).is_admitted
    assert store.held(WORKER) == []
    assert store.queue.admit(WORKER) == 1
    assert store.held(WORKER) == [dataclasses.replace(job, is_admitted=True, fence=1)]
    assert store.queue.admit(WORKER) == 0


def test_cancelled_and_ended_jobs_wait_no_more(store: JobStore) -> None:
    jobs = [submit(store, second=n) for n in range(3)]
    store.request_cancel(jobs[0].id)
    finish(store, jobs[1])
    assert store.queue.places() == {jobs[2].id: 0}
    assert [job.id for job in admitted(store)] == [jobs[2].id]


def test_a_job_found_running_waits_for_no_place_but_takes_one(place: Place) -> None:
    with closing(place.open(running=2)) as store:
        store.add_found(make_job(state=JobState.RUNNING))
        for number in range(3):
            submit(store, second=number)
        assert store.queue.admit(WORKER) == 1
        store.add_found(make_job(state=JobState.RUNNING))
        assert store.queue.admit(WORKER) == 0


def test_a_job_that_a_former_release_has_taken_takes_a_place(place: Place) -> None:
    with closing(place.open(running=1)) as store:
        store.add(make_job(state=JobState.RUNNING))  # no admission is noted
        submit(store)
        assert store.queue.admit(WORKER) == 0
        assert len(take_all(store)) == 1


# -- limits


def test_no_more_jobs_run_than_may_in_all_and_of_one_owner(place: Place) -> None:
    with closing(place.open(running=3, running_per_owner=2)) as store:
        for number, owner in enumerate("aaaabbc"):
            submit(store, owner, second=number)
        jobs = admitted(store)
        assert Counter(job.owner for job in jobs) == {"a": 1, "b": 1, "c": 1}
        finish(store, next(job for job in jobs if job.owner == "c"))
        jobs = admitted(store)
        assert len(jobs) == 3
        assert max(Counter(job.owner for job in jobs).values()) == 2


def test_an_owner_at_its_limit_leaves_places_to_others_and_free(place: Place) -> None:
    with closing(place.open(running=5, running_per_owner=2)) as store:
        for number in range(4):
            submit(store, "a", second=number)
        assert len(admitted(store)) == 2
        submit(store, "b", second=9)
        assert Counter(job.owner for job in admitted(store)) == {"a": 2, "b": 1}
        assert store.queue.admit(WORKER) == 0


def test_no_more_jobs_wait_than_may_in_all(place: Place) -> None:
    with closing(place.open(running=1, waiting=2)) as store:
        first, _ = submit(store, "a"), submit(store, "b", second=1)
        with pytest.raises(QueueFull, match=r"^Too many jobs wait already\.$"):
            submit(store, "c")
        assert waits(store) == 2
        assert [job.id for job in admitted(store)] == [first.id]
        submit(store, "c")  # those under way do not wait


def test_no_more_jobs_of_one_owner_wait_than_may(place: Place) -> None:
    with closing(place.open(waiting_per_owner=1)) as store:
        submit(store, "a")
        with pytest.raises(QueueFull, match=r"^Too many jobs of yours wait already\.$"):
            submit(store, "a")
        submit(store, "b")


@pytest.mark.parametrize(
    "limits", [{"waiting": 5}, {"waiting_per_owner": 5}, {"waiting": 9, "waiting_per_owner": 5}]
)
def test_however_many_add_at_once_the_limit_is_reached_and_never_exceeded(
    place: Place, limits: dict[str, int]
) -> None:
    def add(store: JobStore) -> bool:
        try:
            submit(store)
        except QueueFull:
            return False
        return True

    with stores(place, 4, **limits) as several:
        calls = [partial(add, store) for store in several * (THREADS // 4)]
        assert at_once(calls).count(True) == 5
        assert waits(several[0]) == 5


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"running": 7}, 7),
        ({"running_per_owner": 3}, 6),
        ({"running": 5, "running_per_owner": 4}, 5),
    ],
)
def test_however_many_admit_at_once_the_limit_is_reached_and_never_exceeded(
    place: Place, limits: dict[str, int], expected: int
) -> None:
    with stores(place, 4, **limits) as several:
        store = several[0]
        for number in range(20):
            submit(store, "ab"[number % 2], second=number)
        # Once for empty places, and again for each that gets free.
        for _ in range(3):
            at_once([partial(s.queue.admit, f"worker-{n}") for n, s in enumerate(several)])
            held = [job for number in range(4) for job in store.held(f"worker-{number}")]
            assert len(held) == len({job.id for job in held}) == expected
            if per_owner := limits.get("running_per_owner"):
                assert max(Counter(job.owner for job in held).values()) <= per_owner
            for job in held[:2]:
                finish(store, job)


def test_a_job_that_is_cancelled_while_it_gets_its_place_takes_none(
    postgresql_place: Place,
) -> None:
    with closing(postgresql_place.open(running=1)) as store, ThreadPoolExecutor(1) as pool:
        jobs = [submit(store, second=n) for n in range(2)]
        with postgresql_place.connection() as other:
            cancel = JOBS.update().where(JOBS.c.id == jobs[0].id).values(cancel_requested=True)
            other.execute(cancel)
            admission = pool.submit(store.queue.admit, WORKER)
            wait_for_lock(postgresql_place, admission)
        assert admission.result(60) == 0
        assert not current(store, jobs[0]).is_admitted
        assert [job.id for job in admitted(store)] == [jobs[1].id]


def test_a_cancel_while_places_are_given_leaves_no_job_to_nobody(postgresql_place: Place) -> None:
    """Cancelled before or after it got a place: some worker holds it, once, to dismiss it."""

    def claim_thrice(store: JobStore) -> int:
        return sum(store.leases.claim("second") for _ in range(3))

    def cancel(store: JobStore, jobs: Iterable[Job]) -> int:
        for job in jobs:
            store.request_cancel(job.id)
        return 0

    with stores(postgresql_place, 3) as several:
        first, second, third = several
        for number in range(10):
            jobs = [submit(first, second=n) for n in range(5)]
            for store, worker in ((first, "first"), (second, "second")):
                store.leases.take(worker, LEASE)
            at_once(
                [
                    partial(first.queue.admit, "first"),
                    partial(claim_thrice, second),
                    partial(cancel, third, reversed(jobs)),
                ]
            )
            first.leases.claim("first")
            held = [*first.held("first"), *second.held("second")]
            assert len(held) == 5, number
            assert {job.id for job in held} == {job.id for job in jobs}
            for job in held:
                finish(first, job)


# -- turns


@pytest.mark.parametrize("slots", [1, 3])
def test_500_waiting_jobs_of_one_owner_delay_another_by_one_place_at_most(
    place: Place, slots: int
) -> None:
    with closing(place.open(running=slots)) as store:
        submit_many(store, "alice", 500)
        assert len(admitted(store)) == slots
        bobs = submit(store, "bob", second=1000)
        assert store.queue.places()[bobs.id] == 0
        finish(store, admitted(store)[0])
        assert bobs.id in {job.id for job in admitted(store)}


def test_with_one_place_in_all_owners_alternate_and_nobody_starves(place: Place) -> None:
    with closing(place.open(running=1)) as store:
        for number, owner in enumerate("a" * 12 + "b" * 4 + "c" * 4):
            submit(store, owner, second=number)
        assert "".join(owners_served(store, 20)) == "abc" * 4 + "a" * 8


def test_who_comes_later_takes_turns_from_then_on(place: Place) -> None:
    with closing(place.open(running=1)) as store:
        for number in range(6):
            submit(store, "a", second=number)
        assert owners_served(store, 2) == ["a", "a"]
        for number in range(3):
            submit(store, "b", second=100 + number)
        assert owners_served(store, 7) == ["b", "a", "b", "a", "b", "a", "a"]


@pytest.mark.parametrize("hours", [5, -5])
def test_a_clock_that_is_set_takes_no_turn_away(
    clock: DatabaseClock, place: Place, hours: int
) -> None:
    with closing(place.open(running=1)) as store:
        for number in range(20):
            submit(store, "ab"[number % 2], second=number)
        served = owners_served(store, 5)
        clock.advance(hours * 3600)
        served += owners_served(store, 6)
        clock.advance(-hours * 3600)
        served += owners_served(store, 6)
        assert "".join(served) == "abababababababababab"[:17]


def test_an_owners_jobs_are_taken_in_the_order_of_their_acceptance(place: Place) -> None:
    with closing(place.open(running=1)) as store:
        order = [3, 0, 4, 1, 2]
        jobs = {second: submit(store, second=second) for second in order}
        taken = []
        for _ in order:
            (job,) = admitted(store)
            taken.append(job.id)
            finish(store, job)
        assert taken == [jobs[second].id for second in sorted(jobs)]


# -- what clients are told of it


def queue_of_many(store: JobStore) -> None:
    """Owners with many and few jobs, some of them accepted at the same moment."""
    for number, owner in enumerate("aaabacabbdda"):
        submit(store, owner, second=number // 3)


def by_place(store: JobStore) -> list[str]:
    places = store.queue.places()
    assert sorted(places.values()) == list(range(len(places)))
    return sorted(places, key=places.__getitem__)


def test_the_one_place_is_given_in_the_order_that_was_told(place: Place) -> None:
    with closing(place.open(running=1)) as store:
        queue_of_many(store)
        told = by_place(store)
        taken: list[str] = []
        while told[len(taken) :]:
            (job,) = admitted(store)
            taken.append(job.id)
            # With each place that was given, all others come one nearer.
            assert by_place(store) == told[len(taken) :]
            finish(store, job)
            assert by_place(store) == told[len(taken) :]
        assert taken == told
        assert store.queue.places() == {}


def test_places_that_get_free_while_the_others_run_are_given_in_the_order_that_was_told(
    place: Place,
) -> None:
    with closing(place.open(running=2)) as store:
        queue_of_many(store)
        seen = {job.id for job in admitted(store)}
        told = by_place(store)
    for running, expected in enumerate(told, 3):
        with closing(place.open(running=running)) as store:
            new = {job.id for job in admitted(store)} - seen
        assert new == {expected}
        seen |= new


def test_places_given_at_once_count_in_their_order(place: Place) -> None:
    with closing(place.open(running=4)) as store:
        queue_of_many(store)
        told = by_place(store)[:4]
        moments = {job.id: moment(store, job) for job in admitted(store)}
        assert sorted(moments, key=moments.__getitem__) == told
        assert len(set(moments.values())) == 4


# -- idempotency keys


def test_the_same_key_of_the_same_owner_is_the_same_job(store: JobStore) -> None:
    first = store.add(make_job(), idempotency_key="key")
    second = store.add(make_job(), idempotency_key="key")
    assert second == first
    assert store.with_key("alice", "key") == first
    assert len(take_all(store)) == 1


def test_the_same_key_is_the_same_job_as_it_is_by_now(store: JobStore) -> None:
    job = store.add(make_job(), idempotency_key="key")
    saved = store.save(dataclasses.replace(job, exit_code=3))
    assert store.add(make_job(), idempotency_key="key") == saved
    ended = finish(store, saved)
    assert store.add(make_job(), idempotency_key="key") == ended
    store.remove(ended)
    assert store.with_key("alice", "key") is None
    assert store.add(make_job(), idempotency_key="key").id != job.id


def test_another_key_and_another_owners_key_are_other_jobs(store: JobStore) -> None:
    jobs = [
        store.add(make_job(owner=owner), idempotency_key=key)
        for owner, key in [("alice", "key"), ("alice", "yek"), ("bob", "key"), ("alicek", "ey")]
    ]
    jobs += [store.add(make_job()) for _ in range(2)]
    assert len({job.id for job in jobs}) == 6
    assert store.with_key("bob", "key") == jobs[2]
    assert store.with_key("carol", "key") is None


def test_the_same_key_is_answered_although_the_queue_is_full(place: Place) -> None:
    with closing(place.open(waiting=1)) as store:
        job = store.add(make_job(state=JobState.ACCEPTED), idempotency_key="key")
        with pytest.raises(QueueFull):
            store.add(make_job(state=JobState.ACCEPTED), idempotency_key="other")
        assert store.add(make_job(state=JobState.ACCEPTED), idempotency_key="key") == job
        # What was refused has used no key.
        assert store.with_key("alice", "other") is None


def test_32_submissions_at_once_with_one_key_are_one_job(place: Place) -> None:
    with stores(place, 4) as several:
        jobs = at_once(
            [
                partial(store.add, make_job(state=JobState.ACCEPTED), idempotency_key="key")
                for store in several * 8
            ]
        )
        assert len({job.id for job in jobs}) == 1
        assert waits(several[0]) == 1


def test_processes_that_submit_at_once_with_one_key_make_one_job(place: Place) -> None:
    code = (
        "with closing(open_store()) as store:\n"
        "    print(store.add(make_job(), idempotency_key='key').id)\n"
    )
    assert len(set(run_together(code, place, 3))) == 1


def test_the_key_itself_is_nowhere(store: JobStore, place: Place) -> None:
    job = store.add(make_job(), idempotency_key="canary-idempotency-key")
    store.save(job)
    content = place.bytes_on_disk()
    assert job.id.encode() in content
    assert b"canary-idempotency-key" not in content
