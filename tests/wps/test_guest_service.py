"""The process in somebody else's PyWPS service, with one line and that developer's own server."""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import os
import re
import socket
import sqlite3
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from catalogue.asking import execute1
from ogc import assert_valid
from owslib.wps import ASYNC, SYNC, WebProcessingService, monitorExecution
from quick_fixture import Quick, soon
from service_fixture import free_port, status_location
from storagehub_fixture import ALICE
from swarm_fixture import PROBE, SORTAPP, let_end
from werkzeug.wrappers import Request

from die_algorithm.description import IDENTIFIER
from die_algorithm.door_headers import DOOR_HEADERS
from die_algorithm.errors import NotAuthorized, SettingsError
from die_algorithm.job_store import JobStore
from die_algorithm.local_swarm import LocalSwarm
from die_algorithm.models import UserToken
from die_algorithm.process import DockerImageExecutor
from die_algorithm.public_links import PublicLinks
from die_algorithm.runtime import Runtime
from die_algorithm.settings import Settings
from die_algorithm.storagehub import StorageHub
from die_algorithm.token_mask import TokenMask

ROOT = Path(__file__).resolve().parents[2]

# What the developer writes: his service…
SERVICE = """
import sys
from pywps import Service
from die_algorithm.process import DockerImageExecutor

executor = DockerImageExecutor()
service = Service([executor], sys.argv[3:])
executor.start()
"""
# …and his server, which serves the folder of outputs as it is: one reading of a file is whole, also
# while it is replaced (werkzeug's own middleware tells the length of one file and sends another).
SERVER = """
import sys
from pathlib import Path
from werkzeug.security import safe_join
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Response

class Discreet(WSGIRequestHandler):
    def log_request(self, code="-", size="-"):
        pass  # an address may hold a token

def application(environ, start_response):
    first, _, rest = environ["PATH_INFO"].lstrip("/").partition("/")
    answer = published(safe_join(sys.argv[1], rest)) if first == "outputs" else service
    return answer(environ, start_response)

def published(path):
    try:
        return Response(Path(path).read_bytes(), content_type="application/octet-stream")
    except OSError:
        return Response("There is no such file.", 404)

server = make_server(
    "127.0.0.1", int(sys.argv[2]), application, threaded=True, request_handler=Discreet
)
server.serve_forever()
"""
#: The ways in which PyWPS is given its configuration.
WAYS = ("list", "PYWPS_CFG", "home")


class Guest:
    """The developer's service as a process, which may be killed and started again."""

    def __init__(
        self, folder: Path, settings: Settings, more: str = "", *, way: str = "list"
    ) -> None:
        self.service = SERVICE
        self.folder = folder
        self.log = folder / "log"
        self._port = free_port()
        self._configuration = folder / ".pywps.cfg"
        self._way = way
        self.outputs = folder / "outputs"
        self.outputs.mkdir(parents=True)
        base = f"http://127.0.0.1:{self._port}"
        self.wps = f"{base}/wps"
        self._configuration.write_text(
            f"[server]\nurl={self.wps}\noutputurl={base}/outputs\noutputpath={self.outputs}\n"
            f"workdir={folder}\n[logging]\ndatabase=sqlite:///{folder}/log.db\n"
            f"[die]\ndata_dir={folder}/die\nstoragehub_url={settings.storagehub_url}\n"
            f"docker_host={settings.docker_host}\ndocker_hub_url={settings.docker_hub_url}\n{more}"
        )

    def start(self) -> None:
        environment = dict(os.environ)
        if self._way == "PYWPS_CFG":
            environment["PYWPS_CFG"] = str(self._configuration)
        elif self._way == "home":
            environment["HOME"] = str(self.folder)
        given = [str(self._configuration)] if self._way == "list" else []
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-c", self.service + SERVER),
                    *(str(self.outputs), str(self._port), *given),
                ],
                cwd=self.folder,
                env=environment,
                stdout=log,
                stderr=log,
            )
        wait_for(f"{self.wps}?service=WPS&request=GetCapabilities")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def end(self) -> int:
        """Ask it to end; its exit code."""
        self._process.terminate()
        try:
            return self._process.wait(20)
        finally:
            self.kill()

    @contextlib.contextmanager
    def running(self) -> Iterator[Guest]:
        self.start()
        try:
            yield self
        finally:
            self.kill()


