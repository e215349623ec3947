"""The engine's paths and JSON."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from stand_in_engine import image
from stand_in_engine.cluster import Cluster
from stand_in_engine.filters import Filters
from stand_in_engine.service import NETWORKS, Refused, stamp
from stand_in_engine.task import NODE_ID

API_VERSION = "1.41"
VERSION = "20.10.24-stand-in"
CPUS, MEMORY = 2, 16 * 2**30

_VERSIONED = re.compile(r"/v(\d+)\.(\d+)(?=/)")


@dataclasses.dataclass(frozen=True)
class Request:
    """One request."""

    method: str
    #: Without a version, and decoded.
    path: str
    query: Mapping[str, str]
    body: bytes

    @classmethod
    def parse(cls, method: str, target: str, body: bytes) -> Request:
        """Read a request line's target.

        Raises:
            Refused: the version of the API is too new.
        """
        parts = urlsplit(target)
        path, version = unquote(parts.path), _VERSIONED.match(parts.path)
        if version:
            _check_version(int(version[1]), int(version[2]))
            path = path[version.end() :]
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        return cls(method, path, query, body)

    def json(self) -> dict[str, Any]:
        """The body.

        Raises:
            Refused: it is no JSON object.
        """
        try:
            value = json.loads(self.body)
        except ValueError:
            raise Refused(400, "invalid character looking for beginning of value") from None
        if not isinstance(value, dict):
            raise Refused(400, "json: cannot unmarshal into Go value of type swarm.ServiceSpec")
        return value


@dataclasses.dataclass(frozen=True)
class Answer:
    """What is sent back."""

    status: int
    body: bytes = b""
    content_type: str | None = "application/json"
    chunked: bool = False


def answer(status: int, value: object) -> Answer:
    """An answer of JSON."""
    return Answer(status, json.dumps(value).encode() + b"\n")


def refusal(error: Refused) -> Answer:
    """An answer that says why not."""
    return answer(error.status, {"message": error.message})


class Api:
    """Answers requests.

    Args:
        cluster: what they are about.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._routes: list[tuple[str, re.Pattern[str], Callable[..., Answer]]] = [
            (method, re.compile(pattern), action)
            for method, pattern, action in (
                ("GET", "/_ping", lambda _: Answer(200, b"OK", "text/plain; charset=utf-8")),
                ("GET", "/version", lambda _: answer(200, _version())),
                ("GET", "/info", self._info),
                ("GET", "/nodes", self._nodes),
                ("GET", "/nodes/([^/]+)", self._node_of_id),
                ("GET", "/distribution/(.+)/json", self._distribution),
                ("POST", "/services/create", self._create),
                ("GET", "/services", self._services),
                ("GET", "/services/([^/]+)", self._service),
                ("POST", "/services/([^/]+)/update", self._update),
                ("DELETE", "/services/([^/]+)", self._remove),
                ("GET", "/services/([^/]+)/logs", self._logs),
                ("POST", "/secrets/create", self._create_secret),
                ("GET", "/secrets", self._secrets),
                ("GET", "/secrets/([^/]+)", self._secret),
                ("DELETE", "/secrets/([^/]+)", self._remove_secret),
                ("GET", "/tasks", self._tasks),
                ("GET", "/containers/json", self._containers),
                ("GET", "/containers/([^/]+)/json", self._container),
                ("GET", "/system/df", lambda _: answer(200, {"LayersSize": 0, "Volumes": []})),
                ("GET", "/networks/([^/]+)", self._network),
            )
        ]

    def answer(self, request: Request) -> Answer:
        """Carry a request out."""
        for method, pattern, action in self._routes:
            if method == request.method and (found := pattern.fullmatch(request.path)):
                try:
                    return action(request, *found.groups())
                except Refused as error:
                    return refusal(error)
        return answer(404, {"message": "page not found"})

    def _info(self, _: Request) -> Answer:
        swarm = {
            "NodeID": NODE_ID,
            "LocalNodeState": "active",
            "ControlAvailable": True,
            "Error": "",
            "Nodes": 1,
            "Managers": 1,
        }
        facts = {
            "Name": "stand-in",
            "ServerVersion": VERSION,
            "NCPU": CPUS,
            "MemTotal": MEMORY,
            "MemoryLimit": True,
            "SwapLimit": True,
            "PidsLimit": True,
            "CpuCfsQuota": True,
            "InitCommit": {"ID": "", "Expected": ""},
            "SecurityOptions": ["name=seccomp,profile=default"],
            "OSType": "linux",
            "Architecture": "x86_64",
        }
        return answer(200, facts | {"Swarm": swarm})

    def _nodes(self, _: Request) -> Answer:
        return answer(200, [self._node()])

    def _node_of_id(self, _: Request, node_id: str) -> Answer:
        if node_id != NODE_ID:
            raise Refused(404, f"node {node_id} not found")
        return answer(200, self._node())

    def _node(self) -> dict[str, object]:
        joined = self._cluster.started_at.isoformat()
        return {
            "ID": NODE_ID,
            "CreatedAt": joined,
            "UpdatedAt": joined,
            "Version": {"Index": 9},
            "Spec": {"Labels": {}, "Role": "manager", "Availability": "active"},
            "Description": {
                "Hostname": "stand-in",
                "Platform": {"Architecture": "x86_64", "OS": "linux"},
                "Resources": {"NanoCPUs": CPUS * 10**9, "MemoryBytes": MEMORY},
                "Engine": {"EngineVersion": VERSION},
            },
            "Status": {
                "State": "down" if self._cluster.is_node_lost else "ready",
                "Addr": "0.0.0.0",
            },
            "ManagerStatus": {
                "Leader": True,
                "Reachability": "reachable",
                "Addr": "127.0.0.1:2377",
            },
        }

    def _distribution(self, _: Request, name: str) -> Answer:
        if error := self._cluster.registry_error:
            raise Refused(500, error)
        if (digest := image.digest_of(name)) is None:
            raise Refused(404, "manifest unknown: manifest unknown")
        kind = "application/vnd.docker.distribution.manifest.v2+json"
        descriptor = {"mediaType": kind, "digest": digest, "size": 1564}
        platforms = [{"architecture": "amd64", "os": "linux"}]
        return answer(200, {"Descriptor": descriptor, "Platforms": platforms})

    def _create(self, request: Request) -> Answer:
        return answer(201, {"ID": self._cluster.create(request.json()).id})

    def _services(self, request: Request) -> Answer:
        filters = Filters.of_services(request.query.get("filters", ""))
        return _list(self._cluster.services(filters))

    def _service(self, _: Request, name: str) -> Answer:
        return Answer(200, self._cluster.service(name).json.encode())

    def _update(self, request: Request, name: str) -> Answer:
        version = request.query.get("version", "")
        if not version.isdigit():
            raise Refused(
                400,
                f"invalid service version '{version}': strconv.ParseUint: parsing \"{version}\": "
                "invalid syntax",
            )
        self._cluster.update(name, int(version), request.json())
        return answer(200, {"Warnings": None})

    def _remove(self, _: Request, name: str) -> Answer:
        self._cluster.remove(name)
        return Answer(200, content_type=None)

    def _logs(self, request: Request, name: str) -> Answer:
        wanted = {n for n, stream in ((1, "stdout"), (2, "stderr")) if _is_true(request, stream)}
        if not wanted:
            raise Refused(500, "Bad parameters: you must choose at least one stream")
        lines = [line for line in self._cluster.log(name) if line[0] in wanted | {3}]
        tail = request.query.get("tail", "all")
        if tail.isdigit():
            lines = lines[max(len(lines) - int(tail), 0) :]
        frames = b"".join(_frame(stream, line.encode()) for stream, line in lines)
        return Answer(200, frames, content_type=None, chunked=True)

    def _create_secret(self, request: Request) -> Answer:
        return answer(201, {"ID": self._cluster.create_secret(request.json()).id})

    def _secrets(self, request: Request) -> Answer:
        filters = Filters.of_secrets(request.query.get("filters", ""))
        return _list([each.json for each in self._cluster.secrets(filters)])

    def _secret(self, _: Request, name: str) -> Answer:
        return Answer(200, self._cluster.secret(name).json.encode())

    def _remove_secret(self, _: Request, name: str) -> Answer:
        self._cluster.remove_secret(name)
        return Answer(204, content_type=None)

    def _tasks(self, request: Request) -> Answer:
        filters = Filters.of_tasks(request.query.get("filters", ""))
        return _list(self._cluster.tasks(filters))

    def _containers(self, request: Request) -> Answer:
        filters = Filters.of_containers(request.query.get("filters", ""))
        return _list(self._cluster.containers(filters, with_size=_is_true(request, "size")))

    def _container(self, request: Request, container_id: str) -> Answer:
        container = self._cluster.container(container_id)
        return Answer(200, container.json(with_size=_is_true(request, "size")).encode())

    def _network(self, _: Request, name: str) -> Answer:
        if name not in NETWORKS:
            raise Refused(404, f"network {name} not found")
        created = stamp(self._cluster.started_at)
        facts = {"Name": name, "Created": created, "Scope": "local", "Ingress": False}
        return answer(200, facts)


def _check_version(major: int, minor: int) -> None:
    if (major, minor) > tuple(map(int, API_VERSION.split("."))):
        raise Refused(
            400,
            f"client version {major}.{minor} is too new. Maximum supported API version is "
            f"{API_VERSION}",
        )


def _version() -> dict[str, object]:
    return {
        "Components": [
            {"Name": "Engine", "Version": VERSION},
            {"Name": "containerd", "Version": "1.6.20"},
            {"Name": "runc", "Version": "1.1.5"},
        ],
        "Version": VERSION,
        "ApiVersion": API_VERSION,
        "MinAPIVersion": "1.12",
        "Os": "linux",
        "Arch": "amd64",
    }


def _list(items: list[str]) -> Answer:
    return Answer(200, f"[{','.join(items)}]\n".encode())


def _is_true(request: Request, name: str) -> bool:
    return request.query.get(name, "").lower() in ("1", "true", "yes")


def _frame(stream: int, payload: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(payload).to_bytes(4, "big") + payload
