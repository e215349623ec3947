"""From a job to the Swarm service that runs it: the body of ``POST /services/create``.

Written for the raw API of the Docker engine, because its client library does not know half of the
fields. What each field protects from is told in reference: safety 2.1 and 2.2.
"""

from __future__ import annotations

import base64
import hashlib
import re

from die_algorithm.errors import SettingsError
from die_algorithm.image_reference import ImageReference
from die_algorithm.models import EngineFacts, Job
from die_algorithm.settings import Settings

#: Label of service and container: the job's id. Tasks are found by the service's label, and the
#: task itself tells the container's.
JOB_LABEL = "die.job"
#: Label of service and container: a pseudonym of the job's owner.
OWNER_LABEL = "die.owner"
#: Label of the service: which instance of the executor made it.
INSTANCE_LABEL = "die.service"

#: Below ``/run/secrets``: the user token, for images that want it as a file.
TOKEN_FILE = "gcube-token"  # noqa: S105 - a name, not a token

# Whoever the image's USER is may read it; nobody else is in the container.
_READABLE = 0o444
_NO_NEW_PRIVILEGES_SINCE = (1, 44)
_SWAP_SINCE = (1, 52)
_OPEN_FILES = 4096
_LOG_FILES = "3"


def service_spec(
    job: Job,
    settings: Settings,
    *,
    image: ImageReference,
    engine: EngineFacts,
    secret_id: str | None = None,
) -> dict[str, object]:
    """Describe the service of a job, as it is created: without a task.

    A worker that was frozen and wakes up may create it long after others have ended the job. So its
    one task is asked for by a second call, which fails if the service is gone or was started before.

    The command goes to ``Args``, so the image's ENTRYPOINT stays, as with ``docker run IMAGE CMD``.
    The user token is the word after the command and stands nowhere else. Nothing that a user wrote
    goes where Swarm expands templates (environment, host name, mounts).

    Args:
        job: staged in, so that it has a token and a temp folder.
        settings: the operator's.
        image: to run, pinned to its digest.
        engine: decides what can be asked for; engines ignore fields that are younger than they are
            without a word, so those are not sent to them. The operator of an engine without
            ``NoNewPrivileges`` (API 1.44) sets ``no-new-privileges`` for the whole engine instead.
        secret_id: of the secret with the token, if the image wants it as a file.

    Raises:
        SettingsError: the StorageHub address would be expanded as a template.
    """
    labels = _labels(job, settings)
    task: dict[str, object] = {
        "ContainerSpec": _container(job, settings, image, engine)
        | {"Labels": labels}
        | _secrets(job, secret_id),
        "Resources": _resources(settings, engine),
        "RestartPolicy": {"Condition": "none"},
        "Placement": {"Constraints": list(settings.placement)},
        "LogDriver": {
            "Name": "local",
            "Options": {"max-size": str(int(settings.log_limit)), "max-file": _LOG_FILES},
        },
    }
    if settings.network:
        task["Networks"] = [{"Target": settings.network}]
    return {
        "Name": job.service_name,
        "Labels": labels,
        "TaskTemplate": task,
        "Mode": {"Replicated": {"Replicas": 0}},
        "EndpointSpec": {"Mode": "dnsrr"},
    }


def secret_spec(job: Job, settings: Settings) -> dict[str, object]:
    """Describe the secret with a job's user token: the body of ``POST /secrets/create``.

    It has the name and the labels of the job's service.

    Args:
        job: it has its token.
        settings: the operator's.
    """
    if job.token is None:
        raise ValueError("the job has no token")
    data = base64.b64encode(job.token.secret.encode()).decode()
    return {"Name": job.service_name, "Labels": _labels(job, settings), "Data": data}


def _labels(job: Job, settings: Settings) -> dict[str, str]:
    return {
        JOB_LABEL: job.id,
        OWNER_LABEL: _pseudonym(job.owner),
        INSTANCE_LABEL: settings.instance_name,
    }


def _secrets(job: Job, secret_id: str | None) -> dict[str, object]:
    if secret_id is None:
        return {}
    file = {"Name": TOKEN_FILE, "UID": "0", "GID": "0", "Mode": _READABLE}
    return {
        "Secrets": [{"File": file, "SecretID": secret_id, "SecretName": job.service_name}],
    }


def _container(
    job: Job, settings: Settings, image: ImageReference, engine: EngineFacts
) -> dict[str, object]:
    container: dict[str, object] = {
        "Image": image.canonical,
        "Args": _args(job),
        "Env": [f"STORAGEHUB_URL={_literal(settings.storagehub_url_in_containers)}"],
        "Hosts": [_hosts_line(host) for host in settings.extra_hosts],
        # An image's own health check may declare the container unhealthy, and Swarm would end it.
        "Healthcheck": {"Test": ["NONE"]},
        "TTY": False,
        "OpenStdin": False,
        "CapabilityDrop": ["ALL"],
        "Ulimits": [
            {"Name": "nofile", "Soft": _OPEN_FILES, "Hard": _OPEN_FILES},
            {"Name": "core", "Soft": 0, "Hard": 0},
        ],
        "StopGracePeriod": round(settings.stop_grace.total_seconds() * 1e9),
    }
    if engine.has_init:
        container["Init"] = True
    if _version(engine.api_version) >= _NO_NEW_PRIVILEGES_SINCE:
        container["Privileges"] = {"NoNewPrivileges": True}
    return container


def _resources(settings: Settings, engine: EngineFacts) -> dict[str, object]:
    limits: dict[str, object] = {
        "NanoCPUs": round(settings.cpu_limit * 1e9),
        "Pids": settings.pids_limit,
    }
    resources: dict[str, object] = {"Limits": limits}
    if engine.limits_memory:
        limits["MemoryBytes"] = int(settings.memory_limit)
        if _version(engine.api_version) >= _SWAP_SINCE:
            # Older engines let a container swap as much again.
            resources["SwapBytes"] = 0
    return resources


def _args(job: Job) -> list[str]:
    """The contract with the images: ``<command…> <token> <item id> <temp folder id>``."""
    if job.token is None or job.folder is None:
        raise ValueError("the job is not staged in")
    return [*job.request.command, job.token.secret, job.item_id, job.folder.id]


def _literal(value: str) -> str:
    """An environment value as it is; Swarm would expand what stands between double braces."""
    if "{{" in value:
        raise SettingsError("The address of StorageHub must not hold '{{'.")
    return value


def _hosts_line(host: str) -> str:
    """``name:address`` as a line of ``/etc/hosts``."""
    name, _, address = host.partition(":")
    return f"{address} {name}"


def _pseudonym(owner: str) -> str:
    return hashlib.sha256(owner.encode()).hexdigest()[:16]


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text)[:2])
