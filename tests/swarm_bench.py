"""Jobs' services on an engine, the real one or its stand-in, as the adapter sees them."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from jobs_fixture import make_job

from die_algorithm.container_rules import ContainerRules
from die_algorithm.image_reference import ImageReference
from die_algorithm.models import Failure, FaultClass, Job, JobService, TaskPhase, TaskReport
from die_algorithm.service_spec import service_spec
from die_algorithm.settings import Settings
from die_algorithm.states import failure
from die_algorithm.swarm import Swarm
from die_algorithm.swarm.calls import Answer

MEMORY = 32 * 2**20
FINAL = (TaskPhase.COMPLETE, TaskPhase.FAILED, TaskPhase.REJECTED, TaskPhase.LOST)


class Bench:
    """Runs jobs on the engine and removes all of them at the end.

    Args:
        docker_host: the engine.
        repository: of the probe image.
    """

    def __init__(self, docker_host: str, repository: str) -> None:
        self.swarm = Swarm(docker_host)
        self.docker_host = docker_host
        self.image = ImageReference.parse(repository)
        self.digests: dict[ImageReference, str] = {}
        self.names: list[str] = []

    def close(self) -> None:
        for name in self.names:
            self.swarm.remove_service(name)
        self.swarm.close()

    # -- from a command to a service

    def spec(
        self,
        *command: str,
        image: ImageReference | None = None,
        job: Job | None = None,
        secret_id: str | None = None,
        rules: ContainerRules | None = None,
        **settings: Any,
    ) -> tuple[Job, dict[str, Any]]:
        image = image or self.image
        if image not in self.digests:
            self.digests[image] = self.swarm.resolve_digest(image)
        job = job or make_job(command=command)
        settings = {"memory_limit": MEMORY, "stop_grace": "1s"} | settings
        spec = service_spec(
            job,
            Settings(**settings),
            image=image.pinned(self.digests[image]),
            engine=self.swarm.facts(),
            secret_id=secret_id,
            rules=rules or ContainerRules(),
        )
        self.names.append(job.service_name)
        return job, spec

    def create(self, *command: str, init: bool = True, **options: Any) -> tuple[Job, str]:
        """Create a service without a task; return its id, too."""
        job, spec = self.spec(*command, **options)
        if not init:
            spec["TaskTemplate"]["ContainerSpec"].pop("Init", None)
        return job, self.swarm.create_service(spec)

    def start(self, *command: str, **options: Any) -> Job:
        job, service_id = self.create(*command, **options)
        self.swarm.start_service(service_id)
        return job

    # -- what becomes of it

    def service(self, job: Job) -> JobService | None:
        services = {each.job_id: each for each in self.swarm.job_services()}
        return services.get(job.id)

    def look(self, job: Job) -> TaskReport | None:
        reports = {each.job_id: each for each in self.swarm.task_reports()}
        return reports.get(job.id)

    def get(self, path: str, **filters: list[str]) -> Any:
        """What the engine says itself."""
        params = {"filters": json.dumps(filters)} if filters else None
        answer = self.swarm._calls.call("GET", path, params=params)
        answer.check()
        return json.loads(answer.body)

    def tasks(self, service_id: str) -> list[Any]:
        """All tasks of a service that exists, old ones included."""
        tasks: list[Any] = self.get("/tasks", service=[service_id])
        return tasks

    def update(self, service_id: str, version: int, spec: Mapping[str, object]) -> Answer:
        """Change a service, as anybody may."""
        return self.swarm._calls.call(
            "POST",
            f"/services/{service_id}/update",
            params={"version": str(version)},
            body=json.dumps(spec).encode(),
        )

    def is_running(self, container_id: str) -> bool:
        answer = self.swarm._calls.call("GET", f"/containers/{container_id}/json")
        return answer.status == 200 and json.loads(answer.body)["State"]["Running"] is True

    def report(
        self, job: Job, wanted: Callable[[TaskReport], bool], timeout: float = 60
    ) -> TaskReport:
        """Watch a job until its report is as wanted."""
        deadline = time.monotonic() + timeout
        report = None
        while time.monotonic() < deadline:
            report = self.look(job)
            if report and wanted(report):
                return report
            time.sleep(0.02)
        raise AssertionError(f"not as wanted in time: {report}")

    def end(self, job: Job) -> TaskReport:
        return self.report(job, lambda report: report.phase in FINAL)

    def running(self, job: Job) -> TaskReport:
        return self.report(job, lambda report: report.phase is TaskPhase.RUNNING)

    def wait_until(self, condition: Callable[[], bool], timeout: float = 30) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, "not in time"
            time.sleep(0.02)

    def log(self, job: Job, limit: int = 65536) -> str:
        return self.swarm.log_tail(job.service_name, limit=limit, timeout=20).decode()

    def run(self, *command: str, **options: Any) -> str:
        """Run a command that ends well, and give back its output."""
        job = self.start(*command, **options)
        assert self.end(job).phase is TaskPhase.COMPLETE
        return self.log(job)

    def tasks_left(self, service_id: str) -> bool:
        """Whether tasks of a service are still listed, and so its container may still run."""
        return any(task.service_id == service_id for task in self.swarm.task_reports())

    def failure(self, job: Job) -> Failure:
        """Wait for the end of a job that fails, and sort it."""
        result = self.verdict(job)
        assert result is not None
        return result

    def verdict(self, job: Job) -> Failure | None:
        """Wait for the end of a job, and sort it."""
        report = self.end(job)
        container = report.container_id
        return failure(
            report,
            command=job.request.command[0],
            memory_limit=MEMORY,
            oom_killed=self.swarm.oom_killed(container) if container else None,
            log_tail=self.log(job),
            cut_off=self.swarm.cut_off(report) if container else None,
        )

    def fault(self, *command: str, **options: Any) -> tuple[FaultClass, str, int | None]:
        """Run a command that fails, and give back how that is sorted."""
        result = self.failure(self.start(*command, **options))
        return result.fault_class, result.text, result.exit_code


class AnswerLoser:
    """Stands before an engine's socket, and loses the answer to one request that it has passed on.

    Each connection carries one request.

    Args:
        path: where it listens.
        docker_host: the engine behind it.
        marker: bytes of the request line whose first answer is lost.
    """

    def __init__(self, path: Path, docker_host: str, marker: bytes) -> None:
        self.docker_host = f"unix://{path}"
        #: Answers of the engine that nobody got.
        self.lost: list[bytes] = []
        self._engine = docker_host.removeprefix("unix://")
        self._marker = marker
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._accept)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                self._pass_on(connection)

    def _pass_on(self, connection: socket.socket) -> None:
        request = b"".join(whole_request(connection))
        head, _, body = request.partition(b"\r\n\r\n")
        with socket.socket(socket.AF_UNIX) as engine:
            engine.connect(self._engine)
            engine.sendall(head + b"\r\nConnection: close\r\n\r\n" + body)
            answer = b"".join(iter(lambda: engine.recv(65536), b""))
        if self._marker in head.partition(b"\r\n")[0] and not self.lost:
            self.lost.append(answer)
        else:
            head, _, body = answer.partition(b"\r\n\r\n")
            connection.sendall(head + b"\r\nConnection: close\r\n\r\n" + body)


def whole_request(sock: socket.socket) -> Iterator[bytes]:
    """The parts of a request with Content-Length, or without a body."""
    data = b""
    while b"\r\n\r\n" not in data and (part := sock.recv(65536)):
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    yield data
    lengths = [
        int(line[15:])
        for line in head.lower().split(b"\r\n")
        if line.startswith(b"content-length:")
    ]
    left = (lengths or [0])[0] - len(body)
    while left > 0 and (part := sock.recv(65536)):
        left -= len(part)
        yield part
