"""What the hosts of public links may do, over real connections; and where none is ever opened."""

from __future__ import annotations

import gzip
import itertools
import socket
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from raw_server import Answer, Connection, RawServer, http

from die_algorithm.errors import LinkTooLarge, LinkUnavailable, LinkUnusable
from die_algorithm.public_link import TrustedHosts
from die_algorithm.public_links import PublicLinks

DATA = bytes(range(256)) * 400
LIMIT = len(DATA)
GOOD = http("200 OK", DATA, "Content-Disposition: attachment; filename = a b.csv")


def link(server: RawServer, path: str = "/shub/E_a==") -> str:
    return f"http://127.0.0.1:{server.port}{path}"


def links(*servers: RawServer, seconds: float = 0.5) -> PublicLinks:
    """A client that trusts some servers, and loses its patience soon."""
    return PublicLinks(
        TrustedHosts([link(server) for server in servers], []),
        timeout=timedelta(seconds=seconds),
        min_rate=100_000,
        max_size=LIMIT,
    )


def fetch(client: PublicLinks, address: str) -> tuple[str, bytes, int | None]:
    with client.open(address) as file:
        return file.name, b"".join(file), file.size


def redirect(location: str, status: str = "302 Found") -> bytes:
    return http(status, b"", f"Location: {location}")


def chunked(body: bytes = b"", coding: str = "chunked") -> bytes:
    return http("200 OK", body, f"Transfer-Encoding: {coding}", length=False)


class Listener:
    """Counts who knocks."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.port = int(sock.getsockname()[1])

    def assert_nobody_knocked(self) -> None:
        with pytest.raises(BlockingIOError):
            self._sock.accept()


@pytest.fixture
def stranger() -> Iterator[Listener]:
    """A host that is not trusted."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        yield Listener(sock)


# -- what is fetched


def test_a_file_comes_whole_with_its_name_and_size() -> None:
    with RawServer(GOOD) as server:
        assert fetch(links(server), link(server)) == ("a b.csv", DATA, len(DATA))
        (request,) = server.requests
    assert (request.method, request.target) == ("GET", "/shub/E_a==")
    assert request.headers["host"] == f"127.0.0.1:{server.port}"
    assert set(request.headers) <= {
        *("host", "accept", "accept-encoding", "connection", "user-agent"),
    }


@pytest.mark.parametrize("coding", ["chunked", "Chunked"])
@pytest.mark.parametrize("size", [1, 1000, LIMIT])
def test_a_file_in_chunks_comes_whole(coding: str, size: int) -> None:
    parts = (DATA[start : start + size] for start in range(0, LIMIT, size))
    body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    with RawServer(chunked(body + b"0\r\nX-A: b\r\n\r\n", coding)) as server:
        assert fetch(links(server), link(server, "/x/c.txt?d")) == ("c.txt", DATA, None)


def test_a_check_reads_no_more_than_the_head() -> None:
    def endless(connection: Connection) -> None:
        connection.send(http("200 OK", b"", f"Content-Length: {LIMIT}", length=False))
        connection.hang()

    with RawServer(endless) as server:
        started = time.monotonic()
        links(server, seconds=20).check(link(server))
        assert time.monotonic() - started < 10


# -- redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_a_trusted_host_is_followed(status: int) -> None:
    with RawServer(GOOD) as there, RawServer(redirect(link(there), f"{status} There")) as here:
        assert fetch(links(here, there), link(here))[1] == DATA


