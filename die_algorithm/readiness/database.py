"""Whether jobs can be recorded."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from die_algorithm.check import Check, Level
from die_algorithm.errors import SettingsError, StoreError, StoreUnavailable
from die_algorithm.first_start import nearest_folder
from die_algorithm.readiness.disk_room import demand_room
from die_algorithm.runtime import job_store
from die_algorithm.settings import Settings
from die_algorithm.shown_address import shown_address


def _use_database(settings: Settings) -> str:
    # This service has made it. Another one in its place would be of use until the next start only.
    if not settings.key_path.exists():
        raise StoreUnavailable(
            "The key that protects user tokens is not there any more: a disk may not be mounted. Jobs that "
            "are accepted now could not go on after a restart."
        )
    store = job_store(settings)
    try:
        store.check()
    finally:
        store.close()
    # The key is there in any case; a database on another disk or server is not looked at.
    demand_room(nearest_folder(settings.data_dir / "any"))
    return "The jobs' database can be read and written."


def database_check(settings: Settings, use: Callable[[Settings], str] = _use_database) -> Check:
    """A failure if jobs cannot be recorded.

    Args:
        settings: the operator's.
        use: finds out, and says what was found. It raises ``SettingsError``, ``StoreError`` or ``OSError``.
    """
    check = Check(
        name="jobs' database",
        level=Level.FAIL,
        text="The jobs' database cannot be written.",
        remedy="Check the settings 'data_dir' and 'database': the folder must exist on a disk with "
        "room and belong to the service's user; a database server must be running.",
        place=shown_address(settings.database_url),
    )
    try:
        text = use(settings)
    except SettingsError as error:
        return dataclasses.replace(check, text=str(error))
    except StoreError as error:
        return dataclasses.replace(check, text=str(error), remedy=error.remedy or check.remedy)
    except OSError as error:
        return dataclasses.replace(check, text=f"{check.text[:-1]}: {error.strerror}.")
    return dataclasses.replace(check, level=Level.OK, text=text, remedy="")
