"""What can be asked of registries."""

from __future__ import annotations

import hashlib
import platform
import threading
import time
from collections import OrderedDict

from pydantic import ValidationError

from die_algorithm.errors import ImageDoubtful, ImageUnusable, RegistryUnavailable
from die_algorithm.image_reference import DIGEST, ImageReference
from die_algorithm.image_refusals import wrong_platform
from die_algorithm.models import ImageFacts
from die_algorithm.registry import answers
from die_algorithm.registry.calls import Calls

_MANIFEST_TYPES = ", ".join(answers.MANIFEST_TYPES)
#: What Linux calls processors, and registries otherwise. Not the names that engines understand in an index
#: (``answers``): there, armv7l and i686 fit none.
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
#: The engine cannot stack more (moby, ``maxLayerDepth``).
_MOST_LAYERS = 125
#: Variants of an image for one platform; of arm there are four.
_MOST_VARIANTS = 8
#: Indexes in one another.
_MOST_LEVELS = 2
#: Images whose facts are kept: what has a digest never changes.
_KEPT = 512


class Registry:
    """Asks the registries of images about them. All threads may share one.

    Docker Hub counts who fetches manifests, but not who asks for their digests: each question asks for
    the digest, and the rest is fetched once for each (Docker's documentation, "Usage and limits").

    Args:
        hub_url: where Docker Hub's images are asked for: itself, or a mirror.
        wanted_platform: of the Swarm's nodes, such as ``linux/amd64``.
        timeout: seconds for one question, with all that it takes.
    """

    def __init__(self, hub_url: str, wanted_platform: str, timeout: float) -> None:
        self._calls = Calls(hub_url)
        self._platform = wanted_platform
        self._timeout = timeout
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, str], ImageFacts] = OrderedDict()

    def close(self) -> None:
        """Give the connections back."""
        self._calls.close()

    def ping(self, registry: str) -> None:
        """See that a registry answers as one; also one that wants a token first does.

        Args:
            registry: its name, such as ``docker.io``.

        Raises:
            RegistryUnavailable: it does not.
        """
        self._calls.ping(registry, time.monotonic() + self._timeout)

    def resolve(self, image: ImageReference) -> ImageFacts:
        """Ask what an image reference means now, and what that is.

        Raises:
            ImageNotFound: there is no such image, or it is not public.
            ImageUnusable: it is not for this platform, or none that an engine could run.
            RegistryUnavailable: the registry does not answer; RegistryLimits: it limits us.
        """
        deadline = time.monotonic() + self._timeout
        digest = image.digest or self._digest(image, deadline)
        return self.known(image.pinned(digest)) or self._fetched(image, digest, deadline)

    def known(self, image: ImageReference) -> ImageFacts | None:
        """What was found before of an image that is named with its digest; None: nothing."""
        key = (image.name, image.digest or "")
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
            return self._known.get(key)

    def confirm(self, image: ImageReference) -> None:
        """See that a registry still gives an image, from nothing that is remembered.

        Its document is fetched as an engine fetches it first. That counts as a fetch with Docker Hub, and
        so it also tells whether fetching is limited, which the question for a digest does not.

        Args:
            image: with a digest.

        Raises:
            ImageNotFound: there is no such image any more, or it is not public.
            RegistryUnavailable: the registry does not answer; RegistryLimits: it limits us.
        """
        deadline = time.monotonic() + self._timeout
        self._calls.ask("GET", image, f"manifests/{image.digest}", _MANIFEST_TYPES, deadline)

    def _digest(self, image: ImageReference, deadline: float) -> str:
        path = f"manifests/{image.tag}"
        digest = self._calls.ask("HEAD", image, path, _MANIFEST_TYPES, deadline).digest
        if DIGEST.fullmatch(digest):
            return digest
        body = self._calls.ask("GET", image, path, _MANIFEST_TYPES, deadline).body
        if not answers.is_document(body):
            raise RegistryUnavailable("The image registry does not answer as one.")
        return _digest_of(body)

    def _fetched(self, image: ImageReference, digest: str, deadline: float) -> ImageFacts:
        facts = self._facts(image, digest, deadline)
        with self._lock:
            self._known[image.name, digest] = facts
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return facts

    def _facts(self, image: ImageReference, digest: str, deadline: float) -> ImageFacts:
        manifests = self._variants(image, digest, deadline)
        configs = [self._config(image, each, deadline) for each in manifests]
        runnable = [each for each in configs if each.platform_name == self._platform]
        if not runnable:
            raise wrong_platform(image, self._platform)
        return ImageFacts(
            digest=digest,
            # Nodes choose by their processors' abilities, so it may be any of them.
            size=max(sum(layer.size for layer in each.layers) for each in manifests),
            wants_token_file=any(each.wants_token_file for each in runnable),
        )

    def _variants(
        self, image: ImageReference, digest: str, deadline: float
    ) -> list[answers.Manifest]:
        """An image itself; or of an index, and of the indexes in it, what an engine may choose."""
        found = [self._manifest(image, digest, deadline)]
        for _ in range(_MOST_LEVELS):
            chosen = [one.digest for each in found for one in each.variants(self._platform)]
            if len(chosen) > _MOST_VARIANTS:
                raise _no_image(image)
            found = [each for each in found if each.manifests is None]
            found += [self._manifest(image, each, deadline) for each in chosen]
        return found

    def _manifest(self, image: ImageReference, digest: str, deadline: float) -> answers.Manifest:
        if not DIGEST.fullmatch(digest):
            raise _no_image(image)
        body = self._document(image, f"manifests/{digest}", digest, deadline)
        try:
            return answers.manifest_of(body)
        except answers.OtherAddresses:
            raise ImageUnusable(
                f"The image {image.familiar} has parts that lie elsewhere than in its registry, at "
                "addresses that it names; no such image is run here. Build and publish it again, with all "
                "its layers in the registry."
            ) from None
        except ValueError:
            raise _no_image(image) from None

    def _config(
        self, image: ImageReference, manifest: answers.Manifest, deadline: float
    ) -> answers.ImageConfig:
        if manifest.config is None or not manifest.layers:
            raise _no_image(image)
        if len(manifest.layers) > _MOST_LAYERS:
            raise ImageUnusable(
                f"The image {image.familiar} has {len(manifest.layers)} layers; an engine takes "
                f"{_MOST_LAYERS}. Build it with fewer steps."
            )
        digest = manifest.config.digest
        body = self._document(image, f"blobs/{digest}", digest, deadline)
        try:
            config = answers.CONFIG.validate_json(body)
        except ValidationError:
            raise _no_image(image) from None
        if not config.os:
            raise _no_image(image)
        return config

    def _document(self, image: ImageReference, path: str, digest: str, deadline: float) -> bytes:
        body = self._calls.ask("GET", image, path, f"{_MANIFEST_TYPES}, */*", deadline).body
        if _digest_of(body) == digest:
            return body
        # Its digest is that of the part that was signed, so that it is never the document's.
        if answers.is_schema_1(body):
            raise _no_image(image)
        raise ImageDoubtful("The image registry sent another document than was asked for.")


def this_platform() -> str:
    """The platform of this machine, such as ``linux/amd64``, in the words of image registries."""
    machine = platform.machine().lower()
    return f"linux/{_MACHINES.get(machine, machine)}"


def _digest_of(body: bytes) -> str:
    return "sha256:" + hashlib.sha256(body).hexdigest()


def _no_image(image: ImageReference) -> ImageUnusable:
    return ImageUnusable(
        f"{image.familiar} is no image that an engine can run, or is published in a form that is too "
        "old. Build and publish it again with a present Docker."
    )
