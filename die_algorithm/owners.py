"""Whose tokens they are: what StorageHub has said of late."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

from die_algorithm.models import UserToken

#: Seconds for which an answer of StorageHub's counts.
_KEPT = 60.0
#: Seconds for which it counts that a token was somebody's.
_REMEMBERED = 12 * 3600.0
#: Answers that are kept; above that the oldest ones go.
_MOST = 4096
_V = TypeVar("_V")


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
        #: Apart from the answers: tokens that are nobody's, of which there may be any number, push none out.
        self._somebodys: OrderedDict[bytes, float] = OrderedDict()
        self._lock = threading.Lock()

    def now(self, token: UserToken) -> str | None:
        """The owner of a token, asked for now; None if it is nobody's."""
        owner = self._ask(token)
        key = _digest(token)
        now = time.monotonic()
        with self._lock:
            _keep(self._answers, key, (now + _KEPT, owner))
            if owner is None:
                self._somebodys.pop(key, None)
            else:
                _keep(self._somebodys, key, now + _REMEMBERED)
        return owner

    def was_somebodys(self, token: UserToken) -> bool:
        """Whether the last answer of the last hours was that a token has an owner. Nobody is asked."""
        with self._lock:
            return time.monotonic() < self._somebodys.get(_digest(token), 0.0)

    def of_late(self, token: UserToken) -> str | None:
        """The same, or what was answered in the last minute.

        For those who only read: a token that was withdrawn opens for a minute more what it opened.
        """
        with self._lock:
            until, owner = self._answers.get(_digest(token), (0.0, None))
        return owner if time.monotonic() < until else self.now(token)


def _keep(known: OrderedDict[bytes, _V], key: bytes, value: _V) -> None:
    known[key] = value
    known.move_to_end(key)
    while len(known) > _MOST:
        known.popitem(last=False)


def _digest(token: UserToken) -> bytes:
    return hashlib.sha256(token.secret.encode()).digest()
