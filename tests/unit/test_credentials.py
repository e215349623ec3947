from __future__ import annotations

import base64
import json
import re
import textwrap
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from die_algorithm.credentials import (
    find_user_token,
    has_expired,
    holds,
    redact,
    user_token,
    without_cut_token,
)
from die_algorithm.errors import InvalidParameterValue, NotAuthorized
from die_algorithm.models import UserToken

GCUBE = "a11ce000-0000-4000-8000-000000000001-98187548"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl-_c2lnbmF0dXJl"
OTHER = "b0b00000-0000-4000-8000-000000000002-98187548"


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def refusal(query: dict[str, tuple[str, ...]], headers: dict[str, str]) -> NotAuthorized:
    with pytest.raises(NotAuthorized) as refused:
        user_token(query, headers)
    return refused.value


# -- where it is found


@pytest.mark.parametrize("token", [GCUBE, JWT, "a11ce000-0000-4000-8000-000000000001"])
def test_each_place_that_clients_use_is_read(token: str) -> None:
    assert user_token({"gcube-token": (token,)}, {}) == UserToken(token)
    assert user_token({}, {"gcube-token": token}) == UserToken(token)
    assert user_token({}, {"authorization": f"Bearer {token}"}) == UserToken(token)
    assert user_token({}, {"authorization": basic("alice", token)}) == UserToken(token, "alice")


def test_the_query_precedes_the_header_and_the_header_precedes_authorization() -> None:
    headers = {"gcube-token": OTHER, "authorization": basic("alice", JWT)}
    assert user_token({"gcube-token": (GCUBE,)}, headers).secret == GCUBE
    assert user_token({}, headers).secret == OTHER
    assert user_token({}, {"authorization": headers["authorization"]}).secret == JWT


def test_two_different_ones_in_a_query_are_none_and_the_same_twice_is_one() -> None:
    assert user_token({"gcube-token": ("", GCUBE, GCUBE)}, {}).secret == GCUBE
    with pytest.raises(InvalidParameterValue) as refused:
        find_user_token({"gcube-token": (GCUBE, OTHER)}, {})
    assert refused.value.locator == "gcube-token"
    assert GCUBE not in refused.value.text


def test_a_request_may_carry_none_where_none_is_needed() -> None:
    for headers in ({}, {"gcube-token": ""}, {"authorization": "Digest x"}):
        assert find_user_token({"gcube-token": ("",)}, headers) is None
    for headers in ({"gcube-token": "tiny"}, {"authorization": "Bearer"}):
        with pytest.raises(NotAuthorized):
            find_user_token({}, headers)


def test_an_empty_parameter_counts_as_absent() -> None:
    # The portal and scripts write "gcube-token=" when they send it elsewhere.
    assert user_token({"gcube-token": ("",)}, {"gcube-token": GCUBE}).secret == GCUBE


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer  "])
def test_the_scheme_is_read_in_any_case(scheme: str) -> None:
    assert user_token({}, {"authorization": f"{scheme} {GCUBE}"}).secret == GCUBE


def test_basic_without_a_user_name_names_nobody() -> None:
    assert user_token({}, {"authorization": basic("", GCUBE)}) == UserToken(GCUBE, None)


def test_a_basic_user_name_may_be_of_any_language() -> None:
    assert user_token({}, {"authorization": basic("алиса", GCUBE)}).username == "алиса"


# -- what is refused


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"gcube-token": ""},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"authorization": "Bearer a b"},
        {"authorization": "Basic"},
        {"authorization": "Basic !!!"},
        {"authorization": "Basic /////w=="},
        {"authorization": basic("alice", "")},
        {"authorization": "Basic " + base64.b64encode(GCUBE.encode()).decode()},
        {"authorization": f"Digest {GCUBE}"},
        {"cookie": f"gcube-token={GCUBE}"},
        {"x-gcube-token": GCUBE},
    ],
)
def test_a_request_without_a_token_is_answered_401(headers: dict[str, str]) -> None:
    error = refusal({}, headers)
    assert (error.http_status, error.code, error.locator) == (401, "NoApplicableCode", None)
    assert "gcube-token" in error.text


@pytest.mark.parametrize("parameter", ["access_token", "token", "gcube_token"])
def test_a_parameter_of_another_name_is_no_token(parameter: str) -> None:
    refusal({parameter: (GCUBE,)}, {})


