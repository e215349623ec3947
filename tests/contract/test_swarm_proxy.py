"""The Swarm adapter and the doctor, on both engines behind a proxy that passes the Swarm's calls alone."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from filtering_proxy import SWARM_CALLS, FilteringProxy
from stand_in_engine import StandInEngine
from swarm_bench import Bench
from swarm_fixture import PROBE

from die_algorithm.check import Level
from die_algorithm.container_rules import ContainerRules
from die_algorithm.doctor.withheld import withheld_checks
from die_algorithm.local_swarm import LocalSwarm
from die_algorithm.models import FaultClass
from die_algorithm.settings import Settings

pytestmark = pytest.mark.xdist_group("swarm")


@pytest.fixture(scope="module", params=["real", "stand-in"])
def docker_host(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    if request.param == "stand-in":
        with StandInEngine(tmp_path_factory.mktemp("engine") / "s") as engine:
            yield engine.docker_host
        return
    swarm: LocalSwarm = request.getfixturevalue("swarm")
    yield swarm.docker_host


@pytest.fixture
def proxy(docker_host: str, tmp_path: Path) -> Iterator[FilteringProxy]:
    with FilteringProxy(tmp_path / "proxy", docker_host) as proxy:
        yield proxy


@pytest.fixture
def bench(proxy: FilteringProxy) -> Iterator[Bench]:
    bench = Bench(proxy.docker_host, PROBE)
    yield bench
    bench.close()


def test_the_ends_of_jobs_are_sorted_by_what_the_tasks_tell(
    bench: Bench, proxy: FilteringProxy, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "die_algorithm"):
        assert bench.verdict(bench.start("probe", "noop")) is None
        for code in (3, 255):
            assert bench.fault("probe", "exit", str(code))[::2] == (FaultClass.USER, code)
    assert any("/containers/" in line for line in proxy.refused)
    assert any("/networks/bridge" in line for line in proxy.refused)
    # For the operator, once and not for each job.
    assert caplog.text.count("tells nothing of single containers (HTTP 403)") == 1
    assert "die doctor" in caplog.text


def test_what_containers_write_is_not_known(bench: Bench) -> None:
    report = bench.running(bench.start("probe", "forever"))
    assert bench.swarm.written() == {}
    assert bench.swarm.written_by(report.container_id or "") is None


def test_the_doctor_says_what_the_proxy_is_to_pass(proxy: FilteringProxy) -> None:
    settings = Settings(docker_host=proxy.docker_host, disk_limit="1GiB")
    ends, disks = withheld_checks(settings, ContainerRules())
    assert ends.level is disks.level is Level.WARN
    assert ends.remedy == "Let it pass GET /containers/*/json and GET /networks/bridge."
    assert disks.remedy.startswith("Let it pass GET /containers/json and GET /system/df, or ")
    (alone,) = withheld_checks(settings.model_copy(update={"disk_limit": 0}), ContainerRules())
    assert alone == ends


def test_of_an_engine_that_tells_everything_the_doctor_says_nothing(
    docker_host: str, tmp_path: Path
) -> None:
    settings = Settings(docker_host=docker_host, disk_limit="1GiB")
    assert withheld_checks(settings, ContainerRules()) == []
    passes = SWARM_CALLS.replace("version", "containers|networks|version")
    with FilteringProxy(tmp_path / "proxy", docker_host, passes) as lax:
        settings = settings.model_copy(update={"docker_host": lax.docker_host})
        (volumes,) = withheld_checks(settings, ContainerRules())
        assert volumes.remedy.startswith("Let it pass GET /system/df, or ")
