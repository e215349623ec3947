"""Whose tokens they are: what StorageHub has said of late."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from die_algorithm.models import UserToken

#: Seconds for which an answer of StorageHub's counts.
_KEPT = 60.0
#: Answers that are kept; above that the oldest ones go.
_MOST = 4096


class Owners:
    """Asks to whom tokens belong, and remembers the answers for a minute.

    So clients who poll do not multiply the questions to StorageHub. It may be used by several threads.
    It knows tokens by their digests only.

    Args:
        ask: tells a token's owner, or None if it is nobody's; what it raises is not remembered.
    """

    def __init__(self, ask: Callable[[UserToken], str | None]) -> None:
        self._ask = ask
        self._answers: OrderedDict[bytes, tuple[float, str | None]] = OrderedDict()
        self._lock = threading.Lock()

    def now(self, token: UserToken) -> str | None:
        """The owner of a token, asked for now; None if it is nobody's."""
        owner = self._ask(token)
        key = _digest(token)
        with self._lock:
            self._answers[key] = (time.monotonic() + _KEPT, owner)
            self._answers.move_to_end(key)
            while len(self._answers) > _MOST:
                self._answers.popitem(last=False)
        return owner

    def of_late(self, token: UserToken) -> str | None:
        """The same, or what was answered in the last minute.

        For those who only read: a token that was withdrawn opens for a minute more what it opened.
        """
        with self._lock:
            until, owner = self._answers.get(_digest(token), (0.0, None))
        return owner if time.monotonic() < until else self.now(token)


def _digest(token: UserToken) -> bytes:
    return hashlib.sha256(token.secret.encode()).digest()
