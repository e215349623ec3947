"""Sends published files: streamed by the server, as attachments, never as pages."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from werkzeug.http import dump_options_header, is_resource_modified, parse_date, parse_etags
from werkzeug.utils import send_file
from werkzeug.wrappers import Response
from werkzeug.wsgi import wrap_file

from die_algorithm.archive import media_type_of
from die_algorithm.errors import PreconditionFailed

_MEDIA_TYPES = {".zip": "application/zip", ".log": "text/plain", ".xml": "text/xml"}
#: What waitress says of itself to an application.
_OUR_SERVER = "waitress.client_disconnected"
_ONE_RANGE = re.compile(r"bytes=(?:\d{1,18}-\d{0,18}|-\d{1,18})", re.ASCII)


def file_response(path: Path, environ: dict[str, Any]) -> Response:
    """Answer with a file, or the range of it that is asked for.

    Args:
        path: the file; its ending chooses the media type.
        environ: the request's WSGI environment; its server sends the file without a thread of ours
            where it can (``wsgi.file_wrapper``).

    Raises:
        PreconditionFailed: it is not what the client has made a condition.
        OSError: there is no such file.
    """
    is_zip = path.suffix == ".zip"
    media_type = _MEDIA_TYPES[path.suffix]
    return _sent(path, environ, media_type, attached_as=path.name if is_zip else None)


def _sent(
    path: Path, environ: dict[str, Any], media_type: str, *, attached_as: str | None
) -> Response:
    file = path.stat()
    tag = f"{file.st_mtime}-{file.st_size}"
    response = send_file(
        path,
        _conditions(environ, file, tag),
        mimetype=media_type,
        download_name=path.name,
        conditional=True,
        etag=tag,
        last_modified=file.st_mtime,
    )
    if response.status_code == 206 and _OUR_SERVER in environ:
        _send_rest_from_file(response, path, environ)
    if attached_as is not None:
        response.headers["Content-Disposition"] = _attachment(attached_as)
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cache-Control"] = "private, no-transform"
    return response


def _send_rest_from_file(response: Response, path: Path, environ: dict[str, Any]) -> None:
    """Leave a range to the server, too: a thread of werkzeug would wait for a slow reader.

    The server goes on where the file is, and sends as much as the length of the content says. Not all
    servers do (uWSGI begins at the file's beginning), so ours alone is left to.
    """
    file = path.open("rb")
    response.close()
    file.seek(response.content_range.start or 0)
    response.response = wrap_file(environ, file)


def _attachment(name: str) -> str:
    """What makes a browser save a file; a name beyond ASCII once more, percent-encoded (RFC 6266, 4.3)."""
    plain = name.encode("ascii", "replace").decode()
    whole = {} if plain == name else {"filename*": f"UTF-8''{quote(name, safe='')}"}
    return dump_options_header("attachment", {"filename": plain, **whole})


def _conditions(environ: dict[str, Any], file: os.stat_result, tag: str) -> dict[str, Any]:
    """The environment with what is left to werkzeug of the conditions and of the range.

    The order is that of RFC 9110, 13.2.2.
    """
    environ = dict(environ)
    if_match = environ.pop("HTTP_IF_MATCH", None)
    since = environ.pop("HTTP_IF_UNMODIFIED_SINCE", None)
    if not (_is_older(file, since) if if_match is None else _matches(if_match, tag)):
        raise PreconditionFailed(
            "The file is not the one that the request names in If-Match or If-Unmodified-Since. Ask "
            "for it without that condition."
        )
    if _is_beyond_time(environ.get("HTTP_IF_MODIFIED_SINCE")):
        del environ["HTTP_IF_MODIFIED_SINCE"]
    if _is_beyond_time(environ.get("HTTP_IF_RANGE")):
        # It is met by no file, so the whole is sent (RFC 9110, 13.1.5).
        del environ["HTTP_IF_RANGE"]
        environ.pop("HTTP_RANGE", None)
    if not _is_range_of(file, environ.get("HTTP_RANGE", "")) or not is_resource_modified(
        environ, f'"{tag}"', last_modified=_changed(file)
    ):
        environ.pop("HTTP_RANGE", None)
    return environ


def _matches(if_match: str, tag: str) -> bool:
    """Whether a file is one of those that the client names (RFC 9110, 13.1.1)."""
    tags = parse_etags(if_match)
    return tags.star_tag or tags.is_strong(tag)


def _is_older(file: os.stat_result, since: str | None) -> bool:
    """Whether a file has not changed since a date; what is none is passed over (RFC 9110, 13.1.4)."""
    date = None if _is_beyond_time(since) else parse_date(since)
    return date is None or _changed(file) <= date


def _changed(file: os.stat_result) -> datetime:
    """When it was, in whole seconds, as HTTP counts."""
    return datetime.fromtimestamp(int(file.st_mtime), UTC)


def _is_range_of(file: os.stat_result, asked: str) -> bool:
    """Whether a range is heeded.

    Several ranges, what is none, and a longer end than there is, are passed over (RFC 9110, 14.2).
    """
    last = asked.removeprefix("bytes=-")
    is_too_long = last.isdecimal() and int(last) > file.st_size
    return bool(_ONE_RANGE.fullmatch(asked)) and not is_too_long


def single_file_response(copy: Path, path: str, environ: dict[str, Any]) -> Response:
    """Answer with one file of a zip.

    Args:
        copy: the copy of the file that lies beside the zip.
        path: of the file, below the job's folder.
        environ: as for :func:`file_response`.

    Raises:
        PreconditionFailed: it is not what the client has made a condition.
        OSError: there is no such file.
    """
    media_type = media_type_of(path) or "application/octet-stream"
    response = _sent(copy, environ, media_type, attached_as=path.rpartition("/")[2])
    # Without a character set: what a program writes into a table is its own affair.
    response.content_type = media_type
    # DataMiner's portal shows pictures of a result in a page of its own.
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    return response


def _is_beyond_time(date: str | None) -> bool:
    """Whether werkzeug cannot read a date because a number in it is none of a date's."""
    try:
        parse_date(date)
    except OverflowError:
        return True
    return False
