"""The file of the administrators' tokens."""

from __future__ import annotations

from die_algorithm.admin_tokens import AdminTokens
from die_algorithm.check import Check, Level
from die_algorithm.errors import SettingsError
from die_algorithm.settings import Settings


def administrator_checks(settings: Settings) -> list[Check]:
    """A failure if the file cannot be read; nothing if it can, or if there is none."""
    try:
        AdminTokens(settings.admin_tokens_file).check()
    except SettingsError as error:
        return [
            Check(
                name="administrators",
                level=Level.FAIL,
                text=str(error),
                remedy="Mend the file; until then the service does not start.",
            )
        ]
    return []
