from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from die_algorithm.errors import (
    FileSizeExceeded,
    InvalidParameterValue,
    MissingParameterValue,
    RequestError,
)
from die_algorithm.job_request import parse_command, parse_item, parse_job_request

HUB = "https://api.d4science.org/workspace"
ITEM = "2f4c9e0a-5b1d-4a6e-9c39-1d5c1f8f7a11"
GOOD: dict[str, tuple[str, ...]] = {
    "Image": ("d4science/sortapp",),
    "CommandName": ("sortapp",),
    "FileParam": (ITEM,),
}


def refusal(changes: dict[str, tuple[str, ...]]) -> RequestError:
    with pytest.raises(RequestError) as refused:
        parse_job_request(GOOD | changes, HUB)
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
        {**{k: GOOD[k] for k in ("Image", "CommandName")}, name: (ITEM,)}, HUB
    )
    assert (request.item_id, request.item_parameter) == (ITEM, name)


@pytest.mark.parametrize("name", ["Image", "CommandName", "FileParam"])
@pytest.mark.parametrize("nothing", [None, ()])
def test_an_absent_input_is_named(name: str, nothing: tuple[str, ...] | None) -> None:
    inputs = {key: value for key, value in GOOD.items() if key != name}
    if nothing is not None:
        inputs[name] = nothing
    with pytest.raises(MissingParameterValue) as refused:
        parse_job_request(inputs, HUB)
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
        parse_job_request(inputs, HUB)


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


# -- FileParam, ItemParam


@pytest.mark.parametrize(
    "text",
    [
        ITEM,
        ITEM.upper(),
        f"{HUB}/items/{ITEM}",
        f"{HUB}/items/{ITEM}/",
        f"{HUB}/items/{ITEM}/download",
        f"{HUB}/items/{ITEM}/download?exclude=hl:accounting",
        f"{HUB}//items/{ITEM}?gcube-token=x#part",
        f"{HUB}/items/{ITEM.replace('-', '%2D')}",
    ],
)
def test_an_item_is_given_by_its_id_or_by_its_address_here(text: str) -> None:
    assert parse_item(text, HUB, "ItemParam").lower() == ITEM


def test_an_id_keeps_its_letters_case() -> None:
    assert parse_item(ITEM.upper(), HUB, "FileParam") == ITEM.upper()


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "null",
        f" {ITEM}",
        f"{ITEM} ",
        f"{ITEM}\n",
        f"{ITEM}\r\nX: y",
        f"{ITEM}\0",
        f"{ITEM},{ITEM}",
        f'["{ITEM}"]',
        "x" * 129,
        "x" * 10_000,
        "../xxxxxxxx",
        "aaaa/bbbbbb",
        "%2e%2e%2fxxxxx",
        "?xxxxxxxxx",
        "#xxxxxxxxx",
        ";xxxxxxxxx",
        "-rfxxxxxxx",
        "--tokenxxxx",
        "\u0430bcdefgh-1234",
        "file:///etc/passwd",
        "/etc/passwd",
        "C:\\Users\\x",
        "\\\\host\\share",
        "http://169.254.169.254/latest",
        "http://[::ffff:169.254.169.254]/items/12345678",
        "http://[::1",
        "http://[",
        "gopher://x/items/12345678",
        "//evil/workspace/items/12345678",
        "https://data.d4science.org/shub/E_abc==",
        f"http://api.d4science.org/workspace/items/{ITEM}",
        f"https://api.d4science.org:444/workspace/items/{ITEM}",
        f"https://api.d4science.org@evil/workspace/items/{ITEM}",
        f"https://api.d4science.org.evil/workspace/items/{ITEM}",
        f"https://evil/?x={HUB}/items/{ITEM}",
        f"{HUB}.evil/items/{ITEM}",
        f"{HUB}/../items/{ITEM}",
        f"{HUB}/items/",
        f"{HUB}/items/../{ITEM}",
        f"{HUB}/items/%2e%2e",
        f"{HUB}/items/{ITEM}%2f..",
        f"{HUB}/items/{ITEM}%0a",
        f"{HUB}/items/{ITEM}%00",
        f"{HUB}/items/{ITEM}/children",
        f"{HUB}/items/{ITEM}/..",
        f"\n{HUB}/items/{ITEM}",
        f"{HUB}/it\nems/{ITEM}",
        f" {HUB}/items/{ITEM}",
        f"{HUB}/items/{ITEM}?{'x' * 2048}",
    ],
)
def test_what_is_no_item_of_this_workspace_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameterValue) as refused:
        parse_item(text, HUB, "FileParam")
    assert refused.value.locator == "FileParam"


def test_the_refusal_says_how_to_find_the_id() -> None:
    with pytest.raises(InvalidParameterValue, match="Copy the item's id"):
        parse_item("https://data.d4science.org/shub/E_abc==", HUB, "FileParam")


def test_a_token_in_the_items_address_is_not_kept() -> None:
    address = f"{HUB}/items/{ITEM}/download"
    for tail in ("?gcube-token=c0ffee00-canary", "#gcube-token=c0ffee00-canary"):
        request = parse_job_request(GOOD | {"FileParam": (address + tail,)}, HUB)
        assert request.given_item == address
        assert "canary" not in repr(request)


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_is_an_item_or_refused(text: str) -> None:
    for candidate in (text, f"{HUB}/items/{text}", f"http://{text}"):
        try:
            item_id = parse_item(candidate, HUB, "FileParam")
        except InvalidParameterValue:
            continue
        assert item_id.isascii()
        assert item_id[0].isalnum()
        assert not set(item_id) & set("/%?#;\\ \n\0")
