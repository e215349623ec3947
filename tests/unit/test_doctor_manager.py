"""What the doctor says of the engine that the service talks to, by its facts alone."""

from __future__ import annotations

import dataclasses

import pytest

from die_algorithm.check import Level
from die_algorithm.doctor.manager import manager_check
from die_algorithm.errors import SwarmError, SwarmUnavailable
from die_algorithm.models import EngineFacts
from die_algorithm.settings import Settings
from die_algorithm.swarm import Swarm

MANAGER = EngineFacts(
    version="99.0.0",
    api_version="1.41",
    is_manager=True,
    nodes=2,
    cpus=2,
    memory=2**30,
    has_init=True,
    limits_memory=True,
    limits_swap=True,
    limits_pids=True,
    limits_cpus=True,
)


@pytest.mark.parametrize(("nodes", "words"), [(1, "1 node"), (2, "2 nodes")])
def test_a_manager_of_a_swarm_is_all_that_is_needed(
    monkeypatch: pytest.MonkeyPatch, nodes: int, words: str
) -> None:
    facts = dataclasses.replace(MANAGER, nodes=nodes)
    monkeypatch.setattr(Swarm, "facts", lambda _: facts)
    check, told = manager_check(Settings())
    assert (check.level, check.remedy) == (Level.OK, "")
    assert check.text == f"Docker 99.0.0 manages a Swarm of {words}."
    assert told is facts


@pytest.mark.parametrize(
    ("changes", "text", "remedy"),
    [
        ({"is_manager": False}, "not a manager of a Swarm", "docker swarm init"),
        ({"nodes": 0}, "no leader", "docker node ls"),
        ({"api_version": "1.40"}, "API 1.40 is too old", "20.10 or later"),
    ],
)
def test_an_engine_that_cannot_start_services_is_a_failure_and_its_facts_are_told(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], text: str, remedy: str
) -> None:
    facts = dataclasses.replace(MANAGER, **changes)  # type: ignore[arg-type]
    monkeypatch.setattr(Swarm, "facts", lambda _: facts)
    check, told = manager_check(Settings(docker_host="tcp://127.0.0.1:2375"))
    assert (check.level, check.place) == (Level.FAIL, "tcp://127.0.0.1:2375")
    assert text in check.text
    assert remedy in check.remedy
    assert told is facts


def test_an_engine_that_does_not_answer_is_a_failure_without_facts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def facts(_: Swarm) -> EngineFacts:
        raise error

    error: SwarmError = SwarmUnavailable("It is asleep.")
    monkeypatch.setattr(Swarm, "facts", facts)
    check, told = manager_check(Settings())
    assert (check.level, check.text, told) == (Level.FAIL, error.reason, None)
    assert "docker_host" in check.remedy
