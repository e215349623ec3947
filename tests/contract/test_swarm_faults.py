"""The Swarm adapter against an engine that misbehaves: a scripted server on a Unix socket."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import inspect
import json
import logging
import re
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import docker.errors
import pytest
import requests.exceptions
import urllib3.exceptions
from jobs_fixture import TOKEN
from raw_server import RawServer
from raw_server import http as http_answer

from die_algorithm.errors import (
    ImageNotFound,
    ImageUnusable,
    NotASwarm,
    RegistryUnavailable,
    ServiceGone,
    ServiceRefused,
    SwarmError,
    SwarmUnavailable,
)
from die_algorithm.image_reference import ImageReference
from die_algorithm.models import JobService, TaskPhase, TaskReport
from die_algorithm.swarm import Swarm
from die_algorithm.swarm.calls import _mapped

IMAGE = ImageReference.parse("u/r")
DIGEST = "sha256:" + "a" * 64
VERSION = {"Version": "28.0.0", "ApiVersion": "1.48", "Os": "linux", "Arch": "amd64"}
SPEC = {
    "Name": "die-1",
    "Labels": {"die.job": "1"},
    "TaskTemplate": {"ContainerSpec": {"Args": ["run", TOKEN, "item", "folder"]}},
}

ENDED = TaskReport(
    job_id="1",
    service_id="s",
    phase=TaskPhase.FAILED,
    state="failed",
    desired_state="shutdown",
    message="",
    exit_code=255,
    container_id="c",
    node_id="n",
    created_at=datetime(2026, 1, 1, 8, 30, tzinfo=UTC),
    told_at=datetime(2026, 1, 1, 10, 0, 20, tzinfo=UTC),
)

#: What an engine must tell of itself.
INFO = {"NCPU": 2, "MemTotal": 100, "Swarm": {}}

#: A whole answer, or what to do with the connection.
Answer = bytes | Callable[[socket.socket], None]


def answer(status: int, body: object = None) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status} x\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    return head.encode() + content


class ScriptedEngine:
    """Answers each request by the first pattern that its method and path match."""

    def __init__(self, path: Path) -> None:
        self.address = f"unix://{path}"
        self.answers: dict[str, Answer] = {r"GET (/v1.48)?/version ": answer(200, VERSION)}
        self.requests: list[str] = []
        self.bodies: list[bytes] = []
        self.release = threading.Event()
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(16)
        self._acceptor = threading.Thread(target=self._accept)
        self._acceptor.start()

    def close(self) -> None:
        self.release.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def hang(self, connection: socket.socket) -> None:
        """Take the request and say nothing."""
        assert connection
        self.release.wait()

    def drip(self, connection: socket.socket) -> None:
        """Send a log without end, a byte now and then."""
        connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        connection.sendall(b"\x01\0\0\0\x00\xff\xff\xff")
        while not self.release.wait(0.05):
            connection.sendall(b"x")

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,))
            thread.start()
            self._threads.append(thread)

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            request = b""
            while b"\r\n\r\n" not in request:
                part = connection.recv(65536)
                if not part:
                    return
                request += part
            line = request.partition(b"\r\n")[0].decode()
            self.requests.append(line)
            self.bodies.append(_body(connection, request))
            for pattern, reply in self.answers.items():
                if re.match(pattern, line):
                    if callable(reply):
                        reply(connection)
                    else:
                        connection.sendall(reply)
                    return
            connection.sendall(answer(404, {"message": "not scripted"}))


def _body(connection: socket.socket, request: bytes) -> bytes:
    """The whole body of a request whose head has arrived."""
    head, _, body = request.partition(b"\r\n\r\n")
    found = re.search(rb"(?i)content-length: (\d+)", head)
    while found and len(body) < int(found[1]) and (part := connection.recv(65536)):
        body += part
    return body


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[ScriptedEngine]:
    engine = ScriptedEngine(tmp_path / "s")
    yield engine
    engine.close()


@pytest.fixture
def swarm(engine: ScriptedEngine) -> Iterator[Swarm]:
    swarm = Swarm(engine.address, timeout=0.5)
    yield swarm
    swarm.close()


CALLS: dict[str, Callable[[Swarm], object]] = {
    "facts": Swarm.facts,
    "resolve_digest": lambda swarm: swarm.resolve_digest(IMAGE),
    "create_service": lambda swarm: swarm.create_service(SPEC),
    "start_service": lambda swarm: swarm.start_service("s1"),
    "task_reports": Swarm.task_reports,
    "job_services": Swarm.job_services,
    "oom_killed": lambda swarm: swarm.oom_killed("c"),
    "cut_off": lambda swarm: swarm.cut_off(ENDED),
    "remove_service": lambda swarm: swarm.remove_service("die-1"),
}
#: What jobs can end without (test_swarm_proxy).
WITHHELD = ("cut_off", "oom_killed")
AWAY = (SwarmUnavailable, RegistryUnavailable)


def cut(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n[{")


def cut_chunk(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n[{")


def reset(connection: socket.socket) -> None:
    connection.close()


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(
    "misbehaviour",
    [
        answer(500, {"message": "The swarm does not have a leader."}),
        answer(502, b"<html>bad gateway</html>"),
        answer(503, {"message": "busy"}),
        answer(301, {"message": "elsewhere"}),
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"",
        cut,
        cut_chunk,
        reset,
    ],
    ids=["leader", "502", "503", "301", "ssh", "empty", "cut", "chunk", "reset"],
)
def test_an_engine_that_answers_badly_may_come_back(
    engine: ScriptedEngine, swarm: Swarm, call: Callable[[Swarm], object], misbehaviour: Answer
) -> None:
    engine.answers = {**engine.answers, ".*": misbehaviour}
    with pytest.raises(AWAY):
        call(swarm)


@pytest.mark.parametrize("body", [b"{nonsense", b"null", b"[1, 2]", b'{"Spec": []}', b"\xff\xfe"])
@pytest.mark.parametrize("call", [CALLS[name] for name in CALLS if name != "remove_service"])
def test_an_answer_that_cannot_be_read_is_an_outage(
    engine: ScriptedEngine, swarm: Swarm, call: Callable[[Swarm], object], body: bytes
) -> None:
    engine.answers = {**engine.answers, ".*": answer(200, body)}
    with pytest.raises(AWAY):
        call(swarm)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_no_call_waits_longer_than_its_time_out(
    engine: ScriptedEngine, swarm: Swarm, call: Callable[[Swarm], object]
) -> None:
    engine.answers = {**engine.answers, ".*": engine.hang}
    start = time.monotonic()
    with pytest.raises(AWAY, match="in time"):
        call(swarm)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("name", ["nowhere", "file"])
def test_an_engine_that_is_not_there_may_come_back(
    tmp_path: Path, call: Callable[[Swarm], object], name: str
) -> None:
    (tmp_path / "file").touch()
    swarm = Swarm(f"unix://{tmp_path / name}")
    with pytest.raises(SwarmUnavailable, match=r"No such file|Connection refused") as caught:
        call(swarm)
    assert str(tmp_path) not in str(caught.value)
    swarm.close()


@pytest.mark.parametrize("address", ["nonsense://x", "tcp://", "tcp://h:99999999", "fd://x"])
def test_an_address_that_is_none_is_an_outage_too(address: str) -> None:
    swarm = Swarm(address, timeout=0.2)
    with pytest.raises(SwarmUnavailable):
        swarm.facts()
    swarm.close()


def test_an_engine_that_comes_back_as_another_version_is_spoken_to_in_that(
    engine: ScriptedEngine, swarm: Swarm
) -> None:
    engine.answers["GET /v1.48/tasks"] = answer(200, [])
    assert swarm.task_reports() == []
    engine.answers = {"GET /version ": answer(200, {**VERSION, "ApiVersion": "1.52"})}
    engine.answers["GET /v1.48/tasks"] = b""
    engine.answers["GET /v1.52/tasks"] = answer(200, [])
    with pytest.raises(SwarmUnavailable):
        swarm.task_reports()
    assert swarm.task_reports() == []


@pytest.mark.parametrize(
    "words",
    [
        "client version 1.48 is too new. Maximum supported API version is 1.47",
        "client version 1.48 is too old. Minimum supported API version is 1.49, please upgrade "
        "your client to a newer version",
    ],
)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_an_engine_that_no_longer_takes_the_old_version_is_asked_for_its_own(
    engine: ScriptedEngine, swarm: Swarm, call: Callable[[Swarm], object], words: str
) -> None:
    engine.answers["GET /v1.48/tasks"] = answer(200, [])
    assert swarm.task_reports() == []
    engine.answers = {
        "GET /version ": answer(200, {**VERSION, "ApiVersion": "1.47"}),
        r"\w+ /v1.48/": answer(400, {"message": words}),
        "GET /v1.47/tasks": answer(200, []),
    }
    with pytest.raises(SwarmUnavailable, match="another version"):
        call(swarm)
    assert swarm.task_reports() == []


def test_a_log_is_had_from_an_engine_that_has_come_back_as_another_version(
    engine: ScriptedEngine, swarm: Swarm
) -> None:
    engine.answers["GET /v1.48/tasks"] = answer(200, [])
    assert swarm.task_reports() == []
    engine.answers = {
        "GET /version ": answer(200, {**VERSION, "ApiVersion": "1.47"}),
        "GET /v1.48/": answer(400, {"message": "client version 1.48 is too new."}),
        "GET /v1.47/services/s/logs": answer(200, frame(b"out\n")),
    }
    assert swarm.log_tail("s", limit=100, timeout=10) == b"out\n"


@pytest.mark.parametrize("name", [name for name in CALLS if name not in ("facts", *WITHHELD)])
@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_stands_before_the_engine_and_refuses_is_an_outage_and_no_answer(
    engine: ScriptedEngine, swarm: Swarm, name: str, status: int
) -> None:
    """A proxy of the socket says by such a page that it does not let a call pass."""
    engine.answers[".*"] = answer(
        status, b"<html><h1>Forbidden</h1> by administrative rules</html>"
    )
    with pytest.raises(SwarmUnavailable):
        CALLS[name](swarm)


@pytest.mark.parametrize("name", WITHHELD)
@pytest.mark.parametrize("status", [401, 403, 404, 405])
def test_of_what_a_proxy_lets_nobody_ask_nothing_is_known(
    engine: ScriptedEngine, swarm: Swarm, name: str, status: int
) -> None:
    engine.answers[".*"] = answer(status, b"<html><h1>Forbidden</h1></html>")
    assert CALLS[name](swarm) is None


@pytest.mark.parametrize("name", [name for name in CALLS if name != "facts"])
def test_an_engine_outside_a_swarm_is_told_from_one_that_is_away(
    engine: ScriptedEngine, swarm: Swarm, name: str
) -> None:
    message = 'This node is not a swarm manager. Use "docker swarm init" to make it one.'
    engine.answers[".*"] = answer(503, {"message": message})
    with pytest.raises(NotASwarm):
        CALLS[name](swarm)


def test_an_engine_outside_a_swarm_tells_its_facts(engine: ScriptedEngine, swarm: Swarm) -> None:
    info = {
        "NCPU": 2,
        "MemTotal": 100,
        "MemoryLimit": False,
        "InitCommit": {"ID": "N/A"},
        "Swarm": {"LocalNodeState": "inactive", "ControlAvailable": False},
    }
    engine.answers["GET /v1.48/info"] = answer(200, info)
    facts = swarm.facts()
    assert (facts.is_manager, facts.nodes) == (False, 0)
    assert (facts.has_init, facts.limits_memory) == (False, False)


@pytest.mark.parametrize("name", ["MemoryLimit", "SwapLimit", "PidsLimit", "CpuCfsQuota"])
def test_an_engine_tells_what_it_can_limit(engine: ScriptedEngine, swarm: Swarm, name: str) -> None:
    engine.answers["GET /v1.48/info"] = answer(200, INFO | {name: True})
    facts = swarm.facts()
    found = (facts.limits_memory, facts.limits_swap, facts.limits_pids, facts.limits_cpus)
    assert found == tuple(
        name == each for each in ("MemoryLimit", "SwapLimit", "PidsLimit", "CpuCfsQuota")
    )


@pytest.mark.parametrize(
    ("option", "counts"),
    [
        ("name=seccomp,profile=default", True),
        ("name=seccomp,profile=builtin", True),
        ("name=seccomp,profile=unconfined", False),
        ("name=seccomp,profile=/etc/docker/lax.json", False),
        ("name=seccomp", False),
    ],
)
def test_seccomp_counts_with_dockers_own_profile_only(
    engine: ScriptedEngine, swarm: Swarm, option: str, *, counts: bool
) -> None:
    options = {"SecurityOptions": ["name=apparmor", option]}
    engine.answers["GET /v1.48/info"] = answer(200, INFO | options)
    assert swarm.facts().security == ({"apparmor", "seccomp"} if counts else {"apparmor"})


# -- registry


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_an_image_that_is_missing_or_private_is_not_found(
    engine: ScriptedEngine, swarm: Swarm, status: int
) -> None:
    engine.answers["GET /v1.48/distribution"] = answer(status, {"message": "denied"})
    with pytest.raises(ImageNotFound, match="u/r:latest"):
        swarm.resolve_digest(IMAGE)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_registry_that_fails_or_limits_us_is_not_the_images_fault(
    engine: ScriptedEngine, swarm: Swarm, status: int
) -> None:
    engine.answers["GET /v1.48/distribution"] = answer(status, {"message": "toomanyrequests"})
    with pytest.raises(RegistryUnavailable):
        swarm.resolve_digest(IMAGE)


def test_a_registry_that_hangs_is_not_the_engines_fault(
    engine: ScriptedEngine, swarm: Swarm
) -> None:
    engine.answers["GET /v1.48/distribution"] = engine.hang
    with pytest.raises(RegistryUnavailable):
        swarm.resolve_digest(IMAGE)


@pytest.mark.parametrize(
    ("platforms", "runs"),
    [
        ([{"os": "linux", "architecture": "amd64"}], True),
        ([{"os": "linux", "architecture": "arm64"}], False),
        ([{"os": "windows", "architecture": "amd64"}], False),
        (
            [
                {"os": "linux", "architecture": "arm64"},
                {"os": "linux", "architecture": "amd64"},
                {"os": "unknown", "architecture": "unknown"},
            ],
            True,
        ),
        ([{}], True),
        ([], True),
        (None, True),
    ],
)
def test_an_image_without_a_variant_for_the_platform_is_refused(
    engine: ScriptedEngine, swarm: Swarm, platforms: object, *, runs: bool
) -> None:
    found = {"Descriptor": {"digest": DIGEST}, "Platforms": platforms}
    engine.answers["GET /v1.48/distribution/docker.io/u/r:latest/json"] = answer(200, found)
    if runs:
        assert swarm.resolve_digest(IMAGE) == DIGEST
    else:
        with pytest.raises(ImageUnusable, match="linux/amd64"):
            swarm.resolve_digest(IMAGE)


def test_the_platform_of_the_nodes_counts_and_not_the_managers(
    engine: ScriptedEngine, swarm: Swarm
) -> None:
    platforms = [{"os": "linux", "architecture": "arm64"}]
    found = {"Descriptor": {"digest": DIGEST}, "Platforms": platforms}
    engine.answers["GET /v1.48/distribution/docker.io/u/r:latest/json"] = answer(200, found)
    assert swarm.resolve_digest(IMAGE, "linux/arm64") == DIGEST
    with pytest.raises(ImageUnusable, match="linux/s390x"):
        swarm.resolve_digest(IMAGE, "linux/s390x")


# -- services


@pytest.mark.parametrize("status", [400, 403, 404, 500])
def test_a_refusal_is_told_from_an_outage(
    engine: ScriptedEngine, swarm: Swarm, status: int
) -> None:
    engine.answers["POST"] = answer(status, {"message": "network secret-net not found"})
    with pytest.raises(ServiceRefused) as caught:
        swarm.create_service(SPEC)
    assert "secret-net" not in str(caught.value)


@pytest.mark.parametrize(
    "message",
    [
        "rpc error: code = Unknown desc = The swarm does not have a leader.",
        "rpc error: code = Unknown desc = raft: failed to process the request: node lost leader status",
        "rpc error: code = DeadlineExceeded desc = context deadline exceeded",
        "rpc error: code = Unavailable desc = transport is closing",
        "rpc error: code = Canceled desc = context canceled",
        "write /var/lib/docker/tmp/x: no space left on device",
    ],
)
def test_a_swarm_that_cannot_decide_may_come_back(
    engine: ScriptedEngine, swarm: Swarm, message: str
) -> None:
    engine.answers["POST"] = answer(500, {"message": message})
    with pytest.raises(SwarmUnavailable):
        swarm.create_service(SPEC)


@pytest.mark.parametrize("status", [401, 429])
def test_who_may_not_ask_now_may_ask_later(
    engine: ScriptedEngine, swarm: Swarm, status: int
) -> None:
    engine.answers["POST"] = answer(status, {"message": "not you, not now"})
    with pytest.raises(SwarmUnavailable):
        swarm.create_service(SPEC)


def test_a_refusal_that_names_a_thing_like_an_outage_is_still_one(
    engine: ScriptedEngine, swarm: Swarm
) -> None:
    engine.answers["POST"] = answer(400, {"message": "network transport-jobs not found"})
    with pytest.raises(ServiceRefused):
        swarm.create_service(SPEC)


def test_a_name_that_is_taken_and_free_again_is_tried_again_later(
    engine: ScriptedEngine, swarm: Swarm
) -> None:
    engine.answers["POST"] = answer(409, {"message": "name conflicts with an existing object"})
    with pytest.raises(SwarmUnavailable):
        swarm.create_service(SPEC)


def test_a_create_whose_answer_was_lost_is_adopted(engine: ScriptedEngine, swarm: Swarm) -> None:
    engine.answers["POST"] = reset
    with pytest.raises(SwarmUnavailable):
        swarm.create_service(SPEC)
    engine.answers["POST"] = answer(409, {"message": "name conflicts with an existing object"})
    engine.answers["GET /v1.48/services/die-1 "] = answer(200, {"ID": "s1", "Spec": SPEC})
    assert swarm.create_service(SPEC) == "s1"


def test_the_spec_is_sent_once_and_never_to_another_place(
    engine: ScriptedEngine, swarm: Swarm
) -> None:
    engine.answers["POST"] = (
        b"HTTP/1.1 307 x\r\nLocation: http+docker://localhost/elsewhere\r\n"
        b"Content-Length: 0\r\nConnection: close\r\n\r\n"
    )
    with pytest.raises(SwarmUnavailable):
        swarm.create_service(SPEC)
    assert [line for line in engine.requests if line.startswith("POST")] == [
        "POST /v1.48/services/create HTTP/1.1"
    ]


# -- starting a service

OUT_OF_SEQUENCE = "rpc error: code = Unknown desc = update out of sequence"


def created(replicas: int = 0, version: int = 7) -> dict[str, Any]:
    """A service as the engine tells it, with fields that only the engine knows."""
    spec = SPEC | {"Mode": {"Replicated": {"Replicas": replicas}}, "Odd": {"Number": 2**63}}
    return {"ID": "s1", "Version": {"Index": version}, "Spec": spec}


def updates(engine: ScriptedEngine) -> list[str]:
    return [line for line in engine.requests if line.startswith("POST")]


def test_a_service_is_started_with_the_spec_it_has_at_the_version_that_was_seen(
    engine: ScriptedEngine, swarm: Swarm
) -> None:
    engine.answers["GET /v1.48/services/s1 "] = answer(200, created())
    engine.answers["POST"] = answer(200, {"Warnings": None})
    swarm.start_service("s1")
    assert updates(engine) == ["POST /v1.48/services/s1/update?version=7 HTTP/1.1"]
    assert json.loads(engine.bodies[-1]) == created(replicas=1)["Spec"]


def test_a_service_that_is_started_is_left_alone(engine: ScriptedEngine, swarm: Swarm) -> None:
    engine.answers["GET /v1.48/services/s1 "] = answer(200, created(replicas=1))
    swarm.start_service("s1")
    assert updates(engine) == []


def test_a_service_that_another_started_first_is_looked_at_again(
    engine: ScriptedEngine, swarm: Swarm
) -> None:
    def conflict(connection: socket.socket) -> None:
        engine.answers["GET /v1.48/services/s1 "] = answer(200, created(replicas=1, version=8))
        connection.sendall(answer(500, {"message": OUT_OF_SEQUENCE}))

    engine.answers["GET /v1.48/services/s1 "] = answer(200, created())
    engine.answers["POST"] = conflict
    swarm.start_service("s1")
    assert len(updates(engine)) == 1


def test_a_service_that_changes_all_the_time_is_given_up_for_now(
    engine: ScriptedEngine, swarm: Swarm
) -> None:
    engine.answers["GET /v1.48/services/s1 "] = answer(200, created())
    engine.answers["POST"] = answer(500, {"message": OUT_OF_SEQUENCE})
    with pytest.raises(SwarmUnavailable, match="changed by somebody else"):
        swarm.start_service("s1")
    assert 1 < len(updates(engine)) < 10


def test_a_service_that_is_gone_at_the_first_look_or_at_the_start_is_said_to_be(
    engine: ScriptedEngine, swarm: Swarm
) -> None:
    gone = answer(404, {"message": "service s1 not found"})
    engine.answers["GET /v1.48/services/s1 "] = gone
    with pytest.raises(ServiceGone):
        swarm.start_service("s1")
    assert updates(engine) == []
    engine.answers["GET /v1.48/services/s1 "] = answer(200, created())
    engine.answers["POST"] = gone
    with pytest.raises(ServiceGone):
        swarm.start_service("s1")


def test_a_start_that_the_engine_refuses_is_told_from_an_outage(
    engine: ScriptedEngine, swarm: Swarm
) -> None:
    engine.answers["GET /v1.48/services/s1 "] = answer(200, created())
    engine.answers["POST"] = answer(500, {"message": "network secret-net not found"})
    with pytest.raises(ServiceRefused) as caught:
        swarm.start_service("s1")
    assert "secret-net" not in str(caught.value)
    engine.answers["POST"] = answer(500, {"message": "The swarm does not have a leader."})
    with pytest.raises(SwarmUnavailable):
        swarm.start_service("s1")


def test_a_jobs_service_is_listed_with_what_matters(engine: ScriptedEngine, swarm: Swarm) -> None:
    body = {
        "ID": "s1",
        "CreatedAt": "2026-11-24T18:24:47.781404559Z",
        "Spec": {
            "Labels": {"die.job": "1", "die.service": "here"},
            "TaskTemplate": {"ContainerSpec": {"Image": "u/r@" + DIGEST, "Args": ["run", TOKEN]}},
            "Mode": {"Replicated": {"Replicas": 1}},
        },
    }
    bare = created() | {"CreatedAt": body["CreatedAt"]}
    foreign = {**bare, "Spec": {"Labels": {"die.job": "2"}, "Mode": {"Global": {}}}}
    engine.answers["GET /v1.48/services"] = answer(200, [body, bare, foreign])
    started, fresh, odd = swarm.job_services()
    assert started == JobService(
        job_id="1",
        service_id="s1",
        instance="here",
        is_started=True,
        created_at=datetime(2026, 11, 24, 18, 24, 47, 781404, tzinfo=UTC),
        image="u/r@" + DIGEST,
        args=("run", TOKEN),
    )
    assert (fresh.instance, fresh.is_started) == ("", False)
    assert (odd.job_id, odd.is_started, odd.args) == ("2", False, ())
    assert TOKEN not in repr(started)
    assert TOKEN not in str([started])


# -- tasks


def task(
    job_id: str, state: str, created: str = "2026-01-01T00:00:00Z", **status: Any
) -> dict[str, Any]:
    return {
        "CreatedAt": created,
        "Spec": {"ContainerSpec": {"Labels": {"die.job": job_id}, "Args": ["run", TOKEN]}},
        "ServiceID": f"s-{job_id}",
        "Status": {"Timestamp": created, "State": state, "Message": "m", **status},
        "DesiredState": "running",
    }


def test_all_jobs_are_watched_with_one_call_that_asks_for_ours(
    engine: ScriptedEngine, swarm: Swarm
) -> None:
    engine.answers["GET /v1.48/tasks"] = answer(200, [task(str(n), "running") for n in range(500)])
    assert len(swarm.task_reports()) == 500
    lines = [line for line in engine.requests if "/tasks" in line]
    assert lines == ["GET /v1.48/tasks?filters=%7B%22label%22%3A+%5B%22die.job%22%5D%7D HTTP/1.1"]


def test_the_newest_task_of_a_job_counts_however_the_list_is_sorted(
    engine: ScriptedEngine, swarm: Swarm
) -> None:
    old = task("1", "failed", "2026-01-01T00:00:09.9Z")
    new = task("1", "running", "2026-01-01T00:00:09.95Z")
    for tasks in ([old, new], [new, old]):
        engine.answers["GET /v1.48/tasks"] = answer(200, tasks)
        assert [report.state for report in swarm.task_reports()] == ["running"]


@pytest.mark.parametrize(
    ("state", "code", "expected"),
    [
        ("running", 0, None),
        ("running", -1, None),
        ("rejected", 0, None),
        ("shutdown", 137, None),
        ("failed", 0, None),
        ("failed", 3, 3),
        ("complete", 0, 0),
    ],
)
def test_an_exit_code_is_reported_only_where_there_is_one(
    engine: ScriptedEngine, swarm: Swarm, state: str, code: int, expected: int | None
) -> None:
    status: dict[str, Any] = {"ContainerStatus": {"ContainerID": "c", "ExitCode": code}, "Err": "e"}
    engine.answers["GET /v1.48/tasks"] = answer(200, [task("1", state, **status)])
    (report,) = swarm.task_reports()
    assert report.exit_code == expected
    assert report.message == "m: e"
    assert (report.job_id, report.service_id, report.container_id) == ("1", "s-1", "c")


@pytest.mark.parametrize("odd", [task("1", "paused"), {"ID": "no task at all"}])
def test_an_odd_task_has_no_report_and_hides_no_other(
    engine: ScriptedEngine, swarm: Swarm, odd: dict[str, object]
) -> None:
    engine.answers["GET /v1.48/tasks"] = answer(200, [odd, task("2", "running")])
    assert [report.job_id for report in swarm.task_reports()] == ["2"]


def test_a_lost_node_is_seen_though_its_task_is_said_to_run(
    engine: ScriptedEngine, swarm: Swarm
) -> None:
    lost = task("1", "running") | {"DesiredState": "shutdown"}
    engine.answers["GET /v1.48/tasks"] = answer(200, [lost])
    assert swarm.task_reports()[0].phase is TaskPhase.LOST


def ended_at(time: str, exit_code: int = 255) -> TaskReport:
    """Of a task whose end was told at a time of the day, by an engine that is up since ten o'clock."""
    told_at = datetime.fromisoformat(f"2026-01-01T{time}Z")
    phase = TaskPhase.FAILED if exit_code else TaskPhase.COMPLETE
    return dataclasses.replace(ENDED, told_at=told_at, exit_code=exit_code, phase=phase)


