"""The stand-in's faults and memory; that it is an engine else, ``test_swarm`` shows."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stand_in_engine import StandInEngine
from swarm_bench import Bench
from swarm_fixture import PROBE, ROOT

from die_algorithm.errors import SwarmUnavailable
from die_algorithm.models import FaultClass, TaskPhase
from die_algorithm.swarm import Swarm


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[StandInEngine]:
    with StandInEngine(tmp_path / "s") as engine:
        yield engine


@pytest.fixture
def bench(engine: StandInEngine) -> Iterator[Bench]:
    bench = Bench(engine.docker_host, PROBE)
    yield bench
    engine.delay(0)
    engine.back()
    bench.close()


def test_it_remembers_every_start_and_knows_what_is_alive(
    engine: StandInEngine, bench: Bench
) -> None:
    ended = bench.start("probe", "noop")
    bench.end(ended)
    running = bench.start("probe", "forever")
    container = bench.running(running).container_id
    created, _ = bench.create("probe", "noop")
    assert [start.job_id for start in engine.starts] == [ended.id, running.id]
    assert [(start.job_id, start.container_id) for start in engine.alive()] == [
        (running.id, container)
    ]
    assert 0 <= time.time() - engine.starts[0].at < 60
    assert {each.job_id: each.is_started for each in engine.services()} == {
        ended.id: True,
        running.id: True,
        created.id: False,
    }
    bench.swarm.remove_service(running.service_name)
    bench.wait_until(lambda: not engine.alive())
    assert len(engine.starts) == 2


def test_an_engine_that_is_away_refuses_and_its_containers_go_on(
    engine: StandInEngine, bench: Bench
) -> None:
    job = bench.start("probe", "sleep", "0.3")
    bench.running(job)
    engine.away()
    with pytest.raises(SwarmUnavailable, match="refused"):
        bench.swarm.task_reports()
    bench.wait_until(lambda: not engine.alive())
    engine.back()
    assert bench.end(job).phase is TaskPhase.COMPLETE


def test_what_a_silent_engine_is_asked_is_not_done(engine: StandInEngine, bench: Bench) -> None:
    job, spec = bench.spec("probe", "noop")
    engine.away(silent=True)
    swarm = Swarm(engine.docker_host, timeout=0.2)
    for _ in range(2):
        with pytest.raises(SwarmUnavailable, match="in time"):
            swarm.create_service(spec)
    swarm.close()
    engine.back()
    assert bench.service(job) is None
    assert bench.swarm.create_service(spec)


def test_one_answer_is_lost_and_what_was_asked_is_done(engine: StandInEngine, bench: Bench) -> None:
    job, spec = bench.spec("probe", "noop")
    engine.lose_next_answer("POST", "/services/create")
    assert bench.swarm.job_services() == []
    with pytest.raises(SwarmUnavailable):
        bench.swarm.create_service(spec)
    (service,) = engine.services()
    assert service.job_id == job.id
    assert bench.swarm.create_service(spec) == service.service_id


def test_answers_are_delayed(engine: StandInEngine, bench: Bench) -> None:
    bench.swarm.facts()
    engine.delay(0.3)
    start = time.monotonic()
    bench.swarm.task_reports()
    assert 0.3 <= time.monotonic() - start < 5


def test_a_restart_in_good_order_leaves_no_container(engine: StandInEngine, bench: Bench) -> None:
    job = bench.start("probe", "ignore-term")
    bench.running(job)
    engine.restart(in_order=True)
    failure = bench.failure(job)
    assert failure.fault_class is FaultClass.SYSTEM
    assert f"No such container: {job.service_name}.1." in bench.end(job).message
    assert engine.alive() == []


def test_broken_connections_are_no_restart(engine: StandInEngine, bench: Bench) -> None:
    job = bench.start("probe", "forever")
    before = bench.get("/networks/bridge")["Created"]
    container = bench.running(job).container_id
    engine.restart(kill_containers=False)
    assert bench.get("/networks/bridge")["Created"] == before
    assert bench.running(job).container_id == container


def test_a_lost_node_goes_on_unheard_and_stops_when_it_returns(
    engine: StandInEngine, bench: Bench
) -> None:
    jobs = [bench.start("probe", *words) for words in (("forever",), ("sleep", "0.2"))]
    removed = bench.start("probe", "forever")
    reports = [bench.running(job) for job in (*jobs, removed)]
    engine.lose_node()
    bench.swarm.remove_service(reports[2].service_id)
    bench.wait_until(lambda: len(engine.alive()) == 2)
    for job in jobs:
        report = bench.look(job)
        assert report
        assert (report.phase, report.state) == (TaskPhase.LOST, "running")
    assert bench.tasks_left(reports[2].service_id)
    assert bench.swarm.oom_killed(reports[0].container_id or "") is None
    assert not bench.swarm.nodes()[0].is_ready
    waiting = bench.start("probe", "noop")
    assert "no suitable node" in bench.report(waiting, lambda _: True).message
    engine.node_returns()
    assert bench.report(jobs[0], lambda report: report.state == "shutdown")
    assert bench.report(jobs[1], lambda report: report.state == "complete")
    assert bench.end(waiting).phase is TaskPhase.COMPLETE
    bench.wait_until(lambda: not bench.tasks_left(reports[2].service_id))
    assert engine.alive() == []


def test_tasks_are_held_until_they_are_released(engine: StandInEngine, bench: Bench) -> None:
    engine.hold_pending()
    job, gone = bench.start("probe", "noop"), bench.start("probe", "noop")
    for each in (job, gone):
        report = bench.report(each, lambda report: report.state == "pending")
        assert "no suitable node (insufficient resources" in report.message
    bench.swarm.remove_service(gone.service_name)
    bench.wait_until(lambda: bench.look(gone) is None)
    engine.release_pending()
    assert bench.end(job).phase is TaskPhase.COMPLETE
    assert [start.job_id for start in engine.starts] == [job.id]


def test_hundreds_of_containers_cost_no_threads(engine: StandInEngine, bench: Bench) -> None:
    before = threading.active_count()
    for _ in range(300):
        bench.start("probe", "forever")
    bench.wait_until(lambda: len(engine.alive()) == 300)
    assert threading.active_count() - before < 5
    assert len(bench.swarm.task_reports()) == 300


# -- as a process of its own


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("engine", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


def ask(path: Path, method: str, target: str, body: object = None) -> tuple[int, Any]:
    connection = _Connection(path)
    connection.request(method, target, json.dumps(body) if body is not None else None)
    response = connection.getresponse()
    answer = response.status, json.loads(response.read())
    connection.close()
    return answer


@contextlib.contextmanager
def own_process(path: Path) -> Iterator[str]:
    """The stand-in as a process; its address. It must end well when it is asked to."""
    command = [sys.executable, "-m", "stand_in_engine", "--socket", str(path)]
    environment = {"PYTHONPATH": str(ROOT / "tests")}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
        assert process.wait(10) == 0


def test_a_process_of_its_own_is_asked_and_broken_over_http(tmp_path: Path) -> None:
    path, control = tmp_path / "s", tmp_path / "s.control"
    with own_process(path) as docker_host:
        assert docker_host == f"unix://{path}"
        bench = Bench(docker_host, PROBE)
        job = bench.start("probe", "forever")
        container = bench.running(job).container_id
        assert ask(path, "POST", "/_faults", {"fault": "away"})[0] == 200
        with pytest.raises(SwarmUnavailable, match="refused"):
            bench.swarm.task_reports()
        status, history = ask(control, "GET", "/_history")
        assert status == 200
        (start,) = history["alive"]
        assert history["starts"] == [start]
        assert (start["job_id"], start["container_id"]) == (job.id, container)
        assert history["services"][0]["is_started"] is True
        assert ask(control, "POST", "/_faults", {"fault": "back"})[0] == 200
        lose = {"fault": "lose_next_answer", "method": "GET", "path_prefix": "/tasks"}
        assert ask(control, "POST", "/_faults", lose)[0] == 200
        with pytest.raises(SwarmUnavailable):
            bench.swarm.task_reports()
        assert ask(control, "POST", "/_faults", {"fault": "stop"})[0] == 400
        assert ask(control, "POST", "/_faults", {"fault": "delay", "hours": 1})[0] == 400
        bench.close()
