"""Who a request is counted for: where it came from, as far as that can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Network = IPv4Network | IPv6Network

#: A customer's own part of the IPv6 addresses (RFC 6177): all of it is one sender.
_IPV6_PREFIX = 64
#: Proxies that a request may have passed; what stands before them is nobody's word.
_MOST_PROXIES = 32


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
        if not any(address in network for network in trusted):
            break
        before = _address(word)
        if before is None:
            break
        address = before
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, _IPV6_PREFIX), strict=False))
    return str(address)


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
