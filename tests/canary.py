"""Searches what services have written for the tokens of those who used them.

A token belongs into a service's args and into requests to StorageHub. Tests leave files, logs, databases,
results and documents behind; whoever finds a token there, in any encoding, has found a fault of ours.
"""

from __future__ import annotations

import base64
import dataclasses
import logging
import os
import re
import tomllib
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO

from jobs_fixture import TOKEN
from storagehub_fixture import ALICE, BOB

#: Of so many characters of a token is searched: what was cut off is shown as well.
_BEGINNING = 12
_CHUNK = 16 * 2**20
#: What is not searched, by the name of the file or folder.
EXEMPT: Mapping[str, str] = {
    "hub": "the embedded StorageHub's own: users' files, written by them",
    "users.toml": "the users' tokens, written by the test for StorageHub",
    "netrc": "a trap that the test has set",
    "tests": "the sources of these tests, in the clone of the acceptance test",
    "README.md": "the token that its reader invents, in the same clone",
    "canaries": "what the search itself is tried on",
}
#: Those who say something in a process that runs a service.
_LOGGERS = ("die_algorithm", "waitress", "sqlalchemy", "alembic", "PYWPS", "docker")
_OWN = logging.getLogger("die_algorithm")


@dataclasses.dataclass(frozen=True)
class Canary:
    """A token that was found."""

    where: str
    #: Bytes.
    offset: int
    #: What is before it, and the form in which it was found.
    shown: str

    def __str__(self) -> str:
        return f"{self.where}, at byte {self.offset}: …{self.shown}"


class Search:
    """A search for some tokens in all their forms.

    Args:
        tokens: what is searched for, beside those that all tests use.
    """

    def __init__(self, tokens: Iterable[str] = ()) -> None:
        forms = {
            form for token in {ALICE.token, BOB.token, TOKEN, *tokens} for form in _forms(token)
        }
        self._forms = forms
        self._pattern = re.compile(b"|".join(re.escape(form) for form in sorted(forms)))
        self._longest = max(map(len, forms))

    def text(self, content: bytes, where: str, offset: int = 0) -> Iterator[Canary]:
        """What is found in bytes."""
        if not any(form in content for form in self._forms):
            return  # found out in a fraction of the time
        for found in self._pattern.finditer(content):
            before = content[max(found.start() - 40, 0) : found.end()]
            yield Canary(where, offset + found.start(), before.decode("ascii", "replace"))

    def folder(self, folder: Path) -> Iterator[Canary]:
        """What is found in the files below a folder, and in their names; in zips, in their members."""
        for parent, folders, files in os.walk(folder):
            folders[:] = [name for name in folders if name not in EXEMPT]
            for name in files:
                if name not in EXEMPT:
                    yield from self._file(Path(parent, name), folder)

    def _file(self, path: Path, folder: Path) -> Iterator[Canary]:
        where = str(path.relative_to(folder))
        yield from self.text(where.encode("utf-8", "surrogateescape"), f"the name {where}")
        try:
            if not path.is_file() or path.is_symlink():
                return
            with path.open("rb") as file:
                yield from self._stream(file, where)
            if zipfile.is_zipfile(path):
                yield from self._zip(path, where)
        except OSError:
            return  # it has just gone

    def _stream(self, file: IO[bytes], where: str) -> Iterator[Canary]:
        offset, rest = 0, b""
        while chunk := file.read(_CHUNK):
            content = rest + chunk
            if content.strip(b"\0"):
                yield from self.text(content, where, offset - len(rest))
            offset += len(chunk)
            rest = content[-self._longest + 1 :]

    def _zip(self, path: Path, where: str) -> Iterator[Canary]:
        try:
            with zipfile.ZipFile(path) as archive:
                for member in archive.infolist():
                    inside = f"{where}, member {member.filename!r}"
                    yield from self.text(member.filename.encode("utf-8", "replace"), inside)
                    with archive.open(member) as file:
                        yield from self._stream(file, inside)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError):
            return  # one that is damaged on purpose


def search_of(folder: Path) -> Search:
    """A search for the tokens that are known to the StorageHubs below a folder, too."""
    tokens: set[str] = set()
    for path in folder.rglob("users.toml"):
        try:
            users = tomllib.loads(path.read_text(encoding="utf-8"))["users"]
            found = (token for user in users for token in user["tokens"])
            tokens.update(token for token in found if isinstance(token, str))
        except (ValueError, KeyError, TypeError, OSError):
            continue  # one that is wrong on purpose
    return Search(token for token in tokens if len(token) >= _BEGINNING)


class LogWatch(logging.Handler):
    """Looks at what a service in the tests' own process logs, after it was masked."""

    def __init__(self) -> None:
        super().__init__()
        self._search = Search()
        self._level_before = logging.NOTSET
        self.found: list[Canary] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = f"{record.getMessage()}\n{record.exc_text or ''}{record.exc_info or ''}"
        test = os.environ.get("PYTEST_CURRENT_TEST", "")
        where = f"a record of {record.name}, line {record.lineno}, in {test}"
        self.found += self._search.text(text.encode("utf-8", "replace"), where)

    def install(self) -> None:
        """Begin. What the service would log is made, whether or not anybody else hears it."""
        self._level_before = _OWN.level
        _OWN.setLevel(logging.INFO)
        for name in _LOGGERS:
            logging.getLogger(name).addHandler(self)

    def remove(self) -> None:
        """End."""
        _OWN.setLevel(self._level_before)
        for name in _LOGGERS:
            logging.getLogger(name).removeHandler(self)


def assert_none(content: bytes, where: str) -> None:
    """See that no token is in what a service has answered."""
    found = list(_USUAL.text(content, where))
    assert not found, "\n".join(map(str, found))


def _forms(token: str) -> Iterator[bytes]:
    # All JWTs begin alike.
    plain = (token if token.startswith("ey") else token[:_BEGINNING]).encode()
    yield plain
    yield plain.decode().encode("utf-16-le")
    for before in range(3):
        first, last = -(-before * 4 // 3), (before + len(plain)) * 8 // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(b"\0" * before + plain)[first:last]


_USUAL = Search()
