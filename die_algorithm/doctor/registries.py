"""Whether images can be asked for where the policy lets them come from."""

from __future__ import annotations

import dataclasses

from die_algorithm.check import Check, Level
from die_algorithm.errors import RegistryUnavailable, SettingsError
from die_algorithm.image_reference import DOCKER_HUB
from die_algorithm.policy import Policy
from die_algorithm.registry import Registry
from die_algorithm.runtime import registry_client
from die_algorithm.settings import Settings
from die_algorithm.shown_address import shown_address

_NOT_ASKED = Check(
    name="registries",
    level=Level.WARN,
    text="Only the engine asks about images. It does not tell which of them want the token in a file, so "
    "they get none, nor whether one would lead its machine to addresses outside its registry.",
    remedy="If this service reaches the registry or a mirror, name that in the setting 'docker_hub_url'.",
)


def registry_checks(settings: Settings, policy: Policy) -> list[Check]:
    """Warn of registries that do not answer, and of what nobody learns where the engine asks them.

    Args:
        settings: the operator's.
        policy: the same; which registries there are.
    """
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
        return [_NOT_ASKED]
    try:
        return [_registry(registry, name, settings) for name in policy.images.registries]
    finally:
        registry.close()


def _registry(registry: Registry, name: str, settings: Settings) -> Check:
    check = Check(
        name=f"registry {name}",
        level=Level.OK,
        text="The registry answers.",
        place=shown_address(settings.docker_hub_url) if name == DOCKER_HUB else "",
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
