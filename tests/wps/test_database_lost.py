"""The jobs' database is lost, under the service or while it is down: what runs is found again."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from jobs_fixture import make_job
from lxml import etree
from ogc import texts
from quick_fixture import Quick, soon, status, submit
from service_fixture import Service
from storagehub_fixture import ALICE, BOB

from die_algorithm import janitor
from die_algorithm.errors import StoreUnavailable
from die_algorithm.job_store import JobStore
from die_algorithm.models import Job, JobState
from die_algorithm.swarm import Swarm

#: What a lost job's status may say meanwhile.
_UNKNOWN = "There is no job of this id"


def wait_for(service: Service, job_id: str, state: JobState) -> Job:
    return soon(lambda: j if (j := service.runtime.engine.job(job_id)).state is state else None)


def database(service: Service) -> Path:
    return service.settings.data_dir / "jobs.sqlite"


def is_known(service: Service, job_id: str) -> bool:
    return _UNKNOWN not in status(service, job_id)


def published(service: Service) -> set[str]:
    return {path.parent.name for path in service.settings.results_path.glob("*/die-*")}


def test_results_without_a_record_go_when_they_have_had_their_time_and_no_others(
    quick: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(janitor, "_EXPIRE_EVERY", 0.05)
    monkeypatch.setattr(janitor, "_RESULTS_EVERY", 0.05)
    with quick.service() as service:
        old, young = (
            wait_for(service, submit(service, "probe noop", quick.item), JobState.SUCCEEDED)
            for _ in range(2)
        )
    for path in service.settings.data_dir.glob("jobs.sqlite*"):
        path.unlink()
    with quick.service() as service:
        recorded = wait_for(service, submit(service, "probe noop", quick.item), JobState.SUCCEEDED)
        assert published(service) == {old.result_key, young.result_key, recorded.result_key}
        long_ago = time.time() - service.settings.result_retention.total_seconds() - 60
        for job in (recorded, old):
            folder = service.settings.results_path / job.result_key
            for path in (*folder.iterdir(), folder):
                os.utime(path, (long_ago, long_ago))
        soon(lambda: old.result_key not in published(service))
        assert published(service) == {young.result_key, recorded.result_key}


# -- while the service is down


def test_running_jobs_come_back_as_they_were_and_deliver(
    quick: Quick, caplog: pytest.LogCaptureFixture
) -> None:
    with quick.service(instance="here") as service:
        job_id = submit(service, "probe write-slowly a.txt 60", quick.item)
        before = wait_for(service, job_id, JobState.RUNNING)
    shutil.rmtree(service.settings.data_dir)
    with quick.service(instance="here") as service:
        soon(lambda: is_known(service, job_id))
        after = service.runtime.engine.job(job_id)
        assert after.owner == before.owner
        # Pinned to what runs; which tag it once was, the service does not tell.
        repository = before.request.image.removesuffix(":latest")
        assert after.request.image == f"{repository}@{before.digest}"
        assert after.request.command == before.request.command
        assert after.request.item_id == before.request.item_id
        assert after.folder is not None
        assert before.folder is not None
        assert after.folder.id == before.folder.id
        assert after.digest == before.digest
        quick.engine.let_end(job_id)
        wait_for(service, job_id, JobState.SUCCEEDED)
        document = etree.fromstring(status(service, job_id).encode())
        answer = service.get(texts(document, "//ogr:Result/d4science:Data/text()")[1])
        assert answer.content.startswith(b"PK")
        assert b"a.txt" in answer.content
    assert [start.job_id for start in quick.engine.starts] == [job_id]
    quick.assert_nothing_left()
    assert ALICE.token not in caplog.text


def test_the_owner_of_a_job_that_came_back_can_cancel_it_and_nobody_else(quick: Quick) -> None:
    with quick.service(instance="here") as service:
        job_id = submit(service, "probe sleep 60", quick.item)
        wait_for(service, job_id, JobState.RUNNING)
    shutil.rmtree(service.settings.data_dir)
    with quick.service(instance="here") as service:
        soon(lambda: is_known(service, job_id))
        cancel = f"/wps/CancelComputationServlet?id={job_id}&gcube-token="
        assert service.get(cancel + BOB.token).status_code == 404
        assert service.get(cancel + ALICE.token).status_code == 200
        wait_for(service, job_id, JobState.DISMISSED)
    quick.assert_nothing_left()


def test_a_job_without_a_started_container_fails_honestly(
    quick: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Swarm, "start_service", lambda *_: None)
        with quick.service(instance="here") as service:
            job_id = submit(service, "probe noop", quick.item)
            wait_for(service, job_id, JobState.DISPATCHED)
    shutil.rmtree(service.settings.data_dir)
    with quick.service(instance="here") as service:
        soon(lambda: is_known(service, job_id))
        wait_for(service, job_id, JobState.FAILED)
        text = status(service, job_id)
    assert "lost its records before the program was started. Submit the job again." in text
    assert "Fault class: SYSTEM." in text
    assert quick.engine.starts == []
    quick.assert_nothing_left()


def test_another_installations_services_are_left_alone(quick: Quick) -> None:
    with quick.service(instance="there", data_dir=str(quick.folder / "there")) as there:
        theirs = submit(there, "probe sleep 60", quick.item)
        wait_for(there, theirs, JobState.RUNNING)
        with quick.service(instance="here") as here:
            ours = submit(here, "probe sleep 60", quick.item)
            wait_for(here, ours, JobState.RUNNING)
        shutil.rmtree(here.settings.data_dir)
        with quick.service(instance="here") as here:
            soon(lambda: is_known(here, ours))
            assert not is_known(here, theirs)
            assert {start.job_id for start in quick.engine.alive()} == {ours, theirs}
        assert there.runtime.engine.job(theirs).state is JobState.RUNNING


def test_the_same_address_is_the_same_installation(quick: Quick) -> None:
    with quick.processes() as processes:
        process = processes.serve()
        job_id = processes.submit("probe sleep 60", quick.item)
        processes.wait_for(job_id, "The program is running.")
        process.terminate()
        assert process.wait(30) == 0
        shutil.rmtree(processes.settings.data_dir)
        processes.serve()
        soon(lambda: _UNKNOWN not in processes.status(job_id))
        quick.engine.let_end(job_id)
        processes.wait_for(job_id, "ProcessSucceeded")
        quick.assert_nothing_left()
        assert ALICE.token not in processes.log.read_text()


# -- under the running service


@pytest.mark.parametrize("remains", [True, False])
def test_a_database_removed_under_the_service_is_made_anew_within_seconds(
    quick: Quick, remains: bool
) -> None:
    with quick.service(instance="here") as service:
        ended = submit(service, "probe noop", quick.item)
        wait_for(service, ended, JobState.SUCCEEDED)
        running = submit(service, "probe write-slowly a.txt 60", quick.item)
        wait_for(service, running, JobState.RUNNING)
        for path in service.settings.data_dir.glob("jobs.sqlite*"):
            if path == database(service) or not remains:
                path.unlink()
        soon(lambda: is_known(service, running), 10)
        assert not is_known(service, ended)
        quick.engine.let_end(running)
        wait_for(service, running, JobState.SUCCEEDED)
        fresh = submit(service, "probe noop", quick.item)
        wait_for(service, fresh, JobState.SUCCEEDED)
        recorded = ids_in(database(service))
    assert recorded == {running, fresh}
    assert [start.job_id for start in quick.engine.starts] == [ended, running, fresh]
    quick.assert_nothing_left()


def ids_in(path: Path) -> set[str]:
    """What another program finds in a database."""
    with closing(sqlite3.connect(path)) as connection:
        return {row[0] for row in connection.execute("SELECT id FROM jobs")}


def test_what_is_written_into_a_database_without_a_name_is_not_confirmed(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite"
    job = make_job()
    with closing(JobStore(f"sqlite:///{path}", tmp_path / "token.key")) as store:

        class RemovesTheFile:
            @staticmethod
            def check_room(*_: object) -> None:
                path.unlink()

        store.queue = RemovesTheFile()  # type: ignore[assignment]
        with pytest.raises(StoreUnavailable):
            store.add(job)
        assert store.get(job.id) is None


def test_a_backup_put_in_place_of_the_database_is_taken(quick: Quick) -> None:
    backup = quick.folder / "backup"
    with quick.service(instance="here") as service:
        old = submit(service, "probe noop", quick.item)
        wait_for(service, old, JobState.SUCCEEDED)
        with (
            closing(sqlite3.connect(database(service))) as source,
            closing(sqlite3.connect(backup)) as target,
        ):
            source.backup(target)
        late = submit(service, "probe noop", quick.item)
        wait_for(service, late, JobState.SUCCEEDED)
        running = submit(service, "probe sleep 60", quick.item)
        wait_for(service, running, JobState.RUNNING)
        backup.replace(database(service))
        soon(lambda: not is_known(service, late), 10)
        assert is_known(service, old)
        soon(lambda: is_known(service, running), 10)
        quick.engine.let_end(running)
        wait_for(service, running, JobState.SUCCEEDED)
        with closing(sqlite3.connect(database(service))) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    quick.assert_nothing_left()


def test_the_whole_folder_removed_under_web_and_worker_is_made_anew(quick: Quick) -> None:
    with quick.processes() as processes:
        processes.serve()
        running = processes.submit("probe write-slowly a.txt 60", quick.item)
        processes.wait_for(running, "The program is running.")
        shutil.rmtree(processes.settings.data_dir)
        soon(lambda: _UNKNOWN not in processes.status(running))
        quick.engine.let_end(running)
        processes.wait_for(running, "ProcessSucceeded")
        fresh = processes.submit("probe noop", quick.item)
        processes.wait_for(fresh, "ProcessSucceeded")
        # The new key lies in a file: tokens can be read after a restart.
        assert (processes.settings.data_dir / "token.key").is_file()
        assert "removed or replaced; it is opened anew" in processes.log.read_text()
        quick.assert_nothing_left()
