"""Whether clients behind a proxy can be told apart."""

from __future__ import annotations

from die_algorithm.check import Check, Level
from die_algorithm.settings import Settings


def proxy_checks(settings: Settings) -> list[Check]:
    """A warning if a proxy must stand before the service, which speaks no TLS, and none is trusted."""
    if settings.trusted_proxies or not settings.url.startswith("https://"):
        return []
    return [
        Check(
            name="proxies",
            level=Level.WARN,
            text="By the setting 'url' a proxy stands in front, but 'trusted_proxies' names none: all "
            "clients count as one sender, and one who asks too much shuts out everybody.",
            remedy="Name the proxy's address in 'trusted_proxies', and let it set X-Forwarded-For.",
        )
    ]
