"""The operator's policy file: TOML, read once at the start, and wrong as a whole if a part of it is."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from die_algorithm.container_rules import ContainerRules
from die_algorithm.errors import SettingsError
from die_algorithm.image_policy import ImagePolicy
from die_algorithm.settings_values import reason


class Policy(BaseModel):
    """What the file says; without a file, what holds then."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: ImagePolicy = Field(default_factory=ImagePolicy)
    containers: ContainerRules = Field(default_factory=ContainerRules)

    @classmethod
    def load(cls, path: Path | None) -> Self:
        """Read the file.

        Args:
            path: of the file; None: there is none.

        Raises:
            SettingsError: it cannot be read, or something in it is wrong; says what and where.
        """
        return cls() if path is None else cls.parse(policy_text(path), path)

    @classmethod
    def parse(cls, text: str, path: Path) -> Self:
        """Understand the file's text.

        Args:
            text: what was read.
            path: from where, for errors.

        Raises:
            SettingsError: something in it is wrong; says what and where.
        """
        try:
            content = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise _unreadable(path, error) from None
        except RecursionError:
            raise SettingsError(f"The policy file {path} is nested too deep.") from None
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            found = [f"{_place(item['loc'])}: {reason(item)}" for item in error.errors()]
            raise SettingsError(f"The policy file {path} is wrong. {'; '.join(found)}.") from None


def policy_text(path: Path) -> str:
    """What is in the file.

    Raises:
        SettingsError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> SettingsError:
    return SettingsError(f"The policy file {path} cannot be read: {error}.")


def _place(location: tuple[int | str, ...]) -> str:
    """Where something is, such as ``images.groups[0].vres``."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return "".join(parts).lstrip(".") or "the file"