@pytest.mark.parametrize(
    "secret",
    [
        "sh0rt",
        "-rf-looks-like-an-option",
        "--token=abcdefgh",
        "=abcdefgh",
        f"{GCUBE}\n",
        f"{GCUBE}\r\nX-Evil: 1",
        f"{GCUBE}\x00",
        f" {GCUBE}",
        f"{GCUBE} {OTHER}",
        f"{GCUBE};id",
        "$(id)abcdefgh",
        "tökentöken",
        "０１２３４５６７８９",  # noqa: RUF001 - digits of full width
        "a" * 8193,
    ],
)
def test_what_cannot_be_a_token_is_refused_and_not_repeated(secret: str) -> None:
    for error in (
        refusal({"gcube-token": (secret,)}, {}),
        refusal({}, {"gcube-token": secret}),
        refusal({}, {"authorization": basic("alice", secret)}),
    ):
        assert error.http_status == 401
        assert secret not in error.text
        assert error.__cause__ is None


def test_a_bad_token_in_the_query_is_not_replaced_by_one_elsewhere() -> None:
    refusal({"gcube-token": ("no token",)}, {"gcube-token": GCUBE})


def test_a_token_may_be_8_kib_long() -> None:
    assert user_token({}, {"gcube-token": "a" * 8192}).secret == "a" * 8192


def test_a_token_shows_itself_nowhere() -> None:
    token = UserToken(GCUBE, "alice")
    assert f"{token} {token!r} {[token]}" == "UserToken(***) UserToken(***) [UserToken(***)]"


# -- redact

SECRETS = st.from_regex(r"[A-Za-z0-9._~+/][A-Za-z0-9._~+/=-]{7,60}", fullmatch=True)


@given(SECRETS, st.text(), st.text())
def test_no_form_of_the_token_survives_redaction(secret: str, before: str, after: str) -> None:
    for form in (
        secret,
        quote(secret, safe=""),
        quote(secret, safe="").lower(),
        base64.b64encode(secret.encode()).decode(),
        base64.b64encode(secret.encode()).decode().rstrip("="),
        base64.urlsafe_b64encode(secret.encode()).decode(),
        json.dumps(secret)[1:-1],
        secret.replace("/", "\\/"),
    ):
        redacted = redact(f"{before} {form} {after}", UserToken(secret))
        assert "***" in redacted
        assert form not in redacted
        assert holds(f"{before} {form} {after}", UserToken(secret))


def test_a_token_is_held_in_any_disguise_and_nothing_else_is() -> None:
    token = UserToken(GCUBE)
    percent = "".join(f"%{ord(character):02x}" for character in GCUBE)
    for held in (percent, quote(percent), base64.b64encode(f"ab{GCUBE}".encode()).decode()):
        assert holds(f"x{held}y", token)
    for other in ("", OTHER, GCUBE[:-1], "100%", base64.b64encode(OTHER.encode()).decode()):
        assert not holds(other, token)


def test_the_rest_of_the_text_stays() -> None:
    line = f"running sortapp {GCUBE} item folder\n"
    assert redact(line, UserToken(GCUBE)) == "running sortapp *** item folder\n"
    assert redact(line, UserToken(OTHER)) == line


@pytest.mark.parametrize("before", ["", "a", "ab", "abc", "some.user:"])
@pytest.mark.parametrize("after", ["", "z", "zz", "zzz"])
def test_a_token_inside_other_base64_is_masked(before: str, after: str) -> None:
    encoded = base64.b64encode(f"{before}{GCUBE}{after}".encode()).decode()
    redacted = redact(f"Authorization: Basic {encoded}\n", UserToken(GCUBE))
    assert "***" in redacted
    # What is left holds no more of the token than the bits that its neighbours share.
    left = redacted.removeprefix("Authorization: Basic ").split("***")
    assert sum(map(len, left)) <= len(base64.b64encode((before + after).encode())) + 4


def test_a_partly_percent_encoded_token_is_masked() -> None:
    assert redact(GCUBE.replace("-", "%2D"), UserToken(GCUBE)) == "***"
    assert redact(GCUBE.replace("-", "%2d"), UserToken(GCUBE)) == "***"


