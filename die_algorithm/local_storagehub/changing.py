"""The endpoints that change the workspace (reference: storagehub 1.3).

What they create or change is answered by its id, as plain text and with status 200: clients compare
with exactly that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from werkzeug.wrappers import Response

from die_algorithm.local_storagehub import sharing
from die_algorithm.local_storagehub.answers import Call, text_answer
from die_algorithm.local_storagehub.changes import Changes
from die_algorithm.local_storagehub.errors import InvalidCallParameters
from die_algorithm.local_storagehub.forms import form_of, is_true, text_of
from die_algorithm.local_storagehub.items import AccessType
from die_algorithm.local_storagehub.trash import Trash
from die_algorithm.local_storagehub.uploaded_archive import unpack


def create_folder(call: Call) -> Response:
    """``POST /items/{id}/create/FOLDER``."""
    with form_of(call.request, call.storage.blobs) as form:
        folder = Changes(call.workspace).create_folder(
            call.item_id,
            form.required("name"),
            description=form.text("description"),
            hidden=form.flag("hidden"),
        )
    return text_answer(folder.id)


def create_file(call: Call) -> Response:
    """``POST /items/{id}/create/FILE``."""
    with form_of(call.request, call.storage.blobs) as form:
        file = Changes(call.workspace).create_file(
            call.item_id,
            form.required("name"),
            form.required_file(),
            description=form.required("description"),
        )
    return text_answer(file.id)


def create_archive(call: Call) -> Response:
    """``POST /items/{id}/create/ARCHIVE``: the content of a zip or tar, in a new folder."""
    with form_of(call.request, call.storage.blobs) as form:
        name, archive = form.required("parentFolderName"), form.required_file()
        archive.close()
        folder = unpack(call.workspace, call.item_id, name, archive.path)
    return text_answer(folder.id)


def create_gcube_item(call: Call) -> Response:
    """``POST /items/{id}/create/GCUBEITEM``."""
    document = _json_object(call)
    item = Changes(call.workspace).create_gcube_item(
        call.item_id,
        str(document.get("name") or ""),
        description=str(document.get("description") or ""),
        details={
            "scopes": document.get("scopes"),
            "creator": document.get("creator") or call.caller.user.name,
            "itemType": document.get("itemType"),
            "property": document.get("property") or {"map": {}},
        },
    )
    return text_answer(item.id)


def create_external_folder(_call: Call) -> Response:
    """``POST /items/{id}/create/EXTERNALFOLDER`` (2.x): there are no external storages here."""
    raise InvalidCallParameters("This StorageHub has no plugins for external folders.")


def move(call: Call) -> Response:
    """``PUT /items/{id}/move``."""
    with form_of(call.request, call.storage.blobs) as form:
        item = Changes(call.workspace).move(call.item_id, form.required("destinationId"))
    return text_answer(item.id)


def copy(call: Call) -> Response:
    """``PUT /items/{id}/copy``."""
    with form_of(call.request, call.storage.blobs) as form:
        item = Changes(call.workspace).copy(
            call.item_id, form.required("destinationId"), form.text("fileName")
        )
    return text_answer(item.id)


def rename(call: Call) -> Response:
    """``PUT /items/{id}/rename``."""
    with form_of(call.request, call.storage.blobs) as form:
        item = Changes(call.workspace).rename(call.item_id, form.required("newName"))
    return text_answer(item.id)


def set_metadata(call: Call) -> Response:
    """``PUT /items/{id}/metadata``: ``{"map": {…}}``."""
    metadata = _json_object(call).get("map")
    if not isinstance(metadata, dict):
        raise InvalidCallParameters("The body has no object 'map'.")
    return text_answer(Changes(call.workspace).describe(call.item_id, metadata).id)


def share(call: Call) -> Response:
    """``PUT /items/{id}/share``."""
    with form_of(call.request, call.storage.blobs) as form:
        sharing.share(
            call.workspace,
            call.item_id,
            users=form.all("users"),
            access=form.text("defaultAccessType") or AccessType.READ_ONLY.value,
            known=[user.name for user in call.storage.users],
        )
    return text_answer(call.item_id)


def unshare(call: Call) -> Response:
    """``PUT /items/{id}/unshare``: without ``users`` for all of them."""
    with form_of(call.request, call.storage.blobs) as form:
        sharing.unshare(call.workspace, call.item_id, users=form.all("users"))
    return text_answer(call.item_id)


def delete(call: Call) -> Response:
    """``DELETE /items/{id}``: into the trash, or for good with ``force=true``."""
    Trash(call.workspace).delete(call.item_id, force=is_true(call.argument("force")))
    return text_answer()


def empty_trash(call: Call) -> Response:
    """``DELETE /trash/empty``."""
    return text_answer(Trash(call.workspace).empty())


def restore(call: Call) -> Response:
    """``PUT /trash/restore``: the body is the id."""
    return text_answer(Trash(call.workspace).restore(text_of(call.request).strip().strip('"')).id)


def _json_object(call: Call) -> Mapping[str, object]:
    try:
        document = json.loads(text_of(call.request))
    except (ValueError, RecursionError):
        raise InvalidCallParameters("The body is not JSON.") from None
    if not isinstance(document, dict):
        raise InvalidCallParameters("The body is not a JSON object.")
    return document
