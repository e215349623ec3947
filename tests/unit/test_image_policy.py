"""Who may run which image: each rule, and that what is denied or left empty stays closed."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from die_algorithm.errors import ImageForbidden
from die_algorithm.image_policy import ImagePolicy
from die_algorithm.image_reference import ImageReference
from die_algorithm.models import ImageFacts

VRE = "/d4science.research-infrastructures.eu/D4Research/AnalyticsLab"
DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def policy(**rules: Any) -> ImagePolicy:
    return ImagePolicy.model_validate(rules)


def reference(image: str, rules: ImagePolicy) -> ImageReference:
    return ImageReference.parse(image, {*rules.registries, "docker.io", "ghcr.io"})


def refusal(image: str, owner: str = "alice", vre: str | None = None, **rules: Any) -> str:
    """Why an image is refused; empty if it is not."""
    held = policy(**rules)
    try:
        held.check(reference(image, held), owner, vre)
    except ImageForbidden as error:
        return error.text
    return ""


def test_docker_hub_may_be_named_by_its_other_name() -> None:
    assert not refusal("alpine", registries=["index.docker.io"])


def test_without_rules_all_of_docker_hub_is_allowed_and_nothing_else() -> None:
    assert not refusal("alpine")
    assert not refusal("d4science/sortapp")
    assert "registry ghcr.io" in refusal("ghcr.io/a/b")


@pytest.mark.parametrize("image", ["alpine", "d4science/sortapp", f"u/r@{DIGEST}"])
def test_an_empty_allow_list_allows_nothing(image: str) -> None:
    assert "'allow', which is empty" in refusal(image, allow=[])


@pytest.mark.parametrize(
    ("pattern", "image", "matches"),
    [
        ("alpine", "alpine", True),
        ("alpine", "docker.io/library/alpine:3", True),
        ("alpine", "u/alpine", False),
        ("library/*", "alpine", True),
        ("d4science/*", "d4science/sortapp", True),
        ("d4science/*", "d4science-evil/sortapp", False),
        ("d4science/*", "evil/d4science", False),
        ("d4science/*", "ghcr.io/d4science/sortapp", False),
        ("*/sortapp", "anyone/sortapp", True),
        ("*/sortapp", "anyone/sortapp2", False),
        ("d4science/sort*", "d4science/sortapp", True),
        ("d4science/sortapp", "d4science/sortappx", False),
        ("d4science/sort.pp", "d4science/sortapp", False),
        ("ghcr.io/d4science/*", "ghcr.io/d4science/sortapp", True),
        ("ghcr.io/d4science/*", "ghcr.io/d4science/deep/sortapp", False),
        ("ghcr.io/d4science/**", "ghcr.io/d4science/deep/sortapp", True),
        ("ghcr.io/d4science/**", "ghcr.io/d4sciences/sortapp", False),
        ("**", "ghcr.io/a/b/c", True),
        ("**/sortapp", "ghcr.io/a/sortapp", True),
        ("docker.io/d4science/*", "d4science/sortapp", True),
        ("docker.io/alpine", "alpine", True),
        ("index.docker.io/library/alpine", "alpine", True),
        ("index.docker.io/d4science/*", "d4science/sortapp", True),
        ("docker.io/**", "d4science/sortapp", True),
        ("docker.io/u.v/r", "docker.io/u.v/r", True),
    ],
)
def test_patterns_match_whole_names(pattern: str, image: str, matches: bool) -> None:
    registries = ["docker.io", "ghcr.io"]
    assert (refusal(image, registries=registries, allow=[pattern]) == "") is matches
    assert (refusal(image, registries=registries, deny=[pattern]) != "") is matches


def test_what_is_denied_is_denied_whatever_allows_it() -> None:
    rules: dict[str, Any] = {
        "allow": ["d4science/sortapp", "**"],
        "deny": ["d4science/*"],
        "groups": [{"name": "lab", "users": ["alice"], "allow": ["d4science/sortapp"]}],
    }
    assert "'deny' has docker.io/d4science/*" in refusal("d4science/sortapp", **rules)


@pytest.mark.parametrize(
    ("owner", "vre", "allowed"),
    [
        ("alice", None, True),
        ("bob", VRE, True),
        ("bob", None, False),
        ("bob", VRE + "2", False),
        ("Alice", None, False),
        ("bob", "", False),
    ],
)
def test_a_group_allows_more_to_its_members_alone(
    owner: str, vre: str | None, allowed: bool
) -> None:
    group = {"name": "lab", "users": ["alice"], "vres": [VRE], "allow": ["lab/*"]}
    assert (refusal("lab/tool", owner, vre, allow=[], groups=[group]) == "") is allowed


def test_a_group_denies_to_its_members_alone_and_names_itself() -> None:
    group = {"name": "guests", "users": ["guest"], "deny": ["**"]}
    assert "the group guests" in refusal("alpine", "guest", groups=[group])
    assert not refusal("alpine", "alice", groups=[group])


@pytest.mark.parametrize(
    ("image", "refused"),
    [("u/r", True), ("u/r:latest", True), ("u/r:1.2", False), ("u/r:dev-1", True)],
)
def test_forbidden_tags_are_refused_and_the_missing_tag_is_latest(
    image: str, refused: bool
) -> None:
    text = refusal(image, forbidden_tags=["latest", "dev-*"])
    assert ("'forbidden_tags'" in text) is refused


def test_where_a_digest_is_required_a_tag_is_not_enough() -> None:
    text = refusal("u/r:1", digest_required=["u/*"])
    assert "name@sha256:" in text
    assert not refusal(f"u/r:1@{DIGEST}", digest_required=["u/*"])
    assert not refusal("v/r:1", digest_required=["u/*"])


def test_of_pinned_repositories_only_the_named_digests_are_run() -> None:
    rules = policy(pinned={"u/r": [DIGEST]})
    image = ImageReference.parse("u/r")
    rules.check(image, "alice", None)
    rules.check_resolved(image, ImageFacts(digest=DIGEST))
    with pytest.raises(ImageForbidden, match="'pinned'"):
        rules.check_resolved(image, ImageFacts(digest=OTHER))
    with pytest.raises(ImageForbidden, match="'pinned'"):
        rules.check(image.pinned(OTHER), "alice", None)
    rules.check_resolved(ImageReference.parse("v/r"), ImageFacts(digest=OTHER))


@pytest.mark.parametrize(
    ("size", "refused"), [(0, False), (2**30, False), (2**30 + 1, True), (None, True)]
)
def test_images_above_the_size_or_of_no_known_size_are_refused(
    size: int | None, refused: bool
) -> None:
    rules, image = policy(max_size="1GiB"), ImageReference.parse("u/r")
    facts = ImageFacts(digest=DIGEST, size=size)
    if refused:
        with pytest.raises(ImageForbidden, match="'max_size'"):
            rules.check_resolved(image, facts)
    else:
        rules.check_resolved(image, facts)


def test_a_refusal_says_whom_to_ask() -> None:
    text = refusal("u/r", deny=["u/r"], contact="images@example.org")
    assert text.startswith("The image u/r:latest may not be run here: ")
    assert text.endswith("To have it allowed, ask images@example.org.")


@pytest.mark.parametrize(
    "rules",
    [
        {"allowed": ["**"]},
        {"allow": ["*"]},
        {"allow": ["d4science/* "]},
        {"allow": ["D4Science/*"]},
        {"allow": ["alpine:3"]},
        {"deny": ["*.io/library/*"]},
        {"deny": ["docker.io/*"]},
        {"deny": ["ghcr.io/a/b:latest"]},
        {"allow": "**"},
        {"deny": ["http://x"], "allow": [""]},
        {"registries": ["Docker.io"]},
        {"registries": ["https://ghcr.io"]},
        {"registries": ["hub"]},
        {"registries": ["registry-1.docker.io"]},
        {"deny": ["d4science/"]},
        {"deny": ["/d4science/*"]},
        {"deny": ["d4science//*"]},
        {"deny": ["d4science/*/"]},
        {"deny": ["d4science/*/*"]},
        {"deny": ["docker.io/"]},
        {"deny": ["ghcr.io/"]},
        {"deny": ["docker.io/a/b/c"]},
        {"deny": ["registry-1.docker.io/d4science/*"]},
        {"deny": ["hub.docker.com/r/d4science/*"]},
        {"allow": ["registry.hub.docker.com/**"]},
        {"pinned": {"alpine": [DIGEST], "library/alpine": [OTHER]}},
        {"pinned": {"u/r": [DIGEST], "index.docker.io/u/r": [DIGEST]}},
        # Everybody may run everything, so the group is given nothing.
        {"groups": [{"name": "lab", "users": ["alice"], "allow": ["lab/*"]}]},
        {"groups": [{"name": "lab", "users": ["bob "], "deny": ["lab/*"]}]},
        {"groups": [{"name": "lab", "users": [""], "deny": ["lab/*"]}]},
        {"groups": [{"name": "lab", "vres": ["%2Fd4science.eu%2FLab"], "deny": ["lab/*"]}]},
        {"groups": [{"name": "lab", "vres": ["d4science.eu/Lab"], "deny": ["lab/*"]}]},
        {"groups": [{"name": "lab", "vres": ["/d4science.eu/Lab/"], "deny": ["lab/*"]}]},
        {"groups": [{"name": "lab", "vres": [""], "deny": ["lab/*"]}]},
        {"forbidden_tags": ["a b"]},
        {"pinned": {"u/r": ["sha256:123"]}},
        {"max_size": "1,5GiB"},
        {"platform": "amd64"},
        {"groups": [{"name": "nobody", "allow": ["**"]}]},
        {"groups": [{"users": ["alice"]}]},
    ],
)
def test_rules_that_mean_nothing_are_refused(rules: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        policy(**rules)
