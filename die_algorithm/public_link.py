"""Links to files on the web: how they may look, and which hosts they may lead to.

A link is taken apart here and put together again from its parts, so that what is asked for is what was
checked: no library after us reads another host in it (reference: safety 4.2). What is unusual in a
link is refused rather than interpreted: user names, encoded or non-ASCII hosts, zones, odd numbers.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import quote, unquote, urljoin

_LONGEST = 2048
_PORTS = {"http": 80, "https": 443}
_LINK = re.compile(
    r"(?P<scheme>https?)://"
    r"(?P<host>[a-z0-9_](?:[a-z0-9_.-]{0,251}[a-z0-9_])?|\[[0-9a-f:.]{2,45}\])"
    r"(?::(?P<port>[1-9]\d{0,4}))?"
    r"(?P<target>(?:/[^?#]*)?(?:\?[^#]*)?)(?:#.*)?",
    re.ASCII | re.IGNORECASE,
)
#: What may stand in a path or a query as it is (RFC 3986, 3.3 and 3.4); ``%`` begins an escape.
_TARGET = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*", re.ASCII)
_KEPT = "!$&'()*+,;=:@/?%-._~"
#: A token in a query: who has the link has the token, so it is no public one.
_TOKEN_IN_QUERY = re.compile(r"[?&](?:gcube-token|access_token)=", re.IGNORECASE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublicLink:
    """An http or https link that was taken apart."""

    scheme: str
    #: In lower case; an IPv6 address without brackets.
    host: str
    port: int
    #: Path and query, percent-encoded, beginning with a slash.
    target: str

    @property
    def url(self) -> str:
        """The link, put together again."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.target}"

    @property
    def last_segment(self) -> str:
        """The decoded name at the end of the path, empty if there is none."""
        path = self.target.partition("?")[0]
        return unquote(path.rpartition("/")[2], errors="replace")

    def joined(self, location: str) -> PublicLink:
        """Where a redirect leads (RFC 9110, 10.2.2).

        Raises:
            ValueError: that is no link.
        """
        location = location.strip(" \t")
        if not location.isprintable():  # of which a library would leave out a part
            raise ValueError("it holds a control character")
        return parse_public_link(urljoin(self.url, location))


def parse_public_link(text: str) -> PublicLink:
    """Take a link apart.

    Raises:
        ValueError: it is none, or one of a kind that is not taken; says what is wrong with it.
    """
    if len(text) > _LONGEST:
        raise ValueError(f"it is longer than {_LONGEST} characters")
    match = _LINK.fullmatch(text) if text.isprintable() and text == text.strip() else None
    if match is None:
        raise ValueError("it is no plain http or https address: scheme, host, perhaps a port, path")
    target = quote(match["target"], safe=_KEPT)
    if not _TARGET.fullmatch(target):
        raise ValueError("it holds a '%' that is not followed by two hexadecimal digits")
    if _TOKEN_IN_QUERY.search(target):
        raise ValueError("it holds a token, so it is no public one; give the item's id instead")
    scheme = match["scheme"].lower()
    port = int(match["port"]) if match["port"] else _PORTS[scheme]
    if port > 65535:
        raise ValueError("its port is none")
    return PublicLink(
        scheme=scheme,
        host=_host(match["host"]),
        port=port,
        target=target if target.startswith("/") else f"/{target}",
    )


def _host(text: str) -> str:
    if text.startswith("["):
        return str(ipaddress.IPv6Address(text[1:-1]))
    if ".." in text:
        raise ValueError("its host is none")
    return text.lower()


class TrustedHosts:
    """The hosts and ports that links may lead to.

    Args:
        services: addresses of StorageHub; their hosts are trusted at their ports, and not named to
            anybody.
        named: hosts that the operator trusts, ``host`` at the usual ports or ``host:port``.
    """

    def __init__(self, services: Iterable[str], named: Iterable[str]) -> None:
        self._named = tuple(named)
        self._addresses: set[tuple[str, int]] = set()
        for service in services:
            try:
                link = parse_public_link(service)
            except ValueError:
                continue  # an address that we can use and no link can name
            self._addresses.add((link.host, link.port))
        for name in self._named:
            host, _, port = name.lower().partition(":")
            ports = [int(port)] if port else _PORTS.values()
            self._addresses.update((host, each) for each in ports)

    def __contains__(self, link: PublicLink) -> bool:
        return (link.host, link.port) in self._addresses

    @property
    def described(self) -> str:
        """Which links are taken, as the end of a sentence."""
        if not self._named:
            return "Public links of this service's own StorageHub are taken, and no others."
        return f"Links to StorageHub itself are taken, and to {', '.join(self._named)}."
