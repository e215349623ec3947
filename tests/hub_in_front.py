"""A StorageHub that lies: it stands before a real one and changes what that answers."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import requests
from raw_server import Connection, RawServer, Request, http

from die_algorithm.local_storagehub.server import LocalStorageHub

#: Given the request and the real answer's body, what is sent in its place: a body, which gets a right
#: head, or a function that is given the socket.
Lie = Callable[[Request, bytes], bytes | Callable[[Connection], None]]
#: Given the request, the whole answer to one that the real one never gets; None: it gets it.
Refusal = Callable[[Request], bytes | None]


def is_download(request: Request) -> bool:
    """Whether it asks for a file or a folder's zip."""
    return request.method == "GET" and "/download" in request.target


def is_listing(request: Request) -> bool:
    """Whether it asks for what is in a folder."""
    return request.method == "GET" and "/children/paged" in request.target


def item_of(request: Request) -> str:
    """The id of the item that it is about."""
    return request.target.partition("/items/")[2].partition("/")[0].partition("?")[0]


def relisted(body: bytes, change: Callable[[dict[str, Any]], Mapping[str, Any]]) -> bytes:
    """A listing with each of its items changed."""
    items = json.loads(body)["itemlist"]
    return json.dumps({"itemlist": [change(item) for item in items]}).encode()


@contextlib.contextmanager
def hub_in_front(
    hub: LocalStorageHub, lie: Lie, refused: Refusal = lambda _request: None
) -> Iterator[RawServer]:
    """Answer as the real one does, but for lies and what is refused."""

    def answer(connection: Connection) -> None:
        request = connection.request
        assert request is not None
        if refusal := refused(request):
            connection.send(refusal)
            return
        real = _real_answer(hub, request)
        sent = lie(request, real.content)
        if callable(sent):
            sent(connection)
            return
        media_type = real.headers.get("Content-Type", "text/plain")
        is_lie = sent != real.content
        status = "200 OK" if is_lie else f"{real.status_code} {real.reason}"
        connection.send(http(status, sent, f"Content-Type: {media_type}"))

    with RawServer(answer) as server:
        yield server


def _real_answer(hub: LocalStorageHub, request: Request) -> requests.Response:
    url = hub.base_url + request.target.removeprefix("/workspace")
    dropped = {"host", "connection", "content-length", "transfer-encoding"}
    headers = {name: value for name, value in request.headers.items() if name not in dropped}
    with requests.Session() as session:
        session.trust_env = False
        return session.request(
            request.method,
            url,
            headers=headers,
            data=request.body,
            timeout=30,
            allow_redirects=False,
        )
