from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from die_algorithm.input_files import content_name, linked_name


@pytest.mark.parametrize(
    ("media_type", "name"),
    [
        ("text/csv", "input.csv"),
        ("text/plain", "input.txt"),
        ("text/xml", "input.xml"),
        ("application/zip", "input.zip"),
        ("application/d4science", "input"),
        ("../../x", "input"),
    ],
)
def test_content_is_named_by_its_media_type(media_type: str, name: str) -> None:
    assert content_name(media_type) == name


@pytest.mark.parametrize(
    ("disposition", "segment", "name"),
    [
        ("attachment; filename = data set.csv", "E_a==", "data set.csv"),
        ('attachment; filename="a;b.csv"', "x", "a_b.csv"),
        ('attachment; filename="a\\"b.csv"', "x", "a_b.csv"),
        ("attachment; filename=a.csv; size=3", "x", "a.csv"),
        ("attachment; filename*=UTF-8''%C3%BC.csv; filename=u.csv", "x", "ü.csv"),
        ("attachment; filename = ü.csv".encode().decode("latin-1"), "x", "ü.csv"),
        ("", "b c.txt", "b c.txt"),
        ("attachment", "b.txt", "b.txt"),
        ("inline; filename=", "b.txt", "b.txt"),
        ("", "", "input"),
        ("", "..", "input"),
        ("", "a/../../etc/passwd", "passwd"),
        ("attachment; filename=..\\..\\evil.exe", "x", "evil.exe"),
        ("attachment; filename=/etc/passwd", "x", "passwd"),
        ("", ".bashrc", "bashrc"),
        ("", "-rf", "rf"),
        ("", "$(id)`a`|b.txt", "_(id)_a_b.txt"),
        ("", "a\r\nb\0c", "a_b_c"),
    ],
)
def test_a_linked_file_keeps_its_name_as_far_as_that_is_safe(
    disposition: str, segment: str, name: str
) -> None:
    assert linked_name(disposition, segment) == name


def test_a_long_name_keeps_its_suffix() -> None:
    name = linked_name("", "x" * 500 + ".csv")
    assert (len(name), name[-5:]) == (120, "x.csv")


@given(st.text(), st.text())
def test_any_name_is_safe(disposition: str, segment: str) -> None:
    for header in (disposition, f"attachment; filename={disposition}"):
        name = linked_name(header, segment)
        assert 0 < len(name) <= 120
        assert not set(name) & set("/\\\0\r\n\"'`$|;&<>*?")
        assert not name.startswith(("-", "."))
