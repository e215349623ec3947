"""The bytes of files on disk: written once under a random name, never changed.

A blob comes into being by a rename, so that one that can be seen is whole. The catalogue refers to
it only afterwards: a crash between the two leaves a blob that nobody refers to, and
:meth:`Blobs.sweep` removes it at the next start.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Collection, Iterable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

_HEAD = 512


class Incoming:
    """Bytes that are arriving. A context manager: what was not kept by its end is removed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        #: Bytes so far.
        self.size = 0
        #: The first bytes, for guessing the type.
        self.head = b""
        self._file = path.open("xb")

    def write(self, data: bytes) -> None:
        """Add bytes at the end."""
        if self.size < _HEAD:
            self.head = (self.head + data)[:_HEAD]
        self._file.write(data)
        self.size += len(data)

    def close(self) -> None:
        """Put everything written into the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)


class Blobs:
    """The folder of blobs.

    Args:
        folder: created if it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "blobs"
        self._incoming = folder / "incoming"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._incoming.mkdir(exist_ok=True)

    def receive(self) -> Incoming:
        """Begin a new blob."""
        return Incoming(self._incoming / str(uuid.uuid4()))

    def keep(self, incoming: Incoming) -> str:
        """Make a blob of what has arrived; returns its name."""
        incoming.close()
        name = str(uuid.uuid4())
        incoming.path.replace(self._new_path(name))
        return name

    def copy(self, blob: str) -> str:
        """A second blob with the same bytes; returns its name.

        A hard link is enough, since blobs never change.
        """
        name = str(uuid.uuid4())
        self._new_path(name).hardlink_to(self._path(blob))
        return name

    def open(self, blob: str) -> BinaryIO:
        """The bytes, from the first. They stay readable if the blob is removed meanwhile.

        Raises:
            FileNotFoundError: it has been removed.
        """
        return self._path(blob).open("rb")

    def remove(self, blobs: Iterable[str]) -> None:
        """Remove blobs; those already gone are no error."""
        for blob in blobs:
            self._path(blob).unlink(missing_ok=True)

    def sweep(self, known: Collection[str]) -> None:
        """Remove what a crash left: half uploads, and blobs that are not known. Only at start."""
        for path in self._incoming.iterdir():
            path.unlink()
        for path in self._folder.glob("*/*"):
            if path.name not in known:
                path.unlink()

    def _path(self, blob: str) -> Path:
        return self._folder / blob[:2] / blob

    def _new_path(self, blob: str) -> Path:
        path = self._path(blob)
        with contextlib.suppress(FileExistsError):
            path.parent.mkdir()
        return path
