"""A registry that is away, hangs or limits how often it is asked, after a job was accepted."""

from __future__ import annotations

import dataclasses
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from contract.test_registry import Played
from quick_fixture import PROBE, Quick, soon, status, submit
from raw_server import Connection, RawServer, http
from service_fixture import Service
from service_process import Answer, Beginning, ServiceProcess, Submit
from stand_in_engine import image
from storagehub_fixture import ALICE, BOB

from die_algorithm import registry_rests
from die_algorithm.fail_points import FetchPoint
from die_algorithm.models import FaultClass, Job, JobState, TaskPhase, TaskReport, UserToken
from die_algorithm.steps import Steps
from die_algorithm.swarm import Swarm
from die_algorithm.worker import driver

#: What an engine passes on.
LIMITS = "toomanyrequests: You have reached your pull rate limit."
AWAY = 'Get "https://registry-1.docker.io/v2/": dial tcp: lookup registry-1.docker.io: no such host'
LIMITED = http("429 Too Many Requests", b"", "Retry-After: 600")


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_OUTAGE_PAUSE", 0.1)
    monkeypatch.setattr(registry_rests, "_REST", (0.2, 0.4))
    monkeypatch.setattr(registry_rests, "_LONGEST_REST", 0.3)


@dataclasses.dataclass
class Hub:
    """A registry that has the image that the stand-in engine has."""

    played: Played
    server: RawServer
    instead: bytes | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    @property
    def asked(self) -> int:
        return len(self.server.requests)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    played = Played()
    digest = played.tags["latest"] = played.add_image()
    known = image.digest_of

    def digest_of(text: str) -> str | None:
        return digest if known(re.sub("@.*", "", text)) else None

    monkeypatch.setattr(image, "digest_of", digest_of)

    def answer(connection: Connection) -> None:
        if made.instead is None:
            played(connection)
        else:
            connection.send(made.instead)

    with RawServer(answer) as server:
        made = Hub(played, server)
        yield made


def job_of(service: Service, job_id: str) -> Job:
    return service.runtime.engine.job(job_id)


def end_of(service: Service, job_id: str) -> Job:
    return soon(lambda: j if (j := job_of(service, job_id)).state.is_final else None)


def waits(service: Service, job_id: str) -> None:
    """Wait until a job waits for the registry, and see that it goes on doing so."""
    soon(lambda: "waiting" in status(service, job_id) and job_of(service, job_id).waiting)
    time.sleep(1)
    assert not job_of(service, job_id).state.is_final
    assert "image registry" in status(service, job_id)


# -- after the job was accepted


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("error", [LIMITS, AWAY])
def test_an_image_that_a_machine_cannot_fetch_meanwhile_is_waited_for(
    quick: Quick, error: str
) -> None:
    with quick.service() as service:
        quick.engine.hold_pending()
        job_id = submit(service, "probe noop", quick.item)
        soon(quick.engine.services)
        quick.engine.lose_registry(error)
        quick.engine.release_pending()
        waits(service, job_id)
        assert ("limits how often" in status(service, job_id)) is (error is LIMITS)
        quick.engine.registry_returns()
        assert end_of(service, job_id).state is JobState.SUCCEEDED
    assert [start.job_id for start in quick.engine.starts] == [job_id]
    quick.assert_nothing_left()


