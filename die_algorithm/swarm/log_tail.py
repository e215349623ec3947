"""The end of a container's output, out of the engine's stream of log frames."""

from __future__ import annotations

_HEADER = 8
_ENGINE_ERROR = 3


class LogTail:
    """The end of a stream of log frames, in bounded memory.

    A frame is a header of eight bytes (stream, three zeros, length in network order) and the
    payload. Stream 3 carries errors of the engine, which are no part of the program's output.

    Args:
        limit: bytes of payload to keep.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept = bytearray()
        self._header = bytearray()
        self._left = 0
        self._stream = 0
        #: Frames begun so far; one for each line, or for each part of a very long one.
        self.frames = 0
        #: Whether the engine has put an error of its own between the output.
        self.engine_errors = False

    def feed(self, chunk: bytes) -> None:
        """Take the next part of the stream, wherever it was cut."""
        rest = memoryview(chunk)
        while rest:
            if not self._left:
                missing = _HEADER - len(self._header)
                self._header += rest[:missing]
                rest = rest[missing:]
                self._begin_frame()
                continue
            payload, rest = rest[: self._left], rest[self._left :]
            self._left -= len(payload)
            if self._stream != _ENGINE_ERROR:
                self._kept += payload
        if len(self._kept) > 2 * self._limit:
            del self._kept[: -self._limit or None]

    @property
    def content(self) -> bytes:
        """The last bytes of the output."""
        return bytes(self._kept[-self._limit :]) if self._limit else b""

    @property
    def is_full(self) -> bool:
        """Whether there was at least as much output as is kept."""
        return len(self._kept) >= self._limit

    def _begin_frame(self) -> None:
        if len(self._header) < _HEADER:
            return
        self._stream = self._header[0]
        self._left = int.from_bytes(self._header[4:], "big")
        self._header.clear()
        self.frames += 1
        self.engine_errors = self.engine_errors or self._stream == _ENGINE_ERROR
