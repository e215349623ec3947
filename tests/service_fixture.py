"""The real service for tests: in this process or as a process of its own, on a free port, with its worker."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote, urlencode

import requests
import sqlalchemy as sa
from lxml import etree
from ogc import NAMESPACES, assert_valid
from storagehub_fixture import ALICE

from die_algorithm.description import IDENTIFIER
from die_algorithm.http_server import HttpServer
from die_algorithm.models import Job
from die_algorithm.runtime import Runtime, job_store
from die_algorithm.server import service_server, stop_service
from die_algorithm.settings import Settings
from die_algorithm.web import STATUS_PATH, WPS_PATH, WebApplication


@dataclasses.dataclass(frozen=True)
class Service:
    """A running service and bare HTTP requests to it. Every XML answer is held to the schemas."""

    settings: Settings
    runtime: Runtime
    application: WebApplication
    server: HttpServer

    @property
    def wps(self) -> str:
        """Where the WPS answers."""
        return self.settings.url + WPS_PATH

    def get(self, url: str, **options: object) -> requests.Response:
        """A GET; a path is taken below the service's address."""
        return self._request("GET", url, **options)

    def post(self, body: bytes | str, **options: object) -> requests.Response:
        """A POST of XML to the WPS."""
        headers = {"Content-Type": "text/xml", **dict(options.pop("headers", {}) or {})}  # type: ignore[call-overload]
        return self._request("POST", self.wps, data=body, headers=headers, **options)

    def stop(self) -> None:
        """Stop it, as at SIGTERM."""
        stop_service(self.server, self.runtime)

    def _request(self, method: str, url: str, **options: object) -> requests.Response:
        if url.startswith("/"):
            url = self.settings.url + url
        with requests.Session() as session:
            session.trust_env = False
            response = session.request(method, url, timeout=120, **options)  # type: ignore[arg-type]
        is_xml = response.headers.get("Content-Type", "").startswith("text/xml")
        if is_xml and b"FeatureCollection" not in response.content[:300]:
            assert_valid(response.content)
        return response

    def execute_url(self, token: str | None, *, asynchronous: bool = False, **inputs: str) -> str:
        """The address of an Execute."""
        return execute_url(self.wps, token, asynchronous=asynchronous, **inputs)

    def run(self, token: str, image: str, command: str, item: str) -> etree._Element:
        """Run a job to its end and give back its document."""
        url = self.execute_url(token, Image=image, CommandName=command, FileParam=item)
        response = self.get(url)
        assert response.status_code == 200, response.text
        return etree.fromstring(response.content)

    def submit(self, token: str, image: str, command: str, item: str) -> str:
        """Start a job and give back its id."""
        url = self.execute_url(
            token, asynchronous=True, Image=image, CommandName=command, FileParam=item
        )
        response = self.get(url)
        assert response.status_code == 200, response.text
        return job_id_of(etree.fromstring(response.content))


def execute_url(wps: str, token: str | None, *, asynchronous: bool = False, **inputs: str) -> str:
    """The address of an Execute in key-value pairs, inputs encoded as the standard asks."""
    pairs = ";".join(f"{name}={quote(value, safe='')}" for name, value in inputs.items())
    query = {
        "service": "WPS",
        "version": "1.0.0",
        "request": "Execute",
        "Identifier": IDENTIFIER,
        "DataInputs": pairs,
    }
    if token:
        query["gcube-token"] = token
    if asynchronous:
        query |= {"storeExecuteResponse": "true", "status": "true"}
    return f"{wps}?{urlencode(query, quote_via=quote)}"


def connect(service: Service | Settings) -> socket.socket:
    """A bare connection to a service."""
    settings = service.settings if isinstance(service, Service) else service
    host, _, port = settings.listen[0].partition(":")
    return socket.create_connection((host, int(port)), timeout=10)


def free_port() -> int:
    """A port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def unfinished_jobs(settings: Settings) -> list[Job]:
    """All jobs of a service's database that have not ended, whoever holds them."""
    engine = sa.create_engine(settings.database_url)
    with contextlib.closing(job_store(settings)) as store, engine.connect() as connection:
        ids = (
            connection.execute(sa.text("SELECT id FROM jobs ORDER BY accepted_at")).scalars().all()
        )
        jobs = [store.get(job_id) for job_id in ids]
    engine.dispose()
    return [job for job in jobs if job is not None and not job.state.is_final]


@contextlib.contextmanager
def running_service(settings: Settings) -> Iterator[Service]:
    """Run the service on a free port until the end of the block."""
    address = f"127.0.0.1:{free_port()}"
    settings = settings.model_copy(update={"url": f"http://{address}", "listen": (address,)})
    runtime = Runtime(lambda: settings)
    runtime.start()
    application = WebApplication(settings, runtime)
    server = service_server(settings, application)
    server.start()
    try:
        yield Service(settings, runtime, application, server)
    finally:
        stop_service(server, runtime)


def at_a_free_port(settings: Settings, data_dir: Path) -> Settings:
    """The settings of another service, with a folder and an address of its own."""
    address = f"127.0.0.1:{free_port()}"
    return settings.model_copy(
        update={"data_dir": data_dir, "url": f"http://{address}", "listen": (address,)}
    )


@contextlib.contextmanager
def service_process(
    settings: Settings, log: Path, wrapper: Sequence[str] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """``die serve`` as an operator starts it, ready to answer.

    Args:
        settings: how.
        log: the file for what it says.
        wrapper: a command that becomes the service after it has set something.
    """
    environment = {
        **os.environ,
        "DIE_URL": settings.url,
        "DIE_LISTEN": ",".join(settings.listen),
        "DIE_DATA_DIR": str(settings.data_dir),
        "DIE_STORAGEHUB_URL": settings.storagehub_url,
        "DIE_DOCKER_HOST": settings.docker_host,
        "DIE_DOCKER_HUB_URL": settings.docker_hub_url,
    }
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*wrapper, Path(sys.executable).with_name("die"), "serve"],
            env=environment,
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + 30
        while not _answers(f"{settings.url}/health"):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).status_code == 200
    except requests.ConnectionError:
        return False


def elements(document: etree._Element, path: str) -> list[etree._Element]:
    """The elements that an XPath finds."""
    found = document.xpath(path, namespaces=NAMESPACES)
    assert isinstance(found, list)
    return [item for item in found if isinstance(item, etree._Element)]


def text_of(document: etree._Element, path: str) -> str:
    """The text below the first element that an XPath finds, white space folded."""
    found = elements(document, path)
    assert found, etree.tostring(document).decode()
    return " ".join("".join(map(str, found[0].itertext())).split())


def status_location(document: etree._Element) -> str:
    """Where an asynchronous job's document will be."""
    return str(document.attrib["statusLocation"])


def status_path(job_id: str, token: str = ALICE.token) -> str:
    """Where a job's document is, below the service's address, for who has this token."""
    return f"{STATUS_PATH}?id={job_id}&gcube-token={token}"


def job_id_of(document: etree._Element) -> str:
    """The id of an asynchronous job, cut out as DataMiner's portal does it."""
    return status_location(document).rpartition("?id=")[2]
