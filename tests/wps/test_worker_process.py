"""``die serve`` and its worker, as an operator starts, watches, kills and stops them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from quick_fixture import Processes, Quick, soon
from storagehub_fixture import ALICE

from die_algorithm.web import CANCEL_PATH

_RUNS = "The program is running."


@pytest.fixture
def processes(quick: Quick) -> Iterator[Processes]:
    """A short lease, so that a worker's silence is noticed soon."""
    with quick.processes(worker_lease="5s") as processes:
        yield processes
        assert ALICE.token not in processes.log.read_text()
        assert "Traceback" not in processes.log.read_text()


def worker_of(processes: Processes, server: subprocess.Popen[bytes]) -> int:
    """The worker of a ``die serve``, once there is one."""
    (worker,) = soon(lambda: processes.children(server))
    return worker


def is_alive(process_id: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process_id}/status").read_text()
    except OSError:
        return False


def lines(processes: Processes, who: str) -> list[str]:
    """The lines of the log that a process has written."""
    return [line for line in processes.log.read_text().splitlines() if f" {who}[" in line]


def test_serve_starts_one_worker_that_is_told_apart_in_the_log(processes: Processes) -> None:
    server = processes.serve()
    worker = worker_of(processes, server)
    command = Path(f"/proc/{worker}/cmdline").read_bytes().split(b"\0")
    assert b"worker" in command
    soon(lambda: processes.ready() == {})
    assert processes.children(server) == [worker]
    assert f" web[{server.pid}] INFO " in lines(processes, "web")[0]
    assert f" worker[{worker}] INFO " in lines(processes, "worker")[0]
    everything = processes.log.read_text().splitlines()
    assert len(lines(processes, "web")) + len(lines(processes, "worker")) == len(everything)


def test_a_killed_worker_is_started_again_while_the_wps_answers(
    processes: Processes, quick: Quick
) -> None:
    server = processes.serve()
    job_id = processes.submit("probe sleep 60", quick.item)
    processes.wait_for(job_id, _RUNS)
    with Polling(processes, job_id) as slowest:
        first = worker_of(processes, server)
        os.kill(first, signal.SIGKILL)
        late = processes.submit("probe noop", quick.item)
        processes.wait_for(late, "ProcessSucceeded")
        assert worker_of(processes, server) != first
        quick.engine.let_end(job_id)
        processes.wait_for(job_id, "ProcessSucceeded")
    assert max(slowest) < 5
    assert sorted(start.job_id for start in quick.engine.starts) == sorted((job_id, late))
    assert "The worker was ended by SIGKILL; it is started again." in processes.log.read_text()
    quick.assert_nothing_left()


def test_a_worker_that_is_started_again_goes_by_the_files_as_they_were(
    processes: Processes, quick: Quick
) -> None:
    policy, config = quick.folder / "policy.toml", quick.folder / "die.cfg"
    policy.write_text("[images]\n")
    config.write_text("[die]\nlog_tail = 1KiB\n")
    server = processes.serve("--config", str(config), policy_file=str(policy))
    first = worker_of(processes, server)
    soon(lambda: processes.ready() == {})
    policy.write_text("[images]\ndeny = ['**']\n")
    config.write_text("[die]\nno_such_setting = 1\n")
    os.kill(first, signal.SIGKILL)
    processes.wait_for(processes.submit("probe noop", quick.item), "ProcessSucceeded")
    assert worker_of(processes, server) != first
    restarted = processes.start("worker", "--config", str(config))  # by hand, it reads them
    assert restarted.wait(20) == 1
    assert "no_such_setting" in processes.log.read_text()


def test_a_frozen_worker_is_killed_and_its_jobs_go_on(processes: Processes, quick: Quick) -> None:
    server = processes.serve()
    job_id = processes.submit("probe sleep 60", quick.item)
    processes.wait_for(job_id, _RUNS)
    frozen = worker_of(processes, server)
    os.kill(frozen, signal.SIGSTOP)
    soon(lambda: not is_alive(frozen))
    quick.engine.let_end(job_id)
    processes.wait_for(job_id, "ProcessSucceeded")
    assert [start.job_id for start in quick.engine.starts] == [job_id]
    assert (
        "The worker was silent, and was killed; it is started again." in processes.log.read_text()
    )
    quick.assert_nothing_left()


class Polling:
    """Ask for a status all the time, and see that there is always an answer."""

    def __init__(self, processes: Processes, job_id: str) -> None:
        self._processes = processes
        self._job_id = job_id
        self._stop = threading.Event()
        self._took: list[float] = []
        self._thread = threading.Thread(target=self._poll)

    def __enter__(self) -> list[float]:
        self._thread.start()
        return self._took

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _poll(self) -> None:
        while not self._stop.wait(0.1):
            begun = time.monotonic()
            assert "ExecuteResponse" in self._processes.status(self._job_id)
            self._took.append(time.monotonic() - begun)


def test_a_worker_ends_when_its_service_is_killed(processes: Processes, quick: Quick) -> None:
    server = processes.serve()
    worker = worker_of(processes, server)
    job_id = processes.submit("probe sleep 60", quick.item)
    processes.wait_for(job_id, _RUNS)
    os.kill(server.pid, signal.SIGKILL)
    server.wait()
    soon(lambda: not is_alive(worker), 10)
    processes.serve()
    quick.engine.let_end(job_id)
    processes.wait_for(job_id, "ProcessSucceeded")
    assert [start.job_id for start in quick.engine.starts] == [job_id]


