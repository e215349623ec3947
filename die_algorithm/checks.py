"""Is everything there that the service needs? Each check says what is missing and how to mend it."""

from __future__ import annotations

import dataclasses
import errno
import re
import shutil
from collections.abc import Callable, Sequence
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from die_algorithm.admin_tokens import AdminTokens
from die_algorithm.check import Check, Level
from die_algorithm.container_rules import ContainerLimits, ContainerRules
from die_algorithm.errors import (
    DieError,
    ImageError,
    InvalidParameterValue,
    RegistryUnavailable,
    SettingsError,
    StorageHubError,
    StoreError,
    SwarmError,
)
from die_algorithm.first_start import (
    demand_place,
    is_root_alone,
    nearest_folder,
    other_owners,
    user_name,
)
from die_algorithm.image_reference import DOCKER_HUB
from die_algorithm.job_store import unmade_files
from die_algorithm.known_flaws import known_flaws
from die_algorithm.models import EngineFacts, NodeFacts, WorkerReport
from die_algorithm.policy import Policy
from die_algorithm.probe import NodeReport, Probe
from die_algorithm.registry import Registry
from die_algorithm.results import Results
from die_algorithm.runtime import job_store, registry_client, swarm_client
from die_algorithm.service_spec import forbids_new_privileges, shortfalls, unkept_demands
from die_algorithm.settings import Settings
from die_algorithm.storagehub import StorageHub
from die_algorithm.versions import release

#: The oldest engine API whose Swarm takes what a job's service needs (reference: safety 2.1).
_OLDEST_API = (1, 41)
#: The oldest engine whose tasks can forbid new privileges.
_FORBIDDING_ENGINE = (25,)
_PATIENCE = 5.0
#: MiB of a disk that must be free: enough to record jobs and to publish small results.
_ROOM = 64
#: An address whose parts are beyond doubt: whatever stands before the ``@`` or in the query may be a
#: password.
_ADDRESS = re.compile(
    r"(?P<scheme>[\w+.-]+)://(?:[^@?]*@)?(?P<host>[\w.\-:\[\]]*)(?P<path>/[^?@]*)?(?:\?[^@]*)?"
)


def readiness(settings: Settings) -> list[Check]:
    """What must work now for a job to run."""
    return [_database(settings), _results(settings), _storagehub(settings)]


def workers(reports: Callable[[], Sequence[WorkerReport]], *, works_here: bool) -> list[Check]:
    """Whether jobs are carried on, and whether the Swarm can be used: only workers talk to it.

    Args:
        reports: what the workers say of themselves.
        works_here: whether the worker of this process works, if it has one.
    """
    try:
        alive = [report for report in reports() if report.is_alive]
    except DieError:
        alive = []
    if not alive or not works_here:
        return [
            Check(
                name="worker",
                level=Level.FAIL,
                text="No worker comes round: jobs are accepted, but do not go on.",
                remedy="Restart the service, or start one with 'die worker'; its log has the reason.",
            )
        ]
    trouble = next((report.trouble for report in alive if report.trouble), "")
    return [
        Check(name="worker", level=Level.OK, text="The worker works."),
        Check(
            name="Docker Swarm",
            level=Level.FAIL if trouble else Level.OK,
            text=trouble or "The Swarm can be used.",
        ),
    ]


def doctor(settings: Settings, policy: Policy) -> list[Check]:
    """Everything an operator can mend, what only warns included. Names tell where it was looked.

    Nothing is made or changed: whoever asks may be another user than the service's.

    Args:
        settings: the operator's.
        policy: the same.
    """
    swarm, facts = _swarm(settings)
    checks = [
        _database(settings, _look_at_database),
        _results(settings, _look_at_results),
        *_another_user(settings),
        _storagehub(settings),
        *_registries(settings, policy),
        *_admins(settings),
        swarm,
        *_open_engine(settings),
    ]
    if facts is not None:
        checks += _engine_warnings(facts)
        checks += _shortfalls(settings, policy.containers, facts)
        if swarm.passed:
            checks += _demands(settings, policy.containers, facts)
    return [
        dataclasses.replace(check, name=f"{check.name} at {check.place}") if check.place else check
        for check in checks
    ]


