"""One service, and what makes its spec impossible."""

from __future__ import annotations

import dataclasses
import json
import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from stand_in_engine import image

JOB_LABEL = "die.job"
#: Networks that every engine has.
NETWORKS = ("bridge", "host", "none")

_NAME = re.compile(r"[a-zA-Z0-9](?:[-_]*[A-Za-z0-9]+)*")
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


class Refused(Exception):
    """The engine does not do what it is asked.

    Args:
        status: of HTTP.
        message: in the engine's words.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def new_id() -> str:
    """An id as Swarm's: 25 letters and digits."""
    return "".join(secrets.choice(_DIGITS) for _ in range(25))


def stamp(moment: datetime) -> str:
    """A time as the engine writes it, in nanoseconds."""
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}000Z"


@dataclasses.dataclass(eq=False)
class Service:
    """One service; its spec is as it was received, with what the engine adds to it."""

    spec: dict[str, Any]
    version: int
    id: str = dataclasses.field(default_factory=new_id)
    previous: dict[str, Any] | None = None
    created_at: datetime = dataclasses.field(default_factory=lambda: datetime.now(UTC))
    updated_at: datetime = dataclasses.field(default_factory=lambda: datetime.now(UTC))

    @property
    def name(self) -> str:
        """Its unique name."""
        return str(self.spec["Name"])

    @property
    def labels(self) -> Mapping[str, str]:
        """Its own labels, which lists of services and tasks are filtered by."""
        return self.spec.get("Labels") or {}

    @property
    def template(self) -> dict[str, Any]:
        """What its tasks are like."""
        template: dict[str, Any] = self.spec["TaskTemplate"]
        return template

    @property
    def replicas(self) -> int:
        """How many tasks it is to have."""
        replicated = (self.spec.get("Mode") or {}).get("Replicated") or {}
        return int(replicated.get("Replicas", 1))

    def change(self, spec: dict[str, Any], version: int) -> None:
        """Take another spec."""
        self.previous, self.spec = self.spec, completed(spec)
        self.version = version
        self.updated_at = datetime.now(UTC)

    @property
    def json(self) -> str:
        """As the engine tells it."""
        previous = {"PreviousSpec": self.previous} if self.previous else {}
        return json.dumps(
            {
                "ID": self.id,
                "Version": {"Index": self.version},
                "CreatedAt": stamp(self.created_at),
                "UpdatedAt": stamp(self.updated_at),
                "Spec": self.spec,
                **previous,
                "Endpoint": {"Spec": {}},
            }
        )


def completed(spec: dict[str, Any]) -> dict[str, Any]:
    """The spec with what the engine adds to a task's template.

    Raises:
        Refused: there cannot be such a service.
    """
    _check(spec)
    return spec | {
        "TaskTemplate": {"ForceUpdate": 0, "Runtime": "container"} | spec["TaskTemplate"]
    }


def _check(spec: dict[str, Any]) -> None:
    template = spec.get("TaskTemplate") or {}
    if not template.get("ContainerSpec"):
        raise Refused(400, "mismatched Runtime and *Spec fields")
    for network in template.get("Networks") or []:
        if network["Target"] not in NETWORKS:
            raise Refused(500, f"network {network['Target']} not found")
    name, wanted = str(spec.get("Name", "")), str(template["ContainerSpec"].get("Image", ""))
    if not _NAME.fullmatch(name):
        raise _invalid("name must be valid as a DNS name component")
    if len(name) > 63:
        raise _invalid("name must be 63 characters or fewer")
    if not image.is_reference(wanted):
        raise _invalid(f'ContainerSpec: "{wanted}" is not a valid repository/tag')


def _invalid(text: str) -> Refused:
    return Refused(400, f"rpc error: code = InvalidArgument desc = {text}")
