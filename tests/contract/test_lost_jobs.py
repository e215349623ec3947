"""A worker that has lost a job to another one, and does not know it yet."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from jobs_fixture import make_job
from storagehub_fixture import ALICE, HubClient, hub_client, local_storagehub

from die_algorithm.errors import StaleJob, StoreUnavailable
from die_algorithm.fail_points import FailPoints, InputPoint, Point
from die_algorithm.job_store import JobStore
from die_algorithm.job_store.tables import JOBS
from die_algorithm.models import ContentDigest, Failure, Job, JobState, UserToken
from die_algorithm.runtime import public_links_client
from die_algorithm.settings import Settings
from die_algorithm.steps.ledger import Ledger
from die_algorithm.steps.stage_in import StageIn
from die_algorithm.steps.transfers import Transfers
from die_algorithm.stopwatches import Stopwatches
from die_algorithm.storagehub import StorageHub
from die_algorithm.worker.driver import Driver
from die_algorithm.worker.held_jobs import HeldJobs
from die_algorithm.worker.pools import Pools
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


def test_a_job_that_changes_hands_while_it_is_listed_is_not_held_by_the_former_holder(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add_found(make_job(state=JobState.STAGED_IN))
    hand_over(store, "one")
    get = store.get

    def get_late(job_id: str) -> Job | None:
        monkeypatch.undo()
        store.leases.end("one")
        hand_over(store, "two")
        return get(job_id)

    monkeypatch.setattr(store, "get", get_late)
    assert store.held("one") == []
    assert len(store.held("two")) == 1


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
    steps: Any = Steps(store)
    held = HeldJobs(store, WorkerPlace(tmp_path / "worker.lock"), LEASE)
    pools, woken, ended = Pools(1), threading.Event(), list[str]()
    driver = Driver(steps, held, pools, wake=woken, stopping=threading.Event(), on_end=ended.append)
    driver.carry_on(job)
    assert woken.wait(30)
    pools.shut_down()
    assert steps.taken == [JobState.STAGED_IN]
    assert steps.failed == []
    (kept,) = store.held("two")
    assert (kept.state, kept.failure) == (JobState.DISPATCHED, None)


class Workspace:
    """A job that goes from one worker to another while both make its folder."""

    def __init__(self, folder: Path, store: JobStore, storagehub: StorageHub, url: str) -> None:
        self._settings = Settings(data_dir=folder, storagehub_url=url)
        self._store = store
        self._storagehub = storagehub
        job = make_job(state=JobState.ACCEPTED, token=UserToken(ALICE.token))
        digest = ContentDigest(media_type="text/plain", size=1, sha256="")
        job = dataclasses.replace(job, request=dataclasses.replace(job.request, content=digest))
        store.add(job, content=b"x")
        store.queue.admit("nobody")
        self.former = self._next_holder("one")
        self.holder = self._next_holder("two")

    def _next_holder(self, name: str) -> Job:
        for report in self._store.leases.workers():
            self._store.leases.end(report.id)
        hand_over(self._store, name)
        (job,) = self._store.held(name)
        return job

    def stage_in(self, job: Job, meanwhile: Callable[[str], None] = lambda _: None) -> Job:
        """Take the step; ``meanwhile`` is called just before and after the folder is made."""
        ledger = Ledger(self._settings, self._store, FailPoints(meanwhile), Stopwatches())
        return StageIn(
            self._settings,
            self._store,
            ledger,
            self._storagehub,
            public_links=public_links_client(self._settings),
            transfers=Transfers(ledger),
        ).run(job)

    def lose(self) -> None:
        """Let the former holder take the step."""
        with pytest.raises(StaleJob):
            self.stage_in(self.former)


@pytest.fixture
def alice(tmp_path: Path) -> Iterator[HubClient]:
    with local_storagehub(tmp_path / "hub") as hub, hub_client(hub, ALICE) as alice:
        yield alice


@pytest.fixture
def workspace(tmp_path: Path, store: JobStore, alice: HubClient) -> Iterator[Workspace]:
    with StorageHub(alice.base_url) as storagehub:
        yield Workspace(tmp_path, store, storagehub, alice.base_url)


def folders(alice: HubClient) -> dict[str, str]:
    children = alice.children(alice.root())
    return {str(each["name"]): str(each["id"]) for each in children if "die-" in str(each["name"])}


def assert_settled(job: Job, alice: HubClient) -> None:
    """The job has one folder of each kind, and the file in one of them."""
    assert job.folder is not None
    assert job.input_folder is not None
    assert job.staged_item is not None
    assert folders(alice) == {
        job.folder_name: job.folder.id,
        job.input_folder_name: job.input_folder.id,
    }
    (file,) = alice.children(job.input_folder.id)
    assert (file["id"], file["name"]) == (job.staged_item, "input.txt")
    assert alice.download(job.staged_item) == b"x"


@pytest.mark.parametrize("point", [Point.FOLDER_CREATED, InputPoint.FOLDER_CREATED])
def test_a_folder_made_by_a_former_holder_just_before_is_taken(
    workspace: Workspace, alice: HubClient, point: Point | InputPoint
) -> None:
    def meanwhile(name: str) -> None:
        if name == f"{point.value}:before":
            workspace.lose()

    assert_settled(workspace.stage_in(workspace.holder, meanwhile), alice)


@pytest.mark.parametrize("point", [Point.FOLDER_CREATED, InputPoint.FOLDER_CREATED])
def test_a_folder_made_by_a_former_holder_just_after_goes(
    workspace: Workspace, alice: HubClient, point: Point | InputPoint
) -> None:
    def after(name: str) -> None:
        if name == f"{point.value}:after":
            go_on.release()
            assert over.acquire(timeout=60)

    go_on, over = threading.Semaphore(0), threading.Semaphore(0)
    with ThreadPoolExecutor(1) as pool:
        holders: list[Future[Job]] = []

        def freeze(name: str) -> None:
            if name == f"{point.value}:before":  # it has looked, and made none yet
                holders.append(pool.submit(workspace.stage_in, workspace.holder, after))
                assert go_on.acquire(timeout=60)

        with pytest.raises(StaleJob):
            workspace.stage_in(workspace.former, freeze)
        over.release()
        job = holders[0].result(60)
    assert_settled(job, alice)
