"""The endpoints that change nothing (reference: storagehub 1.3)."""

from __future__ import annotations

from collections.abc import Sequence

from werkzeug.wrappers import Response

from die_algorithm.local_storagehub import query
from die_algorithm.local_storagehub.answers import (
    Call,
    disposition,
    file_answer,
    json_answer,
)
from die_algorithm.local_storagehub.errors import InvalidCallParameters, InvalidItem
from die_algorithm.local_storagehub.folder_zip import zip_folder
from die_algorithm.local_storagehub.forms import is_true
from die_algorithm.local_storagehub.items import ItemKind, StoredItem, Version
from die_algorithm.local_storagehub.items_json import (
    access_json,
    is_of_type,
    listed,
    versions_json,
    wrapped,
)
from die_algorithm.local_storagehub.workspace import View

_RECENT = 10


def root(call: Call) -> Response:
    """``GET /``: the root of the workspace, or the item at ``relPath`` below it."""
    view = call.workspace.find(call.argument("relPath") or "")
    return json_answer(wrapped(view, call.exclude))


def item(call: Call) -> Response:
    """``GET /items/{id}``."""
    return json_answer(wrapped(call.workspace.view(call.item_id), call.exclude))


def items_by_name(call: Call) -> Response:
    """``GET /items/{id}/items/{name}``: the name may begin or end with ``*``."""
    workspace, name = call.workspace, call.path["name"]
    children = workspace.all_children(workspace.view(call.item_id))
    found = [child for child in children if _matches(child.item.name, name)]
    return json_answer(listed(found, call.exclude))


def children(call: Call) -> Response:
    """``GET /items/{id}/children``."""
    return json_answer(listed(_children(call), call.exclude))


def children_paged(call: Call) -> Response:
    """``GET /items/{id}/children/paged``: ``limit`` items from ``start`` on."""
    return json_answer(listed(_page(call, _children(call)), call.exclude))


def children_count(call: Call) -> Response:
    """``GET /items/{id}/children/count``: a bare number."""
    return json_answer(len(_children(call)))


def ancestors(call: Call) -> Response:
    """``GET /items/{id}/anchestors``; the spelling is StorageHub's."""
    return json_answer(listed(call.workspace.ancestors(call.item_id), call.exclude))


def root_shared_folder(call: Call) -> Response:
    """``GET /items/{id}/rootSharedFolder``."""
    return json_answer(wrapped(call.workspace.shared_root(call.item_id), call.exclude))


def access_list(call: Call) -> Response:
    """``GET /items/{id}/acls``."""
    return json_answer(access_json(call.workspace.access_list(call.item_id)))


def public_link(call: Call) -> Response:
    """``GET /items/{id}/publiclink``: a JSON string."""
    view = call.workspace.view(call.item_id)
    if view.item.kind is not ItemKind.FILE:
        raise InvalidCallParameters("the choosen item is not a File")
    version = call.argument("version") or None
    if version and _version(call.workspace.versions(call.item_id), version) is None:
        raise InvalidCallParameters(f"the selected file has no version {version}")
    link = call.storage.links.make(call.item_id, version)
    return json_answer(f"{call.url}/shub/{link}")


def versions(call: Call) -> Response:
    """``GET /items/{id}/versions``."""
    return json_answer(versions_json(call.workspace.versions(call.item_id)))


def download_version(call: Call) -> Response:
    """``GET /items/{id}/versions/{version}/download``."""
    view = call.workspace.view(call.item_id)
    version = _version(call.workspace.versions(call.item_id), call.path["version"])
    if version is None:
        raise InvalidItem("the version is not valid")
    return version_answer(call, view.item, version)


