"""What a program of the service reads once, at its start: the settings and the policy.

The worker that ``die serve`` starts, and starts again, is handed what the web process has read itself:
two readings of files that somebody edits meanwhile would make them follow different rules.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from die_algorithm.errors import SettingsError
from die_algorithm.policy import Policy, policy_text
from die_algorithm.settings import Settings


@dataclasses.dataclass(frozen=True)
class Configuration:
    """One reading.

    Args:
        settings: the operator's.
        text: what the policy file says; None: there is none.
    """

    settings: Settings
    #: It may hold what is none of the log's business, like the settings.
    text: str | None = dataclasses.field(repr=False)

    @classmethod
    def load(cls, path: Path | None) -> Configuration:
        """Read the files and the environment, as :meth:`Settings.load` and :meth:`Policy.load`.

        Args:
            path: the configuration file.

        Raises:
            SettingsError: something in them is wrong; says what and where.
        """
        settings = Settings.load(path)
        file = settings.policy_file
        read = cls(settings, None if file is None else policy_text(file))
        read.policy()
        return read

    def policy(self) -> Policy:
        """What the policy file says.

        Raises:
            SettingsError: something in it is wrong.
        """
        if self.text is None or self.settings.policy_file is None:
            return Policy()
        return Policy.parse(self.text, self.settings.policy_file)

    def handed_over(self) -> bytes:
        """All of it, the secrets in the settings too, for a process that is to go by it."""
        settings = self.settings.model_dump(mode="json")
        return json.dumps({"settings": settings, "policy": self.text}).encode()

    @classmethod
    def taken_over(cls, data: bytes) -> Configuration:
        """Take what another process has handed over.

        Raises:
            SettingsError: it is of another release.
        """
        try:
            content = json.loads(data)
            taken = cls(Settings.model_validate(content["settings"]), content["policy"])
            taken.policy()
        except (ValueError, KeyError, TypeError, SettingsError):
            # Without their words, which may hold a secret.
            raise SettingsError(
                "What the service has read at its start is not understood: it was started by another "
                "release. Restart it."
            ) from None
        return taken
