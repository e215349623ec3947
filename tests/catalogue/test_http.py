"""H: HTTP itself, byte by byte."""

from __future__ import annotations

import contextlib
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from storagehub_fixture import ALICE

from catalogue.asking import (
    FSE,
    IPV,
    MISSING,
    NAC,
    Ask,
    Row,
    each,
    execute1,
    execute_query,
    kvp,
    literal,
    pairs,
    post,
)
from catalogue.world import World
from die_algorithm.web import CANCEL_PATH, JOBS_PATH, STATUS_PATH, WPS_PATH

TOKEN = f"gcube-token: {ALICE.token}"
CAPABILITIES = f"{WPS_PATH}?service=WPS&request=GetCapabilities"
GET = f"GET {CAPABILITIES} HTTP/1.1\r\nHost: x\r\n"
BODY = execute1(FileParam=literal("FileParam", MISSING))


def raw(name: str, text: str, status: int = 400, code: str | None = NAC) -> Row:
    return Row(name=name, ask=Ask(raw=text.encode("latin-1")), status=status, code=code)


def head(*lines: str, method: str = "POST", version: str = "HTTP/1.1") -> str:
    """The beginning of a POST of XML."""
    return "\r\n".join(
        (
            f"{method} {WPS_PATH} {version}",
            "Host: x",
            "Connection: close",
            TOKEN,
            "Content-Type: text/xml",
            *lines,
            "",
            "",
        )
    )


def chunked(body: str, size: int = 100) -> str:
    parts = [body[n : n + size] for n in range(0, len(body), size)]
    return "".join(f"{len(part):x}\r\n{part}\r\n" for part in parts) + "0\r\n\r\n"


def smuggled(name: str, *lines: str, status: int = 400) -> Row:
    return raw(f"H4-{name}", head(*lines) + chunked(BODY), status)


