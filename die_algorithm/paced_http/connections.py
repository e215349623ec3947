"""HTTP connections that cannot be held up, and that keep the user token out of the URLs they print.

The time-outs of requests and urllib3 count each read on its own: an answer that drips a byte a
second never ends (reference: safety 3.4). Here the patience is renewed only by a quota of bytes. Nor do
they count what is no content, such as "100 Continue" and trailers; here that has a limit, too.
"""

# ruff: noqa: ANN401 - urllib3's own arguments are passed on as they come

from __future__ import annotations

import functools
import http.client
import io
import math
import socket
import time
from collections.abc import Mapping
from typing import Any, cast

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.response import HTTPResponse

#: A pseudo header whose value joins the URL's query on the wire only, so that neither urllib3's
#: debug log nor any exception holds it. Its name is no legal header: should it ever reach
#: http.client, that would refuse to send it.
QUERY_HEADER = "?query"

_BUFFER = 256 * 1024
#: Bytes around an answer's content (heads, chunk sizes with their extensions, trailers), beyond as many
#: as the content has: chunks of one byte are still taken.
_MAX_FRAMING = 2**20


class Pace:
    """How long a peer may keep us waiting.

    Only waiting counts, not what we do with the bytes meanwhile.

    Args:
        patience: seconds of waiting, in all, for each ``quota`` bytes.
        quota: bytes that renew the patience; infinite: nothing does.
    """

    def __init__(self, patience: float, quota: float = math.inf) -> None:
        self.quota = quota
        self._patience = patience
        self._left = patience
        self._count = 0

    def left(self) -> float:
        """Seconds left to wait.

        Raises:
            TimeoutError: none.
        """
        if self._left <= 0:
            raise TimeoutError("slower than allowed")
        return self._left

    def waited(self, seconds: float, count: int) -> None:
        """Note that ``count`` bytes took so many seconds."""
        self._left -= seconds
        self._count += count
        if self._count >= self.quota:
            self._left = self._patience
            self._count = 0


class _Misframed(http.client.HTTPException):
    """Far too much comes around an answer's content, or a chunk's size is below zero."""


class _BoundedReader(io.BufferedReader):
    """Reads an answer, and no more of what is no content than any answer needs.

    http.client and urllib3 read lines of what is around the content, and the content by its size.
    """

    def __init__(self, raw: io.RawIOBase) -> None:
        super().__init__(raw, _BUFFER)
        self._room = _MAX_FRAMING

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size)
        self._room -= len(line)
        if self._room < 0:
            raise _Misframed("more around the content than allowed")
        return line

    def read(self, size: int | None = -1, /) -> bytes:
        # A chunk size of -1 would be read to the end of the connection, into memory.
        if size is None or size < 0:
            raise _Misframed("a size below zero")
        data = super().read(size)
        self._room += len(data)
        return data


class _PacedReader(io.RawIOBase):
    """What http.client reads an answer from, in the place of the socket's own file."""

    def __init__(self, sock: socket.socket, pace: Pace) -> None:
        self.pace = pace
        self._sock = sock
        self._raw = cast("io.RawIOBase", sock.makefile("rb", buffering=0))

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Pass for a socket towards http.client, which asks for nothing else of one."""
        return _BoundedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self.pace.left())
        started = time.monotonic()
        count = self._raw.readinto(buffer)
        self.pace.waited(time.monotonic() - started, count or 0)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Paced(HTTPConnection):
    """The rules above on one connection.

    The header block must arrive whole within the read time-out; the body at ``min_rate`` or faster,
    seen over the length of that time-out. What is around the body is bounded.
    """

    def __init__(self, *args: Any, min_rate: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._min_rate = min_rate
        self._query: str | None = None
        self._reader: _PacedReader | None = None

    def response_class(  # type: ignore[override]
        self, sock: socket.socket, *args: Any, **kwargs: Any
    ) -> http.client.HTTPResponse:
        """Stand in for the class that http.client makes its answers with."""
        self._reader = _PacedReader(sock, Pace(cast("float", self.timeout)))
        return http.client.HTTPResponse(cast("socket.socket", self._reader), *args, **kwargs)

    def request(  # type: ignore[override]
        self,
        method: str,
        url: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        plain = dict(headers or {})
        self._query = plain.pop(QUERY_HEADER, None)
        super().request(method, url, body, plain, **options)

    def putrequest(self, method: str, url: str, *args: Any, **kwargs: Any) -> None:
        if self._query:
            url += ("&" if "?" in url else "?") + self._query
        super().putrequest(method, url, *args, **kwargs)

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]
        try:
            response = super().getresponse()
        except BaseException:
            if self._reader is not None:
                self._reader.close()
            raise
        if self._reader is not None:
            self._reader.pace.quota = self._min_rate * cast("float", self.timeout)
        return response


class _PacedTls(_Paced, HTTPSConnection):
    """The same over TLS."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Paced


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _PacedTls


def paced_pools(*, size: int, min_rate: int) -> PoolManager:
    """A pool manager of such connections.

    Args:
        size: idle connections that are kept for each host.
        min_rate: bytes per second below which an answer's body is given up.
    """
    pools = PoolManager(num_pools=2, maxsize=size)
    pools.pool_classes_by_scheme = {
        "http": cast("type[HTTPConnectionPool]", functools.partial(_Pool, min_rate=min_rate)),
        "https": cast("type[HTTPConnectionPool]", functools.partial(_TlsPool, min_rate=min_rate)),
    }
    return pools
