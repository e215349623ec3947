"""No library with a flaw that is known of is asked for, or installed: a gate that needs no network."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]


def advisories() -> Iterator[tuple[str, str, str]]:
    """Library, name of the flaw, first version without it."""
    listed = tomllib.loads(Path(__file__).with_name("advisories.toml").read_text())
    for library, flaws in listed.items():
        for name, fixed in flaws.items():
            yield library, name, fixed


def requirements() -> dict[str, Requirement]:
    """What the project asks for, by name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    return {found.name: found for found in map(Requirement, asked)}


def last_before(text: str) -> Version:
    """A version that is lower than the given one, and higher than what was released before it."""
    return Version(f"{text}.dev0")


@pytest.mark.parametrize(("library", "flaw", "fixed"), advisories())
def test_a_version_with_a_known_flaw_is_neither_asked_for_nor_installed(
    library: str, flaw: str, fixed: str
) -> None:
    asked = requirements()[library].specifier
    assert not asked.contains(last_before(fixed), prereleases=True), flaw
    assert Version(version(library)) >= Version(fixed), flaw