def test_a_worker_whose_step_hangs_ends_all_the_same(processes: Processes, quick: Quick) -> None:
    server = processes.serve()
    worker = worker_of(processes, server)
    job_id = processes.submit("probe sleep 60", quick.item)
    processes.wait_for(job_id, _RUNS)
    host, port = quick.hub.addresses[0]
    quick.hub.stop()
    quick.engine.let_end(job_id)
    with socket.create_server((host, port), backlog=100) as silent:
        processes.wait_for(job_id, "its result is being collected")
        silent.settimeout(20)
        connection, _ = silent.accept()  # the step has begun
        os.kill(server.pid, signal.SIGKILL)
        soon(lambda: not is_alive(worker), 15)
        connection.close()
    quick.hub.start()
    processes.serve()
    processes.wait_for(job_id, "ProcessSucceeded")
    assert "Something hangs; the program ends" in processes.log.read_text()


def test_sigterm_ends_both_and_leaves_the_job_running(processes: Processes, quick: Quick) -> None:
    server = processes.serve()
    worker = worker_of(processes, server)
    job_id = processes.submit("probe sleep 60", quick.item)
    processes.wait_for(job_id, _RUNS)
    server.terminate()
    assert server.wait(20) == 0
    assert not is_alive(worker)
    assert [start.job_id for start in quick.engine.alive()] == [job_id]
    assert "ERROR" not in processes.log.read_text()
    assert "it is killed" not in processes.log.read_text()


def test_web_and_worker_can_be_started_apart(processes: Processes, quick: Quick) -> None:
    server = processes.serve("--no-worker")
    assert processes.children(server) == []
    job_id = processes.submit("probe noop", quick.item)
    assert "No worker comes round" in processes.ready()["worker"]
    assert "ProcessAccepted" in processes.status(job_id)
    worker = processes.start("worker")
    processes.wait_for(job_id, "ProcessSucceeded")
    soon(lambda: processes.ready() == {})
    worker.terminate()
    assert worker.wait(20) == 0
    # It has given its lease back, so that its absence is known at once.
    assert "worker" in processes.ready()


def test_the_web_process_never_talks_to_docker(processes: Processes, quick: Quick) -> None:
    """Neither by an open connection, nor at all: where it cannot, nothing of the WPS is missing."""
    server = processes.serve("--no-worker", docker_host="unix:///nowhere/docker.sock")
    job_id = processes.submit("probe sleep 60", quick.item)
    processes.start("worker")
    processes.wait_for(job_id, _RUNS)
    quick.engine.let_end(job_id)
    processes.wait_for(job_id, "ProcessSucceeded")
    soon(lambda: processes.ready() == {})
    assert processes.get(f"/wps/CancelComputationServlet?id={job_id}").status_code == 401
    assert unix_sockets(server.pid) == set()


def test_the_web_process_of_serve_has_no_connection_to_docker(
    processes: Processes, quick: Quick
) -> None:
    server = processes.serve()
    job_id = processes.submit("probe sleep 60", quick.item)
    processes.wait_for(job_id, _RUNS)
    processes.ready()
    # The other ends of the engine's connections have no name; but there are none at all.
    assert unix_sockets(server.pid) == set()
    assert unix_sockets(worker_of(processes, server)) != set()


def unix_sockets(process_id: int) -> set[str]:
    """The inodes of a process's Unix sockets."""
    table = Path("/proc/net/unix").read_text().splitlines()[1:]
    known = {line.split()[6] for line in table}
    held = set()
    for descriptor in Path(f"/proc/{process_id}/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except OSError:
            continue
        if target.startswith("socket:["):
            held.add(target[8:-1])
    return held & known


def test_ready_tells_what_is_away_and_that_it_is_back(processes: Processes, quick: Quick) -> None:
    processes.serve()
    soon(lambda: processes.ready() == {})
    quick.engine.away()
    (text,) = soon(processes.ready).values()
    assert text.startswith("The Docker engine does not answer")
    assert str(quick.engine.socket_path) not in text
    quick.engine.back()
    soon(lambda: processes.ready() == {})
    quick.hub.stop()
    # What was found is told for two seconds more.
    soon(lambda: processes.ready() == {"StorageHub": "StorageHub does not answer."})
    quick.hub.start()
    soon(lambda: processes.ready() == {})


def test_ready_tells_of_a_key_that_is_gone_and_makes_no_other(processes: Processes) -> None:
    processes.serve()
    soon(lambda: processes.ready() == {})
    key = processes.settings.key_path
    away = key.rename(key.with_name("away"))
    (text,) = soon(processes.ready).values()
    assert text.startswith("The key that protects user tokens is not there any more")
    assert not key.exists()
    key.write_bytes(b"x")
    # What the operator can do about it, the doctor says.
    soon(
        lambda: (
            list(processes.ready().values()) == ["The key that protects user tokens is damaged."]
        )
    )
    away.replace(key)
    soon(lambda: processes.ready() == {})


def test_a_second_worker_waits_for_its_place_and_takes_over(
    processes: Processes, quick: Quick
) -> None:
    processes.serve("--no-worker")
    first = processes.start("worker")
    job_id = processes.submit("probe sleep 60", quick.item)
    processes.wait_for(job_id, _RUNS)
    second = processes.start("worker")
    waits = (
        f"worker[{second.pid}] INFO die_algorithm.worker_place: Another worker has the place here"
    )
    soon(lambda: waits in processes.log.read_text())
    first.kill()
    first.wait()
    works = f"worker[{second.pid}] INFO die_algorithm.worker.worker: The worker works."
    soon(lambda: works in processes.log.read_text())
    processes.get(f"{CANCEL_PATH}?id={job_id}&gcube-token={ALICE.token}")
    processes.wait_for(job_id, "Computation cancelled.")
    assert [start.job_id for start in quick.engine.starts] == [job_id]
    quick.assert_nothing_left()
