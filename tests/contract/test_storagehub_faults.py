"""What a StorageHub, or whatever stands in its place, may do wrong.

The server is a bare socket, so that each byte of the fault is real (reference: safety 3.4, F31-F36).
"""

from __future__ import annotations

import email.utils
import gc
import gzip
import io
import itertools
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
import urllib3
from raw_server import Answer, Connection, RawServer, Request, http, json_answer

from die_algorithm.errors import (
    DamagedDownload,
    FolderTooDeep,
    ItemDoubtful,
    ItemUnusable,
    StorageHubError,
    StorageHubUnavailable,
    TokenRejected,
)
from die_algorithm.models import UserToken
from die_algorithm.storagehub import StorageHub

SECRET = "5ecre7c4-na4y-4711-8888-123456789abc-98187548"
TOKEN = UserToken(SECRET)
JWT = UserToken("eyJhbGciOi.eyJzdWIiOi.c2lnbmF0dXJl")
ITEM = {
    "id": "f0",
    "name": "in.txt",
    "path": "/Home/ada/Workspace/in.txt",
    "owner": "ada",
    "@class": "org.gcube.common.storagehub.model.items.GenericFileItem",
    "content": {"size": 3, "mimeType": "text/plain"},
}
GOOD = json_answer({"item": ITEM})
BODY = json.dumps({"item": ITEM}).encode()
TEXT = "Content-Type: text/plain"
JSON = "Content-Type: application/json"
ROOT = json_answer({"item": ITEM | {"id": "r", "name": "Workspace"}})
ERROR_FORM = {"id": "f0", "message": "no such", "exceptionClass": "BackendGenericError"}


def error_form(java_class: str) -> bytes:
    """StorageHub's own error, of one of its exceptions."""
    name = f"org.gcube.common.storagehub.model.exceptions.{java_class}"
    return json.dumps(ERROR_FORM | {"exceptionClass": name}).encode()


def client(
    server: RawServer, *, url: str | None = None, auth: Any = "auto", attempts: int = 3
) -> StorageHub:
    """A client that loses its patience within half a second."""
    return StorageHub(
        url or server.url,
        auth=auth,
        timeout=timedelta(seconds=0.5),
        min_rate=100_000,
        attempts=attempts,
        pause=timedelta(milliseconds=1),
    )


def fetch(storagehub: StorageHub) -> bytes:
    with storagehub.download(TOKEN, "f0") as download:
        return b"".join(download)


def slow_head(connection: Connection) -> None:
    connection.drip((bytes([byte]) for byte in GOOD), every=0.1)


def endless_headers(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\n")
    connection.drip(itertools.repeat(b"X-A: b\r\n"), every=0.1)


def endless_heads(connection: Connection) -> None:
    connection.drip(itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000), every=0)


def endless_json(connection: Connection) -> None:
    connection.send(http("200 OK", b"", JSON, "Content-Length: 9999999", length=False))
    connection.drip(itertools.repeat(b" "), every=0.05)


def fast_enough_but_long(connection: Connection) -> None:
    connection.send(http("200 OK", b"", JSON, "Content-Length: 9999999", length=False))
    connection.drip(itertools.repeat(b" " * 20_000), every=0.05)


def endless_chunks(connection: Connection) -> None:
    connection.send(http("200 OK", b"", JSON, "Transfer-Encoding: chunked", length=False))
    connection.drip(itertools.repeat(b"1\r\n \r\n"), every=0.05)


def endless_chunk_line(connection: Connection) -> None:
    connection.send(http("200 OK", b"", JSON, "Transfer-Encoding: chunked", length=False))
    connection.drip(itertools.chain([b"1;"], itertools.repeat(b"a")), every=0.05)


def nothing(connection: Connection) -> None:
    connection.hang()


def close_at_once(connection: Connection) -> None:
    connection.reset()


# -- answers that are no transfer

UNREADABLE: dict[str, Answer] = {
    "header block cut after the status line": b"HTTP/1.1 200 OK\r\n",
    "header block cut within a header": b"HTTP/1.1 200 OK\r\nContent-Ty",
    "not HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "nothing, then closed": b"",
    "connection reset": close_at_once,
    "nothing, for ever": nothing,
    "head of one byte at a time": slow_head,
    "headers without end": endless_headers,
    "heads without end": endless_heads,
    "body of one byte at a time": endless_json,
    "body that goes on and on": fast_enough_but_long,
    "chunks without end": endless_chunks,
    "chunk line without end": endless_chunk_line,
    "body shorter than announced": http(
        "200 OK", b'{"item":', JSON, "Content-Length: 999", length=False
    ),
    "half body without length": http("200 OK", GOOD[-80:-40], JSON, length=False),
    "whole body without length": http("200 OK", BODY, JSON, length=False),
    "chunks cut": http("200 OK", b'5\r\n{"ite', JSON, "Transfer-Encoding: chunked", length=False),
    "chunk size that is no number": http(
        "200 OK", b"zz\r\n{}", JSON, "Transfer-Encoding: chunked", length=False
    ),
    "length that is no number": http("200 OK", BODY, JSON, "Content-Length: abc", length=False),
    "length with a sign": http("200 OK", BODY, JSON, "Content-Length: -1", length=False),
    "two lengths": http("200 OK", BODY, JSON, f"Content-Length: {len(BODY) + 1}"),
    "HTML with the status 200": http("200 OK", b"<html>", "Content-Type: text/html"),
    "HTML called JSON": http("200 OK", b"<html>", JSON),
    "no type": http("200 OK", BODY),
    "nothing, called JSON": http("200 OK", b"", JSON),
    "no content": http("204 No Content", b"", length=False),
    "JSON of another shape": json_answer([1]),
    "JSON without item": json_answer({}),
    "item that is none": json_answer({"item": 3}),
    "item without id": json_answer({"item": {"name": "a"}}),
    "item without name": json_answer({"item": {"id": "f0"}}),
    "id with a slash back": json_answer({"item": {"id": "..", "name": "a"}}),
    "id with a line break": json_answer({"item": {"id": "a\r\nb", "name": "a"}}),
    "JSON nested deep": http("200 OK", b"[" * 200_000, JSON),
    "number of 10 000 digits": http("200 OK", b'{"item":' + b"9" * 10_000 + b"}", JSON),
    "bytes that are no UTF-8": http("200 OK", b'{"item":"\xff\xfe\xfa"}', JSON),
    "compressed bomb": http(
        "200 OK", gzip.compress(b" " * 50_000_000), JSON, "Content-Encoding: gzip"
    ),
}


