"""A Swarm of several machines: jobs run on the workers, and losing one is told honestly.

The manager takes a machine for lost when it has heard nothing of it for about 15 seconds. It then
wants the machine's tasks shut down, and goes on to call them ``running`` until the machine is back.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from nodes_fixture import SwarmOfNodes, WorkerNode, swarm_of_nodes, wait_until
from storagehub_fixture import ALICE, HubClient
from swarm_fixture import PROBE, kill_engine, let_end

from die_algorithm.doctor import examine
from die_algorithm.engine import Engine
from die_algorithm.local_swarm import LocalSwarm
from die_algorithm.models import FaultClass, Job, JobState, ResponseForm, UserToken
from die_algorithm.policy import Policy
from die_algorithm.runtime import Runtime
from die_algorithm.settings import Settings

STATE = Path(__file__).resolve().parents[2] / ".die" / "tests" / "nodes"


@pytest.fixture(scope="module")
def machines(swarm: LocalSwarm) -> Iterator[SwarmOfNodes]:
    """A manager and two workers, with the images of the other private Swarm."""
    with swarm_of_nodes(STATE, swarm.state / "registry", swarm.host_address) as nodes:
        yield nodes


@pytest.fixture
def nodes(machines: SwarmOfNodes) -> Iterator[SwarmOfNodes]:
    """The same, whole again after each test."""
    yield machines
    machines.mend()


@pytest.fixture
def engine(nodes: SwarmOfNodes, settings: Settings, tmp_path: Path) -> Iterator[Engine]:
    """A service whose jobs run on the workers."""
    changes = {
        "data_dir": tmp_path / "service",
        "docker_host": nodes.docker_host,
        "docker_hub_url": "engine",
        "placement": ("node.role==worker",),
    }
    own = settings.model_copy(update=changes)
    runtime = Runtime(lambda: own)
    runtime.start()
    yield runtime.engine
    runtime.stop()


def submit(engine: Engine, command: str, item: str) -> str:
    inputs = {"Image": [PROBE], "CommandName": [command], "FileParam": [item]}
    return engine.submit(inputs, UserToken(ALICE.token), ResponseForm(store=True, status=True)).id


def started(engine: Engine, nodes: SwarmOfNodes, command: str, item: str) -> tuple[str, WorkerNode]:
    """Submit a job and wait until its program runs; tell where."""
    job_id = submit(engine, command, item)
    while (job := engine.wait(job_id, 0.05)).state is not JobState.RUNNING:
        assert not job.state.is_final, job.failure
    return job_id, next(worker for worker in nodes.workers if worker.containers())


def others(nodes: SwarmOfNodes, worker: WorkerNode) -> list[str]:
    """The containers on all workers but one."""
    return [each for other in nodes.workers if other is not worker for each in other.containers()]


def assert_lost(job: Job) -> None:
    assert job.state is JobState.FAILED
    assert job.failure is not None
    assert job.failure.fault_class is FaultClass.SYSTEM
    assert "machine that ran the container was lost" in job.failure.text
    assert job.result is None


def test_a_job_runs_on_a_worker_and_succeeds(
    engine: Engine, nodes: SwarmOfNodes, item: str
) -> None:
    job_id, worker = started(engine, nodes, "probe sleep 600", item)
    assert worker in nodes.workers
    let_end(worker.machine, job_id)
    job = engine.wait(job_id, 60)
    assert job.state is JobState.SUCCEEDED
    assert job.result is not None
    wait_until(lambda: not nodes.remains())


def test_a_killed_machine_fails_its_job_and_nothing_runs_it_again(
    engine: Engine, nodes: SwarmOfNodes, item: str, alice: HubClient
) -> None:
    job_id, worker = started(engine, nodes, "probe sleep 600", item)
    worker.kill()
    job = engine.wait(job_id, 90)
    assert_lost(job)
    # Nothing was written, so there is no folder to keep.
    assert not job.folder_kept
    assert job.folder_name not in alice.names(alice.root(), showHidden=True)
    assert others(nodes, worker) == []
    worker.restart()
    wait_until(lambda: not nodes.remains())


def test_a_machine_that_is_switched_off_and_on_fails_its_job_honestly(
    engine: Engine, nodes: SwarmOfNodes, item: str
) -> None:
    job_id, worker = started(engine, nodes, "probe sleep 600", item)
    worker.kill()
    worker.restart()  # before the manager misses it
    job = engine.wait(job_id, 60)
    assert job.failure is not None
    # Its exit code, 255, could as well be the program's.
    assert job.failure.fault_class is FaultClass.SYSTEM
    assert "restarted" in job.failure.text
    wait_until(lambda: not nodes.remains())


def test_a_machine_that_is_cut_off_fails_its_job_and_stops_the_container_when_it_is_back(
    engine: Engine, nodes: SwarmOfNodes, item: str, alice: HubClient
) -> None:
    job_id, worker = started(engine, nodes, "probe keep-writing", item)
    worker.cut_off()
    job = engine.wait(job_id, 90)
    assert_lost(job)
    # Something was written, so it is kept and named.
    assert job.folder_kept
    assert job.folder is not None
    folder = job.folder.id
    assert job.folder_name in alice.names(alice.root(), showHidden=True)
    # The program knows of nothing and writes on; it has nowhere else been started.
    written = len(alice.children(folder))
    wait_until(lambda: len(alice.children(folder)) > written)
    assert others(nodes, worker) == []
    worker.reconnect()
    wait_until(lambda: not nodes.remains(), timeout=60)
    after = engine.job(job_id)
    assert (after.state, after.result, after.version) == (JobState.FAILED, None, job.version)
    alice.request("DELETE", f"/items/{folder}", params={"force": "true"})


def test_a_machine_that_is_away_for_a_moment_costs_nothing(
    engine: Engine, nodes: SwarmOfNodes, item: str
) -> None:
    job_id, worker = started(engine, nodes, "probe sleep 600", item)
    container = worker.containers()
    worker.cut_off()
    let_end(worker.machine, job_id)
    wait_until(lambda: not worker.runs(container[0]))
    assert engine.job(job_id).state is JobState.RUNNING
    worker.reconnect()
    assert engine.wait(job_id, 60).state is JobState.SUCCEEDED
    wait_until(lambda: not nodes.remains())


@pytest.mark.nodes
def test_a_machine_that_is_lost_while_the_manager_is_restarted_fails_its_job_too(
    engine: Engine, nodes: SwarmOfNodes, item: str
) -> None:
    job_id, worker = started(engine, nodes, "probe sleep 600", item)
    worker.kill()
    kill_engine(nodes.manager)
    nodes.manager.start()
    # A new leader gives the machines twice the time to come forward.
    assert_lost(engine.wait(job_id, 90))
    assert others(nodes, worker) == []
    worker.restart()
    wait_until(lambda: not nodes.remains())


@pytest.mark.nodes
def test_a_swarm_without_a_leader_is_waited_for(
    engine: Engine, nodes: SwarmOfNodes, settings: Settings, item: str
) -> None:
    second, _ = nodes.workers
    nodes.docker("node", "promote", second.id)
    wait_until(lambda: "Reachable" in nodes.docker("node", "ls"))
    job_id, worker = started(engine, nodes, "probe sleep 600", item)
    assert worker is not second
    container = worker.containers()
    second.cut_off()  # one manager of two decides nothing
    while not (job := engine.wait(job_id, 0.05)).waiting:
        assert not job.state.is_final, job.failure
    let_end(worker.machine, job_id)
    waiting = submit(engine, "probe noop", item)
    own = settings.model_copy(update={"docker_host": nodes.docker_host})
    lost = "The Swarm has no leader: most of its managers are away."
    wait_until(lambda: lost in [each.text for each in examine(own, Policy()) if not each.passed])
    wait_until(lambda: not worker.runs(container[0]))
    second.reconnect()
    assert engine.wait(job_id, 90).state is JobState.SUCCEEDED
    assert engine.wait(waiting, 90).state is JobState.SUCCEEDED
    wait_until(lambda: not nodes.remains())
