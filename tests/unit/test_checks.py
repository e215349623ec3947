"""What the doctor says of nodes, by their facts alone."""

from __future__ import annotations

import pytest

from die_algorithm.checks import _other_disks
from die_algorithm.models import NodeFacts
from die_algorithm.settings import Settings


def node(name: str) -> NodeFacts:
    return NodeFacts(hostname=name, is_ready=True, cpus=2, memory=2**30, attributes={})


def test_nodes_whose_disks_nobody_watches_are_told() -> None:
    (check,) = _other_disks(Settings(), [node("one"), node("two")])
    assert check.passed
    assert "one, two" in check.text
    assert "overlay2.size" in check.remedy


@pytest.mark.parametrize(("limit", "names"), [("1GiB", ["one"]), ("0", ["one", "two"])])
def test_where_all_are_watched_or_none_shall_be_nothing_is_told(
    limit: str, names: list[str]
) -> None:
    assert _other_disks(Settings(disk_limit=limit), [node(name) for name in names]) == []
