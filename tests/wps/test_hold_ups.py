"""No damaged record, silent StorageHub or other installation holds up a job that it does not concern."""

from __future__ import annotations

import contextlib
import dataclasses
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from jobs_fixture import make_job
from lxml import etree
from quick_fixture import PROBE, Quick, cancel, soon, status, submit
from relay import Relay
from service_fixture import Service, elements, job_id_of, status_path, unfinished_jobs
from storagehub_fixture import ALICE, BOB, HubUser

from die_algorithm import callers, janitor
from die_algorithm.errors import DiskTrouble, StorageHubUnavailable, SwarmUnavailable
from die_algorithm.fail_points import FailPoints
from die_algorithm.janitor import Findings, Janitor
from die_algorithm.models import FaultClass, Job, JobState, TaskReport, Waiting
from die_algorithm.results import Results
from die_algorithm.runtime import Runtime, job_store
from die_algorithm.settings import Settings
from die_algorithm.steps import clean_up, monitor
from die_algorithm.steps.ledger import Ledger
from die_algorithm.steps.stage_out import StageOut
from die_algorithm.stopwatches import Stopwatches
from die_algorithm.swarm import Swarm
from die_algorithm.worker import driver, worker

#: Far longer than anything here takes that does not wait for StorageHub.
STORAGEHUB_TIMEOUT = "60s"


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(janitor, "_SWEEP_EVERY", 0.1)
    monkeypatch.setattr(monitor, "_TASK_APPEARS", timedelta(seconds=0.1))
    monkeypatch.setattr(driver, "_OUTAGE_PAUSE", 0.1)
    monkeypatch.setattr(worker, "_TURN_AGAIN", 0.1)
    monkeypatch.setattr(clean_up, "_STOP_TIME", timedelta(seconds=0.2))


@pytest.fixture
def relay(quick: Quick) -> Iterator[Relay]:
    """What stands between the service and StorageHub, and may be silent."""
    port = urlsplit(quick.hub.base_url).port
    assert port is not None
    with Relay(port) as relay:
        yield relay


@pytest.fixture
def bobs_item(quick: Quick) -> str:
    return quick.hub.seed(BOB.name, "b.txt", b"b")


def behind(relay: Relay, quick: Quick) -> dict[str, str]:
    """The settings of a service whose way to StorageHub is the relay."""
    path = urlsplit(quick.hub.base_url).path
    return {
        "storagehub_url": f"http://127.0.0.1:{relay.port}{path}",
        "container_storagehub_url": quick.hub.base_url,
        "storagehub_timeout": STORAGEHUB_TIMEOUT,
    }


def run_until(service: Service, job_id: str, state: JobState) -> Job:
    return soon(lambda: j if state in (j := service.runtime.engine.job(job_id)).reached else None)


def running(
    service: Service, item: str, user: HubUser = ALICE, command: str = "probe sleep 60"
) -> str:
    job_id = submit(service, command, item, user)
    run_until(service, job_id, JobState.RUNNING)
    return job_id


def change(service: Service | Settings, statement: str, *values: object) -> None:
    """Change the jobs' database as nobody of ours does."""
    settings = service.settings if isinstance(service, Service) else service
    with closing(sqlite3.connect(settings.data_dir / "jobs.sqlite", timeout=10)) as connection:
        connection.execute(statement, values)
        connection.commit()


def ask(service: Service, query: str, *values: object) -> Any:
    """The first column of the only row."""
    path = service.settings.data_dir / "jobs.sqlite"
    with closing(sqlite3.connect(path, timeout=10)) as connection:
        ((found,),) = connection.execute(query, values).fetchall()
    return found


def remove_service_of(quick: Quick, job_id: str) -> None:
    """Remove a job's service from the engine, as somebody else might."""
    (service,) = [each for each in quick.engine.services() if each.job_id == job_id]
    with closing(Swarm(quick.engine.docker_host)) as swarm:
        swarm.remove_service(service.service_id)


def has_service(quick: Quick, job_id: str) -> bool:
    return job_id in {service.job_id for service in quick.engine.services()}


# -- a damaged record


def test_a_damaged_record_keeps_no_other_job_from_its_end(quick: Quick) -> None:
    with quick.service() as service:
        damaged, lost = (running(service, quick.item) for _ in range(2))
        change(service, "UPDATE jobs SET record = '{', version = version + 1 WHERE id = ?", damaged)
        remove_service_of(quick, lost)
        job = run_until(service, lost, JobState.FAILED)
        assert job.failure is not None
        assert job.failure.fault_class is FaultClass.SYSTEM
        # What a record that nobody can read belongs to is left alone.
        assert [start.job_id for start in quick.engine.alive()] == [damaged]