@pytest.mark.parametrize("answer", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_an_unreadable_answer_is_an_outage_and_ends_soon(answer: Answer) -> None:
    with RawServer(answer) as server, client(server, attempts=2) as storagehub:
        started = time.monotonic()
        with pytest.raises(StorageHubUnavailable):
            storagehub.item(TOKEN, "f0")
        assert time.monotonic() - started < 5  # two tries of 0.5 s each, and some
        assert len(server.requests) == 2


@pytest.mark.parametrize("answer", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_a_readable_answer_after_an_unreadable_one_counts(answer: Answer) -> None:
    with RawServer(answer, GOOD) as server, client(server) as storagehub:
        assert storagehub.item(TOKEN, "f0").name == "in.txt"


@pytest.mark.parametrize("answer", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_creating_is_never_repeated(answer: Answer) -> None:
    with RawServer(answer) as server, client(server) as storagehub:
        with pytest.raises(StorageHubUnavailable):
            storagehub.create_folder(TOKEN, "root", "die-1", "Results")
        assert len(server.requests) == 1


def test_an_answer_that_is_too_long_is_an_outage_and_not_asked_for_again() -> None:
    answer = json_answer({"item": ITEM, "more": "a" * (17 * 2**20)})
    with RawServer(answer) as server, client(server) as storagehub:
        with pytest.raises(StorageHubUnavailable, match="longer"):
            storagehub.item(TOKEN, "f0")
        assert len(server.requests) == 1


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429, 408])
def test_a_burst_of_server_errors_is_waited_out(status: int) -> None:
    error = http(f"{status} Sorry", b"<html>", "Content-Type: text/html")
    with RawServer(error, error, GOOD) as server, client(server) as storagehub:
        assert storagehub.item(TOKEN, "f0").size == 3
        assert len(server.requests) == 3


def test_server_errors_without_end_are_an_outage() -> None:
    with RawServer(http("503 Sorry")) as server, client(server) as storagehub:
        with pytest.raises(StorageHubUnavailable, match="503"):
            storagehub.item(TOKEN, "f0")
        assert len(server.requests) == 3


@pytest.mark.parametrize(
    "retry_after",
    [
        lambda: "1",
        lambda: email.utils.format_datetime(datetime.now(UTC) + timedelta(seconds=3), usegmt=True),
    ],
    ids=["seconds", "date"],
)
def test_retry_after_is_honoured(retry_after: Callable[[], str]) -> None:
    busy = http("503 Busy", b"", f"Retry-After: {retry_after()}")
    with RawServer(busy, GOOD) as server, client(server) as storagehub:
        started = time.monotonic()
        storagehub.item(TOKEN, "f0")
        assert time.monotonic() - started > 0.9


@pytest.mark.parametrize("retry_after", ["soon", "-5", "", "Thu, 99 Foo 2026 00:00:00 GMT"])
def test_a_retry_after_that_cannot_be_read_is_ignored(retry_after: str) -> None:
    busy = http("503 Busy", b"", f"Retry-After: {retry_after}")
    with RawServer(busy, GOOD) as server, client(server) as storagehub:
        assert storagehub.item(TOKEN, "f0").name == "in.txt"


def test_closing_ends_the_wait_for_another_try() -> None:
    busy = http("503 Busy", b"", "Retry-After: 3600")
    seen = threading.Event()

    def answer(connection: Connection) -> None:
        connection.send(busy)
        seen.set()

    with RawServer(answer) as server, client(server) as storagehub:

        def close() -> None:
            seen.wait()
            storagehub.close()

        closer = threading.Thread(target=close)
        closer.start()
        started = time.monotonic()
        with pytest.raises(StorageHubUnavailable):
            storagehub.item(TOKEN, "f0")
        assert time.monotonic() - started < 5
        closer.join()


def test_a_server_that_is_not_there_is_an_outage() -> None:
    with RawServer(GOOD) as server:
        pass
    with client(server) as storagehub:
        with pytest.raises(StorageHubUnavailable):
            storagehub.item(TOKEN, "f0")
        with pytest.raises(StorageHubUnavailable):
            storagehub.ping()


def test_a_name_that_does_not_resolve_is_an_outage() -> None:
    with (
        StorageHub("http://storagehub.invalid/workspace", attempts=1) as storagehub,
        pytest.raises(StorageHubUnavailable),
    ):
        storagehub.item(TOKEN, "f0")


def test_plain_http_where_tls_is_expected_is_an_outage() -> None:
    with (
        RawServer(GOOD) as server,
        client(server, url=server.url.replace("http:", "https:")) as storagehub,
        pytest.raises(StorageHubUnavailable),
    ):
        storagehub.item(TOKEN, "f0")


@pytest.mark.parametrize("status", ["200 OK", "204 Gone", "401 Who?", "404 No", "500 Oh", "302 X"])
def test_ping_takes_any_http_answer(status: str) -> None:
    with RawServer(http(status)) as server, client(server) as storagehub:
        storagehub.ping()
        assert "gcube-token" not in server.requests[0].headers


# -- what a status means

STATUSES: list[tuple[str, bytes, type[StorageHubError]]] = [
    ("401 Unauthorized", b"authorization required", TokenRejected),
    ("400 Bad", b"invalid token 1234", TokenRejected),
    ("400 Bad", b'{"message":"The token is invalid"}', TokenRejected),
    ("400 Bad", error_form("InvalidCallParameters"), ItemUnusable),
    ("404 Not Found", error_form("IdNotFoundException"), ItemUnusable),
    ("409 Conflict", b'{"message":"locked"}', ItemUnusable),
    ("500 Error", error_form("InvalidItemException"), ItemUnusable),
    ("500 Error", error_form("IdNotFoundException"), ItemUnusable),
    ("500 Error", error_form("ItemLockedException"), ItemUnusable),
    ("500 Error", b"<html>", StorageHubUnavailable),
    ("500 Error", b"[" * 60_000, StorageHubUnavailable),
    ("410 Gone", b"", StorageHubUnavailable),
    ("415 Type", b"", StorageHubError),
    ("301 Moved", b"", StorageHubUnavailable),
]


@pytest.mark.parametrize("name", ["FileNotFoundException", "ClassNotFoundException"])
def test_what_javas_own_exceptions_say_is_not_certain(name: str) -> None:
    # A machine with too many open files, or without its disks.
    with (
        RawServer(http("500 Error", error_form(name), JSON)) as server,
        client(server) as storagehub,
    ):
        with pytest.raises(ItemDoubtful):
            storagehub.item(TOKEN, "f0")
        assert len(server.requests) > 1


@pytest.mark.parametrize(("status", "body", "error"), STATUSES)
def test_each_status_has_one_meaning(
    status: str, body: bytes, error: type[StorageHubError]
) -> None:
    with RawServer(http(status, body, JSON)) as server, client(server) as storagehub:
        for call in (
            lambda: storagehub.item(TOKEN, "f0"),
            lambda: fetch(storagehub),
            lambda: storagehub.create_folder(TOKEN, "f0", "n", "d"),
            lambda: storagehub.upload(TOKEN, "f0", "n", io.BytesIO(b"x"), "d"),
            lambda: storagehub.walk(TOKEN, "f0", max_items=5),
        ):
            with pytest.raises(error) as caught:
                call()
            assert caught.type is error


#: They may be about the item, or about StorageHub.
DOUBTS: list[tuple[str, bytes]] = [
    ("400 Bad", b""),
    ("404 Not Found", b"<html>"),
    ("404 Not Found", b'{"error":"no route"}'),
    ("406 Not Acceptable", b"unable to find"),
    ("409 Conflict", b""),
    ("500 Error", json.dumps(ERROR_FORM).encode()),
    ("500 Error", b'{"message":"javax.jcr.RepositoryException","exceptionClass":null}'),
]


@pytest.mark.parametrize(("status_line", "body"), [*DOUBTS, ("403 Forbidden", b"<html>")])
def test_an_answer_that_may_have_another_cause_is_an_item_in_doubt(
    status_line: str, body: bytes
) -> None:
    with RawServer(http(status_line, body, JSON)) as server, client(server) as storagehub:
        for call in (
            lambda: storagehub.item(TOKEN, "f0"),
            lambda: storagehub.find_child(TOKEN, "f0", "n"),
            lambda: storagehub.create_folder(TOKEN, "f0", "n", "d"),
            lambda: storagehub.upload(TOKEN, "f0", "n", io.BytesIO(b"x"), "d"),
        ):
            with pytest.raises(ItemDoubtful):
                call()


def hub(doubt: bytes, *, root: bytes | None = None, item: bytes | None = None) -> Answer:
    """A StorageHub that answers everything in a doubtful way, but for what is given."""

    def answer(connection: Connection) -> None:
        assert connection.request is not None
        is_get = connection.request.method == "GET"
        place = connection.request.target.partition("?")[0].removeprefix("/workspace")
        asked = {"/": root, "/items/f0": item}.get(place) if is_get else None
        connection.send(doubt if asked is None else asked)

    return answer


def fetching(storagehub: StorageHub) -> list[Callable[[], object]]:
    return [lambda: fetch(storagehub), lambda: storagehub.walk(TOKEN, "f0", max_items=5)]


@pytest.mark.parametrize(("status_line", "body"), [*DOUBTS, ("403 Forbidden", b"<html>")])
@pytest.mark.parametrize("item", [GOOD, None, http("503 Sorry")], ids=["there", "doubt", "away"])
def test_what_cannot_be_fetched_is_gone_only_when_that_is_certain(
    status_line: str, body: bytes, item: bytes | None
) -> None:
    answer = hub(http(status_line, body, JSON), item=item)
    with RawServer(answer) as server, client(server, attempts=2) as storagehub:
        for call in fetching(storagehub):
            with pytest.raises(StorageHubUnavailable):
                call()


@pytest.mark.parametrize(("status_line", "body"), DOUBTS)
def test_what_storagehub_itself_calls_missing_is_gone(status_line: str, body: bytes) -> None:
    missing = json_answer(ERROR_FORM, "404 Not Found")
    answer = hub(http(status_line, body, JSON), item=missing)
    with RawServer(answer) as server, client(server, attempts=2) as storagehub:
        for call in fetching(storagehub):
            with pytest.raises(ItemUnusable) as caught:
                call()
            assert caught.type is ItemUnusable
        storagehub.delete(TOKEN, "f0")
        assert not storagehub.exists(TOKEN, "f0")


@pytest.mark.parametrize(("status_line", "body"), DOUBTS)
def test_a_refusal_in_another_form_means_gone_while_the_root_is_shown(
    status_line: str, body: bytes
) -> None:
    answer = hub(http(status_line, body, JSON), root=ROOT)
    with RawServer(answer) as server, client(server, attempts=2) as storagehub:
        if status_line.startswith("500"):  # StorageHub fails, over this item at least
            with pytest.raises(StorageHubUnavailable):
                storagehub.exists(TOKEN, "f0")
            return
        assert not storagehub.exists(TOKEN, "f0")
        storagehub.delete(TOKEN, "f0")
        for call in fetching(storagehub):
            with pytest.raises(ItemUnusable):
                call()


def test_a_redeployment_that_ends_between_two_looks_loses_nothing() -> None:
    page = http("404 Not Found", b"<html>")
    with RawServer(page, page, ROOT, GOOD) as server, client(server) as storagehub:
        with pytest.raises(StorageHubUnavailable):
            storagehub.walk(TOKEN, "f0", max_items=5)
        assert len(server.requests) == 4


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("403 Forbidden", TokenRejected),
        ("404 Not Found", StorageHubUnavailable),
        ("401 Unauthorized", TokenRejected),
    ],
)
def test_at_the_root_no_item_is_to_blame(status: str, error: type[StorageHubError]) -> None:
    with (
        RawServer(http(status)) as server,
        client(server) as storagehub,
        pytest.raises(error),
    ):
        storagehub.workspace_root(TOKEN)