def download(call: Call) -> Response:
    """``GET /items/{id}/download``: a file's bytes, or a folder as a zip."""
    workspace = call.workspace
    view = workspace.view(call.item_id)
    if view.item.content is not None:
        return file_answer(call.request, call.storage, view.item.name, view.item.content)
    if not view.item.kind.is_folder:
        raise InvalidItem("item type not supported for download")
    response = Response(zip_folder(workspace, view, call.exclude), content_type="application/zip")
    response.headers["content-disposition"] = disposition(f"{view.item.name}.zip")
    return response


def vre_folder(call: Call) -> Response:
    """``GET /vrefolder``: the folder of the VRE that the token is for."""
    return json_answer(wrapped(call.workspace.vre_folder(), call.exclude))


def vre_folders(call: Call) -> Response:
    """``GET /vrefolders``."""
    return json_answer(listed(call.workspace.vre_folders(), call.exclude))


def vre_folders_paged(call: Call) -> Response:
    """``GET /vrefolders/paged``."""
    return json_answer(listed(_page(call, call.workspace.vre_folders()), call.exclude))


def vre_recents(call: Call) -> Response:
    """``GET /vrefolder/recents``: the files changed last in the VRE's folder."""
    workspace = call.workspace
    below = workspace.walk(workspace.vre_folder(), lambda found: not found.hidden)
    files = [view for _, view in below if view.item.kind is ItemKind.FILE]
    files.sort(key=lambda view: view.item.modified, reverse=True)
    return json_answer(listed(files[:_RECENT], call.exclude))


def shared_with_me(call: Call) -> Response:
    """``GET /shared-with-me`` (2.x): the folders of others."""
    return json_answer(listed(call.workspace.shared_with_me(), call.exclude))


def count(call: Call) -> Response:
    """``GET /count`` (2.x): how many items the user has, as a bare number."""
    return json_answer(len(query.search(call.workspace, "", only_type=None, order=())))


def trash(call: Call) -> Response:
    """``GET /trash``: the folder of what was thrown away."""
    workspace = call.workspace
    return json_answer(wrapped(workspace.view(workspace.trash.id), call.exclude))


def search(call: Call) -> Response:
    """``GET /query``: ``n`` type, ``e`` expression, ``o`` order, ``l`` limit, ``f`` offset."""
    order = call.request.args.getlist("o")
    found = query.search(
        call.workspace, call.argument("e") or "", only_type=call.argument("n"), order=order
    )
    offset, limit = _number(call, "f", 0), _number(call, "l", -1)
    end = None if limit < 0 else max(offset, 0) + limit
    return json_answer(listed(found[max(offset, 0) : end], call.exclude))


def version_answer(call: Call, stored: StoredItem, version: Version) -> Response:
    """The bytes of one version, under the name ``<stem>_v<version>.<extension>``."""
    stem, _, extension = stored.name.rpartition(".")
    name = f"{stem}_v{version.name}.{extension}" if stem else f"{stored.name}_v{version.name}"
    return file_answer(call.request, call.storage, name, version.content)


def _children(call: Call) -> list[View]:
    workspace = call.workspace
    only_type = call.argument("onlyType")
    views = workspace.children(
        workspace.view(call.item_id), show_hidden=is_true(call.argument("showHidden"))
    )
    return [view for view in views if is_of_type(view.item, only_type)]


def _page(call: Call, views: Sequence[View]) -> Sequence[View]:
    start, limit = _number(call, "start", 0), _number(call, "limit", len(views))
    if start < 0 or limit < 0:
        raise InvalidCallParameters("start and limit must not be negative.")
    return views[start : start + limit]


def _number(call: Call, name: str, default: int) -> int:
    text = call.argument(name)
    try:
        return int(text) if text else default
    except ValueError:
        raise InvalidCallParameters(f"The parameter {name!r} is not a number.") from None


def _matches(name: str, pattern: str) -> bool:
    if pattern.startswith("*"):
        return name.endswith(pattern[1:])
    if pattern.endswith("*"):
        return name.startswith(pattern[:-1])
    return name == pattern


def _version(versions: Sequence[Version], name: str) -> Version | None:
    return next((version for version in versions if version.name == name), None)
