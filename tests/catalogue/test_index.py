"""Where each row of the catalogue is tested."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from catalogue import test_http, test_inputs, test_jobs, test_kvp, test_xml

TESTS = Path(__file__).resolve().parents[1]
ROWS = [
    *test_xml.ROWS, *test_kvp.ROWS, *test_inputs.IMAGES, *test_inputs.COMMANDS, *test_inputs.FILES, *test_inputs.SIZES,
    *test_jobs.ROWS, *test_jobs.TOKENS, *test_jobs.JSON, *test_http.ROWS,
]  # fmt: skip
NUMBERS = [
    "X1",
    "X2",
    "X4",
    "X5",
    "X7",
    "X8",
    "X10",
    "X13",
    "X14",
    "X16",
    "X17",
    "X19",
    "X20",
    "X22",
    "X23",
    "X25",
    "X26",
    "X28",
    "X29",
    "X31",
    "X32",
    "X34",
    "X35",
    "X37",
    "X38",
    "X40",
    "X41",
    "X43",
    "X44",
    "X46",
    "X47",
    "K1",
    "K2",
    "K4",
    "K5",
    "K7",
    "K8",
    "K10",
    "K11",
    "K13",
    "K14",
    "K16",
    "K17",
    "K19",
    "K20",
    "K22",
    "K23",
    "K25",
    "K26",
    "K28",
    "K29",
    "K31",
    "K32",
    "K34",
    "K35",
    "Z1",
    "Z2",
    "Z4",
    "Z5",
    "Z7",
    "Z8",
    "Z10",
    "R1",
    "R2",
    "R4",
    "R7",
    "R10",
    "R11",
    "R13",
    "I1",
    "I4",
    "I5",
    "I7",
    "I8",
    "I10",
    "I11",
    "I13",
    "I14",
    "I16",
    "I17",
    "I19",
    "I20",
    "C1",
    "C2",
    "C4",
    "C5",
    "C7",
    "C8",
    "C14",
    "FP2",
    "FP3",
    "FP5",
    "FP6",
    "FP7",
    "FP8",
    "FP9",
    "FP10",
    "FP11",
    "T1",
    "T2",
    "T4",
    "T5",
    "T7",
    "T8",
    "T10",
    "T13",
    "H1",
    "H2",
    "H4",
    "H5",
    "H7",
    "H8",
    "H14",
    "H20",
    "J1",
    "J2",
    "J4",
    "J5",
    "J7",
    "J8",
    "J10",
    "J11",
    "J13",
    "J14",
    "J16",
]
#: Those that are no request with one answer, or need what the catalogue's world has not.
ELSEWHERE = {
    "R5": ("catalogue/test_jobs.py", "test_r5_"),
    "R8": ("wps/test_retention.py", "test_an_expired_result_is_gone_and_the_status_says_so"),
    "I22": ("wps/test_failures.py", "test_an_image_that_does_not_exist_is_the_images_fault"),
    "I25": ("wps/test_outages.py", "test_a_registry_that_is_away_is_waited_for"),
    "C10": (
        "wps/test_failures.py",
        "test_a_command_that_the_image_does_not_have_is_the_images_fault",
    ),
    "FP1": ("wps/test_file_parameter.py", "test_a_file_given_in_a_query_reaches_the_image"),
    "FP12": (
        "wps/test_outages.py",
        "test_storagehub_away_at_submission_is_told_and_nothing_is_started",
    ),
    "T14": (
        "wps/test_outages.py",
        "test_storagehub_away_at_submission_is_told_and_nothing_is_started",
    ),
    "H10": ("catalogue/test_http.py", "test_h10_h11_"),
    "H16": ("catalogue/test_http.py", "test_h16_"),
    "H17": ("catalogue/test_http.py", "test_h17_"),
    "H19": ("catalogue/test_http.py", "test_h19_"),
    "H22": ("wps/test_http.py", "test_a_thousand_idle_connections_keep_nobody_from_being_served"),
    "H23": ("wps/test_worker_faults.py", "test_a_client_that_leaves_gives_its_place_to_the_next"),
}


@pytest.mark.parametrize("number", NUMBERS)
def test_each_row_is_played(number: str) -> None:
    letters, digits = re.fullmatch(r"([A-Z]+)(\d+)", number).groups()  # type: ignore[union-attr]
    names = [row.name for row in ROWS]
    spans = [re.match(rf"{letters}(\d+)(?:-{letters}(\d+))?(?![0-9])", name) for name in names]
    assert [s for s in spans if s and int(s[1]) <= int(digits) <= int(s[2] or s[1])]


@pytest.mark.parametrize("number", ELSEWHERE)
def test_what_is_tested_elsewhere_is_there(number: str) -> None:
    file, word = ELSEWHERE[number]
    assert word in (TESTS / file).read_text(encoding="utf-8")