def _use_database(settings: Settings) -> str:
    store = job_store(settings)
    try:
        store.check()
    finally:
        store.close()
    # The key is there in any case; a database on another disk or server is not looked at.
    _demand_room(settings.data_dir)
    return "The jobs' database can be read and written."


def _look_at_database(settings: Settings) -> str:
    unmade = unmade_files(settings.database_url, settings.key_path)
    for path in unmade:
        demand_place(path)
    _demand_room(nearest_folder(settings.data_dir / "any"))
    if not unmade:
        return "The jobs' database can be read and written."
    names = " and ".join(path.name for path in unmade)
    return f"The first start makes {names}, and can."


def _database(settings: Settings, use: Callable[[Settings], str] = _use_database) -> Check:
    check = Check(
        name="jobs' database",
        level=Level.FAIL,
        text="The jobs' database cannot be written.",
        remedy="Check the settings 'data_dir' and 'database': the folder must exist on a disk with "
        "room and belong to the service's user; a database server must be running.",
        place=_address(settings.database_url),
    )
    try:
        text = use(settings)
    except SettingsError as error:
        return dataclasses.replace(check, text=str(error))
    except StoreError:
        return check
    except OSError as error:
        return dataclasses.replace(check, text=f"{check.text[:-1]}: {error.strerror}.")
    return dataclasses.replace(check, level=Level.OK, text=text, remedy="")


def _use_results(settings: Settings) -> str:
    Results(settings.results_path).check()
    _demand_room(settings.results_path)
    return "Results can be written."


def _look_at_results(settings: Settings) -> str:
    if settings.results_path.exists():
        return _use_results(settings)
    demand_place(settings.results_path)
    _demand_room(nearest_folder(settings.results_path))
    return "The first start makes the folder of the results, and can."


def _another_user(settings: Settings) -> list[Check]:
    """Warn where what was found holds for another user than the service's."""
    check = Check(
        name="user",
        level=Level.WARN,
        text=f"{settings.data_dir} is not there yet and belongs to whoever starts the service first; "
        "what is said here holds for root.",
        remedy="Let a user of its own start the service, and ask the doctor as that one.",
    )
    others = other_owners((settings.data_dir, settings.results_path))
    if others:
        folder, owner = next(iter(others.items()))
        text = f"{folder} belongs to {owner}; what is said here holds for {user_name()}."
        remedy = "Ask the doctor, and start the service, as the user whom its folders belong to."
        return [dataclasses.replace(check, text=text, remedy=remedy)]
    return [check] if is_root_alone(settings.data_dir) else []


def _results(settings: Settings, use: Callable[[Settings], str] = _use_results) -> Check:
    name, place = "results", str(settings.results_path)
    try:
        text = use(settings)
    except OSError as error:
        return Check(
            name=name,
            level=Level.FAIL,
            text=f"No file can be written into the folder of the results: {error.strerror}.",
            remedy="Make room, or set 'results_dir' to a folder that the service's user may write.",
            place=place,
        )
    return Check(name=name, level=Level.OK, text=text, place=place)


def _demand_room(folder: Path) -> None:
    """See that a disk is not about to be full.

    Raises:
        OSError: it is.
    """
    if shutil.disk_usage(folder).free < _ROOM * 2**20:
        raise OSError(errno.ENOSPC, f"less than {_ROOM} MiB of the disk are free")


def _storagehub(settings: Settings) -> Check:
    name, place = "StorageHub", _address(settings.storagehub_url)
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


def _registries(settings: Settings, policy: Policy) -> list[Check]:
    try:
        registry = registry_client(settings, policy)
    except SettingsError as error:
        return [
            Check(
                name="policy",
                level=Level.FAIL,
                text=str(error),
                remedy="Mend the file; until then the service does not start.",
            )
        ]
    if registry is None:
        return []
    try:
        return [_registry(registry, name, settings) for name in policy.images.registries]
    finally:
        registry.close()


