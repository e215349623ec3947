"""A server on a bare socket that answers what it is told to, however wrong, and keeps what it got."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

#: What is sent for one request: bytes, or a function that is given the socket.
Answer = bytes | Callable[["Connection"], None]


@dataclasses.dataclass(frozen=True)
class Request:
    """One request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    raw: bytes


class Connection:
    """The server's end of one connection."""

    def __init__(self, sock: socket.socket, stopped: threading.Event) -> None:
        self._sock = sock
        self._stopped = stopped
        #: The request that is to be answered.
        self.request: Request | None = None

    def send(self, data: bytes) -> None:
        self._sock.sendall(data)

    def drip(self, pieces: Iterator[bytes], every: float) -> None:
        """Send one piece after the other, until the client or the test has enough."""
        for piece in pieces:
            self.send(piece)
            if self._stopped.wait(every):
                return

    def sip(self, count: int, every: float) -> None:
        """Read what the client sends in small sips, until it or the test has enough."""
        while self._sock.recv(count) and not self._stopped.wait(every):
            pass

    def hang(self) -> None:
        """Send nothing more, until the test ends."""
        self._stopped.wait()

    def reset(self) -> None:
        """Close with a TCP reset."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

    def read_request(self, *, with_body: bool) -> Request | None:
        data = bytearray()
        while b"\r\n\r\n" not in data:
            piece = self._sock.recv(65536)
            if not piece:
                return None
            data += piece
        head, _, body = bytes(data).partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ", 2)
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines[1:])
        }
        length = int(headers.get("content-length", "0")) if with_body else 0
        while len(body) < length and (piece := self._sock.recv(65536)):
            body += piece
        return Request(method, target, headers, body, head + b"\r\n\r\n" + body)


class RawServer:
    """Answers the n-th request with the n-th answer, and all further ones with the last.

    Each connection serves one request and is closed then.

    Args:
        answers: the answers.
        reads_bodies: whether it reads more of a request than the head, and makes room for more.
    """

    def __init__(self, *answers: Answer, reads_bodies: bool = True) -> None:
        self._answers = answers
        self._reads_bodies = reads_bodies
        self.requests: list[Request] = []
        self._stopped = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        if not reads_bodies:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        self.port = int(self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept)]

    @property
    def url(self) -> str:
        """Its address, as that of a StorageHub."""
        return f"http://127.0.0.1:{self.port}/workspace"

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopped.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._threads[0].join()
        self._listener.close()
        for thread in self._threads[1:]:
            thread.join()

    def _accept(self) -> None:
        while not self._stopped.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(sock,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            sock.settimeout(10)
            connection = Connection(sock, self._stopped)
            request = connection.read_request(with_body=self._reads_bodies)
            if request is None:
                return
            connection.request = request
            self.requests.append(request)
            answer = self._answers[min(len(self.requests), len(self._answers)) - 1]
            if callable(answer):
                answer(connection)
            else:
                connection.send(answer)


def http(status: str = "200 OK", body: bytes = b"", *headers: str, length: bool = True) -> bytes:
    """An HTTP/1.1 answer.

    Args:
        status: status and reason.
        body: the body.
        headers: header lines.
        length: whether to announce the body's length.
    """
    lines = [f"HTTP/1.1 {status}", "Connection: close", *headers]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def json_answer(data: object, status: str = "200 OK", *headers: str) -> bytes:
    """An HTTP/1.1 answer with JSON."""
    return http(status, json.dumps(data).encode(), "Content-Type: application/json", *headers)
