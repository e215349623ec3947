"""The names of items: which are allowed, and how clashes are avoided."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from die_algorithm.local_storagehub.errors import InvalidCallParameters

#: Bytes in UTF-8: what file systems take, so that a downloaded folder can be unpacked.
LONGEST_NAME = 255


def checked_name(name: str) -> str:
    """The name, if an item can have it.

    A ``/`` is allowed, as in StorageHub, but no part between slashes may be one that leads
    elsewhere when a downloaded zip is unpacked.

    Raises:
        InvalidCallParameters: no item can be called so.
    """
    if not name:
        raise InvalidCallParameters("The name is missing or empty.")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise InvalidCallParameters("The name is not Unicode text.") from None
    if size > LONGEST_NAME:
        raise InvalidCallParameters(f"The name is longer than {LONGEST_NAME} bytes.")
    if not name.isprintable():
        raise InvalidCallParameters("The name holds a control character.")
    if any(part in {"", ".", ".."} for part in name.split("/")):
        raise InvalidCallParameters("The name has a part that is empty, '.' or '..'.")
    return name


def unique_name(name: str, is_taken: Callable[[str], bool]) -> str:
    """The name itself, or ``name(1)``, ``name(2)`` … before its extension, whichever is free.

    Reference: storagehub 1.5, FOLDER.
    """
    if not is_taken(name):
        return name
    stem, dot, extension = name.rpartition(".")
    if not dot:
        stem, extension = name, ""
    numbered = (f"{stem}({number}){dot}{extension}" for number in itertools.count(1))
    return next(candidate for candidate in numbered if not is_taken(candidate))