ROWS = [
    *(Row(name=f"H1-{method}", ask=Ask(method=method), status=405, code=NAC) for method in ("PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "CONNECT")),
    *(Row(name=f"H1-{method}-{path.rpartition('/')[2][:8]}", ask=Ask(method=method, target=path), status=405, code=NAC)
      for method in ("PUT", "DELETE") for path in (STATUS_PATH, CANCEL_PATH, JOBS_PATH, "/health", "/", "@ZIP@")),
    *(Row(name=f"H1-{method}", ask=Ask(method=method), status=501, code=NAC) for method in ("FOO", "PROPFIND", "QUERY", "M-SEARCH")),
    Row(name="H2-head", ask=Ask(method="HEAD", target=CAPABILITIES), status=200, code=None),
    Row(name="H2-head-status", ask=Ask(method="HEAD", target=f"{STATUS_PATH}?id=@JOB@", headers=()), status=401, code=None),
    *(Row(name=f"H2-head-{n}", ask=Ask(method="HEAD", target=target), status=405, code=None, asks_storagehub=False) for n, target in enumerate((f"{WPS_PATH}?{execute_query(pairs())}", f"{CANCEL_PATH}?id=@JOB@", f"{WPS_PATH}?service=WPS&version=2.0.0&request=Dismiss&JobID=@JOB@"))),
    Row(name="H2-options-star", ask=Ask(method="OPTIONS", target="*"), status=404, code=NAC),
    smuggled("cl-te", f"Content-Length: {len(BODY)}", "Transfer-Encoding: chunked"), smuggled("te-cl", "Transfer-Encoding: chunked", "Content-Length: 5"),
    smuggled("cl-te-unknown", f"Content-Length: {len(BODY)}", "Transfer-Encoding: xchunked, chunked"),
    smuggled("te-twice", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), smuggled("te-list", "Transfer-Encoding: chunked, chunked"),
    smuggled("te-list-beside", "Transfer-Encoding: chunked", "X: y", "transfer-encoding:\tChunked"),
    raw("H4-te-1.0", head("Transfer-Encoding: chunked", version="HTTP/1.0") + chunked(BODY)), smuggled("cl-long", f"Content-Length: {'9' * 5000}"),
    smuggled("xchunked", "Transfer-Encoding: xchunked", status=501), smuggled("identity", "Transfer-Encoding: identity", status=501),
    smuggled("te-blank", "Transfer-Encoding : chunked"), smuggled("te-gzip", "Transfer-Encoding: gzip, chunked", status=501),
    smuggled("te-vt", "Transfer-Encoding: \x0bchunked"), smuggled("cl-twice", "Content-Length: 5", "Content-Length: 6"),
    smuggled("cl-plus", "Content-Length: +5"), smuggled("cl-underscore", "Content-Length: 5_0"), smuggled("cl-minus", "Content-Length: -5"),
    smuggled("cl-hex", "Content-Length: 0x10"), smuggled("cl-list", "Content-Length: 5, 5"), smuggled("cl-word", "Content-Length: abc"), smuggled("cl-empty", "Content-Length:"),
    raw("H5-bare-lf", f"GET {CAPABILITIES} HTTP/1.1\nHost: x\n\nGET / HTTP/1.1\r\n\r\n"), raw("H5-bare-lf-header", f"{GET}X: a\nY: b\r\n\r\n"),
    raw("H5-bare-cr", f"{GET}X: a\rY: b\r\n\r\n"), raw("H5-nul", f"{GET}X: a\0b\r\n\r\n"), raw("H5-nul-name", f"{GET}X\0: a\r\n\r\n"),
    raw("H5-no-colon", f"{GET}X\r\n\r\n"), raw("H5-fold", f"{GET} X: a\r\n\r\n"), raw("H5-fold-tab", f"{GET}X: a\r\n\tb\r\n\r\n"),
    raw("H5-fold-first", f"GET {CAPABILITIES} HTTP/1.1\r\n Host: x\r\n\r\n"), raw("H5-blank-name", f"{GET}X Y: a\r\n\r\n"), raw("H5-lower", GET.replace("GET", "get") + "\r\n"),
    raw("H5-mixed", GET.replace("GET", "Get") + "\r\n"), raw("H5-simple", f"GET {CAPABILITIES}\r\n\r\n"), raw("H5-words", "GET / / HTTP/1.1\r\n\r\n"),
    *(raw(f"H5-{version}", GET.replace("1.1", version) + "\r\n") for version in ("3.7", "2.0", "0.9", "1.10", "11", "1.2", "1.9")),
    # What a reader of addresses would leave out without a word.
    *(raw(f"H5-left-out-{n}", GET.replace("request=", f"request={mark}") + "\r\n") for n, mark in enumerate(("#", "\t", "\x7f", "\x1f"))),
    # An address as it was typed, in UTF-8 and in another encoding.
    raw("H5-typed", GET.replace("request=", "x=\xc3\xbc&request=") + "Connection: close\r\n\r\n", 200, None), raw("H5-typed-otherwise", GET.replace("request=", "x=\xfc&request=") + "Connection: close\r\n\r\n"),
    raw("H5-no-host", GET.replace("Host: x\r\n", "") + "\r\n"), raw("H5-hosts", f"{GET}Host: y\r\n\r\n"),
    raw("H4-te-1.2", head("Transfer-Encoding: chunked", version="HTTP/1.2") + chunked(BODY)), smuggled("te-none-cl", f"Content-Length: {len(BODY)}", "Transfer-Encoding:"),
    raw("H4-expect-no-length", head("Content-Length: abc", "Expect: 100-continue")), raw("Z1-expect", head(f"Content-Length: {2**30}", "Expect: 100-continue"), 413, FSE),
    *(raw(f"H5-target-{n}", f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n") for n, target in enumerate(("http://[::1", "http://]/", "http://[zz]/", "x://[", "http://[v1]/"))),
    raw("H5-garbage", "\x16\x03\x01\x02\r\n\r\n"), raw("H5-binary", "\x00\x01\r\n\r\n"), raw("H5-blank-method", f" {CAPABILITIES} HTTP/1.1\r\n\r\n"),
    *(raw(f"H5-blank-before-{n}", f"{blank}{GET}\r\n") for n, blank in enumerate((" ", "\t", "\x0b\x0c", "\n", "\r\n "))), raw("H5-no-slash", GET.replace("GET /", "GET ") + "\r\n"),
    raw("H5-blank-lines", f"\r\n\r\n\r\n{GET}Connection: close\r\n\r\n", 200, None), raw("H5-address", GET.replace("GET /", "GET http://x/") + "Connection: close\r\n\r\n", 200, None),
    Row(name="H7-chunked", ask=Ask(raw=(head("Transfer-Encoding: chunked") + chunked(BODY)).encode()), locator="FileParam", code=IPV, asks_storagehub=True),
    Row(name="H7-chunked-bytes", ask=Ask(raw=(head("Transfer-Encoding: chunked") + chunked(BODY, 1)).encode()), locator="FileParam", code=IPV, asks_storagehub=True),
    raw("H7-chunked-too-much", head("Transfer-Encoding: chunked") + chunked("x" * (3 * 2**20 + 1), 2**16), 413, FSE),
    raw("H7-chunked-as-much", head("Transfer-Encoding: chunked") + chunked("x" * (3 * 2**20), 2**16)),
    raw("H8-blank", head("Transfer-Encoding: chunked") + "\r\n" + chunked(BODY)), raw("H8-blank-between", head("Transfer-Encoding: chunked") + chunked(BODY).replace("\r\n0\r\n", "\r\n\r\n0\r\n")),
    *(raw(f"H8-{n}", head("Transfer-Encoding: chunked") + text) for n, text in enumerate((
        f"zz\r\n{BODY}\r\n0\r\n\r\n", f"0x4\r\n{BODY}\r\n0\r\n\r\n", "-1\r\n\r\n", "+5\r\nhello\r\n0\r\n\r\n", "5 \r\nhello\r\n0\r\n\r\n", "1_0\r\nx\r\n0\r\n\r\n", "5\r\nhelloXX0\r\n\r\n"))),
    raw("H8-trailer", head("Transfer-Encoding: chunked") + f"0\r\n{'X: y' * 500_000}"), raw("H8-trailers", head("Transfer-Encoding: chunked") + "0\r\n" + "X: y\r\n" * 300_000),
    raw("H8-extension", head("Transfer-Encoding: chunked") + f"5;a={'x' * 2_000_000}\r\nhello\r\n0\r\n\r\n"),
    # The row asks for 414 at 10 kB, and 431 at 20 kB and 200 headers. An Execute by GET may be longer: its
    # values are encoded twice, and a token of 8 KiB may stand in it. What proxies add is theirs to choose.
    Row(name="H14-line", ask=kvp("service=WPS&request=GetCapabilities&x=" + "a" * 10_000), status=200, code=None),
    Row(name="H14-header-20kB", ask=Ask(target=CAPABILITIES, headers=(("X", "a" * 20_000),)), status=200, code=None),
    Row(name="H14-headers-200", ask=Ask(target=CAPABILITIES, headers=tuple((f"X-{n}", "a") for n in range(200))), status=200, code=None),
    # What bounds the memory is the sum, 64 KiB: the request line is a part of it, hence 431 and not 414.
    raw("H14-line-long", f"GET {WPS_PATH}?x={'a' * 70_000} HTTP/1.1\r\nHost: x\r\n\r\n", 431), raw("H14-header", f"{GET}X: {'a' * 70_000}\r\n\r\n", 431),
    raw("H14-headers", GET + "".join(f"X-{n}: {'a' * 40}\r\n" for n in range(10_000)) + "\r\n", 431),
    *(Row(name=f"H20-{kind.partition(';')[0].replace('/', '-')}", ask=post(BODY, ("Content-Type", kind)), status=415, code=NAC)
      for kind in ("text/plain", "multipart/form-data; boundary=x", "multipart/mixed", "application/x-yaml", "application/octet-stream", "application/soap+xml", "text/html", "xml", "*/*")),
    Row(name="H20-absent", ask=Ask(raw=(head().replace("Content-Type: text/xml\r\n\r\n", f"Content-Length: {len(BODY)}\r\n\r\n") + BODY).encode()), code=IPV, locator="FileParam", asks_storagehub=True),
    *(Row(name=f"H20-taken-{n}", ask=post(BODY, ("Content-Type", kind)), code=IPV, locator="FileParam", asks_storagehub=True) for n, kind in enumerate(("application/xml", "text/xml; charset=utf-8", "TEXT/XML"))),
    *(Row(name=f"H21-{coding}", ask=post(BODY, ("Content-Encoding", coding)), status=415, code=NAC) for coding in ("gzip", "br", "deflate", "gzip, identity", "identity ,GZIP")),
]  # fmt: skip


@each(ROWS)
def test_http(catalogue: World, row: Row) -> None:
    answer = catalogue.hold(row)
    if row.status == 405:
        assert "GET" in answer.headers["Allow"]
        assert row.ask.method not in answer.headers["Allow"].split(", ") or row.ask.method == "HEAD"
    if row.ask.method == "HEAD":
        assert answer.body == b""


@pytest.mark.parametrize("host", ["evil.test", "evil.test:80", "169.254.169.254"])
def test_h16_no_link_is_made_of_what_a_client_calls_the_host(catalogue: World, host: str) -> None:
    url = catalogue.quick.folder  # nothing of it may be shown either
    forged = f"X-Forwarded-Host: {host}\r\nX-Forwarded-Proto: gopher\r\nForwarded: host={host}\r\nX-Forwarded-For: {host}\r\n"
    for line in (f"GET {CAPABILITIES}", f"GET http://{host}{CAPABILITIES}"):
        ask = Ask(
            raw=f"{line} HTTP/1.1\r\nHost: {host}\r\n{forged}Connection: close\r\n\r\n".encode()
        )
        answer = catalogue.ask(ask)
        assert answer.status == 200
        assert f"http://{catalogue.host}:{catalogue.port}{WPS_PATH}" in answer.text
        assert host not in answer.text
        assert str(url) not in answer.text


def test_h17_pipelined_requests_are_answered_each_alone(catalogue: World) -> None:
    good = f"{GET}\r\n"
    hostile = f"POST {WPS_PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: text/xml\r\nContent-Length: 5\r\n\r\n<a/>\n"
    with catalogue.connect() as connection:
        connection.sendall(f"{good}{hostile}{GET}Connection: close\r\n\r\n".encode())
        answer = _rest(connection)
    assert answer.count(b"HTTP/1.1 ") == 3
    assert answer.count(b"HTTP/1.1 200 ") == 2
    assert answer.count(b"HTTP/1.1 400 ") == 1
    catalogue.hold_untouched()


def test_h17_what_follows_a_broken_request_is_not_read(catalogue: World) -> None:
    with catalogue.connect() as connection:
        connection.sendall(f"{GET}X\0: y\r\n\r\n{GET}\r\n".encode())
        answer = _rest(connection)
    assert answer.count(b"HTTP/1.") == 1


@pytest.mark.parametrize(
    "framing",
    [
        f"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n{chunked('x')}",
        f"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n{chunked('x')}",
        f"X: y\r\n z\r\nTransfer-Encoding: chunked\r\n\r\n{chunked('x')}",
    ],
)
def test_h4_h5_what_may_be_read_in_two_ways_ends_its_connection(
    catalogue: World, framing: str
) -> None:
    with catalogue.connect() as connection:
        connection.sendall(f"POST {WPS_PATH} HTTP/1.1\r\nHost: x\r\n{framing}{GET}\r\n".encode())
        answer = _rest(connection)
    assert answer.startswith(b"HTTP/1.0 400 ")
    assert answer.count(b"HTTP/1.") == 1


def test_h5_nothing_of_a_broken_target_is_an_exception(catalogue: World) -> None:
    before = len(catalogue.log)
    with catalogue.connect() as connection:
        connection.sendall(b"GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert _rest(connection).startswith(b"HTTP/1.")
    assert "uncaptured" not in catalogue.log[before:]


def test_a_connection_is_closed_whose_client_says_so_among_others(catalogue: World) -> None:
    with catalogue.connect() as connection:
        connection.sendall(f"{GET}Connection: TE, close\r\nTE: trailers\r\n\r\n".encode())
        answer = _rest(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nConnection: close\r\n" in answer


@pytest.mark.parametrize(
    "asked",
    [
        "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMA\r\n",
        "Upgrade: websocket\r\nConnection: Upgrade\r\n",
    ],
)
def test_h19_an_upgrade_is_passed_over(catalogue: World, asked: str) -> None:
    with catalogue.connect() as connection:
        connection.sendall(f"{GET}{asked}\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")


def test_h10_h11_what_never_comes_is_given_up_in_time(catalogue: World) -> None:
    """A body that stops: 30 s. A header or body that comes in drops: 15 s, 30 s. Each is told so."""
    declared = head(f"Content-Length: {len(BODY)}") + BODY[:50]
    cases = {
        "H10-silence": (declared, "", 30),
        "H10-drops": (declared, "x", 30),
        "H10-chunks": (head("Transfer-Encoding: chunked") + "5\r\nhe", "", 30),
        "H8-no-end-of-line": (head("Transfer-Encoding: chunked") + "5\nhello\n0\n\n", "", 30),
        "H11-drops": (f"{GET}X-Long: ", "a", 15),
        "H11-silence": (f"{GET}X-Half", "", 15),
        "H11-line": ("GE", "", 15),
    }
    with ThreadPoolExecutor(len(cases)) as pool:
        seconds = list(
            pool.map(lambda case: _given_up(catalogue, case[0], case[1]), cases.values())
        )
    for (name, (_, _, limit)), waited in zip(cases.items(), seconds, strict=True):
        assert waited <= limit, name
    catalogue.hold_untouched()


def _given_up(world: World, sent: str, drop: str) -> float:
    """Send a beginning, then drops; how long until the connection is closed, with an answer."""
    began = time.monotonic()
    with world.connect() as connection:
        connection.sendall(sent.encode())
        connection.settimeout(0.5)
        answer = b""
        while time.monotonic() < began + 60:
            try:
                part = connection.recv(65536)
            except TimeoutError:
                if drop:
                    with contextlib.suppress(OSError):
                        connection.sendall(drop.encode())
                continue
            except ConnectionResetError:
                break
            if not part:
                break
            answer += part
    assert answer.startswith((b"HTTP/1.0 408 ", b"HTTP/1.1 408 ")), answer
    assert b"did not come to its end" in answer
    return time.monotonic() - began


def _rest(connection: socket.socket) -> bytes:
    parts = []
    while part := connection.recv(2**16):
        parts.append(part)
    return b"".join(parts)
