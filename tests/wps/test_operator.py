"""What an operator sees: doctor, health, readiness."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from service_fixture import Service
from storagehub_fixture import ALICE

from die_algorithm.cli import main
from die_algorithm.local_swarm import LocalSwarm
from die_algorithm.results import Results
from die_algorithm.settings import Settings


def doctor(settings: Settings, **changes: object) -> tuple[int, str]:
    values = {
        "data_dir": settings.data_dir,
        "storagehub_url": settings.storagehub_url,
        "docker_host": settings.docker_host,
        "docker_hub_url": settings.docker_hub_url,
        "memory_limit": int(settings.memory_limit),
        **changes,
    }
    environment = {f"DIE_{name.upper()}": str(value) for name, value in values.items()}
    result = CliRunner().invoke(main, ["doctor"], env=environment)
    return result.exit_code, result.output


def test_the_doctor_is_content_with_a_good_set_up(settings: Settings) -> None:
    code, output = doctor(settings)
    assert code == 0
    assert output.endswith("The service can run jobs.\n")
    assert "FAIL" not in output


def test_the_doctor_tells_what_it_tried(settings: Settings) -> None:
    _, output = doctor(settings)
    assert f"Docker Swarm at {settings.docker_host}: " in output
    assert f"StorageHub at {settings.storagehub_url}: " in output
    assert f"results at {settings.data_dir}/results: " in output
    assert f"database at sqlite:///{settings.data_dir}/jobs.sqlite: " in output


@pytest.mark.parametrize(
    ("database", "shown"),
    [
        ("nosuch://die:pass-word@db.example:54/jobs?x=pass-word", "nosuch://db.example:54/jobs"),
        ("nosuch://die:pass-word/@db.example/jobs", "nosuch://db.example/jobs"),
        ("nosuch://die:a@pass-word@db.example/jobs", "nosuch://…"),
        ("nosuch://die:a?pass-word@db.example/jobs", "nosuch://…"),
        ("nosuch://db.example/jobs?password=a@pass-word", "nosuch://…"),
        ("pass-word", "an address without scheme"),
    ],
)
def test_the_doctor_shows_no_password(settings: Settings, database: str, shown: str) -> None:
    code, output = doctor(settings, database=database)
    assert code == 1
    assert f"jobs' database at {shown}: " in output
    assert "setting 'database' is no address of a database" in output
    assert "pass-word" not in output


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"docker_host": "unix:///nowhere.sock"}, ("engine does not answer", "apt-get install")),
        (
            {"storagehub_url": "http://127.0.0.1:9"},
            ("StorageHub does not answer", "storagehub_url"),
        ),
        ({"data_dir": "/dev/null/die"}, ("database cannot be written", "data_dir")),
        ({"cpu_limit": 1000.0}, ("'cpu_limit' is 1000", "Lower the setting")),
        ({"network": "nowhere"}, ("no network 'nowhere'", "scripts/job_network")),
        ({"network": "ingress"}, ("no network 'ingress' that services can join",)),
        ({"admin_tokens_file": "/dev/null/none"}, ("'admin_tokens_file' names cannot be read",)),
        ({"placement": "node.role==worker"}, ("No node that is ready meets node.role==worker",)),
        ({"placement": "node.labels.a==b"}, ("meets node.labels.a==b", "Label a node")),
        ({"placement": "node.role==manager,node.id!=x,node.platform.os==plan9"}, ("plan9",)),
    ],
)
def test_the_doctor_says_what_is_missing_and_how_to_mend_it(
    settings: Settings, changes: dict[str, object], words: tuple[str, ...]
) -> None:
    code, output = doctor(settings, **changes)
    assert code == 1
    for word in words:
        assert word in output
    assert "Traceback" not in output


def test_the_doctor_warns_of_a_registry_that_is_away_and_refuses_a_wrong_policy(
    settings: Settings, tmp_path: Path
) -> None:
    code, output = doctor(settings, docker_hub_url="http://127.0.0.1:9")
    assert code == 0
    assert "registry docker.io at http://127.0.0.1:9: The registry does not answer" in output
    policy = tmp_path / "policy.toml"
    policy.write_text("[images]\nalow = []")
    code, output = doctor(settings, policy_file=policy)
    assert code == 1
    assert "images.alow" in output


@pytest.mark.parametrize(
    "placement",
    [
        "node.role==Manager",
        "NODE.ROLE != worker",
        "node.platform.os==linux, node.labels.a!=b",
        "node.ip==10.0.0.0/8",
    ],
)
def test_the_doctor_reads_constraints_as_the_swarm_does(settings: Settings, placement: str) -> None:
    code, output = doctor(settings, placement=placement)
    assert (code, "FAIL" in output) == (0, False), output


@pytest.mark.parametrize("network", ["host", "die-test-jobs"])
def test_the_doctor_accepts_a_network_that_services_can_join(
    settings: Settings, swarm: LocalSwarm, network: str
) -> None:
    swarm.engine.docker("network", "create", "--driver", "overlay", "die-test-jobs")
    try:
        code, output = doctor(settings, network=network)
    finally:
        swarm.engine.docker("network", "rm", "die-test-jobs")
    assert code == 0, output


def test_a_network_of_one_machine_is_not_for_services(
    settings: Settings, swarm: LocalSwarm
) -> None:
    swarm.engine.docker("network", "create", "--internal", "die-test-local")
    try:
        code, output = doctor(settings, network="die-test-local")
    finally:
        swarm.engine.docker("network", "rm", "die-test-local")
    assert code == 1
    assert "no network 'die-test-local' that services can join" in output


def test_a_memory_limit_above_the_machines_is_a_warning(settings: Settings) -> None:
    code, output = doctor(settings, memory_limit="1000TiB")
    assert code == 0
    assert "warn  memory_limit: 'memory_limit' is 1000.0TiB, but " in output


def test_a_node_that_takes_no_tasks_does_not_count(settings: Settings, swarm: LocalSwarm) -> None:
    node = swarm.engine.docker("node", "ls", "--quiet").strip()
    swarm.engine.docker("node", "update", "--availability", "pause", node)
    try:
        code, output = doctor(settings)
    finally:
        swarm.engine.docker("node", "update", "--availability", "active", node)
    assert code == 1
    assert "No node of the Swarm is ready and active" in output


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", disk], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_disk_that_is_nearly_full_is_told(settings: Settings, small_disk: Path) -> None:
    code, output = doctor(settings, data_dir=small_disk)
    assert code == 1
    assert "database cannot be written: less than 64 MiB of the disk are free." in output
    assert "folder of the results: less than 64 MiB of the disk are free." in output


def test_a_disk_without_room_for_content_fails_the_results(small_disk: Path) -> None:
    with (small_disk / "filler").open("wb") as filler, contextlib.suppress(OSError):
        filler.write(bytes(2 * 2**20 - 16 * 1024))
        filler.flush()
    with pytest.raises(OSError, match="No space left"):
        Results(small_disk).check()


@pytest.fixture
def without_swarm(tmp_path: Path) -> Iterator[LocalSwarm]:
    """A second private engine that has left its Swarm."""
    if os.geteuid() != 0:
        pytest.skip("only root can start a private Swarm")
    engine = LocalSwarm(tmp_path / "lonely")
    try:
        engine.start()
        engine.engine.docker("swarm", "leave", "--force")
        yield engine
    finally:
        engine.purge()


def test_the_doctor_tells_an_engine_without_a_swarm(
    settings: Settings, without_swarm: LocalSwarm
) -> None:
    code, output = doctor(settings, docker_host=without_swarm.docker_host)
    assert code == 1
    assert "not a manager of a Swarm" in output
    assert "docker swarm init" in output


def test_a_wrong_setting_is_told_by_name(tmp_path: Path) -> None:
    configuration = tmp_path / "die.cfg"
    configuration.write_text("[die]\nrun_deadline = soon\n")
    result = CliRunner().invoke(main, ["doctor", "--config", str(configuration)])
    assert result.exit_code == 1
    assert "'run_deadline'" in result.output
    assert "Traceback" not in result.output


def test_health_and_readiness_are_told_apart(service: Service) -> None:
    assert service.get("/health").json() == {"status": "alive"}
    ready = service.get("/ready")
    assert ready.status_code == 200
    assert set(ready.json()["checks"].values()) == {"passed"}


def test_readiness_names_what_is_away(service: Service) -> None:
    from werkzeug.test import Client

    from die_algorithm.web import WebApplication

    broken = service.settings.model_copy(update={"storagehub_url": "http://127.0.0.1:9"})
    answer = Client(WebApplication(broken, service.runtime)).get("/ready")
    assert answer.status_code == 503
    assert json.loads(answer.data)["checks"]["StorageHub"] == "StorageHub does not answer."


def test_the_log_tells_who_was_refused_and_as_what_but_not_what_was_sent(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "die_algorithm.web")
    url = service.execute_url(ALICE.token, Image="UPPER secretly", CommandName="x", FileParam="x")
    assert service.get(url).status_code == 400
    assert service.get("/jobs").status_code == 401
    refused, nobody = [
        record.getMessage() for record in caplog.records if record.name == "die_algorithm.web"
    ]
    assert refused.startswith(
        "127.0.0.1 GET '/wps/WebProcessingService' 400 InvalidParameterValue 'Image' "
    )
    assert nobody.startswith("127.0.0.1 GET '/jobs' 401 NoApplicableCode ")
    assert "secretly" not in caplog.text
