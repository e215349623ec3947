"""The queue at the door: places that are told, users that take turns, limits that are kept."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from lxml import etree
from quick_fixture import PROBE, Quick, cancel, soon, status, submit
from service_fixture import Service, elements, job_id_of, running_service
from storagehub_fixture import ALICE, BOB, HubUser
from swarm_fixture import let_end

from die_algorithm.local_swarm import LocalSwarm
from die_algorithm.models import JobState
from die_algorithm.settings import Settings


@pytest.fixture
def narrow(quick: Quick) -> Iterator[Service]:
    """A service with two places, and room for three jobs that wait, two of one user."""
    limits = {"max_running": "2", "max_waiting": "3", "max_waiting_per_owner": "2"}
    with quick.service(**limits) as service:
        yield service


def fill(service: Service, quick: Quick, seconds: str = "30") -> list[str]:
    """Take both places with jobs of alice's."""
    jobs = [submit(service, f"probe sleep {seconds}", quick.item) for _ in range(2)]
    for job_id in jobs:
        wait_for(service, job_id, JobState.RUNNING)
    return jobs


def wait_for(service: Service, job_id: str, state: JobState) -> None:
    soon(lambda: state in service.runtime.engine.job(job_id).reached)


def place_of(service: Service, job_id: str) -> int | None:
    """The place that a job's status tells; None if it tells none."""
    text = status(service, job_id)
    if "waits for a free place" not in text:
        return None
    assert "ProcessAccepted" in text
    if "It is the next one." in text:
        return 0
    found = re.search(r"(\d+) jobs? (?:is|are) before it\.", text)
    assert found, text
    return int(found[1])


def execute(
    service: Service,
    item: str,
    user: HubUser = ALICE,
    *,
    asynchronous: bool = True,
    headers: dict[str, str] | None = None,
) -> requests.Response:
    inputs = {"Image": PROBE, "CommandName": "probe noop", "FileParam": item}
    url = service.execute_url(user.token, asynchronous=asynchronous, **inputs)
    return service.get(url, headers=headers)


def assert_busy(answer: requests.Response, words: str) -> None:
    assert answer.status_code == 503
    assert 'exceptionCode="ServerBusy"' in answer.text
    assert words in answer.text
    assert int(answer.headers["Retry-After"]) > 0


def test_a_waiting_job_tells_its_place_and_moves_up(narrow: Service, quick: Quick) -> None:
    running = fill(narrow, quick)
    first, second = (submit(narrow, "probe noop", quick.item) for _ in range(2))
    soon(lambda: (place_of(narrow, first), place_of(narrow, second)) == (0, 1))
    cancel(narrow, first)
    soon(lambda: place_of(narrow, second) == 0)
    cancel(narrow, running[0])
    assert narrow.runtime.engine.wait(second, 20).state is JobState.SUCCEEDED
    assert narrow.runtime.engine.job(running[1]).state is JobState.RUNNING


def test_a_user_with_many_jobs_delays_another_by_one_place_at_most(quick: Quick) -> None:
    bobs_item = quick.hub.seed(BOB.name, "b.txt", b"b")
    with quick.service(max_running="1") as service:
        first = submit(service, "probe sleep 60", quick.item)
        wait_for(service, first, JobState.RUNNING)
        many = [first, *(submit(service, "probe noop", quick.item) for _ in range(4))]
        single = submit(service, "probe noop", bobs_item, BOB)
        quick.engine.let_end(first)
        for job_id in (single, *many):
            assert service.runtime.engine.wait(job_id, 20).state is JobState.SUCCEEDED
    order = [start.job_id for start in quick.engine.starts]
    assert order == [many[0], single, *many[1:]]


