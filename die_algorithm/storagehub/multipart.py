"""The form of an upload, read block by block while it is sent, so that any size fits in memory."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

from urllib3 import encode_multipart_formdata

from die_algorithm.paced_http import Pace

#: So small that the socket's own time-out for a block leaves the judgement to the pace.
_BLOCK = 16 * 2**10


class Multipart:
    """StorageHub's form for a new file: ``name``, ``description`` and ``file``.

    Args:
        name: the file's name.
        description: the file's description.
        content: the file's bytes, in pieces of any size.
        size: how many they are; None if that is not known, and the form is sent in chunks.
        pace: how long the server may take to swallow it.
    """

    def __init__(
        self, name: str, description: str, content: Iterable[bytes], size: int | None, pace: Pace
    ) -> None:
        fields: dict[str, Any] = {"name": name, "description": description, "file": (name, b"")}
        form, self.content_type = encode_multipart_formdata(fields)
        boundary = self.content_type.rpartition("boundary=")[2]
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self._head = form.removesuffix(self._tail)
        self._content = content
        self._pace = pace
        self._size = size

    @property
    def length(self) -> int | None:
        """Bytes of the whole form, None if that is not known."""
        return None if self._size is None else len(self._head) + self._size + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        for piece in self._content:
            for start in range(0, len(piece), _BLOCK):
                yield from self._paced(piece[start : start + _BLOCK])
        yield self._tail

    def _paced(self, block: bytes) -> Iterator[bytes]:
        self._pace.left()
        started = time.monotonic()
        yield block
        self._pace.waited(time.monotonic() - started, len(block))