def test_a_root_without_owner_is_refused() -> None:
    root = json_answer({"item": {"id": "r", "name": "Workspace"}})
    with (
        RawServer(root) as server,
        client(server) as storagehub,
        pytest.raises(StorageHubUnavailable, match="whose"),
    ):
        storagehub.workspace_root(TOKEN)


@pytest.mark.parametrize(
    "item_id",
    [
        "",
        ".",
        "..",
        "a b",
        "a\nb",
        "ä",
        'a"b',
        "a'b",
        "x" * 256,
        "a\\b",
        "\0",
        "../a",
        "a/b",
        "a%2fb",
        "a?b",
    ],
)
def test_an_id_that_is_none_is_never_sent(item_id: str) -> None:
    with RawServer(GOOD) as server, client(server) as storagehub:
        with pytest.raises(ItemUnusable):
            storagehub.item(TOKEN, item_id)
        with pytest.raises(ItemUnusable):
            storagehub.delete(TOKEN, item_id)
        assert not server.requests


# -- deleting


@pytest.mark.parametrize("status", ["404 Not Found", "400 Bad", "406 Not Acceptable"])
def test_deleting_what_is_gone_is_done(status: str) -> None:
    gone = json_answer(ERROR_FORM, status)
    with RawServer(gone) as server, client(server) as storagehub:
        storagehub.delete(TOKEN, "f0")
        assert server.requests[0].target.endswith("?force=true")


