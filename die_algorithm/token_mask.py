"""Keeps user tokens, and what could break a line, out of the log.

What is known of a token is its beginning only: enough to find it, too little to use it. Tokens that
nobody has told of are found by their looks, and by the names that stand before them.
"""

from __future__ import annotations

import base64
import logging
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator

from die_algorithm.models import UserToken

#: Characters by which a token is recognised: no token is shorter (see ``credentials``).
_BEGINNING = 8
#: What came as tokens of late, accepted or not.
_MOST_SUSPECTED = 256
#: Tokens that are known at once; above that the oldest are forgotten.
_MOST = 8192
_MASK = "***"

# Where a token may begin and how far it goes: its own characters, and those of base64.
_RUN = re.compile(rf"[A-Za-z0-9._~+/=-]{{{_BEGINNING},}}", re.ASCII)
# One character, however it is written: in an address, also one within another, or in JSON.
_CHARACTER = re.compile(r"%(?:25)*([0-9A-Fa-f]{2})|\\u00([0-9A-Fa-f]{2})|\\(/)|.", re.DOTALL)
_LOOKS = re.compile(
    # gCube's own tokens
    r"\b[0-9a-f]{8}(?:(?:-|%2d)[0-9a-f]{4}){3}(?:-|%2d)[0-9a-f]{12}(?:-|%2d)\d{5,}"
    # JWTs, and what begins like one
    r"|\beyJ[\w-]{5,}(?:(?:\.|%2e)[\w-]*)*"
    # what follows a name
    r"|(?P<name>\b(?:gcube-?token|access_?token|authorization)[\"']?\s*(?:=|:|,|%3d|%3a)\s*[\"']?"
    r"(?:(?:bearer|basic)\s+)?)[^\s\"'&;,<>]+"
    r"|(?P<scheme>\b(?:bearer|basic)(?:\s|%20)+)[\w.~+/=%-]{16,}",
    re.IGNORECASE | re.ASCII,
)
# What ends a line for a terminal, a journal or an editor, or moves the cursor; tabs do not.
_CONTROLS = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
#: What stands before the further lines of a record, so that none of them looks like one of its own.
_INDENT = "  "


