"""What containers are not protected by."""

from __future__ import annotations

from die_algorithm.check import Check, Level
from die_algorithm.container_rules import ContainerRules
from die_algorithm.known_flaws import known_flaws
from die_algorithm.models import EngineFacts
from die_algorithm.service_spec import shortfalls, unkept_demands
from die_algorithm.settings import Settings


def shortfall_checks(settings: Settings, rules: ContainerRules, facts: EngineFacts) -> list[Check]:
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


def engine_checks(facts: EngineFacts) -> list[Check]:
    """Warn of what the engine itself lacks, whatever the settings and the policy are."""
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