@pytest.mark.parametrize("exit_code", [0, 3, 143])
@pytest.mark.parametrize(
    ("started", "finished", "told", "grace", "cut_off"),
    [
        ("09:00:00.1", "10:00:02.1", "10:00:02.2", {}, True),
        ("09:00:00.1", "09:59:00.1", "10:00:00.2", {}, True),
        # One that has all that time to end holds up the engine, and the news of the others.
        ("09:00:00.1", "09:50:00.1", "10:00:00.2", {"StopTimeout": 600}, True),
        ("09:00:00.1", "09:30:00.1", "10:00:00.2", {}, False),
        # It had ended, and the engine had said so, when that was killed.
        ("09:00:00.1", "09:59:00.1", "09:59:00.2", {}, False),
        ("10:00:05.1", "10:00:09.1", "10:00:09.2", {}, False),
    ],
)
def test_a_container_that_was_stopped_by_an_engine_that_came_back_was_cut_off(
    engine: ScriptedEngine,
    swarm: Swarm,
    started: str,
    finished: str,
    told: str,
    grace: dict[str, int],
    exit_code: int,
    *,
    cut_off: bool,
) -> None:
    state = {
        "OOMKilled": False,
        "StartedAt": f"2026-01-01T{started}Z",
        "FinishedAt": f"2026-01-01T{finished}Z",
    }
    engine.answers["GET /v1.48/containers/c/json"] = answer(200, {"State": state, "Config": grace})
    engine.answers["GET /v1.48/networks/bridge"] = answer(
        200, {"Created": "2026-01-01T11:00:00.123456789+01:00"}
    )
    assert swarm.cut_off(ended_at(told, exit_code)) is cut_off


