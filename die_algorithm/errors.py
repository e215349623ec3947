"""Every exception of the project, in one tree.

::

    DieError
    ├── SettingsError                the operator's configuration is wrong
    ├── RequestError                 a client's request is refused (ows:ExceptionReport)
    │   ├── MissingParameterValue    400
    │   ├── InvalidParameterValue    400
    │   │   └── ItemNotAccessible    the workspace item is missing, forbidden or trashed
    │   ├── VersionNegotiationFailed 400
    │   ├── MalformedRequest         400  (NoApplicableCode)
    │   ├── NotAuthorized            401  (NoApplicableCode)
    │   │   └── TokenNotAccepted     there is a token, but it opens nothing
    │   ├── ImageForbidden           403  (NoApplicableCode)
    │   ├── NotFound                 404  (NoApplicableCode)
    │   ├── Gone                     410  (NoApplicableCode)
    │   ├── MethodNotAllowed         405  (NoApplicableCode)
    │   ├── PreconditionFailed       412  (NoApplicableCode)
    │   ├── FileSizeExceeded         413
    │   ├── UnsupportedMediaType     415  (NoApplicableCode)
    │   ├── KeyReused                422  (InvalidParameterValue)
    │   ├── TooManyRequests          429  (NoApplicableCode)
    │   ├── OperationNotSupported    501
    │   ├── ServerBusy               503
    │   ├── ServiceUnavailable       503  (NoApplicableCode)
    │   └── …                        what WPS 2.0 has codes for: wps2_errors
    ├── JobFault                     ends a job; carries its fault class
    ├── StepInterrupted              a step was broken off, to be repeated or made needless
    ├── StorageHubError
    │   ├── StorageHubUnavailable    it may pass: connection, time-out, 5xx
    │   ├── TokenRejected            StorageHub does not accept the user token
    │   ├── FolderTooDeep            more levels of folders than are followed
    │   ├── ItemUnusable             missing, forbidden or trashed: StorageHub does not say which
    │   │   └── ItemDoubtful         or StorageHub itself is in trouble: it may pass
    │   └── DamagedDownload          what arrived is not what was announced
    ├── LinkError                    a public link
    │   ├── LinkUnavailable          it may pass: connection, time-out, 5xx, cut off
    │   ├── LinkUnusable             gone, forbidden, or leads where nobody may go
    │   └── LinkTooLarge             more bytes than the operator allows
    ├── ImageError
    │   ├── ImageNotFound            the registry knows no such image, or it is not public
    │   ├── ImageUnusable            it is there, but cannot be run: platform, form, size of its manifest
    │   └── RegistryUnavailable      it may pass: the registry does not answer
    │       ├── ImageDoubtful        what it has of one image does not fit together
    │       └── RegistryLimits       it answers that it is asked too often
    ├── SwarmError
    │   ├── SwarmUnavailable         it may pass: the engine's API does not answer
    │   ├── NotASwarm                the engine answers, but is no Swarm manager
    │   ├── ServiceRefused           the engine refuses the service
    │   └── ServiceGone              the service was removed before it was started
    ├── ArchiveError
    │   ├── ArchiveIncomplete        the zip does not hold what the listing names
    │   ├── ArchiveTooLarge          more bytes or entries than the operator allows
    │   ├── NoRoom                   the disk is full
    │   ├── DiskTrouble              it may pass: an error of the disk, too many open files
    │   └── ResultUnwritable         the disk is not full, but the result cannot be written
    ├── StoreError
    │   ├── StoreUnavailable         the jobs' database cannot be read or written
    │   ├── StaleJob                 somebody else wrote this job since it was read, or holds it now
    │   ├── QueueFull                no more jobs may wait
    │   └── UnreadableJob            the job's record is damaged
    ├── UnwritableJob                no database takes the job's text; another try would not help
    └── LocalSwarmError              the private Swarm of this machine cannot be started or used

Messages are for the person who reads them: what happened, whose fault it is, what to do next.
They hold no path, no token and no internal name, because a client may see them.
"""

from __future__ import annotations

from typing import ClassVar

from die_algorithm.models import FaultClass


class DieError(Exception):
    """Base of all errors that this project raises on purpose."""

    @property
    def for_operator(self) -> str:
        """What is told to the operator, who may be told more than a client."""
        return str(self)


