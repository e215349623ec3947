"""What the first start would make of the jobs' database and its key, seen without making it."""

from __future__ import annotations

from pathlib import Path

from die_algorithm.job_store.database import look_at_database
from die_algorithm.job_store.store import holds_tokens
from die_algorithm.job_store.token_key import TokenKey, demand_key


def unmade_files(url: str, key_file: Path) -> list[Path]:
    """See whether database and key can be used as they are, and make or change nothing.

    Args:
        url: SQLAlchemy URL of the database.
        key_file: where the key of the tokens lies.

    Returns:
        Those of the two files that are not there yet. A database on a server is none.

    Raises:
        SettingsError: the URL is none, or its driver is missing.
        StoreUnavailable: the database or the key cannot be used, or the key is lost.
        OSError: a file cannot be looked at.
    """
    unmade = [] if key_file.exists() else [key_file]
    if not unmade:
        TokenKey(key_file)
    database = look_at_database(
        url, lambda connection: demand_key(key_file, lambda: holds_tokens(connection))
    )
    return [database, *unmade] if database else unmade
