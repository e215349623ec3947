"""What the endpoints get and give: a request with its user and storage, the kinds of answers."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping

from werkzeug.wrappers import Request, Response
from werkzeug.wsgi import wrap_file

from die_algorithm.local_storagehub.authentication import Caller
from die_algorithm.local_storagehub.errors import (
    AuthorizationRequired,
    BackendGenericError,
    HubError,
)
from die_algorithm.local_storagehub.items import Content
from die_algorithm.local_storagehub.storage import Storage
from die_algorithm.local_storagehub.workspace import Workspace


@dataclasses.dataclass(frozen=True, kw_only=True)
class Call:
    """One request to an endpoint."""

    request: Request
    storage: Storage
    #: None where the operation is public.
    signed_in: Caller | None
    #: What the path's placeholders stand for.
    path: Mapping[str, str]
    #: The address of this server as the caller sees it, without a slash at the end.
    url: str

    @property
    def caller(self) -> Caller:
        """Who asks.

        Raises:
            AuthorizationRequired: nobody has said, since the operation is public.
        """
        if self.signed_in is None:
            raise AuthorizationRequired("authorization required")
        return self.signed_in

    @property
    def item_id(self) -> str:
        """The item's id in the path."""
        return self.path["item_id"]

    @property
    def workspace(self) -> Workspace:
        """The items as the caller sees them."""
        return self.storage.workspace(self.caller.user.name, self.caller.context)

    def argument(self, name: str) -> str | None:
        """A query parameter."""
        return self.request.args.get(name)

    @property
    def exclude(self) -> list[str]:
        """The values of the query parameter ``exclude``."""
        return self.request.args.getlist("exclude")


Endpoint = Callable[[Call], Response]


def json_answer(value: object, status: int = 200) -> Response:
    """A JSON document."""
    return Response(json.dumps(value), status=status, content_type="application/json")


def text_answer(text: str = "") -> Response:
    """Plain text: the id of what was created or changed."""
    return Response(text, content_type="text/plain; charset=utf-8")


def error_answer(error: HubError) -> Response:
    """The error's body, with the ETag by which gCube's clients know it."""
    body = {
        "id": error.status,
        "message": str(error),
        "exceptionClass": error.java_class,
        "encodedTrace": "",
    }
    response = json_answer(body, error.status)
    response.set_etag("gxError")
    if error.status == 401:
        response.headers["WWW-Authenticate"] = 'Basic realm="gCube", Bearer'
    return response


def file_answer(request: Request, storage: Storage, name: str, content: Content) -> Response:
    """The bytes of a file, streamed from disk.

    Raises:
        BackendGenericError: they are gone.
    """
    try:
        file = storage.blobs.open(content.blob)
    except OSError:
        raise BackendGenericError("The content of the file cannot be read.") from None
    if request.method == "HEAD":
        file.close()
        response = Response(content_type=content.mime_type)
    else:
        response = Response(
            wrap_file(request.environ, file),
            content_type=content.mime_type,
            direct_passthrough=True,
        )
    response.content_length = content.size
    response.headers["content-disposition"] = disposition(name)
    return response


def disposition(name: str) -> str:
    """The header as StorageHub writes it: spaces round ``=``, no quotes, raw UTF-8.

    Reference: storagehub 1.5, download of a file. WSGI wants header bytes as Latin-1 text (PEP
    3333).
    """
    return f"attachment; filename = {name.encode().decode('latin-1')}"
