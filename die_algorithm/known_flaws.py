"""Versions of the engine and of its parts through which a container could get out or do harm.

From the advisories of the projects named (reference: safety 3.2 and 2.4). Distributions mend old
versions without counting up, so this warns; their own advisories decide.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping

#: Debian writes ``~rc93`` for ``-rc93``.
_VERSION = re.compile(r"v?(\d+)\.(\d+)(?:\.(\d+))?(?:[-~](alpha|beta|rc)[-.]?(\d+))?")


@dataclasses.dataclass(frozen=True)
class Flaw:
    """A flaw, and where it is mended."""

    component: str
    identifier: str
    what: str
    #: The first good version of each line of releases, the oldest first: three numbers, and a fourth
    #: if it is a release candidate. What is of no line, and older than the last of these, has the flaw.
    mended: tuple[tuple[int, ...], ...]

    def is_in(self, version: tuple[int, ...]) -> bool:
        """Whether a version has it."""
        for good in self.mended[:-1]:
            if version[:2] == good[:2]:
                return _ordered(version) < _ordered(good)
        return _ordered(version) < _ordered(self.mended[-1])

    @property
    def good_versions(self) -> list[str]:
        """The first good versions, for a person to read."""
        return [
            ".".join(map(str, good[:3])) + "".join(f"-rc{number}" for number in good[3:])
            for good in self.mended
        ]


ENGINE, CONTAINERD, RUNC = "Engine", "containerd", "runc"

FLAWS = (
    Flaw(ENGINE, "CVE-2021-21285", "a bad image ends the engine", ((19, 3, 15), (20, 10, 3))),
    Flaw(
        ENGINE,
        "CVE-2023-28840",
        "encrypted overlay networks take packets from anybody",
        ((20, 10, 24), (23, 0, 3)),
    ),
    Flaw(
        ENGINE,
        "CVE-2024-29018",
        "name look-ups leave networks that are closed",
        ((23, 0, 11), (25, 0, 5), (26, 0, 0, 3)),
    ),
    Flaw(
        ENGINE,
        "CVE-2025-54410",
        "a reload of firewalld opens networks to each other",
        ((25, 0, 13), (28, 0, 0)),
    ),
    Flaw(RUNC, "CVE-2019-5736", "a container overwrites runc itself", ((1, 0, 0, 7),)),
    Flaw(RUNC, "CVE-2021-30465", "mounts lead out of the container", ((1, 0, 0, 95),)),
    Flaw(RUNC, "CVE-2024-21626", "a working folder leads out of the container", ((1, 1, 12),)),
    Flaw(
        RUNC,
        "CVE-2025-31133, CVE-2025-52565, CVE-2025-52881",
        "masked files of the kernel can be written",
        ((1, 2, 8), (1, 3, 3), (1, 4, 0, 3)),
    ),
    Flaw(
        CONTAINERD,
        "CVE-2024-25621",
        "folders of containerd can be read by everybody",
        ((1, 7, 29), (2, 0, 7), (2, 1, 5), (2, 2, 0)),
    ),
)


def known_flaws(versions: Mapping[str, str]) -> list[Flaw]:
    """The flaws of an engine.

    Args:
        versions: by component, as the engine tells them, such as ``{"runc": "1.1.5+ds1"}``. What
            cannot be read counts as good.
    """
    found = []
    for flaw in FLAWS:
        version = _version(versions.get(flaw.component, ""))
        if version and flaw.is_in(version):
            found.append(flaw)
    return found


def _version(text: str) -> tuple[int, ...]:
    match = _VERSION.match(text)
    if match is None:
        return ()
    major, minor, patch, stage, number = match.groups()
    version = (int(major), int(minor), int(patch or 0))
    if stage is None:
        return version
    # Alphas and betas come before the first candidate.
    return (*version, int(number) if stage == "rc" else 0)


def _ordered(version: tuple[int, ...]) -> tuple[float, ...]:
    """A version to compare: a release comes after all of its candidates."""
    return version if len(version) > 3 else (*version, math.inf)
