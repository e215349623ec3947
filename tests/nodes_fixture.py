"""A Swarm of several machines for tests: real engines, each in namespaces of its own.

::

    service ── docker_host ──► manager ──┐
                                       switch (a bridge in the manager's network namespace)
                               worker ───┤
                               worker ───┘

Each engine has its own cable to the host besides, by which its containers reach StorageHub: a
worker that is cut off from the Swarm still can write into the job's folder.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from die_algorithm.errors import LocalSwarmError
from die_algorithm.local_swarm import LocalSwarm
from die_algorithm.local_swarm.command import run

#: The nodes' network; only their namespaces know it.
_PREFIX = "192.168.213"
_SWITCH = "switch"
#: A node's end of its cable to the switch.
_CABLE = "nodes"
_PATIENCE = 60.0
#: A machine without network namespaces, or whose kernel has no bridge.
_FORBIDDEN = (
    "does not permit",
    "Operation not permitted",
    "Operation not supported",
    "Unknown device",
)


class WorkerNode:
    """A machine of the Swarm that runs containers.

    Args:
        manager: into whose switch its cable is plugged.
        state: folder of its images and logs.
        number: its place at the switch, 2 to 254.
    """

    def __init__(self, manager: LocalSwarm, state: Path, number: int) -> None:
        self._manager = manager
        self._port = f"port{number}"
        self._address = f"{_PREFIX}.{number}"
        self.machine = LocalSwarm(state)

    @property
    def id(self) -> str:
        """The node's id in the Swarm, asked of the node itself."""
        return self.machine.engine.docker("info", "--format={{.Swarm.NodeID}}").strip()

    def containers(self) -> list[str]:
        """The containers on it, asked of its own engine; those that have ended are among them."""
        return self.machine.engine.docker(
            "container", "ls", "--all", "--no-trunc", "--format={{.ID}}"
        ).split()

    def runs(self, container_id: str) -> bool:
        """Whether a container runs on it, by its own engine's word."""
        return container_id in self.machine.engine.docker(
            "container", "ls", "--no-trunc", "--format={{.ID}}"
        )

    def cut_off(self) -> None:
        """Pull its cable to the other nodes; its containers run on and reach StorageHub."""
        _ip(self._manager, f"link set {self._port} down")

    def reconnect(self) -> None:
        """Plug the cable in again."""
        _ip(self._manager, f"link set {self._port} up")

    def kill(self) -> None:
        """Let engine and containers die at once and say nothing, as when the power fails."""
        self.cut_off()  # first: a machine without power takes leave of nobody
        self.machine._enclosure.close()

    def restart(self) -> None:
        """Switch it on again, unless it is on: with all that its disk has, and nothing that ran."""
        self.reconnect()
        self.machine.start()

    def join(self, token: str, storagehub: str) -> None:
        """Make it a node of the Swarm.

        Args:
            token: of the Swarm, for workers.
            storagehub: an address of the host that containers shall reach.
        """
        plug = f"link add {self._port} type veth peer name {_CABLE} netns {self.machine.name}"
        _ip(self._manager, plug)
        _ip(self._manager, f"link set {self._port} master {_SWITCH} up")
        _ip(self.machine, f"address add {self._address}/24 dev {_CABLE}")
        _ip(self.machine, f"link set {_CABLE} up")
        _ip(self.machine, f"route add {storagehub} via {self.machine.host_address}")
        advertise = f"--advertise-addr={self._address}"
        manager = f"{_PREFIX}.1:2377"
        self.machine.engine.docker("swarm", "join", f"--token={token}", advertise, manager)


