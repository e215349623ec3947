from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from die_algorithm.terminal_text import clean_text
from die_algorithm.xml_writer import WPS, child, comment, root, serialise

ANYTHING = st.one_of(
    st.binary(),
    st.text(st.characters(exclude_categories=())),
    st.lists(
        st.sampled_from(
            ["\x1b[31m", "\x1b]0;t\x07", "\x1b", "[", "]", "\x9b", "\r", "\n", "\0", "\ud800", "é"]
        )
    ).map("".join),
)


@given(ANYTHING)
def test_whatever_was_printed_can_be_written_as_xml_and_read_back(raw: bytes | str) -> None:
    document = root(WPS, "Log", wps=WPS)
    child(document, None, "Text", raw if isinstance(raw, str) else clean_text(raw))
    read = etree.fromstring(serialise(document)).findtext("Text") or ""
    assert read == clean_text(raw)
    assert "\x1b" not in read


@pytest.mark.parametrize("text", ["a--b", "---", "-->", "- -", "-", "a \x1b---- b-"])
def test_whatever_is_written_as_a_comment_ends_none(text: str) -> None:
    document = root(WPS, "Log", wps=WPS)
    comment(document, text)
    read = str(etree.fromstring(serialise(document)).xpath("string(comment())"))
    assert read.replace(" ", "") == clean_text(text).replace(" ", "")


@given(ANYTHING)
def test_clean_text_stays_as_it_is(raw: bytes | str) -> None:
    once = clean_text(raw)
    assert clean_text(once) == once


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff")))
def test_text_without_control_characters_is_kept(text: str) -> None:
    assert clean_text(text) == text
    assert clean_text(text.encode()) == text


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"\x1b[1;31mred\x1b[0m", "red"),
        (b"\x1b[2J\x1b[Htop", "top"),
        (b"\x1b]0;a window's title\x07after", "after"),
        (b"\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        (b"\x1b]0;never closed\nnext line", "\nnext line"),
        (b"\x1bMup", "up"),
        (b"10%\r20%\r\ndone", "10%\n20%\ndone"),
        (b"tab\tstays", "tab\tstays"),
        (b"bell\x07", "bell\ufffd"),
        (b"nul\x00", "nul\ufffd"),
        (b"latin-1 \xe9", "latin-1 \ufffd"),
        (b"]]> <b> &amp;", "]]> <b> &amp;"),
        ("\x9b31m", "\ufffd31m"),
        ("lone \ud83d", "lone \ufffd"),
        ("\ufffe\uffff", "\ufffd\ufffd"),
        ("emoji \N{SNAKE}", "emoji \N{SNAKE}"),
    ],
)
def test_what_a_terminal_would_obey_is_gone(raw: bytes | str, text: str) -> None:
    assert clean_text(raw) == text
