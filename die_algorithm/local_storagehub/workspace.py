"""One user's view of the items: what is where, and what is allowed to her.

Personal workspaces are private. A shared or VRE folder is seen by its members, each in her own
workspace, and its paths begin with ``/Share/`` (reference: storagehub 1.4).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

from die_algorithm.local_storagehub.blobs import Blobs
from die_algorithm.local_storagehub.catalogue import Catalogue
from die_algorithm.local_storagehub.errors import (
    BackendGenericError,
    IdNotFound,
    InvalidCallParameters,
    InvalidItem,
    UserNotAuthorized,
)
from die_algorithm.local_storagehub.items import AccessType, ItemKind, StoredItem, Version

#: The name of the trash in the root; listings leave it out.
TRASH = "Trash"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """An item as one user sees it."""

    item: StoredItem
    path: str
    parent_id: str | None
    parent_path: str
    shared: bool
    trashed: bool
    #: Of the shared folder itself: its members.
    members: tuple[str, ...] = ()


class Workspace:
    """What one user can see.

    Every method that takes an id raises :class:`IdNotFound` if there is no such item, and
    :class:`UserNotAuthorized` if it is not for this user.
    """

    def __init__(self, catalogue: Catalogue, blobs: Blobs, user: str, context: str = "") -> None:
        self.catalogue = catalogue
        self.blobs = blobs
        self.user = user
        #: The VRE that the user's token is for; empty if none.
        self.context = context

    @property
    def root(self) -> StoredItem:
        """The root of the user's own workspace."""
        home = self.catalogue.home(self.user)
        if home is None:
            raise BackendGenericError(f"{self.user} has no workspace.")
        return home

    @property
    def trash(self) -> StoredItem:
        """The folder of what the user has thrown away."""
        trash = self.catalogue.child(self.root.id, TRASH)
        if trash is None:
            raise BackendGenericError(f"{self.user} has no trash.")
        return trash

    def view(self, item_id: str) -> View:
        """The item, if the user may read it."""
        chain, _ = self._allowed_chain(item_id)
        return self._view(chain)

    def writable(self, item_id: str) -> View:
        """The item, if the user may change it."""
        chain, access = self._allowed_chain(item_id)
        mine = chain[0].owner == self.user
        if access is AccessType.READ_ONLY or (access is AccessType.WRITE_OWNER and not mine):
            raise UserNotAuthorized(f"{self.user} may not change this item.")
        return self._view(chain)

    def folder_to_fill(self, item_id: str) -> StoredItem:
        """The folder, if the user may put items into it.

        Raises:
            InvalidItem: it is not a folder, or is the trash.
        """
        chain, access = self._allowed_chain(item_id)
        if access is AccessType.READ_ONLY:
            raise UserNotAuthorized(f"{self.user} may not write into this folder.")
        if not chain[0].kind.is_folder:
            raise InvalidItem("the destination item is not a folder")
        if chain[0].details.get("role") == "trash":
            raise InvalidItem("nothing is put into the trash but by deleting it")
        return chain[0]

    def children(self, parent: View, *, show_hidden: bool) -> list[View]:
        """What a listing of a folder shows, by name: no trash, and hidden items only on request."""
        return [
            child
            for child in self.all_children(parent)
            if child.item.details.get("role") != "trash" and (show_hidden or not child.item.hidden)
        ]

    def all_children(self, parent: View) -> list[View]:
        """Everything directly in an item; in the root, also what others have shared."""
        stored = self.catalogue.children(parent.item.id)
        if parent.item.id == self.root.id:
            stored += [
                item
                for item in self.catalogue.shared_with(self.user)
                if item.kind is ItemKind.SHARED_FOLDER and item.owner != self.user
            ]
        return [self._child_view(parent, item) for item in sorted(stored, key=lambda i: i.name)]

    def ancestors(self, item_id: str) -> list[View]:
        """The folders that the item is in, the nearest first, the root last."""
        chain, _ = self._allowed_chain(item_id)
        if chain[-1].kind.is_shared:
            chain.append(self.root)
        return [self.view(item.id) for item in chain[1:]]

    def shared_root(self, item_id: str) -> View:
        """The shared folder that the item is in, or is.

        Raises:
            InvalidCallParameters: it is in none.
        """
        chain, _ = self._allowed_chain(item_id)
        if not chain[-1].kind.is_shared:
            raise InvalidCallParameters("item is not shared")
        return self._view(chain[-1:])

    def access_list(self, item_id: str) -> dict[str, AccessType]:
        """What each user may do with the item."""
        chain, _ = self._allowed_chain(item_id)
        if not chain[-1].kind.is_shared:
            return {chain[-1].owner: AccessType.ADMINISTRATOR}
        return self.catalogue.members(chain[-1].id)

    def vre_folders(self) -> list[View]:
        """The folders of the VREs that the user is a member of."""
        return self._shared(ItemKind.VRE_FOLDER)

    def shared_with_me(self) -> list[View]:
        """The folders of others that the user is a member of."""
        folders = self._shared(ItemKind.SHARED_FOLDER)
        return [folder for folder in folders if folder.item.owner != self.user]

    def vre_folder(self) -> View:
        """The folder of the VRE that the token is for.

        Raises:
            BackendGenericError: it is for none.
        """
        folder = self.catalogue.vre_folder(self.context)
        if folder is None:
            raise BackendGenericError("the current scope is not a VRE")
        return self.view(folder.id)

    def walk(
        self, top: View, is_wanted: Callable[[StoredItem], bool]
    ) -> Iterator[tuple[str, View]]:
        """Everything below a folder, each item before what is in it, with its path from there.

        Files come before folders, as in StorageHub's zips. One listing is held for each level, and
        nothing recurses: a tree may be large and deep.

        Args:
            top: where to begin.
            is_wanted: items for which it is false are passed over, with all that is in them.
        """
        levels = [("", iter(self._files_first(top)))]
        while levels:
            path, views = levels[-1]
            view = next(views, None)
            if view is None:
                levels.pop()
            elif is_wanted(view.item):
                yield f"{path}{view.item.name}", view
                levels.append((f"{path}{view.item.name}/", iter(self._files_first(view))))

    def find(self, relative_path: str) -> View:
        """The item at a path below the root.

        Raises:
            BackendGenericError: there is none.
        """
        found = self.view(self.root.id)
        for name in filter(None, relative_path.split("/")):
            below = [child for child in self.all_children(found) if child.item.name == name]
            if not below:
                raise BackendGenericError(f"{relative_path} does not exist in the workspace.")
            found = below[0]
        return found

    def versions(self, item_id: str) -> list[Version]:
        """The versions of a file, the oldest first.

        Raises:
            InvalidItem: it is not a file.
        """
        view = self.view(item_id)
        if view.item.kind is not ItemKind.FILE:
            raise InvalidItem("this item is not versioned")
        return self.catalogue.versions(view.item.id)

    def _files_first(self, parent: View) -> list[View]:
        if not parent.item.kind.is_folder:
            return []
        return sorted(self.all_children(parent), key=lambda view: view.item.kind.is_folder)

    def _shared(self, kind: ItemKind) -> list[View]:
        folders = self.catalogue.shared_with(self.user)
        return [self._view([folder]) for folder in folders if folder.kind is kind]

    def _allowed_chain(self, item_id: str) -> tuple[list[StoredItem], AccessType]:
        """The item and its folders up to the root or shared folder, and what the user may do."""
        chain = self.catalogue.above(item_id)
        if not chain:
            raise IdNotFound(item_id)
        for position, item in enumerate(chain):
            if item.kind.is_shared:
                access = self.catalogue.members(item.id).get(self.user)
                chain = chain[: position + 1]
                break
        else:
            access = AccessType.ADMINISTRATOR if chain[-1].owner == self.user else None
        if access is None:
            raise UserNotAuthorized(f"{self.user} may not read this item.")
        return chain, access

    def _view(self, chain: Sequence[StoredItem]) -> View:
        if chain[-1].kind.is_shared:
            top = self._shared_view(chain[-1])
        else:
            home = f"/Home/{chain[-1].owner}"
            top = View(
                item=chain[-1],
                path=f"{home}/{chain[-1].name}",
                parent_id=None,
                parent_path=home,
                shared=False,
                trashed=False,
            )
        for item in reversed(chain[:-1]):
            top = self._child_view(top, item)
        return top

    def _child_view(self, parent: View, item: StoredItem) -> View:
        if item.kind.is_shared:
            return self._shared_view(item)
        return View(
            item=item,
            path=f"{parent.path}/{item.name}",
            parent_id=parent.item.id,
            parent_path=parent.path,
            shared=parent.shared,
            trashed=parent.trashed or item.kind is ItemKind.TRASH_ITEM,
        )

    def _shared_view(self, item: StoredItem) -> View:
        is_mine = item.owner == self.user and item.parent_id is not None
        return View(
            item=item,
            path=f"/Share/{item.id}",
            parent_id=item.parent_id if is_mine else self.root.id,
            parent_path="/Share",
            shared=True,
            trashed=False,
            members=tuple(self.catalogue.members(item.id)),
        )
