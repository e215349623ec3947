"""A service in a network of its own, and all that a request could leave behind or set going."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import http.server
import io
import logging
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import pytest
import requests
from lxml import etree
from ogc import assert_valid, texts
from quick_fixture import DIE, PROBE, Quick, soon
from service_fixture import execute_url, job_id_of, status_path
from stand_in_engine import StandInEngine
from stand_in_engine.api import Answer as EngineAnswer
from stand_in_engine.api import Request as EngineRequest
from storagehub_fixture import ALICE, BOB, local_storagehub

from catalogue.asking import Ask, Row
from die_algorithm.door_headers import DOOR_HEADERS
from die_algorithm.local_storagehub.app import Application
from die_algorithm.local_swarm.network import Network
from die_algorithm.web import WPS_PATH

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

LOGGER = logging.getLogger(__name__)

#: Seconds in which bad input is answered: the catalogue's own limit.
SOON = 1.0
#: How often a row is tried that was too slow.
_TRIES = 3
#: The cloud's store of credentials, which every attack of this kind is after.
METADATA = "169.254.169.254"
#: Where something that nobody outside may reach usually listens, inside of the service's network.
_PORTS = (80, 443, 2375, 5000, 8080, 8081)
_NEVER_SHOWN = ("Traceback", ".py", "die_algorithm", "site-packages", "waitress", "werkzeug")


class CountingEngine(StandInEngine):
    """A stand-in engine that counts the services it was asked for, not only those that are left."""

    creates = 0

    def _respond(self, request: EngineRequest) -> EngineAnswer:
        if request.path.endswith("/services/create"):
            self.creates += 1
        return super()._respond(request)


class Listeners:
    """Servers on the inner addresses of a network, which count who connects.

    Args:
        network: whose.
    """

    def __init__(self, network: Network) -> None:
        program = [sys.executable, "-c", _LISTEN, METADATA, *map(str, _PORTS)]
        self._process = subprocess.Popen(
            [*network.enter(), *program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.count()  # they listen

    def count(self) -> int:
        """How many have connected so far."""
        assert self._process.stdin
        assert self._process.stdout
        print(file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


_LISTEN = """
import select, socket, sys
address, *ports = sys.argv[1:]
listeners = [socket.create_server((host, int(port))) for host in ("127.0.0.1", address) for port in ports]
count = 0
while True:
    for ready in select.select([*listeners, sys.stdin], [], [])[0]:
        if ready is sys.stdin:
            if not sys.stdin.readline():
                sys.exit()
            waiting = select.select(listeners, [], [], 0)[0]
            while waiting:
                for listener in waiting:
                    listener.accept()[0].close()
                    count += 1
                waiting = select.select(listeners, [], [], 0)[0]
            print(count, flush=True)
            break
        ready.accept()[0].close()
        count += 1
