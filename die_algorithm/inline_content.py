"""Files that are sent within a request: complex data of XML, and its counterpart in key-value pairs."""

from __future__ import annotations

import base64
import binascii
import re

from die_algorithm.credentials import holds, longest_form
from die_algorithm.errors import InvalidParameterValue
from die_algorithm.item_reference import is_item_reference
from die_algorithm.models import InputContent, UserToken
from die_algorithm.wps_operations import BASE64, InputValue

_TEXT = "text/plain"
XML = "text/xml"
_BYTES = "application/octet-stream"
_MEDIA_TYPE = re.compile(
    r"[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,63}", re.ASCII
)
#: Bytes that are searched at once: where they are encoded, a search takes many times as much memory.
_WINDOW = 2**17
#: Bytes beyond ASCII, of which no form of a token is made, as one that is: text of both takes long.
_ASCII = bytes(byte if byte < 0x80 else ord("?") for byte in range(0x100))
#: What may stand for "as it is", in lower case.
_PLAIN_ENCODINGS = frozenset({"", "raw", "utf-8", "utf8", "us-ascii", "7bit", "8bit", "none"})


def complex_value(
    name: str, text: str, *, mime_type: str | None, encoding: str | None
) -> InputValue:
    """Read the text of complex data: the reference to a file, or the file.

    Args:
        name: the input's.
        text: as it was sent.
        mime_type: as the client wrote it; None if it did not, and text is then ``text/plain``.
        encoding: the same; ``base64`` for bytes (05-007r7, table 22), in any case.

    Raises:
        InvalidParameterValue: it is empty, or its encoding is not read here.
    """
    stripped = text.strip()
    if not stripped:
        raise InvalidParameterValue(f"{name[:80]} is empty.", name)
    is_base64 = _is_base64(name, encoding)
    if not is_base64 and is_item_reference(stripped):
        return InputValue(text=stripped, is_file=True)
    media_type = (mime_type or "").partition(";")[0].strip().lower()
    if not _MEDIA_TYPE.fullmatch(media_type):
        media_type = _BYTES if is_base64 else _TEXT
    data = _decoded(name, stripped) if is_base64 else text.encode(errors="replace")
    return InputValue(content=InputContent(data=data, media_type=media_type), is_file=True)


def holds_token(content: InputContent, token: UserToken) -> bool:
    """Whether content, or the media type that it is given, holds a token in any form that is known."""
    # Escaped as in JSON, or broken over lines, it is longer than that.
    overlap = 2 * longest_form(token)
    pieces = (
        content.data[start : start + _WINDOW + overlap]
        for start in range(0, len(content.data), _WINDOW)
    )
    return holds(content.media_type, token) or any(
        holds(piece.translate(_ASCII).decode("ascii"), token) for piece in pieces
    )


def _is_base64(name: str, encoding: str | None) -> bool:
    word = named_encoding(encoding or "")
    if word not in ("", BASE64):
        raise InvalidParameterValue(
            f"{name[:80]} is sent in the encoding {word[:40]!r}, which is not read here: send UTF-8 "
            "text, or base64.",
            name,
        )
    return word == BASE64


def _decoded(name: str, text: str) -> bytes:
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not data:
        raise InvalidParameterValue(f"{name[:80]} is not valid base64.", name)
    return data


def named_encoding(text: str) -> str:
    """The encoding that a client names, in lower case; empty for text as it is, whatever it says."""
    word = text.strip().lower()
    return "" if word in _PLAIN_ENCODINGS else word
