"""What the doctor says of nodes, by their facts alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from die_algorithm.check import Check, Level
from die_algorithm.container_rules import ContainerRules
from die_algorithm.doctor.nodes import disk_checks, old_engine_checks
from die_algorithm.doctor.protections import shortfall_checks
from die_algorithm.models import EngineFacts, NodeFacts
from die_algorithm.settings import Settings


def node(name: str, version: str = "") -> NodeFacts:
    return NodeFacts(
        hostname=name,
        is_ready=True,
        cpus=2,
        memory=2**30,
        attributes={},
        engine_version=version,
    )


def manager(api: str, nodes: int = 2, *, security: str = "seccomp") -> EngineFacts:
    return EngineFacts(
        version="99.0.0",
        api_version=api,
        is_manager=True,
        nodes=nodes,
        cpus=2,
        memory=2**30,
        has_init=True,
        limits_memory=True,
        limits_swap=True,
        limits_pids=True,
        limits_cpus=True,
        security=frozenset(security.split()),
    )


def test_nodes_whose_disks_nobody_watches_are_told() -> None:
    (check,) = disk_checks(Settings(), [node("one"), node("two")])
    assert check.level is Level.WARN
    assert "one, two" in check.text
    assert "overlay2.size" in check.remedy


@pytest.mark.parametrize(("limit", "names"), [("1GiB", ["one"]), ("0", ["one", "two"])])
def test_where_all_are_watched_or_none_shall_be_nothing_is_told(
    limit: str, names: list[str]
) -> None:
    assert disk_checks(Settings(disk_limit=limit), [node(name) for name in names]) == []


# -- no-new-privileges


def of_old_engines(
    table: dict[str, Any], *versions: str, api: str = "1.44", nodes: int = 2
) -> list[Check]:
    found = [node(f"node-{version}", version) for version in versions]
    limits = ContainerRules.model_validate(table).all_limits(Settings())
    return old_engine_checks(limits, found, manager(api, nodes))


STRICT_FOR_SOME = {"exceptions": [{"images": ["docker.io/a/b"], "profile": "strict"}]}


@pytest.mark.parametrize(
    ("table", "level"),
    [({"profile": "strict"}, Level.FAIL), (STRICT_FOR_SOME, Level.FAIL), ({}, Level.WARN)],
)
def test_a_node_with_an_older_engine_than_the_managers_is_told(
    table: dict[str, Any], level: Level
) -> None:
    (check,) = of_old_engines(table, "27.3.1", "20.10.24", "24.0.9")
    assert check.level is level
    assert "node-20.10.24, node-24.0.9" in check.text
    assert "the oldest is 20.10.24" in check.text
    assert "node-27" not in check.text
    assert "engines_forbid_new_privileges" in check.remedy


def test_nothing_is_told_of_nodes_that_forbid_new_privileges_or_need_not() -> None:
    assert not of_old_engines({"profile": "strict"}, "25.0.0", "29.1.0", "dev", "")
    assert not of_old_engines({"profile": "open"}, "20.10.24")
    word = {"profile": "strict", "engines_forbid_new_privileges": True}
    assert not of_old_engines(word, "20.10.24")


def test_what_the_managers_engine_says_itself_is_not_said_twice() -> None:
    assert not of_old_engines({"profile": "strict"}, "20.10.24", api="1.41")
    assert not of_old_engines({"profile": "strict"}, "24.0.9", nodes=1)


@pytest.mark.parametrize(
    ("table", "api", "is_told"),
    [
        ({"profile": "open"}, "1.47", False),
        ({"profile": "open"}, "1.41", False),
        ({"profile": "open", **STRICT_FOR_SOME}, "1.41", True),
        ({}, "1.41", True),
        ({}, "1.47", False),
    ],
)
def test_an_engine_is_blamed_only_for_what_some_profile_asks_of_it(
    table: dict[str, Any], api: str, is_told: bool
) -> None:
    rules = ContainerRules.model_validate(table)
    found = shortfall_checks(Settings(), rules, manager(api))
    assert any("no-new-privileges" in each.text for each in found) is is_told


# -- what an engine cannot keep


@pytest.mark.parametrize(("profile", "level"), [("default", Level.WARN), ("strict", Level.FAIL)])
def test_what_an_engine_cannot_keep_is_a_warning_and_for_strict_images_a_failure(
    profile: str, level: Level
) -> None:
    facts = dataclasses.replace(
        manager("1.52", security=""), limits_memory=False, limits_pids=False, limits_cpus=False
    )
    rules = ContainerRules.model_validate({"profile": profile})
    found = shortfall_checks(Settings(), rules, facts)
    for word in ("seccomp", "memory", "processes", "CPUs", "bridge"):
        (check,) = (each for each in found if word in each.text and "swap" not in each.text)
        assert check.remedy
        assert check.level is level


def test_of_an_engine_that_keeps_everything_nothing_is_told() -> None:
    rules = ContainerRules(profile="strict")
    assert shortfall_checks(Settings(network="die-jobs"), rules, manager("1.52")) == []
