"""From a job to the Swarm service that runs it: the body of ``POST /services/create``.

Written for the raw API of the Docker engine, because its client library does not know half of the
fields. What each field protects from is told in reference: safety 2.1 and 2.2.

Three fields of safety 2.2 are left out. There is no ``Hostname``: the service's name tells the operator
which job a container belongs to, and the program has no use for another name than the engine's. There is
no ``DNSConfig``: the name servers are the engine's own (``dns`` in its ``daemon.json``) or the machine's,
and ``scripts/job_network`` decides which of them containers reach. There is no label ``die.deadline``: the
worker keeps the deadlines, which stand in the job's record and count from different moments, and a job that
is found again without its record goes by those of the settings.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from collections.abc import Mapping, Sequence

from die_algorithm.container_rules import ContainerLimits, ContainerRules
from die_algorithm.errors import ServiceRefused
from die_algorithm.image_reference import ImageReference
from die_algorithm.models import EngineFacts, Job
from die_algorithm.settings import Settings
from die_algorithm.versions import release

#: Label of service and container: the job's id. Tasks are found by the service's label, and the
#: task itself tells the container's.
JOB_LABEL = "die.job"
#: Label of service and container: a pseudonym of the job's owner.
OWNER_LABEL = "die.owner"
#: Label of the service: which instance of the executor made it.
INSTANCE_LABEL = "die.service"
#: Label of service and container of a probe, which belongs to no job.
PROBE_LABEL = "die.probe"

#: Below ``/run/secrets``: the user token, for images that want it as a file.
TOKEN_FILE = "gcube-token"  # noqa: S105 - a name, not a token

#: Networks that each engine has, and lets services join; scripts/job_network puts no rules on them.
ENGINE_NETWORKS = ("bridge", "host", "none")

# Whoever the image's USER is may read it; nobody else is in the container.
_READABLE = 0o444
#: Versions of the engine's API (its history of changes).
_LIMITS_SINCE = (1, 41)
_PRIVILEGES_SINCE = (1, 44)
_SWAP_SINCE = (1, 52)
_OPEN_FILES = 4096
_LOG_FILES = "3"
#: What a profile's containers write to in place of a root file system that is read-only.
_IN_MEMORY = ("/tmp", "/var/tmp", "/run")  # noqa: S108 - of containers
_NOBODY = "65534:65534"


@dataclasses.dataclass(frozen=True)
class Shortfall:
    """A protection that containers should have and do not."""

    name: str
    #: What is missing, in a sentence.
    text: str
    #: What the operator can do about it.
    remedy: str


_NO_SECCOMP = Shortfall(
    "seccomp",
    "The engine has no seccomp, or another profile for it than Docker's own.",
    'Take "seccomp-profile" out of the engine\'s daemon.json, or use a kernel with seccomp.',
)
_NO_MEMORY_LIMIT = Shortfall(
    "memory limit",
    "The engine cannot limit memory: one container may take the whole machine's.",
    "Enable the memory cgroup in the kernel's command line.",
)
_NO_PIDS_LIMIT = Shortfall(
    "process limit",
    "The engine cannot limit processes: one container may start as many as the machine can have.",
    "Enable the pids cgroup in the kernel; for a rootless engine, delegate it.",
)
_NO_CPU_LIMIT = Shortfall(
    "CPU limit",
    "The engine cannot limit CPUs: one container may take all of the machine's.",
    "Enable the kernel's CFS quota in the cpu cgroup; for a rootless engine, delegate it.",
)


def service_spec(
    job: Job,
    settings: Settings,
    *,
    image: ImageReference,
    engine: EngineFacts,
    rules: ContainerRules,
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
            without a word, so those are not sent to them.
        rules: what containers may do.
        secret_id: of the secret with the token, if the image wants it as a file.

    Raises:
        ServiceRefused: the engine cannot keep what the rules demand for this image.
    """
    labels = _labels(job, settings)
    limits = rules.limits_for(image.name, settings)
    if unkept_demands(limits, settings, engine):
        raise ServiceRefused(
            "The operator demands more protection for this image than the Docker engine can give. "
            "Tell the operator the job's id; 'die doctor' says what is missing."
        )
    return {
        "Name": job.service_name,
        "Labels": labels,
        "TaskTemplate": task_template(
            _args(job),
            settings,
            image=image,
            engine=engine,
            limits=limits,
            labels=labels,
            secrets=_secrets(job, secret_id),
        ),
        "Mode": {"Replicated": {"Replicas": 0}},
        "EndpointSpec": {"Mode": "dnsrr"},
    }