@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_full_queue_refuses_and_creates_nothing(
    narrow: Service, quick: Quick, asynchronous: bool
) -> None:
    bobs_item = quick.hub.seed(BOB.name, "b.txt", b"b")
    running = fill(narrow, quick)
    waiting = [submit(narrow, "probe noop", quick.item) for _ in range(2)]
    answer = execute(narrow, quick.item, asynchronous=asynchronous)
    assert_busy(answer, "Too many jobs of yours wait already.")
    waiting.append(submit(narrow, "probe noop", bobs_item, BOB))
    other = execute(narrow, bobs_item, BOB, asynchronous=asynchronous)
    assert_busy(other, "Too many jobs wait already.")
    assert len(quick.folders()) == len(quick.engine.services()) == 2
    for job_id in running:
        cancel(narrow, job_id)
    for job_id in waiting:
        assert narrow.runtime.engine.wait(job_id, 20).state is JobState.SUCCEEDED
    assert len(quick.engine.starts) == 5
    # There is room again, without anybody's doing.
    assert execute(narrow, quick.item, asynchronous=asynchronous).status_code == 200


def test_a_synchronous_execute_waits_for_its_place(narrow: Service, quick: Quick) -> None:
    running = fill(narrow, quick)
    answers: list[requests.Response] = []
    waiter = threading.Thread(
        target=lambda: answers.append(execute(narrow, quick.item, asynchronous=False))
    )
    waiter.start()
    waiter.join(0.5)
    assert waiter.is_alive()
    cancel(narrow, running[0])
    waiter.join(20)
    assert elements(etree.fromstring(answers[0].content), "//wps:ProcessSucceeded")


def test_a_cancelled_job_that_waits_ends_at_once_and_touches_nothing(
    narrow: Service, quick: Quick
) -> None:
    running = fill(narrow, quick)
    waiting = submit(narrow, "probe noop", quick.item)
    created = len(quick.engine.services())
    # The owner is known by the token of the job, so that nobody needs to be asked.
    quick.engine.away()
    quick.hub.stop()
    answer = cancel(narrow, waiting)
    assert answer.status_code == 200, answer.text
    job = soon(lambda: j if (j := narrow.runtime.engine.job(waiting)).state.is_final else None, 1)
    assert job.state is JobState.DISMISSED
    assert "Computation cancelled." in status(narrow, waiting)
    assert set(job.reached) == {JobState.ACCEPTED, JobState.DISMISSED}
    assert job.token is None
    quick.engine.back()
    assert len(quick.engine.services()) == created
    assert {start.job_id for start in quick.engine.starts} == set(running)


def test_nobody_cancels_the_job_of_another(narrow: Service, quick: Quick) -> None:
    fill(narrow, quick)
    waiting = submit(narrow, "probe noop", quick.item)
    assert cancel(narrow, waiting, BOB).status_code == 404
    assert not narrow.runtime.engine.job(waiting).cancel_requested


def test_a_job_that_waits_longer_than_it_may_fails_by_that_limit(
    narrow: Service, quick: Quick
) -> None:
    fill(narrow, quick)
    answer = execute(narrow, quick.item, headers={"Total-Deadline": "1s"})
    job_id = job_id_of(etree.fromstring(answer.content))
    job = narrow.runtime.engine.wait(job_id, 10)
    assert job.state is JobState.FAILED
    assert job.failure is not None
    assert job.failure.fault_class.value == "LIMIT"
    assert "1 second after it was accepted, waiting included" in status(narrow, job_id)
    assert job.folder is None


def test_on_a_real_swarm_no_more_jobs_run_than_may(
    settings: Settings, swarm: LocalSwarm, item: str, tmp_path: Path
) -> None:
    narrow = settings.model_copy(update={"data_dir": tmp_path / "own", "max_running": 1})
    with running_service(narrow) as service:
        jobs = [submit(service, f"probe sleep {s}", item) for s in (60, 1, 1)]
        wait_for(service, jobs[0], JobState.RUNNING)
        soon(lambda: place_of(service, jobs[2]) == 1)
        let_end(swarm, jobs[0])
        seen = set()
        while not service.runtime.engine.job(jobs[-1]).state.is_final:
            listed = swarm.engine.docker("service", "ls", "--format", "{{.Name}}").split()
            seen.add(len({f"die-{job}" for job in jobs}.intersection(listed)))
        assert all(service.runtime.engine.job(j).state is JobState.SUCCEEDED for j in jobs)
    assert max(seen) == 1
