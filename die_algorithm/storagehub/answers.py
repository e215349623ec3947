"""What an answer's status and headers mean, whoever received it. StorageHub is not trusted with them.

StorageHub's releases do not agree on a status for "not found", so several mean "this item cannot be
used"; any 2xx is success (reference: storagehub 1.5). That is certain only where StorageHub's own form
says so: a 500 of its backend, or a page of whoever stands before it, may have another cause.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from die_algorithm.errors import (
    ItemDoubtful,
    ItemUnusable,
    StorageHubError,
    StorageHubUnavailable,
    TokenRejected,
)
from die_algorithm.paced_http import retry_after

_INVALID_TOKEN = re.compile(
    r"\binvalid\b.{0,40}\btoken\b|\btoken\b.{0,80}\binvalid\b", re.IGNORECASE | re.DOTALL
)


#: StorageHub's own exceptions that say that the item is wrong. Java's have names that look like them.
_ABOUT_ITEM = re.compile(
    r"(?:(?:Id|Item|Path)NotFound|InvalidItem|InvalidCallParameters|Item(?:Already)?Exists?)"
    r"(?:Exception|Error)?"
)
_LOCKED = re.compile(r"ItemLocked(?:Exception|Error)?")
_ABOUT_USER = re.compile(r"NotAuthorized")


class Forbidden(ItemUnusable):
    """The item is there, but not for this user."""


class ForbiddenPage(Forbidden, ItemDoubtful):
    """The same in another form than StorageHub's: perhaps somebody before it lets nobody through."""


class RefusalPage(ItemDoubtful):
    """A refusal in another form than StorageHub's: perhaps StorageHub is not there."""


class AnswerTooLong(StorageHubUnavailable):
    """An answer is longer than any is read; another try would not help, but asking for less."""


class MayPass(Exception):
    """Wraps an error after which another try makes sense. It never leaves the client.

    Args:
        error: what it comes to if no try helps.
        after: seconds that StorageHub wants us to wait (``Retry-After``).
    """

    def __init__(self, error: StorageHubError, after: float = 0.0) -> None:
        super().__init__(str(error))
        self.error = error
        self.after = after


def error_of(status: int, headers: Mapping[str, str], text: str) -> StorageHubError | MayPass:
    """The error that an answer without success means.

    Args:
        status: the HTTP status.
        headers: the headers, found whatever their case.
        text: the beginning of the body, if it could be read.
    """
    thrown = _thrown(text)
    if status == 500 and thrown is not None:
        return _failure(thrown)
    if status >= 500 or status in {408, 410, 429}:
        away = StorageHubUnavailable(f"StorageHub does not serve the request (HTTP {status}).")
        return MayPass(away, retry_after(headers))
    if 300 <= status < 400:
        return StorageHubUnavailable(
            "StorageHub answers with a redirect, which is not followed because it would take the "
            "user token elsewhere. Its address in the settings may be wrong."
        )
    return _refusal(status, text, is_page=thrown is None)


def _failure(thrown: str) -> StorageHubError | MayPass:
    """What a 500 in StorageHub's form means: most releases wrap what went wrong in the backend."""
    text = "StorageHub cannot use the item (HTTP 500)."
    if _ABOUT_USER.search(thrown):
        return Forbidden(text)
    if _ABOUT_ITEM.fullmatch(thrown):
        return ItemUnusable(text)
    if _LOCKED.fullmatch(thrown):
        return MayPass(ItemUnusable(text))
    return MayPass(ItemDoubtful("StorageHub fails over the item (HTTP 500)."))


def _refusal(status: int, text: str, *, is_page: bool) -> StorageHubError:
    if status == 401 or (status == 400 and _INVALID_TOKEN.search(text)):
        return TokenRejected("StorageHub does not accept the user token.")
    if status == 403:
        forbidden = ForbiddenPage if is_page else Forbidden
        return forbidden("StorageHub does not let this user have the item.")
    if status in {400, 404, 406, 409}:
        unusable = RefusalPage if is_page else ItemUnusable
        return unusable(f"StorageHub cannot use the item (HTTP {status}).")
    return StorageHubError(f"StorageHub refuses the request (HTTP {status}).")


def _thrown(text: str) -> str | None:
    """The Java class in StorageHub's own error, ``{"message": …, "exceptionClass": …}``.

    Returns:
        Empty if the error does not name one, None if it is no such error.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or not ("message" in data or "exceptionClass" in data):
        return None
    return str(data.get("exceptionClass", "")).rpartition(".")[2]
