"""The service as a process, between a stand-in engine and an embedded StorageHub."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from canary import Search
from service_fixture import free_port
from service_process import Beginning, ServiceProcess
from stand_in_engine import StandInEngine
from storagehub_fixture import ALICE, BOB, HubUser, hub_client, write_users

from die_algorithm.local_storagehub.server import LocalStorageHub
from die_algorithm.models import JobState
from die_algorithm.settings import Settings

USERS = (ALICE, BOB)
#: Seconds within which all must have ended and gone when nothing is in the way any more.
SETTLING = 30.0
#: Lines of the service's log that a failure shows.
_LOG_LINES = 400


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """The queue's limits."""

    max_running: int = 3
    max_running_per_owner: int = 2
    max_waiting: int = 4
    max_waiting_per_owner: int = 3


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the jobs' table."""

    id: str
    owner: str
    state: JobState
    is_admitted: bool
    cancel_requested: bool
    has_token: bool
    record: str

    @property
    def waits(self) -> bool:
        """Whether it takes a place in the queue."""
        accepted = self.state is JobState.ACCEPTED
        return accepted and not (self.is_admitted or self.cancel_requested)

    @property
    def is_under_way(self) -> bool:
        """Whether it was taken from the queue and has not ended."""
        return self.is_admitted and not self.state.is_final

    @property
    def word(self) -> str:
        """The word of its command that says which submission it is of."""
        command = str(json.loads(self.record)["request"]["given_command"])
        return next(word for word in command.split() if word.startswith("ticket-"))


class World:
    """All of it, in a new folder.

    Args:
        limits: of the queue.
        environment: of a service that is not forked.
        settings: others than the usual ones.
    """

    def __init__(
        self, limits: Limits, environment: Mapping[str, str] | None = None, **settings: object
    ) -> None:
        self.limits = limits
        self._environment = environment
        self._folder = Path(tempfile.mkdtemp(prefix="die-"))
        self._log = self._folder / "service.log"
        self._journal: list[str] = []
        self._began = time.monotonic()
        self._clean_up = contextlib.ExitStack()
        self._clean_up.callback(shutil.rmtree, self._folder, ignore_errors=True)
        self.engine = self._clean_up.enter_context(StandInEngine(self._folder / "engine.sock"))
        users_file = write_users(self._folder / "users.toml", USERS)
        address = f"127.0.0.1:{free_port()}"
        self.storagehub = LocalStorageHub(self._folder / "hub", users_file, (address,))
        self._clean_up.callback(self.storagehub.stop)
        self.storagehub.start()
        self.items = {user: self.storagehub.seed(user.name, "in.txt", b"in") for user in USERS}
        self.settings = self._settings(settings)
        self.service: ServiceProcess | None = None
        self._clean_up.callback(self.kill_service)

    def _settings(self, others: Mapping[str, object]) -> Settings:
        settings = Settings(
            data_dir=self._folder / "data",
            storagehub_url=self.storagehub.base_url,
            docker_host=self.engine.docker_host,
            docker_hub_url="engine",
            **dataclasses.asdict(self.limits),
        )
        # Shorter than an operator can write them.
        changes = {
            "worker_lease": timedelta(seconds=0.5),
            "stop_grace": timedelta(seconds=0.2),
            "storagehub_timeout": timedelta(seconds=3),
        }
        return settings.model_copy(update={**changes, **others})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            error.add_note(self.story())
        self.close()

    def close(self) -> None:
        """End all of it; nothing of what was written shows a token."""
        self.kill_service()
        shown = list(Search().folder(self._folder))
        self._clean_up.close()
        assert not shown, "\n".join(map(str, shown))

    # -- the service

    def start_service(self, die_at: str = "") -> None:
        """Start it."""
        beginning = Beginning(settings=self.settings, log=self._log, die_at=die_at)
        self.service = ServiceProcess(beginning, self._environment)

    def kill_service(self) -> None:
        """Let it die where it stands, if it lives."""
        service, self.service = self.service, None
        if service is not None:
            service.kill()

    def stop_service(self) -> None:
        """Let it end in good order."""
        service, self.service = self.service, None
        if service is not None:
            service.stop()

    @property
    def log(self) -> str:
        """What it has logged."""
        return self._log.read_text(encoding="utf-8") if self._log.exists() else ""

    # -- what there is

    def rows(self) -> list[Row]:
        """The jobs' table, at one moment."""
        query = (
            "SELECT id, owner, state, admitted_at IS NOT NULL, cancel_requested, "
            "sealed_token IS NOT NULL, record FROM jobs"
        )
        path = self.settings.data_dir / "jobs.sqlite"
        if not path.exists():
            return []
        with contextlib.closing(sqlite3.connect(path, timeout=10)) as connection:
            found = connection.execute(query).fetchall()
        return [
            Row(job_id, owner, JobState(state), bool(admitted), bool(cancel), bool(token), record)
            for job_id, owner, state, admitted, cancel, token, record in found
        ]

    def folders(self, user: HubUser) -> dict[str, list[object]]:
        """The temp folders in a user's workspace, each with the names of what is in it."""
        with hub_client(self.storagehub, user) as client:
            children = client.children(client.root(), showHidden=True)
            return {
                str(child["name"]): client.names(str(child["id"]))
                for child in children
                if str(child["name"]).startswith("die-")
            }

    def published(self) -> Iterator[Path]:
        """The files in the results' folder, below it."""
        folder = self.settings.results_path
        return (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())

    # -- what has happened

    def note(self, text: str) -> None:
        """Write something into the journal."""
        self._journal.append(f"{time.monotonic() - self._began:7.3f} {text}")

    def story(self) -> str:
        """The journal, and the end of the service's log."""
        lines = ["The journal:", *self._journal, "The service's log:"]
        return "\n".join(lines + self.log.splitlines()[-_LOG_LINES:])


def wait_until(condition: Callable[[], bool], seconds: float = SETTLING) -> bool:
    """Wait for something; whether it came."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
