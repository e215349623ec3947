"""The few fields of a registry's answers that matter here (OCI image specification v1.1)."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

DIGEST = r"^sha256:[0-9a-f]{64}$"


class _Fields(BaseModel):
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)


class _Platform(_Fields):
    os: str = ""
    architecture: str = ""


class Descriptor(_Fields):
    """What another document, or a layer, is known by."""

    digest: str = Field(pattern=DIGEST)
    size: int = Field(ge=0)
    platform: _Platform = _Platform()

    def is_for(self, platform: str) -> bool:
        """Whether it is the variant for a platform such as ``linux/amd64``."""
        return f"{self.platform.os}/{self.platform.architecture}" == platform


class Manifest(_Fields):
    """An image, or an index of the variants of one; both have the same address."""

    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] = ()
    #: Of an index.
    manifests: tuple[Descriptor, ...] | None = None


class _ContainerConfig(_Fields):
    labels: Annotated[dict[str, str], BeforeValidator(lambda value: value or {})] = Field(
        {}, alias="Labels"
    )


class ImageConfig(_Fields):
    """The configuration of an image."""

    os: str = ""
    architecture: str = ""
    config: Annotated[_ContainerConfig, BeforeValidator(lambda value: value or {})] = (
        _ContainerConfig()
    )


_NULL_IS_EMPTY = BeforeValidator(lambda value: "" if value is None else value)


class _Token(_Fields):
    token: Annotated[str, _NULL_IS_EMPTY] = Field("", repr=False)
    access_token: Annotated[str, _NULL_IS_EMPTY] = Field("", repr=False)
    expires_in: Annotated[float, BeforeValidator(lambda value: 60 if value is None else value)] = 60

    @property
    def secret(self) -> str:
        """The token, under whichever of its two names it came."""
        return self.token or self.access_token


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
