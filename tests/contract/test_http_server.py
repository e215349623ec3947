"""The HTTP server's end: what is under way is answered, everything else closed, and it always ends."""

from __future__ import annotations

import contextlib
import io
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from die_algorithm.http_server import HttpServer

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

Application = Callable[["WSGIEnvironment", "StartResponse"], Iterable[bytes]]

#: More than the buffers of both ends of a connection hold.
LARGE = 64 * 2**20
#: A stop that waits for nobody: far less than the default grace.
SOON = 5.0
KEEP_ALIVE = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@contextlib.contextmanager
def running(application: Application, **options: Any) -> Iterator[HttpServer]:
    server = HttpServer(application, ["127.0.0.1:0"], threads=4, **options)
    server.start()
    try:
        yield server
    finally:
        server.stop(0)


@contextlib.contextmanager
def stopping(server: HttpServer, grace: float = 30.0) -> Iterator[threading.Thread]:
    """Stop the server in the background; it does not listen any more when the block begins."""
    stop = threading.Thread(target=server.stop, args=(grace,))
    stop.start()
    deadline = time.monotonic() + 10
    while listens(server):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield stop
    stop.join(60)
    assert not stop.is_alive()


def listens(server: HttpServer) -> bool:
    with contextlib.suppress(OSError), connect(server):
        return True
    return False


def connect(server: HttpServer) -> socket.socket:
    return socket.create_connection(server.addresses[0], timeout=20)


