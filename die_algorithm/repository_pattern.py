"""Patterns of repositories, as an operator writes them in the policy file.

::

    d4science/sortapp       this repository of Docker Hub
    alpine                  the official one of this name
    d4science/*             all of a name space; '*' is any part of a name between slashes
    ghcr.io/d4science/**    all that begins so; '**' is any text
    **                      everything

A pattern matches whole names, registry included, or not at all (reference: safety, A8).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator

from die_algorithm.image_reference import DOCKER_HUB, HUB_NAMES, is_registry

_PATTERN = re.compile(r"(?:[a-z0-9.-]+(?::\d{1,5})?/)?[a-z0-9._/*-]+", re.ASCII)
_WILD = {"**": ".*", "*": "[^/]*"}


def _whole(value: str) -> str:
    """The pattern with its registry."""
    if not _PATTERN.fullmatch(value):
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
    return f"{registry}/{rest}"


def _split(value: str) -> tuple[str, str]:
    """The registry of a pattern, and the rest."""
    first, slash, rest = value.partition("/")
    if not slash or (not any(mark in first for mark in (".", ":")) and first != "localhost"):
        return DOCKER_HUB, value
    if not is_registry(first):
        raise ValueError(f"{first!r} is no registry; name it in full, or begin with '**'")
    return (DOCKER_HUB if first in HUB_NAMES else first), rest


#: A pattern as it is kept: with its registry.
RepositoryPattern = Annotated[str, AfterValidator(_whole)]


def matching(patterns: Iterable[str], text: str) -> str | None:
    """The first pattern that matches a name as a whole, or None."""
    return next((pattern for pattern in patterns if _matches(pattern, text)), None)


def _matches(pattern: str, text: str) -> bool:
    parts = re.split(r"(\*\*|\*)", pattern)
    expression = "".join(_WILD.get(part, re.escape(part)) for part in parts)
    return re.fullmatch(expression, text, re.ASCII) is not None
