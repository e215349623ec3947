from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from die_algorithm.errors import InvalidParameterValue
from die_algorithm.item_reference import (
    ItemReference,
    is_item_reference,
    parse_item_reference,
)
from die_algorithm.public_link import TrustedHosts

HUB = "https://api.d4science.org/workspace"
TRUSTED = TrustedHosts([HUB], ["data.d4science.org"])
ITEM = "2f4c9e0a-5b1d-4a6e-9c39-1d5c1f8f7a11"


def parse(text: str) -> ItemReference:
    return parse_item_reference(text, HUB, TRUSTED, "FileParam")


def refusal(text: str) -> str:
    with pytest.raises(InvalidParameterValue) as refused:
        parse(text)
    assert refused.value.locator == "FileParam"
    return refused.value.text


# -- ids


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
    reference = parse(text)
    assert reference.item_id.lower() == ITEM
    assert reference == ItemReference(item_id=reference.item_id)


def test_an_id_keeps_its_letters_case() -> None:
    assert parse(ITEM.upper()).item_id == ITEM.upper()


@pytest.mark.parametrize("text", ["data.csv", "sortableelements.txt", "item-0001"])
def test_one_word_may_be_an_id_or_else_a_name(text: str) -> None:
    assert parse(text) == ItemReference(item_id=text, path=(text,))


# -- paths


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a.txt", ("a.txt",)),
        ("a/b.txt", ("a", "b.txt")),
        ("/a/b.txt", ("a", "b.txt")),
        ("./a/b.txt", ("a", "b.txt")),
        ("a/b/", ("a", "b")),
        ("Input Data Sets/größe 1.csv", ("Input Data Sets", "größe 1.csv")),
        ("a:b/c", ("a:b", "c")),
        ("...", ("...",)),
        ("/etc/passwd", ("etc", "passwd")),
        ("Home/x", ("Home", "x")),
        ("-rf", ("-rf",)),
        ("a\\b", ("a\\b",)),
    ],
)
def test_a_path_is_split_into_names(text: str, path: tuple[str, ...]) -> None:
    assert parse(text).path == path
    assert parse(text).path_owner is None


def test_an_absolute_path_names_its_owner() -> None:
    assert parse("/Home/ada.b/Workspace/a/b c.txt") == ItemReference(
        path=("a", "b c.txt"), path_owner="ada.b"
    )


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "  \t", f" {ITEM}", f"{ITEM} ", f"{ITEM}\n", f"{ITEM}\r\nX: y", f"{ITEM}\0"),
        *(
            "..",
            ".",
            "/",
            "./",
            "a/../b",
            "../a",
            "a/..",
            "a/./b",
            "a//b",
            "//evil/items/1",
            "a/ ../b",
        ),
        *("/Home/ada", "/Home/ada/Workspace", "/Home/ada/Workspace/", "/Home//Workspace/a"),
        *(
            "/Home/ada/Workspace/../../bob/Workspace/a",
            "/Home/../Workspace/..",
            "/Home/ada/Other/a",
        ),
        *("a" * 256, "a/" * 51 + "a", "a/" + "b" * 2048),
        "a\u202eb/c",
    ],
)
def test_what_has_none_of_the_forms_is_refused(text: str) -> None:
    assert refusal(text)


def test_the_refusal_says_how_to_find_the_id() -> None:
    assert "Copy the item's id" in refusal("a/../b")


# -- links

