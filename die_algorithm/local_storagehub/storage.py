"""The folder that an embedded StorageHub keeps everything in, open for one server.

::

    lock                one server at a time
    catalogue.sqlite    all items
    blobs/              the bytes of files
    incoming/           bytes that are arriving
    public-link.key     what public links are made with
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from die_algorithm.errors import SettingsError
from die_algorithm.local_storagehub.blobs import Blobs
from die_algorithm.local_storagehub.catalogue import Catalogue
from die_algorithm.local_storagehub.changes import now
from die_algorithm.local_storagehub.items import AccessType, ItemKind, StoredItem
from die_algorithm.local_storagehub.public_links import PublicLinks
from die_algorithm.local_storagehub.users import Users
from die_algorithm.local_storagehub.workspace import TRASH, Workspace

_MANAGER = "vre.manager"


class Storage:
    """The folder, with a workspace for each user and a folder for each VRE.

    Args:
        folder: created if it does not exist.
        users: all who may come in.

    Raises:
        SettingsError: another server uses the folder.
    """

    def __init__(self, folder: Path, users: Users) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.users = users
        self.blobs = Blobs(folder)
        self.links = PublicLinks(_key(folder / "public-link.key"))
        with contextlib.ExitStack() as stack:
            stack.enter_context(_locked(folder))
            self.catalogue = Catalogue(folder / "catalogue.sqlite")
            stack.callback(self.catalogue.close)
            self.blobs.sweep(self.catalogue.blobs())
            self._make_places()
            self._open = stack.pop_all()

    def workspace(self, user: str, context: str = "") -> Workspace:
        """The items as one user sees them; ``context`` is the VRE of the user's token."""
        return Workspace(self.catalogue, self.blobs, user, context)

    def close(self) -> None:
        """Let another server have the folder."""
        self._open.close()

    def _make_places(self) -> None:
        with self.catalogue.transaction():
            for user in self.users:
                self._make_home(user.name)
            for context, members in self.users.vres.items():
                self._make_vre_folder(context, members)

    def _make_home(self, user: str) -> None:
        if self.catalogue.home(user) is None:
            root = _folder("Workspace", owner=user)
            self.catalogue.insert(root)
            self.catalogue.insert(_folder(TRASH, owner=user, parent=root, role="trash"))

    def _make_vre_folder(self, context: str, members: list[str]) -> None:
        # StorageHub names the folder after the context, with dashes for slashes.
        name = context.strip("/").replace("/", "-")
        folder = self.catalogue.vre_folder(name)
        if folder is None:
            folder = _folder(name, owner=_MANAGER, kind=ItemKind.VRE_FOLDER, context=context)
            self.catalogue.insert(folder)
        for user in {*self.catalogue.members(folder.id), *members}:
            access = AccessType.WRITE_OWNER if user in members else None
            self.catalogue.set_member(folder.id, user, access)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError(f"Another StorageHub uses the folder {folder}.") from None
        yield


def _folder(
    name: str,
    *,
    owner: str,
    parent: StoredItem | None = None,
    kind: ItemKind = ItemKind.FOLDER,
    **details: object,
) -> StoredItem:
    created = now()
    return StoredItem(
        id=str(uuid.uuid4()),
        parent_id=parent.id if parent else None,
        kind=kind,
        name=name,
        description=name,
        owner=owner,
        created=created,
        modified=created,
        modified_by=owner,
        details=details,
    )


def _key(path: Path) -> bytes:
    """The key in the file, made at the first start; links stay valid over restarts."""
    if not path.exists():
        fresh = path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(PublicLinks.new_key())
        fresh.replace(path)
    return path.read_bytes()
