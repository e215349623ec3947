"""Registries that have not answered: who asks them again, and when.

A registry that hangs, or limits how often it is asked, is asked by one at a time and not again until it
has rested. The others learn at once what it said last, and so hold up no question to another registry.
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
import threading
import time
from collections.abc import Iterator

from die_algorithm.errors import ImageDoubtful, ImageError, RegistryUnavailable

#: Seconds that a registry rests. Of chance, so that several services do not ask it at the same moment.
_REST = (10.0, 30.0)
#: It may ask for more by ``Retry-After``, but gets no more than this; and by how much, times, it gets more.
_LONGEST_REST = 300.0
_SPREAD = 1.1
#: Seconds for which the others wait for a question under way, before they hold that the registry hangs.
_TURN_PATIENCE = 2.0


@dataclasses.dataclass(frozen=True)
class _Refusal:
    error: RegistryUnavailable
    #: By the monotonic clock.
    rests_until: float

    def repeated(self) -> RegistryUnavailable:
        """The same error anew: one that several threads raise would collect all their tracebacks."""
        return type(self.error)(str(self.error))


class RegistryRests:
    """Remembers of each registry that does not answer what it said last. All threads may share one."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._refusals: dict[str, _Refusal] = {}
        self._asked_since: dict[str, float] = {}

    def rests(self, registry: str) -> bool:
        """Whether a registry is not to be asked now."""
        with self._changed:
            return self._resting(registry) is not None

    def note(self, registry: str, error: RegistryUnavailable) -> None:
        """Let a registry rest that has not answered. One that was wrong about one image has.

        Args:
            registry: its name.
            error: how it has not.
        """
        if isinstance(error, ImageDoubtful):
            self._forget(registry)
            return
        asked_for = min(error.retry_after, _LONGEST_REST) * random.uniform(1.0, _SPREAD)  # noqa: S311
        pause = max(random.uniform(*_REST), asked_for)  # noqa: S311
        with self._changed:
            self._refusals[registry] = _Refusal(error, time.monotonic() + pause)

    @contextlib.contextmanager
    def turn(self, registry: str) -> Iterator[None]:
        """Ask a registry in the block, as the only one who does.

        Raises:
            RegistryUnavailable: as it did last, if it rests, or is being asked again for the first time;
                or it does not answer who asks it just now.
        """
        self._take(registry)
        try:
            yield
        except RegistryUnavailable as error:
            self.note(registry, error)
            raise
        except ImageError:
            self._forget(registry)  # it has answered
            raise
        else:
            self._forget(registry)
        finally:
            with self._changed:
                del self._asked_since[registry]
                self._changed.notify_all()

    def _take(self, registry: str) -> None:
        with self._changed:
            while (since := self._asked_since.get(registry)) is not None:
                if refusal := self._refusals.get(registry):
                    raise refusal.repeated()
                left = since + _TURN_PATIENCE - time.monotonic()
                if left <= 0:
                    raise RegistryUnavailable("The image registry takes long to answer.")
                self._changed.wait(left)
            if refusal := self._resting(registry):
                raise refusal.repeated()
            self._asked_since[registry] = time.monotonic()

    def _resting(self, registry: str) -> _Refusal | None:
        refusal = self._refusals.get(registry)
        return refusal if refusal and time.monotonic() < refusal.rests_until else None

    def _forget(self, registry: str) -> None:
        with self._changed:
            self._refusals.pop(registry, None)
