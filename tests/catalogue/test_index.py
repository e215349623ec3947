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
_ALL = (
    "X1 X2 X4 X5 X7 X8 X10 X11 X13 X14 X16 X17 X19 X20 X22 X23 X25 X26 X28 X29 X31 X32 X34 X35 X37 X38 X40 X41 X43 X44 X46 X47 "
    "K1 K2 K4 K5 K7 K8 K10 K11 K13 K14 K16 K17 K19 K20 K22 K23 K25 K26 K28 K29 K31 K32 K34 K35 "
    "Z1 Z2 Z4 Z5 Z7 Z8 Z10 Z11 "
    "R1 R2 R4 R5 R7 R8 R10 R11 R13 "
    "I1 I2 I4 I5 I7 I8 I10 I11 I13 I14 I16 I17 I19 I20 I22 I23 I25 I26 I28 I29 "
    "C1 C2 C4 C5 C7 C8 C10 C11 C13 C14 "
    "FP1 FP2 FP3 FP4 FP5 FP6 FP7 FP8 FP9 FP10 FP11 FP12 "
    "T1 T2 T4 T5 T7 T8 T10 T11 T13 T14 "
    "H1 H2 H4 H5 H7 H8 H10 H11 H13 H14 H16 H17 H19 H20 H22 H23 "
    "J1 J2 J4 J5 J7 J8 J10 J11 J13 J14 J16"
)  # fmt: skip
#: All rows of the catalogue.
NUMBERS = _ALL.split()
IMAGES, HOSTILE, TOKENS = (
    "wps/test_images.py",
    "hostile/test_hostile_images.py",
    "wps/test_token_life.py",
)
REGISTRY, OUTAGES, HTTP = (
    "contract/test_registry.py",
    "wps/test_outages.py",
    "catalogue/test_http.py",
)
LATE = "test_h10_h11_what_never_comes_is_given_up_in_time"
#: Those that are no request with one answer, or need what the catalogue's world has not.
ELSEWHERE = {
    "R5": {"catalogue/test_jobs.py": ["test_r5_an_id_is_random_and_none_of_its_neighbours_is_a_job"]},
    "R8": {"wps/test_retention.py": ["test_an_expired_result_is_gone_and_the_status_says_so"]},
    "R11": {"catalogue/test_jobs.py": ["test_r11_a_result_that_is_known_is_not_sent_again"]},
    "I2": {IMAGES: ["test_of_tag_and_digest_the_digest_is_run"]},
    "I22": {
        IMAGES: ["test_an_image_that_is_not_there_is_refused_at_once"],
        REGISTRY: ["test_what_is_not_there_is_not_found", "test_a_private_image_that_gets_no_token_is_not_found"],
    },
    "I23": {IMAGES: ["test_an_image_that_is_not_there_is_refused_at_once"]},
    "I25": {
        IMAGES: ["test_a_registry_that_is_away_refuses_nobody"],
        OUTAGES: ["test_a_registry_that_is_away_is_waited_for"],
        REGISTRY: ["test_refusals_are_told_apart", "test_a_registry_that_does_not_answer_is_given_up_in_time"],
    },
    "I26": {
        REGISTRY: ["test_a_huge_description_is_not_read_to_its_end", "test_a_thousand_layers_are_too_many", "test_size_and_labels_are_known"],
        IMAGES: ["test_what_the_policy_does_not_allow_is_refused_by_its_rule"],
    },
    "I28": {IMAGES: ["test_what_the_policy_does_not_allow_is_refused_by_its_rule"]},
    "I29": {
        HOSTILE: [
            "test_an_odd_image_runs_and_its_program_gets_the_contracts_words_exactly", "test_a_shell_as_entry_point_gets_the_command_as_with_docker_run",
            "test_nothing_is_left_of_any_of_them_and_a_usual_job_runs",
        ]
    },
    "C10": {
        HOSTILE: ["test_a_command_that_cannot_be_executed_is_the_images_and_named"],
        "wps/test_failures.py": ["test_a_command_that_the_image_does_not_have_is_the_images_fault"],
    },
    "C11": {HOSTILE: ["test_a_command_that_cannot_be_executed_is_the_images_and_named"]},
    "C13": {HOSTILE: ["test_a_command_that_cannot_be_executed_is_the_images_and_named", "test_an_odd_image_runs_and_its_program_gets_the_contracts_words_exactly"]},
    "FP1": {"wps/test_file_parameter.py": ["test_a_file_given_in_a_query_reaches_the_image"]},
    "FP4": {"wps/test_file_parameter.py": ["test_the_root_of_the_workspace_is_a_folder_like_any"]},
    "FP12": {OUTAGES: ["test_storagehub_away_at_submission_is_told_and_nothing_is_started"], TOKENS: ["test_while_storagehub_is_away_nobody_is_let_in_nor_called_wrong"]},
    "T4": {"catalogue/test_jobs.py": ["test_t4_a_token_in_a_query_is_not_logged"]},
    "Z11": {"wps/test_file_parameter.py": ["test_free_text_is_kept_exactly"]},
    "T7": {TOKENS: ["test_a_token_that_is_not_valid_now_is_refused", "test_clocks_may_differ_by_a_minute"]},
    "T11": {TOKENS: ["test_a_token_that_dies_while_the_program_runs_leaves_the_result_in_its_folder"]},
    "T14": {TOKENS: ["test_while_storagehub_is_away_nobody_is_let_in_nor_called_wrong"]},
    "H10": {HTTP: [LATE]},
    "H11": {HTTP: [LATE]},
    "H16": {HTTP: ["test_h16_no_link_is_made_of_what_a_client_calls_the_host"]},
    "H17": {HTTP: ["test_h17_pipelined_requests_are_answered_each_alone", "test_h17_what_follows_a_broken_request_is_not_read"]},
    "H19": {HTTP: ["test_h19_an_upgrade_is_passed_over"]},
    "H13": {"wps/test_slow_readers.py": ["test_a_hundred_slow_readers_of_a_gigabyte_hold_no_thread_and_little_memory"]},
    "H22": {"wps/test_http.py": ["test_a_thousand_idle_connections_keep_nobody_from_being_served"]},
    "H23": {"wps/test_worker_faults.py": ["test_a_client_that_leaves_gives_its_place_to_the_next"]},
}  # fmt: skip


def rows_of(number: str) -> list[str]:
    """The names of the rows that play a number."""
    letters, digits = re.fullmatch(r"([A-Z]+)(\d+)", number).groups()  # type: ignore[union-attr]
    names = {
        row.name: re.match(rf"{letters}(\d+)(?:-{letters}(\d+))?(?![0-9])", row.name)
        for row in ROWS
    }
    return [
        name for name, s in names.items() if s and int(s[1]) <= int(digits) <= int(s[2] or s[1])
    ]


@pytest.mark.parametrize("number", NUMBERS)
def test_each_row_is_played_here_or_elsewhere(number: str) -> None:
    assert rows_of(number) or number in ELSEWHERE


@pytest.mark.parametrize("number", ELSEWHERE)
def test_what_is_tested_elsewhere_is_there(number: str) -> None:
    for file, names in ELSEWHERE[number].items():
        text = (TESTS / file).read_text(encoding="utf-8")
        assert [name for name in names if f"def {name}(" not in text] == []


def test_no_number_is_made_up() -> None:
    assert set(ELSEWHERE) <= set(NUMBERS)
