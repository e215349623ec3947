"""Public links: an item's id and version, encrypted so that only this server can read them.

``E_`` and base64url, as StorageHub makes them (reference: storagehub 1.5, publiclink). The cipher
authenticates, so that nobody can make a link to an item of her choice.
"""

from __future__ import annotations

import base64
import binascii

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

PREFIX = "E_"
_VERSION = "_v"


class PublicLinks:
    """Makes and reads the last part of a public link.

    Args:
        key: from :meth:`new_key`.
    """

    def __init__(self, key: bytes) -> None:
        self._cipher = AESSIV(key)

    @staticmethod
    def new_key() -> bytes:
        """A random key."""
        return AESSIV.generate_key(256)

    def make(self, item_id: str, version: str | None = None) -> str:
        """The link's last part, the same each time for the same item and version."""
        text = item_id if version is None else f"{item_id}{_VERSION}{version}"
        return PREFIX + base64.urlsafe_b64encode(self._cipher.encrypt(text.encode(), None)).decode()

    def read(self, link: str) -> tuple[str, str | None] | None:
        """The item's id and the version if the link has one; None if we did not make the link."""
        if not link.startswith(PREFIX):
            return None
        try:
            data = base64.b64decode(link.removeprefix(PREFIX), altchars=b"-_", validate=True)
            text = self._cipher.decrypt(data, None).decode()
        except (binascii.Error, ValueError, InvalidTag):
            return None
        item_id, _, version = text.partition(_VERSION)
        return item_id, version or None
