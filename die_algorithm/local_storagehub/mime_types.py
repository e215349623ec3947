"""Which type a file is of, guessed from its name and its first bytes."""

from __future__ import annotations

import mimetypes

_UNKNOWN = "application/octet-stream"


def guess(name: str, head: bytes) -> str:
    """The MIME type: by the name's extension, else text or bytes by the look of the content.

    Only Python's own table is used, so that the answer is the same on every machine.

    Args:
        name: the file's name.
        head: its first bytes.
    """
    by_name, encoding = mimetypes.MimeTypes(filenames=()).guess_type(name)
    if encoding == "gzip":
        return "application/gzip"
    if encoding is not None:
        return _UNKNOWN
    return by_name or _by_content(head)


def _by_content(head: bytes) -> str:
    if b"\0" in head:
        return _UNKNOWN
    try:
        head.decode()
    except UnicodeDecodeError as error:
        # The last character may be cut in the middle.
        return "text/plain" if head and error.start >= len(head) - 3 else _UNKNOWN
    return "text/plain" if head else _UNKNOWN