@pytest.mark.parametrize(("status_line", "body"), DOUBTS)
def test_deleting_what_may_be_there_is_not_done(status_line: str, body: bytes) -> None:
    with (
        RawServer(http(status_line, body, JSON)) as server,
        client(server, attempts=2) as storagehub,
        pytest.raises(StorageHubUnavailable),
    ):
        storagehub.delete(TOKEN, "f0")


@pytest.mark.parametrize("status", ["400 Bad", "409 Conflict"])
def test_deleting_what_stays_is_an_error(status: str) -> None:
    with (
        RawServer(http(status), GOOD) as server,
        client(server) as storagehub,
        pytest.raises(ItemUnusable),
    ):
        storagehub.delete(TOKEN, "f0")


def test_deleting_what_is_forbidden_is_an_error() -> None:
    with (
        RawServer(http("403 Forbidden")) as server,
        client(server) as storagehub,
        pytest.raises(ItemUnusable),
    ):
        storagehub.delete(TOKEN, "f0")


def test_a_delete_whose_answer_was_lost_is_repeated() -> None:
    with (
        RawServer(close_at_once, json_answer(ERROR_FORM, "404 Not Found")) as server,
        client(server) as storagehub,
    ):
        storagehub.delete(TOKEN, "f0")
        assert [request.method for request in server.requests] == ["DELETE", "DELETE", "GET"]


@pytest.mark.parametrize("status", ["200 OK", "202 Accepted", "204 No Content"])
def test_any_success_of_a_delete_counts(status: str) -> None:
    with RawServer(http(status, length=status != "204 No Content")) as server:
        with client(server) as storagehub:
            storagehub.delete(TOKEN, "f0")
        assert len(server.requests) == 1


# -- ids that a create answers


@pytest.mark.parametrize("body", [b"f1", b'"f1"', b"'f1'\n", b' "f1"\r\n'])
@pytest.mark.parametrize(
    "media_type", ["text/plain", "text/plain;charset=UTF-8", "application/json"]
)
def test_the_id_of_a_new_item_is_read_with_or_without_quotes(body: bytes, media_type: str) -> None:
    answer = http("201 Created", body, f"Content-Type: {media_type}")
    with RawServer(answer) as server, client(server) as storagehub:
        assert storagehub.create_folder(TOKEN, "r", "die-1", "Results") == "f1"


@pytest.mark.parametrize("body", [b"", b'""', b"..", b"<html>", b"a b", b"\xff", b"x" * 300])
def test_the_id_of_a_new_item_is_not_trusted(body: bytes) -> None:
    with (
        RawServer(http("200 OK", body, TEXT)) as server,
        client(server) as storagehub,
        pytest.raises(StorageHubUnavailable),
    ):
        storagehub.create_folder(TOKEN, "r", "die-1", "Results")


