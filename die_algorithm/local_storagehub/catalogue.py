"""The catalogue of all items: a SQLite database. No rules here, only what is where.

One connection behind one lock serves all threads: a statement takes microseconds, and a whole
operation under one transaction needs no thought about what others do meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from die_algorithm.local_storagehub.items import (
    AccessType,
    Content,
    ItemKind,
    StoredItem,
    Version,
)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS items (
    id TEXT PRIMARY KEY,
    parent_id TEXT REFERENCES items (id),
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    owner TEXT NOT NULL,
    hidden INTEGER NOT NULL,
    created INTEGER NOT NULL,
    modified INTEGER NOT NULL,
    modified_by TEXT NOT NULL,
    action TEXT NOT NULL,
    metadata TEXT NOT NULL,
    details TEXT NOT NULL,
    version INTEGER
);
CREATE INDEX IF NOT EXISTS items_by_parent ON items (parent_id, name);
CREATE TABLE IF NOT EXISTS versions (
    item_id TEXT NOT NULL REFERENCES items (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    blob TEXT NOT NULL,
    size INTEGER NOT NULL,
    mime_type TEXT NOT NULL,
    created INTEGER NOT NULL,
    PRIMARY KEY (item_id, number)
);
CREATE TABLE IF NOT EXISTS members (
    folder_id TEXT NOT NULL REFERENCES items (id) ON DELETE CASCADE,
    user TEXT NOT NULL,
    access TEXT NOT NULL,
    PRIMARY KEY (folder_id, user)
);
CREATE INDEX IF NOT EXISTS members_by_user ON members (user);
"""

_ITEMS = """
SELECT i.*, v.blob, v.size, v.mime_type FROM items i
LEFT JOIN versions v ON v.item_id = i.id AND v.number = i.version
"""

_BELOW = """
WITH RECURSIVE below (id) AS (
    SELECT ? UNION ALL SELECT i.id FROM items i JOIN below b ON i.parent_id = b.id
)
"""

_BLOBS_BELOW = """
WITH RECURSIVE below (id) AS (
    SELECT ? UNION ALL SELECT i.id FROM items i JOIN below b ON i.parent_id = b.id
)
SELECT v.blob FROM versions v JOIN below b ON b.id = v.item_id
"""

# In one statement, for SQLite cascades no deeper than 1000 levels.
_DELETE_BELOW = """
WITH RECURSIVE below (id) AS (
    SELECT ? UNION ALL SELECT i.id FROM items i JOIN below b ON i.parent_id = b.id
)
DELETE FROM items WHERE id IN (SELECT id FROM below)
"""

_ABOVE = """
WITH RECURSIVE above (id, distance) AS (
    SELECT ?, 0
    UNION ALL SELECT i.parent_id, a.distance + 1 FROM items i JOIN above a ON i.id = a.id
    WHERE i.parent_id IS NOT NULL
)
"""


