"""Who holds which jobs: a live lease keeps them, a lapsed one gives them away, and fences hold."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa
from jobs_fixture import make_job
from store_fixture import (
    LEASE,
    DatabaseClock,
    Place,
    at_once,
    current,
    finish,
    python,
    submit,
    take_all,
    wait_for_lock,
)

from die_algorithm.credentials import CLOCK_SKEW
from die_algorithm.errors import StaleJob
from die_algorithm.job_store import JobStore
from die_algorithm.job_store.tables import JOBS
from die_algorithm.models import Job, JobState, WorkerReport
from die_algorithm.worker.held_jobs import HeldJobs
from die_algorithm.worker_place import WorkerPlace

ROUNDS = 30
OVER = LEASE.total_seconds() + 1


@pytest.fixture
def shared(postgresql_place: Place) -> Iterator[list[JobStore]]:
    """Several workers' stores on one database, which only PostgreSQL's can be."""
    with ExitStack() as stack:
        yield [stack.enter_context(closing(postgresql_place.open())) for _ in range(4)]


def under_way(store: JobStore, number: int = 1) -> list[Job]:
    jobs = [make_job(state=JobState.RUNNING) for _ in range(number)]
    for job in jobs:
        store.add_found(job)
    return jobs


def ids(jobs: Sequence[Job]) -> set[str]:
    return {job.id for job in jobs}


def found_by_scan(place: Place) -> list[str]:
    """The worker's jobs in the order in which the database comes upon them."""
    rows = place.execute("SELECT id FROM jobs WHERE holder = 'worker' AND state = 'running'")
    return [job_id for (job_id,) in rows]


def move(store: JobStore, job_id: str) -> None:
    """Give a row another place, and the indices a new entry: for that, one of them must change."""
    with store._database.writing() as connection:
        update = JOBS.update().where(JOBS.c.id == job_id)
        connection.execute(update.values(due_at=sa.func.random()))


def begin(store: JobStore, worker: str) -> None:
    store.leases.take(worker, LEASE)


# -- holding


def test_a_job_that_nobody_holds_is_claimed_with_a_new_fence(store: JobStore) -> None:
    (job,) = under_way(store)
    begin(store, "first")
    assert store.held("first") == []
    assert store.leases.claim("first") == 1
    assert store.held("first") == [dataclasses.replace(job, fence=1, is_admitted=True)]
    assert store.leases.claim("first") == 0


def test_an_ended_job_is_claimed_by_nobody(store: JobStore) -> None:
    for state in JobState:
        if state.is_final:
            store.add_found(make_job(state=state))
    begin(store, "first")
    assert store.leases.claim("first") == 0
    assert store.held("first") == []


def test_a_waiting_job_is_not_claimed_before_it_has_a_place(store: JobStore) -> None:
    submit(store)
    begin(store, "first")
    assert store.leases.claim("first") == 0
    assert store.queue.admit("first") == 1
    assert len(store.held("first")) == 1


def test_of_waiting_jobs_those_are_claimed_whose_token_has_expired(store: JobStore) -> None:
    now = datetime.now(UTC)
    begin(store, "first")
    expired = submit(store, token_expires_at=now - CLOCK_SKEW - timedelta(seconds=1))
    submit(store, token_expires_at=now + timedelta(hours=1))
    submit(store, token_expires_at=datetime.max.replace(tzinfo=UTC))
    submit(store)
    assert store.leases.claim("first") == 1
    (held,) = store.held("first")
    assert (held.id, held.is_admitted) == (expired.id, False)


def test_a_cancelled_job_that_waits_is_claimed_without_a_place(place: Place) -> None:
    with closing(place.open(running=1)) as store:
        running, waiting, cancelled = (submit(store, second=n) for n in range(3))
        begin(store, "first")
        assert store.queue.admit("first") == 1
        store.request_cancel(cancelled.id)
        assert store.leases.claim("first") == 1
        held = {job.id: job for job in store.held("first")}
        assert set(held) == {running.id, cancelled.id}
        assert held[cancelled.id].cancel_requested
        assert not held[cancelled.id].is_admitted
        # It has taken no place, and left no gap.
        finish(store, held[running.id])
        assert store.queue.admit("first") == 1
        assert ids(store.held("first")) == {waiting.id, cancelled.id}