def test_a_folder_is_made_with_a_urlencoded_form() -> None:
    with RawServer(http("200 OK", b"f1", TEXT)) as server, client(server) as storagehub:
        storagehub.create_folder(TOKEN, "r", "die-ä 1", "")
        request = server.requests[0]
        assert request.target == "/workspace/items/r/create/FOLDER"
        assert request.headers["content-type"] == "application/x-www-form-urlencoded"
        assert request.body == b"name=die-%C3%A4+1&description=die-%C3%A4+1&hidden=false"


def sipping(connection: Connection) -> None:
    connection.sip(1000, every=0.02)


@pytest.mark.parametrize("answer", [nothing, sipping])
def test_an_upload_that_is_hardly_taken_ends_soon(answer: Answer) -> None:
    content = io.BytesIO(bytes(20_000_000))
    with (
        RawServer(answer, reads_bodies=False) as server,
        client(server) as storagehub,
    ):
        started = time.monotonic()
        with pytest.raises(StorageHubUnavailable):
            storagehub.upload(TOKEN, "r", "big", content, "d")
        assert time.monotonic() - started < 8


def test_creating_does_not_meet_a_connection_that_was_closed_meanwhile() -> None:
    # No "Connection: close", and closed all the same: the client may keep the connection.
    kept = GOOD.replace(b"Connection: close\r\n", b"")
    with (
        RawServer(
            *itertools.chain.from_iterable([(kept, http("200 OK", b"f1", TEXT))] * 50)
        ) as server,
        client(server) as storagehub,
    ):
        for _ in range(50):
            storagehub.item(TOKEN, "f0")
            assert storagehub.create_folder(TOKEN, "r", "die-1", "Results") == "f1"


# -- downloads


def test_a_download_gives_size_and_type() -> None:
    answer = http("200 OK", b"abc", "Content-Type: Text/CSV; charset=utf-8")
    with RawServer(answer) as server, client(server) as storagehub:
        with storagehub.download(TOKEN, "f0") as download:
            assert (download.size, download.content_type) == (3, "text/csv")
            assert b"".join(download) == b"abc"
        assert server.requests[0].headers["accept-encoding"] == "identity"


def test_a_chunked_download_is_read_to_its_end() -> None:
    answer = http(
        "200 OK",
        b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked",
        length=False,
    )
    with (
        RawServer(answer) as server,
        client(server) as storagehub,
        storagehub.download(TOKEN, "f0", marked=True) as download,
    ):
        assert download.size is None
        assert b"".join(download) == b"abcde"


def test_a_download_without_length_ends_with_the_connection_where_that_may_be() -> None:
    answer = http("200 OK", b"abc", TEXT, length=False)
    with RawServer(answer) as server, client(server) as storagehub:
        with storagehub.download(TOKEN, "f0") as download:
            assert download.size is None
            assert b"".join(download) == b"abc"
        with (
            pytest.raises(DamagedDownload, match="where it ends"),
            storagehub.download(TOKEN, "f0", marked=True),
        ):
            pass


def broken_off(connection: Connection) -> None:
    connection.send(http("200 OK", b"abc", TEXT, "Content-Length: 9", length=False))
    connection.reset()


def endless_trailers(connection: Connection) -> None:
    connection.send(http("200 OK", b"0\r\n", "Transfer-Encoding: chunked", length=False))
    connection.drip(itertools.repeat(b"X-A: b\r\n" * 10_000), every=0)


DAMAGED: dict[str, Answer] = {
    "header block cut": b"HTTP/1.1 200 OK\r\n",
    "shorter than announced": http("200 OK", b"abc", "Content-Length: 9", length=False),
    "nothing of what was announced": http("200 OK", b"", "Content-Length: 9", length=False),
    "reset": broken_off,
    "chunks cut": http("200 OK", b"9\r\nabc", "Transfer-Encoding: chunked", length=False),
    "chunks without the last": http(
        "200 OK", b"3\r\nabc\r\n", "Transfer-Encoding: chunked", length=False
    ),
    "chunk size that is no number": http(
        "200 OK", b"x\r\nabc\r\n", "Transfer-Encoding: chunked", length=False
    ),
    "chunk size below zero": http(
        "200 OK", b"-5\r\nabcde\r\n0\r\n\r\n", "Transfer-Encoding: chunked", length=False
    ),
    "chunk to the end of the connection": http(
        "200 OK", b"-1\r\nabc", "Transfer-Encoding: chunked", length=False
    ),
    "coding that marks no end": http("200 OK", b"abc", "Transfer-Encoding: identity"),
    "trailers without end": endless_trailers,
    "length that is no number": http("200 OK", b"abc", "Content-Length: 3x", length=False),
    "part": http("206 Partial Content", b"abc"),
    "compressed": http("200 OK", gzip.compress(b"abc"), "Content-Encoding: gzip"),
}


@pytest.mark.parametrize("answer", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_download_is_never_taken_for_whole(answer: Answer) -> None:
    with (
        RawServer(answer) as server,
        client(server) as storagehub,
        pytest.raises(DamagedDownload),
    ):
        fetch(storagehub)


def test_bytes_are_counted_here_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        RawServer(http("200 OK", b"abc")) as server,
        client(server) as storagehub,
        storagehub.download(TOKEN, "f0") as download,
    ):
        monkeypatch.setattr(urllib3.HTTPResponse, "stream", lambda *_, **__: iter([b"ab"]))
        with pytest.raises(DamagedDownload, match="3 bytes, but 2 arrived"):
            list(download)


def body_drip(connection: Connection) -> None:
    connection.send(http("200 OK", b"", "Content-Length: 99999999", length=False))
    connection.drip(itertools.repeat(b"a" * 100), every=0.02)


def fast_then_drip(connection: Connection) -> None:
    connection.send(http("200 OK", b"a" * 3_000_000, "Content-Length: 99999999", length=False))
    connection.drip(itertools.repeat(b"a"), every=0.1)


