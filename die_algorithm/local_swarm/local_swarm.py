"""The private Swarm as its users see it: started, used, stopped."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from die_algorithm.errors import LocalSwarmError
from die_algorithm.local_swarm.command import ENVIRONMENT
from die_algorithm.local_swarm.enclosure import INIT, Enclosure
from die_algorithm.local_swarm.engine import Engine
from die_algorithm.local_swarm.network import Network
from die_algorithm.local_swarm.registry import PORT, Registry

_PROGRAMS = (
    *("dockerd", "docker", INIT, "containerd", "docker-registry"),
    *("ip", "iptables", "nsenter", "unshare", "setsid", "mount", "sysctl"),
)
LOGGER = logging.getLogger(__name__)
_CGROUPS = Path("/sys/fs/cgroup")
_RESOLVER_FILES = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))


class LocalSwarm:
    """A Docker engine with a one-node Swarm and a registry, private to one state folder.

    It outlives the process that started it. Images, the registry's content and logs are in the
    state folder and are kept by ``stop``; sockets are below ``/run``, where paths are short.

    Args:
        state: the folder; made if need be. One folder has one private Swarm, whoever asks.
        internet: whether images and containers may come from and reach the outside, as far as
            this machine lets them; decided when it is started anew.
    """

    def __init__(self, state: Path, *, internet: bool = False) -> None:
        self.state = state.resolve()
        self._internet = internet
        digest = hashlib.sha256(os.fsencode(self.state)).hexdigest()
        self.name = f"die-{digest[:8]}"
        self._runtime = Path("/run") / self.name
        self._network = Network(self.name, seed=int(digest[:8], 16))
        self._enclosure = Enclosure(self._network, self.state / "enclosure.log")
        self.registry = Registry(self._enclosure, self._network, self.state)
        # Where no name server can be reached, a look-up shall fail at once, not after its time-out.
        options = (f"--cgroup-parent=/{self.name}", *(() if internet else ("--dns=127.0.0.1",)))
        self.engine = Engine(self._enclosure, self.state, self._runtime, options)

    @property
    def docker_host(self) -> str:
        """The engine's address, as in ``DOCKER_HOST``."""
        return self.engine.address

    @property
    def host_address(self) -> str:
        """The host's address for containers.

        A server of the host that listens on it is reached by containers and by the host itself
        under this one address.

        Raises:
            LocalSwarmError: the private Swarm is not started.
        """
        return self._network.host_address

    @property
    def registry_address(self) -> str:
        """The registry's address, as the engine sees it; it is the mirror of Docker Hub."""
        return self.registry.ADDRESS

    @property
    def registry_url(self) -> str:
        """The registry's address for the host: Docker Hub's, for a service that runs there."""
        return f"http://{self._network.inner_address}:{PORT}"

    @property
    def is_running(self) -> bool:
        """Whether the engine answers."""
        return self.engine.pid is not None and self.engine.answers()

    def start(self) -> None:
        """Start it, or recognise the one that runs, and wait until it takes services.

        What an engine that died has left is cleaned up first; services and images are kept.

        Raises:
            LocalSwarmError: the machine does not permit it, or the engine does not come up.
        """
        _check_machine()
        with self._alone():
            if not self.is_running:
                self._enclosure.close()
                self._remove_remains()
                self._open()
            if self._internet:
                self._add_internet()
            self.registry.start()
            self.engine.start()

    def stop(self) -> None:
        """End it and remove services, containers, processes, network and rules; keep images.

        Raises:
            LocalSwarmError: a process does not end.
        """
        _check_machine()
        with self._alone():
            self._stop()

    def purge(self) -> None:
        """Stop it and delete the state folder."""
        _check_machine()
        with self._alone():
            self._stop()
            shutil.rmtree(self.state)

    def forward_port(self, port: int = 80, *, to: int) -> None:
        """Let containers that connect to one port of ``host_address`` reach another one.

        Images that know only ``http://registry.d4science.org`` find a StorageHub so that listens
        on any port; their name is mapped to ``host_address`` by the service's extra hosts.

        Args:
            port: where containers connect to.
            to: where a server of the host listens, on ``host_address``.
        """
        self._network.forward_port(port, to)

    def build(self, context: Path, tag: str, build_args: Mapping[str, str]) -> None:
        """Build an image from a folder with a ``Dockerfile``.

        Raises:
            LocalSwarmError: a step fails; holds the end of the output.
        """
        self.engine.build(context, tag, build_args)

    def push(self, local_tag: str, repository: str) -> str:
        """Publish an image as if on Docker Hub.

        Args:
            local_tag: the image's name in the engine.
            repository: under which it will be found, such as ``d4science/sortapp`` or
                ``d4science/sortapp:1.2``.

        Returns:
            its digest, ``sha256:…``.
        """
        return self.engine.push(local_tag, repository)

    def _open(self) -> None:
        self._network.open()
        self._runtime.mkdir(mode=0o711)
        # An empty folder there hides a containerd of the host's, which the engine would use.
        hidden = Path("/run/containerd")
        hidden.mkdir(mode=0o711, exist_ok=True)
        mounts = [f"-t tmpfs tmpfs {hidden}"]
        if self._internet:
            mounts.append(f"--bind {_outside_resolver()} /etc/resolv.conf")
        self._enclosure.open(mounts)

    def _add_internet(self) -> None:
        try:
            self._network.add_internet()
        except LocalSwarmError as error:
            LOGGER.warning("The private Swarm stays without the internet. %s", error)

    def _stop(self) -> None:
        cleared = False
        if self.is_running:
            cleared = self._clear()
            self.engine.stop()
        self._enclosure.close()
        self._network.close()
        self._remove_remains()
        if not cleared:
            self.engine.forget_swarm()

    def _clear(self) -> bool:
        try:
            self.engine.clear()
        except LocalSwarmError:  # a Swarm without a leader does not remove services
            return False
        return True

    def _remove_remains(self) -> None:
        """Remove what no process uses any more: sockets and control groups."""
        shutil.rmtree(self._runtime, ignore_errors=True)
        # Version 2 has one tree, version 1 one tree for each controller.
        for group in (_CGROUPS / self.name, *_CGROUPS.glob(f"*/{self.name}")):
            for folder, _, _ in os.walk(group, topdown=False):
                with suppress(OSError):  # still in use by a process that is just ending
                    Path(folder).rmdir()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes from starting or stopping the same one meanwhile."""
        while True:
            self.state.mkdir(parents=True, exist_ok=True)
            folder = os.open(self.state, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(folder, fcntl.LOCK_EX)
                if not self._is_folder(folder):  # deleted while we waited
                    continue
                yield
                return
            finally:
                os.close(folder)

    def _is_folder(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self.state.stat())
        except FileNotFoundError:
            return False


def _check_machine() -> None:
    if os.geteuid() != 0:
        raise LocalSwarmError(
            "Only root can start or stop a private Swarm. Run this as root; on a Swarm of yours, run "
            "'die serve' (README, \"Operate it\")."
        )
    missing = [name for name in _PROGRAMS if not shutil.which(name, path=ENVIRONMENT["PATH"])]
    if missing:
        raise LocalSwarmError(
            f"A private Swarm needs programs that are not installed: {', '.join(missing)}. "
            "scripts/bootstrap installs them."
        )


def _outside_resolver() -> Path:
    """Return the file of name servers that are not on the host's loopback, which is not ours."""
    for file in _RESOLVER_FILES:
        if file.exists() and not any(
            line.startswith(("nameserver 127.", "nameserver ::1"))
            for line in file.read_text().splitlines()
        ):
            return file
    return _RESOLVER_FILES[0]