"""


class LinkHost:
    """A host whose public links are trusted, and which leads whoever asks to where the path says."""

    def __init__(self, address: str) -> None:
        host = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                host.asked += 1
                self.send_response(302)
                self.send_header("Location", self.path.partition("?to=")[2])
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_HEAD = do_GET  # noqa: N815 - the library's name

            def log_message(self, *_: object) -> None:
                pass

        self.asked = 0
        self._server = http.server.ThreadingHTTPServer((address, 0), Handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes
    seconds: float

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", errors="replace")

    @property
    def exception(self) -> tuple[str | None, str | None]:
        """Code and locator of an ExceptionReport of either version."""
        document = assert_valid(self.body)
        exceptions = [e for e in document if etree.QName(e).localname == "Exception"]
        assert etree.QName(document).localname == "ExceptionReport", self.text
        assert len(exceptions) == 1, self.text
        return exceptions[0].get("exceptionCode"), exceptions[0].get("locator")


@dataclasses.dataclass
class World:
    """The service, what it lives between, and how to ask it."""

    quick: Quick
    engine: CountingEngine
    network: Network
    listeners: Listeners
    links: LinkHost
    host: str
    port: int
    process: subprocess.Popen[bytes]
    #: What StorageHub was asked.
    asked: list[str]
    #: Two jobs of alice's that have ended, well and not, and the addresses of the first one's zip and log.
    succeeded: str = ""
    failed: str = ""
    zip_path: str = ""
    log_path: str = ""
    untouched: object = None

    @property
    def log(self) -> str:
        """What the service has logged."""
        return self.quick.folder.joinpath("log").read_text()

    # -- asking

    def connect(self) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout=60)

    def bytes_of(self, ask: Ask) -> bytes:
        """A request as it goes over the line."""
        if ask.raw:
            return self.placed(ask.raw)
        body = self.placed(ask.body)
        headers = [("Host", f"{self.host}:{self.port}"), *ask.headers, ("Connection", "close")]
        if body or ask.method in ("POST", "PUT", "PATCH"):
            headers.append(("Content-Length", str(len(body))))
        head = f"{ask.method} {ask.target} HTTP/1.1\r\n" + "".join(
            f"{n}: {v}\r\n" for n, v in headers
        )
        return self.placed(head.encode("latin-1")) + b"\r\n" + body

    def placed(self, text: bytes) -> bytes:
        """A text with what is known only now."""
        places = {
            "ITEM": self.quick.item,
            "JOB": self.succeeded,
            "FAILED": self.failed,
            "ZIP": self.zip_path,
            "LOG": self.log_path,
            "LINKS": f"links.test:{self.links.port}",
        }
        for name, value in places.items():
            text = text.replace(f"@{name}@".encode(), value.encode())
        return text

    def ask(self, ask: Ask) -> Answer:
        """Send a request and read its answer to the end of the connection."""
        request = self.bytes_of(ask)
        began = time.monotonic()
        with self.connect() as connection:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(request)  # it may be refused before it is read
            return read_answer(connection, ask.method, began)

    # -- what is left of it

    def left(self) -> object:
        """All that a request could have made: outside, on the disk, in the database."""
        folder = self.quick.folder
        hub = {
            str(path): path.stat().st_mtime_ns
            for path in (folder / "storagehub").rglob("*")
            if path.is_file() and path.suffix not in (".sqlite-wal", ".sqlite-shm")
        }
        own = sorted(
            str(path) for name in ("data", "work", "tmp") for path in (folder / name).rglob("*")
        )
        return self.engine.creates, hub, own, self.jobs(), self.strayed(), self.listeners.count()

    def jobs(self) -> int:
        """How many jobs the database has."""
        database = f"file:{self.quick.folder}/data/jobs.sqlite?mode=ro"
        with contextlib.closing(sqlite3.connect(database, uri=True)) as connection:
            return int(connection.execute("SELECT count(*) FROM jobs").fetchone()[0])

    def strayed(self) -> int:
        """Packets that have left for anywhere but the cable to the host, loopback included."""
        command = [*self.network.enter(), "iptables", "-nvxL", "OUTPUT"]
        listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return int(listing.splitlines()[2].split()[0])

    def memory(self) -> int:
        """Bytes of memory of the service's processes."""
        ids = [self.process.pid]
        for pid in ids:
            children = Path(f"/proc/{pid}/task/{pid}/children")
            ids += [int(word) for word in children.read_text().split()]
        pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in ids]
        return sum(pages) * os.sysconf("SC_PAGE_SIZE")

    def hold(self, row: Row) -> Answer:
        """Play a row: its answer is as it says, and nothing comes of it."""
        answer = self._ask_in_time(row)
        self.hold_shape(answer, row.ask)
        if row.code is None:
            assert answer.status == row.status, answer.text
        else:
            told = (answer.status, *answer.exception)
            assert told == (row.status, row.code, row.locator), answer.text
        self.hold_untouched()
        if not row.asks_storagehub:
            assert self.asked == []
        return answer

    def _ask_in_time(self, row: Row) -> Answer:
        """The answer to a row, which comes in time at least once of three times.

        The limit is of a clock on the wall, and the machine may be busy with other tests.
        """
        seconds = []
        for _ in range(_TRIES):
            del self.asked[:]
            answer = self.ask(row.ask)
            seconds.append(answer.seconds)
            if answer.seconds <= SOON:
                return answer
            LOGGER.warning("%s took %.2f s and is tried again", row.name, answer.seconds)
        pytest.fail(f"{row.name} is never answered in time: {seconds} s")

    def hold_shape(self, answer: Answer, ask: Ask) -> None:
        """See that an answer shows nothing that it should not."""
        if answer.headers.get_content_type() == "text/xml" and ask.method != "HEAD":
            assert_valid(answer.body)
        inside = [str(self.quick.folder), *_NEVER_SHOWN]
        if answer.headers.get_content_type() != "application/zip":
            assert not [word for word in inside if word in answer.text], answer.text
        sent = self.bytes_of(ask)
        tokens = [
            ALICE.token,
            BOB.token,
            *(v for n, v in ask.headers if n == "gcube-token" and len(v) > 7),
        ]
        told = answer.text + str(answer.headers)
        assert not [token for token in tokens if token in told], (sent, told)
        for name in DOOR_HEADERS:
            assert name in answer.headers, name
        names = [name.lower() for name in answer.headers]
        assert not {"server", "x-powered-by", "set-cookie"} & set(names)
        assert not [name for name in names if name.startswith("access-control-")]
        assert answer.headers.get_content_type() != "text/html"

    def hold_untouched(self) -> None:
        """See that nothing has come of a request."""
        now, before = self.left(), self.untouched
        self.untouched = now  # so that one failure is one
        assert now == before