def test_a_job_with_a_live_lease_is_not_claimed_by_another(shared: list[JobStore]) -> None:
    first, second, *_ = shared
    (job,) = under_way(first)
    assert ids(take_all(first, "first")) == {job.id}
    assert take_all(second, "second") == []
    assert current(first, job).fence == 1


def test_a_job_whose_holder_ends_its_lease_is_claimed_at_once(shared: list[JobStore]) -> None:
    first, second, *_ = shared
    (job,) = under_way(first)
    take_all(first, "first")
    begin(second, "second")
    assert second.leases.claim("second") == 0
    first.leases.end("first")
    assert second.leases.claim("second") == 1
    assert [(held.id, held.fence) for held in second.held("second")] == [(job.id, 2)]
    assert first.held("first") == []


def test_in_sqlite_a_worker_frees_what_its_dead_forerunner_held(sqlite_store: JobStore) -> None:
    (job,) = under_way(sqlite_store)
    take_all(sqlite_store, "dead")
    (held,) = take_all(sqlite_store, "living")
    assert (held.id, held.fence) == (job.id, 2)
    assert [report.id for report in sqlite_store.leases.workers()] == ["living"]
    assert not sqlite_store.leases.renew("dead", LEASE)


def test_in_postgresql_a_new_worker_leaves_the_others_their_leases(shared: list[JobStore]) -> None:
    begin(shared[0], "first")
    begin(shared[1], "second")
    assert shared[0].leases.renew("first", LEASE)
    assert {report.id for report in shared[2].leases.workers()} == {"first", "second"}


def test_a_worker_that_takes_its_lease_anew_gets_its_jobs_with_a_new_fence(
    store: JobStore,
) -> None:
    jobs = under_way(store, 3)
    before = take_all(store)
    begin(store, "worker")
    # What its former life has begun can write nothing over what comes now.
    assert store.held("worker") == []
    assert store.leases.claim("worker") == 3
    after = store.held("worker")
    assert ids(after) == ids(jobs)
    assert [job.fence for job in after] == [job.fence + 1 for job in before]
    with pytest.raises(StaleJob):
        store.save(before[0])


def test_the_jobs_of_a_worker_that_starts_anew_may_go_to_another(shared: list[JobStore]) -> None:
    (job,) = under_way(shared[0])
    take_all(shared[0], "first")
    begin(shared[0], "first")
    assert ids(take_all(shared[1], "second")) == {job.id}
    assert shared[0].leases.claim("first") == 0


