"""Requests as they come off a connection: read the same in whatever pieces they come."""

from __future__ import annotations

import errno

import pytest
from waitress.adjustments import Adjustments

from die_algorithm.server import _Parser

LIMIT = 1000
HEAD = b"POST /wps HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
PIECES = (1, 2, 3, 5, 7, 2**16)


def read(request: bytes, piece: int = 2**16) -> tuple[_Parser, int]:
    """What becomes of a request, and how much of it was read."""
    parser = _Parser(Adjustments(max_request_body_size=LIMIT + 1))
    at = 0
    while at < len(request) and not parser.completed:
        at += parser.received(request[at : at + piece])
    return parser, at


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("blanks", [b"", b"\r\n"])
def test_a_head_is_read_in_whatever_pieces_it_comes(blanks: bytes, piece: int) -> None:
    request = blanks + b"POST /a?b HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"
    parser, read_bytes = read(request + b"GET ", piece)
    assert parser.error is None
    assert (parser.path, parser.query) == ("/a", "b")
    assert parser.get_body_stream().read() == b"body"
    assert read_bytes == len(request)


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize(
    "begin", [b" GET /", b"\x0b\x0cGET /", b"\nGET /", b"GET a", b"GET *a", b"GET ?"]
)
def test_a_line_that_is_no_requests_is_refused(begin: bytes, piece: int) -> None:
    assert refusal(begin + b" HTTP/1.1\r\nHost: x\r\n\r\n", piece) == "400 Bad Request"


@pytest.mark.parametrize("target", [b"/", b"*", b"http://x/", b"HTTP://x/"])
def test_a_path_an_address_and_an_asterisk_are_targets(target: bytes) -> None:
    parser, _ = read(b"OPTIONS " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert parser.error is None


@pytest.mark.parametrize("piece", [1, 1000])
def test_a_head_that_is_too_long_is_refused_before_its_end(piece: int) -> None:
    parser = _Parser(Adjustments(max_request_header_size=5000))
    head, at = b"GET / HTTP/1.1\r\nX: " + bytes(10_000), 0
    while not parser.completed:
        at += parser.received(head[at : at + piece])
    assert parser.error is not None
    assert parser.error.to_response()[0].startswith("431 ")
    assert at == 5000


def test_of_a_head_that_drips_each_byte_is_searched_once() -> None:
    searched = []

    class Head(bytearray):
        def find(self, what: bytes, start: int = 0) -> int:  # type: ignore[override]
            searched.append(len(self) - start)
            return super().find(what, start)

    parser = _Parser(Adjustments())
    parser._head = Head()
    for _ in range(1000):
        parser.received(b"x")
    assert max(searched) <= 4


def chunked(body: bytes, size: int) -> bytes:
    parts = [body[n : n + size] for n in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def refusal(request: bytes, piece: int = 2**16) -> str:
    parser, _ = read(request, piece)
    assert parser.completed
    assert parser.error is not None
    return parser.error.to_response()[0]


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("size", [1, 2, 10, LIMIT])
@pytest.mark.parametrize("length", [1, 17, LIMIT])
def test_a_body_in_chunks_is_read_up_to_the_limit(length: int, size: int, piece: int) -> None:
    body = bytes(n % 251 for n in range(length))
    request = HEAD + chunked(body, size)
    parser, read_bytes = read(request + b"GET ", piece)
    assert parser.error is None
    assert parser.completed
    assert read_bytes == len(request)
    assert parser.get_body_stream().read() == body
    assert parser.headers["CONTENT_LENGTH"] == str(length)


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("size", [1, 10, LIMIT, 2 * LIMIT])
def test_a_body_in_chunks_above_the_limit_is_too_large(size: int, piece: int) -> None:
    request = HEAD + chunked(b"x" * (LIMIT + 1), size)
    assert refusal(request, piece) == "413 Request Entity Too Large"


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize(
    "body",
    [
        b"\r\n5\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n\r\n0\r\n\r\n",
        b"5\r\nhello\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhelloX\r\n0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b";a=b\r\nhello\r\n0\r\n\r\n",
    ],
)
def test_chunks_that_are_not_told_apart_are_refused(body: bytes, piece: int) -> None:
    assert refusal(HEAD + body, piece) == "400 Bad Request"


@pytest.mark.parametrize("piece", PIECES)
def test_fields_behind_the_chunks_are_read_and_left_alone(piece: int) -> None:
    request = HEAD + b"5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n"
    parser, read_bytes = read(request, piece)
    assert parser.error is None
    assert read_bytes == len(request)
    assert parser.get_body_stream().read() == b"hello"
    assert "X" not in parser.headers


def test_chunks_that_are_mostly_frame_come_to_an_end() -> None:
    chunk = b"1;" + b"a" * 2000 + b"\r\nx\r\n"
    assert refusal(HEAD + chunk * LIMIT, 100) == "400 Bad Request"


@pytest.mark.parametrize(
    ("version", "given", "is_last"),
    [
        ("1.1", "close", True),
        ("1.1", "TE, close", True),
        ("1.1", "Close\t,TE", True),
        ("1.1", "keep-alive, close", True),
        ("1.1", "TE", False),
        ("1.1", "closed", False),
        ("1.1", "", False),
        ("1.0", "", True),
        ("1.0", "TE", True),
        ("1.0", "TE, Keep-Alive", False),
        ("1.0", "keep-alive, close", True),
    ],
)
def test_the_last_request_of_a_connection_says_so_in_any_place(
    version: str, given: str, is_last: bool
) -> None:
    field = f"Connection: {given}\r\n" if given else ""
    parser, _ = read(f"GET / HTTP/{version}\r\nHost: x\r\n{field}\r\n".encode())
    assert parser.error is None
    assert parser.connection_close is is_last
    # What waitress goes by when it answers.
    word = parser.headers.get("CONNECTION", "")
    assert (word == "close" if version == "1.1" else word != "keep-alive") is is_last


@pytest.mark.parametrize(
    ("target", "query"),
    [("/?a=\u00fc", "a=%C3%BC"), ("/\u00fc?a=%C3%BC&b=\u20ac", "a=%C3%BC&b=%E2%82%AC")],
)
def test_a_target_that_was_not_escaped_is_read_as_if_it_were(target: str, query: str) -> None:
    parser, _ = read(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert parser.error is None
    assert parser.query == query


@pytest.mark.parametrize(
    "line", ["G\u00fcT / HTTP/1.1", "GET / HTTP/1.1\u00fc", "GET / HTTP/\u00fc"]
)
def test_elsewhere_in_the_first_line_is_ascii_alone(line: str) -> None:
    assert refusal(f"{line}\r\nHost: x\r\n\r\n".encode()) == "400 Bad Request"


@pytest.mark.parametrize(
    "head", [HEAD, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n"]
)
def test_a_body_for_which_the_disk_has_no_room_is_refused(
    head: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_buffer: object, _before: object = None) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr("waitress.buffers.TempfileBasedBuffer.__init__", full)
    parser = _Parser(Adjustments(inbuf_overflow=10_000))
    parser.received(head)
    parser.received(b"4E20\r\n" + bytes(9000))
    assert not parser.completed
    parser.received(bytes(9000))
    assert parser.completed
    assert parser.error is not None
    status, _, document = parser.error.to_response()
    assert status == "503 Service Unavailable"
    assert b"no room" in document
