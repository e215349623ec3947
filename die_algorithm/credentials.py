"""From a request to its user token: where clients put it, and how it may look."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from die_algorithm import token_forms
from die_algorithm.errors import InvalidParameterValue, NotAuthorized, TokenNotAccepted
from die_algorithm.models import UserToken

#: The name that DataMiner's clients use, as query parameter and as header.
PARAMETER = "gcube-token"

#: How far the clock of who made a token may be from ours.
CLOCK_SKEW = timedelta(seconds=60)
_NEW_TOKEN = "Get a new one from your VRE's home page, and send the request again."  # noqa: S105

# gCube tokens are ``<uuid>-<number>`` or a bare UUID, JWTs are dotted base64url. The container gets the
# token as a word of its command line, so it must not look like an option; 8 KiB is far above any JWT.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/][A-Za-z0-9._~+/=-]{7,8191}", re.ASCII)

_HOW = (
    "Send your gCube token as the query parameter or header 'gcube-token', as the password of HTTP "
    "Basic, or as 'Authorization: Bearer'."
)


def user_token(
    query: Mapping[str, Sequence[str]], headers: Mapping[str, str], sender: str = ""
) -> UserToken:
    """Find the user token of a request that must have one.

    Args:
        query: as for :func:`find_user_token`.
        headers: the same.
        sender: the same.

    Raises:
        InvalidParameterValue: as for :func:`find_user_token`.
        NotAuthorized: there is none, or it cannot be one.
    """
    token = find_user_token(query, headers, sender)
    if token is None:
        raise NotAuthorized(f"The request carries no user token. {_HOW}")
    return token


def find_user_token(
    query: Mapping[str, Sequence[str]], headers: Mapping[str, str], sender: str = ""
) -> UserToken | None:
    """Find the user token of a request, if it carries one.

    The order is that of gCube's own services: query parameter, header, HTTP Basic, Bearer
    (reference: dataminer-wps, checklist 3; storagehub 1.2).

    Args:
        query: the query's parameters, names in lower case, each with all its values.
        headers: the request's headers, names in lower case.
        sender: who sent it, to be noted with the token.

    Raises:
        InvalidParameterValue: the query has two different ones.
        NotAuthorized: what is in its place cannot be one.
    """
    in_query = [value for value in query.get(PARAMETER, ()) if value]
    if len(set(in_query)) > 1:
        raise InvalidParameterValue(
            f"The query has several parameters {PARAMETER} with different values; send one.",
            PARAMETER,
        )
    if given := next(iter(in_query), headers.get(PARAMETER, "")):
        return _checked(given, None, sender)
    scheme, _, credentials = headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() == "basic":
        return _from_basic(credentials.strip(), sender)
    if scheme.lower() == "bearer":
        return _checked(credentials.strip(), None, sender)
    return None


def _from_basic(credentials: str, sender: str) -> UserToken:
    try:
        decoded = base64.b64decode(credentials, validate=True).decode("utf-8")
    except ValueError:  # not base64, not ASCII, or not UTF-8: all are of this kind
        raise NotAuthorized(f"The HTTP Basic credentials cannot be read. {_HOW}") from None
    username, _, password = decoded.partition(":")
    return _checked(password, username or None, sender)


def _checked(secret: str, username: str | None, sender: str) -> UserToken:
    if not _TOKEN.fullmatch(secret):
        raise TokenNotAccepted(
            "The user token is not a gCube token or JWT: it is too short, too long, or holds "
            f"characters that none has. {_HOW}"
        )
    return UserToken(secret, username, sender)


def check_validity(token: UserToken, now: datetime) -> None:
    """See that a token does not say of itself that it is not valid.

    Raises:
        TokenNotAccepted: it has expired, or is not valid yet.
    """
    validity = token.validity
    if has_expired(validity.until, now):
        raise TokenNotAccepted(
            f"The user token has expired at {validity.until:%Y-%m-%d %H:%M} UTC. {_NEW_TOKEN}"
        )
    if validity.since and validity.since > now + CLOCK_SKEW:
        raise TokenNotAccepted(
            f"The user token is not valid before {validity.since:%Y-%m-%d %H:%M} UTC. {_NEW_TOKEN}"
        )


def has_expired(until: datetime | None, now: datetime) -> bool:
    """Whether a token that is valid until then is valid no more, whosever clock it is."""
    return until is not None and until < now - CLOCK_SKEW


def redact(text: str, token: UserToken) -> str:
    """Replace the token in a text, however it is written, and its beginning where the rest is missing.

    The original example image prints its token; whatever a container wrote goes through here before
    anybody sees it (reference: storagehub 3.2; safety 2.8).
    """
    return token_forms.masked(text, token.secret)


def longest_form(token: UserToken) -> int:
    """Characters of the longest way of writing the token: percent-encoded twice."""
    return 5 * len(token.secret)


def without_cut_token(text: str, token: UserToken) -> str:
    """A text of which the beginning is missing, without the rest of a token that it may begin with."""
    return text[token_forms.rest_at_start(text, token.secret) :]


def holds(text: str, token: UserToken) -> bool:
    """Whether a text holds the token, however it is written."""
    return token_forms.is_in(text, token.secret)
