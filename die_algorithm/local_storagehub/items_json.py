"""Items as StorageHub's JSON: the fields of its Java model, tagged with the class's name.

Reference: storagehub 1.4; the fields of the subclasses are those of the public model
(``org.gcube.common.storagehub.model.items``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from die_algorithm.local_storagehub.items import AccessType, ItemKind, StoredItem, Version
from die_algorithm.local_storagehub.workspace import View

Json = dict[str, object]

_MODEL = "org.gcube.common.storagehub.model.items"

#: The Java class and the repository's type of each kind of item.
_TYPES = {
    ItemKind.FOLDER: ("FolderItem", "nthl:workspaceItem"),
    ItemKind.SHARED_FOLDER: ("SharedFolder", "nthl:workspaceSharedItem"),
    ItemKind.VRE_FOLDER: ("VreFolder", "nthl:workspaceVreItem"),
    ItemKind.FILE: ("GenericFileItem", "nthl:externalFile"),
    ItemKind.GCUBE_ITEM: ("GCubeItem", "nthl:gCubeItem"),
    ItemKind.TRASH_ITEM: ("TrashItem", "nthl:trashItem"),
}
_PDF = ("PDFFileItem", "nthl:externalPdf")
_IMAGE = ("ImageFile", "nthl:externalImage")

#: What ``onlyType`` selects where it is more than the one type: the subclasses count too.
_SUBTYPES = {
    "nthl:workspaceItem": {
        "nthl:workspaceItem",
        "nthl:workspaceSharedItem",
        "nthl:workspaceVreItem",
    },
    "nthl:workspaceSharedItem": {"nthl:workspaceSharedItem", "nthl:workspaceVreItem"},
    "nthl:workspaceLeafItem": {"nthl:externalFile", "nthl:externalPdf", "nthl:externalImage"},
}

#: The field that each value of ``exclude`` leaves out.
_EXCLUDES = {
    "hl:accounting": "accounting",
    "hl:metadata": "metadata",
    "hl:users": "users",
    "jcr:content": "content",
}


def is_of_type(item: StoredItem, only_type: str | None) -> bool:
    """Whether ``onlyType`` selects the item; None and the empty text select all."""
    return not only_type or _type(item)[1] in _SUBTYPES.get(only_type, {only_type})


def wrapped(view: View, exclude: Collection[str] = ()) -> Json:
    """One item, as the operations on one item answer."""
    return {"item": item_json(view, exclude)}


def listed(views: Iterable[View], exclude: Collection[str] = ()) -> Json:
    """Several items, as listings answer."""
    return {"itemlist": [item_json(view, exclude) for view in views]}


def versions_json(versions: Iterable[Version]) -> Json:
    """The versions of a file, the oldest first; the last is the current one."""
    ordered = list(versions)
    return {
        "itemlist": [
            {
                "id": version.content.blob,
                "name": version.name,
                "created": version.created,
                "current": version is ordered[-1],
            }
            for version in ordered
        ]
    }


def access_json(access: Mapping[str, AccessType]) -> Json:
    """Who may do what. StorageHub writes ``pricipal``."""
    return {
        "acls": [
            {"pricipal": user, "accessTypes": [access_type.value]}
            for user, access_type in access.items()
        ]
    }


def item_json(view: View, exclude: Collection[str] = ()) -> Json:
    """One item, without the wrapper.

    Args:
        view: the item as the user sees it.
        exclude: names of nodes to leave out, such as ``hl:accounting``.
    """
    item = view.item
    java_class, primary_type = _type(item)
    fields: Json = {
        "@class": f"{_MODEL}.{java_class}",
        "id": item.id,
        "name": item.name,
        "title": item.name,
        "path": view.path,
        "parentId": view.parent_id,
        "parentPath": view.parent_path,
        "primaryType": primary_type,
        "trashed": view.trashed,
        "shared": view.shared,
        "locked": False,
        "hidden": item.hidden,
        "externalManaged": False,
        "description": item.description,
        "owner": item.owner,
        "lastModifiedBy": item.modified_by,
        "lastAction": item.action,
        "creationTime": item.created,
        "lastModificationTime": item.modified,
        "metadata": {"map": dict(item.metadata)},
        "publicItem": False,
        "accounting": {"entries": []},
        **_own_fields(view),
    }
    left_out = {_EXCLUDES[name] for name in exclude if name in _EXCLUDES}
    return {name: value for name, value in fields.items() if name not in left_out}


def _type(item: StoredItem) -> tuple[str, str]:
    if item.content is not None:
        if item.content.mime_type == "application/pdf":
            return _PDF
        if item.content.mime_type.startswith("image/"):
            return _IMAGE
    return _TYPES[item.kind]


def _own_fields(view: View) -> Json:
    """The fields that only this kind of item has."""
    item = view.item
    if item.content is not None:
        return {
            "content": {
                "size": item.content.size,
                "mimeType": item.content.mime_type,
                "storageId": item.content.blob,
                "remotePath": view.path,
                "data": "jcr:content",
            }
        }
    if item.kind.is_shared:
        vre = item.kind is ItemKind.VRE_FOLDER
        fields: Json = {
            "privilege": None,
            "vreFolder": vre,
            "displayName": item.name,
            "users": {"map": dict.fromkeys(view.members, "")},
        }
        return fields | ({"groupId": item.name, **item.details} if vre else {})
    if item.kind in {ItemKind.TRASH_ITEM, ItemKind.GCUBE_ITEM}:
        return dict(item.details)
    return {}
