"""The headers that a client may send beside the process's inputs."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from die_algorithm.errors import InvalidParameterValue
from die_algorithm.job_options import JobOptions, parse_job_options
from die_algorithm.models import Deadlines

LONGEST = Deadlines(start=timedelta(minutes=30), run=timedelta(hours=24), total=timedelta(days=7))
HEADERS = {"start": "Start-Deadline", "run": "Run-Deadline", "total": "Total-Deadline"}


def options(headers: dict[str, str] | None = None, longest: Deadlines = LONGEST) -> JobOptions:
    """What headers mean; their names arrive in lower case."""
    given_headers = {name.lower(): value for name, value in (headers or {}).items()}
    return parse_job_options(given_headers, longest)


def refusal(headers: dict[str, str], longest: Deadlines = LONGEST) -> InvalidParameterValue:
    with pytest.raises(InvalidParameterValue) as refused:
        options(headers, longest)
    return refused.value


def test_without_headers_there_is_no_key_and_the_deadlines_are_the_operators() -> None:
    assert options() == JobOptions(idempotency_key=None, deadlines=LONGEST)
    assert options({"Accept": "*/*", "Deadline": "1s", "Key": "k"}) == options()


# -- the key


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        ('"8e03978e"', "8e03978e"),
        ("x", "x"),
        ("k" * 255, "k" * 255),
        ('"' + "k" * 255 + '"', "k" * 255),
        (' \t"key" ', "key"),
        ("!#$%&'()*+,-./:;<=>?@[]^_`{|}~", "!#$%&'()*+,-./:;<=>?@[]^_`{|}~"),
    ],
)
def test_a_key_is_what_stands_in_the_quotes_if_there_are_any(value: str, key: str) -> None:
    assert options({"Idempotency-Key": value}).idempotency_key == key


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        '""',
        '"',
        '"key',
        'key"',
        '""key""',
        'a"b',
        "a\\b",
        '"a\\"b"',
        "two words",
        '" key"',
        "k" * 256,
        '"' + "k" * 256 + '"',
        "a\0b",
        "a\nb",
        "key\n",
        "\x0bkey",
        "key\x1f",
        "key\x7f",
        "k\xe9y",
        "\xa0key",
        "\N{SNAKE}",
        "\ud800",
        '"a", "b"',
    ],
)
def test_a_key_that_is_none_is_refused_by_the_headers_name(value: str) -> None:
    refused = refusal({"Idempotency-Key": value})
    assert refused.locator == "Idempotency-Key"
    assert refused.text == (
        "Idempotency-Key must be 1 to 255 printable ASCII characters without blanks, such as a UUID."
    )


@given(st.text())
def test_any_text_is_a_key_or_refused(text: str) -> None:
    try:
        key = options({"Idempotency-Key": text}).idempotency_key
    except InvalidParameterValue:
        return
    assert key
    assert len(key) <= 255
    assert key.isascii()
    assert key.isprintable()
    assert not set(key) & set(' "\\')
    assert key in text


# -- the deadlines


@pytest.mark.parametrize("field", HEADERS)
@pytest.mark.parametrize(
    ("value", "seconds"), [("30s", 30), ("1m", 60), (" 10 m ", 600), ("0.5m", 30), ("500ms", 0.5)]
)
def test_a_client_may_set_a_shorter_deadline(field: str, value: str, seconds: float) -> None:
    expected = dataclasses.replace(LONGEST, **{field: timedelta(seconds=seconds)})
    assert options({HEADERS[field]: value}).deadlines == expected


def test_each_deadline_may_be_the_operators_and_all_may_be_set_at_once() -> None:
    longest = dict(zip(HEADERS.values(), ("30m", "1d", "168h"), strict=True))
    assert options(longest).deadlines == LONGEST
    shorter = dict(zip(HEADERS.values(), ("1s", "2s", "3s"), strict=True))
    assert options(shorter).deadlines == Deadlines(
        start=timedelta(seconds=1), run=timedelta(seconds=2), total=timedelta(seconds=3)
    )


@pytest.mark.parametrize(
    ("header", "value", "longest"),
    [
        ("Start-Deadline", "31m", "30m"),
        ("Run-Deadline", "24.1h", "1d"),
        ("Total-Deadline", "8d", "7d"),
        ("Total-Deadline", "604801s", "7d"),
        ("Run-Deadline", "999999999d", "1d"),
    ],
)
def test_a_deadline_beyond_the_operators_is_refused_with_the_most_there_is(
    header: str, value: str, longest: str
) -> None:
    refused = refusal({header: value})
    assert refused.locator == header
    assert refused.text == f"{header} may be at most {longest} here."


@pytest.mark.parametrize(
    ("longest", "written"),
    [
        (timedelta(days=30), "30d"),
        (timedelta(hours=25), "25h"),
        (timedelta(minutes=90), "90m"),
        (timedelta(seconds=1), "1s"),
        (timedelta(days=40, seconds=1), "3456001s"),
        (timedelta(milliseconds=1500), "1.5s"),
    ],
)
def test_the_most_there_is_can_be_sent_as_it_is_told(longest: timedelta, written: str) -> None:
    deadlines = dataclasses.replace(LONGEST, total=longest)
    assert f"at most {written} here" in refusal({"Total-Deadline": "999d"}, deadlines).text
    assert options({"Total-Deadline": written}, deadlines).deadlines == deadlines


@pytest.mark.parametrize("header", HEADERS.values())
@pytest.mark.parametrize(
    "value",
    ["", "30", "s", "-1s", "0s", "1w", "1 year", "1e3s", "1,5h", "nan", "inf", "\u0663s", "9" * 400 + "d",
     "1s\0", "30s; 1d", "\ud800"],
)  # fmt: skip
def test_a_deadline_without_sense_is_refused_by_the_headers_name(header: str, value: str) -> None:
    refused = refusal({header: value})
    assert refused.locator == header
    assert refused.text == f"{header} must be a number and a unit: 30s, 10m, 24h or 7d."


@given(st.sampled_from(sorted(HEADERS)), st.text())
def test_any_text_is_a_deadline_within_the_operators_or_refused(field: str, text: str) -> None:
    try:
        found = options({HEADERS[field]: text}).deadlines
    except InvalidParameterValue as error:
        assert error.locator == HEADERS[field]  # noqa: PT017 - both ends are right
    else:
        assert found is not None
        assert timedelta() < getattr(found, field) <= getattr(LONGEST, field)