def _admins(settings: Settings) -> list[Check]:
    try:
        AdminTokens(settings.admin_tokens_file).check()
    except SettingsError as error:
        return [
            Check(
                name="administrators",
                level=Level.FAIL,
                text=str(error),
                remedy="Mend the file; until then the service does not start.",
            )
        ]
    return []


def _registry(registry: Registry, name: str, settings: Settings) -> Check:
    check = Check(
        name=f"registry {name}",
        level=Level.OK,
        text="The registry answers.",
        place=_address(settings.docker_hub_url) if name == DOCKER_HUB else "",
    )
    try:
        registry.ping(name)
    except RegistryUnavailable:
        return dataclasses.replace(
            check,
            level=Level.WARN,
            text="The registry does not answer: a wrong image is found only when its job starts.",
            remedy="Check the way there and the setting 'docker_hub_url'; 'engine' leaves all questions to "
            "the Docker engine.",
        )
    return check


def _swarm(settings: Settings) -> tuple[Check, EngineFacts | None]:
    name, place = "Docker Swarm", _address(settings.docker_host)
    try:
        swarm = swarm_client(settings, timeout=_PATIENCE)
    except SettingsError as error:
        check = Check(
            name=name,
            level=Level.FAIL,
            text=str(error),
            remedy="Mend the file, or change the setting; until then no worker starts.",
            place=place,
        )
        return check, None
    try:
        facts = swarm.facts()
    except SwarmError as error:
        check = Check(
            name=name,
            level=Level.FAIL,
            text=error.reason,
            remedy="Install it ('apt-get install docker.io'), start it, let the service's user reach "
            "it, and check the setting 'docker_host'.",
            place=place,
        )
        return check, None
    finally:
        swarm.close()
    if not facts.is_manager:
        check = Check(
            name=name,
            level=Level.FAIL,
            text="The Docker engine is not a manager of a Swarm.",
            remedy="Make it one with 'docker swarm init', or point 'docker_host' to a manager.",
            place=place,
        )
    elif not facts.nodes:  # a manager that knows of no node, not even of itself
        check = Check(
            name=name,
            level=Level.FAIL,
            text="The Swarm has no leader: most of its managers are away.",
            remedy="Bring them back; see 'docker node ls' on each.",
            place=place,
        )
    elif release(facts.api_version) < _OLDEST_API:
        check = Check(
            name=name,
            level=Level.FAIL,
            text=f"The Docker engine's API {facts.api_version} is too old.",
            remedy="Install Docker Engine 20.10 or later.",
            place=place,
        )
    else:
        nodes = "1 node" if facts.nodes == 1 else f"{facts.nodes} nodes"
        check = Check(
            name=name,
            level=Level.OK,
            text=f"Docker {facts.version} manages a Swarm of {nodes}.",
            place=place,
        )
    return check, facts


def _open_engine(settings: Settings) -> list[Check]:
    """Warn of an engine that does whatever anybody says who reaches its port."""
    host = urlsplit(settings.docker_host).hostname
    if not host or settings.docker_tls_dir or _is_this_machine(host):
        return []
    return [
        Check(
            name="docker_host",
            level=Level.WARN,
            text="The engine is asked without TLS: who reaches its port is root on that machine, and who "
            "listens on the way sees user tokens.",
            remedy="Set 'docker_tls_dir', or forward the engine's socket by ssh and name that.",
        )
    ]


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def probe(settings: Settings, rules: ContainerRules) -> list[Check]:
    """Look from inside at what containers can do, on each node that jobs may run on.

    Args:
        settings: the operator's.
        rules: what containers may do.
    """
    try:
        swarm = swarm_client(settings)
    except SettingsError as error:
        return [_no_probe("probe", str(error))]
    try:
        nodes = _fitting(settings, swarm.nodes())
        reports = Probe(settings, rules, swarm).run(nodes)
    except (SwarmError, ImageError, InvalidParameterValue) as error:
        return [_no_probe("probe", str(error))]
    finally:
        swarm.close()
    if not reports:
        return [_no_probe("probe", "No node fits the setting 'placement'.")]
    return [check for report in reports for check in _probed(report)]


