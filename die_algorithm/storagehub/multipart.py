"""The form of an upload, read block by block while it is sent, so that any size fits in memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, BinaryIO

from urllib3 import encode_multipart_formdata

from die_algorithm.storagehub.paced_http import Pace

#: So small that the socket's own time-out for a block leaves the judgement to the pace.
_BLOCK = 16 * 2**10


class Multipart:
    """StorageHub's form for a new file: ``name``, ``description`` and ``file``.

    Args:
        name: the file's name.
        description: the file's description.
        content: a seekable file, sent from where it stands to its end.
        pace: how long the server may take to swallow it.
    """

    def __init__(self, name: str, description: str, content: BinaryIO, pace: Pace) -> None:
        fields: dict[str, Any] = {"name": name, "description": description, "file": (name, b"")}
        form, self.content_type = encode_multipart_formdata(fields)
        boundary = self.content_type.rpartition("boundary=")[2]
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self._head = form.removesuffix(self._tail)
        self._content = content
        self._pace = pace
        start = content.tell()
        self._size = content.seek(0, 2) - start
        content.seek(start)

    def __len__(self) -> int:
        return len(self._head) + self._size + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        while block := self._content.read(_BLOCK):
            self._pace.left()
            started = time.monotonic()
            yield block
            self._pace.waited(time.monotonic() - started, len(block))
        yield self._tail
