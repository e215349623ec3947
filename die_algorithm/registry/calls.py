"""How a registry is asked, and what its refusals mean.

No user token is known here. A registry that wants a token gets the one that its own service gives to
everybody (distribution specification, "Token authentication").
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from urllib.parse import quote, urlencode, urljoin, urlsplit

import requests
from pydantic import ValidationError

from die_algorithm import __version__
from die_algorithm.errors import (
    ImageDoubtful,
    ImageUnusable,
    RegistryLimits,
    RegistryUnavailable,
)
from die_algorithm.image_reference import DOCKER_HUB, ImageReference
from die_algorithm.image_refusals import not_public
from die_algorithm.paced_http import (
    NETWORK_ERRORS,
    PacedAdapter,
    check_frame,
    is_timeout,
    retry_after,
)
from die_algorithm.registry import answers

_HEADERS = {
    # An answer that is compressed all the same is refused: no decompression, no bomb.
    "Accept-Encoding": "identity",
    "User-Agent": f"docker-image-executor/{__version__}",
}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 3
#: Bytes a second, and of the largest document. Docker takes manifests up to 4 MiB; with 125 layers one has
#: 40 KiB, and to understand one takes a hundred times as much memory.
_MIN_RATE = 4096
_LARGEST = 2**20
#: Of the largest configuration: to understand one takes ten times as much memory.
_LARGEST_CONFIG = 2 * 2**20
#: Little: the clock is looked at after each.
_CHUNK = 8 * 2**10
_CHALLENGE = re.compile(
    r"(?:(?P<scheme>[\w!#$%&'*+.^`|~-]+)\s+)?(?P<name>[\w!#$%&'*+.^`|~-]+)\s*=\s*"
    r'(?:"(?P<quoted>(?:[^"\\]|\\.){0,500})"|(?P<token>[^\s",]{1,500}))',
    re.ASCII,
)
_LONGEST_CHALLENGE = 4096
#: Refusals that are not about what was asked for: of a proxy, of one who is slow, of one who asks too often.
_NOT_OF_THE_IMAGE = (407, 408, 429)
#: In place of a path: where tokens are given.
_TOKENS = ""
#: Where the parts of images are: of these, only configurations are asked for.
_BLOBS = "blobs/"
#: Tokens kept, and the longest that one is, in seconds.
_MOST_TOKENS = 256
_TOKEN_KEPT = 240.0
_TOKEN_LEFT = 10.0


class Answer:
    """A whole answer of a registry that was a success."""

    def __init__(self, body: bytes, digest: str) -> None:
        self.body = body
        #: What the registry calls the document; may be empty.
        self.digest = digest


class Calls:
    """Asks registries. All threads may share one.

    Args:
        hub_url: where Docker Hub's images are asked for.
    """

    def __init__(self, hub_url: str) -> None:
        self._hub_url = hub_url
        self._adapter = PacedAdapter(_MIN_RATE)
        self._lock = threading.Lock()
        self._tokens: OrderedDict[str, tuple[float, str]] = OrderedDict()

    def close(self) -> None:
        """Give the connections back."""
        self._adapter.close()

    def ping(self, registry: str, deadline: float) -> None:
        """Ask whether a registry is one (distribution specification, "API Version Check").

        Args:
            registry: its name.
            deadline: until when, by the monotonic clock.

        Raises:
            RegistryUnavailable: it is none, or does not answer.
        """
        with self._sent("GET", f"{self._base(registry)}/v2/", "*/*", "", deadline) as response:
            if response.status_code not in (200, 401):
                raise _unavailable(response.status_code)

    def ask(
        self, method: str, image: ImageReference, path: str, accept: str, deadline: float
    ) -> Answer:
        """Ask for a document of an image's repository.

        Args:
            method: GET or HEAD.
            image: says which repository of which registry.
            path: below the repository's, such as ``manifests/latest``.
            accept: media types.
            deadline: until when, by the monotonic clock.

        Raises:
            ImageNotFound: it is not there, or not for everybody.
            ImageUnusable: it is larger than any such document.
            ImageDoubtful: a refusal that others need not get.
            RegistryUnavailable: no answer, or none as it should be.
        """
        base = self._base(image.registry)
        url = f"{base}/v2/{quote(image.repository)}/{quote(path, safe='/:')}"
        token = self._known_token(image.name)
        for may_retry in (True, False):
            with self._sent(method, url, accept, token, deadline) as response:
                if response.status_code == 401 and may_retry:
                    challenge = response.headers.get("WWW-Authenticate", "")
                    token = self._new_token(image, base, challenge, deadline)
                    continue
                _check(response, image, path)
                # Of a document, the end has to be marked: half of one would be another.
                check_frame(response.status_code, response.headers, marked=method == "GET")
                largest = _LARGEST_CONFIG if path.startswith(_BLOBS) else _LARGEST
                body = b"" if method == "HEAD" else _body(response, image, deadline, largest)
                return Answer(body, response.headers.get("Docker-Content-Digest", ""))
        raise RegistryUnavailable("The image registry does not answer as it should.")

    def _base(self, registry: str) -> str:
        return self._hub_url if registry == DOCKER_HUB else f"https://{registry}"

    @contextlib.contextmanager
    def _sent(
        self, method: str, url: str, accept: str, token: str, deadline: float
    ) -> Iterator[requests.Response]:
        """Send a request, and follow redirects: registries keep what is large on other hosts."""
        headers = {**_HEADERS, "Accept": accept}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        for _ in range(_MAX_REDIRECTS + 1):
            response = self._send(method, url, headers, deadline)
            with contextlib.closing(response), _mapped():
                if response.status_code not in _REDIRECTS:
                    yield response
                    return
            with _mapped():
                target = urljoin(url, response.headers.get("Location", ""))
                is_elsewhere = _origin(target) != _origin(url)
            if is_elsewhere:
                headers.pop("Authorization", None)
                _demand_https(target)
            url = target
        raise RegistryUnavailable("The image registry leads on for ever.")

    def _send(
        self, method: str, url: str, headers: dict[str, str], deadline: float
    ) -> requests.Response:
        seconds = deadline - time.monotonic()
        if seconds <= 0:
            raise RegistryUnavailable("The image registry does not answer in time.")
        with _mapped():
            request = requests.Request(method, url, headers=headers).prepare()
            return self._adapter.send(request, stream=True, timeout=seconds)

    # -- tokens

    def _known_token(self, name: str) -> str:
        with self._lock:
            until, token = self._tokens.get(name, (0.0, ""))
        return token if time.monotonic() < until else ""

    def _new_token(self, image: ImageReference, base: str, challenge: str, deadline: float) -> str:
        found = _bearer(challenge)
        realm = found.get("realm", "")
        if not realm:
            raise not_public(image)
        if _origin(realm) != _origin(base):
            _demand_https(realm)
        query = {
            "service": found.get("service", ""),
            "scope": f"repository:{image.repository}:pull",
        }
        mark = "&" if urlsplit(realm).query else "?"
        url = f"{realm}{mark}{urlencode(query)}"
        with self._sent("GET", url, "application/json", "", deadline) as response:
            _check(response, image, _TOKENS)
            body = _body(response, image, deadline, _LARGEST)
        try:
            token = answers.TOKEN.validate_json(body)
        except ValidationError:
            raise RegistryUnavailable("The image registry gives no token.") from None
        if not re.fullmatch(r"[\x21-\x7e]{1,16384}", token.secret):
            raise RegistryUnavailable("The image registry gives no token.")
        kept = min(token.expires_in - _TOKEN_LEFT, _TOKEN_KEPT)
        with self._lock:
            self._tokens[image.name] = (time.monotonic() + kept, token.secret)
            self._tokens.move_to_end(image.name)
            while len(self._tokens) > _MOST_TOKENS:
                self._tokens.popitem(last=False)
        return token.secret


def _bearer(challenge: str) -> dict[str, str]:
    """The parameters of a challenge by the scheme Bearer, among those of others (RFC 9110, 11.6.1)."""
    found: dict[str, str] = {}
    scheme = ""
    for part in _CHALLENGE.finditer(challenge[:_LONGEST_CHALLENGE]):
        scheme = (part["scheme"] or scheme).lower()
        if scheme == "bearer":
            value = part["token"] or re.sub(r"\\(.)", r"\1", part["quoted"] or "")
            found.setdefault(part["name"].lower(), value)
    return found


def _check(response: requests.Response, image: ImageReference, path: str) -> None:
    """See that an answer is a success.

    An image is what its manifest says: one of which a part is missing, or is not given, is there.
    """
    status = response.status_code
    if 200 <= status < 300:
        return
    missing = status in (404, 410)
    if status in (401, 403) or missing:
        if path.startswith(_BLOBS):
            raise ImageDoubtful(f"The image registry lacks a part of the image (HTTP {status}).")
        if path != _TOKENS or not missing:
            raise not_public(image)
    if status == 429:
        raise RegistryLimits(
            "The image registry is asked too often.", retry_after(response.headers)
        )
    if 400 <= status < 500 and status not in _NOT_OF_THE_IMAGE:
        raise ImageDoubtful(_with_error(status))
    raise _unavailable(status, retry_after(response.headers))


def _unavailable(status: int, pause: float = 0.0) -> RegistryUnavailable:
    return RegistryUnavailable(_with_error(status), pause)


def _with_error(status: int) -> str:
    return f"The image registry answers with an error (HTTP {status})."


def _body(
    response: requests.Response, image: ImageReference, deadline: float, largest: int
) -> bytes:
    parts: list[bytes] = []
    received = 0
    for chunk in response.raw.stream(_CHUNK, decode_content=False):
        received += len(chunk)
        if time.monotonic() > deadline:
            raise RegistryUnavailable("The image registry does not answer in time.")
        if received > largest:
            raise ImageUnusable(
                f"The image {image.familiar} cannot be run: its description is larger than "
                f"{largest} bytes."
            )
        parts.append(chunk)
    return b"".join(parts)


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme.lower(), parts.netloc.lower()


def _demand_https(url: str) -> None:
    if urlsplit(url).scheme != "https":
        raise RegistryUnavailable("The image registry leads to an address that is not safe.")


@contextlib.contextmanager
def _mapped() -> Iterator[None]:
    """Turn what requests and the libraries below it raise into our errors: the one place for it."""
    try:
        yield
    except (*NETWORK_ERRORS, ValueError) as error:
        if is_timeout(error):
            raise RegistryUnavailable("The image registry does not answer in time.") from None
        raise RegistryUnavailable("The image registry does not answer.") from None
