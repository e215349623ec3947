"""What the operator lets containers do: which rule holds for which image."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from die_algorithm.container_rules import ContainerLimits, ContainerRules
from die_algorithm.settings import Settings


def limits(
    *exceptions: dict[str, Any], image: str = "docker.io/d4science/sortapp", **table: Any
) -> ContainerLimits:
    rules = ContainerRules.model_validate({"exceptions": exceptions, **table})
    return rules.limits_for(image, Settings(memory_limit="1GiB", pids_limit=7))


def test_without_rules_the_settings_limits_hold() -> None:
    found = limits()
    assert (found.profile, found.memory, found.pids) == ("default", 2**30, 7)
    assert (found.cpus, found.tmpfs, found.disk, found.user) == (1.0, 256 * 2**20, 10 * 2**30, "")


def test_an_exception_holds_where_it_speaks_and_the_rest_where_it_is_silent() -> None:
    found = limits({"images": ["docker.io/d4science/*"], "disk_limit": "3GiB", "user": "7"})
    assert (found.disk, found.user, found.memory) == (3 * 2**30, "7:7", 2**30)
    assert limits({"images": ["docker.io/d4science/*"]}, profile="strict").profile == "strict"


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("1000", "1000:1000"),
        ("1000:100", "1000:100"),
        ("0", "0:0"),
        ("2147483647", "2147483647:2147483647"),
    ],
)
def test_a_user_without_a_group_is_not_in_roots(said: str, meant: str) -> None:
    assert limits({"images": ["docker.io/d4science/*"], "user": said}).user == meant


def test_the_first_exception_that_names_an_image_holds_alone() -> None:
    found = limits(
        {"images": ["docker.io/other/*"], "pids_limit": 1},
        {"images": ["docker.io/d4science/sort*"], "profile": "open"},
        {"images": ["docker.io/d4science/*"], "pids_limit": 3},
    )
    assert (found.profile, found.pids) == ("open", 7)


@pytest.mark.parametrize(
    ("pattern", "repository", "is_named"),
    [
        ("docker.io/d4science/sortapp", "d4science/sortapp", True),
        ("docker.io/d4science/*", "d4science/sortapp", True),
        ("d4science/*", "d4science/sortapp", True),
        ("ghcr.io/d4science/*", "d4science/sortapp", False),
        ("docker.io/library/alpine", "library/alpine", True),
        ("docker.io/d4science/sort", "d4science/sortapp", False),
        ("docker.io/d4*/x", "d4science/y/x", False),
        ("docker.io/d4science/s.rtapp", "d4science/sortapp", False),
        ("docker.io/*/*", "d4science/sortapp", True),
    ],
)
def test_a_pattern_names_whole_repositories(pattern: str, repository: str, is_named: bool) -> None:
    found = limits({"images": [pattern], "pids_limit": 1}, image=f"docker.io/{repository}")
    assert (found.pids == 1) is is_named


@pytest.mark.parametrize(
    "table",
    [
        {"profile": "lax"},
        {"memory": "1GiB"},
        {"exceptions": [{"images": []}]},
        {"exceptions": [{"profile": "open"}]},
        {"exceptions": [{"images": ["docker.io/d4science/sortapp:1"]}]},
        {"exceptions": [{"images": ["docker.io/a/b"], "user": "root"}]},
        {"exceptions": [{"images": ["docker.io/a/b"], "user": "0\n"}]},
        {"exceptions": [{"images": ["docker.io/a/b"], "user": "4000000000"}]},
        {"exceptions": [{"images": ["docker.io/a/b"], "user": "0:2147483648"}]},
        {"exceptions": [{"images": ["docker.io/a/b"], "memory_limit": "much"}]},
        {"exceptions": [{"images": ["docker.io/a/b"], "memory_limit": "0"}]},
        {"exceptions": [{"images": ["docker.io/a/b"], "memory_limit": "5MiB"}]},
        {"exceptions": [{"images": ["docker.io/a/b"], "tmpfs_limit": 0}]},
        {"exceptions": [{"images": ["docker.io/a/b"], "cpu_limit": 0.009}]},
        {"exceptions": [{"images": ["docker.io/a/b"], "pids_limit": 4194305}]},
        {"exceptions": [{"images": ["docker.io/a/b"], "cpu_limit": 0}]},
        {"exceptions": [{"images": ["docker.io/a/b"], "pids_limit": -1}]},
        {"exceptions": [{"images": ["docker.io/a/b"], "privileged": True}]},
    ],
)
def test_a_rule_that_is_wrong_is_refused(table: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ContainerRules.model_validate(table)
