"""The grammar of image references: the catalogue of safety 4.5, and properties of all it accepts."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from die_algorithm.errors import InvalidParameterValue
from die_algorithm.image_reference import ImageReference

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"

# The rule as published, in one expression; the product's code is written differently on purpose.
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
GRAMMAR = re.compile(
    rf"(?:(?:docker\.io|index\.docker\.io)/)?(?:{_COMPONENT}/)?{_COMPONENT}"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[a-f0-9]{64})?",
    re.ASCII,
)

GOOD = {
    "alpine": "docker.io/library/alpine:latest",
    "alpine:3.20": "docker.io/library/alpine:3.20",
    "library/alpine": "docker.io/library/alpine:latest",
    "docker.io/alpine": "docker.io/library/alpine:latest",
    "index.docker.io/library/alpine": "docker.io/library/alpine:latest",
    "docker.io/d4science/sortapp:1.0": "docker.io/d4science/sortapp:1.0",
    "d4science/sortapp": "docker.io/d4science/sortapp:latest",
    "u/r:_x": "docker.io/u/r:_x",
    "a__b/c": "docker.io/a__b/c:latest",
    "a--b/c": "docker.io/a--b/c:latest",
    "a---b/c.d_e": "docker.io/a---b/c.d_e:latest",
    "2130706433/x": "docker.io/2130706433/x:latest",
    "localhost": "docker.io/library/localhost:latest",
    "docker:24-cli": "docker.io/library/docker:24-cli",
    "docker.io/u.v/r": "docker.io/u.v/r:latest",
    f"u/{HEX}": f"docker.io/u/{HEX}:latest",
    "u/r:" + "t" * 128: "docker.io/u/r:" + "t" * 128,
    f"u/r@{DIGEST}": f"docker.io/u/r@{DIGEST}",
    f"u/r:tag@{DIGEST}": f"docker.io/u/r:tag@{DIGEST}",
    "a" * 237: f"docker.io/library/{'a' * 237}:latest",
}

ASCII = "not printable ASCII"
HUB = "Only images on Docker Hub"
ADDRESS = "not an address"
BLANKS = "no options and no blanks"
NAME = "name is wrong"
TAG = "tag is wrong"
WRONG_DIGEST = "digest is wrong"
ALONE = "does not say where"
PARTS = "too many parts"
LONG = "too long"

BAD = {
    "": "No image is named",
    "alpine\n": ASCII,
    "\nalpine": ASCII,
    "alp\x00ine": ASCII,
    "alpine\x7f": ASCII,
    "\x1b[31malpine": ASCII,
    "alpine\t": ASCII,
    "\uff41lpine": ASCII,
    "u\u2024v/r": ASCII,
    "\u0430lpine": ASCII,
    "alpin\u00e9": ASCII,
    "alpine:\u0663": ASCII,
    "alpine\u200b": ASCII,
    "\ud800": ASCII,
    " alpine": BLANKS,
    "alpine ": BLANKS,
    "--privileged": BLANKS,
    "-v /:/host alpine": BLANKS,
    "alpine --privileged": BLANKS,
    "alpine:": TAG,
    "alpine:-x": TAG,
    "alpine:.x": TAG,
    "u/r:a+b": TAG,
    "u/r:" + "t" * 129: TAG,
    "alpine:{{.Task.ID}}": TAG,
    "alpine:x%20": TAG,
    ":tag": NAME,
    f"@{DIGEST}": NAME,
    "alpine@": WRONG_DIGEST,
    "alpine@sha256:123": WRONG_DIGEST,
    f"alpine@sha512:{HEX}{HEX}": WRONG_DIGEST,
    f"alpine@sha256:{HEX.upper()}": WRONG_DIGEST,
    f"alpine@{DIGEST}@{DIGEST}": WRONG_DIGEST,
    f"alpine@{DIGEST}:tag": WRONG_DIGEST,
    "a:b:c": NAME,
    HEX: ALONE,
    DIGEST: ALONE,
    "sha256": ALONE,
    "sha512:abc": ALONE,
    "docker.io/sha256:abc": ALONE,
    "library/sha384": ALONE,
    "md5:" + "0" * 32: ALONE,
    "evil.com/x": HUB,
    "evil.com:5000/x": HUB,
    "ghcr.io/a/b": HUB,
    "quay.io/a/b": HUB,
    "hub.docker.com/r/u/x": HUB,
    "registry-1.docker.io/u/x": HUB,
    "docker.io.evil.com/u/x": HUB,
    "localhost/x": HUB,
    "localhost:5000/x": HUB,
    "127.0.0.1:5000/x": HUB,
    "[::1]:5000/x": HUB,
    "169.254.169.254/x": HUB,
    "user@evil.com/x": WRONG_DIGEST,
    "docker.io:443/u/x": HUB,
    "http://127.0.0.1/x": ADDRESS,
    "https://hub.docker.com/_/alpine": ADDRESS,
    "docker://alpine": ADDRESS,
    "oci://alpine": ADDRESS,
    "file:///etc/passwd": ADDRESS,
    "docker-archive:/x.tar": ADDRESS,
    "oci:x": ADDRESS,
    "oci-archive:x.tar": ADDRESS,
    "oci-layout:x": ADDRESS,
    "docker-image:alpine": ADDRESS,
    "ostree:x": ADDRESS,
    "sif:x": ADDRESS,
    "tarball:x": ADDRESS,
    "file:x": ADDRESS,
    "../a": HUB,
    "./a": HUB,
    "a/../b": PARTS,
    "a/./b": PARTS,
    "a//b": PARTS,
    "/a": NAME,
    "a/": NAME,
    "docker.io/": NAME,
    "docker.io/../a": NAME,
    "docker.io/docker.io/u/x": PARTS,
    "a/b/c": PARTS,
    "Alpine": "upper-case",
    "U/r": "upper-case",
    "{{.Node.ID}}": "upper-case",
    "{{x}}": NAME,
    "$(id)": NAME,
    "`id`": NAME,
    ";id": NAME,
    "|id": NAME,
    "%s": NAME,
    "%00": NAME,
    "a_-b": NAME,
    "a___b": NAME,
    "a..b": NAME,
    "_a": NAME,
    "a-": NAME,
    "alpine%20": NAME,
    "alpine?x=1": NAME,
    "alpine#x": NAME,
    "alpine\\x": NAME,
    "scratch": "cannot be run",
    "scratch:latest": "cannot be run",
    "docker.io/library/scratch": "cannot be run",
    "a" * 238: LONG,
    "u/" + "a" * 244: LONG,
    "a" * 100_000: LONG,
}


@pytest.mark.parametrize(("text", "canonical"), GOOD.items())
def test_what_docker_hub_has_is_accepted_in_its_canonical_form(text: str, canonical: str) -> None:
    assert ImageReference.parse(text).canonical == canonical


@pytest.mark.parametrize(("text", "hint"), BAD.items())
def test_what_is_no_image_on_docker_hub_is_refused_with_a_hint(text: str, hint: str) -> None:
    with pytest.raises(InvalidParameterValue) as caught:
        ImageReference.parse(text)
    assert caught.value.locator == "Image"
    assert hint in caught.value.text


def test_a_url_is_answered_with_the_form_that_is_right() -> None:
    with pytest.raises(InvalidParameterValue, match="user/name:tag"):
        ImageReference.parse("https://hub.docker.com/r/d4science/sortapp")


@pytest.mark.parametrize(
    ("text", "familiar"),
    [
        ("docker.io/library/alpine:3.20", "alpine:3.20"),
        ("docker.io/d4science/sortapp", "d4science/sortapp:latest"),
        (f"u/r@{DIGEST}", f"u/r@{DIGEST}"),
        ("docker.io/u.v/r", "docker.io/u.v/r:latest"),
        ("docker.io/localhost/r", "docker.io/localhost/r:latest"),
    ],
)
def test_the_familiar_form_is_what_people_write(text: str, familiar: str) -> None:
    assert ImageReference.parse(text).familiar == familiar


def test_a_pinned_image_has_the_digest_and_no_tag() -> None:
    pinned = ImageReference.parse("d4science/sortapp:1.0").pinned(DIGEST)
    assert pinned.canonical == f"docker.io/d4science/sortapp@{DIGEST}"


@pytest.mark.parametrize("bait", ["a." * 120, "a-" * 120 + "!", "a" * 255 + "/", "a_" * 110 + ":"])
def test_bait_for_a_backtracking_parser_costs_no_more_than_plain_text(bait: str) -> None:
    assert _cost(bait) < 50 * _cost("b" * len(bait)) + 0.001


def _cost(text: str) -> float:
    start = time.process_time()
    for _ in range(20):
        try:
            ImageReference.parse(text)
        except InvalidParameterValue:
            continue
    return time.process_time() - start


_NEARLY = st.from_regex(GRAMMAR, fullmatch=True) | st.text(alphabet="aA0._-:/@\n $[]é", max_size=30)


@given(_NEARLY)
@example(f"docker.io/u/r:tag@{DIGEST}")
def test_whatever_is_accepted_matches_the_grammar_and_round_trips(text: str) -> None:
    try:
        reference = ImageReference.parse(text)
    except InvalidParameterValue:
        return
    assert GRAMMAR.fullmatch(text)
    assert text.isascii()
    assert ImageReference.parse(reference.canonical) == reference
    assert ImageReference.parse(reference.familiar) == reference
    assert reference.canonical.startswith("docker.io/")


@given(st.from_regex(r"[a-z0-9]{1,20}/[a-z0-9]{1,20}(?::[a-z0-9]{1,10})?", fullmatch=True))
def test_every_plain_user_image_is_accepted(text: str) -> None:
    assert ImageReference.parse(text).canonical.startswith(f"docker.io/{text.partition(':')[0]}:")


def test_a_name_like_a_transport_has_a_short_form_that_can_be_read() -> None:
    image = ImageReference.parse("library/oci")
    assert ImageReference.parse(image.familiar) == image


def test_an_official_image_called_as_a_tool_is_none_of_its_addresses() -> None:
    assert ImageReference.parse("docker:dind").repository == "library/docker"
