"""What can be asked of a workspace (reference: storagehub 1.3)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from types import TracebackType
from typing import Self
from urllib.parse import quote

from die_algorithm.errors import (
    FolderTooDeep,
    ItemDoubtful,
    ItemUnusable,
    StorageHubError,
    StorageHubUnavailable,
    TokenRejected,
)
from die_algorithm.models import Item, ListedItem, UserToken
from die_algorithm.paced_http import Pace
from die_algorithm.storagehub.answers import AnswerTooLong, Forbidden, RefusalPage
from die_algorithm.storagehub.calls import Auth, Call, Calls, Download
from die_algorithm.storagehub.items import is_item_id, read_id, read_item, read_items
from die_algorithm.storagehub.multipart import Multipart

_JSON = frozenset({"application/json"})
_TEXT = frozenset({"text/plain", "application/json"})
#: Clients commonly leave the accounting out: it can be longer than all the rest.
_LEAN = {"exclude": "hl:accounting"}
#: Items that are asked for at once, and in all of one folder.
_PAGE = 500
_MAX_CHILDREN = 1_000_000
_MAX_DEPTH = 500


class StorageHub:
    """A client for one StorageHub, for all users and threads.

    It is safe to use from several threads: it keeps no session, only urllib3's connection pool,
    which is. Close it at the end, or use it as a context manager.

    Every method may raise :class:`~die_algorithm.errors.TokenRejected`,
    :class:`~die_algorithm.errors.ItemUnusable` (the item given is missing or forbidden), its
    :class:`~die_algorithm.errors.ItemDoubtful` where that is not certain,
    :class:`~die_algorithm.errors.StorageHubUnavailable` (no answer, or none as it should be), and
    plain :class:`~die_algorithm.errors.StorageHubError` for what no release is known to answer.
    Those that fetch and remove leave no doubt: they look for the item first, and while it is there, or
    that cannot be told, StorageHub is unavailable.

    Args:
        base_url: the address of the workspace API, ``…/workspace``.
        auth: how the user token travels (see the setting ``storagehub_auth``).
        timeout: longest wait for a connection, for the start of an answer, and for the whole of an
            answer that is no transfer.
        min_rate: a transfer slower than this, in bytes per second over ``timeout``, is given up.
        attempts: how often a call that may be repeated is tried in all. Creating and uploading are
            tried once: only the caller can find out whether it happened.
        pause: the first pause between two tries; it doubles each time, give or take a half.
    """

    def __init__(
        self,
        base_url: str,
        *,
        auth: Auth = "auto",
        timeout: timedelta = timedelta(seconds=30),
        min_rate: int = 4096,
        attempts: int = 4,
        pause: timedelta = timedelta(milliseconds=500),
    ) -> None:
        self._calls = Calls(
            base_url,
            auth=auth,
            timeout=timeout.total_seconds(),
            min_rate=min_rate,
            attempts=attempts,
            pause=pause.total_seconds(),
        )
        self._upload_pace = (timeout.total_seconds(), min_rate * timeout.total_seconds())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the idle connections back; a call that waits to try again gives up."""
        self._calls.close()

    def ping(self) -> None:
        """See whether StorageHub can be reached: any HTTP answer will do.

        Raises:
            StorageHubUnavailable: it cannot.
        """
        self._calls.ping()

    def workspace_root(self, token: UserToken) -> Item:
        """The root folder of the workspace that the token opens; its owner is the token's."""
        try:
            root = self._item(token, "/")
        except Forbidden:
            raise TokenRejected("StorageHub shows no workspace to this user token.") from None
        except ItemUnusable:
            raise StorageHubUnavailable(
                "StorageHub shows no workspace. Its address in the settings may be wrong."
            ) from None
        if not root.owner:
            raise StorageHubUnavailable("StorageHub does not say whose workspace it is.")
        return root

    def item(self, token: UserToken, item_id: str) -> Item:
        """One file or folder. A trashed one is returned too, and marked."""
        return self._item(token, _path(item_id))

    def find_child(self, token: UserToken, folder_id: str, name: str) -> Item | None:
        """The child of a folder with exactly this name that is not trashed.

        StorageHub looks it up: a workspace may have thousands of children. Of several, it is the same one
        for all who ask, in whatever order they are listed.
        """
        try:
            found = self._named(token, folder_id, name)
        except AnswerTooLong:
            if "*" not in name:
                raise
            return None  # StorageHub takes it for a pattern, and gives all that fits
        exact = [item for item in found if item.name == name]
        return min(exact, key=lambda item: item.id, default=None)

    def find_children(self, token: UserToken, folder_id: str, prefix: str) -> list[Item]:
        """The children of a folder whose names begin so and that are not trashed."""
        found = self._named(token, folder_id, f"{prefix}*")
        return [item for item in found if item.name.startswith(prefix)]

    def _named(self, token: UserToken, folder_id: str, pattern: str) -> list[Item]:
        path = _path(folder_id, f"/items/{quote(pattern, safe='*')}")
        call = Call(method="GET", path=path, token=token, params=_LEAN, types=_JSON)
        return [item for item in self._calls.answer(call, read_items) if not item.trashed]

    def create_folder(self, token: UserToken, parent_id: str, name: str, description: str) -> str:
        """Make a folder.

        Returns:
            Its id. StorageHub never refuses a name that is taken: the folder becomes ``name(1)``
            (reference: storagehub 1.5).
        """
        form = {"name": name, "description": description or name, "hidden": "false"}
        return self._create(token, _path(parent_id, "/create/FOLDER"), form)

    def upload(
        self,
        token: UserToken,
        folder_id: str,
        name: str,
        content: Iterable[bytes],
        description: str,
        *,
        size: int | None = None,
    ) -> str:
        """Write a file; one of that name in the folder gets a new version.

        Args:
            token: the user's.
            folder_id: the folder's id.
            name: the file's name.
            content: the file's bytes in pieces of any size, sent as they come. What it raises breaks the
                upload off, so that StorageHub takes nothing, and comes out of here as it is.
            description: a text; StorageHub refuses an empty one, so the name takes its place.
            size: the length of it all in bytes; None if it is not known yet.

        Returns:
            The file's id.
        """
        form = Multipart(name, description or name, content, size, Pace(*self._upload_pace))
        return self._create(token, _path(folder_id, "/create/FILE"), form)

    def walk(
        self,
        token: UserToken,
        folder_id: str,
        *,
        max_items: int,
        before_page: Callable[[], None] = lambda: None,
    ) -> list[ListedItem]:
        """Everything below a folder, folders and hidden items included, trashed ones not.

        Args:
            token: the user's.
            folder_id: the folder's id.
            max_items: the walk ends with the first item beyond that number, so a list longer than
                ``max_items`` says that there is more.
            before_page: called before each of what may be thousands of questions; what it raises ends the
                walk.

        Raises:
            ItemUnusable: a folder went away meanwhile.
            FolderTooDeep: there are more than 500 levels.
        """
        found: list[ListedItem] = []
        seen = {folder_id}
        waiting: deque[tuple[tuple[str, ...], str]] = deque([((), folder_id)])
        while waiting:
            path, parent_id = waiting.popleft()
            if len(path) > _MAX_DEPTH:
                raise FolderTooDeep(
                    f"The result has more than {_MAX_DEPTH} levels of folders, the most that this "
                    "service takes. It remains in the workspace, in the folder of the job."
                )
            for item in self._children(token, parent_id, before_page):
                if item.is_folder and item.id in seen:
                    continue  # a folder below itself
                found.append(ListedItem(path=(*path, item.name), item=item))
                if len(found) > max_items:
                    return found
                if item.is_folder:
                    seen.add(item.id)
                    waiting.append((found[-1].path, item.id))
        return found

    @contextmanager
    def download(
        self, token: UserToken, item_id: str, *, marked: bool = False
    ) -> Iterator[Download]:
        """Open a file's content, or a folder's zip, when the context is entered.

        Args:
            token: the user's.
            item_id: the item's id.
            marked: the transfer must say where it ends, for nothing else would show that it is cut.

        Raises:
            DamagedDownload: the answer's head is not that of a whole file.
        """
        call = Call(method="GET", path=_path(item_id, "/download"), token=token)
        with ExitStack() as opened:
            try:
                download = opened.enter_context(self._calls.download(call, marked=marked))
            except ItemDoubtful as doubt:
                raise self._settled(token, item_id, doubt) from None
            yield download

    def delete(self, token: UserToken, item_id: str) -> None:
        """Remove an item for good, not into the trash. One that is gone already is fine.

        Raises:
            ItemUnusable: it is still there, or forbidden.
        """
        path = _path(item_id)
        call = Call(method="DELETE", path=path, token=token, params={"force": "true"})
        try:
            self._calls.answer(call, len)
        except Forbidden:
            raise
        except ItemUnusable:
            # The status does not tell "gone" from "could not be removed"; a look does.
            if self.exists(token, item_id):
                raise

    def exists(self, token: UserToken, item_id: str) -> bool:
        """Whether there is such an item, though perhaps not for this user; in doubt, no answer.

        Raises:
            StorageHubUnavailable: StorageHub fails over it.
        """
        try:
            return self._is_there(token, item_id)
        except RefusalPage:
            # Nothing but the workspace's root shows whether StorageHub is who has answered.
            self.workspace_root(token)
        try:
            return self._is_there(token, item_id)
        except RefusalPage:
            return False

    def _is_there(self, token: UserToken, item_id: str) -> bool:
        try:
            self.item(token, item_id)
        except Forbidden:
            return True
        except RefusalPage:
            raise
        except ItemDoubtful as doubt:
            raise StorageHubUnavailable(str(doubt)) from None
        except ItemUnusable:
            return False
        return True

    def _settled(self, token: UserToken, item_id: str, doubt: ItemDoubtful) -> StorageHubError:
        """What an answer comes to that leaves open whether the item is gone."""
        if self.exists(token, item_id):
            return StorageHubUnavailable(f"{doubt} But the item is there.")
        return ItemUnusable(f"{doubt} The item is gone.")

    def _item(self, token: UserToken, path: str) -> Item:
        call = Call(method="GET", path=path, token=token, params=_LEAN, types=_JSON)
        return self._calls.answer(call, read_item)

    def _children(
        self, token: UserToken, folder_id: str, before_page: Callable[[], None]
    ) -> Iterator[Item]:
        """The children of a folder, page by page.

        A page may be short because of what StorageHub filters, so only one with nothing new is the
        end. That also ends the listing of a server which ignores the paging. A page that is too long,
        for the items' descriptions may be of any length, is asked for again with half as many items; the
        next ones may be longer again.
        """
        seen: set[str] = set()
        start = asked_for = 0
        limit = _PAGE
        while asked_for < _MAX_CHILDREN:
            before_page()
            try:
                page = self._page(token, folder_id, start, limit)
            except AnswerTooLong:
                if limit == 1:
                    raise
                limit //= 2
                continue
            fresh = [item for item in page if item.id not in seen]
            if not fresh and limit < _PAGE:
                # Of so few, StorageHub may have filtered all.
                start += limit
                asked_for += limit
                limit = _PAGE
                continue
            if not fresh:
                return
            seen.update(item.id for item in fresh)
            yield from (item for item in fresh if not item.trashed)
            start += len(page)
            asked_for += limit
            limit = min(2 * limit, _PAGE)
        raise StorageHubUnavailable("StorageHub's listing of a folder does not end.")

    def _page(self, token: UserToken, folder_id: str, start: int, limit: int) -> list[Item]:
        path = _path(folder_id, "/children/paged")
        params = {**_LEAN, "showHidden": "true", "start": str(start), "limit": str(limit)}
        call = Call(method="GET", path=path, token=token, params=params, types=_JSON)
        try:
            return self._calls.answer(call, read_items)
        except ItemDoubtful as doubt:
            raise self._settled(token, folder_id, doubt) from None

    def _create(self, token: UserToken, path: str, body: Mapping[str, str] | Multipart) -> str:
        call = Call(method="POST", path=path, token=token, body=body, types=_TEXT, repeatable=False)
        return self._calls.answer(call, read_id)


def _path(item_id: str, rest: str = "") -> str:
    if not is_item_id(item_id):
        raise ItemUnusable("This is not the id of a StorageHub item.")
    return f"/items/{quote(item_id, safe='')}{rest}"