def test_a_redirect_on_the_same_host_is_resolved_against_the_link() -> None:
    with RawServer(redirect("../d.txt"), redirect("/e.txt"), GOOD) as server:
        assert fetch(links(server), link(server, "/a/b/c"))[1] == DATA
        assert [request.target for request in server.requests] == ["/a/b/c", "/a/d.txt", "/e.txt"]


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/café".encode(), "/caf%C3%A9"),
        ("/Ä.csv?ö".encode(), "/%C3%84.csv?%C3%B6"),
        ("/表.csv".encode(), "/%E8%A1%A8.csv"),
        (b"/caf\xe9", "/caf%C3%A9"),
    ],
)
def test_a_redirect_may_hold_letters_as_they_are(location: bytes, target: str) -> None:
    with RawServer(redirect(location.decode("latin-1")), GOOD) as server:
        assert fetch(links(server), link(server))[1] == DATA
        assert server.requests[1].target == target


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:{stranger}/",
        "//127.0.0.1:{stranger}/",
        "http://127.0.0.1:{here}@127.0.0.1:{stranger}/",
        "http://127.0.0.1:{stranger}#@127.0.0.1:{here}/",
        "http://127.0.0.1:{stranger}\\@127.0.0.1:{here}/",
        "http://localhost:{here}/",
        "http://2130706433:{stranger}/",
        "http://2130706433:{here}/",
        "http://0x7f000001:{here}/",
        "http://127.1:{here}/",
        "http://[::ffff:127.0.0.1]:{here}/",
        "https://127.0.0.1/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:{stranger}/",
        "http://127.0.0.1:{stranger}/\tx",
        # As UTF-8: a full-width digit, a full-width slash, a line separator.
        *(
            each.encode().decode("latin-1")
            for each in ("http://\uff1127.0.0.1:{here}/", "//127.0.0.1\uff0f:{here}/", "/\u2028")
        ),
    ],
)
def test_a_redirect_leads_to_no_other_host(location: str, stranger: Listener) -> None:
    ports: dict[str, int] = {"stranger": stranger.port}

    def answer(connection: Connection) -> None:
        connection.send(redirect(location.format(**ports)))

    with RawServer(answer) as server:
        ports["here"] = server.port
        with pytest.raises(LinkUnusable, match="it leads to"):
            links(server).check(link(server))
        assert len(server.requests) == 1
    stranger.assert_nobody_knocked()


def test_no_request_leaves_for_a_host_that_is_not_trusted(stranger: Listener) -> None:
    with RawServer(GOOD) as server:
        client = links(server)
        for address in (
            f"http://127.0.0.1:{stranger.port}/",
            f"http://127.0.0.1:{server.port}@127.0.0.1:{stranger.port}/",
            f"http://localhost:{server.port}/",
            f"http://2130706433:{server.port}/",
            "file:///etc/passwd",
        ):
            for use in (client.check, lambda each: fetch(client, each)):
                with pytest.raises(LinkUnusable):
                    use(address)
        assert server.requests == []
    stranger.assert_nobody_knocked()


def test_redirects_are_followed_five_times_and_no_more() -> None:
    with RawServer(*[redirect("/x")] * 5, GOOD) as server:
        assert fetch(links(server), link(server))[1] == DATA
    with RawServer(redirect("/x")) as server:
        with pytest.raises(LinkUnusable, match="more than 5 times"):
            links(server).check(link(server))
        assert len(server.requests) == 6


def test_slow_redirects_share_one_time_out() -> None:
    def slow(connection: Connection) -> None:
        connection.drip(iter([b"HTTP/1.1 302 Found\r\n", b""]), every=0.3)
        connection.send(b"Location: /x\r\nContent-Length: 0\r\n\r\n")

    with RawServer(slow) as server:
        with pytest.raises(LinkUnavailable, match="too slow"):
            links(server, seconds=1).check(link(server))
        assert len(server.requests) <= 3


# -- refusals and faults


@pytest.mark.parametrize("status", [400, 401, 403, 404, 406, 410, 451, 300, 304])
def test_a_link_without_a_file_is_of_no_use(status: int) -> None:
    with RawServer(http(f"{status} No")) as server:
        with pytest.raises(LinkUnusable, match=str(status)):
            links(server).check(link(server))
        assert len(server.requests) == 1


@pytest.mark.parametrize("answer", [http("204 No Content", length=False), http("206 Part", b"x")])
def test_a_part_of_a_file_is_no_file(answer: bytes) -> None:
    with RawServer(answer) as server, pytest.raises(LinkUnusable):
        links(server).check(link(server))


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408, 425, 429])
def test_a_host_in_trouble_may_recover(status: int) -> None:
    with RawServer(http(f"{status} Sorry")) as server, pytest.raises(LinkUnavailable):
        links(server).check(link(server))


def test_a_host_that_is_away_may_come_back() -> None:
    with RawServer(GOOD) as server:
        client, address = links(server), link(server)
    with pytest.raises(LinkUnavailable, match="cannot be reached"):
        client.check(address)


def test_a_file_above_the_limit_is_refused_by_its_announced_length() -> None:
    answer = http("200 OK", b"", f"Content-Length: {LIMIT + 1}", length=False)
    with RawServer(answer) as server, pytest.raises(LinkTooLarge, match=str(LIMIT)):
        links(server).check(link(server))


@pytest.mark.parametrize(
    "answer",
    [
        http("200 OK", DATA, length=False),
        http("200 OK", DATA[:-1], "Content-Type: text/csv", length=False),
        *(
            chunked(b"%x\r\n%b\r\n0\r\n\r\n" % (LIMIT, DATA), coding)
            for coding in ("identity", "", "gzip", "gzip, chunked", "chunked, chunked", "xchunked")
        ),
        http("200 OK", DATA, "Transfer-Encoding: identity"),
    ],
)
def test_a_file_whose_end_is_not_marked_is_refused(answer: bytes) -> None:
    with RawServer(answer) as server, pytest.raises(LinkUnusable, match="how long the file is"):
        links(server).check(link(server))


