"""Addresses as an operator may see them in an output that he passes on."""

from __future__ import annotations

import re

#: An address whose parts are beyond doubt: whatever stands before the ``@`` or in the query may be a
#: password.
_ADDRESS = re.compile(
    r"(?P<scheme>[\w+.-]+)://(?:[^@?]*@)?(?P<host>[\w.\-:\[\]]*)(?P<path>/[^?@]*)?(?:\?[^@]*)?"
)


def shown_address(url: str) -> str:
    """An address without user, password and query; the scheme alone if they cannot be told apart."""
    match = _ADDRESS.fullmatch(url)
    if match is None:
        return f"{url.partition('://')[0]}://…" if "://" in url else "an address without scheme"
    return f"{match['scheme']}://{match['host']}{match['path'] or ''}"