def read_answer(connection: socket.socket, method: str, began: float) -> Answer:
    """The first answer of a connection, which ends with it."""
    received = io.BytesIO()
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(2**18):
            received.write(part)
    seconds = time.monotonic() - began
    response = http.client.HTTPResponse(_Received(received.getvalue()), method=method)  # type: ignore[arg-type]
    response.begin()
    with contextlib.closing(response):
        return Answer(response.status, response.msg, response.read(), seconds)


class _Received:
    """Bytes that can be read as a socket's."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


# -- making it


@contextlib.contextmanager
def catalogue_world(folder: Path) -> Iterator[World]:
    """The service as ``die serve`` starts it, in a network namespace; its StorageHub is outside."""
    with contextlib.ExitStack() as stack:
        # Another run on this machine has another.
        network = Network(f"die-c{os.getpid()}", seed=os.getpid())
        network.open()
        stack.callback(network.close)
        outer = network.host_address
        inner = outer.rpartition(".")[0] + f".{int(outer.rpartition('.')[2]) + 1}"
        for command in (
            f"ip address add {METADATA}/32 dev lo",
            f"iptables --insert OUTPUT ! --destination {outer}",
        ):
            subprocess.run([*network.enter(), *command.split()], check=True)
        listeners = stack.enter_context(contextlib.closing(Listeners(network)))
        links = stack.enter_context(LinkHost(outer))
        asked: list[str] = []
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        _count_questions(patch, asked)
        engine = stack.enter_context(CountingEngine(folder / "engine.sock"))
        hub = stack.enter_context(local_storagehub(folder / "storagehub", listen=(f"{outer}:0",)))
        quick = Quick(engine, hub, hub.seed(ALICE.name, "a.txt", b"a"), folder)
        process = stack.enter_context(_service(quick, network, f"{inner}:8765", outer, links.port))
        world = World(quick, engine, network, listeners, links, inner, 8765, process, asked)
        _run_jobs(world)
        yield world


def _count_questions(patch: pytest.MonkeyPatch, asked: list[str]) -> None:
    answer = Application.__call__

    def counted(self: Application, environ: WSGIEnvironment, start: StartResponse) -> object:
        asked.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
        return answer(self, environ, start)

    patch.setattr(Application, "__call__", counted)


@contextlib.contextmanager
def _service(
    quick: Quick, network: Network, listen: str, outer: str, link_port: int
) -> Iterator[subprocess.Popen[bytes]]:
    hosts = quick.folder / "hosts"
    hosts.write_text(
        f"127.0.0.1 localhost\n{outer} links.test\n{METADATA} metadata.test rebound.links.test\n"
    )
    for name in ("work", "tmp"):
        (quick.folder / name).mkdir()
    changes = {
        "url": f"http://{listen}",
        "listen": listen,
        "trusted_hosts": f"links.test:{link_port}",
    }
    own = f"mount --bind {hosts} /etc/hosts && exec {DIE} serve"
    environment = {
        **os.environ,
        **quick.environment(**changes),
        "TMPDIR": str(quick.folder / "tmp"),
    }
    with (quick.folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [*network.enter(), "unshare", "--mount", "sh", "-c", own],
            cwd=quick.folder / "work",
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        soon(lambda: process.poll() is not None or _is_ready(f"http://{listen}/ready"), 60)
        assert process.poll() is None, (quick.folder / "log").read_text()
        yield process
    finally:
        process.terminate()
        process.wait(60)


def _is_ready(url: str) -> bool:
    with contextlib.suppress(requests.ConnectionError):
        return requests.get(url, timeout=10).status_code == 200
    return False


def _run_jobs(world: World) -> None:
    """Let two jobs end, so that there are some that others could be after."""
    url = f"http://{world.host}:{world.port}"

    def run(command: str, word: str) -> tuple[str, etree._Element]:
        inputs = {"Image": PROBE, "CommandName": command, "FileParam": world.quick.item}
        answer = requests.get(
            execute_url(url + WPS_PATH, ALICE.token, asynchronous=True, **inputs), timeout=60
        )
        job_id = job_id_of(etree.fromstring(answer.content))

        def document() -> bytes:
            content = requests.get(url + status_path(job_id), timeout=60).content
            return content if word.encode() in content else b""

        return job_id, etree.fromstring(soon(document, 60))

    world.succeeded, document = run("probe write a.txt a", "ProcessSucceeded")
    log, zip_address = texts(document, "//ogr:Result/d4science:Data")
    world.zip_path, world.log_path = zip_address.removeprefix(url), log.removeprefix(url)
    world.failed, _ = run("probe exit 3", "ProcessFailed")
    soon(lambda: world.engine.services() == [] and world.quick.folders() == [])
    world.untouched = world.left()
