"""The key that protects user tokens in the database; it lies outside of it."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from die_algorithm.errors import StoreUnavailable
from die_algorithm.models import UserToken


class TokenKey:
    """Seals and unseals tokens.

    Args:
        path: the key's file; made at first use, readable by its owner only.

    Raises:
        StoreUnavailable: it can be neither read nor made.
    """

    def __init__(self, path: Path) -> None:
        self._cipher = _cipher(path)

    def seal(self, token: UserToken | None) -> bytes | None:
        """Encrypt a token."""
        if token is None:
            return None
        # The secret first: a line's end is possible in the user name only.
        return self._cipher.encrypt(f"{token.secret}\n{token.username or ''}".encode())

    def unseal(self, sealed: bytes | None) -> UserToken | None:
        """Decrypt a token; None if the key was replaced: the job goes on as far as it can without."""
        if sealed is None:
            return None
        try:
            secret, _, username = self._cipher.decrypt(sealed).decode().partition("\n")
        except InvalidToken:
            return None
        return UserToken(secret, username or None)


def _cipher(key_file: Path) -> Fernet:
    try:
        if not key_file.exists():
            _make_key(key_file)
        return Fernet(key_file.read_bytes())
    except OSError as error:
        raise StoreUnavailable(
            "The key that protects user tokens can be neither read nor made."
        ) from error
    except ValueError:
        raise StoreUnavailable(
            "The key that protects user tokens is damaged. Remove its file: a new one is made, and "
            "the jobs under way end without their tokens."
        ) from None


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
