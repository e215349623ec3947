"""What the zip should hold, taken from the folder's listing."""

from __future__ import annotations

import dataclasses
import stat
import zipfile
from collections.abc import Sequence
from datetime import UTC, datetime

from die_algorithm.archive.names import entry_paths, safe_name
from die_algorithm.models import Item, ListedItem

_MAX_NOTES = 20
_MAX_NAMES = 5
_MAX_SHOWN = 80
#: 1980-01-01 and 2107-12-31, the first and last day that a zip can name, in epoch milliseconds.
_FIRST_TIME, _LAST_TIME = 315_532_800_000, 4_354_819_198_000
_FILE_MODE = (stat.S_IFREG | 0o644) << 16
_FOLDER_MODE = (stat.S_IFDIR | 0o755) << 16 | 0x10
#: Deflate's quickest level: what is written here was fetched twice already.
_LEVEL = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """An item that belongs into the zip."""

    item: Item
    #: Its name in StorageHub's zip: the names joined by slashes, one more at the end of a folder.
    given: str
    #: Its name in ours, the same if that is safe.
    safe: str
    #: A folder with something in it needs no entry of its own.
    needed: bool
    #: Its own name was replaced, not only that of a folder above.
    renamed: bool

    def info(self) -> zipfile.ZipInfo:
        """The entry's head, to be written. Its time is that of the last change, in UTC."""
        modified = min(max(self.item.modified or 0, _FIRST_TIME), _LAST_TIME) // 1000
        moment = datetime.fromtimestamp(modified, UTC)
        info = zipfile.ZipInfo(self.safe, date_time=moment.timetuple()[:6])
        if self.item.is_folder:
            info.external_attr = _FOLDER_MODE
            return info
        info.external_attr = _FILE_MODE
        info.compress_type = zipfile.ZIP_DEFLATED
        info._compresslevel = _LEVEL  # type: ignore[attr-defined] # noqa: SLF001 - no other way
        info.file_size = self.item.size or 0
        return info


def entries_of(top: str, listing: Sequence[ListedItem]) -> list[Entry]:
    """The entries of a listing, in its order.

    Args:
        top: the folder's name.
        listing: everything below it, a folder before what is in it.
    """
    parents = {listed.path[:-1] for listed in listing}
    safe_paths = entry_paths(top, listing)
    entries = []
    for listed, safe in zip(listing, safe_paths, strict=True):
        end = "/" if listed.item.is_folder else ""
        entries.append(
            Entry(
                item=listed.item,
                given="/".join((top, *listed.path)) + end,
                safe=safe + end,
                needed=not listed.item.is_folder or listed.path not in parents,
                renamed=safe.rpartition("/")[2] != listed.path[-1],
            )
        )
    return entries


def top_entry(top: str) -> zipfile.ZipInfo:
    """The head of the folder's own entry."""
    info = zipfile.ZipInfo(safe_name(top) + "/")
    info.external_attr = _FOLDER_MODE
    return info


def notes_on_names(entries: Sequence[Entry]) -> list[str]:
    """One sentence for each name that was replaced; for more than 20, their number at the end."""
    renamed = [entry for entry in entries if entry.renamed]
    notes = [
        f"{shown(entry.item.name)} is called {shown(entry.safe.rstrip('/'))} in the zip, because "
        "its name is not safe or not distinct on every system."
        for entry in renamed[:_MAX_NOTES]
    ]
    if len(renamed) > _MAX_NOTES:
        notes.append(f"{len(renamed) - _MAX_NOTES} more names were replaced for the same reason.")
    return notes


def note_on_omissions(left_out: Sequence[Item]) -> str:
    """One sentence about items without content, which names some of them."""
    names = ", ".join(shown(item.name) for item in left_out[:_MAX_NAMES])
    if len(left_out) > _MAX_NAMES:
        names += f" and {len(left_out) - _MAX_NAMES} more"
    return f"What is neither file nor folder cannot be in the zip, and remains in the workspace: {names}."


def shown(name: str) -> str:
    """A name in quotes for a sentence: nothing in it that does not print, and not too long."""
    text = "".join(
        letter if letter.isprintable() else f"\\u{ord(letter):04x}" for letter in name[:_MAX_SHOWN]
    )
    return f'"{text}{"…" if len(name) > _MAX_SHOWN else ""}"'
