"""The example image's program against a small HTTP server in StorageHub's place."""

from __future__ import annotations

import email.parser
import email.policy
import http.server
import importlib.util
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import pytest

PROGRAM = Path(__file__).resolve().parents[2] / "examples" / "sortapp" / "sortapp.py"
TOKEN = "0e7f9c1a-canary-98187548"
DIRECTORY_REPLY = """<?xml version="1.0"?><Result><Resource><Profile><AccessPoint>
<RunningInstanceInterfaces><Endpoint EntryName="another.service">http://no.example</Endpoint>
<Endpoint EntryName="org.gcube.data.access.storagehub.StorageHub">
  http://hub.example/workspace/ </Endpoint>
</RunningInstanceInterfaces></AccessPoint></Profile></Resource></Result>"""


@dataclass
class Hub:
    """What the server answers and what it was asked."""

    url: str = ""
    item: bytes = b""
    #: Status and headers instead of the good answer, by HTTP method.
    refusals: dict[str, tuple[int, dict[str, str]]] = field(default_factory=dict)
    #: Method, path, headers and body of each request.
    requests: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(hub.item if "/items/" in self.path else DIRECTORY_REPLY.encode())

        def do_POST(self) -> None:
            self.answer(b"new-item-id")

        def answer(self, content: bytes) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            hub.requests.append((self.command, self.path, headers, body))
            status, extra = hub.refusals.get(self.command, (200, {}))
            self.send_response(status)
            for name, value in extra.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        hub.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


def run(
    hub: Hub, *arguments: str, storagehub: str | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "STORAGEHUB_URL": storagehub or f"{hub.url}/workspace",
    }
    command = [sys.executable, "-I", "-S", str(PROGRAM), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def form(headers: dict[str, str], body: bytes) -> dict[str, tuple[str | None, bytes]]:
    """Return the fields of a multipart form: file name and content."""
    head = f"Content-Type: {headers['content-type']}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    fields = {}
    for part in message.iter_parts():
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        fields[str(part.get_param("name", header="content-disposition"))] = (
            part.get_filename(),
            content,
        )
    return fields


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sortapp", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_uploads_the_sorted_lines_into_the_temp_folder(hub: Hub) -> None:
    hub.item = "oxygen\r\ncarbon\n\nÄther\ncarbon\n".encode()

    done = run(hub, TOKEN, "the-item", "the-folder")

    assert (done.returncode, done.stderr) == (0, "")
    fetch, upload = hub.requests
    assert fetch[:2] == ("GET", "/workspace/items/the-item/download")
    assert upload[:2] == ("POST", "/workspace/items/the-folder/create/FILE")
    fields = form(*upload[2:])
    assert fields["name"] == (None, b"elements.txt")
    assert fields["description"][1]
    assert fields["file"] == ("elements.txt", "\ncarbon\ncarbon\noxygen\nÄther".encode())


def test_bytes_that_are_no_utf_8_are_sorted_and_kept(hub: Hub) -> None:
    hub.item = b"z\n\xff\xfe\na\x00b"

    assert run(hub, TOKEN, "i", "f").returncode == 0
    assert form(*hub.requests[1][2:])["file"][1] == b"a\x00b\nz\n\xff\xfe"


def test_an_empty_file_gives_an_empty_result(hub: Hub) -> None:
    assert run(hub, TOKEN, "i", "f").returncode == 0
    assert form(*hub.requests[1][2:])["file"] == ("elements.txt", b"")


@pytest.mark.parametrize(
    ("token", "header", "value"),
    [
        (TOKEN, "gcube-token", TOKEN),
        ("eyJh.eyJz.c2ln", "authorization", "Bearer eyJh.eyJz.c2ln"),
    ],
)
def test_the_token_travels_in_the_header_that_fits_it_and_never_in_an_address(
    hub: Hub, token: str, header: str, value: str
) -> None:
    run(hub, token, "i", "f")

    assert len(hub.requests) == 2
    for _, path, headers, body in hub.requests:
        assert headers[header] == value
        assert ("gcube-token" in headers) is not ("authorization" in headers)
        assert token not in path
        assert token.encode() not in body


@pytest.mark.parametrize(("method", "what"), [("GET", "The file"), ("POST", "The upload")])
def test_a_refusal_ends_it_with_the_status_and_without_the_token(
    hub: Hub, method: str, what: str
) -> None:
    hub.refusals[method] = (500, {})

    done = run(hub, TOKEN, "i", "f")

    assert done.returncode == 1
    assert done.stderr == f"sortapp: {what}: the server answered 500.\n"
    assert TOKEN not in done.stdout + done.stderr


def test_a_redirect_is_not_followed_with_the_token(hub: Hub) -> None:
    hub.refusals["GET"] = (302, {"Location": f"{hub.url}/elsewhere"})

    done = run(hub, TOKEN, "i", "f")

    assert done.returncode == 1
    assert "answered 302" in done.stderr
    assert [path for _, path, _, _ in hub.requests] == ["/workspace/items/i/download"]


def test_an_unreachable_storagehub_is_reported(hub: Hub) -> None:
    done = run(hub, TOKEN, "i", "f", storagehub="http://127.0.0.1:1/workspace")

    assert done.returncode == 1
    assert "cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [(), (TOKEN,), (TOKEN, "i"), (TOKEN, "i", "f", "x")])
def test_wrong_arguments_are_answered_by_the_usage(hub: Hub, arguments: tuple[str, ...]) -> None:
    done = run(hub, *arguments)

    assert done.returncode == 2
    assert done.stderr.startswith("usage: sortapp ")
    assert hub.requests == []


def test_without_the_variable_storagehub_is_found_through_the_directory(hub: Hub) -> None:
    found = load().discover(TOKEN, f"{hub.url}/icproxy/gcube/service")

    assert found == "http://hub.example/workspace"
    ((_, path, headers, _),) = hub.requests
    assert path == "/icproxy/gcube/service/GCoreEndpoint/DataAccess/StorageHub"
    assert headers["gcube-token"] == TOKEN
