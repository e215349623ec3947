"""Which image to run: a strict grammar for image references.

Docker's own parsers disagree with each other about upper case, registries and ids, so none of them
decides here. The grammar is a subset of theirs: whatever it accepts means the same image to every
Docker engine (reference: safety 2.6). Which registries may be named is the operator's choice; without
one it is Docker Hub alone.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection

from die_algorithm.errors import InvalidParameterValue

#: The input at fault, for the locator of an exception report.
_IMAGE = "Image"

#: The registry of a reference that names none.
DOCKER_HUB = "docker.io"
#: How it may be called.
HUB_NAMES = (DOCKER_HUB, "index.docker.io")
#: Machines and pages of Docker Hub, by which no engine knows its images.
HUB_MACHINES = ("registry-1.docker.io", "registry.hub.docker.com", "hub.docker.com")
_REGISTRY = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?(?::[1-9]\d{0,4})?", re.ASCII)
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
#: The digest of a manifest.
DIGEST = re.compile(r"sha256:[a-f0-9]{64}", re.ASCII)
_IMAGE_ID = re.compile(r"[a-f0-9]{64}", re.ASCII)
_DEFAULT_TAG = "latest"
_OFFICIAL = "library/"
#: The engine counts the whole name, registry included, but neither tag nor digest.
_MAX_NAME = 255
_MAX_TEXT = _MAX_NAME + len(":") + 128 + len("@sha256:") + 64
#: ``sha256:…`` would be read as a repository of that name with a very long tag.
_ALGORITHMS = ("md5", "sha256", "sha384", "sha512")
#: Transports and addresses of other tools: skopeo, Apptainer, buildx (safety, I13). As ``file:x`` they
#: could be official images with a tag, but none is called so; ``docker:dind`` is one, so docker is not here.
_TRANSPORTS = frozenset(
    {"containers-storage", "dir", "docker-archive", "docker-daemon", "docker-image", "file", "http"}
    | {"https", "oci", "oci-archive", "oci-layout", "oras", "ostree", "shub", "sif", "tarball"}
)

_EXAMPLE = "Write it as 'docker run' does: user/name:tag."


@dataclasses.dataclass(frozen=True)
class ImageReference:
    """An image in a registry, by tag, by digest, or by both; then the digest decides."""

    #: Name in its registry, such as ``d4science/sortapp`` or ``library/alpine``.
    repository: str
    #: None only if there is a digest.
    tag: str | None
    #: ``sha256:`` and 64 hexadecimal digits.
    digest: str | None
    #: Host name of the registry, with its port if that is an unusual one.
    registry: str = DOCKER_HUB

    @classmethod
    def parse(cls, text: str, registries: Collection[str] = (DOCKER_HUB,)) -> ImageReference:
        """Read what a user gave as the image.

        Without tag and digest the tag is ``latest``, and a name of one component on Docker Hub is an
        official image, as for ``docker run``.

        Args:
            text: as the user wrote it.
            registries: those that may be named; a name without one is on Docker Hub.

        Raises:
            InvalidParameterValue: it is no reference to an image in one of them; says why.
        """
        _refuse_what_is_no_reference(text)
        name, at, digest = text.partition("@")
        registry, rest = _split_registry(name, registries)
        path, colon, tag = rest.rpartition(":")
        if not colon or "/" in tag:
            path, colon, tag = path + colon + tag, "", ""
        _check_repository(path, registry)
        if colon and not _TAG.fullmatch(tag):
            raise _refused("The image's tag is wrong: letters, digits, '_', '.' and '-' only.")
        if at and not DIGEST.fullmatch(digest):
            raise _refused("The image's digest is wrong: 'sha256:' and 64 hexadecimal digits.")
        return cls(
            repository=_full_path(path, registry),
            tag=tag if colon else None if at else _DEFAULT_TAG,
            digest=digest if at else None,
            registry=registry,
        )

    @classmethod
    def recorded(cls, canonical: str) -> ImageReference:
        """Read what :attr:`canonical` has given or an operator has written, whatever its registry is."""
        return cls.parse(canonical, (canonical.partition("/")[0],))

    @property
    def name(self) -> str:
        """Registry and repository, such as ``docker.io/d4science/sortapp``."""
        return f"{self.registry}/{self.repository}"

    @property
    def place(self) -> str:
        """What people call its registry."""
        return "Docker Hub" if self.registry == DOCKER_HUB else self.registry

    @property
    def canonical(self) -> str:
        """The full form, such as ``docker.io/d4science/sortapp:latest``."""
        return self.name + self._suffix

    @property
    def familiar(self) -> str:
        """The short form that people use, such as ``alpine:3.20``; it parses to the same."""
        if self.registry != DOCKER_HUB:
            return self.canonical
        name = self.repository.removeprefix(_OFFICIAL)
        if _looks_like_registry(name):
            name = f"{DOCKER_HUB}/{name}"
        if name in _TRANSPORTS:
            name = self.repository
        return name + self._suffix

    def pinned(self, digest: str) -> ImageReference:
        """The same image by a digest alone, whatever its tag comes to mean.

        Args:
            digest: ``sha256:`` and 64 hexadecimal digits.
        """
        return dataclasses.replace(self, tag=None, digest=digest)

    @property
    def _suffix(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return tag + (f"@{self.digest}" if self.digest else "")


def _refuse_what_is_no_reference(text: str) -> None:
    """Refuse, with a hint, what a user may take for an image reference.

    Every character is checked before anything else, and nothing is ever normalised: some letters
    outside ASCII would turn into others.
    """
    if not text:
        raise _refused(f"No image is named. {_EXAMPLE}")
    if " " in text or text.startswith("-"):
        raise _refused(f"The image takes no options and no blanks. {_EXAMPLE}")
    if any(not "!" <= character <= "~" for character in text):
        raise _refused(f"The image holds a character that is not printable ASCII. {_EXAMPLE}")
    if "://" in text or text.partition(":")[0] in _TRANSPORTS:
        raise _refused(f"The image is a name, not an address. {_EXAMPLE}")
    if _IMAGE_ID.fullmatch(text):
        raise _refused(f"An image id does not say where the image comes from. {_EXAMPLE}")
    if len(text) > _MAX_TEXT:
        raise _refused("The image's name is too long.")


def _split_registry(name: str, registries: Collection[str]) -> tuple[str, str]:
    """The registry that a name is of, and the rest."""
    first, _, rest = name.partition("/")
    if not _looks_like_registry(name):
        return DOCKER_HUB, name
    if first in HUB_NAMES:
        first = DOCKER_HUB
    if first in registries:
        return first, rest
    if set(registries) <= {DOCKER_HUB}:
        raise _refused(f"Only images on Docker Hub can be run, no other registry's. {_EXAMPLE}")
    raise _refused(f"Only images of these registries can be run: {', '.join(registries)}.")


def _check_repository(path: str, registry: str) -> None:
    is_on_hub = registry == DOCKER_HUB
    if path != path.lower():
        raise _refused("The image's name has upper-case letters; names in registries have none.")
    if is_on_hub and path.count("/") > 1:
        raise _refused(f"The image's name has too many parts. {_EXAMPLE}")
    if not all(_COMPONENT.fullmatch(component) for component in path.split("/")):
        raise _refused(f"The image's name is wrong. {_EXAMPLE}")
    name = path.removeprefix(_OFFICIAL)
    if is_on_hub and name == "scratch":
        raise _refused("The image 'scratch' is empty and cannot be run.")
    if name in _ALGORITHMS:
        raise _refused(f"A digest alone does not say where the image comes from. {_EXAMPLE}")
    if len(f"{registry}/{_full_path(path, registry)}") > _MAX_NAME:
        raise _refused("The image's name is too long.")


def _full_path(path: str, registry: str) -> str:
    return path if "/" in path or registry != DOCKER_HUB else _OFFICIAL + path


def is_registry(text: str) -> bool:
    """Whether a text names a registry, in the form that a reference would name it in."""
    return bool(_REGISTRY.fullmatch(text)) and _looks_like_registry(f"{text}/")


def _looks_like_registry(path: str) -> bool:
    """Whether Docker takes what is before the first slash for a registry's address."""
    first, slash, _ = path.partition("/")
    return bool(slash) and (first == "localhost" or "." in first or ":" in first)


def _refused(text: str) -> InvalidParameterValue:
    return InvalidParameterValue(text, _IMAGE)
