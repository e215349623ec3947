"""The service is killed in the middle of jobs and started again: they go on, and run once."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import requests
from lxml import etree
from service_fixture import (
    Service,
    at_a_free_port,
    elements,
    job_id_of,
    service_process,
    status_path,
)
from storagehub_fixture import ALICE, HubClient
from swarm_fixture import PROBE, let_end

from die_algorithm.local_swarm import LocalSwarm
from die_algorithm.settings import Settings


@pytest.fixture
def own(settings: Settings, tmp_path: Path) -> Settings:
    """The settings of a service of its own, beside the shared one."""
    return at_a_free_port(settings, tmp_path / "own")


def submit(settings: Settings, service: Service, command: str, item: str) -> str:
    url = service.execute_url(
        ALICE.token, asynchronous=True, Image=PROBE, CommandName=command, FileParam=item
    ).replace(service.settings.url, settings.url)
    answer = requests.get(url, timeout=30)
    assert answer.status_code == 200, answer.text
    return job_id_of(etree.fromstring(answer.content))


def status(settings: Settings, job_id: str) -> etree._Element:
    answer = requests.get(settings.url + status_path(job_id), timeout=30)
    return etree.fromstring(answer.content)


def wait_for(settings: Settings, job_id: str, path: str) -> None:
    deadline = time.monotonic() + 60
    while not elements(status(settings, job_id), path):
        document = etree.tostring(status(settings, job_id)).decode()
        assert time.monotonic() < deadline, document
        time.sleep(0.05)


@pytest.mark.parametrize("ends_meanwhile", [False, True])
def test_a_job_survives_a_kill_of_the_service_and_runs_once(
    own: Settings,
    service: Service,
    item: str,
    swarm: LocalSwarm,
    alice: HubClient,
    tmp_path: Path,
    ends_meanwhile: bool,
) -> None:
    log = tmp_path / "log"
    with service_process(own, log) as process:
        job_id = submit(own, service, "probe sleep 60", item)
        wait_for(own, job_id, "//wps:ProcessStarted[@percentCompleted='30']")
        process.kill()
        process.wait()
    if ends_meanwhile:
        let_end(swarm, job_id)
        name = f"die-{job_id}"
        while (
            "complete"
            not in swarm.engine.docker(
                "service", "ps", "--format", "{{.CurrentState}}", name
            ).lower()
        ):
            time.sleep(0.05)
    with service_process(own, log):
        if not ends_meanwhile:
            let_end(swarm, job_id)
        wait_for(own, job_id, "//wps:ProcessSucceeded")
    assert swarm.engine.docker("service", "ls", "--quiet").strip() == ""
    assert not [name for name in alice.names(alice.root(), showHidden=True) if "die-" in str(name)]
    assert log.read_text().count(f"{job_id}: dispatched") == 1
    assert ALICE.token not in log.read_text()


def test_sigterm_ends_the_service_and_leaves_the_job_running(
    own: Settings, service: Service, item: str, swarm: LocalSwarm, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with service_process(own, log) as process:
        job_id = submit(own, service, "probe sleep 60", item)
        wait_for(own, job_id, "//wps:ProcessStarted[@percentCompleted='30']")
        process.terminate()
        assert process.wait(timeout=30) == 0
    with service_process(own, log):
        let_end(swarm, job_id)
        wait_for(own, job_id, "//wps:ProcessSucceeded")
