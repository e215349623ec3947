"""The list of jobs, as JSON."""

from __future__ import annotations

from collections.abc import Sequence

from die_algorithm.errors import InvalidParameterValue
from die_algorithm.links import Links
from die_algorithm.models import ListedJob

#: Jobs in a list if its reader does not say how many, and at most.
USUAL, MOST = 100, 1000


def parse_limit(values: Sequence[str]) -> int:
    """How many jobs are asked for.

    Args:
        values: of the parameter ``limit``.

    Raises:
        InvalidParameterValue: that is no number from 1 to 1000, or there are several; locator ``limit``.
    """
    if not values:
        return USUAL
    text = values[0]
    is_number = text.isascii() and text.isdecimal() and len(text) <= len(str(MOST))
    if len(values) > 1 or not is_number or not 1 <= int(text) <= MOST:
        raise InvalidParameterValue(f"limit must be a number from 1 to {MOST}.", "limit")
    return int(text)


def job_list(jobs: Sequence[ListedJob], limit: int, links: Links, *, names_owners: bool) -> object:
    """What JSON says of jobs.

    Args:
        jobs: the newest first, one more than the limit if there are more.
        limit: how many are shown.
        links: where their status is.
        names_owners: whether each says whose it is.
    """
    return {
        "jobs": [_described(job, links, names_owners=names_owners) for job in jobs[:limit]],
        "more": len(jobs) > limit,
    }


def _described(job: ListedJob, links: Links, *, names_owners: bool) -> dict[str, str]:
    owner = {"owner": job.owner} if names_owners else {}
    return {
        "id": job.id,
        **owner,
        "state": job.state.value,
        "image": job.image,
        "accepted": job.accepted_at.isoformat(timespec="seconds"),
        "updated": job.reached_at.isoformat(timespec="seconds"),
        "status": links.status(job),
    }
