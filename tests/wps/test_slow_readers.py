"""Clients who take their results slowly hold neither threads nor memory (reference: safety, H13)."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from quick_fixture import Quick, soon, submit
from service_fixture import Service, connect, status_path

from die_algorithm.models import Job, JobState
from die_algorithm.results import single_file_path

READERS = 100
#: Bytes of the zip; most of it is a hole on the disk.
SIZE = 2**30


def resident() -> int:
    """Bytes of this process's memory; the service is in it."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def ended(service: Service, item: str) -> Job:
    """A job that has succeeded, whose zip is as large as a big one's."""
    job_id = submit(service, "probe write a.txt b", item)
    engine = service.runtime.engine
    job = soon(lambda: found if (found := engine.job(job_id)).state.is_final else None)
    assert job.state is JobState.SUCCEEDED
    assert job.result is not None
    os.truncate(service.settings.results_path / job.result_key / job.result.name, SIZE)
    return job


@contextlib.contextmanager
def readers(service: Service, path: str, headers: str = "") -> Iterator[list[socket.socket]]:
    """Clients who have asked for a file, and have read no more of it than its headers."""
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(READERS):
            client = stack.enter_context(connect(service))
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode())
            clients.append(client)
        for client in clients:
            head = client.recv(200)
            assert head.startswith(b"HTTP/1.1 206 " if headers else b"HTTP/1.1 200 OK")
        yield clients


@pytest.mark.parametrize("what", ["zip", "range", "single file"])
def test_a_hundred_slow_readers_of_a_gigabyte_hold_no_thread_and_little_memory(
    quick: Quick, what: str
) -> None:
    with quick.service(threads="6", max_sync="2") as service:
        job = ended(service, quick.item)
        assert job.result is not None
        address = f"/results/{job.result_key}/{job.result.name}"
        if what == "single file":
            zip_path = service.settings.results_path / job.result_key / job.result.name
            zip_path.rename(single_file_path(zip_path, "a.csv"))
            zip_path.touch()
            address = f"{address.removesuffix('.zip')}/a.csv"
        before = resident()
        asked = "Range: bytes=10-\r\n" if what == "range" else ""
        with readers(service, address, asked) as clients:
            for _ in range(20):
                assert service.get("/health").status_code == 200
                assert service.get(status_path(job.id)).status_code == 200
            assert resident() - before < READERS * 2**20
            # They are served all the same, each at its own pace.
            for client in (clients[0], clients[-1]):
                taken = 0
                while taken < 2**23:
                    taken += len(client.recv(2**16))
