"""The rounds of fetching a folder until a zip can be published."""

from __future__ import annotations

import glob
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from die_algorithm.archive.disk import disk_errors
from die_algorithm.archive.folder import Chunks, ResultFolder
from die_algorithm.archive.round import Round
from die_algorithm.errors import ItemUnusable
from die_algorithm.models import Item, ListedItem, ResultFile

LOGGER = logging.getLogger(__name__)

_ROUNDS = 3


def build_archive(
    destination: Path,
    *,
    top: str,
    listing: Callable[[], Sequence[ListedItem]],
    folder_zip: Callable[[], Chunks],
    single_file: Callable[[Item], Chunks],
    before_publishing: Callable[[], None] = lambda: None,
    max_size: int,
    max_files: int,
) -> ResultFile:
    """Fetch a folder as a zip and publish it.

    The folder is listed before and after. If it changed meanwhile, everything is repeated, twice at
    most; then the zip is delivered with a note. Errors of the three callables pass unchanged, but
    for two: a DamagedDownload or ItemUnusable of the folder's zip makes the files be fetched one by
    one, and an ItemUnusable of a file counts only if the listing has not changed.

    Args:
        destination: the file to be; it appears whole or not at all.
        top: the folder's name, the first part of every entry's name.
        listing: lists everything below the folder, a folder before what is in it.
        folder_zip: opens StorageHub's zip of the folder.
        single_file: opens the content of one file; half of one whose size is not listed must not end
            like a whole one.
        before_publishing: called when all is verified; what it raises keeps the zip from appearing.
        max_size: most bytes of all files together, unpacked.
        max_files: most items in the listing.

    Raises:
        ArchiveTooLarge: the folder holds more than allowed; seen before anything is fetched, or as soon
            as files whose sizes are not listed bring it about.
        ArchiveIncomplete: even file by file, something is not as the listing says.
        NoRoom: the disk is full.
        DiskTrouble, ResultUnwritable: it is not, but refuses to be written.
    """
    folder = ResultFolder(
        top=top,
        listing=listing,
        folder_zip=folder_zip,
        single_file=single_file,
        max_size=max_size,
        max_files=max_files,
    )
    with disk_errors():
        _sweep(destination)
        before = folder.listed()
        for left in reversed(range(_ROUNDS)):
            with Round(folder, before, destination) as work:
                problem = work.fetch()
                after = folder.listed()
                changed = _state(before) != _state(after)
                if problem is None and not (changed and left):
                    before_publishing()
                    return work.publish(changed=changed)
                if problem and (not left or (isinstance(problem, ItemUnusable) and not changed)):
                    raise problem
            LOGGER.info("The folder is fetched again: changed=%s, %s", changed, problem)
            before = after
    raise AssertionError("the last round returns or raises")


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