def task_template(
    args: Sequence[str],
    settings: Settings,
    *,
    image: ImageReference,
    engine: EngineFacts,
    limits: ContainerLimits,
    labels: Mapping[str, str],
    secrets: Sequence[Mapping[str, object]] = (),
) -> dict[str, object]:
    """Describe the task of a job's service, or of a probe that looks at what jobs get.

    Args:
        args: what the image is called with.
        settings: the operator's.
        image: to run, pinned to its digest.
        engine: decides what can be asked for.
        limits: what the container may do and use.
        labels: of the container.
        secrets: files with secrets that it gets.
    """
    container = _container(args, settings, image, engine) | {"Labels": dict(labels)}
    if secrets:
        container["Secrets"] = list(secrets)
    task: dict[str, object] = {
        "ContainerSpec": container | _protections(limits, engine),
        "Resources": _resources(limits, engine),
        "RestartPolicy": {"Condition": "none"},
        "Placement": {"Constraints": list(settings.placement)},
        "LogDriver": {
            "Name": "local",
            "Options": {"max-size": str(int(settings.log_limit)), "max-file": _LOG_FILES},
        },
    }
    if settings.network:
        task["Networks"] = [{"Target": settings.network}]
    return task


def unkept_demands(
    limits: ContainerLimits, settings: Settings, engine: EngineFacts
) -> list[Shortfall]:
    """What a profile demands and cannot have, so that its images are not run.

    It is some of what :func:`shortfalls` finds.
    """
    if limits.profile != "strict":
        return []
    privileges = [] if forbids_new_privileges(limits, engine) else [_privileges(engine)]
    return [*privileges, *_unprotected(engine), *_open_network(settings)]


def shortfalls(settings: Settings, engine: EngineFacts, rules: ContainerRules) -> list[Shortfall]:
    """What is not asked for because the engine would drop it without a word, or is left open.

    Args:
        settings: the operator's.
        engine: the manager's.
        rules: what containers may do: what no profile asks for is not missing.
    """
    privileges = [
        _privileges(engine)
        for limits in rules.all_limits(settings)
        if limits.profile != "open" and not forbids_new_privileges(limits, engine)
    ]
    return [
        *privileges[:1],
        *_unprotected(engine),
        *_swap(engine),
        *_open_network(settings),
    ]


def _privileges(engine: EngineFacts) -> Shortfall:
    return Shortfall(
        "no-new-privileges",
        f"The engine's API {engine.api_version} ignores no-new-privileges for services.",
        'Install Docker Engine 25 or later, or set "no-new-privileges": true in each node\'s '
        "daemon.json and 'engines_forbid_new_privileges = true' in the policy file.",
    )


def _unprotected(engine: EngineFacts) -> list[Shortfall]:
    """What every profile asks for, and this engine or its kernel cannot keep."""
    found = []
    if release(engine.api_version) < _LIMITS_SINCE:
        found.append(
            Shortfall(
                "engine's API",
                f"The engine's API {engine.api_version} ignores for services which capabilities are "
                "dropped, and the limits of processes, open files and core files.",
                "Install Docker Engine 20.10 or later.",
            )
        )
    held = {
        _NO_SECCOMP: "seccomp" in engine.security,
        _NO_MEMORY_LIMIT: engine.limits_memory,
        _NO_PIDS_LIMIT: engine.limits_pids,
        _NO_CPU_LIMIT: engine.limits_cpus,
    }
    return found + [shortfall for shortfall, is_held in held.items() if not is_held]


def _swap(engine: EngineFacts) -> list[Shortfall]:
    if not engine.limits_memory or not engine.limits_swap:
        text = "The engine cannot limit swap: a container may swap as much as there is."
        return [Shortfall("swap", text, "Switch swap off on the nodes, or enable its accounting.")]
    if release(engine.api_version) < _SWAP_SINCE:
        text = "A container may swap as much again as it may use of memory."
        return [
            Shortfall("swap", text, "Switch swap off on the nodes, or install Docker Engine 29.")
        ]
    return []


def _open_network(settings: Settings) -> list[Shortfall]:
    if not settings.network:
        text = "The setting 'network' is empty, so containers share the engine's own bridge."
    elif settings.network in ENGINE_NETWORKS:
        text = (
            f"The setting 'network' is '{settings.network}', which is the engine's own and keeps "
            "containers from nothing or from StorageHub, too."
        )
    else:
        return []
    remedy = "Make a network for jobs with scripts/job_network and name it in 'network'."
    return [Shortfall("network", text, remedy)]


