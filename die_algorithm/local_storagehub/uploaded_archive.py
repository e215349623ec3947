"""An uploaded zip or tar, unpacked into a folder of the workspace.

Nothing is unpacked on the server's disk: names only become names of items, and those that lead out
of the folder are refused (zip slip). Links and devices in a tar are passed over.
"""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from die_algorithm.local_storagehub.changes import Changes
from die_algorithm.local_storagehub.errors import HubError, InvalidCallParameters
from die_algorithm.local_storagehub.items import StoredItem
from die_algorithm.local_storagehub.names import checked_name
from die_algorithm.local_storagehub.trash import Trash
from die_algorithm.local_storagehub.workspace import Workspace

_CHUNK = 256 * 1024

#: A member: the parts of its name, and its bytes; None for a folder.
Member = tuple[tuple[str, ...], IO[bytes] | None]


def unpack(workspace: Workspace, parent_id: str, name: str, archive: Path) -> StoredItem:
    """Make a folder and put the archive's content into it.

    If it cannot be done to the end, the folder is removed again.

    Args:
        workspace: of the user who uploads.
        parent_id: where the new folder goes.
        name: of the new folder.
        archive: the uploaded file.

    Returns:
        The new folder.

    Raises:
        InvalidCallParameters: it is neither a zip nor a tar, or damaged, encrypted or malicious.
    """
    top = Changes(workspace).create_folder(parent_id, name, description=f"content of {name}")
    try:
        with _readable():
            _fill(workspace, top, archive)
    except (HubError, OSError):
        Trash(workspace).delete(top.id, force=True)
        raise
    return top


def _fill(workspace: Workspace, top: StoredItem, archive: Path) -> None:
    changes = Changes(workspace)
    folders: dict[tuple[str, ...], str] = {(): top.id}
    for parts, content in _members(archive):
        folder_parts = parts if content is None else parts[:-1]
        for depth in range(1, len(folder_parts) + 1):
            path = folder_parts[:depth]
            if path not in folders:
                parent = folders[path[:-1]]
                folders[path] = changes.create_folder(parent, path[-1]).id
        if content is not None:
            with content, workspace.blobs.receive() as incoming:
                while data := content.read(_CHUNK):
                    incoming.write(data)
                folder = folders[folder_parts]
                changes.create_file(folder, parts[-1], incoming, description=parts[-1])


def _members(archive: Path) -> Iterator[Member]:
    if zipfile.is_zipfile(archive):
        return _zip_members(archive)
    return _tar_members(archive)


def _zip_members(path: Path) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            parts = _parts(info.filename)
            if info.is_dir():
                yield parts, None
            elif parts:
                yield parts, archive.open(info)


def _tar_members(path: Path) -> Iterator[Member]:
    with tarfile.open(path) as archive:
        for info in archive:
            parts = _parts(info.name)
            if info.isdir():
                yield parts, None
            elif info.isreg() and parts and (content := archive.extractfile(info)) is not None:
                yield parts, content


def _parts(name: str) -> tuple[str, ...]:
    if name.startswith("/"):
        raise InvalidCallParameters("A name in the archive is absolute.")
    return tuple(checked_name(part) for part in name.split("/") if part not in {"", "."})


@contextmanager
def _readable() -> Iterator[None]:
    """What the two libraries raise on a bad archive, as one error."""
    try:
        yield
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
        EOFError,
        NotImplementedError,  # a compression method that is not known
        RuntimeError,  # encrypted
    ) as error:
        raise InvalidCallParameters(f"The archive cannot be unpacked: {error}.") from error