def rest_of(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    parts = []
    while part := connection.recv(2**20):
        parts.append(part)
    return b"".join(parts)


def at_least(connection: socket.socket, size: int) -> bytes:
    """As many bytes, and what comes with the last of them."""
    content = b""
    while len(content) < size:
        part = connection.recv(2**20)
        assert part
        content += part
    return content


def one_answer(connection: socket.socket) -> bytes:
    """An answer of :func:`hello`, on a connection that stays open."""
    answer = b""
    while not answer.endswith(b"hello"):
        part = connection.recv(65536)
        assert part
        answer += part
    return answer


def hello(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", "5")])
    return [b"hello"]


def says_close(answer: bytes) -> bool:
    headers = answer.partition(b"\r\n\r\n")[0].lower().split(b"\r\n")
    return [line for line in headers if line.startswith(b"connection:")] == [b"connection: close"]


class Slow:
    """Answers when it may."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.may = threading.Event()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        self.asked.set()
        self.may.wait(60)
        return hello(environ, start_response)


@pytest.fixture
def slow() -> Iterator[Slow]:
    application = Slow()
    yield application
    application.may.set()


def test_the_address_is_free_for_others_while_an_answer_is_under_way(slow: Slow) -> None:
    with running(slow) as server, connect(server) as client:
        client.sendall(KEEP_ALIVE)
        assert slow.asked.wait(20)
        host, port = server.addresses[0]
        with stopping(server) as stop:
            other = HttpServer(hello, [f"{host}:{port}"], threads=1)
            other.start()
            with connect(other) as new:
                new.sendall(KEEP_ALIVE)
                assert one_answer(new).startswith(b"HTTP/1.1 200")
            other.stop(0)
            assert stop.is_alive()
            slow.may.set()
            assert rest_of(client).endswith(b"hello")


@pytest.mark.parametrize(
    "request_line",
    [KEEP_ALIVE, b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n"],
)
def test_an_answer_under_way_is_given_and_said_to_be_the_last(
    slow: Slow, request_line: bytes
) -> None:
    with running(slow) as server, connect(server) as client:
        client.sendall(request_line)
        assert slow.asked.wait(20)
        with stopping(server) as stop:
            stop.join(1)
            assert stop.is_alive()
            slow.may.set()
            answer = rest_of(client)
    assert answer.startswith(b"HTTP/1.")
    assert answer.endswith(b"hello")
    assert says_close(answer), answer


@pytest.mark.parametrize("expects", [b"", b"Expect: 100-continue\r\n"])
def test_a_request_whose_headers_are_in_is_read_to_its_end_and_answered(expects: bytes) -> None:
    with running(hello) as server, connect(server) as client:
        head = b"POST / HTTP/1.1\r\nHost: x\r\n" + expects + b"Content-Length: 8\r\n\r\n"
        client.sendall(head if expects else head + b"half")
        if expects:
            assert client.recv(100).startswith(b"HTTP/1.1 100 ")
        else:
            wait_until(lambda: any(channel.is_busy for channel in server._clients()))
        with stopping(server) as stop:
            stop.join(1)
            assert stop.is_alive()
            client.sendall(b"the body" if expects else b"rest")
            answer = rest_of(client)
    assert answer.endswith(b"hello")
    assert says_close(answer)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("sent", [b"", KEEP_ALIVE, b"GET / HTTP/1.1\r\nHost:"])
def test_a_connection_without_a_request_is_closed_and_keeps_nobody_waiting(sent: bytes) -> None:
    with running(hello) as server, connect(server) as client:
        client.sendall(sent)
        if sent == KEEP_ALIVE:
            one_answer(client)
        else:
            wait_until(lambda: len(server._clients()) == 1)
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < SOON
        assert rest_of(client) == b""


def test_a_request_that_was_sent_before_its_client_could_know_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Long enough for a machine under load.
    monkeypatch.setattr("die_algorithm.http_server._MOMENT", 20.0)
    with running(hello) as server, connect(server) as client:
        client.sendall(KEEP_ALIVE)
        assert not says_close(one_answer(client))
        with stopping(server) as stop:
            stop.join(0.2)
            client.sendall(KEEP_ALIVE)
            assert says_close(rest_of(client))


@contextlib.contextmanager
def at_work(server: HttpServer, then: Callable[[], None]) -> Iterator[None]:
    """Keep the server's loop from looking at its sockets during the block, as by much work."""
    began, over = threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        over.wait(20)
        then()

    working = threading.Thread(target=server._in_loop, args=(work,))
    working.start()
    assert began.wait(20)
    yield
    over.set()
    working.join()


def test_a_client_that_waits_to_be_accepted_is_answered() -> None:
    with running(hello) as server, contextlib.ExitStack() as stack:
        with at_work(server, then=server._close_listeners):
            client = stack.enter_context(connect(server))
            client.sendall(KEEP_ALIVE)
        answer = rest_of(client)
    assert answer.endswith(b"hello")
    assert says_close(answer)


def test_all_who_wait_are_accepted_in_one_turn() -> None:
    accepted: list[int] = []
    with running(hello) as server, contextlib.ExitStack() as stack:

        def accept() -> None:
            server._listeners[0].handle_accept()
            accepted.append(len(server._clients()))

        with at_work(server, then=accept):
            for _ in range(50):
                stack.enter_context(connect(server))
    assert accepted == [50]


def test_a_request_that_waits_to_be_read_is_answered() -> None:
    with running(hello) as server, connect(server) as client:
        client.sendall(KEEP_ALIVE)
        one_answer(client)
        with at_work(server, then=server._close_idle):
            client.sendall(KEEP_ALIVE)
        assert one_answer(client)


def download(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Piece by piece, by a thread that is held up when the client is slow."""
    environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", str(LARGE))])
    return (bytes(2**20) for _ in range(LARGE // 2**20))


def file_download(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """By the server alone, when no thread has to do with it any more."""
    start_response("200 OK", [("Content-Length", str(LARGE))])
    wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](io.BytesIO(bytes(LARGE)))
    return wrapped


@pytest.mark.parametrize("application", [download, file_download])
def test_a_large_answer_is_sent_to_its_end(application: Application) -> None:
    with running(application) as server, connect(server) as client:
        client.sendall(KEEP_ALIVE)
        begin = client.recv(1000)
        with stopping(server) as stop:
            stop.join(1.5)
            assert stop.is_alive()
            answer = begin + rest_of(client)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert len(body) == LARGE


@pytest.mark.parametrize("application", [download, file_download])
def test_what_is_not_taken_within_the_grace_is_cut(application: Application) -> None:
    with running(application) as server, connect(server) as client:
        client.sendall(KEEP_ALIVE)
        begin = client.recv(1000)
        began = time.monotonic()
        server.stop(1)
        assert 1 <= time.monotonic() - began < 1 + SOON
        assert len(begin + rest_of(client)) < LARGE


@pytest.mark.parametrize("size", [LARGE, 15 * 2**20])
def test_who_asks_again_and_reads_nothing_keeps_no_thread(size: int) -> None:
    def file(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/":
            return hello(environ, start_response)
        start_response("200 OK", [("Content-Length", str(size))])
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](io.BytesIO(bytes(size)))
        return wrapped

    with running(file, channel_request_lookahead=1) as server, contextlib.ExitStack() as stack:
        for _ in range(4):  # as many as it has threads
            client = stack.enter_context(connect(server))
            client.sendall(KEEP_ALIVE.replace(b"/", b"/file", 1) * 3)
        wait_until(lambda: all(channel.total_outbufs_len for channel in server._clients()))
        with connect(server) as other:
            other.sendall(KEEP_ALIVE)
            assert one_answer(other).startswith(b"HTTP/1.1 200")


def test_a_body_that_never_ends_is_cut_after_the_grace() -> None:
    with running(hello) as server, connect(server) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        ended = threading.Event()
        trickle = threading.Thread(target=trickle_into, args=(client, ended))
        trickle.start()
        wait_until(lambda: any(channel.is_busy for channel in server._clients()))
        began = time.monotonic()
        server.stop(1)
        assert 1 <= time.monotonic() - began < 1 + SOON
        ended.set()
        trickle.join()


def trickle_into(client: socket.socket, ended: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while not ended.wait(0.02):
            client.sendall(b"x")


def test_a_header_that_never_ends_keeps_nobody_waiting() -> None:
    with running(hello) as server, connect(server) as client:
        client.sendall(b"GET / HTTP/1.1\r\nX-Long: ")
        ended = threading.Event()
        trickle = threading.Thread(target=trickle_into, args=(client, ended))
        trickle.start()
        wait_until(lambda: len(server._clients()) == 1)
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < SOON
        ended.set()
        trickle.join()


def test_a_thread_that_hangs_is_left_behind(slow: Slow) -> None:
    with running(slow) as server, connect(server) as client:
        client.sendall(KEEP_ALIVE)
        assert slow.asked.wait(20)
        began = time.monotonic()
        server.stop(0.2)
        assert time.monotonic() - began < 0.2 + 2 * SOON
        assert rest_of(client) == b""


def test_a_server_can_be_stopped_twice_and_unstarted() -> None:
    server = HttpServer(hello, ["127.0.0.1:0", "127.0.0.1:0"], threads=1)
    server.start()
    server.stop()
    server.stop()
    server.listen_no_more()
    HttpServer(hello, ["127.0.0.1:0"], threads=1).stop()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Late is what takes longer than half a second."""
    monkeypatch.setattr("die_algorithm.http_server._HEADERS_WITHIN", 0.5)
    monkeypatch.setattr("die_algorithm.http_server.Channel.body_pause", 0.5)


@pytest.mark.parametrize(
    "sent",
    [
        b"G",
        b"GET / HTTP/1.1\r\nX-Long: ",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n",
    ],
)
@pytest.mark.parametrize("drips", [False, True])
@pytest.mark.usefixtures("impatient")
def test_a_request_that_does_not_come_to_its_end_is_told_so_and_closed(
    sent: bytes, *, drips: bool
) -> None:
    with running(hello) as server, connect(server) as client:
        client.sendall(sent)
        ended = threading.Event()
        trickle = threading.Thread(target=trickle_into, args=(client, ended))
        if drips:
            trickle.start()
        answer = b""
        with contextlib.suppress(ConnectionResetError):  # by what was dripped after the answer
            answer = client.recv(65536)
            rest_of(client)
        ended.set()
        if drips:
            trickle.join()
    assert answer.startswith((b"HTTP/1.0 408 ", b"HTTP/1.1 408 "))
    assert says_close(answer)


@pytest.mark.usefixtures("impatient")
def test_who_waits_for_the_answer_before_is_not_late(slow: Slow) -> None:
    with running(slow) as server, connect(server) as client:
        client.sendall(KEEP_ALIVE + KEEP_ALIVE[:10])
        assert slow.asked.wait(20)
        wait_for_looks(server, 3)
        slow.may.set()
        client.sendall(KEEP_ALIVE[10:])
        answer = one_answer(client)
        while answer.count(b"hello") < 2:
            answer += client.recv(65536)
    assert answer.count(b"HTTP/1.1 200 ") == 2


def wait_for_looks(server: HttpServer, count: int) -> None:
    """Wait until the server has looked for late requests some times more."""
    (channel,) = server._clients()
    seen: set[float] = set()

    def has_looked() -> bool:
        seen.add(channel._due_since)
        return len(seen) > count

    wait_until(has_looked)


@pytest.mark.usefixtures("impatient")
def test_a_large_body_may_take_its_time() -> None:
    with running(hello) as server, connect(server) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n")
        began = time.monotonic()
        for _ in range(20):
            client.sendall(bytes(1000))
            time.sleep(0.1)
        assert time.monotonic() - began > 4 * 0.5
        assert one_answer(client).startswith(b"HTTP/1.1 200 ")


def test_of_too_much_that_is_not_whole_what_has_taken_longest_is_given_up() -> None:
    with (
        running(hello, most_unfinished=100_000) as server,
        connect(server) as idle,
        connect(server) as first,
    ):
        idle.sendall(KEEP_ALIVE[:10])
        first.sendall(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 80000\r\n\r\n" + bytes(60_000)
        )
        wait_until(lambda: sum(channel.unfinished for channel in server._clients()) == 60_000)
        with connect(server) as second:
            second.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 70000\r\n\r\n")
            second.sendall(bytes(60_000))
            assert rest_of(first).startswith(b"HTTP/1.1 408 ")
            second.sendall(bytes(10_000))
            assert one_answer(second).startswith(b"HTTP/1.1 200 ")
        idle.sendall(KEEP_ALIVE[10:])
        assert one_answer(idle).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("application", [download, file_download])
def test_who_reads_nothing_is_not_kept_for_ever(application: Application) -> None:
    with running(application, channel_timeout=1) as server, connect(server) as client:
        client.sendall(KEEP_ALIVE)
        assert client.recv(100).startswith(b"HTTP/1.1 200 ")
        wait_until(lambda: server._clients() == [])
        with contextlib.suppress(ConnectionResetError):
            assert len(rest_of(client)) < LARGE


def test_of_too_much_that_nobody_reads_the_oldest_is_given_up() -> None:
    size = 15 * 2**20

    def large(_: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", str(size))])
        return [bytes(size)]

    def ask(client: socket.socket) -> None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        client.connect(server.addresses[0])
        client.settimeout(20)
        client.sendall(KEEP_ALIVE)
        assert client.recv(100).startswith(b"HTTP/1.1 200 ")

    with (
        running(large, most_unsent=2**24) as server,
        socket.socket() as first,
        socket.socket() as second,
    ):
        ask(first)
        wait_until(lambda: [channel.unsent > 2**22 for channel in server._clients()] == [True])
        time.sleep(1.5)  # a look, which finds no fault with it
        assert len(server._clients()) == 1
        ask(second)
        wait_until(lambda: len(server._clients()) == 1)
        with contextlib.suppress(ConnectionResetError):
            assert len(rest_of(first)) < size
        assert len(at_least(second, size - 100)) >= size - 100


def test_a_body_behind_an_answer_that_nobody_reads_is_given_up_like_others_and_holds_nothing(
    slow: Slow,
) -> None:
    options = {"most_unfinished": 100_000, "channel_request_lookahead": 1, "inbuf_overflow": 1000}
    with running(slow, **options) as server, connect(server) as first:
        first.sendall(KEEP_ALIVE)
        assert slow.asked.wait(20)
        first.sendall(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 80000\r\n\r\n" + bytes(60_000)
        )
        (channel,) = server._clients()
        wait_until(lambda: channel.unfinished == 60_000)
        body = channel.request.get_body_stream()
        wait_for_looks(server, 2)
        with connect(server) as second:
            second.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 70000\r\n\r\n")
            second.sendall(bytes(60_000))
            wait_until(lambda: body.closed)
            second.sendall(bytes(10_000))
            slow.may.set()
            assert one_answer(second).startswith(b"HTTP/1.1 200 ")
        answers = rest_of(first)
    assert answers.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 408 " in answers


@pytest.mark.parametrize("beside", [0, 3])
def test_who_says_no_more_is_answered_all_the_same(slow: Slow, beside: int) -> None:
    with running(slow, channel_request_lookahead=1) as server, contextlib.ExitStack() as others:
        for _ in range(beside):
            others.enter_context(connect(server)).sendall(KEEP_ALIVE)
        with connect(server) as connection:
            connection.sendall(KEEP_ALIVE)
            connection.shutdown(socket.SHUT_WR)
            assert slow.asked.wait(20)
            # The server has time to see the end of what is sent.
            with connect(server) as later:
                later.shutdown(socket.SHUT_WR)
                assert later.recv(1) == b""
            slow.may.set()
            assert rest_of(connection).endswith(b"hello")


def test_who_says_no_more_may_have_left() -> None:
    seen = threading.Event()

    def waits(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        while not environ["waitress.client_disconnected"]():
            time.sleep(0.01)
        seen.set()
        return hello(environ, start_response)

    with running(waits, channel_request_lookahead=1) as server, connect(server) as connection:
        connection.sendall(KEEP_ALIVE)
        connection.shutdown(socket.SHUT_WR)
        assert rest_of(connection).endswith(b"hello")
        assert seen.is_set()
