"""How a user token may be written: what programs, engines and registries make of one when they repeat it.

That is as it is; in base64, alone or within something longer, as HTTP Basic is; with characters
percent-encoded, once or several times, or escaped as in JSON; and any of these broken over several lines.
"""

from __future__ import annotations

import base64
import dataclasses
import re
import string
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator

#: So much of a token's beginning is never shown, whatever comes after it (reference: safety 2.8).
_BEGINNING = 12
_MASK = "***"

# A run of what it begins with is tried once, at its first character: otherwise a long one takes ages.
_ESCAPE = re.compile(
    r"%(?:25)*(?P<percent>[0-9A-Fa-f]{2})"
    r"|(?<!\\)\\+(?:u00(?P<json>[0-9A-Fa-f]{2})|(?P<slash>/))"
    # Where a line was broken, perhaps within a frame.
    r"|(?P<fold>(?<![ \t|\u2502])[ \t|\u2502]*\r?\n[ \t|\u2502]*)"
)
#: Characters of the longest escape; a text may begin within one.
_LONGEST_ESCAPE = 7
#: The last characters of a token that betray nothing, and that any text may begin with by chance.
_HARMLESS = 4
_IN_WORD = re.compile(r"[A-Za-z0-9]")
# What ends with a letter and is no word: an escape as ``repr`` writes it, a colour of a terminal.
_MARK = re.compile(r"(?:\\[bfnrt]|\x1b\[[0-9;]*m)\Z")
_LONGEST_MARK = 16
_RAGGED_END = re.compile(r"[A-Za-z0-9+/_-]?=*")
_RAGGED_START = frozenset(string.ascii_letters + string.digits + "+/_-")
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


@dataclasses.dataclass(frozen=True)
class Form:
    """What a text shows of a token that it holds in one form.

    In base64 the characters at both ends mix with what stands around the token.
    """

    #: In lower case, as forms are compared: some programs change that of all they print.
    text: str
    is_base64: bool = False
    ragged_start: bool = False
    ragged_end: bool = False


