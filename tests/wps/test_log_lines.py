"""What an operator finds in the log about one of several jobs."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator

from hub_in_front import Lie, hub_in_front, is_download
from quick_fixture import Processes, Quick
from raw_server import Connection, Request, http
from storagehub_fixture import ALICE


@contextlib.contextmanager
def service_behind(quick: Quick, lie: Lie) -> Iterator[Processes]:
    """A service that a lying StorageHub answers; containers see the true one."""
    inside = quick.hub.base_url
    with (
        hub_in_front(quick.hub, lie) as front,
        quick.processes(storagehub_url=front.url, container_storagehub_url=inside) as processes,
    ):
        processes.serve()
        yield processes


def test_of_two_jobs_at_once_each_line_names_its_own(quick: Quick) -> None:
    """Both results come broken at the same time; the modules that find that know nothing of jobs."""
    both = threading.Barrier(2)

    def break_zips(request: Request, real: bytes) -> bytes:
        if not is_download(request) or not real.startswith(b"PK"):
            return real
        both.wait(20)
        return b"no zip"

    with service_behind(quick, break_zips) as processes:
        jobs = [processes.submit("probe write a.txt b", quick.item) for _ in range(2)]
        for job_id in jobs:
            processes.wait_for(job_id, "ProcessSucceeded")
        log = processes.log.read_text()
    for words in ("The zip cannot be read: BadZipFile", "StorageHub's zip lacks 1 of 1."):
        marked = re.findall(rf"job=(\S+) {re.escape(words)}", log)
        assert sorted(marked) == sorted(jobs)
        assert log.count(words) == len(jobs)


def test_a_call_that_is_tried_again_is_named_by_job_method_and_path(quick: Quick) -> None:
    failed: list[str] = []

    def refuse(connection: Connection) -> None:
        assert connection.request is not None
        failed.append(connection.request.target)
        connection.send(http("503 Busy"))

    with service_behind(
        quick, lambda request, real: refuse if is_download(request) and not failed else real
    ) as processes:
        job_id = processes.submit("probe write a.txt b", quick.item)
        processes.wait_for(job_id, "ProcessSucceeded")
        log = processes.log.read_text()
    path = failed[0].removeprefix("/workspace").partition("?")[0]
    assert re.search(rf"job={job_id} StorageHub, GET {re.escape(path)}, try 1 of ", log)
    assert ALICE.token not in log
