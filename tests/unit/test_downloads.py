"""What a download makes of its conditions (RFC 9110, 13), and how a file is announced."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Response

from die_algorithm.downloads import file_response, single_file_response
from die_algorithm.errors import PreconditionFailed

CONTENT = b"PK" + b"z" * 500
BEFORE = "Sun, 01 Mar 2026 00:00:00 GMT"
CHANGED = "Mon, 02 Mar 2026 00:00:00 GMT"
AFTER = "Tue, 03 Mar 2026 00:00:00 GMT"
BEYOND = "Tue, 01 Jan 99999999999 00:00:00 GMT"
RANGE = "bytes=0-9"

Ask = Callable[..., Response]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "die-x.zip"
    path.write_bytes(CONTENT)
    moment = 1772409600.75  # CHANGED, and a fraction that HTTP does not know
    os.utime(path, (moment, moment))
    return path


@pytest.fixture
def ask(file: Path) -> Iterator[Ask]:
    with ExitStack() as opened:

        def asked(method: str = "GET", **headers: str) -> Response:
            sent = [(name.replace("_", "-"), value) for name, value in headers.items()]
            builder = EnvironBuilder(method=method, headers=sent)
            response = file_response(file, builder.get_environ())
            opened.callback(response.close)
            return response

        yield asked


def body(response: Response) -> bytes:
    return b"".join(response.iter_encoded())


def test_a_file_says_when_it_was_changed_and_has_a_tag(ask: Ask) -> None:
    answer = ask()
    assert (answer.status_code, body(answer)) == (200, CONTENT)
    assert answer.headers["Last-Modified"] == CHANGED
    assert answer.headers["ETag"].startswith('"')


@pytest.mark.parametrize("extra", [{}, {"Range": RANGE}])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "headers",
    [
        {"If_Match": "TAG"},
        {"If_Match": '"x", TAG'},
        {"If_Match": "*"},
        {"If_Unmodified_Since": CHANGED},
        {"If_Unmodified_Since": AFTER},
        # What is no date is passed over, and so is a date beside a tag.
        {"If_Unmodified_Since": BEYOND},
        {"If_Unmodified_Since": "never"},
        {"If_Match": "TAG", "If_Unmodified_Since": BEFORE},
    ],
)
def test_a_condition_that_holds_changes_nothing(
    ask: Ask, headers: dict[str, str], extra: dict[str, str], method: str
) -> None:
    tag = ask().headers["ETag"]
    given = {name: value.replace("TAG", tag) for name, value in headers.items()}
    answer = ask(method, **given, **extra)
    expected = (206, CONTENT[:10]) if extra else (200, CONTENT)
    assert (answer.status_code, body(answer)) == expected


@pytest.mark.parametrize("extra", [{}, {"Range": RANGE}])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "headers",
    [
        {"If_Match": '"x"'},
        {"If_Match": "W/TAG"},
        {"If_Match": '"x"', "If_Unmodified_Since": AFTER},
        {"If_Match": '"x"', "If_None_Match": "TAG"},
        {"If_Unmodified_Since": BEFORE},
        {"If_Unmodified_Since": "Thu, 01 Jan 1970 00:00:00 GMT"},
    ],
)
def test_a_condition_that_does_not_hold_is_told_without_the_file(
    ask: Ask, headers: dict[str, str], extra: dict[str, str], method: str
) -> None:
    tag = ask().headers["ETag"]
    given = {name: value.replace("TAG", tag) for name, value in headers.items()}
    with pytest.raises(PreconditionFailed):
        ask(method, **given, **extra)


@pytest.mark.parametrize("extra", [{}, {"Range": RANGE}])
@pytest.mark.parametrize(
    "headers",
    [
        {"If_None_Match": "TAG"},
        {"If_None_Match": "*"},
        {"If_Modified_Since": CHANGED},
        {"If_Match": "*", "If_None_Match": "TAG"},
    ],
)
def test_what_the_client_has_is_not_sent_again_nor_a_part_of_it(
    ask: Ask, headers: dict[str, str], extra: dict[str, str]
) -> None:
    tag = ask().headers["ETag"]
    given = {name: value.replace("TAG", tag) for name, value in headers.items()}
    assert ask(**given, **extra).status_code == 304


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If_Range": "TAG"}, 206),
        ({"If_Range": '"x"'}, 200),
        ({"If_Range": BEYOND}, 200),
        ({"If_Modified_Since": BEYOND}, 206),
        ({"If_Modified_Since": BEFORE}, 206),
        ({"If_None_Match": '"x"', "If_Modified_Since": AFTER}, 206),
    ],
)
def test_a_range_is_sent_if_its_conditions_hold(
    ask: Ask, headers: dict[str, str], status: int
) -> None:
    tag = ask().headers["ETag"]
    given = {name: value.replace("TAG", tag) for name, value in headers.items()}
    assert ask(**given, Range=RANGE).status_code == status


def test_the_log_is_utf_8_and_says_so_once(tmp_path: Path) -> None:
    path = tmp_path / "die-x.log"
    path.write_text("ü")
    answer = file_response(path, EnvironBuilder().get_environ())
    answer.close()
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"


def test_the_document_that_names_zip_and_log_is_sent_as_xml(tmp_path: Path) -> None:
    path = tmp_path / "die-x.xml"
    path.write_text("<x/>")
    answer = file_response(path, EnvironBuilder().get_environ())
    answer.close()
    assert answer.headers["Content-Type"] == "text/xml; charset=utf-8"


def test_a_single_file_is_told_by_its_own_name_and_sent_by_range(tmp_path: Path) -> None:
    copy = tmp_path / "die-x.zip.0a"
    copy.write_bytes(b"a,b\n")
    environ = EnvironBuilder(headers=[("Range", "bytes=2-")]).get_environ()
    answer = single_file_response(copy, "sub/a ü.CSV", environ)
    assert (answer.status_code, body(answer)) == (206, b"b\n")
    answer.close()
    assert answer.headers["Content-Type"] == "text/csv"
    assert answer.headers["Content-Disposition"] == (
        "attachment; filename=\"a ?.CSV\"; filename*=UTF-8''a%20%C3%BC.CSV"
    )
