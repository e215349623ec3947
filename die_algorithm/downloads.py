"""Sends published files: streamed by the server, as attachments, never as pages."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

from werkzeug.http import dump_options_header, parse_date
from werkzeug.utils import send_file
from werkzeug.wrappers import Response
from werkzeug.wsgi import ClosingIterator

from die_algorithm.archive import open_single_file

_ONE_RANGE = re.compile(r"bytes=(?:\d{1,18}-\d{0,18}|-\d{1,18})", re.ASCII)


def file_response(path: Path, environ: dict[str, Any]) -> Response:
    """Answer with a file, or the range of it that is asked for.

    Args:
        path: the file; its ending chooses the media type.
        environ: the request's WSGI environment; its server sends the file without a thread of ours
            where it can (``wsgi.file_wrapper``).
    """
    environ = dict(environ)
    if _is_beyond_time(environ.get("HTTP_IF_MODIFIED_SINCE")):
        del environ["HTTP_IF_MODIFIED_SINCE"]
    if _is_beyond_time(environ.get("HTTP_IF_RANGE")):
        del environ[
            "HTTP_IF_RANGE"
        ]  # it is met by no file, so the whole is sent (RFC 9110, 13.1.5)
        environ.pop("HTTP_RANGE", None)
    asked = environ.get("HTTP_RANGE", "")
    last = asked.removeprefix("bytes=-")
    if not _ONE_RANGE.fullmatch(asked) or (last.isdecimal() and int(last) > path.stat().st_size):
        # Several ranges, what is none, and a longer end than there is, are passed over (RFC 9110, 14.2).
        environ.pop("HTTP_RANGE", None)
    response = send_file(
        path,
        environ,
        mimetype={".zip": "application/zip", ".log": "text/plain; charset=utf-8"}[path.suffix],
        as_attachment=path.suffix == ".zip",
        download_name=path.name,
        conditional=True,
    )
    return _private(response)


def single_file_response(zip_path: Path, path: str, max_size: int) -> Response:
    """Answer with one file of a zip.

    Args:
        zip_path: the zip.
        path: of the file, below the job's folder.
        max_size: bytes of the largest that is given alone.

    Raises:
        KeyError: there is no such file, or none that is given alone.
        OSError: the zip cannot be read.
    """
    opened = ExitStack()
    file, content = opened.enter_context(open_single_file(zip_path, path, max_size))
    response = Response(
        ClosingIterator(content, opened.close),
        content_type=file.media_type,
        direct_passthrough=True,
    )
    response.content_length = file.size
    name = path.rpartition("/")[2]
    plain = name.encode("ascii", "replace").decode()
    # RFC 6266, 4.3: a name beyond ASCII once more, percent-encoded.
    whole = {} if plain == name else {"filename*": f"UTF-8''{quote(name, safe='')}"}
    value = dump_options_header("attachment", {"filename": plain, **whole})
    response.headers["Content-Disposition"] = value
    # DataMiner's portal shows pictures of a result in a page of its own.
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    return _private(response)


def _is_beyond_time(date: str | None) -> bool:
    """Whether werkzeug cannot read a date because a number in it is none of a date's."""
    try:
        parse_date(date)
    except OverflowError:
        return True
    return False


def _private(response: Response) -> Response:
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cache-Control"] = "private, no-transform"
    return response
