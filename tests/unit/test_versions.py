"""Versions are compared as numbers."""

from __future__ import annotations

import pytest

from die_algorithm.versions import release


@pytest.mark.parametrize(
    ("version", "numbers"),
    [
        ("1.44", (1, 44)),
        ("20.10.24+dfsg1", (20, 10)),
        ("29.0.0-rc.1", (29, 0)),
        ("v25", (25,)),
        ("dev", ()),
        ("", ()),
    ],
)
def test_the_first_two_numbers_count(version: str, numbers: tuple[int, ...]) -> None:
    assert release(version) == numbers


def test_a_version_of_two_digits_is_newer_than_one_of_one() -> None:
    assert release("1.9") < release("1.41")