def _probed(report: NodeReport) -> list[Check]:
    if report.trouble:
        return [_no_probe(f"probe on {report.hostname}", report.trouble)]
    return [
        Check(
            name=f"{each.finding.name} on {report.hostname}",
            level=each.level,
            text=each.finding.text,
            remedy=each.remedy,
        )
        for each in report.judgements
    ]


def _no_probe(name: str, text: str) -> Check:
    return Check(
        name=name,
        level=Level.FAIL,
        text=text,
        remedy="The image of the setting 'probe_image' must be where the nodes pull images from; it is "
        "made from examples/probe.",
    )


def _shortfalls(settings: Settings, rules: ContainerRules, facts: EngineFacts) -> list[Check]:
    """What containers are not protected by: a failure where the rules demand it for some images."""
    unkept = {
        demand
        for limits in rules.all_limits(settings)
        for demand in unkept_demands(limits, settings, facts)
    }
    return [
        Check(
            name="profile strict",
            level=Level.FAIL,
            text=f"{found.text} Images of the profile 'strict' are not run.",
            remedy=found.remedy,
        )
        if found in unkept
        else Check(name=found.name, level=Level.WARN, text=found.text, remedy=found.remedy)
        for found in shortfalls(settings, facts, rules)
    ]


def _flaws(facts: EngineFacts) -> list[Check]:
    versions = {"Engine": facts.version, **facts.components}
    return [
        Check(
            name=f"{flaw.component} {versions[flaw.component]}",
            level=Level.WARN,
            text=f"{flaw.identifier}: {flaw.what}.",
            remedy="Install a version of "
            + " or ".join(flaw.good_versions)
            + " at least, or see whether your distribution has mended this one.",
        )
        for flaw in known_flaws(versions)
    ]


def _engine_warnings(facts: EngineFacts) -> list[Check]:
    warnings = _flaws(facts)
    if not facts.has_init:
        warnings.append(
            Check(
                name="docker-init",
                level=Level.WARN,
                text="The engine has no docker-init: containers run without it, and a program that "
                "does not care for its children leaves zombies until its end.",
                remedy="Install it ('apt-get install tini').",
            )
        )
    return warnings


def _demands(settings: Settings, rules: ContainerRules, facts: EngineFacts) -> list[Check]:
    """What the settings demand of the Swarm and it does not have."""
    swarm = swarm_client(settings, timeout=_PATIENCE)
    try:
        joinable = not settings.network or swarm.can_join(settings.network)
        nodes = swarm.nodes()
    except SwarmError:
        check = Check(
            name="nodes",
            level=Level.FAIL,
            text="The Swarm does not tell its nodes and networks.",
            remedy="See with 'docker node ls' whether most of its managers are up.",
        )
        return [check]
    finally:
        swarm.close()
    checks = [] if joinable else [_no_network(settings.network)]
    fitting = _fitting(settings, nodes)
    if not fitting:
        return [*checks, _no_node(settings)]
    checks += _old_engines(rules.all_limits(settings), fitting, facts)
    return checks + _limits(settings, fitting) + _other_disks(settings, fitting)


def _old_engines(
    rules: Sequence[ContainerLimits], nodes: Sequence[NodeFacts], facts: EngineFacts
) -> list[Check]:
    """Nodes whose engines drop what the manager's engine takes on for them."""
    held = [limits for limits in rules if forbids_new_privileges(limits, facts)]
    # Of the Swarm's only node, and where the operator gives his word, all is known already.
    if facts.nodes == 1 or not held or held[0].engines_forbid_new_privileges:
        return []
    old = [node for node in nodes if () < release(node.engine_version) < _FORBIDDING_ENGINE]
    if not old:
        return []
    oldest = min(old, key=lambda node: release(node.engine_version))
    strict = any(limits.profile == "strict" for limits in held)
    text = (
        f"{', '.join(node.hostname for node in old)} may have an engine that ignores no-new-privileges "
        f"for services: the oldest is {oldest.engine_version}. The service judges by the manager's engine."
    )
    if strict:
        text += " Images of the profile 'strict' would run there without."
    return [
        Check(
            name="profile strict" if strict else "no-new-privileges",
            level=Level.FAIL if strict else Level.WARN,
            text=text,
            remedy="Install Docker Engine 25 or later there, choose other nodes with 'placement', or set "
            '"no-new-privileges": true in each node\'s daemon.json and '
            "'engines_forbid_new_privileges = true' in the policy file.",
        )
    ]


