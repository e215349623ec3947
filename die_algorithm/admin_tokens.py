"""The operator's own tokens, of which a file holds the SHA-256 digests."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
from pathlib import Path

from die_algorithm.errors import SettingsError
from die_algorithm.models import UserToken

LOGGER = logging.getLogger(__name__)

_DIGEST = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)


class AdminTokens:
    """Tells whether a token is an administrator's.

    The file has a digest a line, as ``sha256sum`` writes it, perhaps with a remark behind it; lines that
    are empty or begin with ``#`` are passed over. It is read anew each time: who is taken out of it is out.

    Args:
        path: the file; None: there are no administrators.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._last: list[bytes] = []
        self._ever: set[bytes] = set()

    def check(self) -> None:
        """See that the file can be used.

        Raises:
            SettingsError: it cannot be read, or a line of it is no digest.
        """
        self._read()

    def hold(self, token: UserToken) -> bool:
        """Whether a token is one of them. While the file cannot be used, what it said last holds."""
        given = self._read_patiently(token)
        # All of them, whichever fits: the time tells nothing.
        return sum(hmac.compare_digest(given, digest) for digest in self._last) > 0

    def have_held(self, token: UserToken) -> bool:
        """Whether a token is one of them, or was once while this process has run.

        An administrator's token must not be taken for a user's, and sent to StorageHub, because somebody
        is writing the file, or has just taken it out.
        """
        given = self._read_patiently(token)
        return sum(hmac.compare_digest(given, digest) for digest in self._ever) > 0

    def _read_patiently(self, token: UserToken) -> bytes:
        try:
            self._read()
        except SettingsError as error:
            LOGGER.error("What was said before of administrators holds: %s", error)  # noqa: TRY400
        return hashlib.sha256(token.secret.encode()).digest()

    def _read(self) -> None:
        self._last = self._digests()
        self._ever.update(self._last)

    def _digests(self) -> list[bytes]:
        if self._path is None:
            return []
        try:
            lines = self._path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            raise SettingsError(
                "The file that the setting 'admin_tokens_file' names cannot be read."
            ) from None
        digests = []
        for number, line in enumerate(lines, 1):
            word = line.partition("#")[0].split(maxsplit=1)[:1]
            if not word:
                continue
            if not _DIGEST.fullmatch(word[0]):
                raise SettingsError(
                    f"Line {number} of the file that the setting 'admin_tokens_file' names does not begin "
                    "with a SHA-256 digest of 64 hexadecimal digits."
                )
            digests.append(bytes.fromhex(word[0]))
        return digests
