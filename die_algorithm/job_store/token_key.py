"""The key that protects user tokens in the database; it lies outside of it."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from die_algorithm.errors import StoreUnavailable
from die_algorithm.models import UserToken

LOGGER = logging.getLogger(__name__)

_NEW_ONE = (
    "If there is no copy of it, make another one that the service's user alone may read, with 'openssl rand "
    "-base64 32 | tr /+ _-': the jobs under way end without their tokens."
)
_LOST = "The key that protects user tokens is not there, and tokens in the database were sealed with it."
_PUT_BACK = f"Put it back where 'key_file' says: a disk may not be mounted. {_NEW_ONE}"
_DAMAGED = "The key that protects user tokens is damaged."
_RESTORE = f"Put it back from a copy. {_NEW_ONE}"


class TokenKey:
    """Seals and unseals tokens.

    Args:
        path: the key's file; made at first use, readable by its owner only.
        is_needed: whether there is anything that was sealed; no other key is made then.

    Raises:
        StoreUnavailable: it can be neither read nor made, or is lost.
    """

    def __init__(self, path: Path, is_needed: Callable[[], bool] = lambda: False) -> None:
        self._cipher = _cipher(path, is_needed)
        self._has_failed = False

    def seal(self, token: UserToken | None) -> bytes | None:
        """Encrypt a token."""
        if token is None:
            return None
        # The secret first: a line's end is possible in the user name only.
        return self._cipher.encrypt(f"{token.secret}\n{token.username or ''}".encode())

    def unseal(self, sealed: bytes | None) -> UserToken | None:
        """Decrypt a token; None if it was sealed with another key: its job goes on as far as it can."""
        if sealed is None:
            return None
        try:
            secret, _, username = self._cipher.decrypt(sealed).decode().partition("\n")
        except InvalidToken:
            self._tell()
            return None
        return UserToken(secret, username or None)

    def _tell(self) -> None:
        if not self._has_failed:
            self._has_failed = True
            LOGGER.error(
                "A user token in the jobs' database was sealed with another key than that of 'key_file', "
                "which all processes on one database must share. With the right one it can be read again, "
                "unless its job has ended by then."
            )


def demand_key(path: Path, is_needed: Callable[[], bool]) -> None:
    """See that no other key would be made in place of one that is lost.

    Args:
        path: the key's file.
        is_needed: whether there is anything that was sealed.

    Raises:
        StoreUnavailable: the key is lost.
        OSError: its file cannot be looked at.
    """
    # In this order: whoever has sealed anything has made the key before.
    if not path.exists() and is_needed() and not path.exists():
        raise StoreUnavailable(_LOST, remedy=_PUT_BACK)


def _cipher(key_file: Path, is_needed: Callable[[], bool]) -> Fernet:
    try:
        demand_key(key_file, is_needed)
        if not key_file.exists():
            _make_key(key_file)
        return Fernet(key_file.read_bytes())
    except OSError as error:
        raise StoreUnavailable(
            "The key that protects user tokens can be neither read nor made."
        ) from error
    except ValueError:
        raise StoreUnavailable(_DAMAGED, remedy=_RESTORE) from None


def _make_key(path: Path) -> None:
    """Make the key, readable by its owner only; of two processes at once both get the first one's."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Not the process id: in a container it is the same again after every crash.
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(Fernet.generate_key())
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            path.hardlink_to(fresh)
    finally:
        fresh.unlink(missing_ok=True)
