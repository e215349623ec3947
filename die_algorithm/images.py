"""Which images there are, and which of them may be run."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable

from die_algorithm.errors import ImageNotFound, RegistryUnavailable
from die_algorithm.image_policy import ImagePolicy
from die_algorithm.image_reference import ImageReference
from die_algorithm.models import ImageFacts
from die_algorithm.registry import Registry
from die_algorithm.registry_rests import RegistryRests

LOGGER = logging.getLogger(__name__)

#: Questions that may be under way at once, and seconds to wait for the place of one.
_MOST_QUESTIONS = 6
_PLACE_PATIENCE = 1.0


class Images:
    """Answers from the operator's policy and from the registries. All threads may share one.

    Args:
        policy: the operator's rules.
        registry: asks registries; None: nobody here does.
        ask_engine: asks a Docker engine for a digest where the registry cannot be asked from here: it may
            know a way there, such as a mirror of its own. None: there is no engine to ask.
    """

    def __init__(
        self,
        policy: ImagePolicy,
        registry: Registry | None,
        ask_engine: Callable[[ImageReference], str] | None = None,
    ) -> None:
        self._policy = policy
        self._registry = registry
        self._ask_engine = ask_engine
        self._places = threading.BoundedSemaphore(_MOST_QUESTIONS)
        self._rests = RegistryRests()
        #: The same of questions that the engine is asked in place of the registry, if that is away.
        self._direct = RegistryRests()

    @property
    def registries(self) -> tuple[str, ...]:
        """Those that a reference may name."""
        return self._policy.registries

    def check(self, image: ImageReference, owner: str, vre: str | None) -> None:
        """See whether a user may run what a reference names: as :meth:`ImagePolicy.check`.

        Raises:
            ImageForbidden: no.
        """
        self._policy.check(image, owner, vre)

    def check_resolved(self, image: ImageReference, facts: ImageFacts) -> None:
        """See whether what was found may be run: as :meth:`ImagePolicy.check_resolved`.

        Raises:
            ImageForbidden: no.
        """
        self._policy.check_resolved(image, facts)

    def check_recorded(self, image: ImageReference, digest: str) -> None:
        """As :meth:`check_resolved`, for what was found when other rules may have held.

        Args:
            image: the reference.
            digest: what it meant then.

        Raises:
            ImageForbidden: it may not be run any more.
            ImageError: the registry, which alone knows the size, cannot tell it now.
        """
        needs_size = self._policy.max_size is not None
        facts = self.resolve(image.pinned(digest)) if needs_size else ImageFacts(digest=digest)
        self.check_resolved(image, facts)

    def try_to_resolve(self, image: ImageReference) -> ImageFacts | None:
        """As :meth:`resolve`, for a client that waits: None if nobody can tell within seconds.

        Raises:
            ImageNotFound, ImageUnusable: as the registry says.
        """
        if self._registry is None or self._rests.rests(image.registry):
            return None
        if not self._places.acquire(timeout=_PLACE_PATIENCE):
            return None
        try:
            return self._registry.resolve(image)
        except RegistryUnavailable as error:
            LOGGER.warning("The registry of %s: %s", image.canonical, error)
            self._rests.note(image.registry, error)
            return None
        finally:
            self._places.release()

    def resolve(self, image: ImageReference) -> ImageFacts:
        """What a reference means now.

        Raises:
            ImageNotFound, ImageUnusable: as the registry says.
            RegistryUnavailable: nobody can tell now, or could a moment ago.
            SwarmError: the engine was asked, and cannot answer.
        """
        if self._registry is not None and (known := self._registry.known(image)):
            return known
        with self._rests.turn(image.registry):
            return self._resolved(image)

    def _resolved(self, image: ImageReference) -> ImageFacts:
        if self._registry is not None:
            # Engines do not tell how large an image is.
            if self._ask_engine is None or self._policy.max_size is not None:
                return self._registry.resolve(image)
            with contextlib.suppress(RegistryUnavailable), self._direct.turn(image.registry):
                return self._registry.resolve(image)
        return ImageFacts(digest=self._digest_by_engine(image))

    def confirm(self, image: ImageReference) -> None:
        """See that an image is still to be had that was found before, from nothing that is remembered.

        Args:
            image: with a digest.

        Raises:
            ImageNotFound, ImageUnusable: it is not.
            RegistryUnavailable: nobody can tell now, or could a moment ago.
            SwarmError: the engine was asked, and cannot answer.
        """
        with self._rests.turn(image.registry):
            if self._registry is None:
                self._digest_by_engine(image)
            elif self._ask_engine is None:
                self._registry.confirm(image)
            else:
                self._confirm(self._registry, image)

    def _confirm(self, registry: Registry, image: ImageReference) -> None:
        try:
            with self._direct.turn(image.registry):
                registry.confirm(image)
        except RegistryUnavailable as away:
            self._confirm_by_engine(image, away)

    def _confirm_by_engine(self, image: ImageReference, away: RegistryUnavailable) -> None:
        try:
            self._digest_by_engine(image)
        except ImageNotFound:
            # What its registry had, and may have, is not called missing because a mirror lacks it.
            raise away from None

    def _digest_by_engine(self, image: ImageReference) -> str:
        if self._ask_engine is None:
            raise RegistryUnavailable("Nobody here can ask the image registry.")
        return self._ask_engine(image)
