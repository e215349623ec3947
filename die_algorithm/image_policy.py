"""Which images may be run, by whom: the operator's rules.

A repository is allowed if it is in a registry that may be used, a pattern of the general list ``allow``
or of one of the user's groups matches it, and no pattern of a list ``deny`` does: what is denied is
denied, whatever allows it. Without a general list ``allow`` everything is allowed; an empty list
allows nothing (reference: safety, A8 and A11). The patterns are those of
:mod:`die_algorithm.repository_pattern`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from die_algorithm.errors import ImageForbidden
from die_algorithm.image_reference import DIGEST, DOCKER_HUB, ImageReference
from die_algorithm.models import ImageFacts
from die_algorithm.repository_pattern import (
    RepositoryPattern,
    canonical_registry,
    matching,
    with_registry,
)
from die_algorithm.settings_values import Size

_TAG_PATTERN = re.compile(r"[A-Za-z0-9._*-]+", re.ASCII)
_VRE = re.compile(r"(?:/[^/%\s]+)+")
_PLATFORM = re.compile(r"[a-z0-9]+/[a-z0-9]+", re.ASCII)


def _tag_pattern(value: str) -> str:
    if not _TAG_PATTERN.fullmatch(value):
        raise ValueError(f"{value!r} is no pattern of tags")
    return value


def _digest(value: str) -> str:
    if not DIGEST.fullmatch(value):
        raise ValueError(f"{value!r} is no digest: 'sha256:' and 64 hexadecimal digits")
    return value


def _vre(value: str) -> str:
    if not _VRE.fullmatch(value):
        raise ValueError(
            f"{value!r} is no VRE like /d4science.research-infrastructures.eu/D4Research/Lab: a path "
            "that begins with '/', does not end with it and has no '%'"
        )
    return value


def _user(value: str) -> str:
    if not value or value != value.strip():
        raise ValueError(f"{value!r} is no user's name: it is empty, or has blanks at its ends")
    return value


def _platform(value: str) -> str:
    if value and not _PLATFORM.fullmatch(value):
        raise ValueError(f"{value!r} is no platform like linux/amd64")
    return value


class _Rules(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ImageGroup(_Rules):
    """What holds for some users beside what holds for all."""

    name: str
    #: Contexts of the user token, such as ``/d4science.research-infrastructures.eu/D4Research/Lab``.
    vres: tuple[Annotated[str, AfterValidator(_vre)], ...] = ()
    users: tuple[Annotated[str, AfterValidator(_user)], ...] = ()
    allow: tuple[RepositoryPattern, ...] = ()
    deny: tuple[RepositoryPattern, ...] = ()

    @model_validator(mode="after")
    def _has_members(self) -> Self:
        if not self.vres and not self.users:
            raise ValueError(f"the group {self.name!r} has neither 'vres' nor 'users'")
        return self

    def has(self, owner: str, vre: str | None) -> bool:
        """Whether a user is in it."""
        return owner in self.users or (vre is not None and vre in self.vres)


class ImagePolicy(_Rules):
    """The table ``[images]`` of the policy file."""

    registries: tuple[Annotated[str, AfterValidator(canonical_registry)], ...] = (DOCKER_HUB,)
    #: None: every repository of these registries.
    allow: tuple[RepositoryPattern, ...] | None = None
    deny: tuple[RepositoryPattern, ...] = ()
    forbidden_tags: tuple[Annotated[str, AfterValidator(_tag_pattern)], ...] = ()
    #: Repositories of which a digest must be named, so that nobody changes what is run.
    digest_required: tuple[RepositoryPattern, ...] = ()
    #: Of repositories that match, only these digests are run.
    pinned: Mapping[RepositoryPattern, tuple[Annotated[str, AfterValidator(_digest)], ...]] = Field(
        default_factory=dict
    )
    #: Bytes of all layers as they are fetched.
    max_size: Size | None = None
    #: Empty: that of this machine.
    platform: Annotated[str, AfterValidator(_platform)] = ""
    #: Whom to ask, and how, for the end of refusals.
    contact: str = ""
    groups: tuple[ImageGroup, ...] = ()

    @field_validator("pinned", mode="before")
    @classmethod
    def _is_pinned_once(cls, value: object) -> object:
        # Two names of one repository would become one, with the digests of one.
        names = [with_registry(name) for name in value] if isinstance(value, dict) else []
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"{', '.join(sorted(twice))} is there twice, under two names")
        return value

    @model_validator(mode="after")
    def _groups_have_something_to_allow(self) -> Self:
        if self.allow is None and (group := next((g for g in self.groups if g.allow), None)):
            raise ValueError(
                f"the group {group.name!r} has 'allow', and [images] has none, so that everybody may "
                "run everything. Say there what all may run; 'allow = []' is nothing"
            )
        return self

    def check(self, image: ImageReference, owner: str, vre: str | None) -> None:
        """See whether a user may run what a reference names.

        Args:
            image: the reference.
            owner: the user.
            vre: the context of the user token, None if it does not tell.

        Raises:
            ImageForbidden: no; says by which rule, and whom to ask.
        """
        if image.registry not in self.registries:
            raise self._refused(image, f"the registry {image.registry} is not among 'registries'")
        groups = [group for group in self.groups if group.has(owner, vre)]
        self._check_repository(image, groups)
        tag = image.tag or ""
        if tag and (pattern := matching(self.forbidden_tags, tag)):
            raise self._refused(image, f"the tag {tag} is in 'forbidden_tags' ({pattern})")
        if image.digest is None and (pattern := matching(self.digest_required, image.name)):
            raise self._refused(
                image,
                f"{pattern} is in 'digest_required': name the image with its digest, as "
                "name@sha256:…",
            )
        if image.digest:
            self._check_digest(image, image.digest)

    def _check_repository(self, image: ImageReference, groups: Iterable[ImageGroup]) -> None:
        if pattern := matching(self.deny, image.name):
            raise self._refused(image, f"'deny' has {pattern}")
        for group in groups:
            if pattern := matching(group.deny, image.name):
                raise self._refused(image, f"'deny' of the group {group.name} has {pattern}")
        allowed = [*(self.allow or ()), *(pattern for group in groups for pattern in group.allow)]
        if self.allow is not None and not matching(allowed, image.name):
            empty = "" if allowed else ", which is empty"
            raise self._refused(image, f"it is not in 'allow'{empty}")

    def check_resolved(self, image: ImageReference, facts: ImageFacts) -> None:
        """See whether the image may be run that a registry has found for a reference.

        Raises:
            ImageForbidden: no; says by which rule.
        """
        self._check_digest(image, facts.digest)
        if self.max_size is None:
            return
        if facts.size is None:
            raise self._refused(image, "its size is not known, and 'max_size' limits it")
        if facts.size > self.max_size:
            raise self._refused(
                image,
                f"it has {facts.size} bytes to be fetched, and 'max_size' is "
                f"{self.max_size.human_readable()}",
            )

    def _check_digest(self, image: ImageReference, digest: str) -> None:
        for pattern, digests in self.pinned.items():
            if matching((pattern,), image.name) and digest not in digests:
                raise self._refused(image, f"'pinned' has other digests for {pattern}")

    def _refused(self, image: ImageReference, rule: str) -> ImageForbidden:
        ask = self.contact or "the operator of this service"
        return ImageForbidden(
            f"The image {image.familiar} may not be run here: {rule}. To have it allowed, ask {ask}."
        )
