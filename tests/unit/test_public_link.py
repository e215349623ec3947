from __future__ import annotations

from urllib.parse import urlsplit

import pytest
import urllib3
from hypothesis import given
from hypothesis import strategies as st

from die_algorithm.public_link import PublicLink, TrustedHosts, parse_public_link
from die_algorithm.settings import Settings


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://host", "http://host/"),
        ("HTTP://Host:80/a", "http://host/a"),
        ("https://host:443", "https://host/"),
        ("https://host:80/a?b=c#d", "https://host:80/a?b=c"),
        ("https://host?q", "https://host/?q"),
        ("https://host#@evil/", "https://host/"),
        ("https://host/@evil", "https://host/@evil"),
        ("https://host?@evil", "https://host/?@evil"),
        ("https://host/shub/E_a==", "https://host/shub/E_a=="),
        ("https://host/a b/ü.txt", "https://host/a%20b/%C3%BC.txt"),
        ("https://host/a%20b", "https://host/a%20b"),
        ('https://host/<"|`', "https://host/%3C%22%7C%60"),
        ("http://[::1]:8080/a", "http://[::1]:8080/a"),
        ("http://[0:0::1]/a", "http://[::1]/a"),
        ("http://a_b.local:8080/", "http://a_b.local:8080/"),
    ],
)
def test_a_link_is_put_together_again_from_its_parts(text: str, url: str) -> None:
    assert parse_public_link(text).url == url


@given(st.text(), st.text(), st.text())
def test_every_library_reads_the_host_that_was_checked(before: str, host: str, rest: str) -> None:
    for text in (f"http://{before}{host}{rest}", f"https://host{rest}", f"http://host{before}/x"):
        try:
            link = parse_public_link(text)
        except ValueError:
            continue
        assert link.url.isascii()
        assert link.url.isprintable()
        split, parsed = urlsplit(link.url), urllib3.util.parse_url(link.url)
        assert split.username is None
        assert parsed.auth is None
        assert split.hostname == (parsed.host or "").strip("[]") == link.host
        assert (split.port or {"http": 80, "https": 443}[link.scheme]) == link.port


LINK = parse_public_link("https://data.org/a/b?c")


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("d", "https://data.org/a/d"),
        ("/d", "https://data.org/d"),
        ("//evil/d", "https://evil/d"),
        ("http://evil/d", "http://evil/d"),
        (" /d ", "https://data.org/d"),
        ("?x", "https://data.org/a/b?x"),
    ],
)
def test_a_redirect_is_resolved_and_read_like_any_link(location: str, url: str) -> None:
    assert LINK.joined(location).url == url


@pytest.mark.parametrize(
    "location",
    ["file:///etc/passwd", "//a@evil/", "gopher://x", "javascript:1", "//[::1", "\nx\x00"],
)
def test_a_redirect_to_what_is_no_link_is_refused(location: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - some are the library's own
        LINK.joined(location)
    assert refused.value.args


def trusts(trusted: TrustedHosts, *urls: str) -> list[bool]:
    return [parse_public_link(url) in trusted for url in urls]


def test_a_named_host_is_trusted_at_the_usual_ports_or_at_the_one_named() -> None:
    trusted = TrustedHosts([], ["Data.org", "other.org:8443"])
    assert (
        trusts(trusted, "http://data.org/", "https://data.org/x", "https://DATA.org:80/")
        == [True] * 3
    )
    assert trusts(trusted, "https://other.org:8443/", "https://other.org/") == [True, False]
    assert not any(trusts(trusted, "http://data.org:8080/", "http://data.org.evil/", "http://org/"))


def test_storagehub_is_trusted_at_its_own_port_alone_as_we_and_as_containers_see_it() -> None:
    settings = Settings(
        storagehub_url="http://127.0.0.1:8081/workspace",
        container_storagehub_url="https://hub:9443/storagehub/workspace",
    )
    trusted = settings.trusted_links
    assert trusts(trusted, "http://127.0.0.1:8081/shub/E_a", "https://hub:9443/x") == [True, True]
    others = (
        "http://127.0.0.1/",
        "http://127.0.0.1:8082/",
        "https://hub/",
        "http://localhost:8081/",
    )
    assert not any(
        trusts(trusted, *others, "http://2130706433:8081/", "https://data.d4science.org/")
    )


def test_the_name_at_a_links_end_is_decoded() -> None:
    def last(url: str) -> str:
        return parse_public_link(url).last_segment

    assert last("https://h/a/b%20c.txt?d/e") == "b c.txt"
    assert last("https://h/a%2f..%2fb") == "a/../b"
    assert last("https://h/") == last("https://h?a/b") == ""
    assert isinstance(LINK, PublicLink)
