"""HTTP over a Unix socket, and what goes wrong with connections."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from stand_in_engine.api import Answer, Request, refusal
from stand_in_engine.service import Refused

_BACKLOG = 512


class Door:
    """Listens on a socket; a thread for each connection, which may carry many requests.

    Args:
        path: of the socket.
        respond: answers a request.
    """

    def __init__(self, path: Path, respond: Callable[[Request], Answer]) -> None:
        self._path = path
        self._respond = respond
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._awake = threading.Event()
        self._awake.set()
        self._closing = threading.Event()
        self._delay = 0.0
        self._losses: list[tuple[str, str]] = []

    def open(self) -> None:
        """Listen, unless it does."""
        if self._listener is None:
            self._path.unlink(missing_ok=True)
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(self._path))
            self._listener.listen(_BACKLOG)
            self._closing.clear()
            self._acceptor = threading.Thread(target=self._accept, args=(self._listener,))
            self._acceptor.start()
        self._awake.set()

    def close(self) -> None:
        """Refuse connections, and break those that there are."""
        listener, self._listener = self._listener, None
        if listener is None or self._acceptor is None:
            return
        self._closing.set()
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._acceptor.join()
        listener.close()
        self.break_connections()

    def break_connections(self) -> None:
        """Close all connections; new ones may be made."""
        with self._lock:
            connections = dict(self._connections)
        # Who asks for it here gets an answer first.
        others = {
            connection: thread
            for connection, thread in connections.items()
            if thread is not threading.current_thread()
        }
        for connection in others:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._awake.set()
        for thread in others.values():
            thread.join()

    def fall_silent(self) -> None:
        """Take requests and neither carry them out nor answer, until it is opened again."""
        self._awake.clear()

    def delay(self, seconds: float) -> None:
        """Keep each answer back for a while."""
        self._delay = seconds

    def lose_next_answer(self, method: str, path_prefix: str) -> None:
        """Carry the next such request out and close its connection without an answer."""
        with self._lock:
            self._losses.append((method, path_prefix))

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,))
            with self._lock:  # whoever sees the thread may wait for its end
                self._connections[connection] = thread
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        # The socket outlives the reader, so that nobody shuts down another's descriptor.
        with connection, contextlib.suppress(OSError):
            while self._serve_one(connection):
                pass
        with self._lock:
            self._connections.pop(connection, None)

    def _serve_one(self, connection: socket.socket) -> bool:
        """Answer one request; return whether there may be another."""
        received = _receive(connection)
        if received is None:
            return False
        method, target, body, is_last = received
        if not self._awake.is_set():
            self._awake.wait()
            return False
        try:
            request = Request.parse(method, target, body)
        except Refused as error:
            connection.sendall(_rendered(refusal(error)))
            return not is_last
        answer = self._respond(request)
        if self._loses(request):
            return False
        if self._delay:
            self._closing.wait(self._delay)
        connection.sendall(_rendered(answer))
        return not (is_last or self._closing.is_set())

    def _loses(self, request: Request) -> bool:
        with self._lock:
            for loss in self._losses:
                if request.method == loss[0] and request.path.startswith(loss[1]):
                    self._losses.remove(loss)
                    return True
        return False


def _receive(connection: socket.socket) -> tuple[str, str, bytes, bool] | None:
    """Method, target and body of the next request, and whether it is the last; None if there is none."""
    data = bytearray()
    while (end := data.find(b"\r\n\r\n")) < 0:
        part = connection.recv(65536)
        if not part:
            return None
        data += part
    lines = data[:end].decode("latin-1").split("\r\n")
    method, target, _ = lines[0].split(" ", 2)
    length = next(
        (int(line[15:]) for line in lines if line.lower().startswith("content-length:")), 0
    )
    body = data[end + 4 :]
    while len(body) < length:
        part = connection.recv(65536)
        if not part:
            return None
        body += part
    return method, target, bytes(body), "connection: close" in map(str.lower, lines)


def _rendered(answer: Answer) -> bytes:
    head = [
        f"HTTP/1.1 {answer.status} {http.client.responses.get(answer.status, '')}",
        "Api-Version: 1.41",
        "Server: Docker/20.10.24-stand-in (linux)",
    ]
    if answer.content_type:
        head.append(f"Content-Type: {answer.content_type}")
    body = answer.body
    if answer.chunked:
        head.append("Transfer-Encoding: chunked")
        body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
    else:
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode() + body
