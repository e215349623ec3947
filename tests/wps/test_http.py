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
    assert waits[len(waits) // 2] < 1, waits
    # An idle connection is given more time than that.
    assert waits[-1] < 10, waits


def wait_for_worker(settings: Settings, client: requests.Session) -> None:
    """The worker is a process of its own, and begins a moment after the web."""
    deadline = time.monotonic() + 30
    while not client.get(f"{settings.url}/ready", timeout=30).ok:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("sent", [0, 200_000])
def test_connections_leave_the_service_files_for_its_work(
    settings: Settings, tmp_path: Path, sent: int
) -> None:
    own = at_a_free_port(settings, tmp_path / "own")
    few = ("prlimit", "--nofile=256:256")
    half = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + bytes(sent)
    log = tmp_path / "log"
    with (
        service_process(own, log, few),
        contextlib.ExitStack() as stack,
        requests.Session() as client,
    ):
        wait_for_worker(own, client)
        for _ in range(300):
            connection = stack.enter_context(connect(own))
            if sent:
                # So much of a body lies in a file.
                connection.setblocking(False)
                connection.send(half)
        # Asks StorageHub, the engine and the database, and writes files.
        for _ in range(20):
            ready = client.get(f"{own.url}/ready", timeout=30)
            assert ready.status_code == 200, ready.text
            time.sleep(0.05)
        assert "Too many open files" not in log.read_text()


def test_a_doubled_slash_finds_the_same_place(service: Service) -> None:
    url = f"{service.settings.url}/{WPS_PATH}?service=WPS&request=GetCapabilities"
    assert requests.get(url, timeout=30).status_code == 200