def _fitting(settings: Settings, nodes: Sequence[NodeFacts]) -> list[NodeFacts]:
    """The nodes that jobs may run on now."""
    return [
        node
        for node in nodes
        if node.is_ready and all(_meets(node, constraint) for constraint in settings.placement)
    ]


def _no_network(network: str) -> Check:
    return Check(
        name="network",
        level=Level.FAIL,
        text=f"The Swarm has no network {network!r} that services can join.",
        remedy="Make it with scripts/job_network on each node, or change the setting 'network'.",
    )


def _no_node(settings: Settings) -> Check:
    if not settings.placement:
        return Check(
            name="nodes",
            level=Level.FAIL,
            text="No node of the Swarm is ready and active: containers would never start.",
            remedy="See 'docker node ls'; 'docker node update --availability active' lets a node work.",
        )
    return Check(
        name="placement",
        level=Level.FAIL,
        text=f"No node that is ready meets {', '.join(settings.placement)}: containers would never "
        "start.",
        remedy="Label a node with 'docker node update', or change the setting 'placement'.",
    )


def _meets(node: NodeFacts, constraint: str) -> bool:
    """Whether a node may run jobs, as Swarm decides; yes where only Swarm itself can tell."""
    key, operator, value = (part.strip() for part in re.split("([=!]=)", constraint, maxsplit=1))
    if not key.startswith("node.labels."):
        key = key.lower()
        if key not in node.attributes:
            return True
    # To Swarm a label that is missing is an empty one.
    is_equal = node.attributes.get(key, "").lower() == value.lower()
    return is_equal == (operator == "==")


def _limits(settings: Settings, nodes: Sequence[NodeFacts]) -> list[Check]:
    """Compare the limits with the nodes that jobs may run on."""
    checks = []
    small = [node.hostname for node in nodes if node.cpus < settings.cpu_limit]
    if small:
        checks.append(
            Check(
                name="cpu_limit",
                level=Level.FAIL if len(small) == len(nodes) else Level.WARN,
                text=f"'cpu_limit' is {settings.cpu_limit:g}, but {', '.join(small)} has fewer CPUs: "
                "the engine would reject every container there.",
                remedy="Lower the setting 'cpu_limit', or choose other nodes with 'placement'.",
            )
        )
    small = [node.hostname for node in nodes if node.memory < settings.memory_limit]
    if small:
        checks.append(
            Check(
                name="memory_limit",
                level=Level.WARN,
                text=f"'memory_limit' is {settings.memory_limit.human_readable()}, but "
                f"{', '.join(small)} has less: one container may take all of its memory.",
                remedy="Lower the setting 'memory_limit'.",
            )
        )
    return checks


def _other_disks(settings: Settings, nodes: Sequence[NodeFacts]) -> list[Check]:
    """An engine tells only of its own containers what they write."""
    if len(nodes) < 2 or not settings.disk_limit:
        return []
    return [
        Check(
            name="disk_limit",
            level=Level.WARN,
            text="What containers write to their own disks is looked at on the engine that "
            f"'docker_host' names, and not on all of {', '.join(node.hostname for node in nodes)}.",
            remedy="Give the engines of the other nodes a quota for each container (storage option "
            "'overlay2.size' on xfs with 'pquota'), or choose one node with 'placement'.",
        )
    ]


def _address(url: str) -> str:
    """An address without user, password and query; the scheme alone if they cannot be told apart."""
    match = _ADDRESS.fullmatch(url)
    if match is None:
        return f"{url.partition('://')[0]}://…" if "://" in url else "an address without scheme"
    return f"{match['scheme']}://{match['host']}{match['path'] or ''}"
