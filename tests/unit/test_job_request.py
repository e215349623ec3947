from __future__ import annotations

import contextlib
import dataclasses
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from die_algorithm.errors import (
    FileSizeExceeded,
    InvalidParameterValue,
    MissingParameterValue,
    RequestError,
)
from die_algorithm.job_request import parse_command, parse_job_request
from die_algorithm.models import ContentDigest, InputContent, JobRequest
from die_algorithm.public_link import TrustedHosts

HUB = "https://api.d4science.org/workspace"
TRUSTED = TrustedHosts([HUB], ["data.d4science.org"])
ITEM = "2f4c9e0a-5b1d-4a6e-9c39-1d5c1f8f7a11"
GOOD: dict[str, tuple[str, ...]] = {
    "Image": ("d4science/sortapp",),
    "CommandName": ("sortapp",),
    "FileParam": (ITEM,),
}


def refusal(changes: dict[str, tuple[str, ...]]) -> RequestError:
    with pytest.raises(RequestError) as refused:
        parse_job_request(GOOD | changes, HUB, TRUSTED)
    return refused.value


# -- the request as a whole


def test_the_inputs_are_parsed_once_and_kept_as_written() -> None:
    request = parse_job_request(
        {
            "Image": ("alpine:3.20",),
            "CommandName": ("python3  /app/main.py -v",),
            "ItemParam": (f"{HUB}/items/{ITEM}/download",),
        },
        HUB,
        TRUSTED,
    )
    assert request.image == "docker.io/library/alpine:3.20"
    assert request.command == ("python3", "/app/main.py", "-v")
    assert request.item_id == ITEM
    assert request.item_parameter == "ItemParam"
    assert request.given_image == "alpine:3.20"
    assert request.given_command == "python3  /app/main.py -v"
    assert request.given_item == f"{HUB}/items/{ITEM}/download"


@pytest.mark.parametrize("name", ["FileParam", "ItemParam"])
def test_the_item_has_two_names(name: str) -> None:
    request = parse_job_request(
        {**{k: GOOD[k] for k in ("Image", "CommandName")}, name: (ITEM,)}, HUB, TRUSTED
    )
    assert (request.item_id, request.item_parameter) == (ITEM, name)


@pytest.mark.parametrize("name", ["Image", "CommandName", "FileParam"])
@pytest.mark.parametrize("nothing", [None, ()])
def test_an_absent_input_is_named(name: str, nothing: tuple[str, ...] | None) -> None:
    inputs = {key: value for key, value in GOOD.items() if key != name}
    if nothing is not None:
        inputs[name] = nothing
    with pytest.raises(MissingParameterValue) as refused:
        parse_job_request(inputs, HUB, TRUSTED)
    assert (refused.value.code, refused.value.locator) == ("MissingParameterValue", name)


@pytest.mark.parametrize("name", ["Image", "CommandName", "FileParam"])
@pytest.mark.parametrize("value", ["", " ", "   "])
def test_an_empty_input_is_invalid_rather_than_missing(name: str, value: str) -> None:
    error = refusal({name: (value,)})
    assert (error.code, error.locator, error.http_status) == ("InvalidParameterValue", name, 400)


@pytest.mark.parametrize("name", ["Bogus", "image", "IMAGE", "Token", "", "<script>", "__proto__"])
def test_an_unknown_input_is_refused_by_its_name(name: str) -> None:
    error = refusal({name: ("x",)})
    assert (error.code, error.locator) == ("InvalidParameterValue", name)


@pytest.mark.parametrize("name", ["Image", "CommandName", "FileParam"])
def test_an_input_given_twice_is_refused_even_if_both_agree(name: str) -> None:
    error = refusal({name: GOOD[name] * 2})
    assert (error.code, error.locator) == ("InvalidParameterValue", name)


def test_both_names_of_the_item_at_once_are_refused() -> None:
    error = refusal({"ItemParam": (ITEM,)})
    assert (error.code, error.locator) == ("InvalidParameterValue", "ItemParam")


def test_an_image_that_is_none_is_refused_by_its_grammar() -> None:
    for image in ("alpine\n", "ghcr.io/a/b", "--privileged", "a b", "{{.Node.ID}}"):
        assert refusal({"Image": (image,)}).locator == "Image"


@given(
    st.dictionaries(
        st.one_of(st.sampled_from(["Image", "CommandName", "FileParam", "ItemParam"]), st.text()),
        st.lists(st.text(st.characters(exclude_categories=())), max_size=2).map(tuple),
    )
)
def test_any_inputs_are_taken_or_refused(inputs: dict[str, tuple[str, ...]]) -> None:
    with contextlib.suppress(RequestError):
        parse_job_request(inputs, HUB, TRUSTED)


