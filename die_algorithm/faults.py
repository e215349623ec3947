"""What an error means for a job: whether it may pass, and if not, whose fault it is."""

from __future__ import annotations

from datetime import datetime, timedelta

from die_algorithm.errors import (
    ArchiveIncomplete,
    ArchiveTooLarge,
    DamagedDownload,
    DieError,
    DiskTrouble,
    FolderTooDeep,
    ImageNotFound,
    ImageUnusable,
    ItemDoubtful,
    ItemUnusable,
    JobFault,
    LinkTooLarge,
    LinkUnavailable,
    LinkUnusable,
    NoRoom,
    NotASwarm,
    RegistryLimits,
    RegistryUnavailable,
    ResultUnwritable,
    ServiceRefused,
    StorageHubError,
    StorageHubUnavailable,
    SwarmError,
    SwarmUnavailable,
    TokenRejected,
)
from die_algorithm.models import Failure, FaultClass

#: Errors that may pass: a job waits and tries the step again.
PASSING = (
    StorageHubUnavailable,
    ItemDoubtful,
    DamagedDownload,
    LinkUnavailable,
    RegistryUnavailable,
    SwarmUnavailable,
    NotASwarm,
    DiskTrouble,
)

#: Errors whose message is written for the client already.
_SPEAKING: dict[type[DieError], FaultClass] = {
    ImageNotFound: FaultClass.IMAGE,
    ImageUnusable: FaultClass.IMAGE,
    ArchiveTooLarge: FaultClass.LIMIT,
    FolderTooDeep: FaultClass.LIMIT,
    ServiceRefused: FaultClass.SYSTEM,
}

_SENTENCES: dict[type[DieError], tuple[FaultClass, str]] = {
    TokenRejected: (
        FaultClass.TOKEN,
        "StorageHub no longer accepts the user token: it has expired or was revoked. Submit the job "
        "again with a new token.",
    ),
    ItemUnusable: (
        FaultClass.STORAGE,
        "StorageHub could not give a file or folder of this job. Check that the job's folder is still "
        "in the workspace, and submit the job again.",
    ),
    ArchiveIncomplete: (
        FaultClass.STORAGE,
        "StorageHub did not send the result whole, not even file by file. Submit the job again.",
    ),
    NoRoom: (
        FaultClass.SYSTEM,
        "This service has no room left for the result. Tell the operator, then submit the job again.",
    ),
    ResultUnwritable: (
        FaultClass.SYSTEM,
        "This service cannot write results. Tell the operator, then submit the job again.",
    ),
    # Last: what the rows above do not tell apart.
    StorageHubError: (
        FaultClass.STORAGE,
        "StorageHub refused what this job needs. Tell the operator the job's id.",
    ),
}

_NEW_LINK = "Check the link, and submit the job again."
_STORAGEHUB = "StorageHub"
_LINK_HOST = "the host of the public link"
_REGISTRY = "the image registry"
_SWARM = "the Docker Swarm"


def failure(error: DieError) -> Failure:
    """The failure of a job that met an error which does not pass."""
    if isinstance(error, JobFault):
        return Failure(fault_class=error.fault_class, text=error.text)
    if isinstance(error, LinkTooLarge | LinkUnusable):
        is_limit = isinstance(error, LinkTooLarge)
        return Failure(
            fault_class=FaultClass.LIMIT if is_limit else FaultClass.STORAGE,
            text=f"The file could not be fetched from the public link: {error}. "
            + ("Ask the operator for more, or make it smaller." if is_limit else _NEW_LINK),
        )
    for kind, fault_class in _SPEAKING.items():
        if isinstance(error, kind):
            return Failure(fault_class=fault_class, text=str(error))
    for kind, (fault_class, text) in _SENTENCES.items():
        if isinstance(error, kind):
            return Failure(fault_class=fault_class, text=text)
    return internal()


def token_expired(at: datetime | None) -> Failure:
    """The failure of a job whose user token did not last until it was done."""
    when = f" at {at:%Y-%m-%d %H:%M} UTC" if at else ""
    return Failure(
        fault_class=FaultClass.TOKEN,
        text=f"The user token has expired{when}, before the job was done. Submit the job again with a "
        "new token.",
    )


def internal() -> Failure:
    """The failure of a job that met an error nobody foresaw."""
    return Failure(
        fault_class=FaultClass.SYSTEM,
        text="Something went wrong in this service. Tell the operator the job's id.",
    )


def waiting_for(error: DieError) -> str:
    """What a job waits for after an error that may pass, as half a sentence."""
    if isinstance(error, RegistryLimits):
        return "waiting until the image registry may be asked again, which limits how often that is"
    if isinstance(error, DiskTrouble):
        return "waiting until this service can write its result, which it cannot at the moment"
    return f"waiting for {_away(error)}, which does not answer as it should"


