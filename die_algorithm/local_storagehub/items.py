"""The nouns of a workspace, as they are kept: items, the content of files, versions."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping


class ItemKind(enum.Enum):
    """What an item is. Files are told apart by their MIME type only when they are shown."""

    FOLDER = "folder"
    SHARED_FOLDER = "shared-folder"
    VRE_FOLDER = "vre-folder"
    FILE = "file"
    GCUBE_ITEM = "gcube-item"
    #: Stands in the trash for the one item below it.
    TRASH_ITEM = "trash-item"

    @property
    def is_folder(self) -> bool:
        """Whether items can be created in it."""
        return self in (ItemKind.FOLDER, ItemKind.SHARED_FOLDER, ItemKind.VRE_FOLDER)

    @property
    def is_shared(self) -> bool:
        """Whether it is the top of something that several users see."""
        return self in (ItemKind.SHARED_FOLDER, ItemKind.VRE_FOLDER)


class AccessType(enum.Enum):
    """What a user may do in a shared folder, in StorageHub's words."""

    READ_ONLY = "READ_ONLY"
    #: Add items, and change one's own.
    WRITE_OWNER = "WRITE_OWNER"
    WRITE_ALL = "WRITE_ALL"
    ADMINISTRATOR = "ADMINISTRATOR"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """The bytes of a file, in one version."""

    #: Name of the file on disk.
    blob: str
    #: Bytes.
    size: int
    mime_type: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Version:
    """One of the contents that a file has had."""

    number: int
    content: Content
    #: Epoch milliseconds.
    created: int

    @property
    def name(self) -> str:
        """``1.0``, ``1.1``, ``1.2`` …, as the repository behind StorageHub counts."""
        return f"1.{self.number}"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StoredItem:
    """One item. Times are epoch milliseconds."""

    id: str
    #: None for the root of a user's workspace and for VRE folders.
    parent_id: str | None
    kind: ItemKind
    name: str
    description: str
    owner: str
    hidden: bool = False
    created: int
    modified: int
    modified_by: str
    #: CREATED, RENAMED, MOVED, CLONED or UPDATED.
    action: str = "CREATED"
    #: What users attach to the item.
    metadata: Mapping[str, object] = dataclasses.field(default_factory=dict)
    #: What only this kind of item has, in the words of its JSON.
    details: Mapping[str, object] = dataclasses.field(default_factory=dict)
    #: The current content; None for everything but files.
    content: Content | None = None

    @property
    def is_protected(self) -> bool:
        """Whether it belongs to the workspace itself: root, trash, VRE folders."""
        return self.parent_id is None or "role" in self.details