# -- CommandName


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("run", ("run",)),
        ("/app/run.sh", ("/app/run.sh",)),
        ("python3 /app/main.py", ("python3", "/app/main.py")),
        ("a  b   c", ("a", "b", "c")),
        ("./run -x --level=3 a,b:c@d %s", ("./run", "-x", "--level=3", "a,b:c@d", "%s")),
        ("../../bin/sh", ("../../bin/sh",)),
        ("g++", ("g++",)),
        (" ".join("x" * 32), ("x",) * 32),
        ("x" * 1024, ("x" * 1024,)),
    ],
)
def test_a_command_is_split_at_blanks_and_nothing_else(text: str, words: tuple[str, ...]) -> None:
    assert parse_command(text) == words


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        " run",
        "run ",
        "run;id",
        "run && id",
        "run | nc",
        "`id`",
        "$(id)",
        "run > /x",
        "run *",
        '"a b"',
        "'a b'",
        '"a',
        "a\\",
        "run {{.Service.Name}}",
        "run ${TOKEN}",
        "run $1",
        "run <token>",
        "run #1",
        "-rf",
        "--token x",
        "%TOKEN% x",
        "run\nid",
        "run\tid",
        "run\r",
        "run\0",
        "run\x1b[2J",
        "run\x7f",
        "r\u00fcn",
        "run\u00a0x",
        "run \u202ex",
        "run\u200b",
        "\uff52\uff55\uff4e",
        " ".join("x" * 33),
    ],
)
def test_a_command_for_a_shell_or_of_other_characters_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameterValue) as refused:
        parse_command(text)
    assert refused.value.locator == "CommandName"


@pytest.mark.parametrize("length", [1025, 131_072, 2_900_000])
def test_a_command_longer_than_1024_characters_is_too_large(length: int) -> None:
    with pytest.raises(FileSizeExceeded) as refused:
        parse_command("x" * length)
    error = refused.value
    assert (error.code, error.locator, error.http_status) == (
        "FileSizeExceeded",
        "CommandName",
        413,
    )


@given(st.text())
def test_words_of_a_command_never_hold_what_was_not_written(text: str) -> None:
    try:
        words = parse_command(text)
    except RequestError:
        return
    assert " ".join(words) == " ".join(text.split())
    assert not words[0].startswith("-")
    assert all(word.isascii() and word.isprintable() and word for word in words)


# -- what was sent as the item

CONTENT = InputContent(data="a;b\nü;c\n".encode(), media_type="text/csv")


def parsed(item: str | InputContent, trusted: TrustedHosts = TRUSTED) -> JobRequest:
    return parse_job_request({**GOOD, "FileParam": (item,)}, HUB, trusted)


def test_a_token_in_the_items_address_is_not_kept() -> None:
    address = f"{HUB}/items/{ITEM}/download"
    for tail in ("?gcube-token=c0ffee00-canary", "#gcube-token=c0ffee00-canary"):
        request = parsed(address + tail)
        assert request.given_item == address
        assert "canary" not in repr(request)


def test_a_link_is_kept_whole_and_shown_without_its_query() -> None:
    request = parsed("HTTPS://data.d4science.org:443/shub/E_a==?v=secret#part")
    assert request.link == "https://data.d4science.org/shub/E_a==?v=secret"
    assert request.given_item == "HTTPS://data.d4science.org:443/shub/E_a=="
    assert (request.item_id, request.is_uploaded) == ("", True)


@pytest.mark.parametrize("path", ["data/a#1.csv", "a?b.txt", "/Home/ada/Workspace/a?b#c"])
def test_a_path_is_shown_whole_for_its_names_may_hold_what_begins_a_query(path: str) -> None:
    request = parsed(path)
    assert request.given_item == path
    assert "/".join(request.item_path) == path.removeprefix("/Home/ada/Workspace/")


def test_content_is_recorded_by_its_digest_and_shown_by_its_beginning() -> None:
    request = parsed(CONTENT)
    assert request.content == ContentDigest(
        media_type="text/csv",
        size=len(CONTENT.data),
        sha256=hashlib.sha256(CONTENT.data).hexdigest(),
    )
    assert request.given_item == CONTENT.data.decode()
    assert request.is_uploaded
    long = parsed(InputContent(data=b"x" * 5000, media_type="text/plain"))
    assert long.given_item == "x" * 1000
    for data in (b"\xff\xfe\0", b"a\0b"):
        shown = parsed(InputContent(data=data, media_type="application/zip")).given_item
        assert shown == "3 bytes of application/zip"


@pytest.mark.parametrize("name", ["Image", "CommandName"])
def test_content_is_no_literal(name: str) -> None:
    with pytest.raises(InvalidParameterValue) as refused:
        parse_job_request({**GOOD, name: (CONTENT,)}, HUB, TRUSTED)
    assert refused.value.locator == name


def test_a_path_is_compared_as_it_was_asked_for_whatever_it_led_to() -> None:
    asked = parsed("a/b.txt")
    resolved = dataclasses.replace(asked, item_id="found-0001")
    assert resolved != asked
    assert resolved.as_asked == asked.as_asked
    assert parsed("a/c.txt").as_asked != asked.as_asked
    assert parsed(ITEM).as_asked != parsed(ITEM.upper()).as_asked