def chunk_drip(connection: Connection) -> None:
    connection.send(http("200 OK", b"ffffff\r\n", "Transfer-Encoding: chunked", length=False))
    connection.drip(itertools.repeat(b"a" * 100), every=0.02)


@pytest.mark.parametrize("answer", [body_drip, fast_then_drip, chunk_drip, slow_head, nothing])
def test_a_download_that_drips_is_given_up(answer: Answer) -> None:
    with RawServer(answer) as server, client(server, attempts=1) as storagehub:
        started = time.monotonic()
        with pytest.raises(StorageHubUnavailable, match="slow"):
            fetch(storagehub)
        assert time.monotonic() - started < 5


def test_a_download_above_the_smallest_rate_may_take_longer_than_the_time_out() -> None:
    pieces = 30

    def steady(connection: Connection) -> None:
        connection.send(http("200 OK", b"", f"Content-Length: {pieces * 20_000}", length=False))
        connection.drip(itertools.repeat(b"a" * 20_000, pieces), every=0.05)

    with RawServer(steady) as server, client(server) as storagehub:
        started = time.monotonic()
        assert len(fetch(storagehub)) == pieces * 20_000
        assert time.monotonic() - started > 1  # the time-out is 0.5 s


def test_time_that_the_caller_takes_is_not_the_servers() -> None:
    body = b"a" * 4_000_000
    with RawServer(http("200 OK", body)) as server, client(server) as storagehub:
        with storagehub.download(TOKEN, "f0") as download:
            chunks = iter(download)
            received = len(next(chunks))
            threading.Event().wait(0.8)
            received += sum(len(chunk) for chunk in chunks)
        assert received == len(body)


def test_a_download_left_half_way_gives_its_connection_back() -> None:
    with (
        RawServer(http("200 OK", b"a" * 9_000_000)) as server,
        client(server) as storagehub,
        storagehub.download(TOKEN, "f0") as download,
    ):
        next(iter(download))
    # A socket left open would be a ResourceWarning, and so an error.
    gc.collect()


# -- listings


def page(*items: dict[str, object]) -> bytes:
    return json_answer({"itemlist": list(items)})


def folder(item_id: str, name: str) -> dict[str, object]:
    return {"id": item_id, "name": name, "@class": "org.x.SharedFolder"}


def file(item_id: str, name: str) -> dict[str, object]:
    return {"id": item_id, "name": name, "@class": "org.x.PDFFileItem", "content": {"size": 1}}


def test_folders_in_a_circle_are_walked_once() -> None:
    answers = (page(folder("b", "sub"), file("c", "x")), page(), page(folder("a", "up")), page())
    with RawServer(*answers) as server, client(server) as storagehub:
        found = storagehub.walk(TOKEN, "a", max_items=100)
        assert [listed.path for listed in found] == [("sub",), ("x",)]


def test_a_server_that_ignores_paging_does_not_hang_the_listing() -> None:
    with RawServer(page(file("c", "x"), file("d", "y"))) as server, client(server) as storagehub:
        assert len(storagehub.walk(TOKEN, "a", max_items=100)) == 2
        assert len(server.requests) == 2


def test_a_server_with_endless_items_is_stopped_at_the_limit() -> None:
    ids = itertools.count()

    def more(connection: Connection) -> None:
        connection.send(page(*(file(f"i{next(ids)}", "x") for _ in range(50))))

    with RawServer(more) as server, client(server) as storagehub:
        assert len(storagehub.walk(TOKEN, "a", max_items=120)) == 121
        assert len(server.requests) == 3


def test_a_chain_of_folders_without_end_is_stopped() -> None:
    ids = itertools.count()

    def deeper(connection: Connection) -> None:
        number = next(ids)
        connection.send(page(folder(f"i{number // 2}", "d")) if number % 2 == 0 else page())

    with (
        RawServer(deeper) as server,
        client(server) as storagehub,
        pytest.raises(FolderTooDeep, match="500 levels"),
    ):
        storagehub.walk(TOKEN, "a", max_items=10_000)


def test_short_pages_do_not_end_a_listing() -> None:
    with RawServer(page(file("c", "x")), page(file("d", "y")), page()) as server:
        with client(server) as storagehub:
            assert len(storagehub.walk(TOKEN, "a", max_items=100)) == 2
        assert ["start=0" in server.requests[0].target, "start=1" in server.requests[1].target] == [
            True,
            True,
        ]


def asked(request: Request) -> tuple[int, int]:
    """Where a page begins and how long it may be."""
    start, limit = (
        int(request.target.partition(f"{name}=")[2].partition("&")[0])
        for name in ("start", "limit")
    )
    return start, limit


def test_a_page_that_is_too_long_is_asked_for_again_with_half_as_many_items() -> None:
    children = [file(f"i{number}", f"f{number}") for number in range(700)]
    children[600]["description"] = "d" * (15 * 2**20)
    children[601]["description"] = "d" * (15 * 2**20)

    def answer(connection: Connection) -> None:
        assert connection.request is not None
        start, limit = asked(connection.request)
        connection.send(page(*children[start : start + limit]))

    # Patient enough to read the long pages on a busy machine.
    with RawServer(answer) as server, StorageHub(server.url) as storagehub:
        found = storagehub.walk(TOKEN, "a", max_items=1000)
        assert [listed.path for listed in found] == [(child["name"],) for child in children]
        assert [asked(request) for request in server.requests[:3]] == [
            (0, 500),
            (500, 500),
            (500, 250),
        ]
        # The two cost no more than their own neighbourhood.
        assert asked(server.requests[-1])[1] > 1
        assert len(server.requests) < 40


