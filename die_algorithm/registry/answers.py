"""The few fields of a registry's answers that matter here (OCI image specification v1.1)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from die_algorithm.image_reference import DIGEST
from die_algorithm.models import TOKEN_FILE_LABEL

#: The fields by which engines understand manifests and indexes.
_FIELDS = (
    *("schemaVersion", "mediaType", "config", "layers", "manifests"),
    *("digest", "size", "urls", "platform", "os", "architecture", "variant"),
)
_FOLDED = frozenset(name.casefold() for name in _FIELDS)
#: What manifests and indexes are, by their types; those that can be understood here.
MANIFEST_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)


class _Fields(BaseModel):
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)


#: Names that engines take for others (containerd, ``platforms.Normalize``).
_ARCHITECTURES = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "aarch64": "arm64",
    "i386": "386",
    "armhf": "arm",
    "armel": "arm",
}
#: Of architectures that have an older one which their engines run, too: the variants that all of them
#: run, and the older one (containerd, ``platforms.Only``).
_OLDER = {
    "linux/amd64": (("", "v1"), "linux/386"),
    "linux/arm64": (("", "v8", "8"), "linux/arm"),
}

_NULL_IS_EMPTY = BeforeValidator(lambda value: "" if value is None else value)
_EMPTY_IF_NULL = BeforeValidator(lambda value: value or {})


class _Platform(_Fields):
    os: Annotated[str, _NULL_IS_EMPTY] = ""
    architecture: Annotated[str, _NULL_IS_EMPTY] = ""
    variant: Annotated[str, _NULL_IS_EMPTY] = ""


class Descriptor(_Fields):
    """What another document, or a layer, is known by."""

    digest: str = Field(pattern=f"^{DIGEST.pattern}$")
    size: int = Field(ge=0)
    media_type: object = Field(None, alias="mediaType")


class Variant(_Fields):
    """One of an index; of those for other platforms nothing more matters."""

    digest: str
    platform: Annotated[_Platform, _EMPTY_IF_NULL] = _Platform()

    @property
    def platform_name(self) -> str:
        """Such as ``linux/amd64``; empty if it does not tell, but its configuration does."""
        architecture = self.platform.architecture.lower()
        if not architecture:
            return self.platform.os
        # Without a system, it is the engine's own.
        return f"{self.platform.os.lower() or 'linux'}/{_ARCHITECTURES.get(architecture, architecture)}"


class Manifest(_Fields):
    """An image, or an index of the variants of one; both have the same address."""

    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] = ()
    #: Of an index.
    manifests: tuple[Variant, ...] | None = None

    @property
    def parts(self) -> tuple[Descriptor, ...]:
        """Configuration and layers of an image."""
        return self.layers if self.config is None else (self.config, *self.layers)

    def variants(self, platform: str) -> tuple[Variant, ...]:
        """Those of an index that an engine on a platform may choose; which, is its affair.

        Nothing, if some engines would choose one for an older platform: it is not what would be found here.
        """
        variants = self.manifests or ()
        named = tuple(each for each in variants if each.platform_name == platform)
        common, older = _OLDER.get(platform, ((), ""))
        if not any(each.platform.variant.lower() in common for each in named) and any(
            each.platform_name == older for each in variants
        ):
            return ()
        return named or tuple(each for each in variants if not each.platform_name)


class _Labels(_Fields):
    """Of all labels, which may be very many, the one that counts."""

    token_file: object = Field("", alias=TOKEN_FILE_LABEL)


# A validator before these would see, and so make, all of the labels.
class _ContainerConfig(_Fields):
    labels: _Labels | None = Field(None, alias="Labels")


class ImageConfig(_Fields):
    """The configuration of an image."""

    os: str = ""
    architecture: str = ""
    config: _ContainerConfig | None = None

    @property
    def platform_name(self) -> str:
        """Such as ``linux/amd64``."""
        return f"{self.os}/{self.architecture}"

    @property
    def wants_token_file(self) -> bool:
        """Whether its label asks for the user token as a file."""
        labels = self.config.labels if self.config else None
        return labels is not None and str(labels.token_file).lower() == "true"


class _Token(_Fields):
    token: Annotated[str, _NULL_IS_EMPTY] = Field("", repr=False)
    access_token: Annotated[str, _NULL_IS_EMPTY] = Field("", repr=False)
    expires_in: Annotated[float, BeforeValidator(lambda value: 60 if value is None else value)] = 60

    @property
    def secret(self) -> str:
        """The token, under whichever of its two names it came."""
        return self.token or self.access_token


def manifest_of(document: bytes) -> Manifest:
    """Understand an image's manifest or an index, in the one way in which it can be understood.

    Engines take a field's name in any case, and the last of several: what is not exactly once there, as
    it is written in the specification, would be something else to them (CVE-2021-41190 is of that kind).

    Raises:
        OtherAddresses: an engine would fetch something from elsewhere than its registry.
        ValueError: it is neither, or could be both.
    """
    try:
        content = json.loads(document, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if not all(each.is_plain for each in _objects(content)):
        raise ValueError("it can be read in two ways")
    # The engine's machine would fetch them (containerd, ``dockerFetcher.Fetch``): they would lead it
    # to whatever it reaches, past the operator's rules for containers and for registries.
    if any(each.get("urls") for each in _objects(content)):
        raise OtherAddresses("it names addresses of its own")
    manifest = MANIFEST.validate_python(content)
    if manifest.manifests is not None and ("config" in content or "layers" in content):
        raise ValueError("it is an index and an image")
    # Engines follow what is of such a type wherever it stands (containerd, ``images.Children``).
    if any(each.media_type in MANIFEST_TYPES for each in manifest.parts):
        raise ValueError("a part of it is another image")
    return manifest


class OtherAddresses(ValueError):
    """An image names addresses that parts of it are to be fetched from."""


class _Object(dict[str, object]):
    """The fields of a JSON object that engines know, and whether there is one way to read it."""

    __slots__ = ("is_plain",)

    def __init__(self, pairs: list[tuple[str, object]]) -> None:
        super().__init__(pairs)
        self.is_plain = len(pairs) == len(self) and self.keys() <= set(_FIELDS)


def _object(pairs: list[tuple[str, object]]) -> _Object | None:
    """Keep what engines know; an object of which they know nothing is none, however many there are."""
    known = [pair for pair in pairs if pair[0].casefold() in _FOLDED]
    return _Object(known) if known else None


def _objects(content: object) -> Iterator[_Object]:
    """A manifest and what it is made of; what else there is, annotations for example, is anybody's."""
    found = [content]
    while found:
        each = found.pop()
        if isinstance(each, list):
            found += each
        elif isinstance(each, _Object):
            yield each
            found += (each.get(name) for name in ("config", "layers", "manifests", "platform"))


def is_document(body: bytes) -> bool:
    """Whether something looks like a manifest at all, and not like a page of some proxy."""
    try:
        return isinstance(json.loads(body, object_pairs_hook=_object), _Object)
    except (ValueError, RecursionError):
        return False


class _Schema(_Fields):
    version: int = Field(0, alias="schemaVersion")


def is_schema_1(document: bytes) -> bool:
    """Whether it is an image in the form of before 2016, which no present engine runs."""
    try:
        return _SCHEMA.validate_json(document).version == 1
    except ValidationError:
        return False


_SCHEMA = TypeAdapter(_Schema)
MANIFEST = TypeAdapter(Manifest)
CONFIG = TypeAdapter(ImageConfig)
TOKEN = TypeAdapter(_Token)
