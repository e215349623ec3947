"""Keeps user tokens, and what could break a line, out of the log.

What is known of a token is its beginning only: enough to find it, too little to use it. Tokens that
nobody has told of are found by their looks, and by the names that stand before them.
"""

from __future__ import annotations

import functools
import logging
import re
import string
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextvars import ContextVar

from die_algorithm.models import UserToken
from die_algorithm.token_forms import UnescapedText, covered, forms, in_lower_case, masked_alone

#: Characters by which a token is recognised: no token is shorter (see ``credentials``).
_BEGINNING = 8
#: What came as tokens in one request, accepted or not.
_MOST_SUSPECTED = 2
#: Tokens that are known at once; above that the oldest are forgotten.
_MOST = 8192
_MASK = "***"

# Where a token may begin and how far it goes: its own characters, and those of base64.
_RUN = re.compile(rf"[A-Za-z0-9._~+/=-]{{{_BEGINNING},}}", re.ASCII)
# An address of a client's, or a part of one.
_NUMBER = re.compile(r"[\d.]+", re.ASCII)
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
#: Characters of a record's message: what others say must not fill the disk.
_LONGEST_MESSAGE = 16384
# A token that is cut is not recognised, nor is an escape.
_OF_A_TOKEN = string.ascii_letters + string.digits + "._~+/=-%\\"
#: What stands before the further lines of a record, so that none of them looks like one of its own.
_INDENT = "  "

# No state of the module: its value belongs to the thread or context that has set it, a request's.
_SUSPECTED: ContextVar[tuple[str, ...]] = ContextVar("suspected_tokens", default=())


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

    def suspect(self, token: UserToken) -> None:
        """Recognise the whole of what came as a token, and may be none, in what this request logs.

        Nowhere else, not by its beginning, and no number: anybody could choose one to have other words
        masked, or the address that he comes from, and so blind the operator.
        """
        if _NUMBER.fullmatch(token.secret):
            return
        others = (secret for secret in _SUSPECTED.get() if secret != token.secret)
        _SUSPECTED.set((token.secret, *others)[:_MOST_SUSPECTED])

    def learn(self, token: UserToken) -> None:
        """Recognise a token from now on, by its beginning alone."""
        beginning = token.secret[:_BEGINNING]
        with self._lock:
            if beginning in self._known:
                self._known.move_to_end(beginning)
                return
            self._known[beginning] = found = frozenset(
                form.text[:_BEGINNING] for form in forms(beginning)
            )
            for form in found:
                self._beginnings[form] = self._beginnings.get(form, 0) + 1
            if len(self._known) > _MOST:
                self._forget(self._known.popitem(last=False)[1])

    def _forget(self, beginnings: frozenset[str]) -> None:
        for form in beginnings:
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
        suspects_masked = functools.reduce(masked_alone, _SUSPECTED.get(), looks_masked)
        return self._without_known(suspects_masked) if self._beginnings else suspects_masked

    def _without_known(self, text: str) -> str:
        # How long a token is, is not known, so the next line cannot be told from the rest of one.
        written = UnescapedText(text, joins_lines=False)
        return covered(text, (written.span(*found) for found in self._found(written.plain)))

    def _found(self, text: str) -> Iterator[tuple[int, int]]:
        """Where known tokens begin and end: at the last character that one may have."""
        lower = in_lower_case(text)
        for run in _RUN.finditer(text):
            for start in range(run.start(), run.end() - _BEGINNING + 1):
                if lower[start : start + _BEGINNING] in self._beginnings:
                    yield start, run.end()
                    break

    def filter(self, record: logging.LogRecord) -> bool:
        """Mask a record, and make its message one line, not too long; it is kept in any case."""
        record.msg, record.args = _one_line(self.mask(_bounded(_message(record)))), ()
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


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):  # it was called wrongly; what it is about still helps
        return f"{record.msg} {record.args}"


def _bounded(text: str) -> str:
    if len(text) <= _LONGEST_MESSAGE:
        return text
    return f"{text[:_LONGEST_MESSAGE].rstrip(_OF_A_TOKEN)} ... ({len(text)} characters)"


def _one_line(text: str) -> str:
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _indented(text: str) -> str:
    """Several lines, none of which can be taken for the beginning of a record."""
    return "\n".join(_INDENT + _one_line(line) for line in text.split("\n"))
