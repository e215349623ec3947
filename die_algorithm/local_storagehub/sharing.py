"""Sharing a folder with other users, and taking it back."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

from die_algorithm.local_storagehub.changes import now
from die_algorithm.local_storagehub.errors import (
    InvalidCallParameters,
    InvalidItem,
    UserNotAuthorized,
)
from die_algorithm.local_storagehub.items import AccessType, ItemKind, StoredItem
from die_algorithm.local_storagehub.workspace import Workspace


def share(
    workspace: Workspace,
    item_id: str,
    *,
    users: Sequence[str],
    access: str,
    known: Collection[str],
) -> None:
    """Let users into a folder, which becomes a shared folder and keeps its id.

    Args:
        workspace: of the folder's owner.
        item_id: the folder.
        users: whom to let in.
        access: a name of :class:`AccessType`.
        known: the names of all users.

    Raises:
        InvalidCallParameters: a user or the access type does not exist, or no user is named.
        InvalidItem: it is no folder of the workspace, or one is shared above or below it.
        UserNotAuthorized: the user is not the folder's owner.
    """
    if access not in AccessType.__members__:
        raise InvalidCallParameters(f"defaultAccessType must be one of {list(_names())}.")
    unknown = [user for user in users if user not in known]
    if unknown or not users:
        raise InvalidCallParameters(f"No such users: {unknown}." if unknown else "No users given.")
    catalogue = workspace.catalogue
    with catalogue.transaction():
        item = _own_folder(workspace, item_id)
        if not item.kind.is_shared:
            around = [*catalogue.below(item.id), *catalogue.above(item.id)]
            if any(other.kind.is_shared for other in around):
                raise InvalidItem("a folder above or below this one is shared already")
            _become(workspace, item, ItemKind.SHARED_FOLDER)
        for user in users:
            catalogue.set_member(item.id, user, AccessType[access])
        catalogue.set_member(item.id, item.owner, AccessType.ADMINISTRATOR)


def unshare(workspace: Workspace, item_id: str, *, users: Sequence[str]) -> None:
    """Take users out of a shared folder; without users all, and without others it is private again.

    Raises:
        InvalidItem: it is not a shared folder.
        UserNotAuthorized: a member who is not the owner names others than herself.
    """
    catalogue = workspace.catalogue
    with catalogue.transaction():
        item = workspace.view(item_id).item
        if item.kind is not ItemKind.SHARED_FOLDER:
            raise InvalidItem("the item is not a shared folder")
        is_mine = item.owner == workspace.user
        leaving = list(users) or ([*catalogue.members(item.id)] if is_mine else [workspace.user])
        if not is_mine and leaving != [workspace.user]:
            raise UserNotAuthorized("Only the owner can take others out of a shared folder.")
        for user in leaving:
            if user != item.owner:
                catalogue.set_member(item.id, user, None)
        if set(catalogue.members(item.id)) <= {item.owner}:
            catalogue.set_member(item.id, item.owner, None)
            _become(workspace, item, ItemKind.FOLDER)


def _own_folder(workspace: Workspace, item_id: str) -> StoredItem:
    item = workspace.writable(item_id).item
    if item.kind not in {ItemKind.FOLDER, ItemKind.SHARED_FOLDER} or item.is_protected:
        raise InvalidItem("only a folder of the workspace can be shared")
    if item.owner != workspace.user:
        raise UserNotAuthorized("Only its owner can share a folder.")
    return item


def _become(workspace: Workspace, item: StoredItem, kind: ItemKind) -> None:
    workspace.catalogue.update(
        dataclasses.replace(
            item, kind=kind, modified=now(), modified_by=workspace.user, action="UPDATED"
        )
    )


def _names() -> tuple[str, ...]:
    return tuple(AccessType.__members__)
