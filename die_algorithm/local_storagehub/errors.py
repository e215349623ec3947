"""What StorageHub refuses, as it says so on the wire.

Every error has the HTTP status and the Java class that 1.x sends (reference: storagehub 1.5)::

    HubError
    ├── AuthorizationRequired   401
    ├── InvalidToken            400
    ├── UserNotAuthorized       403
    ├── IdNotFound              404
    ├── InvalidCallParameters   400
    ├── ItemAlreadyExists       400
    ├── InvalidItem             500
    └── BackendGenericError     500
"""

from __future__ import annotations

from typing import ClassVar

_EXCEPTIONS = "org.gcube.common.storagehub.model.exceptions"


class HubError(Exception):
    """A request that cannot be done; the message is a sentence for the client."""

    status: ClassVar[int] = 500
    java_class: ClassVar[str] = f"{_EXCEPTIONS}.StorageHubException"


class AuthorizationRequired(HubError):
    """The request carries nothing that says who asks, or a wrong pair of user name and token."""

    status = 401
    java_class = "org.gcube.smartgears.handlers.application.request.RequestException"


class InvalidToken(HubError):
    """No user has the gCube token of the request. The container in front answers 400, not 401."""

    status = 400
    java_class = "org.gcube.smartgears.handlers.application.request.RequestException"


class UserNotAuthorized(HubError):
    """The item exists but is not for this user, or not for writing."""

    status = 403
    java_class = f"{_EXCEPTIONS}.UserNotAuthorizedException"


class IdNotFound(HubError):
    """No item has this id. Several operations answer 500 in its place: see ``app``."""

    status = 404
    java_class = f"{_EXCEPTIONS}.IdNotFoundException"

    def __init__(self, item_id: str) -> None:
        super().__init__(f"Item with id {item_id} not found")


class InvalidCallParameters(HubError):
    """A parameter is missing, empty or of the wrong kind."""

    status = 400
    java_class = f"{_EXCEPTIONS}.InvalidCallParameters"


class ItemAlreadyExists(HubError):
    """Something of another type has the name already."""

    status = 400
    java_class = f"{_EXCEPTIONS}.ItemAlreadyExistsException"


class InvalidItem(HubError):
    """The item is of a type, or in a place, that the operation does not allow."""

    java_class = f"{_EXCEPTIONS}.InvalidItemException"


class BackendGenericError(HubError):
    """The repository failed, or could not do what was asked."""

    java_class = f"{_EXCEPTIONS}.BackendGenericError"