class Catalogue:
    """All items of all users.

    Args:
        path: the database's file, created if it does not exist.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._database.row_factory = sqlite3.Row
        # WAL outlives a killed process whole; foreign keys remove what hangs on a removed item.
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._database.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, and nobody else meanwhile. Inside another one it joins that."""
        with self._lock:
            if self._depth == 0:
                self._database.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
            except BaseException:
                self._depth -= 1
                if self._depth == 0:
                    self._database.execute("ROLLBACK")
                raise
            self._depth -= 1
            if self._depth == 0:
                self._database.execute("COMMIT")

    def get(self, item_id: str) -> StoredItem | None:
        """The item with this id."""
        return _first(self._items("WHERE i.id = ?", item_id))

    def child(self, folder_id: str, name: str) -> StoredItem | None:
        """The item of this name directly in a folder."""
        return _first(self._items("WHERE i.parent_id = ? AND i.name = ?", folder_id, name))

    def children(self, folder_id: str) -> list[StoredItem]:
        """All items directly in a folder, by name."""
        return self._items("WHERE i.parent_id = ? ORDER BY i.name", folder_id)

    def above(self, item_id: str) -> list[StoredItem]:
        """The item and all folders that it is in, itself first; empty if there is no such item."""
        return self._items(
            "JOIN above a ON a.id = i.id ORDER BY a.distance", item_id, before=_ABOVE
        )

    def below(self, item_id: str) -> list[StoredItem]:
        """The item and everything in it."""
        return self._items("JOIN below b ON b.id = i.id", item_id, before=_BELOW)

    def home(self, user: str) -> StoredItem | None:
        """The root of a user's workspace."""
        return _first(
            self._items("WHERE i.parent_id IS NULL AND i.owner = ? AND i.kind = 'folder'", user)
        )

    def vre_folder(self, context: str) -> StoredItem | None:
        """The folder of a VRE."""
        return _first(self._items("WHERE i.kind = 'vre-folder' AND i.name = ?", context))

    def shared_with(self, user: str) -> list[StoredItem]:
        """The shared and VRE folders that the user is a member of, by name."""
        return self._items(
            "JOIN members m ON m.folder_id = i.id WHERE m.user = ? ORDER BY i.name", user
        )

    def insert(self, item: StoredItem) -> None:
        """Add an item; a file's content comes with :meth:`add_version`."""
        self._write(
            "INSERT INTO items (id, parent_id, kind, name, description, owner, hidden, created, "
            "modified, modified_by, action, metadata, details) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            *(item.id, item.parent_id, item.kind.value, item.name, item.description, item.owner),
            *(item.hidden, item.created, item.modified, item.modified_by, item.action),
            *(json.dumps(item.metadata), json.dumps(item.details)),
        )

    def update(self, item: StoredItem) -> None:
        """Replace everything about an item but its id, owner, creation and content."""
        self._write(
            "UPDATE items SET parent_id = ?, kind = ?, name = ?, description = ?, hidden = ?, "
            "modified = ?, modified_by = ?, action = ?, metadata = ?, details = ? WHERE id = ?",
            *(item.parent_id, item.kind.value, item.name, item.description, item.hidden),
            *(item.modified, item.modified_by, item.action),
            *(json.dumps(item.metadata), json.dumps(item.details), item.id),
        )

    def delete(self, item_id: str) -> list[str]:
        """Remove an item with everything in it; returns the blobs that nobody refers to now."""
        with self.transaction():
            rows = self._read(_BLOBS_BELOW, item_id)
            self._write(_DELETE_BELOW, item_id)
        return [row["blob"] for row in rows]

    def versions(self, item_id: str) -> list[Version]:
        """The versions of a file, the oldest first."""
        rows = self._read("SELECT * FROM versions WHERE item_id = ? ORDER BY number", item_id)
        return [
            Version(number=row["number"], content=_content(row), created=row["created"])
            for row in rows
        ]

    def add_version(self, item_id: str, content: Content, created: int) -> None:
        """Give a file a new current content."""
        with self.transaction():
            number = self._read(
                "SELECT coalesce(max(number) + 1, 0) FROM versions WHERE item_id = ?", item_id
            )[0][0]
            self._write(
                "INSERT INTO versions (item_id, number, blob, size, mime_type, created) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                *(item_id, number, content.blob, content.size, content.mime_type, created),
            )
            self._write("UPDATE items SET version = ? WHERE id = ?", number, item_id)

    def members(self, folder_id: str) -> dict[str, AccessType]:
        """Who may do what in a shared folder."""
        rows = self._read(
            "SELECT user, access FROM members WHERE folder_id = ? ORDER BY user", folder_id
        )
        return {row["user"]: AccessType(row["access"]) for row in rows}

    def set_member(self, folder_id: str, user: str, access: AccessType | None) -> None:
        """Let a user into a shared folder, or out of it with None."""
        with self.transaction():
            self._write("DELETE FROM members WHERE folder_id = ? AND user = ?", folder_id, user)
            if access is not None:
                self._write(
                    "INSERT INTO members (folder_id, user, access) VALUES (?, ?, ?)",
                    *(folder_id, user, access.value),
                )

    def blobs(self) -> set[str]:
        """The names of all blobs that some version refers to."""
        return {row["blob"] for row in self._read("SELECT blob FROM versions")}

    def _items(self, where: str, *values: object, before: str = "") -> list[StoredItem]:
        return [_item(row) for row in self._read(f"{before}{_ITEMS}{where}", *values)]

    def _read(self, statement: str, *values: object) -> list[sqlite3.Row]:
        with self._lock:
            return self._database.execute(statement, values).fetchall()

    def _write(self, statement: str, *values: object) -> None:
        with self._lock:
            self._database.execute(statement, values)


def _first(items: list[StoredItem]) -> StoredItem | None:
    return items[0] if items else None


def _content(row: sqlite3.Row) -> Content:
    return Content(blob=row["blob"], size=row["size"], mime_type=row["mime_type"])


def _item(row: sqlite3.Row) -> StoredItem:
    return StoredItem(
        id=row["id"],
        parent_id=row["parent_id"],
        kind=ItemKind(row["kind"]),
        name=row["name"],
        description=row["description"],
        owner=row["owner"],
        hidden=bool(row["hidden"]),
        created=row["created"],
        modified=row["modified"],
        modified_by=row["modified_by"],
        action=row["action"],
        metadata=json.loads(row["metadata"]),
        details=json.loads(row["details"]),
        content=_content(row) if row["blob"] is not None else None,
    )
