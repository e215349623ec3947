"""Where the file of a job is: what FileParam may say, told apart by its form alone.

A workspace knows whether an item exists; nothing here asks. The forms (reference: dataminer-wps 2.4):

======================================= ========================================
``2f4c9e0a-5b1d-4a6e-9c39-1d5c1f8f7a11`` the id of an item
``<StorageHub>/items/<id>[/download]``   the same, as its address
``/Home/<user>/Workspace/a/b.txt``       a path in the user's workspace
``a/b.txt``, ``/a/b.txt``, ``./a/b.txt`` the same, from the root of the workspace
``https://<trusted host>/…``             a public link
======================================= ========================================
"""

from __future__ import annotations

import dataclasses
import re
from urllib.parse import unquote

from die_algorithm.errors import InvalidParameterValue
from die_algorithm.public_link import TrustedHosts, parse_public_link

_LONGEST = 2048
_LONGEST_NAME = 255
#: Each name of a path is a question to StorageHub.
_MOST_NAMES = 50
_ITEM_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{7,127}", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_QUERY = re.compile(r"[?#]")
_ITEM_IN_PATH = re.compile(r"(?P<base>.*)/items/(?P<id>[^/]+)(?:/download)?/?")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/\S*")
_HOME = re.compile(r"/Home/(?P<user>[^/]+)/Workspace/(?P<path>.+)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ItemReference:
    """One of the forms; with ``item_id`` and ``path`` both, an id that may be a name instead."""

    item_id: str = ""
    #: Names from the root of the workspace.
    path: tuple[str, ...] = ()
    #: The user in whose workspace the path is said to be; None: the caller's own.
    path_owner: str | None = None
    link: str | None = None


def parse_item_reference(
    text: str, storagehub_url: str, trusted: TrustedHosts, parameter: str
) -> ItemReference:
    """Read what a client gave as the item.

    Args:
        text: as the client wrote it.
        storagehub_url: the workspace's address.
        trusted: the hosts whose public links are taken.
        parameter: the input's name, for the refusal.

    Raises:
        InvalidParameterValue: it has none of the forms.
    """
    if not text.strip():
        raise InvalidParameterValue(
            f"{parameter} is empty; give the id, path or public link of a file.", parameter
        )
    if _UUID.fullmatch(text):
        return ItemReference(item_id=text)
    if _ITEM_ID.fullmatch(text):
        return ItemReference(item_id=text, path=(text,))
    if len(text) > _LONGEST or text != text.strip() or not text.isprintable():
        raise _refused(parameter)
    if item_id := _id_in_url(text, storagehub_url):
        return ItemReference(item_id=item_id)
    if _ADDRESS.match(text):
        return ItemReference(link=_link(text, trusted, parameter))
    return _path(text, parameter)


def is_item_reference(text: str) -> bool:
    """Whether a text sent as a file's content is meant as the reference to a file.

    The portal and several WPS libraries send every value of a complex input as content. So the id of
    an item, an address and a path ``/Home/<user>/Workspace/…`` count as what they are; any other text
    is content.
    """
    if len(text) > _LONGEST:
        return False
    return any(form.fullmatch(text) for form in (_UUID, _ADDRESS, _HOME))


def without_query(text: str) -> str:
    """An address without what may hold a token: clients write ``…/download?gcube-token=…``.

    Any other text stays as it is: what begins a query there is a character of names of files.
    """
    return _QUERY.split(text, maxsplit=1)[0] if _ADDRESS.match(text) else text


def _id_in_url(text: str, storagehub_url: str) -> str | None:
    match = _ITEM_IN_PATH.fullmatch(without_query(text))
    if match is None or match["base"].rstrip("/") != storagehub_url:
        return None
    item_id = unquote(match["id"])
    return item_id if _ITEM_ID.fullmatch(item_id) else None


def _link(text: str, trusted: TrustedHosts, parameter: str) -> str:
    try:
        link = parse_public_link(text)
    except ValueError as error:
        raise InvalidParameterValue(
            f"{parameter} is no link that is taken here: {error}. {trusted.described}", parameter
        ) from None
    if link not in trusted:
        raise InvalidParameterValue(
            f"{parameter} is a link to a host that is not trusted here. {trusted.described}",
            parameter,
        )
    return link.url


def _path(text: str, parameter: str) -> ItemReference:
    home = _HOME.fullmatch(text)
    if home:
        return ItemReference(path=_names(home["path"], parameter), path_owner=home["user"])
    if text.startswith("/Home/"):
        raise InvalidParameterValue(
            f"{parameter} is no path of a workspace; write /Home/<user>/Workspace/<path>, or the path "
            "from the root of your workspace.",
            parameter,
        )
    relative = text.removeprefix("./") if text.startswith("./") else text.removeprefix("/")
    return ItemReference(path=_names(relative, parameter))


def _names(path: str, parameter: str) -> tuple[str, ...]:
    names = tuple(path.removesuffix("/").split("/"))
    if len(names) > _MOST_NAMES or any(not _is_name(name) for name in names):
        raise _refused(parameter)
    return names


def _is_name(name: str) -> bool:
    return 0 < len(name) <= _LONGEST_NAME and name.strip() not in ("", ".", "..")


def _refused(parameter: str) -> InvalidParameterValue:
    return InvalidParameterValue(
        f"{parameter} is neither the id of a workspace item, nor a path in your workspace, nor a "
        "public link. Copy the item's id from the workspace (Get info), for example "
        "'2f4c9e0a-5b1d-4a6e-9c39-1d5c1f8f7a11'.",
        parameter,
    )
