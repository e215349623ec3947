"""One try to fetch a folder and to make a whole zip of it."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
import os
import secrets
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self

from die_algorithm.archive.disk import leave_room
from die_algorithm.archive.entries import (
    Entry,
    entries_of,
    note_on_omissions,
    notes_on_names,
    shown,
    top_entry,
)
from die_algorithm.archive.folder import ResultFolder
from die_algorithm.archive.inspection import Inspection, inspect
from die_algorithm.archive.names import safe_name
from die_algorithm.errors import ArchiveIncomplete, DamagedDownload, ItemUnusable
from die_algorithm.lasting_files import sync_folder
from die_algorithm.models import ListedItem, ResultFile

LOGGER = logging.getLogger(__name__)

_CHUNK = 2**20
#: Bytes that a zip may hold for an entry beside its content and its name.
_ENTRY_OVERHEAD = 256


class _Overrun(Exception):
    """More bytes come than the listing promises."""


class Round:
    """One try: its part files stand beside the destination, and go unless they are published."""

    def __init__(
        self, folder: ResultFolder, listing: Sequence[ListedItem], destination: Path
    ) -> None:
        self._folder = folder
        self._left_out = [listed.item for listed in listing if not listed.item.has_content]
        fetched = [listed for listed in listing if listed.item.has_content]
        self._entries = entries_of(folder.top, fetched)
        self._listed_size = sum(entry.item.size or 0 for entry in self._entries)
        self._destination = destination
        self._parts = contextlib.ExitStack()
        self._part = destination
        self._sha256: str | None = None
        self._inspection = Inspection()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._parts.close()

    def fetch(self) -> ArchiveIncomplete | ItemUnusable | None:
        """Fetch and verify.

        Returns:
            What went wrong in a way that a change of the folder may explain.
        """
        try:
            self._part, self._sha256 = self._receive()
            if self._sha256:
                self._inspection = self._inspect(self._folder.top, self._entries)
            lacking = _lacking(self._entries, self._inspection)
            if lacking or not self._inspection.clean:
                LOGGER.info("StorageHub's zip lacks %d of %d.", len(lacking), len(self._entries))
                self._part = self._complete(self._part, lacking)
                self._sha256 = None
                self._prove()
        except (ArchiveIncomplete, ItemUnusable) as problem:
            return problem
        return None

    def _inspect(self, top: str, entries: Sequence[Entry]) -> Inspection:
        return inspect(self._part, top, entries, max_size=self._folder.max_size - self._listed_size)

    def _prove(self) -> None:
        """Read the completed zip as if it had come from elsewhere."""
        entries = [dataclasses.replace(entry, given=entry.safe) for entry in self._entries]
        found = self._inspect(safe_name(self._folder.top), entries)
        if not found.clean or _lacking(entries, found):
            raise ArchiveIncomplete("The result could not be made whole. Submit the job again.")

    def publish(self, *, changed: bool) -> ResultFile:
        """Move the zip to its destination."""
        with self._part.open("rb") as file:
            sha256 = self._sha256 or hashlib.file_digest(file, "sha256").hexdigest()
            size = os.fstat(file.fileno()).st_size
            os.fsync(file.fileno())
        self._part.replace(self._destination)
        sync_folder(self._destination.parent)
        files = sum(not entry.item.is_folder for entry in self._entries)
        return ResultFile(
            name=self._destination.name,
            size=size,
            sha256=sha256,
            files=files,
            notes=tuple(self._notes(files, changed=changed)),
            left_out=len(self._left_out),
        )

    def _notes(self, files: int, *, changed: bool) -> Iterator[str]:
        yield from notes_on_names(self._entries)
        if self._left_out:
            yield note_on_omissions(self._left_out)
        if self._inspection.unlisted:
            yield (
                f"{self._inspection.unlisted} entries of StorageHub's zip were left out, because "
                "the listing of the folder does not name them."
            )
        if changed:
            yield "The folder changed while it was fetched; a file may be older or newer than another."
        if not files:
            yield "The folder holds no files."

    def _new_part(self) -> Path:
        name = f".{self._destination.name}.{secrets.token_hex(4)}.part"
        part = self._destination.with_name(name)
        self._parts.callback(part.unlink, missing_ok=True)
        part.touch(exist_ok=False)
        return part

    def _receive(self) -> tuple[Path, str | None]:
        """Store StorageHub's zip.

        Returns:
            The file and its SHA-256, None if it cannot be whole.
        """
        part = self._new_part()
        digest = hashlib.sha256()
        try:
            with part.open("wb") as file, self._folder.folder_zip() as chunks:
                for chunk in _at_most(self._promised(), chunks):
                    digest.update(chunk)
                    leave_room(part.parent, len(chunk))
                    file.write(chunk)
        except (DamagedDownload, ItemUnusable, _Overrun) as error:
            LOGGER.info("StorageHub's zip did not come whole: %s", error)
            return part, None
        return part, digest.hexdigest()

    def _promised(self) -> int:
        """The most bytes that a zip of the listing can have."""
        files = [entry.item for entry in self._entries if not entry.item.is_folder]
        is_listed = all(item.size is not None for item in files)
        size = self._listed_size if is_listed else self._folder.max_size
        # A name is there twice, with at most four bytes for a letter.
        heads = sum(_ENTRY_OVERHEAD + 8 * len(entry.given) for entry in self._entries)
        return size + size // 100 + heads + 2**16

    def _complete(self, received: Path, lacking: Sequence[Entry]) -> Path:
        """Add what is lacking, or write a new zip if something has to go from the one received.

        Returns:
            The file that is complete.
        """
        if self._inspection.clean:
            with zipfile.ZipFile(received, "a") as target:
                self._add(lacking, target)
            return received
        part = self._new_part()
        with zipfile.ZipFile(part, "w") as target:
            target.writestr(top_entry(self._folder.top), b"")
            if self._inspection.whole:
                self._keep(received, target)
            received.unlink()
            self._add(lacking, target)
        return part

    def _keep(self, received: Path, target: zipfile.ZipFile) -> None:
        """Carry the whole entries over, each under its safe name."""
        with zipfile.ZipFile(received) as source:
            for entry in self._entries:
                found = self._inspection.whole.get(entry.given)
                if found is None:
                    continue
                info = entry.info()
                info.date_time, info.file_size = found.date_time, found.file_size
                if found.compress_type == zipfile.ZIP_STORED:
                    info.compress_type = zipfile.ZIP_STORED
                with source.open(found) as content, target.open(info, "w") as copy:
                    while chunk := content.read(_CHUNK):
                        leave_room(received.parent, len(chunk))
                        copy.write(chunk)

    def _add(self, lacking: Sequence[Entry], target: zipfile.ZipFile) -> None:
        """Fetch what is lacking, item by item."""
        total = self._listed_size + sum(
            self._inspection.whole[entry.given].file_size
            for entry in self._entries
            if entry.item.size is None and entry.given in self._inspection.whole
        )
        for entry in lacking:
            if entry.item.is_folder:
                target.writestr(entry.info(), b"")
                continue
            size = self._fetch_file(entry, target, room=self._folder.max_size - total)
            if entry.item.size is None:
                total += size
                self._folder.check_size(total)
            elif size != entry.item.size:
                raise ArchiveIncomplete(
                    f"StorageHub does not give {shown(entry.item.name)} as long as it lists it. "
                    "Submit the job again."
                )

    def _fetch_file(self, entry: Entry, target: zipfile.ZipFile, *, room: int) -> int:
        """Write one file into the zip.

        Args:
            entry: the file.
            target: the zip.
            room: bytes that it may have if its size is not listed.

        Returns:
            Its bytes; if there are more than there may be, one more than that.
        """
        limit = room if entry.item.size is None else entry.item.size
        size = 0
        with (
            self._folder.single_file(entry.item) as chunks,
            target.open(entry.info(), "w", force_zip64=entry.item.size is None) as file,
        ):
            try:
                for chunk in _at_most(limit, chunks):
                    size += len(chunk)
                    leave_room(self._destination.parent, len(chunk))
                    file.write(chunk)
            except _Overrun:
                return limit + 1
        return size


def _lacking(entries: Sequence[Entry], inspection: Inspection) -> list[Entry]:
    return [entry for entry in entries if entry.needed and entry.given not in inspection.whole]


def _at_most(limit: int, chunks: Iterable[bytes]) -> Iterator[bytes]:
    count = 0
    for chunk in chunks:
        count += len(chunk)
        if count > limit:
            raise _Overrun(f"more than {limit} bytes")
        yield chunk
