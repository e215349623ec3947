from __future__ import annotations

import pytest

from die_algorithm.locators import known_locator


@pytest.mark.parametrize(
    ("locator", "known"),
    [
        ("FileParam", "FileParam"),
        ("fileparam", "FileParam"),
        ("Result", "Result"),
        ("GetStatus", "GetStatus"),
        ("GCUBE-TOKEN", "gcube-token"),
        ("Run-Deadline", "Run-Deadline"),
        ("JobID", "JobID"),
        (None, None),
        ("", None),
        ("Foo", None),
        ("0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0f9", None),
        ("FileParam=0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0f9", None),
    ],
)
def test_a_locator_is_known_if_it_is_a_name_of_ours(locator: str | None, known: str | None) -> None:
    assert known_locator(locator) == known
