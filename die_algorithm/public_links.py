"""Files behind public links, fetched for users who have no item of them in the workspace.

Nothing here knows a user token. A request leaves for a trusted host only, and each redirect is looked
at like a link that a user gave, so a trusted host can lead nobody to another one. What comes back is not
trusted: it has to end where it said, in time, and below the limit (reference: safety 3.4).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import timedelta

import requests

from die_algorithm import __version__
from die_algorithm.errors import LinkTooLarge, LinkUnavailable, LinkUnusable
from die_algorithm.input_files import as_utf8, linked_name
from die_algorithm.paced_http import (
    NETWORK_ERRORS,
    PacedAdapter,
    UnframedError,
    check_frame,
    content_length,
    is_success,
    is_timeout,
)
from die_algorithm.public_link import PublicLink, TrustedHosts, parse_public_link

_HEADERS = {
    "Accept": "*/*",
    # An answer that is compressed all the same is refused: no decompression, no bomb.
    "Accept-Encoding": "identity",
    "User-Agent": f"docker-image-executor/{__version__}",
}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 5
#: Of 4xx, those that say nothing about the link: time-out, too early, too many requests.
_PASSING = frozenset({408, 425, 429})
_CHUNK = 64 * 2**10


class LinkedFile:
    """The file behind a link, as it arrives. Iterate once.

    Args:
        response: with its body unread.
        link: where the last redirect led.
        max_size: bytes.
    """

    def __init__(self, response: requests.Response, link: PublicLink, max_size: int) -> None:
        self._response = response
        self._max_size = max_size
        try:
            check_frame(response.status_code, response.headers, marked=True)
            #: Bytes, None if the body is chunked.
            self.size = content_length(response.headers)
        except UnframedError:  # half of it would look like the whole
            raise LinkUnusable("its host does not say how long the file is") from None
        except ValueError as error:
            raise LinkUnavailable(f"the answer of its host is odd: {error}") from None
        if response.status_code != 200:
            raise LinkUnusable(f"its host sends no whole file (HTTP {response.status_code})")
        if self.size is not None and self.size > max_size:
            raise _too_large(max_size)
        #: A safe name for the file.
        self.name = linked_name(response.headers.get("Content-Disposition", ""), link.last_segment)

    def __iter__(self) -> Iterator[bytes]:
        """Yield the content.

        Raises:
            LinkUnavailable: the connection broke, another length than announced came, the chunks
                are damaged, or it is slower than the smallest rate allowed.
            LinkTooLarge: more came than may.
        """
        received = 0
        with _mapped():
            for chunk in self._response.raw.stream(_CHUNK, decode_content=False):
                received += len(chunk)
                if received > self._max_size:
                    raise _too_large(self._max_size)
                yield chunk
        if self.size is not None and received != self.size:
            raise LinkUnavailable("its host sent another length than it had announced")


class PublicLinks:
    """Fetches files from trusted hosts. Safe to use from several threads.

    Every method may raise LinkUnavailable (no answer, or none as it should be; it may pass),
    LinkUnusable (no file, or not for everybody, or of unknown length; it stays so) and LinkTooLarge.

    Args:
        trusted: where requests may go.
        timeout: longest wait for the head of an answer, redirects included.
        min_rate: a transfer slower than this, in bytes per second over ``timeout``, is given up.
        max_size: the largest file, in bytes.
    """

    def __init__(
        self, trusted: TrustedHosts, *, timeout: timedelta, min_rate: int, max_size: int
    ) -> None:
        self._trusted = trusted
        self._timeout = timeout.total_seconds()
        self._max_size = max_size
        self._adapter = PacedAdapter(min_rate)

    def close(self) -> None:
        """Give the connections back."""
        self._adapter.close()

    def check(self, link: str) -> None:
        """See whether a file can be fetched, by the head of the answer alone."""
        with self.open(link):
            pass

    @contextlib.contextmanager
    def open(self, link: str) -> Iterator[LinkedFile]:
        """Open the file behind a link.

        Args:
            link: in the form of :attr:`PublicLink.url`.
        """
        with contextlib.ExitStack() as stack:
            response, last = self._followed(_parsed(link))
            stack.callback(response.close)
            yield LinkedFile(response, last, self._max_size)

    def _followed(self, link: PublicLink) -> tuple[requests.Response, PublicLink]:
        """Ask for a link and go on to where it leads.

        Returns:
            An answer with a status of success, and where it came from.
        """
        deadline = time.monotonic() + self._timeout
        for _ in range(_MAX_REDIRECTS + 1):
            response = self._send(link, deadline - time.monotonic())
            if is_success(response.status_code):
                return response, link
            with contextlib.closing(response):
                link = _next(link, response)
        raise LinkUnusable(f"it leads on more than {_MAX_REDIRECTS} times")

    def _send(self, link: PublicLink, seconds: float) -> requests.Response:
        """Send the one request that can leave here, to a trusted host or not at all."""
        if link not in self._trusted:
            raise LinkUnusable("it leads to a host that is not trusted here")
        if seconds <= 0:
            raise LinkUnavailable("its host is too slow")
        request = requests.Request("GET", link.url, headers=_HEADERS).prepare()
        with _mapped():
            return self._adapter.send(request, stream=True, timeout=seconds)


def _next(link: PublicLink, response: requests.Response) -> PublicLink:
    """Where an answer without success leads.

    Raises:
        LinkError: nowhere.
    """
    status = response.status_code
    if status >= 500 or status in _PASSING:
        raise LinkUnavailable(f"its host does not serve it at the moment (HTTP {status})")
    location = response.headers.get("Location")
    if status not in _REDIRECTS or not location:
        raise LinkUnusable(_refusal(status))
    try:
        return link.joined(as_utf8(location))
    except ValueError:
        raise LinkUnusable("it leads to something that is no web address") from None


def _refusal(status: int) -> str:
    if status in (404, 410):
        return f"there is no file (HTTP {status})"
    return f"its host does not give the file to everybody (HTTP {status})"


def _parsed(link: str) -> PublicLink:
    try:
        return parse_public_link(link)
    except ValueError as error:
        raise LinkUnusable(str(error)) from None


def _too_large(max_size: int) -> LinkTooLarge:
    return LinkTooLarge(f"the file is larger than the {max_size} bytes that are allowed")


@contextlib.contextmanager
def _mapped() -> Iterator[None]:
    """Turn what requests and the libraries below it raise into our errors: the one place for it."""
    try:
        yield
    except NETWORK_ERRORS as error:
        if is_timeout(error):
            text = "its host is too slow"
        elif isinstance(error, requests.exceptions.SSLError):
            text = "the TLS certificate of its host is not accepted"
        else:
            text = "its host cannot be reached, or its answer broke off or is damaged"
        raise LinkUnavailable(text) from None