@pytest.fixture(scope="module")
def server(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    with Guest(tmp_path_factory.mktemp("guest"), settings).running() as server:
        yield server


@pytest.fixture
def guest(server: Guest) -> str:
    """The address of the developer's service."""
    return server.wps


def wait_for(url: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            requests.get(url, timeout=5)
        except requests.ConnectionError:
            time.sleep(0.1)
        else:
            return
    pytest.fail("the guest's service did not start")


@pytest.mark.parametrize("mode", [SYNC, ASYNC])
def test_owslib_runs_the_main_job_in_a_foreign_service(
    guest: str, item: str, tmp_path: Path, mode: str
) -> None:
    wps = WebProcessingService(guest, headers={"gcube-token": ALICE.token})
    inputs = [("Image", SORTAPP), ("CommandName", "sortapp"), ("FileParam", item)]
    execution = wps.execute(IDENTIFIER, inputs, output=[("Result", True)], mode=mode)
    monitorExecution(execution, sleepSecs=0.2)
    assert execution.isSucceded(), execution.errors
    target = tmp_path / "result.zip"
    execution.getOutput(str(target))
    with zipfile.ZipFile(io.BytesIO(target.read_bytes())) as archive:
        assert archive.testzip() is None
        assert any(name.endswith("/elements.txt") for name in archive.namelist())


def execute(guest: str, image: str, command: str, item: str) -> requests.Response:
    """The answer to an asynchronous Execute."""
    query = {
        "service": "WPS",
        "version": "1.0.0",
        "request": "Execute",
        "Identifier": IDENTIFIER,
        "DataInputs": f"Image={image};CommandName={command};FileParam={item}",
        "storeExecuteResponse": "true",
        "status": "true",
        "gcube-token": ALICE.token,
    }
    return requests.get(guest, params=query, timeout=60)


def submit(guest: str, image: str, command: str, item: str) -> str:
    """Start a job and give back where its document is."""
    return status_location(assert_valid(execute(guest, image, command, item).content))


def job_of(location: str) -> str:
    """The id of the job whose document is there."""
    return location.rpartition("/")[2].removesuffix(".xml")


def follow(location: str, word: bytes) -> bytes:
    """Poll a document, each time valid, until it holds a word."""
    deadline = time.monotonic() + 60
    while word not in (document := requests.get(location, timeout=60).content):
        assert_valid(document)
        assert b"ProcessFailed" not in document, document
        assert time.monotonic() < deadline, document
        time.sleep(0.1)
    return document


def test_the_documents_of_a_foreign_service_are_valid(guest: str, item: str) -> None:
    document = follow(submit(guest, SORTAPP, "sortapp", item), b"ProcessSucceeded")
    assert_valid(document)
    assert ALICE.token.encode() not in document


def test_a_job_of_a_foreign_service_survives_its_restart(
    server: Guest, item: str, swarm: LocalSwarm
) -> None:
    location = submit(server.wps, PROBE, "probe sleep 60", item)
    follow(location, b'percentCompleted="30"')
    server.kill()
    server.start()
    let_end(swarm, job_of(location))
    # Nobody sends another Execute, the client merely goes on polling.
    follow(location, b"ProcessSucceeded")


def test_what_came_as_a_token_is_forgotten_with_its_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mask, word = TokenMask(), "docker.io/d4science"

    def refuse(*_: object) -> None:
        mask.suspect(UserToken(word))
        assert mask.mask(f"image {word} ") == "image *** "
        raise NotAuthorized("No.")

    monkeypatch.setattr(DockerImageExecutor, "_settings", refuse)
    query = f"service=WPS&version=1.0.0&request=Execute&Identifier={IDENTIFIER}&gcube-token={word}"
    request = Request.from_values(query_string=query)
    answer = DockerImageExecutor().execute(SimpleNamespace(http_request=request), None)
    assert answer.status_code == 401
    assert answer.headers["Cache-Control"] == "no-store"
    assert mask.mask(f"image {word} ") == f"image {word} "


# A server that ends its process as Python does, in which results never come to their end.
HUNG = """
import signal, sys, time
from contextlib import contextmanager
from pathlib import Path
from die_algorithm.storagehub import StorageHub

@contextmanager
def trickle(*_arguments, **_options):
    Path("begun").touch()
    yield (time.sleep(0.05) or b"" for _ in iter(int, 1))

StorageHub.download = trickle
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
"""


def test_a_foreign_service_that_ends_breaks_off_transfers_and_leaves_its_jobs_to_the_next(
    quick: Quick, tmp_path: Path
) -> None:
    server = Guest(tmp_path / "guest", quick.settings())
    server.service = HUNG + SERVICE
    server.start()
    location = submit(server.wps, PROBE, "probe noop", quick.item)
    soon((server.folder / "begun").exists)
    assert server.end() == 0
    with contextlib.closing(sqlite3.connect(server.folder / "die" / "jobs.sqlite")) as database:
        # Nobody has to wait for the end of a lease.
        assert database.execute("SELECT id FROM workers").fetchall() == []
    assert "Traceback" not in server.log.read_text()
    server.service = SERVICE
    with server.running():
        follow(location, b"ProcessSucceeded")


def test_a_foreign_service_that_cannot_start_keeps_nothing_open(
    quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []
    for made, close in ((JobStore, "close"), (StorageHub, "close"), (PublicLinks, "close")):
        monkeypatch.setattr(made, "__init__", _noting(made.__init__, opened.append))
        monkeypatch.setattr(made, close, _noting(getattr(made, close), opened.remove))
    logger = logging.getLogger("die_algorithm.web")
    before = list(logger.filters)
    wrong = {"docker_host": "tcp://127.0.0.1:2376", "docker_tls_dir": str(tmp_path)}
    runtime = Runtime(lambda: quick.settings(data_dir=str(tmp_path / "data"), **wrong))
    with pytest.raises(SettingsError, match="docker_tls_dir"):
        runtime.start()
    assert opened == []
    assert logger.filters == before


def _noting(method: Callable[..., Any], note: Callable[[Any], None]) -> Callable[..., Any]:
    def noted(self: object, *arguments: Any, **options: Any) -> Any:
        note(self)
        return method(self, *arguments, **options)

    return noted


def test_a_foreign_service_refuses_bad_input_before_anything_is_created(guest: str) -> None:
    query = {
        "service": "WPS",
        "version": "1.0.0",
        "request": "Execute",
        "Identifier": IDENTIFIER,
        "DataInputs": "Image=evil.com/x;CommandName=x;FileParam=12345678",
    }
    answer = requests.get(guest, params=query, headers={"gcube-token": ALICE.token}, timeout=60)
    assert answer.status_code == 400
    assert 'locator="Image"' in answer.text
    assert DOOR_HEADERS.items() <= answer.headers.items()


def test_the_published_files_of_a_foreign_service_expire(quick: Quick, tmp_path: Path) -> None:
    short = "result_retention=500ms\nrecord_retention=3s\n"
    server = Guest(tmp_path / "guest", quick.settings(), short)
    server.service = f"from die_algorithm import janitor\njanitor._EXPIRE_EVERY = 0.2\n{SERVICE}"
    with server.running():
        location = submit(server.wps, PROBE, "probe noop", quick.item)
        links = follow(location, b"ProcessSucceeded")
        assert len(list(server.outputs.glob("*/*"))) == 3
        # The status is there all the time, and never an old one again.
        expired = follow(location, b"has expired")
        assert b"ProcessOutputs" in links
        assert b"ProcessOutputs" not in expired
        assert [path.name for path in server.outputs.iterdir()] == [location.rpartition("/")[2]]
        soon(lambda: not list(server.outputs.iterdir()))


def test_behind_a_proxy_of_a_foreign_service_wrong_tokens_count_for_their_sender(
    quick: Quick, tmp_path: Path
) -> None:
    limits = "max_refused_tokens_per_minute=3\ntrusted_proxies=127.0.0.0/8\n"
    server = Guest(tmp_path / "guest", quick.settings(), limits)

    def status(client: str) -> int:
        inputs = f"Image={PROBE};CommandName=probe noop;FileParam={quick.item}"
        query = (
            f"service=WPS&version=1.0.0&request=Execute&Identifier={IDENTIFIER}&DataInputs={inputs}"
        )
        wrong = f"{next(numbers):08}-0000-4000-8000-000000000000-98187548"
        headers = {"gcube-token": wrong, "X-Forwarded-For": client}
        return requests.get(f"{server.wps}?{query}", headers=headers, timeout=60).status_code

    numbers = itertools.count()
    with server.running():
        assert [status("192.0.2.1") for _ in range(4)] == [401, 401, 401, 429]
        assert status("192.0.2.2") == 401


# -- how it is configured


@pytest.mark.parametrize("way", WAYS)
def test_an_allow_list_holds_whichever_way_pywps_was_given_its_file(
    quick: Quick, tmp_path: Path, way: str
) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('[images]\nallow = ["die-tests/other"]\n')
    server = Guest(tmp_path / "guest", quick.settings(), f"policy_file={policy}\n", way=way)
    with server.running():
        answer = execute(server.wps, PROBE, "probe noop", quick.item)
    assert answer.status_code == 403, answer.text
    quick.assert_nothing_left()


@pytest.mark.parametrize("way", WAYS)
def test_a_setting_that_does_not_exist_stops_a_foreign_service_from_running_jobs(
    quick: Quick, tmp_path: Path, way: str
) -> None:
    server = Guest(tmp_path / "guest", quick.settings(), "policyfile=x\n", way=way)
    server.service = SERVICE.replace("executor.start()", "")
    with server.running():
        answer = execute(server.wps, PROBE, "probe noop", quick.item)
    assert answer.status_code == 503
    assert "not set up correctly" in answer.text
    assert "The setting 'policyfile' does not exist" in server.log.read_text()
    quick.assert_nothing_left()


def test_a_process_that_was_started_before_its_configuration_was_loaded_runs_no_job(
    quick: Quick, tmp_path: Path
) -> None:
    server = Guest(tmp_path / "guest", quick.settings())
    begin, middle, start = SERVICE.partition("service = ")
    server.service = f"{begin}executor.start()\n{middle}{start}".removesuffix("executor.start()\n")
    with server.running():
        answer = execute(server.wps, PROBE, "probe noop", quick.item)
    assert answer.status_code == 503
    assert "Make the Service first" in server.log.read_text()
    quick.assert_nothing_left()


def test_the_snippets_of_the_readme_let_unfinished_jobs_go_on_after_a_restart(
    quick: Quick, tmp_path: Path
) -> None:
    readme = (ROOT / "README.md").read_text()
    chapter = re.search(
        r"^## In your own PyWPS service\n(.*?)^## ", readme, re.DOTALL | re.MULTILINE
    )
    assert chapter
    my_service, gunicorn = re.findall(r"```python\n(.*?)```", chapter[1], re.DOTALL)
    server = Guest(tmp_path / "guest", quick.settings(), way="PYWPS_CFG")
    (server.folder / "my_service.py").write_text(my_service)
    server.service = (
        "import sys\nsys.path.insert(0, '')\n"
        f"from my_service import application as service\n{gunicorn}\npost_worker_init(None)\n"
    )
    with server.running():
        location = submit(server.wps, PROBE, "probe sleep 60", quick.item)
        follow(location, b'percentCompleted="30"')
        soon(quick.engine.alive)
    with server.running():
        quick.engine.let_end(job_of(location))
        follow(location, b"ProcessSucceeded")


@pytest.mark.parametrize("form", ["xml", "xml-get", "kvp"])
def test_a_foreign_service_fetches_nothing_and_leaves_no_folder(server: Guest, form: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        href = f"http://127.0.0.1:{listener.getsockname()[1]}/x"
        body = f'<wps:BodyReference xlink:href="{href}"/>' if form == "xml" else ""
        method = "POST" if body else "GET"
        given = f'<wps:Reference method="{method}" xlink:href="{href}">{body}</wps:Reference>'
        if form == "kvp":
            inputs = f"Image=x/y;CommandName=x;FileParam=@xlink:href={href}@method=POST@bodyreference={href}"
            query = f"service=WPS&version=1.0.0&request=Execute&Identifier={IDENTIFIER}&DataInputs={inputs}"
            answer = requests.get(f"{server.wps}?{query}", timeout=60)
        else:
            text = execute1(
                FileParam=f"<wps:Input><ows:Identifier>FileParam</ows:Identifier>{given}</wps:Input>"
            )
            headers = {"Content-Type": "text/xml"}
            answer = requests.post(server.wps, text, headers=headers, timeout=60)
        assert 400 <= answer.status_code < 500, answer.text
        with pytest.raises(TimeoutError):
            listener.accept()
    assert not list(server.folder.glob("pywps_process_*"))


@pytest.mark.parametrize("command", ["run%20a=b", "run%20--image=x@1.0"])
def test_a_foreign_service_reads_what_pywps_would_cut(guest: str, command: str) -> None:
    inputs = f"Image=die-tests/none%40sha256:{'ab' * 32};CommandName={command};FileParam=x"
    query = f"service=WPS&version=1.0.0&request=Execute&Identifier={IDENTIFIER}&DataInputs={inputs}"
    answer = requests.get(f"{guest}?{query}", timeout=60)
    # All inputs were read and are right: what is missing is the token.
    assert answer.status_code == 401, answer.text
