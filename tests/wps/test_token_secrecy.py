"""Where a token must not be: the service's processes, its log, its documents, whoever repeats it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from canary import Search
from quick_fixture import PROBE, Quick, quick_world, soon
from raw_server import Connection, RawServer, http
from service_fixture import running_service, status_path
from storagehub_fixture import ALICE
from werkzeug.test import Client

from die_algorithm.description import IDENTIFIER
from die_algorithm.job_in_hand import JobMark
from die_algorithm.models import Job, UserToken
from die_algorithm.runtime import Runtime
from die_algorithm.settings import Settings
from die_algorithm.token_mask import TokenMask
from die_algorithm.web import CANCEL_PATH, WPS_PATH

FORGED = "\r\n2026-01-01 00:00:00,000 web[1] INFO die_algorithm: forged"
BARE = "0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0f9"
#: How a guest's, a client's or a neighbour's text may look.
ECHO = {
    "plain": ALICE.token,
    "json": json.dumps({"message": f"bad token {ALICE.token}", "args": [ALICE.token]}),
    "in an address": f"http://hub/items/x?gcube-token={ALICE.token}&a=b",
    "after a line's end": f"{ALICE.token}{FORGED}\x1b[2J",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Quick]:
    with quick_world(tmp_path_factory.mktemp("world")) as world:
        yield world


def echo(text: str, status: str) -> bytes:
    return http(status, text.encode(), "Content-Type: text/plain", f"X-Said: {ALICE.token}")


# -- processes


def test_the_processes_hold_tokens_in_their_memory_alone(world: Quick) -> None:
    with world.processes() as die:
        web = die.serve()
        job_id = die.submit("probe sleep 60", world.item)
        die.wait_for(job_id, "is running")
        (worker,) = die.children(web)
        for process in (web.pid, worker):
            place = Path(f"/proc/{process}")
            for name in ("environ", "cmdline", "limits"):
                assert not list(Search().text((place / name).read_bytes(), name))
            assert resource.prlimit(process, resource.RLIMIT_CORE) == (0, 0)
        world.engine.let_end(job_id)
        die.wait_for(job_id, "ProcessSucceeded")
        assert not list(Search().text(die.log.read_bytes(), "log"))


def test_a_program_of_ours_leaves_no_core_dump_not_even_in_a_pipe() -> None:
    # PR_GET_DUMPABLE: a limit does not keep the kernel from dumping into a pipe.
    code = "import ctypes; print('dumpable:', ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    assert "dumpable: 0" in _last_words(code)


def _last_words(code: str) -> str:
    """What a program says that ends in a way nobody foresaw."""
    begin = "from die_algorithm.commands.program import begin_program as b; b('x')\n"
    done = subprocess.run(
        [sys.executable, "-c", begin + code], check=False, capture_output=True, text=True
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    "code",
    [
        "raise ValueError({0!r})",
        "import threading\ndef f(): raise ValueError({0!r})\nthreading.Thread(target=f).start()",
        "class C:\n def __del__(self): raise ValueError({0!r})\nC()",
        "import warnings; warnings.warn({0!r})",
        "import logging; logging.getLogger('urllib3').warning('GET /?gcube-token=%s', {0!r})",
    ],
)  # fmt: skip
def test_the_last_words_of_a_program_are_masked(code: str) -> None:
    said = _last_words(code.format(ALICE.token + "\nforged"))
    assert "***" in said
    assert "x[" in said  # in the log's form
    assert "\nforged" not in said
    assert not list(Search().text(said.encode(), "stderr"))


# -- whoever repeats it


@pytest.mark.parametrize(
    "status",
    ["400 Bad", "401 No", "403 No", "404 No", "418 Tea", "500 Oops", "503 Busy", "302 There"],
)
@pytest.mark.parametrize("said", ECHO)
def test_what_storagehub_repeats_reaches_nobody(
    world: Quick, tmp_path: Path, caplog: pytest.LogCaptureFixture, said: str, status: str
) -> None:
    caplog.set_level("DEBUG", "die_algorithm")
    with RawServer(echo(ECHO[said], status)) as hub:
        settings = world.settings(data_dir=str(tmp_path / "data"), storagehub_url=hub.url)
        with running_service(settings) as service:
            url = service.execute_url(
                ALICE.token, asynchronous=True, Image=PROBE, CommandName="probe", FileParam="x"
            )
            for path in (url, status_path("0" * 8 + "-0000-4000-8000-" + "0" * 12)):
                answer = service.get(path)
                assert answer.status_code in (400, 401, 404, 503)
                assert not list(Search().text(answer.content, "answer"))
    _assert_clean(caplog)


def _assert_clean(caplog: pytest.LogCaptureFixture) -> None:
    ours = [record for record in caplog.records if record.name.startswith("die_algorithm")]
    for record in ours:
        assert "\n" not in record.getMessage()
        text = record.getMessage() + (record.exc_text or "") + str(record.exc_info or "")
        assert not list(Search().text(text.encode(), record.name)), text


class EchoingEngine:
    """An engine that repeats what it was told in whatever it says of services and images.

    Args:
        path: of its socket.
        refused: how the paths begin that it refuses.
        status: with which HTTP status.
        text: what it says.
    """

    def __init__(self, path: Path, engine: str, refused: str, status: int, text: str) -> None:
        self.docker_host = f"unix://{path}"
        self._engine = engine.removeprefix("unix://")
        self._refused = refused
        self._answer = (status, text)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

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
            connection.settimeout(10)
            request = Connection(connection, threading.Event()).read_request(with_body=True)
            if request is None:
                return
            if f"/{self._refused}" in request.target:
                status, text = self._answer
                body = json.dumps({"message": text}).encode()
                connection.sendall(http(f"{status} No", body, "Content-Type: application/json"))
                return
            head, _, body = request.raw.partition(b"\r\n\r\n")
            with socket.socket(socket.AF_UNIX) as engine:
                engine.connect(self._engine)
                engine.sendall(head + b"\r\nConnection: close\r\n\r\n" + body)
                answer = b"".join(iter(lambda: engine.recv(65536), b""))
            head, _, body = answer.partition(b"\r\n\r\n")
            connection.sendall(head + b"\r\nConnection: close\r\n\r\n" + body)


@pytest.mark.parametrize(
    ("refused", "status"),
    [
        ("distribution/", 404), ("distribution/", 500), ("services/create", 400),
        ("services/create", 500), ("tasks", 500),
    ],
)  # fmt: skip
@pytest.mark.parametrize("said", ECHO)
def test_what_engine_and_registry_repeat_reaches_nobody(
    world: Quick,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    said: str,
    refused: str,
    status: int,
) -> None:
    caplog.set_level("DEBUG", "die_algorithm")
    engine = EchoingEngine(tmp_path / "e", world.engine.docker_host, refused, status, ECHO[said])
    changes = {"data_dir": str(tmp_path / "data"), "docker_host": engine.docker_host}
    try:
        with world.service(**changes) as service:
            job_id = service.submit(ALICE.token, PROBE, "probe noop", world.item)

            def has_spoken() -> bool:
                job: Job = service.runtime.engine.job(job_id)
                return bool(job.waiting) or job.state.is_final

            soon(has_spoken)
            answer = service.get(status_path(job_id))
            assert not list(Search().text(answer.content, "status"))
            service.get(f"{CANCEL_PATH}?id={job_id}&gcube-token={ALICE.token}")
    finally:
        engine.close()
    _assert_clean(caplog)
    _assert_clean_data(settings=world.settings(**changes))


def _assert_clean_data(settings: Settings) -> None:
    assert not list(Search().folder(settings.data_dir))


# -- clients


@pytest.mark.parametrize(
    "path",
    [
        f"{WPS_PATH}%0d%0aforged%1b[2J?service=WPS",
        f"{WPS_PATH}/&gcube-token={ALICE.token}",
        f"/x/{ALICE.token}",
        f"/x%2f{ALICE.token.replace('-', '%2d')}",
        f"/results/{ALICE.token}/die-{ALICE.token}.zip",
    ],
)
def test_no_client_writes_into_the_log(world: Quick, path: str) -> None:
    with world.processes() as die:
        die.serve()
        die.execute("probe noop", "no-such-item")  # from now on the token is known
        assert die.get(path).status_code in (400, 401, 404)
        lines = die.log.read_text().splitlines()
        assert not list(Search().text(die.log.read_bytes(), "log"))
        assert not [line for line in lines if line.startswith("forged")]
        assert "\x1b" not in die.log.read_text()


@pytest.mark.parametrize("word", ["docker.io", "accepted", "die-tests", WPS_PATH[1:]])
def test_who_sends_a_word_as_a_token_hides_it_in_nobody_elses_lines(
    world: Quick, word: str
) -> None:
    with world.processes() as die:
        die.serve(threads="4", max_sync="1")
        for _ in range(8):  # in each of the threads
            assert die.get(f"/jobs?gcube-token={word}").status_code == 401
        job_id = die.submit("probe noop", world.item)
        log = die.log.read_text()
        assert f"Job {job_id} accepted: image docker.io/{PROBE}" in log
        assert log.count(f"GET '{WPS_PATH}' 200") > log.count(
            f"GET '{WPS_PATH}' 200", 0, log.index(job_id)
        )


def test_what_is_no_method_of_http_fills_no_log(world: Quick) -> None:
    with world.processes() as die:
        die.serve()
        before = die.log.stat().st_size
        for method, status in (("A" * 60_000, 501), ("GARBAGE", 501), ("A" * 20, 501)):
            assert request(die.settings.url, method, "/jobs") == status
        logged = die.log.read_bytes()[before:]
        assert b"AAA" not in logged
        assert b"GARBAGE" not in logged
        assert b"? '/jobs' 501" in logged
        assert len(logged) < 1000


def request(url: str, method: str, path: str) -> int:
    connection = HTTPConnection(urlsplit(url).netloc, timeout=60)
    with contextlib.closing(connection):
        connection.request(method, path)
        return connection.getresponse().status


def test_what_was_sent_in_place_of_a_word_is_not_in_the_log(world: Quick) -> None:
    # Nothing else of the request is read, so nobody tells what its token is.
    bare = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
    with world.processes() as die:
        die.serve()
        for query in (f"request={bare}", f"request=GetCapabilities&version={bare}"):
            assert die.get(f"{WPS_PATH}?service=WPS&{query}").status_code in (400, 501)
        assert "501 OperationNotSupported " in die.log.read_text()
        assert bare not in die.log.read_text()


@pytest.mark.parametrize(
    ("query", "refused"),
    [
        (f"request={BARE}", "501 OperationNotSupported"),
        ("request=secretpassword", "501 OperationNotSupported"),
        (f"request={BARE}&version=2.0.0", "501 OperationNotSupported"),
        (f"request=Execute&Identifier={BARE}", "400 InvalidParameterValue 'Identifier'"),
        (
            f"request=Execute&Identifier={IDENTIFIER}&DataInputs={BARE}=x",
            "400 InvalidParameterValue",
        ),
        (f"request=GetStatus&version=2.0.0&JobID={BARE}", "404 NoSuchJob"),
        ("request=DescribeProcess", "400 MissingParameterValue 'Identifier'"),
        ("request=GetStatus", "501 OperationNotSupported 'GetStatus'"),
    ],
)
def test_of_what_is_at_fault_our_own_names_alone_are_logged(
    world: Quick, tmp_path: Path, caplog: pytest.LogCaptureFixture, query: str, refused: str
) -> None:
    """A token that stands where none belongs is not known for one."""
    caplog.set_level("INFO", "die_algorithm")
    with world.service(data_dir=str(tmp_path / "data")) as service:
        path = f"{WPS_PATH}?service=WPS&{query}"
        Client(service.application).get(path, headers={"gcube-token": ALICE.token})
    assert re.search(rf"GET '{WPS_PATH}' {re.escape(refused)} \d+ ms", caplog.text)
    assert BARE not in caplog.text
    assert "secretpassword" not in caplog.text


def test_the_key_of_a_result_is_in_no_line_of_the_log(world: Quick) -> None:
    key = "0123456789abcdef" * 2
    with world.processes() as die:
        die.serve()
        for place in (f"/results/{key}", f"/Results/{key.upper()}/x.zip", f"/wps/results/{key}/x"):
            assert die.get(place).status_code == 404
        log = die.log.read_text()
        assert "/Results/***/x.zip" in log
        assert key not in log.lower()


def test_the_same_token_twice_is_refused_in_any_disguise(world: Quick, tmp_path: Path) -> None:
    with world.service(data_dir=str(tmp_path / "data")) as service:
        for disguise in (ALICE.token, ALICE.token.replace("-", "%2d"), ALICE.token.upper()):
            url = service.execute_url(
                ALICE.token, Image=PROBE, CommandName=f"probe {disguise}", FileParam=world.item
            )
            assert service.get(url).status_code == 400
    _assert_clean_data(world.settings(data_dir=str(tmp_path / "data")))


def test_a_runtime_that_ends_leaves_no_mask_behind(world: Quick, tmp_path: Path) -> None:
    logger = logging.getLogger("die_algorithm.web")
    before = list(logger.filters)
    runtime = Runtime(lambda: world.settings(data_dir=str(tmp_path / "data")), works_here=False)
    runtime.start()
    assert {type(each) for each in logger.filters[len(before) :]} == {JobMark, TokenMask}
    assert runtime.engine.latest_jobs(UserToken(ALICE.token), 1) == ([], False)
    runtime.stop()
    assert logger.filters == before


def test_a_signal_that_dumps_core_dumps_none(world: Quick, tmp_path: Path) -> None:
    with world.processes(data_dir=str(tmp_path / "data")) as die:
        web = die.serve()
        web.send_signal(signal.SIGABRT)  # a shell may have let us ignore SIGQUIT
        assert os.WCOREDUMP(_raw_status(web)) is False


def _raw_status(process: subprocess.Popen[bytes]) -> int:
    _, status = os.waitpid(process.pid, 0)
    process.returncode = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    return status
