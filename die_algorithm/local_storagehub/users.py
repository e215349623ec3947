"""The users of the embedded StorageHub: names, tokens and VREs, read from a TOML file.

::

    [[users]]
    name = "demo.user"
    fullname = "Demo User"
    tokens = ["00000000-0000-4000-8000-000000000000-98187548"]
    vre = "/d4science.research-infrastructures.eu/D4Research/AnalyticsLab"

``vre`` may be a list; the first is the context of the user's tokens. It may be left out.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from die_algorithm.errors import SettingsError
from die_algorithm.models import UserToken


def _list_of_one(value: object) -> object:
    return [value] if isinstance(value, str) else value


class User(BaseModel):
    """A person with a workspace. Its ``repr`` shows no token."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    fullname: str = ""
    tokens: tuple[Annotated[str, Field(min_length=1)], ...] = Field(repr=False, min_length=1)
    vre: Annotated[
        tuple[Annotated[str, Field(pattern=r"^(/[A-Za-z0-9._-]+)+$")], ...],
        BeforeValidator(_list_of_one),
    ] = ()


class _UsersFile(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    users: tuple[User, ...] = Field(min_length=1)


class Users:
    """Who may come in.

    Args:
        users: all of them; names and tokens must be unique.

    Raises:
        SettingsError: two users share a name or a token.
    """

    def __init__(self, users: tuple[User, ...]) -> None:
        self._by_name = {user.name: user for user in users}
        self._by_token = {_digest(token): user for user in users for token in user.tokens}
        if len(self._by_name) < len(users):
            raise SettingsError("Two users have the same name in the file of users.")
        if len(self._by_token) < sum(len(user.tokens) for user in users):
            raise SettingsError("A token stands twice in the file of users.")

    @classmethod
    def load(cls, path: Path) -> Users:
        """Read the file.

        Raises:
            SettingsError: it cannot be read, or is not what the module's docstring shows.
        """
        try:
            with path.open("rb") as file:
                return cls(_UsersFile.model_validate(tomllib.load(file)).users)
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SettingsError(f"The file of users {path} cannot be read: {error}") from None
        except ValidationError as error:
            raise SettingsError(f"The file of users {path} is wrong: {_explain(error)}") from None

    def __iter__(self) -> Iterator[User]:
        return iter(self._by_name.values())

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def with_token(self, token: str) -> User | None:
        """The owner of a token; None if it is nobody's, or a JWT that has expired.

        Digests are looked up, so that the time it takes says nothing about the tokens.
        """
        until = UserToken(token).validity.until
        if until is not None and until <= datetime.now(UTC):
            return None
        return self._by_token.get(_digest(token))

    def revoke(self, token: str) -> None:
        """Let a token open nothing any more, until the file is read again."""
        self._by_token.pop(_digest(token), None)

    @property
    def vres(self) -> dict[str, list[str]]:
        """The names of the members of each VRE."""
        members: dict[str, list[str]] = {}
        for user in self:
            for vre in user.vre:
                members.setdefault(vre, []).append(user.name)
        return members


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _explain(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
        for item in error.errors(include_input=False)
    )
