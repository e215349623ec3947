"""Outages are waited out, the status says for what, and nothing runs twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from service_fixture import Service, free_port, running_service, status_path
from storagehub_fixture import ALICE, local_storagehub
from swarm_fixture import PROBE, kill_engine, let_end, registry_outage

from die_algorithm.engine import Engine
from die_algorithm.local_swarm import LocalSwarm
from die_algorithm.models import Job, JobState
from die_algorithm.settings import Settings


@pytest.fixture
def hub_address(swarm: LocalSwarm) -> str:
    """Where a StorageHub listens that a test may stop and start again."""
    return f"{swarm.host_address}:{free_port()}"


@pytest.fixture
def own(settings: Settings, hub_address: str, tmp_path: Path) -> Iterator[Service]:
    changes = {
        "data_dir": tmp_path / "service",
        "storagehub_url": f"http://{hub_address}/storagehub/workspace",
    }
    with running_service(settings.model_copy(update=changes)) as service:
        yield service


def wait_until_waiting(engine: Engine, job_id: str) -> Job:
    while not (job := engine.wait(job_id, 0.05)).waiting:
        assert not job.state.is_final, job.failure
    return job


def test_storagehub_away_at_the_end_of_a_job_is_waited_for(
    own: Service, swarm: LocalSwarm, hub_address: str, tmp_path: Path
) -> None:
    engine = own.runtime.engine
    with local_storagehub(tmp_path / "hub", listen=(hub_address,)) as hub:
        item = hub.seed(ALICE.name, "a.txt", b"a")
        job_id = own.submit(ALICE.token, PROBE, "probe sleep 60", item)
        while engine.job(job_id).state is not JobState.RUNNING:
            engine.wait(job_id, 0.05)
    let_end(swarm, job_id)
    job = wait_until_waiting(engine, job_id)
    assert job.state is JobState.STAGING_OUT
    status = own.get(status_path(job_id)).text
    assert "waiting for StorageHub" in status
    with local_storagehub(tmp_path / "hub", listen=(hub_address,)):
        assert engine.wait(job_id, 60).state is JobState.SUCCEEDED


def test_storagehub_away_at_submission_is_told_and_nothing_is_started(
    own: Service, service: Service
) -> None:
    url = service.execute_url(
        ALICE.token, asynchronous=True, Image=PROBE, CommandName="probe noop", FileParam="1" * 36
    ).replace(service.settings.url, own.settings.url)
    answer = own.get(url)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert "StorageHub does not answer" in answer.text


def test_a_registry_that_is_away_is_waited_for(
    service: Service, swarm: LocalSwarm, item: str
) -> None:
    engine = service.runtime.engine
    with registry_outage(swarm):
        job_id = service.submit(ALICE.token, PROBE, "probe noop", item)
        wait_until_waiting(engine, job_id)
        status = service.get(status_path(job_id)).text
        assert "waiting for the image registry" in status
    assert engine.wait(job_id, 60).state is JobState.SUCCEEDED


def test_a_restart_of_the_engine_fails_its_jobs_honestly(
    service: Service, swarm: LocalSwarm, item: str
) -> None:
    engine = service.runtime.engine
    job_id = service.submit(ALICE.token, PROBE, "probe sleep 600", item)
    while engine.job(job_id).state is not JobState.RUNNING:
        engine.wait(job_id, 0.05)
    kill_engine(swarm)
    wait_until_waiting(engine, job_id)
    swarm.start()
    job = engine.wait(job_id, 90)
    assert job.state is JobState.FAILED
    assert job.failure is not None
    assert job.failure.fault_class.value == "SYSTEM"
    assert "restarted" in job.failure.text
    assert service.run(ALICE.token, PROBE, "probe noop", item) is not None