def test_a_token_that_never_expires_within_our_calendar_is_taken() -> None:
    until = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert not has_expired(until, datetime.now(UTC))


def cut_forms(cut: int) -> Iterator[str]:
    """What is left of a token's forms if so many of its characters are missing."""
    percent = "".join(f"%{ord(character):02X}" for character in JWT)
    encoded = base64.b64encode(JWT.encode()).decode()
    yield JWT[cut:]
    yield JWT[cut:].replace(".", "%2E")
    yield percent[3 * cut + 1 :]  # within an escape
    yield quote(percent)[5 * cut + 3 :]
    yield encoded[cut:]
    yield textwrap.fill(encoded[cut:], 10)
    yield textwrap.indent(textwrap.fill(JWT[cut:], 7), "| ")[2:]


@pytest.mark.parametrize("cut", [0, 1, 13, len(JWT) - 6])
def test_the_rest_of_a_token_at_the_beginning_of_a_cut_text_goes(cut: int) -> None:
    for rest in cut_forms(cut):
        left = without_cut_token(f"{rest} and more words", UserToken(JWT))
        # Perhaps but for padding, and digits that say how one character was written.
        assert len(left) <= len(" and more words") + 4, rest
        assert left.endswith(" and more words")


@pytest.mark.parametrize("text", ["x" * 100_000, "", "12 of 34 files", "%41%42", JWT[4:-1], "dXJl"])
def test_of_a_cut_text_nothing_else_goes(text: str) -> None:
    assert without_cut_token(text, UserToken(JWT)) == text


# -- forms in which others repeat it


@pytest.mark.parametrize("secret", [GCUBE, JWT, "s3cret/with+odd~chars=="])
@pytest.mark.parametrize(
    "write",
    [
        lambda text: text.upper(),
        lambda text: quote(quote(quote(text, safe=""), safe=""), safe=""),
        lambda text: "".join(f"%25{ord(character):02x}" for character in text),
        lambda text: "".join(f"\\u00{ord(character):02x}" for character in text),
        lambda text: json.dumps(json.dumps(text.replace("/", "\\/"))),
        lambda text: textwrap.fill(text, 20, break_on_hyphens=False),
        lambda text: textwrap.indent(textwrap.fill(text, 20, break_on_hyphens=False), "\t| "),
        lambda text: base64.encodebytes(f"some.long.user.name:{text}".encode() * 3).decode(),
        lambda text: textwrap.fill(base64.b64encode(text.encode()).decode(), 16),
        lambda text: base64.encodebytes(text.encode() * 3).decode().replace("\n", "\r\n"),
    ],
)
def test_a_token_is_masked_however_it_was_written(secret: str, write: Callable[[str], str]) -> None:
    text = f"before {write(secret)} after"
    shown = redact(text, UserToken(secret))
    assert holds(text, UserToken(secret))
    assert "***" in shown
    assert not holds(shown, UserToken(secret))
    pieces = re.split(r"[^A-Za-z0-9._~+/=-]+", write(secret))
    assert not any(len(piece) > 6 and piece in shown for piece in pieces if "ser" not in piece)
    assert shown.startswith("before ")
    assert shown.endswith(" after")


@pytest.mark.parametrize("known", [12, 40, len(JWT) - 1])
def test_the_beginning_of_a_token_is_masked_where_the_rest_is_missing(known: int) -> None:
    assert redact(f"token {JWT[:known]}", UserToken(JWT)) == "token ***"


def test_what_merely_resembles_a_token_stays() -> None:
    text = f"{JWT[:11]} {JWT[1:]}\n{GCUBE[:8]}\n\n  100% | \\ \u0130 \ud7ff"
    assert redact(text, UserToken(JWT)) == text


@pytest.mark.parametrize("filler", ["x", " ", "\n", "|", "%", "%25", "\\", "\\u00", "/", "a\n"])
def test_a_text_costs_as_much_as_it_is_long(filler: str) -> None:
    token = UserToken("/" * 8191 + "a")

    def cost(length: int) -> float:
        text = filler * (length // len(filler))
        began = time.process_time()
        redact(text, token)
        return time.process_time() - began

    cost(1000)
    # Were it to grow with the square, it would be 64 times as much.
    assert cost(400_000) < 32 * cost(50_000) + 0.05
