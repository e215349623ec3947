"""The rounds of fetching a folder, and the publishing of the zip."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import glob
import hashlib
import logging
import os
import secrets
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

from die_algorithm.archive.entries import Entry, entries_of, notes_on_names, shown, top_entry
from die_algorithm.archive.inspection import Inspection, inspect
from die_algorithm.errors import (
    ArchiveIncomplete,
    ArchiveTooLarge,
    DamagedDownload,
    ItemUnusable,
    NoRoom,
)
from die_algorithm.models import Item, ListedItem, ResultFile

LOGGER = logging.getLogger(__name__)

_ROUNDS = 3
_CHUNK = 2**20
#: Bytes that a zip may hold for an entry beside its content and its name.
_ENTRY_OVERHEAD = 256
_FULL = {errno.ENOSPC, errno.EDQUOT}

Chunks = AbstractContextManager[Iterable[bytes]]


def build_archive(
    destination: Path,
    *,
    top: str,
    listing: Callable[[], Sequence[ListedItem]],
    folder_zip: Callable[[], Chunks],
    single_file: Callable[[Item], Chunks],
    max_size: int,
    max_files: int,
) -> ResultFile:
    """Fetch a folder as a zip and publish it.

    The folder is listed before and after. If it changed meanwhile, everything is repeated, twice at
    most; then the zip is delivered with a note. Errors of the three callables pass unchanged, but
    for two: a DamagedDownload of the folder's zip makes the files be fetched one by one, and an
    ItemUnusable counts only if the listing has not changed.

    Args:
        destination: the file to be; it appears whole or not at all.
        top: the folder's name, the first part of every entry's name.
        listing: lists everything below the folder, a folder before what is in it.
        folder_zip: opens StorageHub's zip of the folder.
        single_file: opens the content of one file.
        max_size: most bytes of all files together, unpacked.
        max_files: most items in the listing.

    Raises:
        ArchiveTooLarge: the folder holds more than allowed; seen before anything is fetched.
        ArchiveIncomplete: even file by file, something is not as the listing says.
        NoRoom: the disk is full.
    """
    folder = _Folder(
        top=top,
        listing=listing,
        folder_zip=folder_zip,
        single_file=single_file,
        max_size=max_size,
        max_files=max_files,
    )
    with _room():
        _sweep(destination)
        before = folder.listed()
        for left in reversed(range(_ROUNDS)):
            with _Round(folder, before, destination) as work:
                problem = work.fetch()
                after = folder.listed()
                changed = _state(before) != _state(after)
                if problem is None and not (changed and left):
                    return work.publish(changed=changed)
                if problem and (not left or (isinstance(problem, ItemUnusable) and not changed)):
                    raise problem
            LOGGER.info("The folder is fetched again: changed=%s, %s", changed, problem)
            before = after
    raise AssertionError("the last round returns or raises")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Folder:
    """The folder, as the caller opens it."""

    top: str
    listing: Callable[[], Sequence[ListedItem]]
    folder_zip: Callable[[], Chunks]
    single_file: Callable[[Item], Chunks]
    max_size: int
    max_files: int

    def listed(self) -> Sequence[ListedItem]:
        """List it, and see that it is within the limits."""
        listing = self.listing()
        if len(listing) > self.max_files:
            raise ArchiveTooLarge(
                f"The result has more than {self.max_files} files and folders, the most that this "
                "service takes. It remains in the workspace, in the folder of the job."
            )
        self.check_size(sum(listed.item.size or 0 for listed in listing))
        return listing

    def check_size(self, size: int) -> None:
        if size > self.max_size:
            raise ArchiveTooLarge(
                f"The result is too large: its files have {_human(size)}, and this service takes "
                f"{_human(self.max_size)}. It remains in the workspace, in the folder of the job."
            )


class _Overrun(Exception):
    """More bytes come than the listing promises."""


class _Round:
    """One try: its part files stand beside the destination, and go unless they are published."""

    def __init__(self, folder: _Folder, listing: Sequence[ListedItem], destination: Path) -> None:
        self._folder = folder
        self._entries = entries_of(folder.top, listing)
        self._destination = destination
        self._parts = contextlib.ExitStack()
        self._part = destination
        self._sha256: str | None = None
        self._inspection = Inspection()

    def __enter__(self) -> _Round:
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
                self._inspection = inspect(
                    self._part, self._folder.top, self._entries, max_size=self._folder.max_size
                )
            whole = self._inspection.whole
            lacking = [each for each in self._entries if each.needed and each.given not in whole]
            if lacking or not self._inspection.clean:
                LOGGER.info("StorageHub's zip lacks %d of %d.", len(lacking), len(self._entries))
                self._part = self._complete(self._part, lacking)
                self._sha256 = None
        except (ArchiveIncomplete, ItemUnusable) as problem:
            return problem
        return None

    def publish(self, *, changed: bool) -> ResultFile:
        """Move the zip to its destination."""
        with self._part.open("rb") as file:
            sha256 = self._sha256 or hashlib.file_digest(file, "sha256").hexdigest()
            size = os.fstat(file.fileno()).st_size
            os.fsync(file.fileno())
        self._part.replace(self._destination)
        _sync_folder(self._destination.parent)
        files = sum(not entry.item.is_folder for entry in self._entries)
        return ResultFile(
            name=self._destination.name,
            size=size,
            sha256=sha256,
            files=files,
            notes=tuple(self._notes(files, changed=changed)),
        )

    def _notes(self, files: int, *, changed: bool) -> Iterator[str]:
        yield from notes_on_names(self._entries)
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
            with (
                part.open("wb") as file,
                ThreadPoolExecutor(1) as hashing,
                self._folder.folder_zip() as chunks,
            ):
                hashed = hashing.submit(digest.update, b"")
                for chunk in _at_most(self._promised(), chunks):
                    hashed.result()  # one chunk at a time, so that memory stays flat
                    hashed = hashing.submit(digest.update, chunk)
                    file.write(chunk)
        except (DamagedDownload, _Overrun) as error:
            LOGGER.info("StorageHub's zip did not come whole: %s", error)
            return part, None
        return part, digest.hexdigest()

    def _promised(self) -> int:
        """The most bytes that a zip of the listing can have."""
        files = [entry.item for entry in self._entries if not entry.item.is_folder]
        if any(item.size is None for item in files):
            size = self._folder.max_size
        else:
            size = sum(item.size or 0 for item in files)
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
                        copy.write(chunk)

    def _add(self, lacking: Sequence[Entry], target: zipfile.ZipFile) -> None:
        """Fetch what is lacking, item by item."""
        unlisted_size = 0
        for entry in lacking:
            if entry.item.is_folder:
                target.writestr(entry.info(), b"")
                continue
            size = self._fetch_file(entry, target)
            if entry.item.size is None:
                unlisted_size += size
                self._folder.check_size(unlisted_size)
            elif size != entry.item.size:
                raise ArchiveIncomplete(
                    f"StorageHub does not give {shown(entry.item.name)} as long as it lists it. "
                    "Submit the job again."
                )

    def _fetch_file(self, entry: Entry, target: zipfile.ZipFile) -> int:
        """Write one file into the zip.

        Returns:
            Its bytes; if there are more than there may be, one more than that.
        """
        limit = self._folder.max_size if entry.item.size is None else entry.item.size
        size = 0
        with (
            self._folder.single_file(entry.item) as chunks,
            target.open(entry.info(), "w", force_zip64=entry.item.size is None) as file,
        ):
            try:
                for chunk in _at_most(limit, chunks):
                    size += len(chunk)
                    file.write(chunk)
            except _Overrun:
                return limit + 1
        return size


def _at_most(limit: int, chunks: Iterable[bytes]) -> Iterator[bytes]:
    count = 0
    for chunk in chunks:
        count += len(chunk)
        if count > limit:
            raise _Overrun(f"more than {limit} bytes")
        yield chunk


def _state(listing: Sequence[ListedItem]) -> set[tuple[object, ...]]:
    """What must be the same before and after."""
    return {
        (
            listed.path,
            listed.item.id,
            listed.item.size,
            None if listed.item.is_folder else listed.item.modified,
        )
        for listed in listing
    }


def _sweep(destination: Path) -> None:
    """Remove the part files of a try that was killed."""
    for part in destination.parent.glob(f".{glob.escape(destination.name)}.*.part"):
        part.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make a rename outlast a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise NoRoom(
                "This service has no room left for the result. It remains in the workspace, in the "
                "folder of the job."
            ) from None
        raise


def _human(size: int) -> str:
    """A size for a sentence, in units of 1000."""
    number = float(size)
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.4g} TB"
