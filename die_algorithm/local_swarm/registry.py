"""The registry of a private Swarm, which stands in for Docker Hub."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

from die_algorithm.errors import LocalSwarmError
from die_algorithm.local_swarm.command import log_tail
from die_algorithm.local_swarm.enclosure import Enclosure
from die_algorithm.local_swarm.network import Network

_PROGRAM = "docker-registry"
#: TCP.
PORT = 5000
_START_TIMEOUT = 30.0


class Registry:
    """Debian's ``docker-registry``: the engine and the host reach it, no container does.

    Args:
        enclosure: where it runs.
        network: whose addresses it listens on.
        state: folder of its images, its configuration and its log.
    """

    #: As the engine sees it. Engines accept 127.0.0.0/8 without TLS.
    ADDRESS = f"127.0.0.1:{PORT}"

    def __init__(self, enclosure: Enclosure, network: Network, state: Path) -> None:
        self._enclosure = enclosure
        self._network = network
        self._state = state
        self._log = state / "registry.log"

    def start(self) -> None:
        """Start it, unless it runs, and wait until it accepts connections.

        Raises:
            LocalSwarmError: it does not come up; holds the end of its log.
        """
        if self._enclosure.listens(PORT):
            return
        self.stop()
        self._network.keep_from_containers(PORT)
        configuration = self._state / "registry.json"
        configuration.write_text(json.dumps(self._configuration()))
        self._enclosure.spawn(_PROGRAM, "serve", str(configuration), log=self._log)
        deadline = time.monotonic() + _START_TIMEOUT
        while not self._enclosure.listens(PORT):
            if time.monotonic() > deadline:
                raise LocalSwarmError(f"The registry does not start:\n{log_tail(self._log)}")
            time.sleep(0.01)

    def stop(self) -> None:
        """End it; the engine then finds no registry at all, as in an outage of Docker Hub."""
        self._enclosure.signal(_PROGRAM, signal.SIGKILL, _START_TIMEOUT)

    def _configuration(self) -> dict[str, object]:
        """Return its settings; JSON is YAML, which it reads."""
        return {
            "version": "0.1",
            "log": {"level": "warn"},
            "storage": {
                "filesystem": {"rootdirectory": str(self._state / "registry")},
                "delete": {"enabled": True},
            },
            "http": {"addr": f"0.0.0.0:{PORT}"},  # kept from containers by the packet filter
        }
