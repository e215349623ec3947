"""A proxy before an engine's socket that passes some calls only, as proxies for operators do."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from swarm_bench import whole_request

#: What a job cannot do without (reference: safety 2.9).
SWARM_CALLS = r"/(version|info|services|tasks|nodes|distribution)(/|\?|$)"
_REFUSAL = b"<html><body><h1>403 Forbidden</h1>\nRequest forbidden by administrative rules.\n</body></html>"


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
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
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
