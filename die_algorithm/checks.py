"""Is everything there that the service needs? Each check says what is missing and how to mend it."""

from __future__ import annotations

import dataclasses
import re
from datetime import timedelta

from die_algorithm.errors import StorageHubError, StoreError, SwarmError
from die_algorithm.models import EngineFacts
from die_algorithm.results import Results
from die_algorithm.runtime import job_store
from die_algorithm.settings import Settings
from die_algorithm.storagehub import StorageHub
from die_algorithm.swarm import Swarm

#: The oldest engine API whose Swarm takes what a job's service needs (reference: safety 2.1).
_OLDEST_API = (1, 41)
_PATIENCE = 5.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """One thing looked at."""

    name: str
    passed: bool
    #: What was found, in a sentence.
    text: str
    #: What to do about it; empty if nothing needs to be done.
    remedy: str = ""


def readiness(settings: Settings) -> list[Check]:
    """What must work now for a job to run."""
    return [_database(settings), _results(settings), _storagehub(settings), _swarm(settings)[0]]


def worker(*, works: bool) -> Check:
    """Whether jobs are carried on."""
    if works:
        return Check(name="worker", passed=True, text="The worker works.")
    return Check(
        name="worker",
        passed=False,
        text="The worker does not come round: jobs are accepted, but do not go on.",
        remedy="Restart the service; its log has the reason.",
    )


def doctor(settings: Settings) -> list[Check]:
    """Everything an operator can mend, what only warns included."""
    swarm, facts = _swarm(settings)
    checks = [_database(settings), _results(settings), _storagehub(settings), swarm]
    return checks + (_engine_warnings(settings, facts) if facts else [])


def _database(settings: Settings) -> Check:
    name = "jobs' database"
    try:
        store = job_store(settings)
        try:
            store.check()
        finally:
            store.close()
    except (StoreError, OSError):
        return Check(
            name=name,
            passed=False,
            text="The jobs' database cannot be written.",
            remedy="Check the settings 'data_dir' and 'database': the folder must exist on a disk with "
            "room and belong to the service's user; a database server must be running.",
        )
    return Check(name=name, passed=True, text="The jobs' database can be read and written.")


def _results(settings: Settings) -> Check:
    name = "results"
    try:
        Results(settings.results_path).check()
    except OSError as error:
        return Check(
            name=name,
            passed=False,
            text=f"No file can be written into the folder of the results: {error.strerror}.",
            remedy="Make room, or set 'results_dir' to a folder that the service's user may write.",
        )
    return Check(name=name, passed=True, text="Results can be written.")


def _storagehub(settings: Settings) -> Check:
    name = "StorageHub"
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
            passed=False,
            text="StorageHub does not answer.",
            remedy="Check the setting 'storagehub_url' and the way there; on a machine without one, "
            "start the embedded StorageHub with 'die local-storagehub'.",
        )
    finally:
        client.close()
    return Check(name=name, passed=True, text="StorageHub answers.")


def _swarm(settings: Settings) -> tuple[Check, EngineFacts | None]:
    name = "Docker Swarm"
    swarm = Swarm(settings.docker_host, timeout=_PATIENCE)
    try:
        facts = swarm.facts()
    except SwarmError:
        check = Check(
            name=name,
            passed=False,
            text="The Docker engine does not answer.",
            remedy="Install it ('apt-get install docker.io'), start it, let the service's user reach "
            "it, and check the setting 'docker_host'.",
        )
        return check, None
    finally:
        swarm.close()
    if not facts.is_manager:
        check = Check(
            name=name,
            passed=False,
            text="The Docker engine is not a manager of a Swarm.",
            remedy="Make it one with 'docker swarm init', or point 'docker_host' to a manager.",
        )
    elif _version(facts.api_version) < _OLDEST_API:
        check = Check(
            name=name,
            passed=False,
            text=f"The Docker engine's API {facts.api_version} is too old.",
            remedy="Install Docker Engine 20.10 or later.",
        )
    else:
        nodes = "1 node" if facts.nodes == 1 else f"{facts.nodes} nodes"
        check = Check(
            name=name,
            passed=True,
            text=f"Docker {facts.version} manages a Swarm of {nodes}.",
        )
    return check, facts


def _engine_warnings(settings: Settings, facts: EngineFacts) -> list[Check]:
    warnings = []
    if not facts.has_init:
        warnings.append(
            Check(
                name="docker-init",
                passed=True,
                text="The engine has no docker-init: containers run without it, and a program that "
                "does not care for its children leaves zombies until its end.",
                remedy="Install it ('apt-get install tini').",
            )
        )
    if not facts.limits_memory:
        warnings.append(
            Check(
                name="memory limit",
                passed=True,
                text="The engine cannot limit memory: one container may take the whole machine's.",
                remedy="Enable the memory cgroup in the kernel's command line.",
            )
        )
    if _version(facts.api_version) < (1, 44):
        warnings.append(
            Check(
                name="no-new-privileges",
                passed=True,
                text=f"The engine's API {facts.api_version} ignores no-new-privileges for services.",
                remedy='Set "no-new-privileges": true in the engine\'s daemon.json, or install Docker '
                "Engine 25 or later.",
            )
        )
    if settings.cpu_limit > facts.cpus:
        warnings.append(
            Check(
                name="cpu_limit",
                passed=False,
                text=f"'cpu_limit' is {settings.cpu_limit:g}, but the machine has {facts.cpus} CPUs: the "
                "engine would reject every container.",
                remedy="Lower the setting 'cpu_limit'.",
            )
        )
    return warnings


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])
