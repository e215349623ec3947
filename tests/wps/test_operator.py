"""What an operator sees: doctor, health, readiness."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from service_fixture import Service

from die_algorithm.cli import main
from die_algorithm.local_swarm import LocalSwarm
from die_algorithm.settings import Settings


def doctor(settings: Settings, **changes: object) -> tuple[int, str]:
    values = {**settings.model_dump(), **changes}
    environment = {
        f"DIE_{name.upper()}": str(values[name])
        for name in ("data_dir", "storagehub_url", "docker_host", "cpu_limit")
    }
    result = CliRunner().invoke(main, ["doctor"], env=environment)
    return result.exit_code, result.output


def test_the_doctor_is_content_with_a_good_set_up(settings: Settings) -> None:
    code, output = doctor(settings)
    assert code == 0
    assert output.endswith("The service can run jobs.\n")


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
