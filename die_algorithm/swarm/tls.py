"""How the engine of another machine and this service know each other: mutual TLS, as Docker does it."""

from __future__ import annotations

import dataclasses
import ssl
from pathlib import Path

from die_algorithm.errors import SettingsError, SwarmUnavailable

_SETTING = "'docker_tls_dir'"


@dataclasses.dataclass(frozen=True)
class TlsFiles:
    """The files that prove who is who, named as Docker names them.

    Args:
        folder: where they are.

    Raises:
        SettingsError: a file cannot be read, or they do not fit together.
    """

    folder: Path

    def __post_init__(self) -> None:
        _check(self)

    @property
    def authority(self) -> Path:
        """The certificate of who vouches for the engine."""
        return self.folder / "ca.pem"

    @property
    def certificate(self) -> Path:
        """This service's own."""
        return self.folder / "cert.pem"

    @property
    def key(self) -> Path:
        """The key to that."""
        return self.folder / "key.pem"


def _check(files: TlsFiles) -> None:
    for path in (files.authority, files.certificate, files.key):
        try:
            path.open("rb").close()
        except OSError as error:
            raise SettingsError(
                f"The file {path} of the setting {_SETTING} cannot be read: {error.strerror}."
            ) from None
    try:
        context = ssl.create_default_context(cafile=files.authority)
        # A key that is locked by a password must not make a service ask for it on a terminal.
        context.load_cert_chain(files.certificate, files.key, password="")
    except (ssl.SSLError, ValueError):
        raise SettingsError(
            f"The files in {files.folder}, the setting {_SETTING}, are not an authority's certificate, "
            "one for this service and its key without password."
        ) from None


def tls_fault(error: ssl.SSLError) -> SwarmUnavailable:
    """What it means that a connection cannot be made."""
    if isinstance(error, ssl.SSLCertVerificationError):
        text = "The Docker engine's TLS certificate is not accepted"
        return SwarmUnavailable(f"{text}.", f"{text}: {error.verify_message.rstrip('.')}.")
    text = "There is no TLS connection to the Docker engine"
    words = (error.reason or error.strerror or type(error).__name__).replace("_", " ").lower()
    hint = f"See whether it speaks TLS and accepts the certificate in {_SETTING}."
    return SwarmUnavailable(f"{text}.", f"{text}: {words}. {hint}")