class SwarmOfNodes:
    """A manager that runs no jobs, and workers.

    Args:
        state: folder of all its machines.
        workers: how many.
    """

    def __init__(self, state: Path, workers: int) -> None:
        self.manager = LocalSwarm(state / "manager")
        self.workers = tuple(
            WorkerNode(self.manager, state / f"worker{number}", number)
            for number in range(2, 2 + workers)
        )

    @property
    def machines(self) -> tuple[LocalSwarm, ...]:
        """All of them, the manager first."""
        return (self.manager, *(worker.machine for worker in self.workers))

    @property
    def docker_host(self) -> str:
        """The manager's address."""
        return self.manager.docker_host

    def docker(self, *arguments: str) -> str:
        """Run the ``docker`` command on the manager."""
        return self.manager.engine.docker(*arguments)

    def remains(self) -> list[str]:
        """Services, tasks and containers that are left on any node."""
        services = self.docker("service", "ls", "--quiet").split()
        tasks = self.docker("node", "ps", "--quiet", *self.docker("node", "ls", "-q").split())
        containers = [each for worker in self.workers for each in worker.containers()]
        return [*services, *tasks.split(), *containers]

    def mend(self) -> None:
        """Bring all workers back, as workers and without a job, whatever a test has left."""
        for worker in self.workers:
            worker.restart()
        self.wait_until_ready()
        for worker in self.workers:
            self.docker("node", "demote", worker.id)
        for service in self.docker("service", "ls", "--quiet").split():
            self.docker("service", "rm", service)
        wait_until(lambda: not self.remains())

    def wait_until_ready(self) -> None:
        """Wait until all nodes take tasks."""
        wait_until(lambda: self._states() == ["Ready"] * (1 + len(self.workers)))

    def switch_on(self, registry: Path) -> None:
        """Start the engines, and a switch between them that has no cables yet."""
        for machine in self.machines:
            _switch_on(machine, registry)
        _ip(self.manager, f"link add {_SWITCH} type bridge")
        _ip(self.manager, f"address add {_PREFIX}.1/24 dev {_SWITCH}")
        _ip(self.manager, f"link set {_SWITCH} up")
        # Newer engines let their machine forward nothing but what is for their own networks.
        forward = f"iptables --wait --insert FORWARD --in-interface {_SWITCH} --jump ACCEPT"
        run(*self.manager._network.enter(), *forward.split())

    def found(self, storagehub: str) -> None:
        """Make the machines one Swarm."""
        address = f"{_PREFIX}.1"
        self.docker("swarm", "init", f"--advertise-addr={address}", f"--listen-addr={address}:2377")
        token = self.docker("swarm", "join-token", "--quiet", "worker").strip()
        for worker in self.workers:
            worker.join(token, storagehub)
        self.wait_until_ready()

    def _states(self) -> list[str]:
        return self.docker("node", "ls", "--format={{.Status}}").split()


@contextmanager
def swarm_of_nodes(
    state: Path, registry: Path, storagehub: str, workers: int = 2
) -> Iterator[SwarmOfNodes]:
    """Start a Swarm of several machines; end it and keep what its machines have pulled.

    Args:
        state: folder of its machines.
        registry: folder of a private Swarm's registry; each machine serves itself from it.
        storagehub: the host's address that containers reach.
        workers: how many besides the manager.
    """
    nodes = SwarmOfNodes(state, workers)
    with ExitStack() as stack:
        for machine in nodes.machines:
            stack.callback(machine.stop)
        try:
            nodes.switch_on(registry)
        except LocalSwarmError as error:
            if not any(words in str(error) for words in _FORBIDDEN):
                raise
            pytest.skip(f"no Swarm of several machines here: {error}")
        nodes.found(storagehub)
        yield nodes


def wait_until(question: Callable[[], bool], timeout: float = _PATIENCE) -> float:
    """Wait until something is so; return how many seconds it took."""
    start = time.monotonic()
    while not question():
        assert time.monotonic() - start < timeout, f"not so within {timeout:g} seconds"
        time.sleep(0.1)
    return time.monotonic() - start


def _switch_on(machine: LocalSwarm, registry: Path) -> None:
    """Start an engine without a Swarm and without anything that a killed test run has left."""
    machine.stop()
    machine.engine.forget_swarm()
    link = machine.state / "registry"
    link.unlink(missing_ok=True)
    link.symlink_to(registry)
    machine.start()
    machine.engine.clear()
    machine.engine.docker("swarm", "leave", "--force")


def _ip(machine: LocalSwarm, words: str) -> None:
    run(*machine._network.enter(), "ip", *words.split())
