"""Database, key and results: what the first start will find, or make."""

from __future__ import annotations

import dataclasses

from die_algorithm.check import Check, Level
from die_algorithm.first_start import (
    demand_place,
    is_root_alone,
    is_shared,
    nearest_folder,
    other_owners,
    user_name,
)
from die_algorithm.job_store import unmade_files
from die_algorithm.readiness import demand_room, use_results
from die_algorithm.settings import Settings


def look_at_database(settings: Settings) -> str:
    """See that the database can be written, and make nothing.

    Returns:
        what was found, in a sentence.

    Raises:
        OSError: a file or folder that is missing cannot be made, or the disk is about to be full.
    """
    unmade = unmade_files(settings.database_url, settings.key_path)
    for path in unmade:
        demand_place(path)
    demand_room(nearest_folder(settings.data_dir / "any"))
    if not unmade:
        return "The jobs' database can be read and written."
    names = " and ".join(path.name for path in unmade)
    return f"The first start makes {names}, and can."


def look_at_results(settings: Settings) -> str:
    """See that results can be published, and make no folder.

    Returns:
        what was found, in a sentence.

    Raises:
        OSError: they cannot.
    """
    if settings.results_path.exists():
        return use_results(settings)
    demand_place(settings.results_path)
    demand_room(nearest_folder(settings.results_path))
    return "The first start makes the folder of the results, and can."


def user_checks(settings: Settings) -> list[Check]:
    """Warn where what was found holds for another user than the service's."""
    check = Check(
        name="user",
        level=Level.WARN,
        text=f"{settings.data_dir} is not there yet and belongs to whoever starts the service first; "
        "what is said here holds for root.",
        remedy="Let a user of its own start the service, and ask the doctor as that one.",
    )
    own = [settings.data_dir]
    if not is_shared(settings.results_path):
        own.append(settings.results_path)
    others = other_owners(own)
    if others:
        folder, owner = next(iter(others.items()))
        text = f"{folder} belongs to {owner}; what is said here holds for {user_name()}."
        remedy = "Ask the doctor, and start the service, as the user whom its folders belong to."
        return [dataclasses.replace(check, text=text, remedy=remedy)]
    return [check] if is_root_alone(settings.data_dir) else []