class TokenMask(logging.Filter):
    """Masks tokens in texts and, as a filter of handlers or loggers, in records.

    It may be used by several threads.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        #: All beginnings of a token, in any encoding, by its own.
        self._known: OrderedDict[str, frozenset[str]] = OrderedDict()
        #: How many tokens have a beginning.
        self._beginnings: dict[str, int] = {}
        #: Of tokens that nobody has accepted, all of each, by the beginnings of its encodings.
        self._suspected: OrderedDict[str, frozenset[tuple[str, str]]] = OrderedDict()
        self._wholes: dict[str, list[str]] = {}

    def suspect(self, token: UserToken) -> None:
        """Recognise the whole of what came as a token, and may be none.

        Not by its beginning: anybody could choose one to have other words masked, and so blind the
        operator.
        """
        with self._lock:
            if token.secret in self._suspected:
                self._suspected.move_to_end(token.secret)
                return
            self._suspected[token.secret] = wholes = frozenset(_wholes(token.secret))
            for beginning, whole in wholes:
                self._wholes.setdefault(beginning, []).append(whole)
            if len(self._suspected) > _MOST_SUSPECTED:
                for beginning, whole in self._suspected.popitem(last=False)[1]:
                    self._wholes[beginning].remove(whole)
                    if not self._wholes[beginning]:
                        del self._wholes[beginning]

    def learn(self, token: UserToken) -> None:
        """Recognise a token from now on, by its beginning alone."""
        beginning = token.secret[:_BEGINNING]
        with self._lock:
            if beginning in self._known:
                self._known.move_to_end(beginning)
                return
            self._known[beginning] = forms = frozenset(_beginnings(beginning))
            for form in forms:
                self._beginnings[form] = self._beginnings.get(form, 0) + 1
            if len(self._known) > _MOST:
                self._forget(self._known.popitem(last=False)[1])

    def _forget(self, forms: frozenset[str]) -> None:
        for form in forms:
            self._beginnings[form] -= 1
            if not self._beginnings[form]:
                del self._beginnings[form]

    def mask(self, text: str) -> str:
        """A text with ``***`` in place of every token, however it is encoded.

        Of a token that is known, its first characters are enough.
        """
        looks_masked = _LOOKS.sub(
            lambda found: f"{found['name'] or found['scheme'] or ''}{_MASK}", text
        )
        is_any_known = self._beginnings or self._wholes
        return self._without_known(looks_masked) if is_any_known else looks_masked

    def _without_known(self, text: str) -> str:
        if "%" not in text and "\\" not in text:
            spans = [(start, end) for start, end in self._found(text)]
        else:
            characters = list(_CHARACTER.finditer(text))
            plain = "".join(map(_decoded, characters))
            spans = [
                (characters[start].start(), characters[end - 1].end())
                for start, end in self._found(plain)
            ]
        for start, end in reversed(spans):
            text = text[:start] + _MASK + text[end:]
        return text

    def _found(self, text: str) -> Iterator[tuple[int, int]]:
        """Where tokens begin and end: at the last character that one may have."""
        for run in _RUN.finditer(text):
            for start in range(run.start(), run.end() - _BEGINNING + 1):
                beginning = text[start : start + _BEGINNING]
                if beginning in self._beginnings:
                    yield start, run.end()
                    break
                wholes = self._wholes.get(beginning, ())
                if any(text.startswith(whole, start) for whole in tuple(wholes)):
                    yield start, run.end()
                    break

    def filter(self, record: logging.LogRecord) -> bool:
        """Mask a record, and make its message one line; it is kept in any case."""
        record.msg, record.args = _one_line(self.mask(_message(record))), ()
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        # Whoever formats it anew would see what was masked.
        record.exc_info = None
        for name in ("exc_text", "stack_info"):
            if text := getattr(record, name):
                setattr(record, name, _indented(self.mask(text)))
        return True


def guard_loggers(package: str, *filters: logging.Filter) -> None:
    """Let filters look at all that the loggers of a package are given, and at nothing else."""
    for logger in _loggers_of(package):
        for each in filters:
            logger.addFilter(each)


def unguard_loggers(package: str, *filters: logging.Filter) -> None:
    """Undo :func:`guard_loggers`."""
    for logger in _loggers_of(package):
        for each in filters:
            logger.removeFilter(each)


def _loggers_of(package: str) -> list[logging.Logger]:
    # A logger's filter does not see what its children are given, so each needs it.
    names = list(logging.root.manager.loggerDict)
    return [logging.getLogger(name) for name in names if name.split(".")[0] == package]


def _beginnings(beginning: str) -> Iterator[str]:
    """How a token may begin: as it is, or in base64 after any number of other bytes."""
    yield beginning
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for before in range(3):
            encoded = encode(b"\0" * before + beginning.encode()).decode()
            first = -(-before * 4 // 3)
            yield encoded[first : first + _BEGINNING]


def _wholes(secret: str) -> Iterator[tuple[str, str]]:
    """A token in its encodings, each with its beginning; in base64 what depends on it alone."""
    yield secret[:_BEGINNING], secret
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for before in range(3):
            encoded = encode(b"\0" * before + secret.encode()).decode()
            first, last = -(-before * 4 // 3), (before + len(secret)) * 8 // 6
            yield encoded[first : first + _BEGINNING], encoded[first:last]


def _decoded(character: re.Match[str]) -> str:
    escaped = character[1] or character[2]
    return chr(int(escaped, 16)) if escaped else character[3] or character[0]


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):  # it was called wrongly; what it is about still helps
        return f"{record.msg} {record.args}"


def _one_line(text: str) -> str:
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _indented(text: str) -> str:
    """Several lines, none of which can be taken for the beginning of a record."""
    return "\n".join(_INDENT + _one_line(line) for line in text.split("\n"))