def given_up(error: DieError, since: datetime) -> Failure:
    """The failure of a job that has waited long enough."""
    name = _away(error)
    if isinstance(error, RegistryLimits):
        return Failure(
            fault_class=FaultClass.SYSTEM,
            text="The job was given up because the image registry has let nobody here ask it since "
            f"{since:%Y-%m-%d %H:%M} UTC. Submit it again later, or tell the operator: a mirror helps.",
        )
    if isinstance(error, DiskTrouble):
        return Failure(
            fault_class=FaultClass.SYSTEM,
            text="The job was given up because this service could not write its result since "
            f"{since:%Y-%m-%d %H:%M} UTC. Tell the operator, then submit the job again.",
        )
    return Failure(
        fault_class=FaultClass.STORAGE if name in (_STORAGEHUB, _LINK_HOST) else FaultClass.SYSTEM,
        text=f"The job was given up because {name} has not answered as it should since "
        f"{since:%Y-%m-%d %H:%M} UTC. Submit it again when it is back.",
    )


def ran_too_long(deadline: timedelta) -> Failure:
    """The failure of a job whose program was stopped at its run deadline."""
    return Failure(
        fault_class=FaultClass.LIMIT,
        text=f"The program was stopped because it ran longer than the time limit of "
        f"{_duration(deadline)}. Give it less to do, or ask the operator for more time.",
    )


def wrote_too_much(limit: int) -> Failure:
    """The failure of a job whose container was stopped because it filled the machine's disk.

    Args:
        limit: bytes that it might have written.
    """
    return Failure(
        fault_class=FaultClass.LIMIT,
        text=f"The program was stopped because it wrote more than {size_in_words(limit)} to the "
        "container's own disk. Write results to the workspace folder and remove what is no longer "
        "needed, or ask the operator for more.",
    )


def took_too_long(deadline: timedelta) -> Failure:
    """The failure of a job that had not run to its end by its total deadline."""
    return Failure(
        fault_class=FaultClass.LIMIT,
        text=f"The job was given up because it had not come to its end {_duration(deadline)} after it "
        "was accepted, waiting included. Submit it again, or ask the operator for more time.",
    )


def disappeared() -> Failure:
    """The failure of a job whose service is not there any more."""
    return Failure(
        fault_class=FaultClass.SYSTEM,
        text="The job's container has disappeared from the Swarm before it ended. Submit the job "
        "again; if it happens again, tell the operator.",
    )


def records_lost() -> Failure:
    """The failure of a job whose record was lost before its program was started."""
    return Failure(
        fault_class=FaultClass.SYSTEM,
        text="This service lost its records before the program was started. Submit the job again.",
    )


def never_started(message: str, deadline: timedelta) -> Failure:
    """The failure of a job whose container did not start by the start deadline.

    Args:
        message: what Swarm says about its task.
        deadline: the time it had.
    """
    reason = ""
    if "no suitable node" in message:
        reason = " because no machine of the Swarm fits or has room"
    return Failure(
        fault_class=FaultClass.SYSTEM,
        text=f"The container was not started within {_duration(deadline)}{reason}. Submit the job "
        "again later, or tell the operator.",
    )


def not_fetched() -> Failure:
    """The failure of a job whose image no machine could fetch, though its registry can be asked for it."""
    return Failure(
        fault_class=FaultClass.IMAGE,
        text="The machine could not fetch the image, though its registry knows it. Either not all of it is "
        "there and public: check with 'docker pull'. Or the registry cannot be reached from the machine, "
        "or lets it fetch no more for a while: submit the job again later; if it happens again, tell the "
        "operator.",
    )


def _away(error: DieError) -> str:
    if isinstance(error, RegistryUnavailable):
        return _REGISTRY
    if isinstance(error, LinkUnavailable):
        return _LINK_HOST
    return _SWARM if isinstance(error, SwarmError) else _STORAGEHUB


def size_in_words(count: int) -> str:
    """Bytes in words: ``2 GiB``, ``1.5 GiB``, ``512 MiB``."""
    for exponent, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        if count >= 1024**exponent:
            return f"{count / 1024**exponent:.4g} {unit}"
    return f"{count} bytes"


def _duration(duration: timedelta) -> str:
    seconds = duration.total_seconds()
    units = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))
    size, unit = next((pair for pair in units if seconds >= pair[0]), units[-1])
    count = seconds / size
    return f"{count:g} {unit}" + ("s" if count != 1 else "")