@pytest.mark.usefixtures("hasty")
def test_the_first_task_of_a_job_that_is_tried_again_counts_no_more_while_it_is_listed(
    quick: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    list_tasks, observe = Swarm.task_reports, Steps.observe
    refused: list[TaskReport] = []
    looks = iter(range(3))
    has_looked = threading.Event()

    def with_refused(swarm: Swarm) -> list[TaskReport]:
        reports = list_tasks(swarm)
        refused.extend(each for each in reports if each.phase is TaskPhase.REJECTED)
        is_gone = refused and refused[0].service_id not in [each.service_id for each in reports]
        if not is_gone:
            return reports
        if next(looks, None) is not None:
            return refused[:1]
        has_looked.set()
        return reports

    def noted(steps: Steps, job: Job, report: TaskReport) -> Job:
        assert report.service_id == job.service_id
        return observe(steps, job, report)

    monkeypatch.setattr(Swarm, "task_reports", with_refused)
    monkeypatch.setattr(Steps, "observe", noted)
    with quick.service() as service:
        quick.engine.hold_pending()
        job_id = submit(service, "probe sleep 60", quick.item)
        soon(quick.engine.services)
        quick.engine.lose_registry(LIMITS)
        quick.engine.release_pending()
        soon(lambda: job_of(service, job_id).waiting)
        quick.engine.registry_returns()
        soon(lambda: job_of(service, job_id).state is JobState.RUNNING)
        assert has_looked.wait(20)
        quick.engine.let_end(job_id)
        assert end_of(service, job_id).state is JobState.SUCCEEDED


@pytest.mark.usefixtures("hasty")
def test_a_registry_that_limits_us_when_a_pinned_job_starts_is_waited_for(
    quick: Quick, hub: Hub
) -> None:
    with quick.service(docker_hub_url=hub.url, max_running="1") as service:
        first = submit(service, "probe forever", quick.item)
        job_id = submit(service, "probe noop", quick.item)
        assert job_of(service, job_id).digest
        hub.instead = LIMITED
        quick.engine.lose_registry(LIMITS)
        service.runtime.engine.cancel(first, UserToken(ALICE.token))
        waits(service, job_id)
        hub.instead = None
        quick.engine.registry_returns()
        assert end_of(service, job_id).state is JobState.SUCCEEDED


@pytest.mark.usefixtures("hasty")
def test_what_a_mirror_lacks_is_not_called_missing_while_its_registry_is_away(
    quick: Quick, hub: Hub
) -> None:
    with quick.service(docker_hub_url=hub.url) as service:
        quick.engine.hold_pending()
        job_id = submit(service, "probe noop", quick.item)
        soon(quick.engine.services)
        hub.instead = LIMITED
        quick.engine.lose_registry()
        hub.played.tags.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(image, "digest_of", lambda _: None)
            quick.engine.release_pending()
            waits(service, job_id)
        hub.instead = None
        quick.engine.registry_returns()
        assert end_of(service, job_id).state is JobState.SUCCEEDED


@pytest.mark.usefixtures("hasty")
def test_after_the_patience_the_job_fails_and_the_image_is_not_blamed(quick: Quick) -> None:
    with quick.service(outage_patience="1s") as service:
        quick.engine.hold_pending()
        job_id = submit(service, "probe noop", quick.item)
        soon(quick.engine.services)
        quick.engine.lose_registry(LIMITS)
        quick.engine.release_pending()
        failure = end_of(service, job_id).failure
    assert failure is not None
    assert failure.fault_class is FaultClass.SYSTEM
    assert "the image registry has let nobody here ask it" in failure.text
    assert quick.engine.starts == []
    quick.assert_nothing_left()


@pytest.mark.parametrize("way", ["engine", "hub"])
def test_where_the_registry_knows_an_image_that_no_machine_fetches_both_reasons_are_named(
    quick: Quick, hub: Hub, way: str
) -> None:
    with quick.service(docker_hub_url=hub.url if way == "hub" else way) as service:
        quick.engine.lose_registry()
        job = end_of(service, submit(service, "probe noop", quick.item))
    assert job.failure is not None
    assert job.failure.fault_class is FaultClass.IMAGE
    assert "check with 'docker pull'" in job.failure.text
    assert "lets it fetch no more for a while" in job.failure.text
    assert quick.engine.starts == []
    quick.assert_nothing_left()


def test_an_image_that_its_registry_has_no_more_is_called_missing(quick: Quick, hub: Hub) -> None:
    with quick.service(docker_hub_url=hub.url) as service:
        quick.engine.hold_pending()
        job_id = submit(service, "probe noop", quick.item)
        soon(quick.engine.services)
        hub.played.documents.clear()
        quick.engine.lose_registry()
        quick.engine.release_pending()
        failure = end_of(service, job_id).failure
    assert failure is not None
    assert failure.fault_class is FaultClass.IMAGE
    assert "does not exist on Docker Hub" in failure.text


@pytest.mark.usefixtures("hasty")
def test_no_program_runs_twice_because_somebody_has_updated_its_service(
    quick: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest task was refused, but it is not the first."""
    monkeypatch.setattr(Swarm, "has_run", lambda *_: True)
    with quick.service() as service:
        quick.engine.hold_pending()
        job_id = submit(service, "probe noop", quick.item)
        soon(quick.engine.services)
        quick.engine.lose_registry(LIMITS)
        quick.engine.release_pending()
        job = end_of(service, job_id)
    assert job.failure is not None
    assert "could not fetch the image" in job.failure.text


@pytest.mark.parametrize("point", FetchPoint)
@pytest.mark.parametrize("side", ["before", "after"])
def test_a_service_killed_on_the_way_to_the_other_try_goes_on_and_starts_once(
    quick: Quick, tmp_path: Path, point: FetchPoint, side: str
) -> None:
    settings, log = quick.settings(), tmp_path / "log"
    call = Submit(token=ALICE.token, image=PROBE, command="probe noop", item=quick.item)
    first = ServiceProcess(Beginning(settings=settings, log=log, die_at=f"{point.value}:{side}"))
    second = None
    try:
        quick.engine.hold_pending()
        answer = first.call(call)
        assert isinstance(answer, Answer)
        soon(quick.engine.services)
        quick.engine.lose_registry(LIMITS)
        quick.engine.release_pending()
        if point is not FetchPoint.RETURNED:
            soon(lambda: first.look(answer.job.id).waiting)
            quick.engine.registry_returns()
        assert first.dies_within(20)
        first.kill()
        second = ServiceProcess(Beginning(settings=settings, log=log))
        if point is FetchPoint.RETURNED:
            soon(lambda: second.look(answer.job.id).waiting)
            quick.engine.registry_returns()
        job = soon(lambda: j if (j := second.look(answer.job.id)).state.is_final else None)
        second.stop()
    finally:
        first.kill()
        if second:
            second.kill()
    assert job.state is JobState.SUCCEEDED, job.failure
    assert [start.job_id for start in quick.engine.starts] == [job.id]
    quick.assert_nothing_left()


# -- many jobs


def test_a_registry_that_hangs_holds_up_no_job_of_another(
    quick: Quick, hub: Hub, tmp_path: Path
) -> None:
    with RawServer(Connection.hang) as dead:
        policy = tmp_path / "policy.toml"
        registry = f"127.0.0.1:{dead.port}"
        policy.write_text(f'[images]\nregistries = ["docker.io", "{registry}"]\n')
        with quick.service(policy_file=str(policy), docker_hub_url=hub.url) as service:
            for _ in range(20):
                service.submit(ALICE.token, f"{registry}/a/b", "probe noop", quick.item)
            theirs = quick.hub.seed(BOB.name, "b.txt", b"b")
            began = time.monotonic()
            for _ in range(3):
                job_id = submit(service, "probe noop", theirs, BOB)
                assert end_of(service, job_id).state is JobState.SUCCEEDED
            # Five for one question, and as many for each four of the twenty, if all of them were asked.
            assert time.monotonic() - began < 10


def test_a_registry_that_limits_us_is_asked_for_all_jobs_once_in_a_while(
    quick: Quick, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "_OUTAGE_PAUSE", 0.1)
    by_engine: list[object] = []
    resolve = Swarm.resolve_digest

    def counted(swarm: Swarm, reference: object, platform: str) -> str:
        by_engine.append(reference)
        return resolve(swarm, reference, platform)  # type: ignore[arg-type]

    monkeypatch.setattr(Swarm, "resolve_digest", counted)
    hub.instead = LIMITED
    quick.engine.lose_registry(LIMITS)
    with quick.service(docker_hub_url=hub.url) as service:
        jobs = [submit(service, "probe noop", quick.item) for _ in range(20)]
        soon(lambda: all(job_of(service, job_id).waiting for job_id in jobs))
        time.sleep(2)
        # The web's own question, the worker's, and what the worker asks through the engine.
        assert (hub.asked, len(by_engine)) == (2, 1)


# -- the rules, once more


def test_the_engine_is_asked_for_the_policys_platform(quick: Quick, tmp_path: Path) -> None:
    rules = tmp_path / "policy.toml"
    rules.write_text('[images]\nplatform = "linux/arm64"\n')
    with quick.service(policy_file=str(rules)) as service:
        job = end_of(service, submit(service, "probe noop", quick.item))
    assert job.failure is not None
    assert "no variant for linux/arm64" in job.failure.text


def test_no_image_is_started_that_was_denied_after_its_service_was_made(
    quick: Quick, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Swarm, "start_service", lambda *_: None)
        with quick.service() as service:
            job_id = submit(service, "probe noop", quick.item)
            soon(lambda: job_of(service, job_id).state is JobState.DISPATCHED)
    policy = tmp_path / "policy.toml"
    policy.write_text('[images]\ndeny = ["**"]\n')
    with quick.service(policy_file=str(policy)) as service:
        failure = end_of(service, job_id).failure
    assert failure is not None
    assert failure.fault_class is FaultClass.IMAGE
    assert "may not be run here" in failure.text
    assert quick.engine.starts == []
    quick.assert_nothing_left()


def test_a_program_that_was_started_before_its_image_was_denied_goes_on(
    quick: Quick, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('[images]\ndeny = ["**"]\n')
    quick.engine.hold_pending()
    with quick.service() as service:
        job_id = submit(service, "probe noop", quick.item)
        soon(lambda: [each for each in quick.engine.services() if each.is_started])
    reports, is_started = Swarm.task_reports, Swarm.is_started
    looked: list[str] = []

    def look(swarm: Swarm, service_id: str) -> bool:
        looked.append(service_id)
        return is_started(swarm, service_id)

    # Its task is not listed yet, so that it is started once more.
    monkeypatch.setattr(Swarm, "task_reports", lambda swarm: reports(swarm) if looked else [])
    monkeypatch.setattr(Swarm, "is_started", look)
    with quick.service(policy_file=str(policy)) as service:
        quick.engine.release_pending()
        assert end_of(service, job_id).state is JobState.SUCCEEDED
