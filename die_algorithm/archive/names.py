"""Names of zip entries that are safe and distinct wherever the zip is unpacked.

A name in a workspace may be anything, and a zip written with it would let whoever unpacks it write
outside the target (reference: safety 3.3, F42). The rules, name by name:

- ``/``, backslash, NUL, control characters, line separators, marks that turn the reading direction
  and lone surrogates become ``_``;
- trailing dots and blanks become ``_``, because Windows drops them; so an empty name, ``.`` and
  ``..`` cannot remain;
- ``C:`` at the beginning loses its colon;
- names that Windows reserves (``CON``, ``nul.txt`` …) get a ``_`` in front;
- a name of more than 255 bytes is cut, its extension kept;
- of two names in a folder, files or folders, that differ at most in case, in Unicode form or in the
  characters that Windows forbids, the later in order of the listing gets a number.

A path of more than 3000 bytes moves into a folder of its own near the top. Anything else stays as it
is, ``:`` and ``?`` too, which unzippers for Windows replace themselves by ``_``.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable

from die_algorithm.models import ListedItem

_UNSAFE = re.compile(r"[/\\\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_TRAILING = re.compile(r"[. ]+\Z")
_DRIVE = re.compile(r"\A([A-Za-z]):")
_RESERVED = re.compile(
    r"\A(?:CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(?:COM|LPT)[0-9¹²³]) *(?:\..*)?\Z", re.IGNORECASE
)
#: What may be in a name, but not on Windows.
_FORBIDDEN = str.maketrans(':?*<>|"', "_" * 7)
_MAX_NAME = 255
_MAX_PATH = 3000
_DEEP = "_deep"


def entry_paths(top: str, listing: Iterable[ListedItem]) -> list[str]:
    """Give each item below a folder the path of its zip entry, without a slash at the end.

    Args:
        top: the folder's name, the first part of every entry's path.
        listing: everything below it, a folder before what is in it. A path may occur twice, of a
            file and a folder, too.

    Returns:
        The entries' paths, in the same order. ``top/`` and the names joined by ``/`` if all of them
        are safe.
    """
    names = _Names(safe_name(top))
    return [names.add(listed) for listed in listing]


def safe_name(name: str) -> str:
    """One name after the rules above, but for its being distinct."""
    safe = _UNSAFE.sub("_", name)
    safe = _DRIVE.sub(r"\1_", safe)
    safe = _TRAILING.sub(lambda match: "_" * len(match[0]), safe) or "_"
    if _RESERVED.match(safe):
        safe = f"_{safe}"
    return _cut(safe, "")


class _Names:
    """The entries' paths given so far."""

    def __init__(self, top: str) -> None:
        #: Safe paths of the folders by their own paths.
        self._folders: dict[tuple[str, ...], str] = {(): top}
        #: Keys of all that there is in the zip.
        self._taken: set[str] = set()
        #: The number that the next one of a name gets.
        self._numbers: dict[str, int] = {}
        #: Where paths go that are too long, once there is one.
        self._deep: str | None = None

    def add(self, listed: ListedItem) -> str:
        path = listed.path
        parent = self._folders.get(path[:-1], self._folders[()])
        name = safe_name(path[-1])
        if len(parent.encode()) + 1 + len(name.encode()) > _MAX_PATH:
            if self._deep is None:
                self._deep = self._take(self._folders[()], _DEEP)
            parent = self._deep
            digest = hashlib.sha256("/".join(path).encode(errors="surrogatepass")).hexdigest()
            name = _cut(f"{digest[:16]} {name}", "")
        safe = self._take(parent, name)
        if listed.item.is_folder:
            self._folders.setdefault(path, safe)
        return safe

    def _take(self, parent: str, name: str) -> str:
        """Take a name in a folder, with a number if it is taken already."""
        safe = wanted = f"{parent}/{name}"
        while _key(safe) in self._taken:
            number = self._numbers.get(_key(wanted), 2)
            self._numbers[_key(wanted)] = number + 1
            safe = f"{parent}/{_cut(name, f' ({number})')}"
        self._taken.add(_key(safe))
        return safe


def _cut(name: str, number: str) -> str:
    """Put a number before the extension, and cut what is then too long."""
    stem, dot, extension = name.rpartition(".")
    if not stem or len(extension.encode()) > 20:
        stem, dot, extension = name, "", ""
    end = f"{number}{dot}{extension}"
    room = _MAX_NAME - len(end.encode())
    if len(stem.encode()) <= room:
        return stem + end
    return (stem.encode()[:room].decode(errors="ignore").rstrip(". ") or "_") + end


def _key(path: str) -> str:
    """What is the same for two paths that a system may take for one.

    A caseless match of canonical equivalents (Unicode, D145), the characters that Windows forbids
    replaced as unzippers replace them there.
    """
    folded = unicodedata.normalize("NFD", path).casefold()
    return unicodedata.normalize("NFD", folded).translate(_FORBIDDEN)
