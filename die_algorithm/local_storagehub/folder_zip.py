"""A folder as a zip, made while it is sent: memory grows with neither the files nor the zip.

As StorageHub makes it (reference: storagehub 1.5): the names begin with the folder's own, folders
have entries too, hidden items and what is neither file nor folder are left out, and a file that
cannot be opened is skipped.
"""

from __future__ import annotations

import io
import logging
import time
import zipfile
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from die_algorithm.local_storagehub.items import Content, StoredItem
from die_algorithm.local_storagehub.workspace import View, Workspace

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

LOGGER = logging.getLogger(__name__)

_CHUNK = 256 * 1024
#: Above this size compressing costs more time than the network would.
_LARGE = 16 * 1024 * 1024
_COMPRESSED = ("image/", "video/", "audio/")
_COMPRESSED_TYPES = {"application/zip", "application/gzip", "application/pdf"}


def zip_folder(
    workspace: Workspace, folder: View, leave_out: Collection[str] = ()
) -> Iterator[bytes]:
    """The zip's bytes, in pieces.

    Args:
        workspace: of the user who asks.
        folder: the top folder.
        leave_out: ids of items to leave out, with all that is in them.
    """

    def is_wanted(item: StoredItem) -> bool:
        is_trash = item.details.get("role") == "trash"
        return not (item.hidden or is_trash or item.id in leave_out)

    top = folder.item.name
    sink = _Sink()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.mkdir(_Entry(f"{top}/", folder.item))
        for path, view in workspace.walk(folder, is_wanted):
            if view.item.kind.is_folder:
                archive.mkdir(_Entry(f"{top}/{path}/", view.item))
            elif view.item.content is not None:
                entry = _Entry(f"{top}/{path}", view.item)
                for _ in _add_file(archive, entry, workspace, view.item.content):
                    yield from sink.take(at_least=_CHUNK)
    yield from sink.take()


def _add_file(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, workspace: Workspace, content: Content
) -> Iterator[None]:
    """Write one file into the archive, pausing after each piece so that it can be sent."""
    try:
        source = workspace.blobs.open(content.blob)
    except OSError:
        LOGGER.warning("The content of %s cannot be opened; the zip goes without.", entry.filename)
        return
    with source, archive.open(entry, "w") as target:
        while data := source.read(_CHUNK):
            target.write(data)
            yield
    yield


class _Entry(zipfile.ZipInfo):
    """A zip entry for an item.

    Always deflated, for a stored entry of a length not told beforehand cannot be read from a
    stream; but what is large or compressed already is only wrapped (level 0, as fast as copying).
    """

    def __init__(self, name: str, item: StoredItem) -> None:
        super().__init__(name, time.localtime(item.modified // 1000)[:6])
        is_folder = name.endswith("/")
        self.external_attr = (0o40755 << 16 | 0x10) if is_folder else (0o100644 << 16)
        # ZipFile.mkdir sets it on no entry but its own.
        self.CRC = 0
        if item.content is not None:
            self.file_size = item.content.size
            self.compress_type = zipfile.ZIP_DEFLATED
            # zipfile takes the level of a prepared entry from here.
            self._compresslevel = 0 if _is_only_wrapped(item.content) else 1


def _is_only_wrapped(content: Content) -> bool:
    return (
        content.size > _LARGE
        or content.mime_type in _COMPRESSED_TYPES
        or content.mime_type.startswith(_COMPRESSED)
    )


class _Sink(io.RawIOBase):
    """Where zipfile writes; not seekable, so that it never goes back."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        piece = bytes(data)
        self._pieces.append(piece)
        self._size += len(piece)
        return len(piece)

    def take(self, at_least: int = 1) -> Iterator[bytes]:
        """What was written since the last time, in one piece; nothing if it is less than asked."""
        if self._size >= at_least:
            data = b"".join(self._pieces)
            self._pieces.clear()
            self._size = 0
            yield data
