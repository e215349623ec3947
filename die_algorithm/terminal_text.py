"""What a program wrote to its terminal, as text that any document can hold."""

from __future__ import annotations

import re

# Escape sequences of terminals (ECMA-48): CSI … final byte, OSC … BEL or ST, and two-byte escapes.
# An OSC that nobody closes ends with its line, or it would swallow the rest of a log.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
# What XML 1.0 cannot hold (clause 2.2), and the C1 controls that some terminals obey.
_UNPRINTABLE = re.compile("[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def clean_text(raw: bytes | str) -> str:
    """Decode a program's output and take out what is not text.

    Colours and cursor movements vanish, a carriage return counts as a line's end, and any other
    character that XML cannot hold becomes U+FFFD.
    """
    text = raw.decode("utf-8", errors="replace") if isinstance(raw, bytes) else raw
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _UNPRINTABLE.sub("\ufffd", _ESCAPES.sub("", text))
