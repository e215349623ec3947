"""What a quick service is made of: a stand-in engine and an embedded StorageHub on this machine.

The service runs in this process (:meth:`Quick.service`) or as ``die`` does (:meth:`Quick.serve`), and
what it makes outside can be counted afterwards.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import requests
from lxml import etree
from ogc import assert_valid
from service_fixture import (
    Service,
    execute_url,
    free_port,
    job_id_of,
    running_service,
    status_path,
)
from stand_in_engine import StandInEngine
from storagehub_fixture import ALICE, BOB, HubClient, HubUser, hub_client, local_storagehub

from die_algorithm.local_storagehub.server import LocalStorageHub
from die_algorithm.settings import Settings
from die_algorithm.web import CANCEL_PATH, WPS_PATH

PROBE = "die-tests/probe"
DIE = Path(sys.executable).with_name("die")
T = TypeVar("T")


def soon(look: Callable[[], T | None], seconds: float = 20.0) -> T:
    """What a look gives as soon as it is true; fails if that takes too long."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"still {found!r} after {seconds} s"
        time.sleep(0.03)
    return found


@dataclasses.dataclass
class Processes:
    """``die serve``, or parts of it, as processes of their own, and what a user asks them."""

    settings: Settings
    environment: dict[str, str]
    log: Path
    #: Put before the command of each process that is started from now on.
    wrapper: Sequence[str] = ()
    _running: list[subprocess.Popen[bytes]] = dataclasses.field(default_factory=list)

    def start(self, *arguments: str, **changes: str) -> subprocess.Popen[bytes]:
        """Start ``die`` with arguments; changes are settings as an operator writes them."""
        environment = self.environment | {f"DIE_{k.upper()}": v for k, v in changes.items()}
        with self.log.open("ab") as output:
            process = subprocess.Popen(
                [*self.wrapper, DIE, *arguments], env=environment, stdout=output, stderr=output
            )
        self._running.append(process)
        return process

    def serve(self, *options: str, **changes: str) -> subprocess.Popen[bytes]:
        """Start ``die serve`` and wait until it answers."""
        process = self.start("serve", *options, **changes)
        soon(lambda: process.poll() is not None or self.answers())
        assert process.poll() is None, self.log.read_text()
        return process

    def answers(self) -> bool:
        """Whether the WPS answers."""
        with contextlib.suppress(requests.ConnectionError):
            return self.get("/health").status_code == 200
        return False

    def get(self, path: str, **options: object) -> requests.Response:
        """A GET; every XML answer is held to the schemas."""
        url = self.settings.url + path if path.startswith("/") else path
        with requests.Session() as session:
            session.trust_env = False
            response = session.get(url, timeout=60, **options)  # type: ignore[arg-type]
        if response.headers.get("Content-Type", "").startswith("text/xml"):
            assert_valid(response.content)
        return response

    def ready(self) -> dict[str, str]:
        """What ``/ready`` says is missing, by its name."""
        answer = self.get("/ready")
        checks: dict[str, str] = answer.json()["checks"]
        missing = {name: text for name, text in checks.items() if text != "passed"}
        assert answer.status_code == (503 if missing else 200)
        return missing

    def execute(self, command: str, item: str, user: HubUser = ALICE) -> requests.Response:
        """An asynchronous Execute of the probe."""
        inputs = {"Image": PROBE, "CommandName": command, "FileParam": item}
        wps = self.settings.url + WPS_PATH
        return self.get(execute_url(wps, user.token, asynchronous=True, **inputs))

    def submit(self, command: str, item: str, user: HubUser = ALICE) -> str:
        """Start a job of the probe; its id."""
        answer = self.execute(command, item, user)
        assert answer.status_code == 200, answer.text
        return job_id_of(etree.fromstring(answer.content))

    def status(self, job_id: str) -> str:
        """A job's status document, or what is said instead."""
        return self.get(status_path(job_id)).text

    def wait_for(self, job_id: str, word: str, seconds: float = 20.0) -> str:
        """Wait until a job's status document holds a word."""

        def document() -> str:
            text = self.status(job_id)
            is_over = "ProcessFailed" in text or "ProcessSucceeded" in text
            assert word in text or not is_over, text
            return text if word in text else ""

        return soon(document, seconds)

    def children(self, process: subprocess.Popen[bytes]) -> list[int]:
        """The ids of a process's children."""
        threads = Path(f"/proc/{process.pid}/task").glob("*/children")
        return [int(word) for path in threads for word in path.read_text().split()]

    def end(self) -> None:
        """Kill what still runs, children too."""
        for process in self._running:
            if process.poll() is None:
                for child in self.children(process):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(child, signal.SIGKILL)
                process.kill()
            process.wait()


