"""How one call to the engine is made, and what becomes of the libraries' exceptions."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import logging
import re
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

import urllib3
import urllib3.connection
import urllib3.exceptions
from docker import APIClient
from docker.errors import DockerException
from docker.tls import TLSConfig
from docker.transport.basehttpadapter import BaseHTTPAdapter
from docker.transport.unixconn import UnixHTTPAdapter
from pydantic import TypeAdapter, ValidationError

from die_algorithm.errors import NotASwarm, SwarmUnavailable
from die_algorithm.swarm import answers
from die_algorithm.swarm.tls import TlsFiles, tls_fault

LOGGER = logging.getLogger(__name__)

_T = TypeVar("_T")

#: The API of engine 20.10; named to the library, which would ask the engine for it by itself.
_OLDEST_API = "1.41"
_CONNECTIONS = 16
#: What proxies of the socket, and plugins of the engine, answer to what they do not let pass.
_WITHHELD = (401, 403, 404, 405)
#: How an engine answers with 400 to a call in a version of its API that it does not speak.
_OTHER_VERSION = re.compile(r"client version \S+ is too (?:new|old)")


class TimedOut(SwarmUnavailable):
    """The engine was connected to, but its answer did not come in time."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """A whole answer of the engine, whatever its status."""

    #: Method and path of the call.
    asked: str
    status: int
    body: bytes

    @property
    def message(self) -> str:
        """What the engine says about an error; not for clients."""
        try:
            return answers.ERROR.validate_json(self.body).message
        except ValidationError:
            return ""

    @property
    def says_missing(self) -> bool:
        """Whether the engine itself says that there is no such thing, and not a proxy before it."""
        return self.status == 404 and bool(self.message)

    @property
    def is_withheld(self) -> bool:
        """Whether the engine, or a proxy before it, does not let this caller ask that."""
        return self.status in _WITHHELD and not self.says_missing

    def refuse_other_version(self) -> None:
        """Raise SwarmUnavailable if the engine does not speak the version that it was asked in."""
        if self.status == 400 and _OTHER_VERSION.search(self.message):
            raise SwarmUnavailable("The Docker engine has come back as another version.")

    def refuse_non_manager(self) -> None:
        """Raise NotASwarm if that is what the engine complains about."""
        if self.status == 503 and "swarm manager" in self.message:
            raise NotASwarm("The Docker engine is not a manager of a Swarm.")

    def check(self) -> None:
        """Raise what an answer that is no success means."""
        if 200 <= self.status < 300:
            return
        self.refuse_non_manager()
        LOGGER.warning(
            "The Docker engine answered %s with %d: %s", self.asked, self.status, self.message
        )
        raise SwarmUnavailable(f"The Docker engine answered with an error (HTTP {self.status}).")

    def try_to_read(self, kind: TypeAdapter[_T]) -> _T | None:
        """As :meth:`read`, but None for an answer that cannot be read."""
        self.check()
        try:
            return kind.validate_json(self.body)
        except ValidationError:
            return None

    def read(self, kind: TypeAdapter[_T]) -> _T:
        """Read the fields that matter from a success."""
        self.check()
        try:
            return kind.validate_json(self.body)
        except ValidationError as error:
            # Its own text would quote what was read, and that may hold a user token.
            LOGGER.warning(
                "The Docker engine's answer to %s is unreadable in %d places.",
                self.asked,
                error.error_count(),
            )
            raise SwarmUnavailable(
                "The Docker engine gave an answer that cannot be read."
            ) from None


class Calls:
    """The connection to one engine.

    Nothing is sent before the first call. All threads may share one: once connected, nothing in it
    changes but urllib3's pool, which is made for that, and the engine sets no cookies.

    Args:
        docker_host: the engine's address.
        timeout: seconds to wait for a connection, and then for each next part of an answer.
        tls: what proves who is who; None: nothing does.
    """

    def __init__(self, docker_host: str, timeout: float, tls: TlsFiles | None = None) -> None:
        self._docker_host = docker_host
        self._tls = tls
        self._timeout = timeout
        self._lock = threading.Lock()
        self._client: APIClient | None = None
        self._version: answers.Version | None = None

    def close(self) -> None:
        """Close the connections. The next call would open new ones."""
        with self._lock:
            client, self._client, self._version = self._client, None, None
        if client is not None:
            client.close()

    def connect(self) -> answers.Version:
        """What the engine said about itself when it was first reached, or reached again."""
        return self._connected()[1]

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """Make one call and wait for the whole answer.

        Args:
            method: of HTTP.
            path: as the API's reference gives it, without a version.
            params: of the query.
            body: JSON to send.

        Raises:
            SwarmUnavailable: there was no answer; TimedOut if it did not come in time.
        """
        client, version = self._connected()
        with self._version_forgotten():
            answer = _exchange(client, method, _path(version, path), params, body)
            answer.refuse_other_version()
            return answer

    @contextlib.contextmanager
    def stream(
        self, path: str, *, params: Mapping[str, str], timeout: float
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """Make one call and let the answer be read as it comes.

        Args:
            path: as for :meth:`call`.
            params: of the query.
            timeout: seconds to wait for each next part.
        """
        client, version = self._connected()
        url = client.base_url + _path(version, path)
        with (
            self._version_forgotten(),
            _mapped(),
            client.get(
                url, params=params, stream=True, timeout=timeout, allow_redirects=False
            ) as response,
        ):
            yield response.raw

    @contextlib.contextmanager
    def _version_forgotten(self) -> Iterator[None]:
        """Ask for the engine's version again after an outage: it may have come back as another."""
        try:
            yield
        except SwarmUnavailable:
            self._version = None
            raise

    def _connected(self) -> tuple[APIClient, answers.Version]:
        with self._lock:
            if self._client is None:
                with _mapped():
                    self._client = _client(self._docker_host, self._timeout, self._tls)
            if self._version is None:
                answer = _exchange(self._client, "GET", "/version")
                self._version = answer.read(answers.VERSION)
            return self._client, self._version


