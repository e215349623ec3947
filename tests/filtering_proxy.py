"""A proxy before an engine's socket that passes some calls only, as proxies for operators do."""

from __future__ import annotations

import contextlib
import functools
import re
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingUnixStreamServer
from types import TracebackType
from typing import Any, Self

from swarm_bench import whole_request

#: What a job cannot do without (reference: safety 2.9).
SWARM_CALLS = r"/(version|info|services|tasks|nodes|distribution)(/|\?|$)"
_REFUSAL = b"<html><body><h1>403 Forbidden</h1>\nRequest forbidden by administrative rules.\n</body></html>"


class _Connection(BaseRequestHandler):
    """One connection, answered by the proxy."""

    def __init__(self, serve: Callable[[socket.socket], None], *server: Any) -> None:
        self._serve = serve
        super().__init__(*server)

    def handle(self) -> None:
        self._serve(self.request)


class _Server(ThreadingUnixStreamServer):
    request_queue_size = 64


class FilteringProxy:
    """Passes on the calls whose path matches, and answers the others as HAProxy does.

    Each connection carries one request.

    Args:
        path: where it listens.
        docker_host: the engine behind it.
        passes: what a path without version begins with that is passed on.
    """

    def __init__(self, path: Path, docker_host: str, passes: str = SWARM_CALLS) -> None:
        self.docker_host = f"unix://{path}"
        #: The request lines that were refused.
        self.refused: list[str] = []
        self._engine = docker_host.removeprefix("unix://")
        self._passes = re.compile(rf"\w+ (/v[\d.]+)?{passes}")
        self._server = _Server(str(path), functools.partial(_Connection, self._serve))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection.settimeout(5)
            head, _, body = b"".join(whole_request(connection)).partition(b"\r\n\r\n")
            line = head.partition(b"\r\n")[0].decode().removesuffix(" HTTP/1.1")
            if not line:
                return
            if self._passes.match(line):
                answer = self._ask(head, body)
            else:
                self.refused.append(line)
                length = f"Content-Length: {len(_REFUSAL)}\r\n\r\n".encode()
                answer = (
                    b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\n" + length + _REFUSAL
                )
            status, _, rest = answer.partition(b"\r\n")
            connection.sendall(status + b"\r\nConnection: close\r\n" + rest)

    def _ask(self, head: bytes, body: bytes) -> bytes:
        line, _, fields = head.partition(b"\r\n")
        with socket.socket(socket.AF_UNIX) as engine:
            engine.connect(self._engine)
            engine.sendall(line + b"\r\nConnection: close\r\n" + fields + b"\r\n\r\n" + body)
            return b"".join(iter(lambda: engine.recv(65536), b""))