@dataclasses.dataclass(frozen=True)
class Quick:
    """The outside world of a quick service."""

    engine: StandInEngine
    hub: LocalStorageHub
    item: str
    folder: Path

    def environment(self, **changes: str) -> dict[str, str]:
        """The settings of a service as an operator writes them, in the environment."""
        values = {
            "data_dir": str(self.folder / "data"),
            "storagehub_url": self.hub.base_url,
            "docker_host": self.engine.docker_host,
            "docker_hub_url": "engine",
            "memory_limit": "64MiB",
            **changes,
        }
        return {f"DIE_{name.upper()}": value for name, value in values.items()}

    def settings(self, **changes: str) -> Settings:
        """The settings of a service; changes as an operator writes them."""
        return Settings.load(None, self.environment(**changes))

    @contextlib.contextmanager
    def service(self, **changes: str) -> Iterator[Service]:
        """A service in this process."""
        with running_service(self.settings(**changes)) as service:
            yield service

    @contextlib.contextmanager
    def processes(self, **changes: str) -> Iterator[Processes]:
        """A place for ``die`` processes, which are killed at the end."""
        address = f"127.0.0.1:{free_port()}"
        changes = {"url": f"http://{address}", "listen": address, **changes}
        processes = Processes(
            self.settings(**changes),
            {**os.environ, **self.environment(**changes)},
            self.folder / "log",
        )
        try:
            yield processes
        finally:
            processes.end()

    def folders(self, user: HubUser = ALICE) -> list[str]:
        """The names of the temp folders in a user's workspace, hidden ones too."""
        with hub_client(self.hub, user) as client:
            names = client.names(client.root(), showHidden=True)
        return sorted(str(name) for name in names if str(name).startswith("die-"))

    def assert_nothing_left(self) -> None:
        """See that nothing of any job is left outside."""
        assert self.engine.services() == []
        assert self.engine.secrets() == []
        assert self.engine.alive() == []
        assert self.folders(ALICE) == []
        assert self.folders(BOB) == []


@contextlib.contextmanager
def quick_world(folder: Path, users: Sequence[HubUser] = (ALICE, BOB)) -> Iterator[Quick]:
    """An engine and a StorageHub of two users, or others; alice has a file."""
    with (
        StandInEngine(folder / "engine.sock") as engine,
        # At a fixed port, so that it may be away and come back.
        local_storagehub(folder / "storagehub", users, listen=(f"127.0.0.1:{free_port()}",)) as hub,
    ):
        yield Quick(engine, hub, hub.seed(ALICE.name, "a.txt", b"a"), folder)


# -- what clients see


def submit(service: Service, command: str, item: str, user: HubUser = ALICE) -> str:
    """Start a job of the probe; its id."""
    return service.submit(user.token, PROBE, command, item)


def status(service: Service, job_id: str) -> str:
    """A job's status document, held to the schemas."""
    return service.get(status_path(job_id)).text


def cancel(service: Service, job_id: str, user: HubUser = ALICE) -> requests.Response:
    """Cancel a job."""
    return service.get(f"{CANCEL_PATH}?id={job_id}&gcube-token={user.token}")


def client_of(world: Quick, user: HubUser) -> contextlib.AbstractContextManager[HubClient]:
    """Bare requests of a user to her workspace."""
    return hub_client(world.hub, user)
