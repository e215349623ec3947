"""The Docker engine of a private Swarm, by way of the ``docker`` command."""

from __future__ import annotations

import re
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from die_algorithm.errors import LocalSwarmError
from die_algorithm.local_swarm.command import ENVIRONMENT, log_tail, run
from die_algorithm.local_swarm.enclosure import Enclosure
from die_algorithm.local_swarm.registry import Registry

_PROGRAM = "dockerd"
_START_TIMEOUT = 60.0
_STOP_TIMEOUT = 20.0
_BUILD_TIMEOUT = 900.0
_POLL_INTERVAL = 0.05
#: A private Swarm may lie unused for longer than the three months for which Swarm's own
#: certificates are good; after that it would not come up again.
_CERTIFICATE_LIFE = "87600h"
_LOOPBACK = "127.0.0.1"


class Engine:
    """One ``dockerd`` with a Swarm: its own, unless it was made a node of another one.

    Args:
        enclosure: where it runs.
        state: folder of its images and its log.
        runtime: folder of its sockets; short, because a socket's path has 107 characters at most.
        options: more options for ``dockerd``.
    """

    def __init__(
        self, enclosure: Enclosure, state: Path, runtime: Path, options: Sequence[str]
    ) -> None:
        self._enclosure = enclosure
        self._data = state / "engine"
        self._client_configuration = state / "client"
        self._runtime = runtime
        self._options = options
        self._log = state / "dockerd.log"

    @property
    def address(self) -> str:
        """What ``DOCKER_HOST`` has to be."""
        return f"unix://{self._runtime / 'docker.sock'}"

    @property
    def pid(self) -> int | None:
        """The host's process id of ``dockerd``, if it runs."""
        return self._enclosure.pid_of(_PROGRAM)

    def answers(self) -> bool:
        """Tell whether the engine's API answers within a few seconds."""
        return self._swarm_state() is not None

    def start(self) -> None:
        """Start it, unless it runs, and wait until its Swarm takes services.

        It comes back as what it was, a manager or a worker; one without a Swarm founds its own.

        Raises:
            LocalSwarmError: it does not come up; holds the end of its log.
        """
        if self.pid is None:
            self._enclosure.spawn(_PROGRAM, *self._command_line(), log=self._log)
        self._await(self._is_settled, "The Docker engine does not start")
        state = self._swarm_state()
        if state == "error":  # what it kept of its Swarm is damaged; the images are not
            self.docker("swarm", "leave", "--force")
        if state in {"error", "inactive"}:
            self._found_swarm()
        self._await(self._is_ready, "The Swarm does not become active")

    def clear(self) -> None:
        """Remove all services and containers."""
        if services := self.docker("service", "ls", "--quiet").split():
            self.docker("service", "rm", *services)
        if containers := self.docker("container", "ls", "--all", "--quiet").split():
            with suppress(LocalSwarmError):  # the Swarm is removing some of them at the same time
                self.docker("container", "rm", "--force", "--volumes", *containers, timeout=600)

    def stop(self) -> None:
        """Let it end in good order; one that does not is left to the enclosure's end."""
        self._enclosure.signal(_PROGRAM, signal.SIGTERM, _STOP_TIMEOUT)

    def kill(self) -> bool:
        """End it as a crash would, leaving its containers; tell whether it is gone."""
        return self._enclosure.signal(_PROGRAM, signal.SIGKILL, _STOP_TIMEOUT)

    def forget_swarm(self) -> None:
        """Delete all services of an engine that does not run; images are kept."""
        shutil.rmtree(self._data / "swarm", ignore_errors=True)

    def build(self, context: Path, tag: str, build_args: Mapping[str, str]) -> None:
        """Build an image with the classic builder, which needs no program of its own."""
        words = [f"--build-arg={name}={value}" for name, value in build_args.items()]
        command = ("build", "--force-rm", f"--tag={tag}", *words, str(context))
        self.docker(*command, timeout=_BUILD_TIMEOUT)

    def push(self, local_tag: str, repository: str) -> str:
        """Put an image into the registry; return its manifest's digest."""
        remote = f"{Registry.ADDRESS}/{repository}"
        self.docker("tag", local_tag, remote)
        try:
            output = self.docker("push", remote, timeout=_BUILD_TIMEOUT)
        finally:
            self.docker("rmi", "--no-prune", remote)
        digest = re.search(r"digest: (sha256:[0-9a-f]{64})", output)
        if digest is None:
            raise LocalSwarmError(f"The registry told no digest for {repository}:\n{output}")
        return digest[1]

    def docker(self, *arguments: str, timeout: float = 60) -> str:
        """Run the ``docker`` command on this engine and return what it printed."""
        # An empty configuration: a proxy or a login of the user's has no business here.
        options = ("--host", self.address, "--config", str(self._client_configuration))
        environment = {**ENVIRONMENT, "DOCKER_BUILDKIT": "0"}
        return run("docker", *options, *arguments, timeout=timeout, environment=environment)

    def _command_line(self) -> list[str]:
        return [
            f"--host={self.address}",
            f"--data-root={self._data}",
            f"--exec-root={self._runtime / 'exec'}",
            f"--pidfile={self._runtime / 'docker.pid'}",
            f"--registry-mirror=http://{Registry.ADDRESS}",
            # Not systemd's driver: that knows the host's process ids only.
            "--exec-opt=native.cgroupdriver=cgroupfs",
            "--log-level=warn",
            *self._options,
        ]

    def _found_swarm(self) -> None:
        # On loopback only: a container must not find the manager's port open.
        addresses = (f"--advertise-addr={_LOOPBACK}", f"--listen-addr={_LOOPBACK}:2377")
        self.docker("swarm", "init", *addresses, f"--cert-expiry={_CERTIFICATE_LIFE}")

    def _swarm_state(self) -> str | None:
        """Return Swarm's word for this node's state; None: the engine does not answer."""
        try:
            output = self.docker("info", "--format={{.Swarm.LocalNodeState}}", timeout=5)
        except LocalSwarmError:
            return None
        return output.strip() or None

    def _is_settled(self) -> bool:
        return self._swarm_state() not in {None, "pending"}

    def _is_ready(self) -> bool:
        try:
            if self.docker("info", "--format={{.Swarm.ControlAvailable}}").strip() == "false":
                return self._swarm_state() == "active"  # only a manager can say more of a worker
            state = self.docker("node", "inspect", "--format={{.Status.State}}", "self")
        except LocalSwarmError:  # no leader yet
            return False
        return state.strip() == "ready"

    def _await(self, question: Callable[[], bool], complaint: str) -> None:
        deadline = time.monotonic() + _START_TIMEOUT
        while not question():
            if self.pid is None or time.monotonic() > deadline:
                raise LocalSwarmError(f"{complaint}. The end of its log:\n{log_tail(self._log)}")
            time.sleep(_POLL_INTERVAL)
