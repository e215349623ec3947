"""How one call to StorageHub is made: the token, the tries, the reading of the answer.

Errors of requests and of the libraries below it end here, in :func:`_mapped`.
"""

from __future__ import annotations

import contextlib
import logging
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar
from urllib.parse import quote

import requests
from requests.adapters import HTTPAdapter

from die_algorithm import __version__
from die_algorithm.errors import (
    DamagedDownload,
    StorageHubError,
    StorageHubUnavailable,
    TokenRejected,
)
from die_algorithm.models import UserToken
from die_algorithm.paced_http import (
    NETWORK_ERRORS,
    QUERY_HEADER,
    PacedAdapter,
    check_frame,
    content_length,
    is_success,
    is_timeout,
    media_type,
)
from die_algorithm.storagehub.answers import AnswerTooLong, MayPass, error_of
from die_algorithm.storagehub.multipart import Multipart

LOGGER = logging.getLogger(__name__)

Auth = Literal["auto", "header", "query", "bearer"]
T = TypeVar("T")

_TOKEN_NAME = "gcube-token"  # noqa: S105 - the header's name, not a token
_TOKEN = re.compile(r"[!-~]{1,16384}", re.ASCII)
_HEADERS = {
    "Accept": "*/*",
    # An answer that is compressed all the same is refused: no decompression, no bomb.
    "Accept-Encoding": "identity",
    "User-Agent": f"docker-image-executor/{__version__}",
}
_MAX_ANSWER = 16 * 2**20
_MAX_ERROR = 64 * 2**10
_CHUNK = 2**20
#: An answer's pieces, small so that the clock is looked at often.
_PIECE = 16 * 2**10
_MAX_PAUSE = 30.0


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request, before it is known how the token travels."""

    method: str
    #: Below the base URL, quoted.
    path: str
    token: UserToken
    params: Mapping[str, str] = field(default_factory=dict)
    #: A mapping is sent as a urlencoded form.
    body: Mapping[str, str] | Multipart | None = None
    #: Media types that the answer may have; empty: any.
    types: frozenset[str] = frozenset()
    #: It does no harm twice.
    repeatable: bool = True


class Calls:
    """Makes calls; see :class:`~die_algorithm.storagehub.StorageHub` for the arguments.

    There is no ``requests.Session``: a prepared request that goes straight to the adapter meets
    nothing of what a session adds from the machine around it (cookies, ``.netrc``, proxies,
    redirects), and only urllib3's pool, which is made for it, is shared between threads.

    Args:
        base_url: the address of the workspace API.
        auth: how the user token travels.
        timeout: seconds.
        min_rate: bytes per second.
        attempts: tries of a repeatable call.
        pause: seconds.
    """

    def __init__(
        self,
        base_url: str,
        *,
        auth: Auth,
        timeout: float,
        min_rate: int,
        attempts: int,
        pause: float,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._auth = auth
        self._timeout = timeout
        self._attempts = attempts
        self._first_pause = pause
        self._closed = threading.Event()
        self._adapter = PacedAdapter(min_rate)
        # A call that is not repeated must not meet a kept connection that the server just closes.
        self._fresh_adapter = PacedAdapter(min_rate)

    def close(self) -> None:
        """Give the idle connections back; a call that waits to try again gives up."""
        self._closed.set()
        self._adapter.close()
        self._fresh_adapter.close()

    def ping(self) -> None:
        """See whether anybody speaks HTTP at the base URL.

        Raises:
            StorageHubUnavailable: nobody does.
        """
        headers = {**_HEADERS, "Connection": "close"}
        request = requests.Request("GET", f"{self._base_url}/", headers=headers).prepare()
        try:
            self._send(request, self._fresh_adapter).close()
        except MayPass as fault:
            raise fault.error from None

    def answer(self, call: Call, read: Callable[[bytes], T]) -> T:
        """Make a call and read its answer, again if that may help.

        Args:
            call: the call.
            read: turns the body into what is wanted; its ValueError says that it cannot.

        Raises:
            AnswerTooLong: it is longer than 16 MiB.
        """

        def once() -> T:
            with contextlib.closing(self._open(call)) as response:
                try:
                    body = self._body(response, _MAX_ANSWER, call.types)
                    return read(body)
                except ValueError:
                    text = f"StorageHub's answer to {call.method} cannot be read."
                    raise MayPass(StorageHubUnavailable(text)) from None

        return self._repeated(call, once)

    @contextlib.contextmanager
    def download(self, call: Call, *, marked: bool) -> Iterator[Download]:
        """Make a call and give its body out as it arrives. Only the start is tried again."""
        with contextlib.closing(self._repeated(call, lambda: self._open(call))) as response:
            yield Download(response, marked=marked)

    def _repeated(self, call: Call, action: Callable[[], T]) -> T:
        attempts = self._attempts if call.repeatable else 1
        attempt = 1
        while True:
            try:
                return action()
            except MayPass as fault:
                asked = f"{call.method} {call.path}"
                LOGGER.info("StorageHub, %s, try %d of %d: %s", asked, attempt, attempts, fault)
                if attempt >= attempts or self._closed.wait(self._pause(attempt, fault.after)):
                    raise fault.error from None
            attempt += 1

    def _pause(self, attempt: int, after: float) -> float:
        pause = self._first_pause * float(2 ** (attempt - 1))
        pause *= random.uniform(0.5, 1.5)  # noqa: S311 - it keeps clients apart, no secret
        return min(max(pause, after), _MAX_PAUSE)

    def _open(self, call: Call) -> requests.Response:
        """Make a call once.

        Returns:
            The answer, with its body unread. Its status is one of success.
        """
        adapter = self._adapter if call.repeatable else self._fresh_adapter
        response = self._send(self._request(call), adapter)
        if is_success(response.status_code):
            return response
        with contextlib.closing(response):
            try:
                text = self._body(response, _MAX_ERROR).decode(errors="replace")
            except (MayPass, AnswerTooLong, ValueError):
                text = ""
        raise error_of(response.status_code, response.headers, text)

    def _request(self, call: Call) -> requests.PreparedRequest:
        headers = {**_HEADERS, **_credentials(call.token, self._auth)}
        if not call.repeatable:
            headers["Connection"] = "close"
        if isinstance(call.body, Multipart):
            headers["Content-Type"] = call.body.content_type
        url = self._base_url + call.path
        request = requests.Request(
            call.method, url, headers=headers, params=dict(call.params), data=call.body
        ).prepare()
        if isinstance(call.body, Multipart) and call.body.length is not None:
            # What has no len() is sent in chunks, unless its length is told.
            del request.headers["Transfer-Encoding"]
            request.headers["Content-Length"] = str(call.body.length)
        return request

    def _send(self, request: requests.PreparedRequest, adapter: HTTPAdapter) -> requests.Response:
        with _mapped():
            return adapter.send(request, stream=True, timeout=self._timeout)

    def _body(
        self, response: requests.Response, limit: int, types: frozenset[str] = frozenset()
    ) -> bytes:
        """Read a whole body of at most ``limit`` bytes, within the time-out.

        Raises:
            AnswerTooLong: it is longer.
            ValueError: it is of another type, or does not say where it ends.
        """
        check_frame(response.status_code, response.headers, marked=True)
        if types and media_type(response.headers) not in types:
            raise ValueError("another type than asked for")
        started = time.monotonic()
        body = bytearray()
        with _mapped():
            for piece in response.raw.stream(_PIECE, decode_content=False):
                body += piece
                if time.monotonic() - started > self._timeout:
                    raise TimeoutError
                if len(body) > limit:
                    raise AnswerTooLong("StorageHub's answer is longer than this service reads.")
        return bytes(body)


class Download:
    """The content of a file, or a folder's zip, as it arrives.

    Iterate once: it yields chunks of at most 1 MiB, and ends without an error only if as many bytes
    came as were announced. Where nothing was announced and the body just ends with the connection
    (``size`` is None, no chunked encoding), the caller has to check the content.

    Args:
        response: the answer, its body unread.
        marked: whether an answer that does not mark its end is refused.
    """

    def __init__(self, response: requests.Response, *, marked: bool) -> None:
        self._response = response
        try:
            check_frame(response.status_code, response.headers, marked=marked)
            #: Bytes, None if StorageHub does not say.
            self.size = content_length(response.headers)
        except ValueError as error:
            raise DamagedDownload(f"StorageHub's download is odd: {error}.") from None
        if response.status_code == 206:
            raise DamagedDownload("StorageHub sends a part of the file that was asked for.")
        #: The media type without parameters, None if StorageHub does not say.
        self.content_type = media_type(response.headers) or None

    def __iter__(self) -> Iterator[bytes]:
        """Yield the chunks.

        Raises:
            DamagedDownload: the connection broke, or the length is another than announced.
            StorageHubUnavailable: it is slower than the smallest rate allowed.
        """
        received = 0
        with _mapped(transfer=True):
            for chunk in self._response.raw.stream(_CHUNK, decode_content=False):
                received += len(chunk)
                yield chunk
        if self.size is not None and received != self.size:
            raise DamagedDownload(
                f"StorageHub announced {self.size} bytes, but {received} arrived."
            )


@contextlib.contextmanager
def _mapped(*, transfer: bool = False) -> Iterator[None]:
    """Turn what requests and the libraries below it raise into our errors: the one place for it.

    Args:
        transfer: in the middle of a download. Then a broken connection is damage, and our errors
            come as they are; otherwise another try makes sense.
    """
    try:
        yield
    except NETWORK_ERRORS as error:
        fault: StorageHubError
        if is_timeout(error):
            fault = StorageHubUnavailable("StorageHub is too slow.")
        elif transfer:
            fault = DamagedDownload("The connection to StorageHub broke before the end.")
        elif isinstance(error, requests.exceptions.SSLError):
            fault = StorageHubUnavailable("StorageHub's TLS certificate is not accepted.")
        else:
            fault = StorageHubUnavailable("StorageHub cannot be reached, or broke the connection.")
        # The cause may hold the request with its headers.
        raise (fault if transfer else MayPass(fault)) from None


def _credentials(token: UserToken, auth: Auth) -> dict[str, str]:
    """The header that carries the token (reference: storagehub 1.2)."""
    if not _TOKEN.fullmatch(token.secret):
        raise TokenRejected("The user token holds characters that no token has.")
    if auth == "bearer" or (auth == "auto" and token.is_jwt):
        return {"Authorization": f"Bearer {token.secret}"}
    if auth == "query":
        return {QUERY_HEADER: f"{_TOKEN_NAME}={quote(token.secret, safe='')}"}
    return {_TOKEN_NAME: token.secret}
