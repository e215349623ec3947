"""The Docker Swarm that runs the jobs, over the HTTP API of one of its managers.

The only module that knows the Docker client library. The library opens the connection and no more:
services are described in the engine's own JSON, answers are read into the few fields that matter
here, and so the user tokens in them (every service's args hold one) never become Python values.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import TypeVar
from urllib.parse import quote

import urllib3.exceptions
from docker import APIClient
from docker.errors import DockerException
from pydantic import TypeAdapter, ValidationError

from die_algorithm import swarm_answers
from die_algorithm.errors import (
    ImageNotFound,
    NotASwarm,
    RegistryUnavailable,
    ServiceRefused,
    SwarmError,
    SwarmUnavailable,
)
from die_algorithm.image_reference import ImageReference
from die_algorithm.models import EngineFacts, TaskReport
from die_algorithm.service_spec import JOB_LABEL

LOGGER = logging.getLogger(__name__)

_T = TypeVar("_T")

#: The API of engine 20.10; spoken only until the engine has said which one it has.
_OLDEST_API = "1.41"
_CONNECTIONS = 16
_OURS = json.dumps({"label": [JOB_LABEL]})
_CHUNK = 64 * 1024
#: An engine says that a container ended a moment before it calls itself started.
_RESTORE_TIME = timedelta(seconds=60)
#: Words of an engine whose Swarm cannot decide anything for the moment, in answers with status 500.
_INDECISION = (
    "leader",
    "Unavailable",
    "deadline exceeded",
    "DeadlineExceeded",
    "raft",
    "transport",
)


class Swarm:
    """A Swarm, as one of its managers sees it.

    Nothing is asked before the first call, so the engine may be away when this is made. All threads
    may share one: after the first call nothing in it changes but urllib3's connection pool, which is
    made for that, and the engine sets no cookies.

    Every method may raise :class:`SwarmUnavailable` and :class:`NotASwarm`, unless it says otherwise.

    Args:
        docker_host: the engine's address, ``unix:///path`` or ``tcp://host:port``.
        timeout: seconds to wait for a connection, and then for each next part of an answer.
    """

    def __init__(self, docker_host: str, *, timeout: float = 30.0) -> None:
        self._docker_host = docker_host
        self._timeout = timeout
        self._lock = threading.Lock()
        self._client: APIClient | None = None
        self._version: swarm_answers.Version | None = None

    def close(self) -> None:
        """Close the connections. The next call would open new ones."""
        with self._lock:
            client, self._client, self._version = self._client, None, None
        if client is not None:
            client.close()

    # -- the engine

    def facts(self) -> EngineFacts:
        """Ask the engine what it is and can. It need not be a manager."""
        version = self._call("GET", "/version").read(swarm_answers.VERSION)
        info = self._call("GET", "/info").read(swarm_answers.INFO)
        return EngineFacts(
            version=version.version,
            api_version=version.api_version,
            is_manager=info.swarm.control_available,
            nodes=info.swarm.nodes,
            cpus=info.cpus,
            memory=info.memory,
            has_init=info.has_init,
            limits_memory=info.memory_limit,
        )

    # -- images

    def resolve_digest(self, image: ImageReference) -> str:
        """Ask the registry what an image reference means now, through the engine.

        An image that only the engine has, and no registry, does not count.

        Returns:
            The digest, ``sha256:…``: the reference's own if it has one.

        Raises:
            ImageNotFound: there is no such public image, or none for this platform.
            RegistryUnavailable: the registry does not answer, or limits us.
        """
        reference = image.pinned(image.digest) if image.digest else image
        path = f"/distribution/{reference.canonical}/json"
        try:
            answer = self._call("GET", path)
        except _TimedOut:
            # Other calls will show it if it is the engine that does not answer.
            raise RegistryUnavailable("The image registry does not answer in time.") from None
        if answer.status in (400, 401, 403, 404):
            raise ImageNotFound(
                f"The image {image.familiar} does not exist on Docker Hub, or is not public. Check "
                "its name and tag, or publish it."
            )
        if answer.status >= 400:
            answer.refuse_non_manager()
            LOGGER.warning("The registry of %s: %s", reference.canonical, answer.message)
            raise RegistryUnavailable("The image registry does not answer as it should.")
        found = answer.read(swarm_answers.DISTRIBUTION)
        self._check_platform(image, found)
        return image.digest or found.descriptor.digest

    def _check_platform(self, image: ImageReference, found: swarm_answers.Distribution) -> None:
        _, engine = self._connected()
        offered = {(each.os, each.architecture) for each in found.platforms if each.architecture}
        if offered and (engine.os, engine.architecture) not in offered:
            raise ImageNotFound(
                f"The image {image.familiar} has no variant for {engine.os}/{engine.architecture}. "
                "Build it for this platform and publish it again."
            )

    # -- services

    def create_service(self, spec: Mapping[str, object]) -> str:
        """Create a job's service, or adopt the one that a former try has created.

        Args:
            spec: as :func:`die_algorithm.service_spec.service_spec` makes it.

        Returns:
            The service's id.

        Raises:
            ServiceRefused: the engine will not have it, and would not the next time.
        """
        answer = self._call("POST", "/services/create", body=json.dumps(spec).encode())
        if answer.status == 409:
            return self._adopt(spec)
        indecisive = any(word in answer.message for word in _INDECISION)
        if 400 <= answer.status <= 500 and answer.message and not indecisive:
            # The engine's words name networks and constraints, which are the operator's business.
            LOGGER.error("The Swarm refuses service %s: %s", spec["Name"], answer.message)
            raise ServiceRefused(
                "The Swarm refuses to run the container as this service is set up. Tell the operator "
                "the job's id."
            )
        return answer.read(swarm_answers.CREATED).id

    def _adopt(self, spec: Mapping[str, object]) -> str:
        """Find the service that has the name already.

        It may be gone by now; then the engine is asked again as after an outage.
        """
        name, labels = spec["Name"], spec["Labels"]
        found = self._call("GET", f"/services/{name}").read(swarm_answers.SERVICE)
        if not isinstance(labels, Mapping) or found.job_id != labels[JOB_LABEL]:
            raise ServiceRefused(
                "Another service of the Swarm has the name that this job's would have. Tell the "
                "operator the job's id."
            )
        LOGGER.info("Service %s exists already and is adopted.", name)
        return found.id

    def job_services(self) -> dict[str, str]:
        """List the services of all jobs: job id to service id."""
        answer = self._call("GET", "/services", params={"filters": _OURS})
        return {each.job_id: each.id for each in answer.read(swarm_answers.SERVICES)}

    def remove_service(self, name_or_id: str) -> None:
        """Remove a service, and so stop its container. One that is gone already is removed."""
        answer = self._call("DELETE", f"/services/{name_or_id}")
        if answer.status != 404:
            answer.check()

    # -- tasks

    def task_reports(self) -> list[TaskReport]:
        """Look at the tasks of all jobs with one call, whatever their number.

        Returns:
            One report for each job that has a task: the newest one's.

        Raises:
            SwarmError: a task has a state that is not known here.
        """
        tasks = self._call("GET", "/tasks", params={"filters": _OURS}).read(swarm_answers.TASKS)
        return [task.report for task in swarm_answers.newest_of_each_job(tasks)]

    def oom_killed(self, container_id: str) -> bool | None:
        """Whether a process of a container was killed because the container's memory was used up.

        Returns:
            None if nobody knows: the container is on another node, or gone.
        """
        container = self._container(container_id)
        return container.state.oom_killed if container else None

    def cut_off(self, container_id: str) -> bool | None:
        """Whether a container ended because its engine was restarted.

        An engine does not tell when it was started, but it makes its default bridge anew each time.

        Returns:
            None if nobody knows: the container is on another node, or gone, or there is no bridge.
        """
        container = self._container(container_id)
        bridge = self._call("GET", "/networks/bridge")
        if container is None or bridge.status == 404:
            return None
        engine_started = bridge.read(swarm_answers.NETWORK).created
        state = container.state
        return state.started_at < engine_started < state.finished_at + _RESTORE_TIME

    def _container(self, container_id: str) -> swarm_answers.Container | None:
        answer = self._call("GET", f"/containers/{container_id}/json")
        return None if answer.status == 404 else answer.read(swarm_answers.CONTAINER)

    # -- logs

    def log_tail(self, service_id: str, *, limit: int, timeout: float) -> bytes:
        """Fetch the end of what a service's container has written, both streams as they came.

        Logs come over other ways than the rest and may hang or fail by themselves, so this never
        raises: what cannot be had is missing, and our own log says why.

        Args:
            service_id: the service's.
            limit: bytes at most.
            timeout: seconds after which what has arrived must do.
        """
        # Half for waiting on the socket, half for reading on: together never more than the whole.
        deadline = time.monotonic() + timeout / 2
        tail = swarm_answers.LogTail(limit)
        # Few long lines or many short ones? The first guess is cheap even if lines are very long.
        for lines in (limit // 512 + 1, limit):
            tail = swarm_answers.LogTail(limit)
            try:
                in_time = self._read_log(service_id, lines, tail, deadline)
            except SwarmError as error:
                LOGGER.warning("No log of service %s: %s", service_id, error)
                break
            if not in_time:
                LOGGER.warning("The log of service %s did not arrive in time.", service_id)
                break
            if tail.is_full or tail.frames < lines:
                break
        if tail.engine_errors:
            LOGGER.warning("The engine could not read all of the log of service %s.", service_id)
        return tail.content

    def _read_log(
        self, service_id: str, lines: int, tail: swarm_answers.LogTail, deadline: float
    ) -> bool:
        """Feed the last lines of a log to ``tail``; return whether all came before the deadline."""
        patience = max(deadline - time.monotonic(), 0.001)
        params = {"stdout": "1", "stderr": "1", "tail": str(lines)}
        client, version = self._connected()
        url = _url(client, version.api_version, f"/services/{quote(service_id)}/logs")
        with (
            _mapped(),
            client.request(
                "GET", url, params=params, stream=True, timeout=patience, allow_redirects=False
            ) as response,
        ):
            if response.status_code != 200:
                raise SwarmUnavailable(f"The engine answered with HTTP {response.status_code}.")
            while chunk := response.raw.read1(_CHUNK):
                tail.feed(chunk)
                if time.monotonic() > deadline:
                    return False
        return True

    # -- HTTP

    def _connected(self) -> tuple[APIClient, swarm_answers.Version]:
        """The client, and what the engine said about itself when it was first reached.

        The library would ask for the version in the client's constructor, through a proxy of the
        environment if there is one; a user token must never pass one.
        """
        with self._lock:
            if self._client is None:
                with _mapped():
                    self._client = APIClient(
                        base_url=self._docker_host,
                        version=_OLDEST_API,
                        timeout=self._timeout,
                        max_pool_size=_CONNECTIONS,
                    )
                self._client.trust_env = False
            if self._version is None:
                answer = _exchange(self._client, "GET", f"{self._client.base_url}/version")
                self._version = answer.read(swarm_answers.VERSION)
            return self._client, self._version

    def _call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> _Answer:
        client, version = self._connected()
        url = _url(client, version.api_version, quote(path, safe="/:@"))
        try:
            return _exchange(client, method, url, params, body)
        except SwarmUnavailable:
            # It may come back as another version.
            self._version = None
            raise


@dataclasses.dataclass(frozen=True)
class _Answer:
    """A whole answer of the engine, whatever its status."""

    status: int
    body: bytes

    @property
    def message(self) -> str:
        """What the engine says about an error; not for clients."""
        try:
            return swarm_answers.ERROR.validate_json(self.body).message
        except ValidationError:
            return ""

    def refuse_non_manager(self) -> None:
        """Raise NotASwarm if that is what the engine complains about."""
        if self.status == 503 and "swarm manager" in self.message:
            raise NotASwarm("The Docker engine is not a manager of a Swarm.")

    def check(self) -> None:
        """Raise what an answer that is no success means."""
        if 200 <= self.status < 300:
            return
        self.refuse_non_manager()
        LOGGER.warning("The Docker engine answered %d: %s", self.status, self.message)
        raise SwarmUnavailable(f"The Docker engine answered with an error (HTTP {self.status}).")

    def read(self, kind: TypeAdapter[_T]) -> _T:
        """Read the fields that matter from a success."""
        self.check()
        try:
            return kind.validate_json(self.body)
        except ValidationError as error:
            # Its own text would quote what was read, and that may hold a user token.
            LOGGER.warning(
                "The Docker engine gave an unreadable answer, wrong in %d places.",
                error.error_count(),
            )
            raise SwarmUnavailable(
                "The Docker engine gave an answer that cannot be read."
            ) from None


class _TimedOut(SwarmUnavailable):
    """The engine was connected to, but its answer did not come in time."""


def _exchange(
    client: APIClient,
    method: str,
    url: str,
    params: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> _Answer:
    headers = {"Content-Type": "application/json"} if body is not None else None
    with _mapped():
        response = client.request(
            method,
            url,
            params=params,
            data=body,
            headers=headers,
            timeout=client.timeout,
            allow_redirects=False,
        )
        return _Answer(response.status_code, response.content)


def _url(client: APIClient, api_version: str, path: str) -> str:
    return f"{client.base_url}/v{api_version}{path}"


@contextlib.contextmanager
def _mapped() -> Iterator[None]:
    """Turn whatever the libraries raise into our errors, in this one place.

    The exceptions of requests are OSErrors or ValueErrors; they are not chained to ours, because
    they hold the request, whose body holds a user token.
    """
    try:
        yield
    except (
        DockerException,
        urllib3.exceptions.HTTPError,
        http.client.HTTPException,
        OSError,
        ValueError,
    ) as error:
        causes = list(_causes(error))
        LOGGER.debug("The Docker engine cannot be used: %s", type(causes[-1]).__name__)
        if any(isinstance(cause, urllib3.exceptions.ReadTimeoutError) for cause in causes):
            raise _TimedOut("The Docker engine does not answer in time.") from None
        reasons = [cause.strerror for cause in causes if isinstance(cause, OSError)]
        reason = next((f": {reason}" for reason in reasons if reason), "")
        raise SwarmUnavailable(f"The Docker engine does not answer{reason}.") from None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception of the libraries, and those that it was made from."""
    while error is not None:
        yield error
        inner = [arg for arg in error.args if isinstance(arg, BaseException)]
        error = inner[0] if inner else getattr(error, "reason", None)
        if not isinstance(error, BaseException):
            return
