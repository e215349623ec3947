"""What the registry knows: any image below ``die-tests/`` or ``d4science/``, in any tag."""

from __future__ import annotations

import hashlib
import re

_HUB = "docker.io/"
_KNOWN = ("die-tests/", "d4science/")
_MISSING = "missing"
_REFERENCE = re.compile(
    r"(?P<repository>[a-z0-9]+(?:[._/:-]+[a-z0-9]+)*?)(?::(?P<tag>[\w.-]+))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)


def is_reference(text: str) -> bool:
    """Whether it names an image at all."""
    return _REFERENCE.fullmatch(text) is not None


def familiar(text: str) -> str:
    """The reference without the registry's name."""
    return text.removeprefix(_HUB)


def digest_of(text: str) -> str | None:
    """The digest that a reference means, or None if the registry has no such image."""
    found = _REFERENCE.fullmatch(familiar(text))
    if found is None or _MISSING in text or not found["repository"].startswith(_KNOWN):
        return None
    digest = "sha256:" + hashlib.sha256(found["repository"].encode()).hexdigest()
    return digest if found["digest"] in (None, digest) else None