class SettingsError(DieError):
    """The operator's configuration is wrong; the message names the setting."""


class RequestError(DieError):
    """A client's request is refused before anything was created.

    Args:
        text: a sentence for the client.
        locator: the parameter at fault, or None where the standard knows none.

    The codes are those of OWS Common 1.1 (06-121r3, table 25) and WPS 1.0.0 (05-007r7, table 62);
    the HTTP status follows OWS Common 2.0 (06-121r9, table 28).
    """

    code: ClassVar[str] = "NoApplicableCode"
    http_status: ClassVar[int] = 400

    def __init__(self, text: str, locator: str | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.locator = locator


class MissingParameterValue(RequestError):
    """A mandatory parameter or input is absent."""

    code = "MissingParameterValue"


class InvalidParameterValue(RequestError):
    """A parameter or input has a value that is not allowed."""

    code = "InvalidParameterValue"


class ItemNotAccessible(InvalidParameterValue):
    """The workspace item that an input names cannot be read with this user token."""


class VersionNegotiationFailed(RequestError):
    """None of the versions the client accepts is offered."""

    code = "VersionNegotiationFailed"


class MalformedRequest(RequestError):
    """The request is not well-formed, or not a WPS request at all."""


class NotAuthorized(RequestError):
    """The request carries no user token, or one that is not accepted."""

    http_status = 401


class TokenNotAccepted(NotAuthorized):
    """The request's user token is expired, not valid yet, or not known (RFC 6750: invalid_token)."""


class ImageForbidden(RequestError):
    """The operator's policy does not let this user run the image."""

    http_status = 403


class NotFound(RequestError):
    """No such path, job or result. Another user's job answers the same way."""

    http_status = 404


class Gone(RequestError):
    """The result was there and has expired."""

    http_status = 410

    def __init__(
        self,
        text: str = "The result of this job has expired. Submit the job again to have it again.",
    ) -> None:
        super().__init__(text)


class MethodNotAllowed(RequestError):
    """The HTTP method is not offered here.

    Args:
        text: a sentence for the client.
        allowed: the methods that are, for the ``Allow`` header.
    """

    http_status = 405

    def __init__(self, text: str, allowed: tuple[str, ...]) -> None:
        super().__init__(text)
        self.allowed = allowed


class PreconditionFailed(RequestError):
    """The file is not the one, or not of the time, that the client has made a condition."""

    http_status = 412


class FileSizeExceeded(RequestError):
    """The request, or one of its inputs, is larger than the service accepts."""

    code = "FileSizeExceeded"
    http_status = 413


class UnsupportedMediaType(RequestError):
    """The request's body is of a type that is not read here."""

    http_status = 415


class KeyReused(RequestError):
    """An idempotency key comes again with another request (draft-ietf-httpapi-idempotency-key)."""

    code = "InvalidParameterValue"
    http_status = 422


class TooManyRequests(RequestError):
    """What is refused is asked for again and again (RFC 6585, clause 4).

    Args:
        text: a sentence for the client.
        retry_after: seconds after which another try is heard.
    """

    http_status = 429

    def __init__(self, text: str, retry_after: int = 30) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class OperationNotSupported(RequestError):
    """The operation is not offered in this version of WPS."""

    code = "OperationNotSupported"
    http_status = 501


class ServerBusy(RequestError):
    """Too many requests are under way.

    Args:
        text: a sentence for the client.
        retry_after: seconds after which another try makes sense.
    """

    code = "ServerBusy"
    http_status = 503

    def __init__(self, text: str, retry_after: int = 30) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class ServiceUnavailable(RequestError):
    """Something this service needs to take a request is away for the moment.

    Args:
        text: a sentence for the client.
        retry_after: seconds after which another try makes sense; None: the request must not be repeated.
    """

    http_status = 503

    def __init__(self, text: str, retry_after: int | None = 30) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class JobFault(DieError):
    """A job cannot succeed any more.

    Args:
        fault_class: whose fault it is.
        text: one sentence: what happened and what to do next.
    """

    def __init__(self, fault_class: FaultClass, text: str) -> None:
        super().__init__(text)
        self.fault_class = fault_class
        self.text = text


class StepInterrupted(DieError):
    """A step was broken off, which is no failure.

    The service stops, or the job was cancelled, has taken too long, or has gone to another worker.
    """


class StorageHubError(DieError):
    """Something went wrong with StorageHub."""


class StorageHubUnavailable(StorageHubError):
    """StorageHub does not answer, or answers with a server error: it may pass."""


class TokenRejected(StorageHubError):
    """StorageHub does not accept the user token."""


class ItemUnusable(StorageHubError):
    """The item is missing, forbidden or trashed; StorageHub does not say which reliably."""


class ItemDoubtful(ItemUnusable):
    """The same, or StorageHub fails or is not who has answered: it may pass."""


class FolderTooDeep(StorageHubError):
    """The folder has more levels below it than this service follows."""


class DamagedDownload(StorageHubError):
    """What arrived is shorter, longer or of another type than announced."""


class LinkError(DieError):
    """A file cannot be fetched from a public link. The message is half a sentence about the link."""


class LinkUnavailable(LinkError):
    """The link's host does not answer, or not to the end: it may pass."""


class LinkUnusable(LinkError):
    """There is no file at the link, not for everybody, of unknown length, or on an untrusted host."""


class LinkTooLarge(LinkError):
    """The file is larger than the operator allows."""


class ImageError(DieError):
    """Something is wrong with an image, or with the registry that has it."""


class ImageNotFound(ImageError):
    """The registry knows no such image, or does not show it to the public."""


class ImageUnusable(ImageError):
    """The image is there, but cannot be run here."""


class RegistryUnavailable(ImageError):
    """The registry does not answer, or not as it should: it may pass.

    Args:
        text: what is wrong with it.
        retry_after: seconds that it wants to be left alone; 0: it does not say.
    """

    def __init__(self, text: str, retry_after: float = 0.0) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class ImageDoubtful(RegistryUnavailable):
    """What the registry has of one image does not fit together; it answers, and others may be whole."""


class RegistryLimits(RegistryUnavailable):
    """The registry is asked too often: it may pass."""


class SwarmError(DieError):
    """Something went wrong with the Docker engine or its Swarm.

    Args:
        text: a sentence for the client.
        reason: what the engine or its library said, for the operator alone.
    """

    def __init__(self, text: str, reason: str = "") -> None:
        super().__init__(text)
        self.reason = reason or text


class SwarmUnavailable(SwarmError):
    """The engine's API does not answer: it may pass."""


class NotASwarm(SwarmError):
    """The engine answers, but it is not a manager of a Swarm."""


class ServiceRefused(SwarmError):
    """The engine refuses to create or start the service, or its secret, or cannot protect as is demanded."""


class ServiceGone(SwarmError):
    """The service was removed before it was started; nothing of it has run by this start."""


class ArchiveError(DieError):
    """The result zip cannot be made."""


class ArchiveIncomplete(ArchiveError):
    """The zip does not hold what the folder's listing names, and could not be repaired."""


class ArchiveTooLarge(ArchiveError):
    """The folder holds more bytes or entries than the operator allows."""


class NoRoom(ArchiveError):
    """There is no room on the disk for the result."""


class DiskTrouble(ArchiveError):
    """The result cannot be written for a reason that may pass."""


class ResultUnwritable(ArchiveError):
    """The result cannot be written where results are published, though there is room."""


class StoreError(DieError):
    """Something went wrong with the jobs' database.

    Args:
        text: a sentence for the client.
        reason: what the database said, for the log.
        remedy: what the operator can do.
    """

    def __init__(self, text: str, reason: str = "", remedy: str = "") -> None:
        super().__init__(text)
        self.reason = reason or text
        self.remedy = remedy

    @property
    def for_operator(self) -> str:
        """The sentence, and what to do."""
        return f"{self} {self.remedy}".rstrip()


class StoreUnavailable(StoreError):
    """The jobs' database cannot be read or written at the moment."""


class StaleJob(StoreError):
    """The job was written by somebody else since it was read."""


class QueueFull(StoreError):
    """As many jobs wait as may.

    Args:
        text: a sentence for the client.
    """


class LocalSwarmError(DieError):
    """The private Swarm cannot be started or used; for the operator, so it may name paths."""


class UnreadableJob(StoreError):
    """The job's record is damaged, or written by another version of this software."""


class UnwritableJob(DieError):
    """The job holds text that no database takes, such as half a character.

    No StoreError: those are tried again.
    """
