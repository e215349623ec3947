"""What outlives the service: the engine, the user's workspace, and a folder of its own for each run."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from stand_in_engine import StandInEngine
from storagehub_fixture import ALICE, HubClient, hub_client, local_storagehub

from die_algorithm.service_spec import JOB_LABEL
from die_algorithm.settings import Settings

_PREFIX = "die-"
_NUMBERS = itertools.count(1)


class EngineView(Protocol):
    """What the engine knows, seen past the service."""

    @property
    def docker_host(self) -> str:
        """Its address."""

    def starts(self) -> Mapping[str, int]:
        """How often a container of each job was started."""

    def alive(self) -> Sequence[str]:
        """The jobs whose containers run."""

    def containers(self) -> Sequence[str]:
        """The jobs of which there are containers, running or not."""

    def services(self) -> Mapping[str, bool]:
        """The jobs that have a service, and whether it is started."""

    def secrets(self) -> Sequence[str]:
        """The names of the secrets."""


class StandInView:
    """The stand-in's view of itself."""

    def __init__(self, engine: StandInEngine) -> None:
        self._engine = engine
        self.docker_host = engine.docker_host

    def starts(self) -> Mapping[str, int]:
        """How often a container of each job was started."""
        return Counter(start.job_id for start in self._engine.starts)

    def alive(self) -> Sequence[str]:
        """The jobs whose containers run."""
        return [start.job_id for start in self._engine.alive()]

    def containers(self) -> Sequence[str]:
        """The jobs whose containers run: of others there is nothing here."""
        return self.alive()

    def services(self) -> Mapping[str, bool]:
        """The jobs that have a service, and whether it is started."""
        return {each.job_id: each.is_started for each in self._engine.services()}

    def secrets(self) -> Sequence[str]:
        """The names of the secrets."""
        return self._engine.secrets()


class DockerView:
    """A real engine, asked through Docker's own command.

    Args:
        docker_host: its address.
        instance: the label of the services that are looked at.
    """

    def __init__(self, docker_host: str, instance: str) -> None:
        self.docker_host = docker_host
        self._mine = f"label=die.service={instance}"
        self._since = f"{time.time():.9f}"

    def starts(self) -> Mapping[str, int]:
        """How often a container of each job was started, by the engine's own events."""
        until = f"{time.time():.9f}"
        events = self._docker(
            "events", f"--since={self._since}", f"--until={until}", "--filter=type=container",
            "--filter=event=start", f"--filter={self._mine}", "--format={{json .}}",
        )  # fmt: skip
        return Counter(json.loads(line)["Actor"]["Attributes"][JOB_LABEL] for line in events)

    def alive(self) -> Sequence[str]:
        """The jobs whose containers run."""
        return self._containers()

    def containers(self) -> Sequence[str]:
        """The jobs of which there are containers, running or not."""
        return self._containers("--all")

    def _containers(self, *options: str) -> list[str]:
        label = f'{{{{.Label "{JOB_LABEL}"}}}}'
        return self._docker("ps", *options, f"--filter={self._mine}", f"--format={label}")

    def services(self) -> Mapping[str, bool]:
        """The jobs that have a service, and whether it is started."""
        lines = self._docker(
            "service", "ls", f"--filter={self._mine}", "--format={{.Name}} {{.Replicas}}"
        )
        pairs = (line.split(" ", 1) for line in lines)
        return {name.removeprefix(_PREFIX): not replicas.endswith("/0") for name, replicas in pairs}

    def secrets(self) -> Sequence[str]:
        """The names of the secrets."""
        return self._docker("secret", "ls", f"--filter={self._mine}", "--format={{.Name}}")

    def _docker(self, *words: str) -> list[str]:
        environment = {"PATH": os.environ["PATH"], "DOCKER_HOST": self.docker_host}
        command = ["docker", *words]
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        return done.stdout.splitlines()


@dataclasses.dataclass(frozen=True)
class Ground:
    """What a run happens on. One run at a time.

    Args:
        engine: to look at.
        alice: whose jobs run.
        item: of hers, which jobs get.
        folder: for the runs' folders.
        settings: of the service, without its folder.
    """

    engine: EngineView
    alice: HubClient
    item: str
    folder: Path
    settings: Mapping[str, Any]

    @contextmanager
    def fresh(self, **changes: object) -> Iterator[Settings]:
        """The settings of a service without a past; its folder is removed at the end."""
        folder = self.folder / str(next(_NUMBERS))
        folder.mkdir()
        try:
            yield Settings(**{**self.settings, "data_dir": folder / "data", **changes})
        finally:
            shutil.rmtree(folder)

    def folders(self) -> dict[str, str]:
        """The temp folders in the workspace: ids by names."""
        items = self.alice.children(self.alice.root(), showHidden="true")
        named = {str(item["name"]): str(item["id"]) for item in items}
        return {name: item_id for name, item_id in named.items() if name.startswith(_PREFIX)}

    def remove(self, item_id: str) -> None:
        """Remove something of the workspace, as its owner does."""
        answer = self.alice.request("DELETE", f"/items/{item_id}", params={"force": "true"})
        assert answer.status_code == 200, answer.text


@contextmanager
def stand_in_ground() -> Iterator[Ground]:
    """A stand-in for the engine and an embedded StorageHub."""
    with (
        _folder() as folder,
        StandInEngine(folder / "engine.sock") as engine,
        _hub_ground(folder, StandInView(engine), "127.0.0.1:0") as ground,
    ):
        yield ground


@contextmanager
def docker_ground(docker_host: str, host_address: str) -> Iterator[Ground]:
    """A real engine and an embedded StorageHub.

    Args:
        docker_host: the engine's address.
        host_address: where its containers reach this machine.
    """
    instance = f"chaos-{uuid.uuid4().hex[:8]}"
    view = DockerView(docker_host, instance)
    with _folder() as folder, _hub_ground(folder, view, f"{host_address}:0", instance) as ground:
        yield ground


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder in memory, if there is such a thing: who is killed needs no disk to keep its word."""
    memory = Path("/dev/shm")
    where = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="die-chaos-", dir=where) as folder:
        yield Path(folder)


@contextmanager
def _hub_ground(
    folder: Path, engine: EngineView, listen: str, instance: str = "chaos"
) -> Iterator[Ground]:
    with (
        local_storagehub(folder / "hub", listen=(listen,)) as hub,
        hub_client(hub, ALICE) as alice,
    ):
        runs = folder / "runs"
        runs.mkdir()
        yield Ground(
            engine=engine,
            alice=alice,
            item=hub.seed(ALICE.name, "item.txt", b"one\n"),
            folder=runs,
            settings={
                "storagehub_url": hub.base_url,
                "docker_host": engine.docker_host,
                "docker_hub_url": "engine",
                "instance": instance,
                "memory_limit": "64MiB",
                "stop_grace": timedelta(seconds=1),
            },
        )
