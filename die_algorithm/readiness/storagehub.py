"""Whether users' workspaces can be reached."""

from __future__ import annotations

from datetime import timedelta

from die_algorithm.check import Check, Level
from die_algorithm.errors import StorageHubError
from die_algorithm.settings import Settings
from die_algorithm.shown_address import shown_address
from die_algorithm.storagehub import StorageHub

#: Seconds for an answer.
_PATIENCE = 5.0


def storagehub_check(settings: Settings) -> Check:
    """A failure if StorageHub does not answer."""
    name, place = "StorageHub", shown_address(settings.storagehub_url)
    client = StorageHub(
        settings.storagehub_url,
        timeout=timedelta(seconds=_PATIENCE),
        min_rate=settings.transfer_min_rate,
        attempts=1,
    )
    try:
        client.ping()
    except StorageHubError:
        return Check(
            name=name,
            level=Level.FAIL,
            text="StorageHub does not answer.",
            remedy="Check the setting 'storagehub_url' and the way there; on a machine without one, "
            "start the embedded StorageHub with 'die local-storagehub'.",
            place=place,
        )
    finally:
        client.close()
    return Check(name=name, level=Level.OK, text="StorageHub answers.", place=place)