def rejoined(**nodes: str) -> bytes:
    """The list of nodes, and when each was changed."""
    return answer(
        200, [{"ID": name, "UpdatedAt": f"2026-01-01T{time}Z"} for name, time in nodes.items()]
    )


@pytest.mark.parametrize(
    ("told", "exit_code", "nodes", "cut_off"),
    [
        ("10:00:00.2", 255, {"n": "10:00:00.1"}, True),
        ("10:00:00.1", 255, {"n": "10:00:00.2"}, True),
        ("10:00:50.1", 137, {"n": "10:00:00.1"}, True),
        ("10:30:00.1", 255, {"n": "10:00:00.1"}, False),
        ("08:59:09.1", 255, {"n": "08:29:59.1"}, False),
        ("10:00:01.1", 255, {"m": "10:00:00.4"}, None),
        # The record of a node changes for many reasons, at the end of a task of an overlay for example.
        ("10:00:01.1", 0, {"n": "10:00:00.9"}, None),
        ("10:00:01.1", 3, {"n": "10:00:00.9"}, None),
    ],
)
def test_on_another_node_a_container_that_was_killed_as_its_node_came_back_was_cut_off(
    engine: ScriptedEngine,
    swarm: Swarm,
    told: str,
    exit_code: int,
    nodes: dict[str, str],
    *,
    cut_off: bool,
) -> None:
    engine.answers["GET /v1.48/networks/bridge"] = answer(200, {"Created": "2026-01-01T11:00:00Z"})
    engine.answers["GET /v1.48/nodes"] = rejoined(**nodes)
    assert swarm.cut_off(ended_at(told, exit_code)) is cut_off


