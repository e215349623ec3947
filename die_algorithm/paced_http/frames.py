"""How an answer is sent: where it ends, whether it is compressed. Its sender is not trusted with that."""

from __future__ import annotations

import re
from collections.abc import Mapping

_LENGTH = re.compile(r"\d{1,18}", re.ASCII)


class UnframedError(ValueError):
    """An answer does not say where it ends."""


def is_success(status: int) -> bool:
    """Whether it is any of 2xx."""
    return 200 <= status < 300


def check_frame(status: int, headers: Mapping[str, str], *, marked: bool) -> None:
    """See that a successful answer says where it ends, and is not compressed.

    A header block that was cut after the status line looks like an empty success (reference: safety
    3.4).

    Args:
        status: the HTTP status.
        headers: the headers, found whatever their case.
        marked: whether the end must be marked; otherwise any header is enough.

    Raises:
        UnframedError: it does not, though there are headers.
        ValueError: it is compressed, cut off, or of a length that is no number.
    """
    if headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise ValueError("it is compressed, which was not asked for")
    if not headers:
        raise ValueError("it is cut off")
    coding = headers.get("Transfer-Encoding")
    # Of any other coding, the libraries below us would read to the end of the connection.
    if coding is not None and coding.strip().lower() != "chunked":
        raise UnframedError("it does not say where it ends")
    has_end = content_length(headers) is not None or coding is not None or status == 204
    if marked and not has_end:
        raise UnframedError("it does not say where it ends")


def content_length(headers: Mapping[str, str]) -> int | None:
    """The announced length in bytes, None if there is none or the body is chunked.

    Raises:
        ValueError: it is no number.
    """
    if "Transfer-Encoding" in headers or "Content-Length" not in headers:
        return None
    if not _LENGTH.fullmatch(headers["Content-Length"]):
        raise ValueError("its length is no number")
    return int(headers["Content-Length"])


def media_type(headers: Mapping[str, str]) -> str:
    """The media type in lower case without parameters, empty if there is none."""
    return headers.get("Content-Type", "").partition(";")[0].strip().lower()
