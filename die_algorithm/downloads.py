"""Sends published files: streamed by the server, as attachments, never as pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from werkzeug.utils import send_file
from werkzeug.wrappers import Response


def file_response(path: Path, environ: dict[str, Any]) -> Response:
    """Answer with a file, or the range of it that is asked for.

    Args:
        path: the file; its ending chooses the media type.
        environ: the request's WSGI environment; its server sends the file without a thread of ours
            where it can (``wsgi.file_wrapper``).
    """
    response = send_file(
        path,
        environ,
        mimetype={".zip": "application/zip", ".log": "text/plain; charset=utf-8"}[path.suffix],
        as_attachment=path.suffix == ".zip",
        download_name=path.name,
        conditional=True,
    )
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cache-Control"] = "private, no-transform"
    return response