# -- logs


def frame(payload: bytes, stream: int = 1) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(payload).to_bytes(4, "big") + payload


def test_a_log_is_put_together_however_it_is_cut(engine: ScriptedEngine, swarm: Swarm) -> None:
    body = frame(b"out\n") + frame(b"err\n", 2) + frame(b"") + frame(b"end")

    def in_small_parts(connection: socket.socket) -> None:
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for byte in body:
            connection.sendall(b"1\r\n" + bytes([byte]) + b"\r\n")
        connection.sendall(b"0\r\n\r\n")

    engine.answers["GET /v1.48/services/s/logs"] = in_small_parts
    assert swarm.log_tail("s", limit=100, timeout=10) == b"out\nerr\nend"
    assert swarm.log_tail("s", limit=4, timeout=10) == b"\nend"


def test_errors_of_the_engine_are_no_part_of_a_log(
    engine: ScriptedEngine, swarm: Swarm, caplog: pytest.LogCaptureFixture
) -> None:
    body = frame(b"out\n") + frame(b"error from daemon in stream", 3)
    engine.answers["GET /v1.48/services/s/logs"] = answer(200, body)
    assert swarm.log_tail("s", limit=100, timeout=10) == b"out\n"
    assert "could not read all" in caplog.text


@pytest.mark.parametrize(
    "misbehaviour",
    [answer(500, {"message": "x"}), answer(404, {}), b"", b"nonsense\r\n\r\n", cut, reset],
    ids=["500", "404", "empty", "nonsense", "cut", "reset"],
)
def test_a_log_that_cannot_be_had_is_empty_and_said_so(
    engine: ScriptedEngine,
    swarm: Swarm,
    misbehaviour: Answer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine.answers["GET /v1.48/services/s/logs"] = misbehaviour
    assert swarm.log_tail("s", limit=100, timeout=10) == b""
    assert "No log of service s" in caplog.text


def test_a_log_of_which_nothing_came_is_asked_for_once_more(
    engine: ScriptedEngine, swarm: Swarm
) -> None:
    path = "GET /v1.48/services/s/logs"

    def lost(connection: socket.socket) -> None:
        engine.answers[path] = answer(200, frame(b"out\n"))
        reset(connection)

    engine.answers[path] = lost
    assert swarm.log_tail("s", limit=100, timeout=10) == b"out\n"


def test_of_a_log_that_is_cut_off_what_has_arrived_is_kept(
    engine: ScriptedEngine, swarm: Swarm
) -> None:
    whole = answer(200, frame(b"first\n") + frame(b"second\n"))
    engine.answers["GET /v1.48/services/s/logs"] = whole[:-4]
    assert swarm.log_tail("s", limit=100, timeout=10) == b"first\nsec"


@pytest.mark.parametrize("way", ["hang", "drip"])
def test_a_log_that_hangs_is_given_up_in_time(
    engine: ScriptedEngine, swarm: Swarm, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine.answers["GET /v1.48/services/s/logs"] = getattr(engine, way)
    start = time.monotonic()
    tail = swarm.log_tail("s", limit=100, timeout=1)
    assert time.monotonic() - start < 5
    assert set(tail) <= {ord("x")}
    assert "in time" in caplog.text


def test_a_flood_costs_no_memory_and_no_more_than_the_time(
    engine: ScriptedEngine, swarm: Swarm
) -> None:
    def flood(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        block = frame(b"x" * 16384) * 64
        while not engine.release.is_set():
            connection.sendall(block)

    engine.answers["GET /v1.48/services/s/logs"] = flood
    tracemalloc.start()
    try:
        tail = swarm.log_tail("s", limit=65536, timeout=2)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert tail == b"x" * 65536
    # The flood's own blocks of one megabyte are counted too.
    assert peak < 8 * 2**20


# -- the edge


def foreign_exceptions() -> list[type[Exception]]:
    modules = (docker.errors, requests.exceptions, urllib3.exceptions, http.client)
    return sorted(
        {
            kind
            for module in modules
            for _, kind in inspect.getmembers(module, inspect.isclass)
            if issubclass(kind, Exception)
            and not issubclass(kind, Warning)
            # Raised by a stream reader of the library that is not used.
            and kind is not docker.errors.StreamParseError
        },
        key=lambda kind: f"{kind.__module__}.{kind.__name__}",
    )


@pytest.mark.parametrize("kind", foreign_exceptions(), ids=lambda kind: kind.__name__)
def test_no_exception_of_a_library_passes_the_edge(kind: type[Exception]) -> None:
    with pytest.raises(SwarmUnavailable) as caught, _mapped():
        raise kind.__new__(kind)
    assert caught.value.__cause__ is None


def test_what_the_library_says_of_this_machine_is_for_the_operator() -> None:
    with pytest.raises(SwarmUnavailable) as caught, _mapped():
        raise docker.errors.DockerException("Install it in /opt.")
    assert str(caught.value) == "The Docker engine cannot be asked as this service is set up."
    assert caught.value.reason == "The Docker engine cannot be asked: Install it in /opt."


def test_the_token_is_in_no_error_and_no_log(
    engine: ScriptedEngine, swarm: Swarm, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    engine.answers["POST"] = answer(500, {"message": "refused"})
    engine.answers["GET /v1.48/tasks"] = answer(200, [task("1", "running") | {"CreatedAt": TOKEN}])
    engine.answers["GET /v1.48/services"] = answer(200, [{"ID": TOKEN}])
    errors = []
    engine.answers["GET /v1.48/services/s1 "] = answer(200, created())
    for name in ("create_service", "start_service", "job_services"):
        with pytest.raises(SwarmError) as caught:
            CALLS[name](swarm)
        errors.append(repr(caught.value) + str(caught.value.__cause__))
    assert swarm.task_reports() == []
    assert "The Docker engine's answer to GET /v1.48/services is unreadable in " in caplog.text
    assert TOKEN not in caplog.text
    assert TOKEN not in "".join(errors)


def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as engine, socket.socket() as proxy:
        proxy.bind(("127.0.0.1", 0))
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.delenv("no_proxy", raising=False)

        def serve() -> None:
            connection, _ = engine.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer(503, {"message": "reached"}))

        thread = threading.Thread(target=serve)
        thread.start()
        swarm = Swarm(f"tcp://127.0.0.1:{engine.getsockname()[1]}", timeout=5)
        with pytest.raises(SwarmUnavailable, match="HTTP 503"):
            swarm.facts()
        thread.join()
        swarm.close()


def test_a_redirect_of_the_engine_takes_the_token_nowhere(
    engine: ScriptedEngine, swarm: Swarm
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.setblocking(False)
        where = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/"
        moved = f"HTTP/1.1 307 There\r\nLocation: {where}\r\nContent-Length: 0\r\n\r\n".encode()
        engine.answers["POST /v1.48/services/create"] = moved
        engine.answers["GET /v1.48/services/s/logs"] = moved
        with pytest.raises(SwarmError):
            swarm.create_service(SPEC)
        assert swarm.log_tail("s", limit=10, timeout=2) == b""
        with pytest.raises(BlockingIOError):
            elsewhere.accept()


@pytest.mark.usefixtures("password_file")
def test_no_password_file_joins_a_call_to_the_engine() -> None:
    with RawServer(http_answer("503 No", b"{}")) as server:
        swarm = Swarm(f"tcp://127.0.0.1:{server.port}", timeout=5)
        with pytest.raises(SwarmUnavailable):
            swarm.facts()
        swarm.close()
        assert server.requests
        assert "authorization" not in server.requests[0].headers


def test_connections_are_closed(engine: ScriptedEngine) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    swarm = Swarm(engine.address)
    engine.answers["GET /v1.48/tasks"] = answer(200, [])
    for _ in range(20):
        swarm.task_reports()
    swarm.close()
    swarm.close()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1
