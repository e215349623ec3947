"""What is kept of an ended job, until when it says so, and that it goes after that."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from lxml import etree
from ogc import texts
from quick_fixture import Quick, cancel, soon, status, submit
from service_fixture import Service, connect, elements, status_path
from storagehub_fixture import ALICE, HubClient, hub_client

from die_algorithm import janitor
from die_algorithm.models import Job, JobState
from die_algorithm.results import Results
from die_algorithm.steps import recovery
from die_algorithm.steps.job_folder import folder_mark


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(janitor, "_EXPIRE_EVERY", 0.1)
    monkeypatch.setattr(recovery, "_SEARCH_EVERY", 0.0)


@pytest.fixture
def alice(quick: Quick) -> Iterator[HubClient]:
    with hub_client(quick.hub, ALICE) as client:
        yield client


def end(service: Service, job_id: str) -> Job:
    job = service.runtime.engine.wait(job_id, 20)
    assert job.state.is_final
    return job


def run(service: Service, command: str, item: str) -> Job:
    return end(service, submit(service, command, item))


def links(service: Service, job: Job) -> list[str]:
    """The addresses of log and zip."""
    document = etree.fromstring(status(service, job.id).encode())
    return texts(document, "//ogr:Result/d4science:Data/text()")


def published(service: Service) -> list[str]:
    """What is in the results' folder."""
    return sorted(path.name for path in service.settings.results_path.rglob("*"))


# -- results


def test_the_status_says_until_when_the_result_is_kept(quick: Quick) -> None:
    with quick.service(result_retention="2h") as service:
        job = run(service, "probe noop", quick.item)
        assert job.expiry is not None
        kept = job.expiry.files_at - job.updated_at
        assert abs(kept - service.settings.result_retention) < timedelta(seconds=1)
        until = job.expiry.files_at.strftime("%Y-%m-%dT%H:%M:%SZ")
        assert f"It is kept until {until}." in status(service, job.id)


def test_an_expired_result_is_gone_and_the_status_says_so(quick: Quick) -> None:
    with quick.service(result_retention="1s", record_retention="1h") as service:
        job = run(service, "probe args", quick.item)
        addresses = links(service, job)
        assert [service.get(address).status_code for address in addresses] == [200, 200]
        document = soon(lambda: s if "has expired" in (s := status(service, job.id)) else "")
        assert published(service) == []
        parsed = etree.fromstring(document.encode())
        assert elements(parsed, "//wps:ProcessSucceeded")
        assert not elements(parsed, "//wps:ProcessOutputs")
        assert "Submit the job again" in document
        for address in addresses:
            answer = service.get(address)
            assert answer.status_code == 410
            assert "The result of this job has expired." in answer.text


