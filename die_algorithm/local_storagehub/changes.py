"""What a user can do to items: create, move, copy, rename, describe."""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections.abc import Mapping

from die_algorithm.local_storagehub import mime_types
from die_algorithm.local_storagehub.blobs import Incoming
from die_algorithm.local_storagehub.errors import (
    InvalidCallParameters,
    InvalidItem,
    ItemAlreadyExists,
)
from die_algorithm.local_storagehub.items import Content, ItemKind, StoredItem
from die_algorithm.local_storagehub.names import checked_name, unique_name
from die_algorithm.local_storagehub.workspace import Workspace


def now() -> int:
    """The time in epoch milliseconds."""
    return time.time_ns() // 1_000_000


class Changes:
    """Changes by one user. Each is one transaction: it happens whole or not at all.

    The errors are those of :class:`Workspace`, and :class:`InvalidCallParameters` for names that no
    item can have.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._catalogue = workspace.catalogue
        self._blobs = workspace.blobs
        self._user = workspace.user

    def create_folder(
        self, parent_id: str, name: str, *, description: str = "", hidden: bool = False
    ) -> StoredItem:
        """Make a folder. Never fails on a name that is taken: see :func:`unique_name`."""
        return self._create(
            parent_id, ItemKind.FOLDER, name, description=description, hidden=hidden
        )

    def create_gcube_item(
        self, parent_id: str, name: str, *, description: str, details: Mapping[str, object]
    ) -> StoredItem:
        """Make an item that is only properties."""
        return self._create(
            parent_id, ItemKind.GCUBE_ITEM, name, description=description, details=details
        )

    def create_file(
        self, parent_id: str, name: str, incoming: Incoming, *, description: str
    ) -> StoredItem:
        """Make a file of what has arrived, or a new version of the one that has the name.

        Raises:
            ItemAlreadyExists: something that is no file has the name.
        """
        checked_name(name)
        with self._catalogue.transaction():
            folder = self._workspace.folder_to_fill(parent_id)
            item = self._catalogue.child(folder.id, name)
            if item is None:
                item = self._new(folder, ItemKind.FILE, name, description=description)
                self._catalogue.insert(item)
            elif item.kind is not ItemKind.FILE:
                raise ItemAlreadyExists(f"{name} exists in this folder and is not a file.")
            else:
                item = self._workspace.writable(item.id).item
                self._touch(dataclasses.replace(item, description=description), "UPDATED")
            content = Content(
                blob=self._blobs.keep(incoming),
                size=incoming.size,
                mime_type=mime_types.guess(name, incoming.head),
            )
            self._catalogue.add_version(item.id, content, now())
        return item

    def move(self, item_id: str, destination_id: str) -> StoredItem:
        """Put an item into another folder, under its name or one made from it.

        Raises:
            InvalidItem: it is protected or shared, or the destination is below it.
            InvalidCallParameters: it would leave its shared folder.
        """
        with self._catalogue.transaction():
            folder = self._workspace.folder_to_fill(destination_id)
            item = self._movable(item_id)
            below = self._catalogue.below(item.id)
            if any(found.kind.is_shared for found in below):
                raise InvalidItem("folder item with shared children cannot be moved")
            if any(found.id == folder.id for found in below):
                raise InvalidItem("an item cannot be moved into itself")
            if self._shared_folder(item.id) not in {None, self._shared_folder(folder.id)}:
                raise InvalidCallParameters(
                    "a shared item cannot be moved to a private or another shared folder"
                )
            name = self._free_name(folder, item.name)
            self._touch(dataclasses.replace(item, parent_id=folder.id, name=name), "MOVED")
        return item

    def copy(self, item_id: str, destination_id: str, name: str) -> StoredItem:
        """Make a second item with the same content.

        Raises:
            InvalidItem: it is a folder.
        """
        with self._catalogue.transaction():
            folder = self._workspace.folder_to_fill(destination_id)
            item = self._workspace.view(item_id).item
            if item.kind not in {ItemKind.FILE, ItemKind.GCUBE_ITEM}:
                raise InvalidItem("folder cannot be copied")
            copy = dataclasses.replace(
                self._new(folder, item.kind, self._free_name(folder, name or item.name)),
                description=item.description,
                metadata=item.metadata,
                details=item.details,
                action="CLONED",
            )
            self._catalogue.insert(copy)
            if item.content is not None:
                content = dataclasses.replace(
                    item.content, blob=self._blobs.copy(item.content.blob)
                )
                self._catalogue.add_version(copy.id, content, copy.created)
        return copy

    def rename(self, item_id: str, name: str) -> StoredItem:
        """Give an item another name, or one made from it if that is taken.

        Raises:
            InvalidItem: it is protected or a shared folder.
        """
        with self._catalogue.transaction():
            item = self._movable(item_id)
            folder = self._workspace.folder_to_fill(item.parent_id or "")
            self._touch(dataclasses.replace(item, name=self._free_name(folder, name)), "RENAMED")
        return item

    def describe(self, item_id: str, metadata: Mapping[str, object]) -> StoredItem:
        """Replace an item's metadata."""
        with self._catalogue.transaction():
            item = self._workspace.writable(item_id).item
            self._touch(dataclasses.replace(item, metadata=dict(metadata)), "UPDATED")
        return item

    def _create(
        self,
        parent_id: str,
        kind: ItemKind,
        name: str,
        *,
        description: str,
        hidden: bool = False,
        details: Mapping[str, object] | None = None,
    ) -> StoredItem:
        with self._catalogue.transaction():
            folder = self._workspace.folder_to_fill(parent_id)
            item = dataclasses.replace(
                self._new(folder, kind, self._free_name(folder, name), description=description),
                hidden=hidden,
                details=details or {},
            )
            self._catalogue.insert(item)
        return item

    def _new(
        self, folder: StoredItem, kind: ItemKind, name: str, *, description: str = ""
    ) -> StoredItem:
        created = now()
        return StoredItem(
            id=str(uuid.uuid4()),
            parent_id=folder.id,
            kind=kind,
            name=name,
            description=description,
            owner=self._user,
            created=created,
            modified=created,
            modified_by=self._user,
        )

    def _movable(self, item_id: str) -> StoredItem:
        view = self._workspace.writable(item_id)
        if view.item.is_protected or view.item.kind is ItemKind.TRASH_ITEM:
            raise InvalidItem("protected folder cannot be moved")
        if view.item.kind.is_shared:
            raise InvalidItem("shared folder cannot be moved")
        return view.item

    def _shared_folder(self, item_id: str) -> str | None:
        folders = [item.id for item in self._catalogue.above(item_id) if item.kind.is_shared]
        return folders[0] if folders else None

    def _free_name(self, folder: StoredItem, name: str) -> str:
        return unique_name(
            checked_name(name), lambda taken: self._catalogue.child(folder.id, taken) is not None
        )

    def _touch(self, item: StoredItem, action: str) -> None:
        self._catalogue.update(
            dataclasses.replace(item, modified=now(), modified_by=self._user, action=action)
        )