class Flood:
    """Sends a piece for ever, as fast as it is taken, and counts the bytes.

    Args:
        beginning: what comes first.
        piece: what comes then.
    """

    def __init__(self, beginning: bytes, piece: bytes) -> None:
        self._beginning = beginning
        self._pieces = piece * (65536 // len(piece) + 1)
        self.sent = 0

    def __call__(self, connection: Connection) -> None:
        connection.send(self._beginning)
        while self.sent < 1_000_000_000:
            connection.send(self._pieces)
            self.sent += len(self._pieces)


def test_a_file_in_chunks_is_counted_while_it_comes() -> None:
    flood = Flood(chunked(), b"10000\r\n%b\r\n" % bytes(65536))
    with RawServer(flood) as server:
        client = links(server)
        client.check(link(server))
        with pytest.raises(LinkTooLarge):
            fetch(client, link(server))
    assert flood.sent < 100_000_000


@pytest.mark.parametrize(
    "flood",
    [
        pytest.param(Flood(chunked(b"-1\r\n"), bytes(65536)), id="a chunk of -1 bytes"),
        pytest.param(Flood(chunked(b"1\r\na\r\n0\r\n"), b"X-A: b\r\n"), id="trailers"),
        pytest.param(Flood(chunked(), b"1;%b\r\na\r\n" % (b"e" * 1000)), id="extensions of chunks"),
        pytest.param(Flood(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), id="heads"),
        pytest.param(
            Flood(b"", b"HTTP/1.1 100 Continue\r\nX-A: %b\r\n\r\n" % (b"a" * 60_000)),
            id="large heads",
        ),
        pytest.param(Flood(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"), id="headers"),
    ],
)
def test_what_goes_on_and_on_without_content_is_given_up(flood: Flood) -> None:
    with RawServer(flood) as server:
        started = time.monotonic()
        with pytest.raises(LinkUnavailable, match="damaged"):
            fetch(links(server, seconds=20), link(server))
        assert time.monotonic() - started < 10
    assert flood.sent < 50_000_000  # what the sockets hold, and 1 MiB


def dripping(connection: Connection) -> None:
    connection.send(http("200 OK", b"", f"Content-Length: {LIMIT}", length=False))
    connection.drip(itertools.repeat(b"x"), every=0.05)


def silent(connection: Connection) -> None:
    connection.send(http("200 OK", b"x", f"Content-Length: {LIMIT}", length=False))
    connection.hang()


def reset(connection: Connection) -> None:
    connection.send(http("200 OK", b"x", f"Content-Length: {LIMIT}", length=False))
    connection.reset()


FAULTS: dict[str, Answer] = {
    "cut off": http("200 OK", DATA[:-1], f"Content-Length: {LIMIT}", length=False),
    "chunks cut off": chunked(b"5\r\nab"),
    "chunks without the last": chunked(b"2\r\nab\r\n"),
    "a chunk below zero": chunked(b"-5\r\nabcde\r\n0\r\n\r\n"),
    "a chunk of -1 bytes": chunked(b"-1\r\nabcde\r\n0\r\n\r\n"),
    "a chunk size that is no number": chunked(b"x\r\nab\r\n0\r\n\r\n"),
    "reset": reset,
    "a byte now and then": dripping,
    "silent": silent,
    "length that is no number": http("200 OK", b"x", "Content-Length: x", length=False),
    "no headers": b"HTTP/1.1 200 OK\r\n\r\n",
    "not HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "nothing": b"",
    "compressed": http("200 OK", gzip.compress(DATA), "Content-Encoding: gzip"),
}


@pytest.mark.parametrize("answer", FAULTS.values(), ids=FAULTS.keys())
def test_what_does_not_come_whole_and_in_time_is_no_file(answer: Answer) -> None:
    with RawServer(answer) as server:
        started = time.monotonic()
        with pytest.raises(LinkUnavailable):
            fetch(links(server), link(server))
        assert time.monotonic() - started < 5


@pytest.mark.usefixtures("password_file")
def test_nothing_of_the_machine_joins_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    with RawServer(GOOD) as proxy, RawServer(redirect("/b"), GOOD) as server:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.delenv("no_proxy", raising=False)
        fetch(links(server), link(server))
        assert not proxy.requests
        assert len(server.requests) == 2
        for request in server.requests:
            assert not {"authorization", "cookie", "gcube-token"} & set(request.headers)
