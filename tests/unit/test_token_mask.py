from __future__ import annotations

import base64
import io
import json
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from urllib.parse import quote

import pytest
from jobs_fixture import TOKEN

from die_algorithm import token_mask
from die_algorithm.models import UserToken
from die_algorithm.token_mask import TokenMask, guard_loggers, unguard_loggers

JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSIsImV4cCI6MTh9.c2lnbmF0dXJlX2NhbmFyeQ"
BARE = "0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0f9"
ODD = "s3cret/with+odd~chars=="
TOKENS = (TOKEN, JWT, BARE, ODD)
#: That are recognised although nobody has told of them.
STRANGERS = ("d3305e2c-0000-4000-8000-00000000d3e0-843339462", JWT)


def percent(secret: str) -> str:
    return "".join(f"%{ord(character):02x}" for character in secret)


def forms(secret: str) -> dict[str, str]:
    """All ways of writing it that a log has ever seen."""
    return {
        "plain": secret,
        "percent": quote(secret, safe=""),
        "percent, all of it": percent(secret),
        "percent, twice": quote(percent(secret), safe=""),
        "json": json.dumps({"t": secret}).replace("/", "\\/"),
        "the first twelve": secret[:12],
        **{
            f"base64 after {before}": base64.b64encode(b"u" * before + secret.encode()).decode()
            for before in range(3)
        },
        **{
            f"base64url after {before}": base64.urlsafe_b64encode(
                b"u" * before + secret.encode()
            ).decode()
            for before in range(3)
        },
    }