# -- an engine that is away


@contextlib.contextmanager
def short_patience(quick: Quick, **changes: str) -> Iterator[Service]:
    with quick.service(outage_patience="500ms", stop_grace="200ms", **changes) as service:
        yield service


def away_at_the_next_removal(quick: Quick, monkeypatch: pytest.MonkeyPatch) -> None:
    remove = Swarm.remove_service

    def away_first(swarm: Swarm, name: str) -> None:
        quick.engine.away()
        monkeypatch.setattr(Swarm, "remove_service", remove)
        remove(swarm, name)

    monkeypatch.setattr(Swarm, "remove_service", away_first)


def test_a_cancelled_job_is_dismissed_though_the_engine_is_away(quick: Quick) -> None:
    with short_patience(quick) as service:
        job_id = running(service, quick.item)
        quick.engine.away()
        cancel(service, job_id)
        job = soon(lambda: j if (j := service.runtime.engine.job(job_id)).state.is_final else None)
        assert job.state is JobState.DISMISSED
        assert has_service(quick, job_id)
        quick.engine.back()
        soon(lambda: not quick.engine.services() and not quick.engine.alive())


def test_a_failed_job_keeps_its_failure_though_the_engine_goes_away(
    quick: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    with short_patience(quick, run_deadline="500ms") as service:
        away_at_the_next_removal(quick, monkeypatch)
        job_id = submit(service, "probe sleep 60", quick.item)
        job = run_until(service, job_id, JobState.FAILED)
        assert job.failure is not None
        assert job.failure.fault_class is FaultClass.LIMIT
        assert has_service(quick, job_id)
        quick.engine.back()
        soon(lambda: not quick.engine.services() and not quick.engine.alive())


def test_the_patience_with_an_outage_fails_no_job_that_ends_anyway(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, outage_patience=timedelta(milliseconds=1))
    waiting = Waiting(reason="", since=datetime.now(UTC) - timedelta(hours=1))
    job = make_job(state=JobState.RUNNING, waiting=waiting, cancel_requested=True)
    with closing(job_store(settings)) as store:
        ledger = Ledger(settings, store, FailPoints(), Stopwatches())
        soon(lambda: ledger.patience_is_over(job))
        assert ledger.wait_out(job, SwarmUnavailable("away")) == job


def test_an_outage_after_a_long_time_without_one_is_another_one(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, outage_patience=timedelta(minutes=30))
    began = datetime.now(UTC) - timedelta(hours=3)
    job = make_job(state=JobState.STAGING_OUT, waiting=Waiting(reason="", since=began))
    error = StorageHubUnavailable("away")
    with closing(job_store(settings)) as store:
        ledger = Ledger(settings, store, FailPoints(), Stopwatches())
        store.add_found(job)
        ledger.goes_well(job, timedelta(minutes=31))
        assert not ledger.patience_is_over(job)
        again = ledger.wait_out(job, error)
        assert again.failure is None
        assert again.waiting is not None
        assert again.waiting.since > began
        # What breaks each try off soon is not tried for ever.
        long_ago = Waiting(reason="", since=began + timedelta(minutes=1))
        broken = dataclasses.replace(again, waiting=long_ago)
        ledger.goes_well(broken, timedelta(minutes=29))
        assert ledger.wait_out(broken, error).failure is not None


def test_a_disk_that_is_written_for_long_before_it_fails_is_forgiven_nothing(
    tmp_path: Path,
) -> None:
    settings = Settings(data_dir=tmp_path, outage_patience=timedelta(minutes=30))
    with closing(job_store(settings)) as store:
        ledger = Ledger(settings, store, FailPoints(), Stopwatches())
        job = make_job(state=JobState.STAGING_OUT)
        store.add_found(job)
        job = ledger.wait_out(job, DiskTrouble("full"))
        assert job.waiting is not None
        long_ago = dataclasses.replace(job.waiting, since=job.waiting.since - timedelta(hours=3))
        job = dataclasses.replace(job, waiting=long_ago)
        ledger.goes_well(job, timedelta(minutes=31))
        assert ledger.patience_is_over(job)


def test_who_breaks_off_each_long_transfer_is_not_tried_for_ever(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, outage_patience=timedelta(minutes=30))
    error = StorageHubUnavailable("away")
    with closing(job_store(settings)) as store:
        ledger = Ledger(settings, store, FailPoints(), Stopwatches())
        job = make_job(state=JobState.STAGING_OUT)
        store.add_found(job)
        for tries in range(100):
            job = ledger.wait_out(job, error)
            if job.failure:
                break
            assert job.waiting is not None
            began = datetime.now(UTC) - timedelta(minutes=31 + tries)
            job = dataclasses.replace(job, waiting=Waiting(reason="", since=began))
            ledger.goes_well(job, timedelta(minutes=31))
        assert 1 < tries < 10


# -- a StorageHub that hangs


def test_a_cancel_stops_the_containers_though_storagehub_hangs_and_delays_no_other_user(
    quick: Quick, relay: Relay, bobs_item: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "_PATIENCE", 0.1)
    with quick.service(**behind(relay, quick)) as service:
        hers = [running(service, quick.item) for _ in range(8)]
        his = running(service, bobs_item, BOB)
        with relay.silence():
            for job_id in hers:
                assert cancel(service, job_id).status_code == 200
            soon(lambda: {each.job_id for each in quick.engine.services()} == {his}, 10)
            # All of hers wait for StorageHub by now.
            soon(lambda: relay.kept >= len(hers), 10)
            assert cancel(service, his, BOB).status_code == 200
            soon(lambda: not quick.engine.alive(), 10)
        for job_id in (*hers, his):
            run_until(service, job_id, JobState.DISMISSED)
    quick.assert_nothing_left()


def test_a_storagehub_that_hangs_silences_nothing_else(quick: Quick, relay: Relay) -> None:
    threads = {"threads": "8", "max_sync": "2"}
    with (
        quick.service(**behind(relay, quick), **threads) as service,
        ThreadPoolExecutor(12) as pool,
    ):
        job_id = running(service, quick.item)
        url = service.execute_url(
            ALICE.token,
            asynchronous=True,
            Image=PROBE,
            CommandName="probe noop",
            FileParam=quick.item,
        )
        with relay.silence():
            executes = [pool.submit(service.get, url) for _ in range(12)]
            for path in ("/health", status_path(job_id)) * 2:
                began = time.monotonic()
                assert service.get(path).status_code == 200
                assert time.monotonic() - began < 8
            # As many as may wait for StorageHub do so still.
            soon(lambda: sum(each.done() for each in executes) == 10)
            assert all(is_refused(each) for each in executes if each.done())
        assert Counter(each.result().status_code for each in executes) == {503: 10, 200: 2}


def is_refused(execute: Future[requests.Response]) -> bool:
    answer = execute.result()
    return answer.status_code == 503 and "StorageHub" in answer.text


# -- two installations


def count_sweeps(job_id: str, monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """How often each janitor that sees a job's service has looked at all services."""
    counts: Counter[int] = Counter()
    sweep = Janitor.sweep

    def counted(self: Janitor, *arguments: Any) -> Findings:
        findings = sweep(self, *arguments)
        if any(service.job_id == job_id for service in self._swarm.job_services()):
            counts[id(self)] += 1
        return findings

    monkeypatch.setattr(janitor, "_SWEEP_EVERY", 0.0)
    monkeypatch.setattr(Janitor, "sweep", counted)
    return counts


def test_another_installation_at_the_same_default_address_leaves_a_job_alone(
    quick: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    with quick.service() as first:
        job_id = running(first, quick.item)
        changes = {"data_dir": quick.folder / "second"}
        settings = first.settings.model_copy(update=changes)
        assert settings.url == first.settings.url
        second = Runtime(lambda: settings)
        sweeps = count_sweeps(job_id, monkeypatch)
        second.start()
        try:
            soon(lambda: len(sweeps) == 2 and min(sweeps.values()) > 3)
        finally:
            second.stop()
        assert unfinished_jobs(settings) == []
        assert first.runtime.engine.job(job_id).state is JobState.RUNNING
        assert [start.job_id for start in quick.engine.alive()] == [job_id]


# -- results in turn


def test_many_slow_results_of_one_user_delay_anothers_by_one_transfer_at_most(
    quick: Quick, bobs_item: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    transfers, permits = hold_transfers(monkeypatch)
    with quick.service(transfers="1") as service:
        hers = [submit(service, "probe noop", quick.item) for _ in range(5)]
        for job_id in hers:
            run_until(service, job_id, JobState.STAGING_OUT)
        soon(lambda: transfers)
        his = submit(service, "probe noop", bobs_item, BOB)
        run_until(service, his, JobState.STAGING_OUT)
        for _ in (*hers, his):
            permits.release()
        run_until(service, his, JobState.SUCCEEDED)
        for job_id in hers:
            run_until(service, job_id, JobState.SUCCEEDED)
    assert set(transfers) == {*hers, his}
    assert transfers.index(his) <= 2


def test_no_user_has_all_transfers(
    quick: Quick, bobs_item: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    transfers, permits = hold_transfers(monkeypatch)
    with quick.service(transfers="3") as service:
        hers = [submit(service, "probe noop", quick.item) for _ in range(5)]
        for job_id in hers:
            run_until(service, job_id, JobState.STAGING_OUT)
        soon(lambda: len(transfers) == 2)
        his = submit(service, "probe noop", bobs_item, BOB)
        soon(lambda: his in transfers)
        assert len(transfers) == 3
        for _ in (*hers, his):
            permits.release()
        for job_id in (his, *hers):
            run_until(service, job_id, JobState.SUCCEEDED)


def hold_transfers(
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[list[str], threading.Semaphore]:
    """Let each transfer wait for a permit; the jobs in the order in which theirs began."""
    transfers: list[str] = []
    permits = threading.Semaphore(0)
    fetch: Callable[[StageOut, Job], Job] = StageOut.run

    def held(self: StageOut, job: Job) -> Job:
        transfers.append(job.id)
        assert permits.acquire(timeout=30)
        return fetch(self, job)

    monkeypatch.setattr(StageOut, "run", held)
    return transfers, permits


# -- a job that has gone to another worker


def test_a_worker_that_has_lost_a_job_does_not_write_over_its_log(
    quick: Quick, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with quick.service() as service:
        read_log = monitor.Monitor._log

        def lose_the_job(self: monitor.Monitor, job: Job, report: TaskReport) -> str:
            change(service, "INSERT INTO workers VALUES ('other', 9e12, '')")
            change(
                service, "UPDATE jobs SET holder = 'other', fence = fence + 1 WHERE id = ?", job.id
            )
            Results(service.settings.results_path).write_log(job, "the other's")
            return read_log(self, job, report)

        monkeypatch.setattr(monitor.Monitor, "_log", lose_the_job)
        job_id = submit(service, "probe args", quick.item)
        soon(lambda: f"Job {job_id} was written meanwhile" in caplog.text)
        (log,) = service.settings.results_path.rglob(f"*{job_id}*.log")
        assert log.read_text() == "the other's"


# -- the same key again


KEYED = {"Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}


def execute(service: Service, item: str, form: str = "", *, asynchronous: bool = False) -> Any:
    inputs = {"Image": PROBE, "CommandName": "probe noop", "FileParam": item}
    url = service.execute_url(ALICE.token, asynchronous=asynchronous, **inputs)
    return service.get(url + form, headers=KEYED)


def test_a_raw_execute_repeated_after_its_result_has_expired_is_told_so(
    quick: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(janitor, "_EXPIRE_EVERY", 0.1)
    with quick.service(result_retention="1s", record_retention="1h") as service:
        assert execute(service, quick.item, "&RawDataOutput=Result").content.startswith(b"PK")
        soon(lambda: not list(service.settings.results_path.rglob("*.zip")))
        again = execute(service, quick.item, "&RawDataOutput=Result")
        assert again.status_code == 410
        assert "The result of this job has expired. Submit the job again" in again.text
    assert len(quick.engine.starts) == 1


def test_a_synchronous_execute_repeated_asynchronously_is_told_where_its_status_is(
    quick: Quick,
) -> None:
    with quick.service() as service:
        first = execute(service, quick.item)
        assert elements(etree.fromstring(first.content), "//wps:ProcessSucceeded")
        again = etree.fromstring(execute(service, quick.item, asynchronous=True).content)
        assert "ProcessSucceeded" in service.get(status_path(job_id_of(again))).text
        assert job_id_of(again) == quick.engine.starts[0].job_id
    assert len(quick.engine.starts) == 1


# -- who holds a job


def test_an_ended_job_is_held_by_nobody(quick: Quick) -> None:
    with quick.service() as service:
        done = submit(service, "probe noop", quick.item)
        run_until(service, done, JobState.SUCCEEDED)
        going_on = running(service, quick.item)
        assert ask(service, "SELECT holder FROM jobs WHERE id = ?", done) is None
        assert ask(service, "SELECT holder FROM jobs WHERE id = ?", going_on) is not None


def test_a_job_that_the_former_release_left_staged_in_is_carried_on(quick: Quick) -> None:
    quick.engine.away()
    with quick.service() as service:
        job_id = submit(service, "probe noop", quick.item)
        soon(lambda: "waiting for" in status(service, job_id))
        assert service.runtime.engine.job(job_id).state is JobState.STAGED_IN
    change(service, "UPDATE jobs SET admitted_at = NULL, holder = NULL")
    quick.engine.back()
    with quick.service() as service:
        run_until(service, job_id, JobState.SUCCEEDED)
    quick.assert_nothing_left()
