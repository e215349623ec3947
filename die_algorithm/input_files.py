"""How a file that is not in the workspace yet is called there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import unquote

#: The name of content that was sent with the request, and of links that name no file.
INPUT = "input"

_LONGEST = 120
_SUFFIXES: Mapping[str, str] = MappingProxyType(
    {
        "application/geo+json": ".geojson",
        "application/gml+xml": ".gml",
        "application/gzip": ".gz",
        "application/json": ".json",
        "application/pdf": ".pdf",
        "application/x-netcdf": ".nc",
        "application/xml": ".xml",
        "application/zip": ".zip",
        "image/jpeg": ".jpg",
        "image/png": ".png",
        "image/tiff": ".tif",
        "text/csv": ".csv",
        "text/html": ".html",
        "text/plain": ".txt",
        "text/tab-separated-values": ".tsv",
        "text/xml": ".xml",
    }
)
# Parameters of Content-Disposition (RFC 6266); StorageHub writes blanks round '=' and no quotes.
_EXTENDED = re.compile(
    r"\bfilename\*\s*=\s*(?:utf-8|iso-8859-1)'[^']*'([^;\s]+)", re.ASCII | re.IGNORECASE
)
_QUOTED = re.compile(r"\bfilename\s*=\s*\"((?:[^\"\\]|\\.)*)\"", re.IGNORECASE)
_BARE = re.compile(r"\bfilename\s*=\s*([^;\"]+)", re.IGNORECASE)
_UNSAFE = re.compile(r"[^\w .,()+@=-]+")


def content_name(media_type: str) -> str:
    """The name of a file of some media type: ``input.csv``; ``input`` if nothing fits."""
    return INPUT + _SUFFIXES.get(media_type, "")


def as_utf8(header: str) -> str:
    """Header text as it was meant: it arrives as Latin-1, and StorageHub writes UTF-8."""
    try:
        return header.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return header


def linked_name(disposition: str, last_segment: str) -> str:
    """The name of a file that a link leads to, safe in any workspace and on any disk.

    Args:
        disposition: the answer's Content-Disposition, empty if it has none.
        last_segment: of the link's path, decoded.
    """
    return _safe(_in_disposition(as_utf8(disposition))) or _safe(last_segment) or INPUT


def _in_disposition(header: str) -> str:
    if match := _EXTENDED.search(header):
        return unquote(match[1], errors="replace")
    if match := _QUOTED.search(header):
        return re.sub(r"\\(.)", r"\1", match[1])
    match = _BARE.search(header)
    return match[1].strip() if match else ""


def _safe(name: str) -> str:
    """The last part of a path, with nothing in it that means something to a program."""
    last = re.split(r"[/\\]", name)[-1]
    cleaned = _UNSAFE.sub("_", last).strip(" .").lstrip("-")
    stem, dot, suffix = cleaned.rpartition(".")
    if len(cleaned) > _LONGEST and dot and len(suffix) < 16:
        return f"{stem[: _LONGEST - len(suffix) - 1]}.{suffix}"
    return cleaned[:_LONGEST]