def core(form: str) -> str:
    """The inner part of a form, that must not be seen."""
    return form[len(form) // 3 : -4]


@pytest.fixture(autouse=True)
def request_of_its_own() -> Iterator[None]:
    before = token_mask._SUSPECTED.set(())
    yield
    token_mask._SUSPECTED.reset(before)


@pytest.fixture
def mask() -> TokenMask:
    mask = TokenMask()
    for secret in TOKENS:
        mask.learn(UserToken(secret))
    return mask


@pytest.mark.parametrize("secret", TOKENS)
@pytest.mark.parametrize("form", sorted(forms("x" * 20)))
@pytest.mark.parametrize("text", ["{}", "GET /a?b={}&c=d", "<a>{}</a>", "'{}'", "x: {}\ny"])
def test_a_known_token_is_masked_in_every_form(
    mask: TokenMask, secret: str, form: str, text: str
) -> None:
    written = forms(secret)[form]
    masked = mask.mask(text.format(written))
    assert core(written) not in masked
    assert "***" in masked
    assert masked.startswith(text.partition("{}")[0])


@pytest.mark.parametrize("secret", STRANGERS)
@pytest.mark.parametrize("text", ["{}", "id={}&x", "a '{}' b"])
def test_a_token_is_known_by_its_looks(secret: str, text: str) -> None:
    assert TokenMask().mask(text.format(secret)) == text.format("***")


@pytest.mark.parametrize(
    "before",
    [
        "gcube-token=", "gcube-token: ", "'gcube-token': '", '"gcube-token":"', "GCUBE-TOKEN=",
        "gcube-token%3D", "Authorization: Bearer ", "authorization=Basic ", "('Authorization', 'Bearer ",
        "access_token=",
    ],
)  # fmt: skip
def test_what_follows_a_name_is_masked_whatever_it_is(before: str) -> None:
    masked = TokenMask().mask(f"a {before}sesame-open-up b")
    assert masked == f"a {before}*** b"


def test_nothing_else_is_masked(mask: TokenMask) -> None:
    text = (
        "Job 6f9619ff-8b86-4d01-b42d-00c04fc964ff: die-6f9619ff-8b86-4d01-b42d-00c04fc964ff-input, "
        "image docker.io/d4science/sortapp:latest@sha256:"
        + "ab"
        * 32
        + ", HTTP Basic credentials, "
        "/wps/RetrieveResultServlet 200 12 ms, 2026-11-25T00:41:30Z, C:\\new\\u00, 100%"
    )
    assert mask.mask(text) == text


def test_only_the_beginning_of_a_token_is_kept(mask: TokenMask) -> None:
    kept = str(vars(mask))
    for secret in TOKENS:
        assert secret[8:] not in kept


def test_the_oldest_tokens_are_forgotten() -> None:
    mask = TokenMask()
    first = UserToken("aaaa0000-secret")
    mask.learn(first)
    for number in range(8192):
        mask.learn(UserToken(f"b{number:07d}-secret"))
    assert mask.mask(first.secret) == first.secret
    assert mask.mask("b8191-secret b0008191-secret") == "b8191-secret ***"
    assert len(vars(mask)["_known"]) == 8192
    assert len(vars(mask)["_beginnings"]) <= 8192 * 7


# -- records


@pytest.fixture
def log(mask: TokenMask) -> Iterator[tuple[logging.Logger, io.StringIO]]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    handler.addFilter(mask)
    logger = logging.Logger("any library's")  # noqa: LOG001 - one of its own, that nobody else hears
    logger.addHandler(handler)
    yield logger, stream
    handler.close()


def test_a_record_is_masked_with_its_arguments(log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, stream = log
    logger.warning("%s said %r", BARE, {"token": ODD})
    assert stream.getvalue() == "WARNING *** said {'token': '***'}\n"


def test_an_exception_is_masked_with_its_causes(log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, stream = log
    error = OSError(f"{ODD}\nERROR forged")
    error.__cause__ = ValueError(BARE)
    logger.error("It failed.", exc_info=error)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "ERROR It failed."
    assert "  ValueError: ***" in lines
    assert "  OSError: ***" in lines
    assert "  ERROR forged" in lines


def test_nobody_begins_a_line_of_the_log(log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, stream = log
    logger.warning("path %s", "a\r\nERROR forged\x1b[2J\x85\u2028\x00b\tc")
    assert stream.getvalue() == ("WARNING path a\\r\\nERROR forged\\x1b[2J\\x85\\u2028\\x00b\tc\n")


def test_no_message_fills_the_disk(log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, stream = log
    for said in ("said " + "A" * 250_000, "a b " * 50_000 + BARE, " " * 16_370 + JWT[3:]):
        logger.warning("They %s", said)
        line = stream.getvalue().splitlines()[-1]
        assert line.startswith(f"WARNING They {said[:5]}".rstrip())
        assert len(line) < 16_500
    # Nobody would know the half of a token.
    assert JWT[3:9] not in stream.getvalue()
    logger.warning("x" * 16_384)
    assert stream.getvalue().endswith(f"{'x' * 16_384}\n")


def test_a_wrong_call_of_the_log_is_masked_too(log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, stream = log
    logger.warning("%d", BARE)
    assert stream.getvalue() == "WARNING %d ('***',)\n"


def test_a_guest_guards_its_own_loggers_alone(
    mask: TokenMask, caplog: pytest.LogCaptureFixture
) -> None:
    ours, theirs = logging.getLogger("die_algorithm.web"), logging.getLogger("their.service")
    guard_loggers("die_algorithm", mask)
    try:
        ours.warning("ours %s", BARE)
        theirs.warning("theirs %s", BARE)
    finally:
        unguard_loggers("die_algorithm", mask)
    ours.warning("later %s", BARE)
    assert caplog.messages == ["ours ***", f"theirs {BARE}", f"later {BARE}"]


@pytest.mark.parametrize("form", [form for form in forms(ODD) if form != "the first twelve"])
def test_what_came_as_a_token_is_masked_as_a_whole(form: str) -> None:
    mask = TokenMask()
    mask.suspect(UserToken(ODD))
    assert core(forms(ODD)[form]) not in mask.mask(f"x {forms(ODD)[form]} y")


def test_what_came_as_a_token_is_masked_in_its_own_request_alone() -> None:
    mask = TokenMask()
    with ThreadPoolExecutor(1) as another:
        copy_context().run(mask.suspect, UserToken(ODD))
        assert mask.mask(ODD) == ODD
        mask.suspect(UserToken(ODD))
        assert mask.mask(ODD) == "***"
        assert another.submit(mask.mask, ODD).result() == ODD


@pytest.mark.parametrize(
    "text", ["bad token\n{}\nsee", "b'x\\n{}\\n'", "\x1b[31m{}\x1b[0m", "é{}é", "a {}\r\nb"]
)
def test_what_came_as_a_token_is_masked_beside_what_is_no_word(text: str) -> None:
    mask = TokenMask()
    for secret in (BARE, ODD):
        mask.suspect(UserToken(secret))
        assert secret not in mask.mask(text.format(secret))


def test_a_known_token_is_masked_in_any_case(mask: TokenMask) -> None:
    for secret in TOKENS:
        assert secret[12:].upper() not in mask.mask(f"x {secret.upper()} y").upper()


def test_nobody_chooses_what_is_masked_by_sending_its_beginning() -> None:
    mask = TokenMask()
    mask.suspect(UserToken("docker.io/x"))
    mask.suspect(UserToken("docker.io/y"))
    line = "Job 1 accepted: image docker.io/d4science/sortapp, owner alice."
    assert mask.mask(line) == line


@pytest.mark.parametrize("place", ["x {} y", "GET '/x/{}' 404", "GET '/x%2f{}%2f' 404", "{}"])
def test_what_came_as_a_token_is_masked_in_any_place_and_case(place: str) -> None:
    mask = TokenMask()
    mask.suspect(UserToken(BARE))
    for written in (BARE, BARE.upper(), percent(BARE)):
        assert mask.mask(place.format(written)) == place.format("***")


@pytest.mark.parametrize(
    "word", ["ocker.io", "docker.i", "sortapp1", "12.34.56.78", "12.34.56", "34.56.78"]
)
def test_nobody_hides_his_address_or_a_part_of_a_word(word: str) -> None:
    mask = TokenMask()
    mask.suspect(UserToken(word))
    line = "12.34.56.78 Job 1 accepted: image docker.io/d4science/sortapp, owner alice."
    assert mask.mask(line) == line


def test_the_line_after_a_known_token_stays(mask: TokenMask) -> None:
    assert mask.mask(f"{BARE}\nduring handling\\/") == "***\nduring handling\\/"


@pytest.mark.parametrize(
    "filler", ["A", "/", "/ab", "a b", f"{BARE} ", "eyJ", "bearer ", "%41", "\\"]
)
def test_a_line_costs_as_much_as_it_is_long(mask: TokenMask, filler: str) -> None:
    mask.suspect(UserToken((filler * 8192)[:8190] + "z"))

    def cost(length: int) -> float:
        text = filler * (length // len(filler))
        began = time.process_time()
        mask.mask(text)
        return time.process_time() - began

    cost(1000)
    # Were it to grow with the square, it would be 64 times as much.
    assert cost(400_000) < 32 * cost(50_000) + 0.05


def test_what_came_as_tokens_is_forgotten_in_time() -> None:
    mask = TokenMask()
    for number in range(5):
        mask.suspect(UserToken(f"a-token-number-{number}"))
    assert "number-0" in mask.mask("a-token-number-0")
    assert mask.mask("a-token-number-4") == "***"
