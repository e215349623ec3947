"""What a probe saw from inside a container, and what of it must hold.

The probe is the image ``examples/probe``: its last line is a JSON list of findings.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from die_algorithm.check import Level
from die_algorithm.container_rules import ContainerLimits
from die_algorithm.models import EngineFacts
from die_algorithm.service_spec import forbids_new_privileges
from die_algorithm.settings import Settings

#: Each needs Docker's capabilities, or one that they include.
_BY_CAPABILITIES = frozenset(
    {
        "capabilities-effective",
        "capabilities-permitted",
        "capabilities-bounding",
        "call-chroot",
        "mknod",
        "setuid-gain",
    }
)
#: Held by the network of scripts/job_network.
_BY_NETWORK = frozenset(
    {
        "other-containers",
        "host-services",
        "host-ssh",
        "manager-ports",
        "metadata-ipv4",
        "metadata-ipv6",
    }
)
#: What only the strict profile holds, because images are used to it.
_BY_STRICTNESS = frozenset({"root-filesystem", "unbounded-writes", "user", "groups"})

#: All that the probe looks at: what its report lacks is not known.
_CHECKS = (
    *(f"capabilities-{name}" for name in ("effective", "permitted", "bounding", "inheritable", "ambient")),
    "no-new-privileges", "seccomp", "apparmor",
    *(
        f"call-{name}"
        for name in (
            "mount", "unshare-user", "unshare-mount", "setns", "swapon", "chroot", "keyctl", "bpf",
            "init-module", "open-by-handle-at", "perf-event-open", "syslog", "kexec-load", "reboot",
            "pivot-root", "clock-settime",
        )
    ),
    "raw-socket", "packet-socket", "user", "groups", "user-namespace", "setuid-gain", "memory-limit",
    "swap", "cpu-limit", "open-files", "core-files", "shared-memory", "root-filesystem",
    "unbounded-writes", "memory-filesystems", "host-mounts", "engine-socket", "secrets", "masked-files",
    "read-only-proc", "core-pattern", "sysrq", "modprobe-path", "uevent-helper", "sys", "control-groups",
    "devices", "mknod", "process-namespace", "network-namespace", "ipc-namespace", "left-descriptors",
    "working-folder", "runtime-program", "environment", "manager-ports", "host-ssh", "host-services",
    "other-containers", "names-of-others", "metadata-ipv4", "metadata-ipv6", "outside-names",
    "public-network", "storagehub", "processes",
)  # fmt: skip

_NETWORK = "Make a network for jobs with scripts/job_network on each node, and set 'network' to it."
_STRICT = "Give images that can do without it the profile 'strict' in the policy file."
#: How an operator gets what is not demanded.
_REMEDIES = {
    "no-new-privileges": 'Set "no-new-privileges": true in the node\'s daemon.json, or install Docker '
    "Engine 25 or later.",
    "apparmor": "Use a kernel with AppArmor for the nodes.",
    "user-namespace": 'Set "userns-remap": "default" in the node\'s daemon.json.',
    "swap": "Switch swap off on the node, or install Docker Engine 29 or later.",
    "memory-limit": "Enable the memory cgroup in the kernel's command line.",
    "public-network": "Close it with 'scripts/job_network --closed --allow …' if images need StorageHub "
    "only.",
    "outside-names": "Give the node's engine a name server of your own that knows StorageHub alone.",
    "names-of-others": "Names of services tell jobs' ids to other containers on a network: leave "
    "'open_status' off.",
    "setuid-gain": "See no-new-privileges.",
    **dict.fromkeys(_BY_NETWORK, _NETWORK),
    **dict.fromkeys(_BY_STRICTNESS, _STRICT),
}
_DEFECT = (
    "Look at the node's daemon.json and the Docker version there; run no jobs on it until then."
)
#: Good to have, never demanded: the reason is outside of what a service can ask for.
_WISHES = frozenset(
    {"apparmor", "user-namespace", "swap", "public-network", "outside-names", "names-of-others"}
)


class Finding(BaseModel):
    """One check of the probe's."""

    model_config = ConfigDict(frozen=True)

    name: str
    #: ``ok``: as it should be; ``open``: it is not; ``unknown``: it could not be seen.
    status: Literal["ok", "open", "unknown"]
    text: str


_FINDINGS = TypeAdapter(list[Finding])


@dataclasses.dataclass(frozen=True)
class Judgement:
    """A finding, and what it means under the operator's rules."""

    finding: Finding
    #: A failure where it does not hold and must.
    level: Level
    #: What to do about it; empty if it is as it should be.
    remedy: str = ""


def findings(log: str) -> list[Finding] | None:
    """Read a probe's output; None if it has not come to its end.

    A check that the report lacks is among the findings, as unknown.
    """
    lines = log.strip().splitlines()
    try:
        found = _FINDINGS.validate_json(lines[-1]) if lines else None
    except ValidationError:
        return None
    return None if found is None else [*found, *_missing(found)]


def _missing(found: list[Finding]) -> list[Finding]:
    told = {finding.name for finding in found}
    text = "The probe did not tell: its image may be another version's."
    return [Finding(name=name, status="unknown", text=text) for name in _CHECKS if name not in told]


def judge(
    finding: Finding, *, limits: ContainerLimits, settings: Settings, engine: EngineFacts
) -> Judgement:
    """Say what a finding means.

    Args:
        finding: of the probe's.
        limits: what it ran with.
        settings: the operator's.
        engine: the manager's engine, which the service was sent to.
    """
    if finding.status == "ok":
        return Judgement(finding, Level.OK)
    remedy = _REMEDIES.get(finding.name, _DEFECT)
    if finding.name in _BY_NETWORK and settings.network:
        remedy = "Run 'scripts/job_network --check' on the node."
    is_demanded = _is_demanded(finding.name, limits, settings, engine)
    return Judgement(finding, Level.FAIL if is_demanded else Level.WARN, remedy)


def _is_demanded(
    name: str, limits: ContainerLimits, settings: Settings, engine: EngineFacts
) -> bool:
    if name in {"no-new-privileges", "setuid-gain"}:
        return forbids_new_privileges(limits, engine)
    limited = {
        "memory-limit": engine.limits_memory,
        "processes": engine.limits_pids,
        "cpu-limit": engine.limits_cpus,
    }
    if name in limited:
        return limited[name]
    exempt = set(_WISHES)
    if limits.profile == "open":
        exempt |= _BY_CAPABILITIES
    if limits.profile != "strict":
        exempt |= _BY_STRICTNESS
    if not settings.network:
        exempt |= _BY_NETWORK
    return name not in exempt