UNTRUSTED = [
    "http://169.254.169.254/latest",
    "http://2852039166/latest",
    "http://0x7f.1/",
    "http://127.1/",
    "http://[::1]/",
    "http://[::ffff:169.254.169.254]/items/12345678",
    "https://evil/?x=https://data.d4science.org/",
    "https://data.d4science.org.evil.org/x",
    "https://evil-data.d4science.org/x",
    "https://xdata.d4science.org/x",
    "https://data.d4science.org:444/x",
    "http://data.d4science.org:8080/x",
    "http://api.d4science.org/workspace/items/1",
    f"https://api.d4science.org:444/workspace/items/{ITEM}",
    f"https://api.d4science.org.evil/workspace/items/{ITEM}",
    "https://d4science.org/x",
]
MALFORMED = [
    "http://trusted@evil/",
    "https://data.d4science.org@evil/x",
    "https://data.d4science.org:443@evil/x",
    "https://a:b@data.d4science.org/x",
    "https://@data.d4science.org/x",
    "https://data.d4science.org\\@evil/x",
    "https://data.d4science.org\\.evil/x",
    "https://data.d4science.org%2eevil/x",
    "https://data%2Ed4science.org/x",
    "https://%64ata.d4science.org/x",
    "https://dätä.d4science.org/x",
    "https://data\u3002d4science\u3002org/x",
    "https://\uff44ata.d4science.org/x",
    "https://data.d4science.org./x",
    "https://data..d4science.org/x",
    "https://.data.d4science.org/x",
    "https://data.d4science.org:/x",
    "https://data.d4science.org:0/x",
    "https://data.d4science.org:0443/x",
    "https://data.d4science.org:65536/x",
    "https://data.d4science.org:4 43/x",
    "https://data.d4science.org:٤٤٣/x",
    "https://[fe80::1%25eth0]/x",
    "https://[::1/x",
    "http://[",
    "https:///x",
    "https:/data.d4science.org/x",
    "https:data.d4science.org/x/",
    "file:///etc/passwd",
    "file://data.d4science.org/etc/passwd",
    "gopher://data.d4science.org/x",
    "ftp://data.d4science.org/x",
    "jar:https://data.d4science.org/x",
    "https://data.d4science.org/x\r\nHost: evil",
    "https://data.d4science.org/x\nevil",
    "https://data.d4science.org\t.evil/x",
    "https://data.d4science.org /x",
    " https://data.d4science.org/x",
    "https://data.d4science.org/%",
    "https://data.d4science.org/%zz",
    "https://data.d4science.org/x?gcube-token=1234",
    "https://data.d4science.org/x?a=1&access_token=1234",
    "https://data.d4science.org/" + "x" * 2048,
]


@pytest.mark.parametrize("text", [*UNTRUSTED, *MALFORMED])
def test_no_link_to_another_host_is_ever_taken(text: str) -> None:
    try:
        reference = parse(text)
    except InvalidParameterValue:
        return
    # What begins with no scheme is a name in the workspace, of which nobody asks another host.
    assert reference.link is None
    assert text == "https:data.d4science.org/x/"


def test_the_refusal_of_an_untrusted_link_names_the_trusted_hosts_and_nothing_internal() -> None:
    trusted = TrustedHosts(["http://storagehub.internal:8081/workspace"], ["data.d4science.org"])
    for text in ("https://evil/x", "gopher://evil/x"):
        with pytest.raises(InvalidParameterValue) as refused:
            parse_item_reference(text, HUB, trusted, "ItemParam")
        assert "data.d4science.org" in refused.value.text
        assert "internal" not in refused.value.text
        assert "8081" not in refused.value.text


# -- what is sent as content


@pytest.mark.parametrize(
    "text",
    [
        ITEM,
        ITEM.upper(),
        "https://data.d4science.org/shub/E_a==",
        "/Home/ada/Workspace/a b.txt",
        "http://evil/x",
        "file:///etc/passwd",
    ],
)
def test_a_reference_sent_as_content_is_a_reference(text: str) -> None:
    assert is_item_reference(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "data.csv",
        "a/b.txt",
        f"{ITEM}\n{ITEM}",
        "see https://data.d4science.org/x",
        "/etc/x",
        "https://a/x\nhttps://a/y",
        "/Home/ada",
        "https://a/ b",
        "https://a/" + "x" * 2048,
    ],
)
def test_any_other_text_is_content(text: str) -> None:
    assert not is_item_reference(text)


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_is_one_of_the_forms_or_refused(text: str) -> None:
    for candidate in (text, f"{HUB}/items/{text}", f"http://{text}", f"/Home/ada/Workspace/{text}"):
        try:
            reference = parse(candidate)
        except InvalidParameterValue:
            continue
        assert not set(reference.item_id) & set("/%?#;\\ \n\0")
        for name in reference.path:
            assert name.isprintable()
            assert name not in ("", ".", "..")
            assert "/" not in name
        if reference.link:
            assert reference.link.isascii()
            assert reference.link.startswith(("https://api.d4science.org/", "http"))