def forbids_new_privileges(limits: ContainerLimits, engine: EngineFacts) -> bool:
    """Whether a program in a container cannot become more than it is, by all that is known."""
    if limits.profile == "open":
        return False
    return (
        release(engine.api_version) >= _PRIVILEGES_SINCE
        or "no-new-privileges" in engine.security
        or limits.engines_forbid_new_privileges
    )


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


def _secrets(job: Job, secret_id: str | None) -> list[Mapping[str, object]]:
    if secret_id is None:
        return []
    file = {"Name": TOKEN_FILE, "UID": "0", "GID": "0", "Mode": _READABLE}
    return [{"File": file, "SecretID": secret_id, "SecretName": job.service_name}]


def _container(
    args: Sequence[str], settings: Settings, image: ImageReference, engine: EngineFacts
) -> dict[str, object]:
    container: dict[str, object] = {
        "Image": image.canonical,
        "Args": list(args),
        # Swarm would expand a template; no address in the settings can hold one.
        "Env": [f"STORAGEHUB_URL={settings.storagehub_url_in_containers}"],
        "Hosts": [_hosts_line(host) for host in settings.extra_hosts],
        # An image's own health check may declare the container unhealthy, and Swarm would end it.
        "Healthcheck": {"Test": ["NONE"]},
        "TTY": False,
        "OpenStdin": False,
        "Ulimits": [
            {"Name": "nofile", "Soft": _OPEN_FILES, "Hard": _OPEN_FILES},
            {"Name": "core", "Soft": 0, "Hard": 0},
        ],
        "StopGracePeriod": round(settings.stop_grace.total_seconds() * 1e9),
    }
    if engine.has_init:
        container["Init"] = True
    return container


def _protections(limits: ContainerLimits, engine: EngineFacts) -> dict[str, object]:
    """What a profile asks the engine for."""
    strict = limits.profile == "strict"
    # Docker's own set changes owners and users among others. Raw packets could turn away the other
    # jobs of a network from their machine, so that no profile may send them.
    dropped = "NET_RAW" if limits.profile == "open" else "ALL"
    protections: dict[str, object] = {"CapabilityDrop": [dropped]}
    if release(engine.api_version) >= _PRIVILEGES_SINCE:
        protections["Privileges"] = {
            "NoNewPrivileges": limits.profile != "open",
            "Seccomp": {"Mode": "default"},
            "AppArmor": {"Mode": "default"},
        }
    # Swarm cannot say "the image's user unless that is root", and does not tell what it is.
    if user := limits.user or (_NOBODY if strict else ""):
        protections["User"] = user
    if strict:
        protections["ReadOnly"] = True
        # The engine itself adds nosuid, nodev and noexec. It prefers the rights of the image's folder,
        # if it has one of this name, to the mode said here.
        protections["Mounts"] = [
            {
                "Type": "tmpfs",
                "Target": target,
                "TmpfsOptions": {"SizeBytes": limits.tmpfs, "Mode": 0o1777},
            }
            for target in _IN_MEMORY
        ]
    return protections


def _resources(limits: ContainerLimits, engine: EngineFacts) -> dict[str, object]:
    values: dict[str, object] = {"Pids": limits.pids}
    resources: dict[str, object] = {"Limits": values}
    if engine.limits_cpus:
        # An engine that cannot would refuse the container.
        values["NanoCPUs"] = round(limits.cpus * 1e9)
    if engine.limits_memory:
        values["MemoryBytes"] = limits.memory
        if engine.limits_swap and release(engine.api_version) >= _SWAP_SINCE:
            # Older engines let a container swap as much again.
            resources["SwapBytes"] = 0
    return resources


def _args(job: Job) -> list[str]:
    """The contract with the images: ``<command…> <token> <item id> <temp folder id>``."""
    if job.token is None or job.folder is None:
        raise ValueError("the job is not staged in")
    return [*job.request.command, job.token.secret, job.item_id, job.folder.id]


def _hosts_line(host: str) -> str:
    """``name:address`` as a line of ``/etc/hosts``."""
    name, _, address = host.partition(":")
    return f"{address} {name}"


def _pseudonym(owner: str) -> str:
    return hashlib.sha256(owner.encode()).hexdigest()[:16]
