from __future__ import annotations

import copy
from ipaddress import ip_network

import pytest

from die_algorithm.senders import Senders, sender

PROXIES = tuple(map(ip_network, ("10.0.0.0/8", "fd00::/8")))


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("192.0.2.1", "", "192.0.2.1"),
        # Anybody can write the header.
        ("192.0.2.1", "198.51.100.1", "192.0.2.1"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        # What stands before the last that no proxy of ours wrote is the client's own word.
        ("10.0.0.1", "203.0.113.9, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1, 10.0.0.2", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1,10.0.0.2 , 10.0.0.3", "198.51.100.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1, unknown", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1:4711", "198.51.100.1"),
        ("10.0.0.1", "[2001:db8:1:2:3::4]:80", "2001:db8:1:2::/64"),
        ("10.0.0.1", "10.0.0.9", "10.0.0.9"),
        ("2001:db8::1", "", "2001:db8::/64"),
        ("::ffff:192.0.2.1", "", "192.0.2.1"),
        ("::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("fe80::1%eth0", "", "fe80::/64"),
        ("", "198.51.100.1", ""),
    ],
)
def test_only_trusted_proxies_are_believed(peer: str, forwarded: str, expected: str) -> None:
    assert sender(peer, forwarded, PROXIES) == expected


def test_neighbours_of_one_ipv6_network_are_one_sender() -> None:
    assert sender("2001:db8::1", "", ()) == sender("2001:db8::ffff:1", "", ())
    assert sender("2001:db8::1", "", ()) != sender("2001:db8:0:1::1", "", ())


def test_a_header_of_a_megabyte_is_read_from_its_end() -> None:
    assert sender("10.0.0.1", "10.0.0.2, " * 100_000 + "10.0.0.3", PROXIES) == "10.0.0.2"


def ask(senders: Senders, peer: str, forwarded: str | None) -> str:
    forwarded_for = {} if forwarded is None else {"HTTP_X_FORWARDED_FOR": forwarded}
    return senders.of({"REMOTE_ADDR": peer, **forwarded_for}, PROXIES)


def test_who_seems_to_be_a_proxy_and_is_not_trusted_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    senders = Senders()
    for _ in range(3):
        assert ask(copy.deepcopy(senders), "192.0.2.1", "198.51.100.1") == "192.0.2.1"
    (said,) = caplog.messages
    assert "Requests from 192.0.2.1 name others" in said
    assert "198.51.100.1" not in said


@pytest.mark.parametrize(
    ("peer", "forwarded"),
    [("10.0.0.1", "198.51.100.1"), ("192.0.2.1", None), ("192.0.2.1", ""), ("", "198.51.100.1")],
)
def test_of_others_nothing_is_told(
    caplog: pytest.LogCaptureFixture, peer: str, forwarded: str | None
) -> None:
    assert ask(Senders(), peer, forwarded) == sender(peer, forwarded or "", PROXIES)
    assert caplog.messages == []


def test_nobody_fills_the_log_with_what_he_pretends(caplog: pytest.LogCaptureFixture) -> None:
    senders = Senders()
    for number in range(100):
        ask(senders, f"192.0.2.{number}", "198.51.100.1")
    assert len(caplog.messages) == 8