def _client(docker_host: str, timeout: float, tls: TlsFiles | None) -> APIClient:
    client = APIClient(
        base_url=docker_host,
        version=_OLDEST_API,
        timeout=timeout,
        tls=_tls_config(tls) if tls else False,
        max_pool_size=_CONNECTIONS,
    )
    # No proxy of the environment: a user token must never pass one.
    client.trust_env = False
    library_adapter = client.get_adapter(f"{client.base_url}/")
    if isinstance(library_adapter, UnixHTTPAdapter):
        client.mount("http+docker://", _UnixAdapter(library_adapter.socket_path, timeout))
    return client


def _tls_config(files: TlsFiles) -> TLSConfig:
    return TLSConfig(
        client_cert=(str(files.certificate), str(files.key)),
        ca_cert=str(files.authority),
        verify=True,
    )


def _path(version: answers.Version, path: str) -> str:
    return f"/v{version.api_version}{quote(path, safe='/:@')}"


def _exchange(
    client: APIClient,
    method: str,
    path: str,
    params: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> Answer:
    headers = {"Content-Type": "application/json"} if body is not None else None
    with _mapped():
        response = client.request(
            method,
            client.base_url + path,
            params=params,
            data=body,
            headers=headers,
            timeout=client.timeout,
            allow_redirects=False,
        )
        return Answer(f"{method} {path}", response.status_code, response.content)


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
        LOGGER.debug("No answer: %s", " from ".join(type(cause).__name__ for cause in causes))
        if any(isinstance(cause, urllib3.exceptions.ReadTimeoutError) for cause in causes):
            raise TimedOut("The Docker engine does not answer in time.") from None
        for cause in causes:
            if isinstance(cause, ssl.SSLError):
                raise tls_fault(cause) from None
        if isinstance(error, DockerException) and not any(
            isinstance(cause, OSError) for cause in causes
        ):
            raise _set_up_wrongly(error) from None
        reasons = [cause.strerror for cause in causes if isinstance(cause, OSError)]
        reason = next((f": {reason}" for reason in reasons if reason), "")
        raise SwarmUnavailable(f"The Docker engine does not answer{reason}.") from None


def _set_up_wrongly(error: DockerException) -> SwarmUnavailable:
    """What it means that the library sends nothing: its words are about this machine, not the engine."""
    words = " ".join(map(str, error.args)) or type(error).__name__
    return SwarmUnavailable(
        "The Docker engine cannot be asked as this service is set up.",
        f"The Docker engine cannot be asked: {words.rstrip('.')}.",
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception of the libraries, and those that were wrapped into it, from the outside in."""
    yield error
    for inner in (*error.args, getattr(error, "reason", None)):
        if isinstance(inner, BaseException):
            yield from _causes(inner)
            return


class _UnixAdapter(BaseHTTPAdapter):  # type: ignore[misc]
    """Calls over a Unix socket.

    The library's own adapter keeps connections for each URL apart, so that they are hardly ever used
    again, and forgets to close the socket when nobody listens.
    """

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__()
        self._pool = _UnixPool(path, timeout)

    def get_connection(self, *_: object, **__: object) -> urllib3.HTTPConnectionPool:
        """The one pool, whatever the URL."""
        return self._pool

    def request_url(self, request: Any, proxies: object) -> str:  # noqa: ANN401, ARG002
        """The path alone; the host part of the URL means nothing."""
        return str(request.path_url)

    def close(self) -> None:
        """Close the pool's connections."""
        super().close()
        self._pool.close()


class _UnixPool(urllib3.HTTPConnectionPool):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout, maxsize=_CONNECTIONS)
        self._path = path

    def _new_conn(self) -> urllib3.connection.HTTPConnection:
        return _UnixConnection(self._path)


class _UnixConnection(urllib3.connection.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        # Kept before it is connected, so that urllib3 closes it if that fails.
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
