"""One task and its container."""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from stand_in_engine.program import Program
from stand_in_engine.service import JOB_LABEL, Service, new_id, stamp

NODE_ID = "standin0000000000000node1"
#: States that a task leaves no more.
FINAL = ("complete", "failed", "rejected", "shutdown")
#: Desired states of a task that is to end.
CONDEMNED = ("shutdown", "remove")

_NEVER = "0001-01-01T00:00:00Z"


@dataclasses.dataclass(eq=False)
class Container:
    """A simulated container."""

    program: Program
    started_at: datetime
    id: str = dataclasses.field(default_factory=lambda: secrets.token_hex(32))
    finished_at: datetime | None = None
    exit_code: int = 0
    oom_killed: bool = False
    #: The engine has told it to end.
    stopped: bool = False
    #: It has written what it is to write, and waits for its end.
    is_waiting: bool = False
    #: A test lets it end before its time.
    may_end: bool = False

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.finished_at is None

    def end(self, exit_code: int) -> None:
        """Let it have ended now."""
        self.exit_code = exit_code
        self.finished_at = datetime.now(UTC)

    def log(self) -> Iterator[tuple[int, str]]:
        """What it has written: number of the stream and line."""
        yield from ((1, f"{line}\n") for line in self.program.stdout())
        if self.program.stderr:
            yield 2, f"{self.program.stderr}\n"

    def listed(self, *, with_size: bool) -> str:
        """As ``docker ps`` tells it."""
        fields = {"Id": self.id, "Labels": {}, "State": "running", "Mounts": []}
        return json.dumps(fields | self._size(with_size=with_size))

    def _size(self, *, with_size: bool) -> dict[str, int]:
        written = self.program.disk
        sizes = ({"SizeRw": written} if written else {}) | {"SizeRootFs": written + 2**20}
        return sizes if with_size else {}

    def json(self, *, with_size: bool = False) -> str:
        """As ``docker inspect`` tells it."""
        state = {
            "Status": "running" if self.is_running else "exited",
            "Running": self.is_running,
            "Paused": False,
            "Restarting": False,
            "OOMKilled": self.oom_killed,
            "Dead": False,
            "Pid": 4242 if self.is_running else 0,
            "ExitCode": self.exit_code,
            "Error": "",
            "StartedAt": stamp(self.started_at),
            "FinishedAt": stamp(self.finished_at) if self.finished_at else _NEVER,
        }
        configuration = {"StopTimeout": 10}
        fields = {"Id": self.id, "State": state, "Config": configuration}
        return json.dumps(fields | self._size(with_size=with_size))


class Task:
    """One task. Its JSON is kept until it changes, because lists of all tasks are asked for often.

    Args:
        service: that it belongs to, even when that is removed.
        slot: its number in the service.
        version: of the whole Swarm.
    """

    def __init__(self, service: Service, slot: int, version: int) -> None:
        self.id = new_id()
        self.service = service
        self.template = service.template
        self.slot = slot
        self.container: Container | None = None
        self.on_node = False
        #: Its service was changed since, so that it is to be replaced.
        self.template_is_old = False
        self.state = "new"
        self.desired = "running"
        self.created_at = datetime.now(UTC)
        self._message = "created"
        self._err = ""
        self._exit_code = 0
        self._version = version
        self._changed_at = self.created_at
        self._json: str | None = None

    @property
    def job_id(self) -> str:
        """The job whose container it is."""
        labels = self.template["ContainerSpec"].get("Labels") or {}
        return str(labels.get(JOB_LABEL, ""))

    @property
    def args(self) -> Sequence[str]:
        """What the container gets."""
        return self.template["ContainerSpec"].get("Args") or []

    @property
    def is_condemned(self) -> bool:
        """Whether it is to end."""
        return self.desired in CONDEMNED

    @property
    def is_running(self) -> bool:
        """Whether its container runs, whatever the Swarm knows."""
        return self.container is not None and self.container.is_running

    @property
    def environment(self) -> dict[str, str]:
        """The container's environment."""
        pairs = self.template["ContainerSpec"].get("Env") or []
        return dict(pair.split("=", 1) for pair in pairs)

    @property
    def grace(self) -> float:
        """Seconds between SIGTERM and SIGKILL."""
        return float(self.template["ContainerSpec"].get("StopGracePeriod", 10**10)) / 1e9

    @property
    def memory_limit(self) -> int | None:
        """Bytes of memory that its container may have, or None."""
        limits = (self.template.get("Resources") or {}).get("Limits") or {}
        return limits.get("MemoryBytes")

    def become(
        self, state: str, message: str, version: int, *, err: str = "", exit_code: int = 0
    ) -> None:
        """Change the state, with the engine's words for why."""
        self.state, self._message, self._err, self._exit_code = state, message, err, exit_code
        self._changed_at = datetime.now(UTC)
        self._version, self._json = version, None

    def want(self, desired: str, version: int) -> None:
        """Change the desired state; a task that is to be removed stays that."""
        if self.desired != "remove":
            self.desired, self._version, self._json = desired, version, None

    @property
    def json(self) -> str:
        """As the engine tells it."""
        if self._json is None:
            self._json = json.dumps(self._fields())
        return self._json

    def _fields(self) -> dict[str, Any]:
        template = {name: value for name, value in self.template.items() if name != "Runtime"}
        node = {"NodeID": NODE_ID} if self.on_node else {}
        return {
            "ID": self.id,
            "Version": {"Index": self._version},
            "CreatedAt": stamp(self.created_at),
            "UpdatedAt": stamp(self._changed_at),
            "Labels": {},
            "Spec": template,
            "ServiceID": self.service.id,
            "Slot": self.slot,
            **node,
            "Status": self._status(),
            "DesiredState": self.desired,
        }

    def _status(self) -> dict[str, Any]:
        status: dict[str, Any] = {
            "Timestamp": stamp(self._changed_at),
            "State": self.state,
            "Message": self._message,
        }
        if self._err:
            status["Err"] = self._err
        if self.container or self.state == "rejected":
            status["ContainerStatus"] = {
                "ContainerID": self.container.id if self.container else "",
                "PID": 4242 if self.state == "running" else 0,
                "ExitCode": self._exit_code,
            }
        return status | {"PortStatus": {}}
