"""The adapter of requests on connections that cannot be held up, and what may go wrong with it."""

from __future__ import annotations

import http.client

import requests
import urllib3
from requests.adapters import HTTPAdapter

from die_algorithm.paced_http.connections import paced_pools

_CONNECTIONS = 32

#: What requests and the libraries below it raise when the network, or who is at its other end, fails.
NETWORK_ERRORS = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
)


class PacedAdapter(HTTPAdapter):
    """Sends prepared requests; only urllib3's pool, which is made for it, is shared between threads.

    Args:
        min_rate: bytes per second below which an answer's body is given up.
    """

    def __init__(self, min_rate: int) -> None:
        self._min_rate = min_rate
        super().__init__()

    def init_poolmanager(self, *_args: object, **_options: object) -> None:
        """Make the pools; called by requests."""
        self.poolmanager = paced_pools(size=_CONNECTIONS, min_rate=self._min_rate)


def is_timeout(error: BaseException) -> bool:
    """Whether one of these errors means that the other end was too slow."""
    kinds = (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)
    return isinstance(error, kinds) or any(isinstance(cause, kinds) for cause in error.args)