@pytest.mark.parametrize("ending", ["zip", "log", "xml"])
def test_a_file_that_expires_while_it_is_asked_for_is_gone(
    quick: Quick, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    with quick.service() as service:
        job = run(service, "probe write a.txt b", quick.item)
        monkeypatch.setattr(Results, "find", lambda _self, _key, name: Path("/") / name)
        folder = f"{service.settings.url}/results/{job.result_key}"
        assert service.get(f"{folder}/{job.service_name}.{ending}").status_code == 410


def test_of_a_failed_job_the_log_expires_too(quick: Quick) -> None:
    with quick.service(result_retention="1s") as service:
        job = run(service, "probe nonsense", quick.item)
        (address,) = re.findall(r"\((http://\S+\.log)\)", status(service, job.id))
        soon(lambda: ".log" not in status(service, job.id))
        assert published(service) == []
        assert "no behaviour" in status(service, job.id)
        assert service.get(address).status_code == 410


def test_a_wrong_key_does_not_tell_that_there_was_a_result(quick: Quick) -> None:
    with quick.service(result_retention="1s") as service:
        job = run(service, "probe noop", quick.item)
        address = links(service, job)[1].replace(job.result_key, "0" * 32)
        soon(lambda: "has expired" in status(service, job.id))
        assert service.get(address).status_code == 404


def test_results_expire_while_the_swarm_is_away(quick: Quick) -> None:
    with quick.service(result_retention="1s") as service:
        running = submit(service, "probe sleep 60", quick.item)
        soon(lambda: service.runtime.engine.job(running).state is JobState.RUNNING)
        job = run(service, "probe noop", quick.item)
        quick.engine.away()
        soon(lambda: "has expired" in status(service, job.id))


def test_a_download_under_way_is_completed(quick: Quick) -> None:
    with quick.service(result_retention="1s") as service:
        job = run(service, "probe noop", quick.item)
        # More than all the buffers on the way hold.
        content = bytes(range(256)) * 2**17
        path = Results(service.settings.results_path).zip_path(job)
        path.write_bytes(content)
        address = links(service, job)[1].removeprefix(service.settings.url)
        with connect(service) as reader:
            reader.sendall(f"GET {address} HTTP/1.0\r\n\r\n".encode())
            answer = reader.recv(1000)
            soon(lambda: not path.exists())
            assert service.get(address).status_code == 410
            while data := reader.recv(2**20):
                answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b" 200 OK" in head
    assert body == content


def test_after_its_retention_a_record_is_forgotten(quick: Quick) -> None:
    with quick.service(result_retention="1s", record_retention="2s") as service:
        job = run(service, "probe noop", quick.item)
        address = links(service, job)[1]
        soon(lambda: is_gone(service, job.id))
        assert "There is no job of this id, or it has expired." in status(service, job.id)
        assert service.get(address).status_code == 404
        assert cancel(service, job.id).status_code == 404


def is_gone(service: Service, job_id: str) -> bool:
    return service.get(status_path(job_id)).status_code == 404


def test_a_job_under_way_does_not_expire(quick: Quick) -> None:
    with quick.service(result_retention="1ms", record_retention="1ms") as service:
        job_id = submit(service, "probe sleep 60", quick.item)
        soon(lambda: service.runtime.engine.job(job_id).state is JobState.RUNNING)
        other = submit(service, "probe noop", quick.item)
        soon(lambda: is_gone(service, other))
        assert "ProcessStarted" in status(service, job_id)
        quick.engine.let_end(job_id)
        soon(lambda: is_gone(service, job_id))
    quick.assert_nothing_left()


# -- temp folders


def test_a_failed_jobs_folder_is_named_with_its_date_and_goes_after_it(quick: Quick) -> None:
    with quick.service(folder_retention="1s", run_deadline="500ms") as service:
        job = run(service, "probe write-slowly a.txt 60", quick.item)
        assert job.state is JobState.FAILED
        assert job.expiry is not None
        until = job.expiry.folder_at.strftime("%Y-%m-%dT%H:%M:%SZ")
        text = status(service, job.id)
        assert (
            f"is kept in the folder die-{job.id} of your workspace until {until} at least" in text
        )
        assert quick.folders() == [f"die-{job.id}"]
        soon(lambda: has_passed(job))
        run(service, "probe noop", quick.item)
        assert quick.folders() == []


def has_passed(job: Job) -> bool:
    return job.expiry is not None and job.expiry.folder_at < datetime.now(UTC)


def test_a_failed_jobs_folder_stays_for_its_time(quick: Quick) -> None:
    with quick.service(run_deadline="500ms") as service:
        job = run(service, "probe write-slowly a.txt 60", quick.item)
        run(service, "probe noop", quick.item)
        assert quick.folders() == [f"die-{job.id}"]


def test_a_users_own_folders_of_similar_names_are_left_alone(
    quick: Quick, alice: HubClient
) -> None:
    with quick.service(
        folder_retention="1ms", run_deadline="500ms", total_deadline="10s"
    ) as service:
        failed = run(service, "probe write-slowly a.txt 60", quick.item)
        assert failed.folder is not None
        # StorageHub names it like a folder that we have made twice.
        alice.upload("b.txt", b"b", alice.create_folder(failed.folder.name))
        own = ["die-notes", f"die-{failed.id} copy", f"die-{failed.id}.old", f"die-{uuid.uuid4()}"]
        for name in own:
            alice.create_folder(name)
        alice.upload(f"die-{uuid.uuid4()}", b"a file")
        before = quick.folders()
        run(service, "probe noop", quick.item)
        assert f"die-{failed.id}(1)" in before
        assert set(before) - set(quick.folders()) == {f"die-{failed.id}"}


def test_an_empty_folder_that_was_made_twice_goes(quick: Quick, alice: HubClient) -> None:
    with quick.service() as service:
        first = run(service, "probe noop", quick.item)
        alice.create_folder(f"die-{first.id}(1)")
        run(service, "probe noop", quick.item)
        assert quick.folders() == []


def test_of_the_folders_that_no_record_names_the_old_ones_of_this_installation_go(
    quick: Quick, alice: HubClient
) -> None:
    settings = {"folder_retention": "1ms", "total_deadline": "2s", "instance": "here"}
    ours, theirs, nobodys = (f"die-{uuid.uuid4()}" for _ in range(3))
    with quick.service(**settings) as service:
        alice.create_folder(ours, description=f"Results of x, {folder_mark('here')}")
        alice.create_folder(theirs, description=f"Results of x, {folder_mark('there')}")
        alice.create_folder(nobodys, description="my own")
        run(service, "probe noop", quick.item)
        assert quick.folders() == sorted((ours, theirs, nobodys))
        soon(lambda: run(service, "probe noop", quick.item) and ours not in quick.folders(), 30)
        assert quick.folders() == sorted((theirs, nobodys))
