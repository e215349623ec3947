"""The WSGI application: routes, authentication, errors."""

from __future__ import annotations

import dataclasses
import logging
import re
import sqlite3
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from die_algorithm.local_storagehub import around, changing, reading
from die_algorithm.local_storagehub.answers import Call, Endpoint, error_answer, json_answer
from die_algorithm.local_storagehub.authentication import authenticate
from die_algorithm.local_storagehub.errors import BackendGenericError, HubError, IdNotFound
from die_algorithm.local_storagehub.storage import Storage

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

LOGGER = logging.getLogger(__name__)

#: 1.x has its API below the first, 2.x below the second.
BASE_PATHS = (around.BASE_PATH, "/workspace")


@dataclasses.dataclass(frozen=True)
class Route:
    """One operation of the API."""

    method: str
    path: str
    endpoint: Endpoint
    #: Whether an id that does not exist is told by 404; StorageHub 1.x answers 500 where a general
    #: exception of its repository gets in between (reference: storagehub 1.5, Errors).
    tells_missing: bool = True
    #: Whether the operation needs no token.
    is_public: bool = False


_ITEM = "/items/<item_id>"

_WORKSPACE = (
    Route("GET", "/", reading.root),
    Route("GET", "/vrefolder", reading.vre_folder),
    Route("GET", "/vrefolder/recents", reading.vre_recents),
    Route("GET", "/vrefolders", reading.vre_folders),
    Route("GET", "/vrefolders/paged", reading.vre_folders_paged),
    Route("GET", "/shared-with-me", reading.shared_with_me),
    Route("GET", "/count", reading.count),
    Route("GET", "/query", reading.search),
    Route("GET", "/trash", reading.trash),
    Route("DELETE", "/trash/empty", changing.empty_trash),
    Route("PUT", "/trash/restore", changing.restore, tells_missing=False),
    Route("GET", "/items/publiclink/<link>", around.resolve_link),
    Route("GET", _ITEM, reading.item),
    Route("DELETE", _ITEM, changing.delete, tells_missing=False),
    Route("GET", f"{_ITEM}/items/<path:name>", reading.items_by_name),
    Route("GET", f"{_ITEM}/children", reading.children),
    Route("GET", f"{_ITEM}/children/paged", reading.children_paged),
    Route("GET", f"{_ITEM}/children/count", reading.children_count),
    Route("GET", f"{_ITEM}/anchestors", reading.ancestors, tells_missing=False),
    Route("GET", f"{_ITEM}/rootSharedFolder", reading.root_shared_folder, tells_missing=False),
    Route("GET", f"{_ITEM}/acls", reading.access_list, tells_missing=False),
    Route("GET", f"{_ITEM}/publiclink", reading.public_link, tells_missing=False),
    Route("GET", f"{_ITEM}/versions", reading.versions, tells_missing=False),
    Route(
        "GET",
        f"{_ITEM}/versions/<version>/download",
        reading.download_version,
        tells_missing=False,
    ),
    Route("GET", f"{_ITEM}/download", reading.download, tells_missing=False),
    Route("POST", f"{_ITEM}/create/FOLDER", changing.create_folder, tells_missing=False),
    Route("POST", f"{_ITEM}/create/FILE", changing.create_file, tells_missing=False),
    Route("POST", f"{_ITEM}/create/ARCHIVE", changing.create_archive, tells_missing=False),
    Route("POST", f"{_ITEM}/create/GCUBEITEM", changing.create_gcube_item, tells_missing=False),
    Route("POST", f"{_ITEM}/create/EXTERNALFOLDER", changing.create_external_folder),
    Route("PUT", f"{_ITEM}/move", changing.move, tells_missing=False),
    Route("PUT", f"{_ITEM}/copy", changing.copy, tells_missing=False),
    Route("PUT", f"{_ITEM}/rename", changing.rename, tells_missing=False),
    Route("PUT", f"{_ITEM}/metadata", changing.set_metadata, tells_missing=False),
    Route("PUT", f"{_ITEM}/share", changing.share, tells_missing=False),
    Route("PUT", f"{_ITEM}/unshare", changing.unshare, tells_missing=False),
)

_AROUND = (
    Route("GET", "/icproxy/gcube/service/GCoreEndpoint/DataAccess/StorageHub", around.discovery),
    Route("GET", "/rest/2/people/profile", around.profile),
    Route("GET", "/social-networking-library-ws/rest/2/people/profile", around.profile),
    Route("GET", "/shub/<link>", around.resolve_link, is_public=True),
)


class Application:
    """The server's WSGI application.

    Args:
        storage: what it serves.
        public_url: its address as clients see it; None: what each request's ``Host`` says.
    """

    def __init__(self, storage: Storage, public_url: str | None = None) -> None:
        self._storage = storage
        self._public_url = public_url.rstrip("/") if public_url else None
        self._routes = Map(
            [
                *(_rule(route) for route in _AROUND),
                *(_rule(route, base) for base in BASE_PATHS for route in _WORKSPACE),
            ],
            strict_slashes=False,
        )

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        request = Request(environ)
        response = self._answer(request)
        response.headers["X-Content-Type-Options"] = "nosniff"
        # The path alone: the query may hold a token.
        LOGGER.info("%s %s %s", request.method, request.path, response.status_code)
        return response(environ, start_response)

    def _answer(self, request: Request) -> Response:
        # Clients join addresses carelessly; a redirect would lose their body.
        path = re.sub("//+", "/", request.path)
        try:
            matched, values = self._routes.bind_to_environ(request.environ).match(path_info=path)
            return self._call(matched, request, values)
        except HubError as error:
            return error_answer(error)
        except HTTPException as error:
            response = json_answer({"message": error.description or error.name}, error.code or 500)
            if allow := dict(error.get_headers()).get("Allow"):
                response.headers["Allow"] = allow
            return response
        except (sqlite3.Error, OSError):
            LOGGER.exception("%s %s failed", request.method, path)
            return error_answer(BackendGenericError("The repository failed."))

    def _call(self, route: Route, request: Request, values: Mapping[str, str]) -> Response:
        caller = None if route.is_public else authenticate(request, self._storage.users)
        call = Call(
            request=request,
            storage=self._storage,
            signed_in=caller,
            path=values,
            url=self._public_url or request.host_url.rstrip("/"),
        )
        try:
            return route.endpoint(call)
        except IdNotFound as error:
            if route.tells_missing:
                raise
            raise BackendGenericError(str(error)) from error


def _rule(route: Route, base: str = "") -> Rule:
    return Rule(base + route.path, methods=[route.method], endpoint=route)
