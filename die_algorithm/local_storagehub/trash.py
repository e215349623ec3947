"""Throwing items away, for a while or for good.

A thrown-away item keeps its id. In the trash it lies below a trash item of its own, which remembers
where it came from (reference: storagehub 1.5, DELETE).
"""

from __future__ import annotations

import dataclasses
import uuid

from die_algorithm.local_storagehub.changes import now
from die_algorithm.local_storagehub.errors import InvalidItem
from die_algorithm.local_storagehub.items import ItemKind, StoredItem
from die_algorithm.local_storagehub.names import unique_name
from die_algorithm.local_storagehub.workspace import View, Workspace


class Trash:
    """One user's trash. The errors are those of :class:`Workspace`."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._catalogue = workspace.catalogue

    def delete(self, item_id: str, *, force: bool) -> None:
        """Put an item into the trash; for good if forced, or if it is there already.

        Raises:
            InvalidItem: it is protected, or a shared folder, or holds one.
        """
        blobs: list[str] = []
        with self._catalogue.transaction():
            view = self._workspace.writable(item_id)
            if view.item.is_protected:
                raise InvalidItem("protected folder cannot be deleted")
            if any(item.kind.is_shared for item in self._catalogue.below(item_id)):
                raise InvalidItem("a shared folder, or one that holds it, cannot be deleted")
            if force or view.trashed:
                blobs = self._catalogue.delete(self._outermost(view.item).id)
            else:
                self._throw(view)
        self._workspace.blobs.remove(blobs)

    def empty(self) -> str:
        """Remove for good all that is in the trash; returns the trash's id."""
        trash = self._workspace.trash
        blobs: list[str] = []
        with self._catalogue.transaction():
            for item in self._catalogue.children(trash.id):
                blobs += self._catalogue.delete(item.id)
        self._workspace.blobs.remove(blobs)
        return trash.id

    def restore(self, item_id: str) -> StoredItem:
        """Put an item back where it was, or into the root if that is gone.

        Args:
            item_id: of the trash item, or of what it stands for.

        Raises:
            InvalidItem: it is not in the trash.
        """
        with self._catalogue.transaction():
            wrapper = self._outermost(self._workspace.writable(item_id).item)
            if wrapper.kind is not ItemKind.TRASH_ITEM:
                raise InvalidItem("Only trash items can be restored")
            item = self._catalogue.children(wrapper.id)[0]
            folder = self._origin(wrapper)
            name = unique_name(
                item.name, lambda taken: self._catalogue.child(folder.id, taken) is not None
            )
            restored = dataclasses.replace(item, parent_id=folder.id, name=name, action="MOVED")
            self._catalogue.update(restored)
            self._catalogue.delete(wrapper.id)
        return restored

    def _throw(self, view: View) -> None:
        item, user, time = view.item, self._workspace.user, now()
        wrapper = StoredItem(
            id=str(uuid.uuid4()),
            parent_id=self._workspace.trash.id,
            kind=ItemKind.TRASH_ITEM,
            name=item.name,
            description=item.description,
            owner=user,
            created=time,
            modified=time,
            modified_by=user,
            details={
                "deletedBy": user,
                "originalParentId": item.parent_id,
                "deletedFrom": view.parent_path,
                "deletedTime": time,
                "mimeType": item.content.mime_type if item.content else None,
                # StorageHub spells it so.
                "lenght": item.content.size if item.content else 0,
                "folder": item.kind.is_folder,
            },
        )
        self._catalogue.insert(wrapper)
        self._catalogue.update(dataclasses.replace(item, parent_id=wrapper.id))

    def _outermost(self, item: StoredItem) -> StoredItem:
        """The trash item right above, so that it does not stay behind empty; else the item."""
        parent = self._catalogue.get(item.parent_id or "")
        return parent if parent is not None and parent.kind is ItemKind.TRASH_ITEM else item

    def _origin(self, wrapper: StoredItem) -> StoredItem:
        origin = self._catalogue.above(str(wrapper.details["originalParentId"]))
        if not origin or any(item.kind is ItemKind.TRASH_ITEM for item in origin):
            return self._workspace.root
        return self._workspace.folder_to_fill(origin[0].id)
