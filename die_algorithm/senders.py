"""Who a request is counted for: where it came from, as far as that can be believed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

LOGGER = logging.getLogger(__name__)

Network = IPv4Network | IPv6Network

#: A customer's own part of the IPv6 addresses (RFC 6177): all of it is one sender.
_IPV6_PREFIX = 64
#: Proxies that a request may have passed; what stands before them is nobody's word.
_MOST_PROXIES = 32
#: Peers that the operator is told of: anybody can pretend to be a proxy.
_MOST_TOLD = 8


class Senders:
    """Tells senders apart, and the operator who seems to be a proxy and is not trusted.

    It stays one and the same when copied; several threads may ask.
    """

    def __init__(self) -> None:
        self._told: set[str] = set()

    def __deepcopy__(self, _memo: object) -> Senders:
        return self

    def of(self, environ: Mapping[str, Any], trusted: Sequence[Network]) -> str:
        """Who a request is counted for, as :func:`sender` tells.

        Args:
            environ: the request's WSGI environment.
            trusted: the operator's proxies.
        """
        peer = environ.get("REMOTE_ADDR", "")
        forwarded_for = environ.get("HTTP_X_FORWARDED_FOR", "")
        if forwarded_for and peer not in self._told and _is_strange(peer, trusted):
            self._tell(peer)
        return sender(peer, forwarded_for, trusted)

    def _tell(self, peer: str) -> None:
        if len(self._told) < _MOST_TOLD:
            self._told.add(peer)
            LOGGER.warning(
                "Requests from %s name others as their senders (X-Forwarded-For), but 'trusted_proxies' does "
                "not name it: all of them count as one sender's. Name it there if it is your proxy.",
                peer,
            )


def sender(peer: str, forwarded_for: str, trusted: Sequence[Network]) -> str:
    """Tell senders apart.

    Args:
        peer: the address that the connection comes from.
        forwarded_for: the header ``X-Forwarded-For``, to which each proxy adds whom it got the request
            from; empty if there is none. Anybody can send one, so it is believed as far as trusted
            proxies have written it.
        trusted: the operator's proxies.

    Returns:
        An IPv4 address, or the /64 network of an IPv6 address; the peer as it is if it is neither.
    """
    address = _address(peer)
    if address is None:
        return peer
    for word in reversed(forwarded_for.split(",")[-_MOST_PROXIES:]):
        if not _is_in(address, trusted):
            break
        before = _address(word)
        if before is None:
            break
        address = before
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, _IPV6_PREFIX), strict=False))
    return str(address)


def _is_strange(peer: str, trusted: Sequence[Network]) -> bool:
    """Whether a peer could be trusted and is not; one without an address, behind a socket, never can."""
    address = _address(peer)
    return address is not None and not _is_in(address, trusted)


def _is_in(address: IPv4Address | IPv6Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """An address, which some proxies write with a port; IPv4 as such also where IPv6 wraps it."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        # A zone says nothing outside of the machine that knows it.
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
