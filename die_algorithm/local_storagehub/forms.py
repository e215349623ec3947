"""The bodies of requests: urlencoded forms, multipart forms of any size, JSON and text.

In a multipart form the part named ``file`` goes to disk as it arrives, and all others are text.
Whether a part carries a ``filename`` makes no difference: sortapp sends its texts as files, too
(reference: storagehub 1.5).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import IO

from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import (
    Data,
    Epilogue,
    Event,
    Field,
    File,
    MultipartDecoder,
    NeedData,
)
from werkzeug.wrappers import Request

from die_algorithm.local_storagehub.blobs import Blobs, Incoming
from die_algorithm.local_storagehub.errors import InvalidCallParameters

_CHUNK = 256 * 1024
_LONGEST_TEXT = 1024 * 1024
_MOST_PARTS = 10_000
#: What may wait for the end of a part's head; a part's content never waits.
_LONGEST_HEAD = 2 * 1024 * 1024


class Form:
    """What a form holds."""

    def __init__(self) -> None:
        self._texts: dict[str, list[str]] = {}
        #: The part named ``file``, on disk.
        self.file: Incoming | None = None

    def add(self, name: str, text: str) -> None:
        """Add a value."""
        self._texts.setdefault(name, []).append(text)

    def text(self, name: str) -> str:
        """The first value of a field, empty if it has none."""
        return self.all(name)[0] if self.all(name) else ""

    def required(self, name: str) -> str:
        """The first value of a field.

        Raises:
            InvalidCallParameters: it is missing or empty.
        """
        text = self.text(name)
        if not text:
            raise InvalidCallParameters(f"The parameter {name!r} is missing or empty.")
        return text

    def flag(self, name: str) -> bool:
        """Whether a field says true."""
        return is_true(self.text(name))

    def all(self, name: str) -> list[str]:
        """All values of a field."""
        return self._texts.get(name, [])

    def required_file(self) -> Incoming:
        """The file.

        Raises:
            InvalidCallParameters: there is none.
        """
        if self.file is None:
            raise InvalidCallParameters("The part 'file' is missing.")
        return self.file


def is_true(text: str | None) -> bool:
    """Whether a parameter says true."""
    return (text or "").strip().lower() in {"true", "1", "yes", "on"}


@contextlib.contextmanager
def form_of(request: Request, blobs: Blobs) -> Iterator[Form]:
    """The request's form; a file in it that was not kept is removed at the end.

    Raises:
        InvalidCallParameters: the body is not a form, or damaged.
    """
    with contextlib.ExitStack() as stack:
        form = Form()
        kind, options = parse_options_header(request.headers.get("Content-Type"))
        if kind == "multipart/form-data" and options.get("boundary"):
            decoder = MultipartDecoder(
                options["boundary"].encode(), _LONGEST_HEAD, max_parts=_MOST_PARTS
            )
            try:
                _read_parts(request.stream, decoder, form, blobs, stack)
            except ValueError as error:
                raise InvalidCallParameters("The multipart body is damaged.") from error
        else:
            for name, text in request.form.items(multi=True):
                form.add(name, text)
        yield form


def text_of(request: Request) -> str:
    """A short text/plain body.

    Raises:
        InvalidCallParameters: it is not short, or not UTF-8.
    """
    data = request.stream.read(_LONGEST_TEXT + 1)
    if len(data) > _LONGEST_TEXT:
        raise InvalidCallParameters("The body is too long.")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InvalidCallParameters("The body is not UTF-8.") from None


def _read_parts(
    stream: IO[bytes],
    decoder: MultipartDecoder,
    form: Form,
    blobs: Blobs,
    stack: contextlib.ExitStack,
) -> None:
    name, text, size = "", bytearray(), 0
    for event in _events(stream, decoder):
        if isinstance(event, (Field, File)):
            name, text = event.name or "", bytearray()
            if name == "file":
                if form.file is not None:
                    raise InvalidCallParameters("The form has two parts named 'file'.")
                form.file = stack.enter_context(blobs.receive())
        elif isinstance(event, Data):
            if name == "file" and form.file is not None:
                form.file.write(event.data)
            else:
                size += len(event.data)
                if size > _LONGEST_TEXT:
                    raise InvalidCallParameters("The form's texts are too long.")
                text += event.data
                if not event.more_data:
                    form.add(name, text.decode("utf-8", "replace"))


def _events(stream: IO[bytes], decoder: MultipartDecoder) -> Iterator[Event]:
    while True:
        decoder.receive_data(stream.read(_CHUNK) or None)
        while not isinstance(event := decoder.next_event(), NeedData):
            if isinstance(event, Epilogue):
                return
            yield event
