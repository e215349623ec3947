"""The whole stand-in: what tests start, ask and break."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from stand_in_engine.api import Answer, Api, Request, answer
from stand_in_engine.cluster import Cluster, End, Start
from stand_in_engine.door import Door
from stand_in_engine.filters import Filters
from stand_in_engine.service import JOB_LABEL

#: What ``POST /_faults`` may name.
_FAULTS = (
    "away",
    "back",
    "lose_next_answer",
    "delay",
    "restart",
    "lose_node",
    "node_returns",
    "hold_pending",
    "release_pending",
    "lose_registry",
    "registry_returns",
)


class SeenService(NamedTuple):
    """A service that exists."""

    job_id: str
    service_id: str
    name: str
    is_started: bool


class StandInEngine:
    """A stand-in for a Docker engine that is a Swarm of one node; runs as a context manager.

    Args:
        socket_path: where it listens; ``<socket_path>.control`` answers even while it is away.
        start_delay: seconds between a task's assignment and its container's start.
        poll: seconds until the orchestrator, or the node, does what it is to do.
    """

    def __init__(
        self, socket_path: Path, *, start_delay: float = 0.005, poll: float = 0.002
    ) -> None:
        self.socket_path = socket_path
        self._cluster = Cluster(start_delay, poll)
        self._api = Api(self._cluster)
        self._calls = itertools.count()
        self._door = Door(socket_path, self._respond)
        control = socket_path.with_name(f"{socket_path.name}.control")
        self._control = Door(control, self._respond_to_tests)

    @property
    def docker_host(self) -> str:
        """Its address."""
        return f"unix://{self.socket_path}"

    def start(self) -> None:
        """Listen."""
        self._cluster.start()
        self._door.open()
        self._control.open()

    def stop(self) -> None:
        """End, and forget all."""
        self._control.close()
        self._door.close()
        self._cluster.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    # -- history

    @property
    def starts(self) -> list[Start]:
        """Every container that was ever started, in order."""
        return self._cluster.starts

    @property
    def ends(self) -> list[End]:
        """How every container ended that has, in order."""
        return self._cluster.ends

    def alive(self) -> list[Start]:
        """The containers that run now."""
        return self._cluster.alive()

    def services(self) -> list[SeenService]:
        """The services that exist now."""
        return [
            SeenService(each.labels.get(JOB_LABEL, ""), each.id, each.name, each.replicas > 0)
            for each in self._cluster.all_services()
        ]

    def secrets(self) -> list[str]:
        """The names of the secrets that exist now."""
        return [secret.name for secret in self._cluster.secrets(Filters({}))]

    def let_end(self, job_id: str) -> None:
        """Let a job's program, which waits for its time to be over, wait no longer.

        Raises:
            LookupError: the job has no container that runs.
        """
        self._cluster.let_end(job_id)

    # -- faults

    def away(self, *, silent: bool = False) -> None:
        """Refuse connections; or take them, and requests, and say nothing. All containers go on.

        Args:
            silent: which of the two.
        """
        if silent:
            self._door.fall_silent()
        else:
            self._door.close()

    def back(self) -> None:
        """Answer again. What was asked in silence is not carried out."""
        self._door.open()

    def lose_next_answer(self, method: str, path_prefix: str) -> None:
        """Carry the next such request out and close its connection without an answer.

        Args:
            method: of HTTP.
            path_prefix: how its path begins, without the API's version.
        """
        self._door.lose_next_answer(method, path_prefix)

    def delay(self, seconds: float) -> None:
        """Keep each answer back for a while; what it is about is done at once."""
        self._door.delay(seconds)

    def restart(self, *, kill_containers: bool = True, in_order: bool = False) -> None:
        """Break all connections and do to the containers what a restart does.

        Args:
            kill_containers: let all containers that run be stopped, as an engine does that was killed
                and is back; otherwise only the connections are broken.
            in_order: the engine stopped them itself before: ``No such container``.
        """
        self._door.break_connections()
        self._cluster.restart(kill_containers=kill_containers, in_order=in_order)

    def lose_node(self) -> None:
        """Let the node be away: its containers go on, its tasks are given up and said to run."""
        self._cluster.lose_node()

    def node_returns(self) -> None:
        """Let the node be back: it stops what was given up."""
        self._cluster.node_returns()

    def hold_pending(self) -> None:
        """Let no node fit: new tasks are pending."""
        self._cluster.hold_pending()

    def release_pending(self) -> None:
        """Let the pending tasks start."""
        self._cluster.release_pending()

    def lose_registry(self, error: str = "") -> None:
        """Let the node fetch no image; tasks are refused in the same words whatever the reason is.

        Args:
            error: what whoever asks the registry through the engine is told; empty: what is true.
        """
        self._cluster.lose_registry(error)

    def registry_returns(self) -> None:
        """Let images be fetched again."""
        self._cluster.registry_returns()

    # -- over HTTP

    def _respond(self, request: Request) -> Answer:
        if request.path.startswith("/_") and request.path != "/_ping":
            return self._respond_to_tests(request)
        next(self._calls)
        return self._api.answer(request)

    def _respond_to_tests(self, request: Request) -> Answer:
        if (request.method, request.path) == ("GET", "/_history"):
            return answer(200, self._history())
        if (request.method, request.path) == ("POST", "/_faults"):
            return self._break(**request.json())
        return answer(404, {"message": "page not found"})

    def _history(self) -> dict[str, object]:
        return {
            "calls": int(repr(self._calls)[6:-1]),
            "starts": [start._asdict() for start in self.starts],
            "alive": [start._asdict() for start in self.alive()],
            "services": [service._asdict() for service in self.services()],
        }

    def _break(self, fault: str = "", **arguments: object) -> Answer:
        """Call one of the methods for faults."""
        if fault not in _FAULTS:
            return answer(400, {"message": f"no fault {fault!r}; there are {', '.join(_FAULTS)}"})
        try:
            getattr(self, fault)(**arguments)
        except TypeError as error:
            return answer(400, {"message": str(error)})
        return answer(200, {})