def test_a_worker_that_was_killed_loses_its_jobs_when_its_lease_has_run_out(
    postgresql_clock: DatabaseClock, postgresql_place: Place
) -> None:
    code = (
        "from datetime import UTC, datetime, timedelta\n"
        "import os, signal\n"
        "store = open_store()\n"
        "store.add_found(make_job())\n"
        "store.leases.take('killed', timedelta(seconds=15))\n"
        "print(store.leases.claim('killed'), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    with python(code, postgresql_place) as other:
        assert other.communicate(timeout=60)[0] == "1\n"
    with closing(postgresql_place.open()) as store:
        assert take_all(store, "second") == []
        postgresql_clock.advance(OVER)
        assert [job.fence for job in take_all(store, "second")] == [2]


# -- the lease's end


def test_a_renewal_prolongs_a_lease(clock: DatabaseClock, store: JobStore) -> None:
    begin(store, "first")
    for _ in range(3):
        clock.advance(LEASE.total_seconds() - 1)
        assert store.leases.renew("first", LEASE)
    clock.advance(OVER)
    assert not store.leases.renew("first", LEASE)


def test_a_renewal_after_the_lease_has_run_out_is_refused_for_good(
    clock: DatabaseClock, store: JobStore
) -> None:
    begin(store, "first")
    clock.advance(OVER)
    assert not store.leases.renew("first", LEASE)
    assert not store.leases.renew("first", LEASE)
    begin(store, "first")
    assert store.leases.renew("first", LEASE)


def test_nobody_renews_a_lease_that_was_never_taken_or_was_ended(store: JobStore) -> None:
    assert not store.leases.renew("first", LEASE)
    begin(store, "first")
    store.leases.end("first")
    assert not store.leases.renew("first", LEASE)


def test_a_lease_runs_out_by_itself(store: JobStore) -> None:
    under_way(store)
    duration = timedelta(milliseconds=300)
    store.leases.take("first", duration)
    begun = time.monotonic()
    assert store.leases.renew("first", duration)
    while any(report.is_alive for report in store.leases.workers()):
        assert time.monotonic() - begun < 60
        time.sleep(0.02)
    assert time.monotonic() - begun > 0.25
    assert not store.leases.renew("first", duration)


def test_when_the_lease_has_run_out_another_claims_with_a_higher_fence(
    postgresql_clock: DatabaseClock, postgresql_place: Place
) -> None:
    with closing(postgresql_place.open()) as first, closing(postgresql_place.open()) as second:
        (job,) = under_way(first)
        take_all(first, "first")
        assert take_all(second, "second") == []
        postgresql_clock.advance(OVER)
        (held,) = take_all(second, "second")
        assert (held.id, held.fence) == (job.id, 2)
        assert first.held("first") == []


@pytest.mark.parametrize("new_holder_writes", [False, True])
def test_a_save_by_the_former_holder_is_refused(
    postgresql_clock: DatabaseClock, postgresql_place: Place, *, new_holder_writes: bool
) -> None:
    with closing(postgresql_place.open()) as first, closing(postgresql_place.open()) as second:
        under_way(first)
        (former,) = take_all(first, "first")
        postgresql_clock.advance(OVER)
        (held,) = take_all(second, "second")
        if new_holder_writes:
            held = second.save(dataclasses.replace(held, exit_code=1))
        with pytest.raises(StaleJob):
            first.save(dataclasses.replace(former, exit_code=2))
        assert current(second, held) == held
        assert second.save(dataclasses.replace(held, exit_code=3)).fence == 2


@pytest.mark.parametrize("hours", [5, -5])
def test_a_jump_of_the_machines_clock_takes_no_lease_away_and_gives_none(
    shared: list[JobStore], monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    first, second, *_ = shared
    (job,) = under_way(first)
    take_all(first, "first")
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + hours * 3600)
    assert take_all(second, "second") == []
    assert first.leases.renew("first", LEASE)
    assert ids(first.held("first")) == {job.id}


def test_it_is_the_databases_clock_that_decides(
    postgresql_clock: DatabaseClock, postgresql_place: Place
) -> None:
    with closing(postgresql_place.open()) as first, closing(postgresql_place.open()) as second:
        (job,) = under_way(first)
        # Five hours from the machine's time, a lease lasts as long as anywhere.
        postgresql_clock.advance(-5 * 3600)
        take_all(first, "first")
        assert first.leases.renew("first", LEASE)
        assert take_all(second, "second") == []
        postgresql_clock.advance(OVER)
        assert not first.leases.renew("first", LEASE)
        assert ids(take_all(second, "second")) == {job.id}


# -- reports


def test_what_a_worker_says_of_itself_is_known_until_it_ends(
    clock: DatabaseClock, store: JobStore
) -> None:
    assert store.leases.workers() == []
    begin(store, "first")
    assert store.leases.workers() == [WorkerReport(id="first", is_alive=True, trouble="")]
    store.leases.renew("first", LEASE, "The Swarm is away.")
    said = WorkerReport(id="first", is_alive=True, trouble="The Swarm is away.")
    assert store.leases.workers() == [said]
    clock.advance(OVER)
    assert store.leases.workers() == [dataclasses.replace(said, is_alive=False)]
    begin(store, "first")
    assert store.leases.workers() == [WorkerReport(id="first", is_alive=True, trouble="")]
    store.leases.end("first")
    assert store.leases.workers() == []


def test_a_worker_that_begins_another_lease_is_still_in_trouble(
    clock: DatabaseClock, store: JobStore, tmp_path: Path
) -> None:
    held = HeldJobs(store, WorkerPlace(tmp_path / "worker.lock"), LEASE)
    assert held.keep_lease()
    clock.advance(OVER)
    held.trouble = "The Swarm is away."
    assert held.keep_lease()
    (report,) = store.leases.workers()
    assert (report.is_alive, report.trouble) == (True, "The Swarm is away.")


# -- at the same time


def test_workers_that_claim_at_once_share_the_jobs_and_lose_none(shared: list[JobStore]) -> None:
    jobs = ids(under_way(shared[0], 30))
    fences = dict.fromkeys(jobs, 0)
    workers = list(enumerate(shared))
    for _ in range(ROUNDS):
        for number, store in workers:
            begin(store, f"worker-{number}")
        claimed = at_once([partial(s.leases.claim, f"worker-{n}") for n, s in workers])
        held = [store.held(f"worker-{number}") for number, store in workers]
        assert [len(some) for some in held] == claimed
        found = list(itertools.chain(*held))
        assert len(found) == len(jobs)
        assert ids(found) == jobs
        # One change of hands each.
        assert {job.id: job.fence - fences[job.id] for job in found} == dict.fromkeys(jobs, 1)
        fences = {job.id: job.fence for job in found}


def test_of_a_worker_that_wakes_up_and_one_that_takes_over_each_job_has_one(
    shared: list[JobStore],
) -> None:
    sleeper, heir, *_ = shared
    jobs = ids(under_way(sleeper, 30))

    def wake_up() -> int:
        begin(sleeper, "sleeper")
        return sleeper.leases.claim("sleeper")

    for _ in range(ROUNDS):
        heir.leases.end("heir")
        begin(sleeper, "sleeper")
        assert sleeper.leases.claim("sleeper") == 30
        sleeper.leases.end("sleeper")
        begin(heir, "heir")
        calls: list[Callable[[], int]] = [wake_up, partial(heir.leases.claim, "heir")]
        at_once(calls)
        held = [*sleeper.held("sleeper"), *heir.held("heir")]
        assert len(held) == len(jobs)
        assert ids(held) == jobs


def test_who_takes_its_lease_anew_locks_jobs_in_the_order_of_those_who_claim(
    postgresql_place: Place,
) -> None:
    """Or each of two could wait for what the other has locked already."""
    lock = sa.select(JOBS.c.id).with_for_update(nowait=True)
    with closing(postgresql_place.open()) as store, ThreadPoolExecutor(1) as pool:
        order = sorted(ids(under_way(store, 5)))
        take_all(store)
        while found_by_scan(postgresql_place)[0] == order[0]:
            move(store, order[0])
        with postgresql_place.connection() as claiming:
            claiming.execute(lock.where(JOBS.c.id == order[0]))
            taking = pool.submit(store.leases.take, "worker", LEASE)
            wait_for_lock(postgresql_place, taking)
            for job_id in order[1:]:
                claiming.execute(lock.where(JOBS.c.id == job_id))
        taking.result(60)
        assert store.leases.claim("worker") == 5


def test_of_a_save_and_a_claim_at_once_the_record_is_whole_and_the_fence_right(
    shared: list[JobStore],
) -> None:
    first, second, *_ = shared
    under_way(first)

    def save(job: Job, exit_code: int) -> bool:
        try:
            first.save(dataclasses.replace(job, exit_code=exit_code))
        except StaleJob:
            return False
        return True

    for number in range(ROUNDS):
        second.leases.end("second")
        (job,) = take_all(first, "first")
        first.leases.end("first")
        begin(second, "second")
        calls: list[Callable[[], int]] = [
            partial(save, job, number),
            partial(second.leases.claim, "second"),
        ]
        saved, claimed = at_once(calls)
        assert claimed == 1
        (held,) = second.held("second")
        assert held.fence == job.fence + 1
        assert (held.exit_code == number) == saved
        assert held.version == job.version + saved


def test_no_save_is_lost_while_leases_end_and_begin_all_the_time(shared: list[JobStore]) -> None:
    jobs = under_way(shared[0], 5)

    def live(store: JobStore, worker: str) -> int:
        saves = 0
        for _ in range(ROUNDS):
            begin(store, worker)
            store.leases.claim(worker)
            for job in store.held(worker):
                store.save(dataclasses.replace(job, exit_code=(job.exit_code or 0) + 1))
                saves += 1
            store.leases.end(worker)
        return saves

    saves = at_once([partial(live, s, f"worker-{n}") for n, s in enumerate(shared)])
    assert sum(saves) > 0
    # Every save counts: none was lost under another's.
    assert sum(current(shared[0], job).exit_code or 0 for job in jobs) == sum(saves)
