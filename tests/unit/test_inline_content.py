"""Files within a request: a token in them is found in whatever form it stands there."""

from __future__ import annotations

import base64
import random
import tracemalloc
from collections.abc import Callable

import pytest

from die_algorithm import inline_content
from die_algorithm.inline_content import holds_token
from die_algorithm.models import InputContent, UserToken

TOKEN = UserToken("a11ce000-0000-4000-8000-00000000ca4a-98187548")
SECRET = TOKEN.secret.encode()
FORMS: dict[str, bytes] = {
    "plain": SECRET,
    "upper": SECRET.upper(),
    "percent": SECRET.replace(b"-", b"%2d"),
    "percent of percent": SECRET.replace(b"-", b"%252D"),
    "basic": b"Authorization: Basic " + base64.b64encode(b"alice:" + SECRET),
    "json": "".join(f"\\u{ord(c):04x}" for c in TOKEN.secret).encode(),
    "base64, shifted": base64.b64encode(b"ab" + SECRET + b"c"),
}
AROUND: dict[str, Callable[[bytes], bytes]] = {
    "alone": lambda form: form,
    "in text": lambda form: b"a line\n" + form + b"\nanother",
    "between bytes that are no text": lambda form: b"\xff\0\xc3" + form + b"\x80\xe2\x82",
    "over the end of a window": lambda form: b"x" * (inline_content._WINDOW - 7) + form,
    "at the end of much": lambda form: b"\xe4" * 2**20 + form,
}


def content(data: bytes, media_type: str = "text/plain") -> InputContent:
    return InputContent(data=data, media_type=media_type)


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("form", FORMS)
def test_a_token_is_found_in_content(form: str, around: str) -> None:
    assert holds_token(content(AROUND[around](FORMS[form])), TOKEN)


def test_a_token_is_found_in_the_media_type() -> None:
    assert holds_token(content(b"a", f"text/{TOKEN.secret}"), TOKEN)


@pytest.mark.parametrize(
    "data",
    [b"", b"a", SECRET[:-1], b"%", random.Random(1).randbytes(2**18), b"%41" * 2**16],
    ids=["empty", "short", "beginning", "percent", "random", "long"],
)
def test_no_token_is_found_where_none_is(data: bytes) -> None:
    assert not holds_token(content(data), TOKEN)


@pytest.mark.parametrize("data", [b"%", b"%41", b"%2541", b"\xe4%", b"a"])
def test_a_search_takes_no_more_memory_the_larger_the_content(data: bytes) -> None:
    def peak(size: int) -> int:
        given = content((data * size)[:size])
        tracemalloc.start()
        try:
            assert not holds_token(given, TOKEN)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(2**21) < 2 * peak(2**18)
