"""The policy file: what it may say, and that a wrong one is never half obeyed."""

from __future__ import annotations

from pathlib import Path

import pytest

from die_algorithm.errors import SettingsError
from die_algorithm.policy import Policy

WHOLE = """
[images]
registries = ["docker.io", "ghcr.io"]
allow = ["d4science/*", "ghcr.io/d4science/**"]
deny = ["d4science/secret"]
forbidden_tags = ["latest"]
digest_required = ["ghcr.io/**"]
max_size = "10GiB"
platform = "linux/amd64"
contact = "images@example.org"

[images.pinned]
"d4science/sortapp" = ["sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"]

[[images.groups]]
name = "lab"
vres = ["/d4science.research-infrastructures.eu/D4Research/AnalyticsLab"]
allow = ["lab/*"]
"""


def load(folder: Path, text: str) -> Policy:
    path = folder / "policy.toml"
    path.write_text(text)
    return Policy.load(path)


def test_without_a_file_docker_hub_is_open() -> None:
    images = Policy.load(None).images
    assert (images.registries, images.allow, images.deny) == (("docker.io",), None, ())


def test_every_rule_can_be_written(tmp_path: Path) -> None:
    images = load(tmp_path, WHOLE).images
    assert images.allow == ("docker.io/d4science/*", "ghcr.io/d4science/**")
    assert images.max_size == 10 * 2**30
    assert images.groups[0].allow == ("docker.io/lab/*",)
    assert list(images.pinned) == ["docker.io/d4science/sortapp"]


def test_a_list_that_is_written_empty_is_empty(tmp_path: Path) -> None:
    assert load(tmp_path, "[images]\nallow = []").images.allow == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[images", "cannot be read"),
        ("[image]\nallow = []", "image: "),
        ("[images]\nalow = []", "images.alow: "),
        ("[images]\nallow = ['*']", "images.allow[0]: write '**'"),
        ("[images]\nmax_size = 'big'", "images.max_size: give a number of bytes"),
        ("[[images.groups]]\nname = 'x'", "images.groups[0]: the group 'x' has neither"),
        ("\x00", "cannot be read"),
        (f"a = {'[' * 5000}{']' * 5000}", "nested too deep"),
        ("[images.pinned]\nalpine = []\n'library/alpine' = []", "images.pinned: docker.io/library"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text)
    assert said in str(caught.value)
    assert "policy.toml" in str(caught.value)


def test_a_file_that_is_missing_is_not_taken_for_none(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        Policy.load(tmp_path / "policy.toml")
