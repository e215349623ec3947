"""What a step needs of a job, or the failure of a job that has lost it."""

from __future__ import annotations

from die_algorithm.errors import JobFault
from die_algorithm.models import FaultClass, Folder, Job, UserToken


def token_of(job: Job) -> UserToken:
    """The user token.

    Raises:
        JobFault: it cannot be read any more.
    """
    if job.token is None:
        raise JobFault(
            FaultClass.SYSTEM,
            "The service can no longer read the user token of this job. Submit the job again.",
        )
    return job.token


def folder_of(job: Job) -> Folder:
    """The temp folder.

    Raises:
        JobFault: nobody knows which it is.
    """
    if job.folder is None:
        raise JobFault(FaultClass.SYSTEM, "The job has lost its temp folder. Submit it again.")
    return job.folder
