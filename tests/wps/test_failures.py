"""Jobs that fail: the right class, a sentence on what to do, exit code and log; nothing left behind."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ogc import NAMESPACES
from service_fixture import Service, running_service, status_path, text_of
from storagehub_fixture import ALICE, HubClient
from swarm_fixture import PROBE

from die_algorithm.local_swarm import LocalSwarm
from die_algorithm.models import JobState
from die_algorithm.settings import Settings


@pytest.fixture(scope="module")
def impatient(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with short deadlines."""
    changes = {
        "data_dir": str(tmp_path_factory.mktemp("impatient")),
        "start_deadline": "2s",
        "run_deadline": "2s",
        "stop_grace": "1s",
        "outage_patience": "1s",
    }
    with running_service(Settings(**{**settings.model_dump(), **changes})) as service:
        yield service


def services(swarm: LocalSwarm) -> bytes:
    return subprocess.run(
        ["docker", "-H", swarm.docker_host, "service", "ls", "-q"], check=True, capture_output=True
    ).stdout


def assert_failed(
    service: Service, swarm: LocalSwarm, item: str, image: str, command: str, *words: str
) -> str:
    document = service.run(ALICE.token, image, command, item)
    text = text_of(document, "//wps:ProcessFailed/ows:ExceptionReport")
    for word in words:
        assert word in text
    assert services(swarm) == b""
    return text


def test_exit_code_3_is_the_users_and_comes_with_the_log(
    service: Service, swarm: LocalSwarm, item: str
) -> None:
    assert_failed(
        service, swarm, item, PROBE, "probe exit 3", "Fault class: USER.", "Exit code: 3."
    )


def test_the_end_of_the_log_is_part_of_the_reason(
    service: Service, swarm: LocalSwarm, item: str
) -> None:
    assert_failed(service, swarm, item, PROBE, "probe nonsense", "no behaviour nonsense", "USER")


def test_an_image_that_does_not_exist_is_the_images_fault_where_only_the_engine_is_asked(
    settings: Settings, swarm: LocalSwarm, item: str, tmp_path: Path
) -> None:
    changes = {"data_dir": tmp_path, "docker_hub_url": "engine"}
    with running_service(settings.model_copy(update=changes)) as service:
        text = assert_failed(service, swarm, item, "d4science/none", "x", "Fault class: IMAGE.")
    assert "d4science/none" in text


def test_a_command_that_the_image_does_not_have_is_the_images_fault(
    service: Service, swarm: LocalSwarm, item: str
) -> None:
    assert_failed(service, swarm, item, PROBE, "missing", "Fault class: IMAGE.", "missing")


def test_running_out_of_memory_names_the_limit(
    service: Service, swarm: LocalSwarm, item: str
) -> None:
    assert_failed(service, swarm, item, PROBE, "probe oom 256", "Fault class: LIMIT.", "64 MiB")


def test_a_program_that_never_ends_is_stopped_at_the_time_limit(
    impatient: Service, swarm: LocalSwarm, item: str
) -> None:
    text = assert_failed(
        impatient, swarm, item, PROBE, "probe forever", "Fault class: LIMIT.", "2 seconds"
    )
    assert "started" in text


def test_a_container_that_never_starts_is_given_up(
    impatient: Service, swarm: LocalSwarm, item: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    changes = {
        "data_dir": str(tmp_path_factory.mktemp("misplaced")),
        "placement": ("node.labels.nowhere==true",),
    }
    with running_service(Settings(**{**impatient.settings.model_dump(), **changes})) as service:
        assert_failed(
            service, swarm, item, PROBE, "probe noop", "Fault class: SYSTEM.", "no machine"
        )


def test_a_failed_job_keeps_what_the_program_wrote_and_names_the_folder(
    service: Service, swarm: LocalSwarm, item: str, alice: HubClient
) -> None:
    job_id = service.submit(ALICE.token, PROBE, "probe sleep 60", item)
    engine = service.runtime.engine
    while (job := engine.job(job_id)).folder is None:
        engine.wait(job_id, 0.05)
    alice.upload("half.txt", b"half a result", parent=job.folder.id)
    # The program ends well; take its folder's place in the failure by stopping it from outside.
    while engine.job(job_id).state is not JobState.RUNNING:
        engine.wait(job_id, 0.05)
    container = subprocess.run(
        ["docker", "-H", swarm.docker_host, "ps", "-q", "--filter", f"name=die-{job_id}"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    subprocess.run(["docker", "-H", swarm.docker_host, "kill", *container], check=True)
    job = engine.wait(job_id, 60)
    assert job.state is JobState.FAILED
    assert job.folder is not None
    document = service.get(status_path(job_id)).text
    assert f"kept in the folder {job.folder.name}" in document
    assert alice.names(job.folder.id) == ["half.txt"]
    alice.request("DELETE", f"/items/{job.folder.id}", params={"force": "true"})


def test_a_failed_job_removes_an_empty_folder(
    service: Service, item: str, alice: HubClient
) -> None:
    service.run(ALICE.token, PROBE, "probe exit 1", item)
    assert not [name for name in alice.names(alice.root(), showHidden=True) if "die-" in str(name)]


def test_the_bare_output_of_a_failed_job_is_an_exception_report(
    service: Service, item: str
) -> None:
    url = service.execute_url(ALICE.token, Image=PROBE, CommandName="probe exit 3", FileParam=item)
    answer = service.get(f"{url}&RawDataOutput=Result")
    assert answer.status_code == 400
    assert "Exit code: 3." in answer.text


def test_a_cancelled_job_is_dismissed_and_leaves_nothing(
    service: Service, swarm: LocalSwarm, item: str, alice: HubClient
) -> None:
    job_id = service.submit(ALICE.token, PROBE, "probe forever", item)
    engine = service.runtime.engine
    while engine.job(job_id).state is not JobState.RUNNING:
        engine.wait(job_id, 0.05)
    answer = service.get(f"/wps/CancelComputationServlet?id={job_id}&gcube-token={ALICE.token}")
    assert answer.status_code == 200
    assert engine.wait(job_id, 60).state is JobState.DISMISSED
    assert services(swarm) == b""
    assert not [name for name in alice.names(alice.root(), showHidden=True) if "die-" in str(name)]
    document = service.get(status_path(job_id))
    assert "Computation cancelled" in document.text
    assert NAMESPACES["ows"] in document.text
