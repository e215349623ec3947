"""The service stops: at once for new clients, kindly for those it is answering, never for the jobs."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from lxml import etree
from service_fixture import (
    Service,
    at_a_free_port,
    connect,
    elements,
    running_service,
    service_process,
    status_path,
    text_of,
    unfinished_jobs,
)
from storagehub_fixture import ALICE
from swarm_fixture import PROBE, let_end

from die_algorithm.http_server import GRACE
from die_algorithm.local_swarm import LocalSwarm
from die_algorithm.models import Job, JobState, UserToken
from die_algorithm.settings import Settings
from die_algorithm.web import RESULTS_PATH, STATUS_PATH, WPS_PATH

#: Seconds in which the process ends, whatever its clients do.
PROMISE = 30
RESULT = f"{RESULTS_PATH}/{'0' * 32}/die-00000000-0000-4000-8000-000000000000.zip"
CAPABILITIES = f"{WPS_PATH}?service=WPS&request=GetCapabilities"


@pytest.fixture
def own(settings: Settings, tmp_path: Path) -> Settings:
    """The settings of a service that may be stopped, beside the shared one."""
    return at_a_free_port(settings, tmp_path / "own")


@pytest.fixture
def large_result(own: Settings) -> int:
    """A published result of the size given back, at :data:`RESULT`."""
    size = 256 * 2**20
    path = own.results_path / RESULT.removeprefix(f"{RESULTS_PATH}/")
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.truncate(size)
    return size


def one_job(settings: Settings) -> Job:
    """The service's only job, when it is accepted."""
    deadline = time.monotonic() + 30
    while not (found := unfinished_jobs(settings)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (job,) = found
    return job


@pytest.mark.parametrize(
    "form", ["", "storeExecuteResponse=true", "RawDataOutput=non_deterministic_output"]
)
def test_an_execute_that_waits_is_told_that_its_job_goes_on_and_where(
    own: Settings, item: str, swarm: LocalSwarm, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It is woken, not found by looking.
    monkeypatch.setattr("die_algorithm.engine._LOOK_FOR_CLIENT", 60.0)
    with running_service(own) as service, ThreadPoolExecutor() as pool:
        url = service.execute_url(
            ALICE.token, Image=PROBE, CommandName="probe sleep 60", FileParam=item
        )
        waiting: Future[requests.Response] = pool.submit(service.get, f"{url}&{form}")
        job = one_job(own)
        assert job is not None
        service.server.listen_no_more()
        service.runtime.close()
        answer = waiting.result(20)
        service.stop()
        at = service.settings
    assert answer.status_code == 503
    assert answer.headers["Connection"] == "close"
    # A client that repeats a GET by itself would submit the job a second time.
    assert "Retry-After" not in answer.headers
    text = text_of(etree.fromstring(answer.content), "//ows:ExceptionText")
    assert "is stopping" in text
    assert f"The job {job.id} was accepted and goes on: do not submit it again." in text
    location = text.rpartition(" ")[2]
    assert location == f"{at.url}{STATUS_PATH}?id={job.id}"
    # The next start is at another port here.
    with running_service(own) as service:
        while service.runtime.engine.job(job.id).state is not JobState.RUNNING:
            service.runtime.engine.wait(job.id, 0.05)
        let_end(swarm, job.id)
        document = etree.fromstring(service.get(status_path(job.id)).content)
        deadline = time.monotonic() + 60
        while not elements(document, "//wps:ProcessSucceeded"):
            assert time.monotonic() < deadline, etree.tostring(document)
            time.sleep(0.1)
            document = etree.fromstring(service.get(status_path(job.id)).content)


@pytest.mark.parametrize("form", ["", "&storeExecuteResponse=true&status=true"])
def test_an_execute_on_an_open_connection_is_refused_and_creates_nothing(
    own: Settings, item: str, form: str
) -> None:
    with running_service(own) as service:
        client = http.client.HTTPConnection(urlsplit(service.settings.url).netloc, timeout=20)
        with contextlib.closing(client):
            client.request("GET", CAPABILITIES)
            assert client.getresponse().read()
            service.server.listen_no_more()
            service.runtime.close()
            url = service.execute_url(
                ALICE.token, Image=PROBE, CommandName="probe noop", FileParam=item
            )
            client.request("GET", url.removeprefix(service.settings.url) + form)
            answer = client.getresponse()
            text = text_of(etree.fromstring(answer.read()), "//ows:ExceptionText")
        assert (answer.status, answer.headers["Retry-After"]) == (503, "30")
        assert answer.headers["Connection"] == "close"
        assert text.startswith("The service is stopping and takes no more jobs.")
        assert not unfinished_jobs(own)


def test_a_job_whose_check_outlasts_the_service_is_not_accepted(own: Settings, item: str) -> None:
    with running_service(own) as service, ThreadPoolExecutor() as pool:
        engine = service.runtime.engine
        asked, may = threading.Event(), threading.Event()
        storagehub_item = engine._storagehub.item

        def slow_item(token: UserToken, item_id: str) -> object:
            asked.set()
            may.wait(20)
            return storagehub_item(token, item_id)

        engine._storagehub.item = slow_item  # type: ignore[method-assign,assignment]
        url = service.execute_url(
            ALICE.token, asynchronous=True, Image=PROBE, CommandName="probe noop", FileParam=item
        )
        waiting = pool.submit(service.get, url)
        assert asked.wait(20)
        service.runtime.close()
        may.set()
        assert waiting.result(20).status_code == 503
        assert not unfinished_jobs(own)


def trickle(client: socket.socket) -> None:
    """Send a header that never ends, until the server has enough of it."""
    with contextlib.suppress(OSError):
        client.sendall(b"GET / HTTP/1.1\r\nX-Long: ")
        while True:
            client.sendall(b"x")
            time.sleep(0.05)


def sip(client: socket.socket) -> int:
    """Read a result far too slowly, and give back how much came until it was cut."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.sendall(f"GET {RESULT} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    count = 0
    # What is in the buffers of both ends still arrives: it is not waited for.
    end = time.monotonic() + GRACE + 5
    with contextlib.suppress(ConnectionResetError):
        while time.monotonic() < end and (part := client.recv(1024)):
            count += len(part)
            time.sleep(0.05)
    return count


def read_result(settings: Settings, began: threading.Event, pause: float) -> int:
    """Download the result, after a pause, and give back its size."""
    with requests.get(settings.url + RESULT, stream=True, timeout=60) as answer:
        began.set()
        time.sleep(pause)
        return sum(len(part) for part in answer.iter_content(2**20))


def test_a_process_ends_in_time_whatever_its_clients_do(
    own: Settings, large_result: int, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    began = threading.Event()
    with (
        service_process(own, log) as process,
        connect(own) as trickling,
        connect(own) as sipping,
        ThreadPoolExecutor() as pool,
    ):
        pool.submit(trickle, trickling)
        sipped = pool.submit(sip, sipping)
        read = pool.submit(read_result, own, began, GRACE / 4)
        assert began.wait(20)
        process.terminate()
        assert process.wait(timeout=PROMISE) == 0
        assert read.result(10) == large_result
        assert 0 < sipped.result(60) < large_result
    assert "Traceback" not in log.read_text()
    assert log.read_text().endswith("Stopped.\n")


def test_a_process_ends_in_time_though_its_engine_hangs(
    own: Settings, service: Service, item: str, tmp_path: Path
) -> None:
    url = service.execute_url(
        ALICE.token, asynchronous=True, Image=PROBE, CommandName="probe sleep 5", FileParam=item
    )
    log = tmp_path / "log"
    with service_process(own, log) as process:
        assert service.get(url.replace(service.settings.url, own.url)).status_code == 200
        process.kill()
    # Connects, and says nothing.
    with socket.create_server(("127.0.0.1", 0)) as engine:
        hangs = {"docker_host": f"tcp://127.0.0.1:{engine.getsockname()[1]}"}
        with service_process(own.model_copy(update=hangs), log) as process:
            asked, _ = engine.accept()
            with asked:
                process.terminate()
                assert process.wait(timeout=PROMISE) == 0
    with service_process(own, log):
        deadline = time.monotonic() + 60
        while unfinished_jobs(own):
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_an_idle_process_ends_at_once_and_leaves_its_port(own: Settings, tmp_path: Path) -> None:
    with service_process(own, tmp_path / "log") as process, connect(own) as idle:
        idle.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert idle.recv(1000)
        process.terminate()
        assert process.wait(timeout=PROMISE / 3) == 0
        host, _, port = own.listen[0].partition(":")
        socket.create_server((host, int(port))).close()


class Loop:
    """A client that asks again and again, on one connection or on a new one each time."""

    def __init__(self, settings: Settings, *, keeps: bool) -> None:
        self._address = urlsplit(settings.url).netloc
        self._keeps = keeps
        self.answers = 0
        self.enough = threading.Event()

    def run(self) -> None:
        """Ask until the connection is refused; anything else is an error."""
        client = http.client.HTTPConnection(self._address, timeout=20)
        with contextlib.closing(client):
            self._ask(client)

    def _ask(self, client: http.client.HTTPConnection) -> None:
        while not self.enough.is_set():
            is_new = client.sock is None
            try:
                client.request("GET", CAPABILITIES)
                answer = client.getresponse()
            except ConnectionError:
                # Refused; or reset unheard, as the listening socket was closed in that very instant.
                assert is_new
                return
            assert answer.status == 200
            # A body that is cut short raises http.client.IncompleteRead.
            assert answer.read().rstrip().endswith(b"</wps:Capabilities>")
            self.answers += 1
            if not self._keeps:
                client.close()


def test_no_client_loses_an_answer_when_the_service_stops_under_load(
    own: Settings, tmp_path: Path
) -> None:
    loops = [Loop(own, keeps=number % 2 == 0) for number in range(20)]
    with service_process(own, tmp_path / "log") as process, ThreadPoolExecutor(20) as pool:
        running = [pool.submit(loop.run) for loop in loops]
        deadline = time.monotonic() + 30
        while min(loop.answers for loop in loops) < 5 and time.monotonic() < deadline:
            time.sleep(0.05)
        process.terminate()
        assert process.wait(timeout=PROMISE) == 0
        for loop in loops:
            loop.enough.set()
        for future in running:
            future.result(20)
    assert min(loop.answers for loop in loops) >= 5