def test_a_short_page_of_which_all_is_filtered_is_not_the_end() -> None:
    children = [file(f"i{number}", f"f{number}") for number in range(700)]
    children[0]["description"] = "d" * (17 * 2**20 // 4)
    children[1:4] = [
        children[0] | {"id": f"i{number}", "name": f"f{number}"} for number in (1, 2, 3)
    ]
    filtered = range(10, 200)

    def answer(connection: Connection) -> None:
        assert connection.request is not None
        start, limit = asked(connection.request)
        window = range(700)[start : start + limit]
        connection.send(page(*(children[number] for number in window if number not in filtered)))

    with RawServer(answer) as server, StorageHub(server.url) as storagehub:
        # Where what is left out counts for the next page's start, is StorageHub's affair.
        found = {listed.path[0] for listed in storagehub.walk(TOKEN, "a", max_items=1000)}
        assert {f"f{number}" for number in range(10)} <= found
        assert "f699" in found


def test_a_page_of_one_item_that_is_too_long_is_an_outage() -> None:
    answer = page(file("i", "f") | {"description": "d" * (17 * 2**20)})
    with RawServer(answer) as server, StorageHub(server.url) as storagehub:
        with pytest.raises(StorageHubUnavailable, match="longer"):
            storagehub.walk(TOKEN, "a", max_items=10)
        assert [asked(request)[1] for request in server.requests] == [
            500, 250, 125, 62, 31, 15, 7, 3, 1,
        ]  # fmt: skip


def test_pages_without_end_are_stopped_however_short_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("die_algorithm.storagehub.client._MAX_CHILDREN", 5_000)
    ids = itertools.count()

    def trash(connection: Connection) -> None:
        connection.send(page(file(f"i{next(ids)}", "x") | {"trashed": True}))

    with RawServer(trash) as server, client(server) as storagehub:
        with pytest.raises(StorageHubUnavailable, match="does not end"):
            storagehub.walk(TOKEN, "a", max_items=10)
        assert len(server.requests) == 10


def test_find_child_compares_the_whole_name_and_skips_the_trash() -> None:
    trashed = file("t", "die-1") | {"trashed": True}
    children = page(file("a", "die-10"), trashed, file("b", "DIE-1"), file("c", "die-1"))
    with RawServer(children) as server, client(server) as storagehub:
        found = storagehub.find_child(TOKEN, "r", "die-1")
        assert found is not None
        assert found.id == "c"
        assert server.requests[0].target.startswith("/workspace/items/r/items/die-1?")
        assert storagehub.find_child(TOKEN, "r", "die") is None


def test_of_children_with_one_name_the_same_is_found_in_whatever_order_they_are_listed() -> None:
    twins = [file("a", "die-1"), file("b", "die-1")]
    for listed in (twins, twins[::-1]):
        with RawServer(page(*listed)) as server, client(server) as storagehub:
            found = storagehub.find_child(TOKEN, "r", "die-1")
            assert found is not None
            assert found.id == "a"


@pytest.mark.parametrize("name", ["*", "a*", "*a"])
def test_a_name_that_storagehub_takes_for_a_pattern_is_not_found_among_too_many(name: str) -> None:
    answer = page(file("i", "f") | {"description": "d" * (17 * 2**20)})
    with RawServer(answer) as server, StorageHub(server.url) as storagehub:
        assert storagehub.find_child(TOKEN, "r", name) is None
        with pytest.raises(StorageHubUnavailable, match="longer"):
            storagehub.find_child(TOKEN, "r", "f")


def test_items_are_read_leniently() -> None:
    old: dict[str, object] = {
        "id": "o",
        "name": "n",
        "propertyMap": {"map": {}},
        "lastModificationTime": "17",
    }
    new = folder("p", "n") | {"ownerNode": {"userName": "ada"}, "hidden": True, "path": 3}
    typed: dict[str, object] = {
        "id": "q",
        "name": "n",
        "primaryType": "nthl:workspaceItem",
        "trashed": None,
    }
    odd: dict[str, object] = {
        "id": "r",
        "name": "\ud800\0",
        "content": {"size": "12", "mimeType": ["x"]},
    }
    with RawServer(page(old, new, typed, odd), page()) as server, client(server) as storagehub:
        items = [x.item for x in storagehub.walk(TOKEN, "a", max_items=9) if x.path]
    by_id = {item.id: item for item in items}
    assert (by_id["o"].modified, by_id["o"].is_folder, by_id["o"].size) == (17, False, None)
    assert (by_id["p"].owner, by_id["p"].hidden, by_id["p"].is_folder) == ("ada", True, True)
    assert by_id["q"].is_folder
    assert (by_id["r"].name, by_id["r"].size, by_id["r"].mime_type) == ("\ud800\0", 12, None)


@pytest.mark.parametrize(
    ("fields", "has_content"),
    [
        ({"@class": "org.x.GCubeItem", "primaryType": "nthl:gCubeItem"}, False),
        ({"@class": "org.x.ExternalURL"}, False),
        ({"@class": "org.x.TrashItem"}, False),
        ({"@class": "org.x.VreFolder"}, True),
        ({"@class": "org.x.ImageFile"}, True),
        ({"@class": "org.x.GenericFileItem", "content": None}, True),
        ({"@class": "org.x.SomethingNew", "content": {}}, True),
        ({"primaryType": "nthl:externalFile"}, True),
        ({}, True),
    ],
)
def test_what_may_have_content_is_taken_for_a_file(
    fields: dict[str, object], has_content: bool
) -> None:
    item = json_answer({"item": {"id": "f0", "name": "n"} | fields})
    with RawServer(item) as server, client(server) as storagehub:
        assert storagehub.item(TOKEN, "f0").has_content is has_content


# -- the token


@pytest.mark.parametrize(
    ("auth", "token", "where"),
    [
        ("auto", TOKEN, f"gcube-token: {SECRET}\r\n"),
        ("auto", JWT, f"Authorization: Bearer {JWT.secret}\r\n"),
        ("header", JWT, f"gcube-token: {JWT.secret}\r\n"),
        ("bearer", TOKEN, f"Authorization: Bearer {SECRET}\r\n"),
        ("query", TOKEN, f"GET /workspace/items/f0?exclude=hl%3Aaccounting&gcube-token={SECRET} "),
    ],
)
def test_the_token_travels_once_and_as_set(auth: Any, token: UserToken, where: str) -> None:
    with RawServer(GOOD) as server, client(server, auth=auth) as storagehub:
        storagehub.item(token, "f0")
        raw = server.requests[0].raw.decode()
        assert where in raw
        assert raw.count(token.secret) == 1


@pytest.mark.parametrize("secret", ["", "a b", "a\r\nX: y", "tökén", "\ud800", "a" * 20_000])
def test_a_token_that_cannot_be_one_is_not_sent(secret: str) -> None:
    with RawServer(GOOD) as server, client(server) as storagehub:
        with pytest.raises(TokenRejected) as caught:
            storagehub.item(UserToken(secret), "f0")
        assert not secret or secret not in str(caught.value)
        assert not server.requests


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_takes_the_token_nowhere(status: int) -> None:
    with RawServer(GOOD) as elsewhere:
        moved = http(f"{status} Moved", b"", f"Location: {elsewhere.url}/items/f0")
        with RawServer(moved) as server, client(server) as storagehub:
            for call in (
                lambda: storagehub.item(TOKEN, "f0"),
                lambda: fetch(storagehub),
                lambda: storagehub.create_folder(TOKEN, "f0", "n", "d"),
                storagehub.ping,
            ):
                try:
                    call()
                except StorageHubUnavailable:
                    continue
                assert call == storagehub.ping
        assert not elsewhere.requests


@pytest.mark.usefixtures("password_file")
def test_nothing_of_the_machine_joins_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    with RawServer(GOOD) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        with RawServer(GOOD) as server, client(server) as storagehub:
            storagehub.item(JWT, "f0")
            storagehub.item(TOKEN, "f0")
            assert server.requests[0].headers["authorization"] == f"Bearer {JWT.secret}"
            assert "authorization" not in server.requests[1].headers
        assert not proxy.requests


def test_a_cookie_of_one_user_does_not_reach_the_next() -> None:
    answer = json_answer({"item": ITEM}, "200 OK", "Set-Cookie: JSESSIONID=ada; Path=/")
    with RawServer(answer) as server, client(server) as storagehub:
        storagehub.item(TOKEN, "f0")
        storagehub.item(JWT, "f0")
        assert "cookie" not in server.requests[1].headers


def chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("auth", ["header", "query", "bearer"])
def test_the_token_is_in_no_log_and_no_exception(
    auth: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    answers = [*UNREADABLE.values(), http("503 No"), http("401 No"), http("302 X"), GOOD]
    quick = [answer for answer in answers if isinstance(answer, bytes)]
    # A header line that cannot be parsed makes urllib3 log the URL.
    quick.append(b"HTTP/1.1 200 OK\r\nbad header line\r\nContent-Length: 0\r\n\r\n")
    for answer in quick:
        with (
            RawServer(answer) as server,
            client(server, auth=auth, attempts=2) as storagehub,
        ):
            for call in (lambda: storagehub.item(TOKEN, "f0"), lambda: fetch(storagehub)):
                try:
                    call()
                except StorageHubError as error:
                    for link in chain(error):
                        assert SECRET not in repr(link)
                        assert SECRET not in str(link)
    assert any(record.name.startswith("urllib3") for record in caplog.records)
    assert SECRET not in caplog.text
    assert SECRET[:12] not in caplog.text


# -- errors of the libraries


def all_subclasses(kind: type[BaseException]) -> set[type[BaseException]]:
    return {kind}.union(*(all_subclasses(each) for each in kind.__subclasses__()))


FOREIGN = sorted(
    all_subclasses(requests.RequestException) | all_subclasses(urllib3.exceptions.HTTPError),
    key=lambda kind: kind.__name__,
)


@pytest.mark.parametrize("kind", FOREIGN, ids=lambda kind: kind.__name__)
def test_no_exception_of_the_libraries_escapes(
    kind: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object, **_options: object) -> None:
        error = kind.__new__(kind)
        error.args = (f"http://x/?gcube-token={SECRET}",)
        raise error

    with RawServer(http("200 OK", b"abc")) as server, client(server, attempts=1) as storagehub:
        with storagehub.download(TOKEN, "f0") as download:
            monkeypatch.setattr(urllib3.HTTPResponse, "stream", fail)
            with pytest.raises(StorageHubError) as caught:
                list(download)
            assert SECRET not in str(caught.value)
        monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", fail)
        with pytest.raises(StorageHubUnavailable) as caught:
            storagehub.item(TOKEN, "f0")
        assert SECRET not in str(caught.value)
        assert caught.value.__cause__ is None


# -- threads


def test_threads_share_a_client_without_mixing_answers() -> None:
    def owner_is_token(connection: Connection) -> None:
        assert connection.request is not None
        token = connection.request.headers["gcube-token"]
        connection.send(json_answer({"item": ITEM | {"owner": token}}))

    mixed: list[str] = []

    def use(number: int) -> None:
        token = UserToken(f"token-{number}")
        owners = [storagehub.item(token, "f0").owner for _ in range(10)]
        mixed.extend(owner for owner in owners if owner != token.secret)

    with RawServer(owner_is_token) as server, client(server) as storagehub:
        threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(server.requests) == 80
        assert mixed == []