class UnescapedText:
    """A text without its escapes and broken lines, which knows where its characters stood.

    Args:
        text: as it was written.
        joins_lines: whether what is broken over several lines counts as one word.
    """

    def __init__(self, text: str, *, joins_lines: bool = True) -> None:
        parts: list[str] = []
        self._starts, self._pieces = [0], [(0, 0)]
        length = last = 0
        for found in _ESCAPE.finditer(text):
            if found["fold"] and not joins_lines:
                continue
            literal = text[last : found.start()]
            code = found["percent"] or found["json"]
            character = chr(int(code, 16)) if code else found["slash"] or ""
            parts += literal, character
            length, last = length + len(literal), found.end()
            if character:
                self._add(length, found.start(), found.end() - found.start() - 1)
                length += 1
            self._add(length, last, 0)
        self.plain = "".join((*parts, text[last:]))

    def _add(self, start: int, source: int, more: int) -> None:
        """Note a piece: where it is here and there, and how much longer each of its characters is there."""
        self._starts.append(start)
        self._pieces.append((source, more))

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where in the text as it was written a part of ``plain`` begins and ends."""
        return self._source(start)[0], self._source(end - 1)[1]

    def _source(self, index: int) -> tuple[int, int]:
        piece = bisect_right(self._starts, index) - 1
        source, more = self._pieces[piece]
        begin = source + index - self._starts[piece]
        return begin, begin + 1 + more


def in_lower_case(text: str) -> str:
    """A text in which all ASCII letters are small, and every character has kept its place."""
    return text.translate(_LOWER)


def masked(text: str, secret: str) -> str:
    """A text with ``***`` in place of a token, however it is written, and of its beginning alone."""
    written = UnescapedText(text)
    return covered(text, (written.span(*found) for found in _found(written.plain, secret)))


def masked_alone(text: str, secret: str) -> str:
    """A text with ``***`` in place of a whole token, however it is written, that is no part of a word."""
    # It may be broken over lines, and its line may have been joined to another's.
    both = [UnescapedText(text, joins_lines=joins) for joins in (True, False)]
    return covered(
        text,
        [written.span(*found) for written in both for found in _found_alone(written.plain, secret)],
    )


def covered(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """A text with ``***`` in place of parts of it, of which each is given by its start and end."""
    parts: list[str] = []
    last = 0
    for start, end in sorted(spans):
        if end > last:
            parts += text[last : max(start, last)], _MASK
            last = end
    return "".join((*parts, text[last:]))


def is_in(text: str, secret: str) -> bool:
    """Whether a text holds the whole of a token, however it is written."""
    plain = in_lower_case(UnescapedText(text).plain)
    return any(form.text in plain for form in forms(secret))


def rest_at_start(text: str, secret: str) -> int:
    """How many characters a token goes on for in a text that may begin within one.

    Nothing would find such a rest: it begins anywhere within the token, or within an escape.
    """
    longest, reach = 0, _LONGEST_ESCAPE * len(secret)
    for skipped in range(min(_LONGEST_ESCAPE, len(text))):
        written = UnescapedText(text[skipped : skipped + reach])
        if rest := _rest(in_lower_case(written.plain), secret):
            longest = max(longest, skipped + written.span(0, rest)[1])
    return longest


def _rest(plain: str, secret: str) -> int:
    """The length of the longest end of a form with which a text begins."""
    longest = _HARMLESS
    for form in forms(secret):
        for length in range(longest + 1, min(len(form.text), len(plain)) + 1):
            if plain.startswith(form.text[-length:]):
                longest = length
    return longest if longest > _HARMLESS else 0


def _found(plain: str, secret: str) -> Iterator[tuple[int, int]]:
    """Where forms of a token begin and end, or what there is of them."""
    lower = in_lower_case(plain)
    for form in forms(secret):
        beginning = form.text[:_BEGINNING]
        start = lower.find(beginning)
        while start >= 0:
            shown = _common(form.text, lower[start : start + len(form.text)])
            end = start + shown
            yield _with_ragged_ends(plain, start, end, form, whole=shown == len(form.text))
            start = lower.find(beginning, end)


def _found_alone(plain: str, secret: str) -> Iterator[tuple[int, int]]:
    """Where whole forms of a token begin and end; in base64 they may stand within something longer."""
    lower = in_lower_case(plain)
    for form in forms(secret):
        start = lower.find(form.text)
        while start >= 0:
            end = start + len(form.text)
            if form.is_base64 or not _is_within_word(lower, start, end):
                yield _with_ragged_ends(plain, start, end, form, whole=True)
            # Not from the next character on: of what repeats itself each would be looked at anew.
            start = lower.find(form.text, end)


def _is_within_word(text: str, start: int, end: int) -> bool:
    before, after = text[max(start - _LONGEST_MARK, 0) : start], text[end : end + 1]
    return (_IN_WORD.fullmatch(before[-1:]) and not _MARK.search(before)) or bool(
        _IN_WORD.fullmatch(after)
    )


def _common(one: str, other: str) -> int:
    """How many characters two texts begin with that are the same."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(one), len(other)))


def _with_ragged_ends(
    plain: str, start: int, end: int, form: Form, *, whole: bool
) -> tuple[int, int]:
    if form.ragged_start and plain[start - 1 : start] in _RAGGED_START:
        start -= 1
    if form.ragged_end and whole and (mixed := _RAGGED_END.match(plain, end)):
        end = mixed.end()
    return start, end


def forms(secret: str) -> Iterator[Form]:
    """A token as it is and in base64, after any number of other bytes."""
    yield Form(in_lower_case(secret))
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for before in range(3):
            yield _base64(secret, encode, before)


def _base64(secret: str, encode: Callable[[bytes], bytes], before: int) -> Form:
    """The characters that depend on the token alone, after ``before`` (modulo 3) other bytes."""
    encoded = encode(b"\0" * before + secret.encode()).decode()
    core = encoded[-(-before * 4 // 3) : (before + len(secret)) * 8 // 6]
    return Form(
        in_lower_case(core),
        is_base64=True,
        ragged_start=before > 0,
        ragged_end=(before + len(secret)) % 3 > 0,
    )
