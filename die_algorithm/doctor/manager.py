"""The engine that the service talks to: a manager of a Swarm."""

from __future__ import annotations

import dataclasses
from ipaddress import ip_address
from urllib.parse import urlsplit

from die_algorithm.check import Check, Level
from die_algorithm.errors import SettingsError, SwarmError
from die_algorithm.models import EngineFacts
from die_algorithm.runtime import swarm_client
from die_algorithm.settings import Settings
from die_algorithm.shown_address import shown_address
from die_algorithm.versions import release

#: Seconds for each of the engine's answers.
PATIENCE = 5.0
#: The oldest engine API whose Swarm takes what a job's service needs (reference: safety 2.1).
_OLDEST_API = (1, 41)
_NAME = "Docker Swarm"


def manager_check(settings: Settings) -> tuple[Check, EngineFacts | None]:
    """A failure if the engine does not answer, or cannot start services.

    Returns:
        the check, and what the engine tells of itself if it answers.
    """
    check, facts = _ask(settings)
    return dataclasses.replace(check, place=shown_address(settings.docker_host)), facts


def _ask(settings: Settings) -> tuple[Check, EngineFacts | None]:
    try:
        swarm = swarm_client(settings, timeout=PATIENCE)
    except SettingsError as error:
        remedy = "Mend the file, or change the setting; until then no worker starts."
        return _failure(str(error), remedy), None
    try:
        facts = swarm.facts()
    except SwarmError as error:
        remedy = (
            "Install it ('apt-get install docker.io'), start it, let the service's user reach it, and "
            "check the setting 'docker_host'."
        )
        return _failure(error.reason, remedy), None
    finally:
        swarm.close()
    return _judged(facts), facts


def _judged(facts: EngineFacts) -> Check:
    if not facts.is_manager:
        return _failure(
            "The Docker engine is not a manager of a Swarm.",
            "Make it one with 'docker swarm init', or point 'docker_host' to a manager.",
        )
    if not facts.nodes:  # a manager that knows of no node, not even of itself
        return _failure(
            "The Swarm has no leader: most of its managers are away.",
            "Bring them back; see 'docker node ls' on each.",
        )
    if release(facts.api_version) < _OLDEST_API:
        return _failure(
            f"The Docker engine's API {facts.api_version} is too old.",
            "Install Docker Engine 20.10 or later.",
        )
    nodes = "1 node" if facts.nodes == 1 else f"{facts.nodes} nodes"
    text = f"Docker {facts.version} manages a Swarm of {nodes}."
    return Check(name=_NAME, level=Level.OK, text=text)


def _failure(text: str, remedy: str) -> Check:
    return Check(name=_NAME, level=Level.FAIL, text=text, remedy=remedy)


def open_engine_checks(settings: Settings) -> list[Check]:
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
