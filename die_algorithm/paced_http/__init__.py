"""HTTP towards hosts that are not trusted to be quick, or to say the truth about what they send.

For the adapters that speak it. There is no session: a request that goes straight to the adapter of
``requests`` meets nothing of what a session adds from the machine around it (cookies, ``.netrc``,
proxies, redirects).

=========== ==================================================================
connections that cannot be held up
adapter     of requests, on top of them; what their errors are
frames      whether an answer says where it ends, and how it is sent
pauses      how long a host wants to be left alone
=========== ==================================================================
"""

from die_algorithm.paced_http.adapter import NETWORK_ERRORS, PacedAdapter, is_timeout
from die_algorithm.paced_http.connections import QUERY_HEADER, Pace
from die_algorithm.paced_http.frames import (
    UnframedError,
    check_frame,
    content_length,
    is_success,
    media_type,
)
from die_algorithm.paced_http.pauses import retry_after

__all__ = [
    "NETWORK_ERRORS",
    "QUERY_HEADER",
    "Pace",
    "PacedAdapter",
    "UnframedError",
    "check_frame",
    "content_length",
    "is_success",
    "is_timeout",
    "media_type",
    "retry_after",
]
