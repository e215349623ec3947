"""The real service, its worker within, as a process of its own that a test may kill, freeze and start.

There is no HTTP: a test calls the methods of the engine over a pipe. The process is forked from a
server that has loaded the service once, so that a start takes milliseconds; or it is made anew, in
another environment.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

from quick_fixture import soon

from die_algorithm import runtime as runtime_module
from die_algorithm.errors import RequestError
from die_algorithm.fail_points import FailPoints
from die_algorithm.job_options import parse_job_options
from die_algorithm.models import InputContent, Job, ResponseForm, UserToken
from die_algorithm.runtime import Runtime
from die_algorithm.settings import Settings

#: Seconds; a call that takes longer hangs.
PATIENCE = 30.0

#: Pauses of the service, shortened: module, name, seconds.
SHORT_PAUSES: Sequence[tuple[str, str, float | tuple[float, float] | timedelta]] = (
    ("die_algorithm.worker.worker", "_TURN_AGAIN", 0.1),
    ("die_algorithm.worker.held_jobs", "_ADMIT_EVERY", 0.05),
    ("die_algorithm.worker.held_jobs", "_CLAIM_EVERY", 0.1),
    ("die_algorithm.worker.watch", "_IDLE", 0.05),
    ("die_algorithm.worker.watch", "_LOOK", 0.03),
    ("die_algorithm.worker.watch", "_IDLE_LOOK", 0.1),
    ("die_algorithm.worker.driver", "_OUTAGE_PAUSE", 0.1),
    ("die_algorithm.worker.driver", "_START_AGAIN", 0.3),
    ("die_algorithm.worker_place", "_LOOK_AGAIN", 0.05),
    ("die_algorithm.janitor", "_SWEEP_EVERY", 0.2),
    ("die_algorithm.janitor", "_SECRETS_EVERY", 0.2),
    ("die_algorithm.engine", "_PLACES_KEPT", 0.0),
    ("die_algorithm.registry_rests", "_REST", (0.3, 0.5)),
    ("die_algorithm.steps.monitor", "_TASK_APPEARS", timedelta(seconds=1)),
    ("die_algorithm.steps.recovery", "_SEARCH_EVERY", 0.0),
)
#: How long its clients bear with the engine and with StorageHub.
_ENGINE_TIMEOUT = 1.0
_STORAGEHUB_PAUSE = timedelta(milliseconds=20)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Beginning:
    """What a process gets first."""

    settings: Settings
    log: Path
    #: The name of the fail point at which it is to kill itself; empty: none.
    die_at: str = ""


@dataclasses.dataclass(frozen=True)
class Refusal:
    """A call that raised: the name of the exception, and its text."""

    kind: str
    text: str


@dataclasses.dataclass(frozen=True)
class Answer:
    """A job, and how many get a place before it."""

    job: Job
    place: int | None = None


class ServiceDied(Exception):
    """The process is gone."""


class Call(Protocol):
    """One call of an engine's method, which can be pickled."""

    def run(self, runtime: Runtime) -> Answer:
        """Make it, in the process."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Submit:
    """Submit a job."""

    token: str
    image: str
    command: str
    item: str | InputContent
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def run(self, runtime: Runtime) -> Answer:
        headers = {name.lower(): value for name, value in self.headers.items()}
        options = parse_job_options(headers, runtime.settings.deadlines)
        inputs: dict[str, list[str | InputContent]] = {
            "Image": [self.image],
            "CommandName": [self.command],
            "FileParam": [self.item],
        }
        form = ResponseForm(store=True, status=True, lineage=True)
        return Answer(runtime.engine.submit(inputs, UserToken(self.token), form, options))


@dataclasses.dataclass(frozen=True)
class Look:
    """Look at a job."""

    job_id: str

    def run(self, runtime: Runtime) -> Answer:
        job = runtime.engine.job(self.job_id)
        return Answer(job, runtime.engine.place_in_queue(job))


@dataclasses.dataclass(frozen=True)
class Cancel:
    """Cancel a job."""

    job_id: str
    token: str

    def run(self, runtime: Runtime) -> Answer:
        return Answer(runtime.engine.cancel(self.job_id, UserToken(self.token)))


# -- in the process


def serve(connection: Connection) -> None:
    """Be the service, until told to stop or alone."""
    beginning: Beginning = connection.recv()
    logging.basicConfig(
        filename=beginning.log,
        level=logging.INFO,
        format="%(asctime)s %(process)d %(threadName)s %(name)s %(levelname)s %(message)s",
        force=True,
    )
    for module, name, value in SHORT_PAUSES:
        setattr(importlib.import_module(module), name, value)
    patched: Any = runtime_module
    patched.Swarm = partial(patched.Swarm, timeout=_ENGINE_TIMEOUT)
    patched.StorageHub = partial(patched.StorageHub, attempts=2, pause=_STORAGEHUB_PAUSE)
    fail_points = FailPoints(_killer(beginning.die_at)) if beginning.die_at else None
    runtime = Runtime(lambda: beginning.settings, fail_points=fail_points)
    try:
        runtime.start()
        connection.send(None)
        while calls := connection.recv():
            connection.send(_made(calls, runtime))
        runtime.stop()
        connection.send(None)
    except (EOFError, OSError):
        os._exit(1)  # the test is gone


def serve_descriptor(number: int) -> None:
    """The same for a process that was not forked."""
    serve(Connection(number))


def _killer(die_at: str) -> Callable[[str], None]:
    def reached(name: str) -> None:
        if name == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    return reached


def _made(calls: Sequence[Call], runtime: Runtime) -> list[Answer | Refusal]:
    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(lambda call: _answered(call, runtime), calls))


def _answered(call: Call, runtime: Runtime) -> Answer | Refusal:
    try:
        return call.run(runtime)
    except RequestError as error:
        return Refusal(type(error).__name__, error.text)
    except Exception as error:
        logging.exception("A call was answered with what is no answer.")  # noqa: LOG015
        return Refusal(f"unforeseen {type(error).__name__}", str(error))


# -- in the test


class _Process(Protocol):
    @property
    def pid(self) -> int | None: ...

    def kill(self) -> None: ...


class ServiceProcess:
    """The service as a process, from its start to its end.

    Args:
        beginning: what it gets first.
        environment: variables for a process that is made anew; None: it is forked.
    """

    def __init__(self, beginning: Beginning, environment: Mapping[str, str] | None = None) -> None:
        self._wait: Callable[[], object]
        self._connection, theirs = multiprocessing.Pipe()
        with theirs:
            self._process = (
                self._fork(theirs) if environment is None else self._make(theirs, environment)
            )
        self._is_alive = True
        self._connection.send(beginning)
        self._receive()

    def _fork(self, theirs: Connection) -> _Process:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["die_algorithm.runtime"])
        process = context.Process(target=serve, args=(theirs,), daemon=True)
        process.start()

        def wait() -> None:
            process.join()
            process.close()

        self._wait = wait
        return process

    def _make(self, theirs: Connection, environment: Mapping[str, str]) -> _Process:
        number = theirs.fileno()
        path = os.pathsep.join(filter(None, sys.path))
        process = subprocess.Popen(
            [sys.executable, "-c", f"import service_process as s; s.serve_descriptor({number})"],
            pass_fds=[number],
            env={**os.environ, "PYTHONPATH": path, **environment},
        )
        self._wait = process.wait
        return process

    @property
    def is_alive(self) -> bool:
        """Whether it is not known to have died or ended."""
        return self._is_alive

    def dies_within(self, seconds: float) -> bool:
        """Wait for its death while nothing is asked of it; whether it came."""
        return self._connection.poll(seconds)

    def at_once(self, *calls: Call) -> list[Answer | Refusal]:
        """Make several calls, each in a thread of its own.

        Raises:
            ServiceDied: the process died before it answered.
        """
        self._send(list(calls))
        answers = self._receive()
        assert isinstance(answers, list)
        return answers

    def call(self, call: Call) -> Answer | Refusal:
        """Make one call."""
        return self.at_once(call)[0]

    def look(self, job_id: str) -> Job:
        """How a job is now."""
        answer = self.call(Look(job_id))
        assert isinstance(answer, Answer), answer
        return answer.job

    def kill(self) -> None:
        """Let it die where it stands."""
        if self._is_alive:
            self._process.kill()
            self._gone()

    def stop(self) -> None:
        """Let it end in good order."""
        self._send(None)
        self._receive()
        self._gone()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Let it do nothing in the block."""
        pid = self._process.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def _send(self, message: object) -> None:
        if not self._is_alive:
            raise ServiceDied
        with contextlib.suppress(BrokenPipeError):  # what it said last can still be read
            self._connection.send(message)

    def _receive(self) -> object:
        try:
            assert self._connection.poll(PATIENCE), "the service does not answer"
            return self._connection.recv()
        except (EOFError, ConnectionResetError):
            self._gone()
            raise ServiceDied from None

    def _gone(self) -> None:
        self._is_alive = False
        self._wait()
        self._connection.close()


def end_after_death(
    settings: Settings,
    log: Path,
    call: Submit,
    die_at: str,
    meanwhile: Callable[[], None] = lambda: None,
) -> Job:
    """How a job ends whose service dies once on its way, and whose client asks again.

    Args:
        settings: of the service, which comes back with them.
        log: its log.
        call: submits the job, with an idempotency key.
        die_at: the fail point and its side, as for :class:`Beginning`.
        meanwhile: called while it is dead.
    """
    first = ServiceProcess(Beginning(settings=settings, log=log, die_at=die_at))
    try:
        assert isinstance(said := first.call(call), Answer), said
        assert first.dies_within(20)
    except ServiceDied:
        pass
    first.kill()
    meanwhile()
    second = ServiceProcess(Beginning(settings=settings, log=log))
    try:
        answer = second.call(call)
        assert isinstance(answer, Answer)
        job_id = answer.job.id
        job = soon(lambda: j if (j := second.look(job_id)).state.is_final else None)
        second.stop()
    finally:
        second.kill()
    return job
