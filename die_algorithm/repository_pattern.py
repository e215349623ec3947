"""Patterns of repositories, as an operator writes them in the policy file.

::

    d4science/sortapp       this repository of Docker Hub
    alpine                  the official one of this name
    d4science/*             all of a name space; '*' is any part of a name between slashes
    ghcr.io/d4science/**    all that begins so; '**' is any text
    **                      everything

A pattern matches whole names, registry included, or not at all (reference: safety, A8). One that can
match no name is a mistake, which would leave open what it was to close.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator

from die_algorithm.image_reference import DOCKER_HUB, HUB_MACHINES, HUB_NAMES, is_registry

_PATTERN = re.compile(r"(?:[a-z0-9.-]+(?::\d{1,5})?/)?[a-z0-9._/*-]+", re.ASCII)
_WILD = {"**": ".*", "*": "[^/]*"}


#: Parts of a repository's name on Docker Hub.
_HUB_PARTS = 2


def with_registry(value: str) -> str:
    """The pattern as it is kept: ``alpine`` is ``docker.io/library/alpine``.

    Raises:
        ValueError: it is none, or can match nothing.
    """
    if not _PATTERN.fullmatch(value) or not all(value.split("/")):
        raise ValueError(f"{value!r} is no pattern of repositories like d4science/*")
    if value == "*":
        raise ValueError("write '**' for every repository, 'library/*' for Docker's official ones")
    if value.startswith("**"):
        return value
    registry, rest = _split(value)
    if registry == DOCKER_HUB and "/" not in rest and "**" not in rest:
        if "*" in rest:
            raise ValueError(f"write '{DOCKER_HUB}/**' for all of Docker Hub")
        rest = f"library/{rest}"
    if registry == DOCKER_HUB and "**" not in rest and rest.count("/") >= _HUB_PARTS:
        raise ValueError(f"{value!r} matches nothing: names on Docker Hub have two parts")
    return f"{registry}/{rest}"


def canonical_registry(value: str) -> str:
    """A registry under the name that its images have.

    Raises:
        ValueError: it is none.
    """
    if value in HUB_MACHINES:
        raise ValueError(f"write '{DOCKER_HUB}' for Docker Hub, not {value!r}")
    if not is_registry(value):
        raise ValueError(f"{value!r} is no registry like docker.io or registry.example.org:5000")
    return DOCKER_HUB if value in HUB_NAMES else value


def _split(value: str) -> tuple[str, str]:
    """The registry of a pattern, and the rest."""
    first, slash, rest = value.partition("/")
    if not slash or (not any(mark in first for mark in (".", ":")) and first != "localhost"):
        return DOCKER_HUB, value
    if "*" in first:
        raise ValueError(f"{first!r} is no registry; name it in full, or begin with '**'")
    return canonical_registry(first), rest


#: A pattern as it is kept.
RepositoryPattern = Annotated[str, AfterValidator(with_registry)]


def matching(patterns: Iterable[str], text: str) -> str | None:
    """The first pattern that matches a name as a whole, or None."""
    return next((pattern for pattern in patterns if _matches(pattern, text)), None)


def _matches(pattern: str, text: str) -> bool:
    parts = re.split(r"(\*\*|\*)", pattern)
    expression = "".join(_WILD.get(part, re.escape(part)) for part in parts)
    return re.fullmatch(expression, text, re.ASCII) is not None
