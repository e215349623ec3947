"""The real service on the real engine, with limits that are soon reached, and images to try them."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any

from odd_images import Layer, RegistryFiles
from service_fixture import Service, status_path
from storagehub_fixture import ALICE, HubClient
from swarm_fixture import IMAGES, PROBE

from die_algorithm.local_swarm import LocalSwarm
from die_algorithm.models import Failure, FaultClass, Job, JobState

#: Seconds within which nothing of an ended job is left.
_GONE_WITHIN = 60.0


@dataclasses.dataclass(frozen=True)
class Images:
    """Publishes images made of the probe's layers and the program that does harm."""

    files: RegistryFiles

    def publish(
        self,
        name: str,
        config: Mapping[str, Any] | None = None,
        *,
        layers: Sequence[Layer] | None = None,
        files: Mapping[str, bytes] | None = None,
        raw: bytes | None = None,
        **top: Any,
    ) -> str:
        """Publish one; its repository.

        Args:
            name: of the image.
            config: what its ``config`` has beside or in place of the probe's; ``None`` takes away.
            layers: more layers.
            files: one more layer, of these programs.
            raw: a configuration in place of all that.
            top: changes of the whole configuration; ``None`` takes away.
        """
        probe = self.files.image(PROBE)
        program = (IMAGES / "hostile" / "hostile").read_bytes()
        all_layers = [
            *probe.layers,
            self.files.layer({"usr/bin/hostile": program, **(files or {})}),
            *(layers or ()),
        ]
        whole = copy.deepcopy(dict(probe.config))
        whole |= {
            "config": {**whole["config"], **(config or {})},
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in all_layers]},
            "history": [],
            **top,
        }
        whole = {name: value for name, value in whole.items() if value is not None}
        repository = f"die-tests/hostile-{name}"
        self.files.publish(repository, whole if raw is None else raw, all_layers)
        return repository


@dataclasses.dataclass(frozen=True)
class Ground:
    """Where hostile jobs run, and what is to be left as it was."""

    service: Service
    swarm: LocalSwarm
    alice: HubClient
    item: str
    networks: frozenset[str]

    @property
    def token(self) -> str:
        """Of the user whose jobs they are."""
        return ALICE.token

    def log_files(self) -> int:
        """Bytes of the engine's log files of all containers."""
        folder = self.swarm.state / "engine" / "containers"
        sizes = []
        for path in folder.glob("*/local-logs/*"):
            with contextlib.suppress(FileNotFoundError):  # rotated meanwhile
                sizes.append(path.stat().st_size)
        return sum(sizes)

    def submit(self, image: str, command: str) -> str:
        """Start a job; its id."""
        return self.service.submit(ALICE.token, image, command, self.item)

    def end(self, job_id: str, seconds: float = 120) -> Job:
        """Wait for a job's one end, and see that its document can be read."""
        job = self.service.runtime.engine.wait(job_id, seconds)
        assert [state for state in job.reached if state.is_final] == [job.state], job
        document = self.service.get(status_path(job_id))  # held to the schemas
        assert document.status_code == 200
        assert ALICE.token not in document.text
        return job

    def run(self, image: str, command: str) -> Job:
        """Run a job to its end."""
        return self.end(self.submit(image, command))

    def docker(self, *arguments: str) -> list[str]:
        """What Docker's own command prints, in words."""
        command = ["docker", "-H", self.swarm.docker_host, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()

    def left(self) -> dict[str, list[str]]:
        """What there is that there was not before."""
        names = self.alice.names(self.alice.root(), showHidden=True)
        found = {
            "services": self.docker("service", "ls", "-q"),
            "containers": self.docker("ps", "-aq"),
            "volumes": self.docker("volume", "ls", "-q"),
            "networks": sorted({*self.docker("network", "ls", "-q")} - self.networks),
            "folders": [str(name) for name in names if str(name).startswith("die-")],
        }
        return {kind: things for kind, things in found.items() if things}

    def assert_unharmed(self) -> None:
        """See that nothing is left and that a usual job runs."""
        deadline = time.monotonic() + _GONE_WITHIN
        while left := self.left():
            assert time.monotonic() < deadline, left
            time.sleep(0.2)
        assert self.run(PROBE, "probe noop").state is JobState.SUCCEEDED


def failure_of(job: Job, fault_class: FaultClass) -> Failure:
    """The failure of a job that failed by somebody's fault."""
    assert job.state is JobState.FAILED, job
    assert job.failure is not None
    assert job.failure.fault_class is fault_class, job.failure
    return job.failure
