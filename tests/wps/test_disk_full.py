"""A disk that is full, or a database that cannot be written: said in words, and overcome alone."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import requests
from quick_fixture import PROBE, Quick, soon, status, submit
from service_fixture import Service, status_path
from storagehub_fixture import ALICE, hub_client

from die_algorithm.archive import round as archive_round
from die_algorithm.archive.disk import leave_room
from die_algorithm.job_store import database
from die_algorithm.models import Job, JobState
from die_algorithm.worker import driver, worker

Disk = Callable[[str, str], Path]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_OUTAGE_PAUSE", 0.3)
    monkeypatch.setattr(worker, "_TURN_AGAIN", 0.3)
    monkeypatch.setattr(database, "_LOCK_PATIENCE", 1)
    monkeypatch.setitem(database._ARGUMENTS, "sqlite", {"timeout": 1})


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Mounts small disks: by their names, and tmpfs's options."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    with contextlib.ExitStack() as undo:

        def mount(name: str, options: str) -> Path:
            path = tmp_path / name
            path.mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", path], check=True)
            undo.callback(lambda: subprocess.run(["umount", path], check=True))
            return path

        yield mount


def fill(path: Path) -> Path:
    """Leave no room on a disk; gives the file that takes it."""
    filler = path / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (2**16, 2**12, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
    return filler


def fill_inodes(path: Path) -> list[Path]:
    """Leave no inode on a disk; gives the empty files that take them."""
    fillers: list[Path] = []
    with contextlib.suppress(OSError):
        while True:
            filler = path / f"filler{len(fillers)}"
            filler.touch()
            fillers.append(filler)
    return fillers


def execute(service: Service, quick: Quick) -> requests.Response:
    inputs = {"Image": PROBE, "CommandName": "probe noop", "FileParam": quick.item}
    return service.get(service.execute_url(ALICE.token, asynchronous=True, **inputs))


def end(service: Service, job_id: str) -> Job:
    job = service.runtime.engine.wait(job_id, 30)
    assert job.state.is_final
    return job


def wait_for_running(service: Service, job_id: str) -> None:
    soon(lambda: service.runtime.engine.job(job_id).state is JobState.RUNNING)


def assert_refused_in_words(answer: requests.Response) -> None:
    assert answer.status_code == 503, answer.text
    assert "database cannot be used at the moment" in answer.text
    assert int(answer.headers["Retry-After"]) > 0


def assert_no_room_is_told(service: Service, job: Job) -> None:
    assert job.state is JobState.FAILED
    text = status(service, job.id)
    assert "no room left for the result" in text
    assert "Fault class: SYSTEM." in text
    assert f"kept in the folder die-{job.id} of your workspace" in text


def assert_works_again(service: Service, quick: Quick) -> None:
    assert end(service, submit(service, "probe write a.txt b", quick.item)).state is (
        JobState.SUCCEEDED
    )


# -- results


@pytest.mark.parametrize("what", ["bytes", "inodes"])
def test_a_job_whose_result_finds_no_room_fails_and_keeps_its_folder(
    quick: Quick, disk: Disk, what: str
) -> None:
    results = disk("results", "size=512k,nr_inodes=40")
    with quick.service(results_dir=str(results)) as service:
        fillers = [fill(results)] if what == "bytes" else fill_inodes(results)
        job = end(service, submit(service, "probe write a.txt b", quick.item))
        assert_no_room_is_told(service, job)
        assert quick.folders() == [f"die-{job.id}"]
        assert quick.engine.services() == []
        assert "results" in service.get("/ready").json()["checks"]
        assert service.get("/ready").status_code == 503
        for filler in fillers:
            filler.unlink()
        assert_works_again(service, quick)
        left = [path.name for path in results.glob("*/*") if job.id in path.name]
        assert [name for name in left if not name.endswith(".log")] == []


def test_a_large_result_leaves_the_database_its_room(
    quick: Quick, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    free: list[int] = []

    def noted(folder: Path, size: int) -> None:
        free.append(shutil.disk_usage(folder).free)
        leave_room(folder, size)

    monkeypatch.setattr(archive_round, "leave_room", noted)
    data = disk("data", "size=16m")
    with quick.service(data_dir=str(data)) as service, hub_client(quick.hub, ALICE) as alice:
        job_id = submit(service, "probe sleep 60", quick.item)
        wait_for_running(service, job_id)
        folder = service.runtime.engine.job(job_id).folder
        assert folder is not None
        alice.upload("large.bin", os.urandom(17 * 2**20), folder.id)
        quick.engine.let_end(job_id)
        job = end(service, job_id)
        assert_no_room_is_told(service, job)
        assert min(free) >= 16 * 2**20 // 20
        assert_works_again(service, quick)


def test_a_result_that_cannot_be_written_has_one_answer_and_its_reason_in_the_log(
    quick: Quick, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether the folder cannot be made or the zip not be moved; a disk with room is not called full."""

    def broken(_descriptor: int) -> None:
        raise OSError(errno.EROFS, "broken for the test", "/the/folder/of/results")

    results = quick.folder / "results"
    results.write_text("no folder")
    with quick.service(results_dir=str(results)) as service:
        unmade = end(service, submit(service, "probe write a.txt b", quick.item))
        results.unlink()
        monkeypatch.setattr(archive_round, "sync_folder", broken)
        unwritten = end(service, submit(service, "probe write a.txt b", quick.item))
        for job in (unmade, unwritten):
            text = status(service, job.id)
            assert "This service cannot write results. Tell the operator" in text
            assert "Fault class: SYSTEM." in text
        monkeypatch.undo()
        assert_works_again(service, quick)
    assert f"Job {unmade.id}: ResultUnwritable: " in caplog.text
    assert "cannot be written: Not a directory." in caplog.text
    assert "cannot be written: broken for the test." in caplog.text
    assert "unforeseen" not in caplog.text


