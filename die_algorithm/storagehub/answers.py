"""What an answer's status and headers mean, whoever received it. StorageHub is not trusted with them.

StorageHub's releases do not agree on a status for "not found", so several mean "this item cannot be
used"; any 2xx is success (reference: storagehub 1.5).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from die_algorithm.errors import (
    ItemUnusable,
    StorageHubError,
    StorageHubUnavailable,
    TokenRejected,
)
from die_algorithm.paced_http import retry_after

_INVALID_TOKEN = re.compile(
    r"\binvalid\b.{0,40}\btoken\b|\btoken\b.{0,80}\binvalid\b", re.IGNORECASE | re.DOTALL
)


class Forbidden(ItemUnusable):
    """The item is there, but not for this user."""


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
    if status == 500 and _is_error_form(text):
        return MayPass(ItemUnusable("StorageHub cannot use the item (HTTP 500)."))
    if status >= 500 or status in {408, 410, 429}:
        away = StorageHubUnavailable(f"StorageHub does not serve the request (HTTP {status}).")
        return MayPass(away, retry_after(headers))
    if 300 <= status < 400:
        return StorageHubUnavailable(
            "StorageHub answers with a redirect, which is not followed because it would take the "
            "user token elsewhere. Its address in the settings may be wrong."
        )
    return _refusal(status, text)


def _refusal(status: int, text: str) -> StorageHubError:
    if status == 401 or (status == 400 and _INVALID_TOKEN.search(text)):
        return TokenRejected("StorageHub does not accept the user token.")
    if status == 403:
        return Forbidden("StorageHub does not let this user have the item.")
    if status in {400, 404, 406, 409}:
        return ItemUnusable(f"StorageHub cannot use the item (HTTP {status}).")
    return StorageHubError(f"StorageHub refuses the request (HTTP {status}).")


def _is_error_form(text: str) -> bool:
    """Whether this is StorageHub's own error: ``{"message": …, "exceptionClass": …}``."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(data, dict) and ("message" in data or "exceptionClass" in data)
