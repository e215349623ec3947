"""The HTTP server itself: methods, limits, idle and slow connections."""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from service_fixture import Service, at_a_free_port, connect, service_process

from die_algorithm.settings import Settings
from die_algorithm.web import WPS_PATH


def raw(service: Service, request: bytes) -> bytes:
    """Send bytes and read until the server closes."""
    with connect(service) as connection:
        connection.sendall(request)
        answer = b""
        while part := connection.recv(65536):
            answer += part
        return answer


def test_a_body_declared_too_large_is_refused_before_it_is_sent(service: Service) -> None:
    answer = raw(
        service,
        f"POST {WPS_PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: text/xml\r\n"
        "Content-Length: 1000000000\r\n\r\n<a/>".encode(),
    )
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'exceptionCode="FileSizeExceeded"' in answer


@pytest.mark.parametrize(
    "request_line",
    [b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n", b"\x00\x01\r\n\r\n"],
)
def test_what_is_no_http_is_refused_in_our_own_words(service: Service, request_line: bytes) -> None:
    answer = raw(service, request_line)
    assert b"ExceptionReport" in answer
    assert b"waitress" not in answer


def test_a_chunked_body_is_read_like_any_other(service: Service) -> None:
    body = b'<w:GetCapabilities xmlns:w="http://www.opengis.net/wps/1.0.0" service="WPS"/>'
    answer = raw(
        service,
        f"POST {WPS_PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: text/xml\r\nConnection: close\r\n"
        f"Transfer-Encoding: chunked\r\n\r\n{len(body):x}\r\n".encode()
        + body
        + b"\r\n0\r\n\r\n",
    )
    assert b"200 OK" in answer
    assert b"<wps:Capabilities" in answer


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_other_methods_are_refused_with_those_allowed(service: Service, method: str) -> None:
    answer = requests.request(method, service.wps, timeout=30)
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "GET, HEAD, POST"


def test_head_is_like_get_without_the_body(service: Service) -> None:
    query = {"service": "WPS", "request": "GetCapabilities"}
    head = requests.head(service.wps, params=query, timeout=30)
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["Content-Length"]) > 0


def test_head_never_starts_a_job(service: Service, item: str) -> None:
    url = service.execute_url("t" * 36, Image="a/b", CommandName="c", FileParam=item)
    assert requests.head(url, timeout=30).status_code == 405


@pytest.fixture
def many_files() -> Iterator[None]:
    """This process may hold as many sockets as the machine allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def seconds_for(url: str) -> float:
    """How long a new client waits for an answer."""
    began = time.monotonic()
    assert requests.get(url, timeout=30).status_code == 200
    return time.monotonic() - began


@pytest.mark.usefixtures("many_files")
def test_a_thousand_idle_connections_keep_nobody_from_being_served(
    settings: Settings, tmp_path: Path
) -> None:
    own = at_a_free_port(settings, tmp_path / "own")
    # As a shell or systemd would start it.
    usual = ("prlimit", "--nofile=1024:")
    with service_process(own, tmp_path / "log", usual), contextlib.ExitStack() as stack:
        for number in range(1200):
            connection = stack.enter_context(connect(own))
            if number % 6 == 0:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Ha")
        url = f"{own.url}{WPS_PATH}?service=WPS&request=GetCapabilities"
        waits = sorted(seconds_for(url) for _ in range(50))
    assert waits[-1] < 1, waits


def wait_for_worker(settings: Settings, client: requests.Session) -> None:
    """The worker is a process of its own, and begins a moment after the web."""
    deadline = time.monotonic() + 30
    while not client.get(f"{settings.url}/ready", timeout=30).ok:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_connections_leave_the_service_files_for_its_work(
    settings: Settings, tmp_path: Path
) -> None:
    own = at_a_free_port(settings, tmp_path / "own")
    few = ("prlimit", "--nofile=256:256")
    log = tmp_path / "log"
    with (
        service_process(own, log, few),
        contextlib.ExitStack() as stack,
        requests.Session() as client,
    ):
        wait_for_worker(own, client)
        for _ in range(300):
            stack.enter_context(connect(own))
        # Asks StorageHub, the engine and the database, and writes files.
        ready = client.get(f"{own.url}/ready", timeout=30)
        assert ready.status_code == 200, ready.text
        assert "Too many open files" not in log.read_text()


def test_a_doubled_slash_finds_the_same_place(service: Service) -> None:
    url = f"{service.settings.url}/{WPS_PATH}?service=WPS&request=GetCapabilities"
    assert requests.get(url, timeout=30).status_code == 200