class Flaky:
    """An error of the disk when a zip is published, so many times."""

    def __init__(self, number: int, times: int) -> None:
        self._number = number
        self._left = times

    def __call__(self, _folder: Path) -> None:
        self._left -= 1
        if self._left >= 0:
            raise OSError(self._number, "flaky for the test", "/the/folder/of/results")


@pytest.mark.parametrize("name", ["EIO", "EMFILE", "ENFILE", "ESTALE"])
def test_an_error_of_the_disk_that_passes_is_waited_for(
    quick: Quick, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(driver, "_OUTAGE_PAUSE", 0.5)
    monkeypatch.setattr(archive_round, "sync_folder", Flaky(getattr(errno, name), 2))
    with quick.service() as service:
        job_id = submit(service, "probe write a.txt b", quick.item)
        soon(lambda: "until this service can write its result" in status(service, job_id))
        assert end(service, job_id).state is JobState.SUCCEEDED
    quick.assert_nothing_left()


def test_an_error_of_the_disk_that_does_not_pass_ends_the_job_after_the_patience(
    quick: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "_OUTAGE_PAUSE", 0.1)
    monkeypatch.setattr(archive_round, "sync_folder", Flaky(errno.EIO, 10**6))
    with quick.service(outage_patience="1s") as service:
        job = end(service, submit(service, "probe write a.txt b", quick.item))
        assert job.state is JobState.FAILED
        text = status(service, job.id)
        assert "this service could not write its result since" in text
        assert "Fault class: SYSTEM." in text
        assert f"kept in the folder die-{job.id} of your workspace" in text


def test_a_job_without_output_survives_a_full_disk_of_results(quick: Quick, disk: Disk) -> None:
    """The log cannot be published, but the record holds it; the user learns the exit code."""
    results = disk("results", "size=512k")
    with quick.service(results_dir=str(results)) as service:
        fill(results)
        job = end(service, submit(service, "probe nonsense", quick.item))
        assert job.exit_code == 64
        assert "no behaviour" in status(service, job.id)


# -- the database


def test_a_full_disk_of_the_database_refuses_new_jobs_and_loses_none(
    quick: Quick, disk: Disk
) -> None:
    data = disk("data", "size=1m")
    with quick.service(data_dir=str(data), results_dir=str(quick.folder / "results")) as service:
        before = end(service, submit(service, "probe noop", quick.item))
        running = submit(service, "probe write-slowly a.txt 60", quick.item)
        wait_for_running(service, running)
        filler = fill(data)
        assert_refused_in_words(execute(service, quick))
        quick.engine.let_end(running)
        for job_id in (before.id, running):
            answer = service.get(status_path(job_id))
            assert answer.status_code == 200
        started = len(quick.engine.starts)
        filler.unlink()
        assert end(service, running).state is JobState.SUCCEEDED
        assert_works_again(service, quick)
        assert len({start.job_id for start in quick.engine.starts}) == len(quick.engine.starts)
        assert len(quick.engine.starts) > started
    quick.assert_nothing_left()


def test_a_disk_without_inodes_stops_nothing_that_is_open(quick: Quick, disk: Disk) -> None:
    data = disk("data", "size=8m,nr_inodes=60")
    with quick.service(data_dir=str(data)) as service:
        end(service, submit(service, "probe noop", quick.item))
        fillers = fill_inodes(data)
        job = end(service, submit(service, "probe write a.txt b", quick.item))
        assert_no_room_is_told(service, job)
        for filler in fillers:
            filler.unlink()
        assert_works_again(service, quick)


def test_a_database_that_somebody_has_locked_is_waited_for(quick: Quick) -> None:
    """Longer than anybody waits for a lock, and than the worker's lease lasts."""
    with quick.service(worker_lease="1s") as service:
        running = submit(service, "probe write-slowly a.txt 60", quick.item)
        wait_for_running(service, running)
        path = service.settings.data_dir / "jobs.sqlite"
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            for _ in range(2):
                assert_refused_in_words(execute(service, quick))
                assert "ProcessStarted" in status(service, running)
            other.execute("ROLLBACK")
        quick.engine.let_end(running)
        assert end(service, running).state is JobState.SUCCEEDED
        assert_works_again(service, quick)
    assert quick.engine.starts[0].job_id == running
    quick.assert_nothing_left()


def test_a_database_that_cannot_be_written_at_the_start_is_told_in_a_sentence(
    quick: Quick, disk: Disk
) -> None:
    data = disk("data", "size=8m")
    with quick.service(data_dir=str(data)) as service:
        end(service, submit(service, "probe noop", quick.item))
    subprocess.run(["mount", "-o", "remount,ro", data], check=True)
    with quick.processes(data_dir=str(data)) as processes:
        for command in ("serve", "worker"):
            assert processes.start(command).wait(30) == 1
        log = processes.log.read_text()
    assert "Error: The service cannot start: The jobs' database cannot be used" in log
    assert "Error: The worker cannot start: The jobs' database cannot be used" in log
    assert "Traceback" not in log
