"""StorageHub's JSON read into :class:`~die_algorithm.models.Item`.

Lenient, because releases differ: ``metadata`` may be ``propertyMap``, 2.x has an ``ownerNode``, and
most fields may be absent (reference: storagehub 1.4). Strict in what the rest relies on: each item
has an id that is safe in a URL, and a name.
"""

from __future__ import annotations

import json
import re

from die_algorithm.models import Item

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:=@+~-]{0,254}", re.ASCII)
#: How the names of the Java classes end. ``FolderItem``, ``SharedFolder``, ``VreFolder``,
#: ``ExternalFolder``; ``GenericFileItem``, ``PDFFileItem``, ``ImageFile``.
_FOLDER_CLASSES = ("Folder", "FolderItem")
_FILE_CLASSES = ("File", "FileItem")
_FOLDER_TYPES = ("nthl:workspaceItem", "nthl:workspaceSharedItem")
#: Letters of a description's end, where a service's mark is (see ``job_folder.folder_mark``).
_DESCRIPTION = 200
_HOME = re.compile(r"/Home/([^/]+)/")


def is_item_id(text: str) -> bool:
    """Whether a text can be an item's id, which is a UUID in all releases known.

    Others are let pass, but nothing that could leave its place in the path of a URL.
    """
    return _ID.fullmatch(text) is not None


def read_id(body: bytes) -> str:
    """Read the id that StorageHub answers to a create: plain text, perhaps quoted.

    Raises:
        ValueError: it is no id.
    """
    item_id = body.decode().strip().strip("\"'")
    if not is_item_id(item_id):
        raise ValueError("no item id")
    return item_id


def read_item(body: bytes) -> Item:
    """Read ``{"item": {...}}``.

    Raises:
        ValueError: it is something else.
    """
    return _item(_member(body, "item"))


def read_items(body: bytes) -> list[Item]:
    """Read ``{"itemlist": [...]}``.

    Raises:
        ValueError: it is something else, or one of the items cannot be read.
    """
    items = _member(body, "itemlist")
    if not isinstance(items, list):
        raise ValueError("no list")  # noqa: TRY004 - the data is wrong, not the caller's type
    return [_item(item) for item in items]


def _member(body: bytes, name: str) -> object:
    try:
        data = json.loads(body)
    except RecursionError:
        raise ValueError("nested too deep") from None
    return data.get(name) if isinstance(data, dict) else None


def _item(data: object) -> Item:
    if not isinstance(data, dict):
        raise ValueError("no object")  # noqa: TRY004 - as above
    item_id, name = data.get("id"), data.get("name")
    if not isinstance(item_id, str) or not is_item_id(item_id) or not isinstance(name, str):
        raise ValueError("an item without id or name")
    content = data.get("content")
    content = content if isinstance(content, dict) else {}
    path = _text(data.get("path"))
    return Item(
        id=item_id,
        name=name,
        path=path,
        owner=_owner(data, path),
        parent_id=_text(data.get("parentId")) or None,
        is_folder=_is_folder(data),
        trashed=data.get("trashed") is True,
        hidden=data.get("hidden") is True,
        size=_number(content.get("size")),
        mime_type=_text(content.get("mimeType")) or None,
        modified=_number(data.get("lastModificationTime")),
        description=_text(data.get("description"))[-_DESCRIPTION:],
        has_content=_has_content(data),
    )


def _is_folder(data: dict[str, object]) -> bool:
    java_class = _java_class(data)
    if java_class:
        return java_class.endswith(_FOLDER_CLASSES)
    primary_type = _text(data.get("primaryType"))
    return primary_type in _FOLDER_TYPES or primary_type.endswith("Folder")


def _has_content(data: dict[str, object]) -> bool:
    """Whether it can be downloaded; what does not say what it is, or how long, is tried."""
    java_class = _java_class(data)
    known = (*_FOLDER_CLASSES, *_FILE_CLASSES)
    return not java_class or java_class.endswith(known) or isinstance(data.get("content"), dict)


def _java_class(data: dict[str, object]) -> str:
    return _text(data.get("@class")).rpartition(".")[2]


def _owner(data: dict[str, object], path: str) -> str:
    node = data.get("ownerNode")
    named = _text(data.get("owner")) or (
        _text(node.get("userName")) if isinstance(node, dict) else ""
    )
    if named:
        return named
    home = _HOME.match(path)
    return home[1] if home else ""


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(value: object) -> int | None:
    """A whole number, zero or more; text of digits will do."""
    if isinstance(value, str) and re.fullmatch(r"\d{1,18}", value, re.ASCII):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63:
        return value
    return None
