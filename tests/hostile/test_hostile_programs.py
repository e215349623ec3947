"""Programs that do harm: the limits hold, the class is right, nothing is left, other jobs go on.

All but the floods of the log run at once (reference: safety, F52-F55, A18).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hostile_ground import Ground, Images, failure_of
from swarm_fixture import PROBE

from die_algorithm.models import FaultClass, Job, JobState

#: Exit codes that programs end with, of which some mean other things where containers are started.
CODES = (1, *range(125, 144), 255)
TIME = "longer than the time limit"
MEMORY = "memory limit of 64 MiB"
DISK = "more than 32 MiB to the container's own disk"

#: What is done, and class and words of the failure.
FAILING: Mapping[str, tuple[FaultClass, str]] = {
    "fork-bomb": (FaultClass.USER, "exit code 2"),
    "fork-storm": (FaultClass.LIMIT, TIME),
    "zombies": (FaultClass.USER, "exit code 2"),
    "memory-of-a-child": (FaultClass.LIMIT, MEMORY),
    "disk": (FaultClass.LIMIT, DISK),
    "disk-in-volume": (FaultClass.LIMIT, DISK),
    "disk-small": (FaultClass.LIMIT, DISK),
    "ignore-all": (FaultClass.LIMIT, TIME),
    "kill-itself": (FaultClass.USER, "SIGSEGV"),
    "links": (FaultClass.USER, "exit code 1"),
    "nonsense": (FaultClass.USER, "exit code 64"),
}
#: What is done, and what the log says then.
ENDING_WELL: Mapping[str, str] = {
    "memory-survived": "survived",
    "disk-modest": "",
    "daemon": "",
    "kill-parent": "still here",
    "escape": "tried all",
    "devices": "wrote to all",
}
FLOODS = (
    "log-line",
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("log-lines", "log-bytes", "log-colours")
    ),
)


@pytest.fixture(scope="module")
def image(images: Images) -> str:
    return images.publish("program", {"Volumes": {"/data": {}}})


@pytest.fixture(scope="module")
def outcomes(ground: Ground, image: str) -> Mapping[str, Job]:
    """How jobs of all these programs have ended, and usual ones between them."""
    ids = {}
    for number, name in enumerate([*FAILING, *ENDING_WELL]):
        ids[name] = ground.submit(image, f"hostile {name}")
        if number % 3 == 0:
            ids[f"usual {number}"] = ground.submit(PROBE, "probe write a.txt a")
    return {name: ground.end(job_id) for name, job_id in ids.items()}


@pytest.mark.parametrize("name", FAILING)
def test_harm_ends_in_the_right_class_with_a_sentence(
    outcomes: Mapping[str, Job], name: str
) -> None:
    fault_class, words = FAILING[name]
    assert words in failure_of(outcomes[name], fault_class).text


@pytest.mark.parametrize("name", ENDING_WELL)
def test_what_does_no_harm_ends_well(outcomes: Mapping[str, Job], name: str) -> None:
    job = outcomes[name]
    assert job.state is JobState.SUCCEEDED, job.failure
    assert ENDING_WELL[name] in job.log_tail


def test_a_container_can_do_nothing_that_none_may(outcomes: Mapping[str, Job]) -> None:
    assert outcomes["escape"].log_tail == "tried all\n"
    assert datetime.now(UTC).year > 2001


def test_usual_jobs_beside_them_succeed(outcomes: Mapping[str, Job]) -> None:
    usual = [job for name, job in outcomes.items() if name.startswith("usual")]
    assert [job.state for job in usual] == [JobState.SUCCEEDED] * len(usual)
    assert all(job.result and job.result.files == 1 for job in usual)


def test_a_program_that_ignores_every_signal_is_killed_after_the_grace(
    ground: Ground, image: str
) -> None:
    job_id = ground.submit(image, "hostile ignore-all")
    engine = ground.service.runtime.engine
    while engine.job(job_id).state is not JobState.RUNNING:
        engine.wait(job_id, 0.05)
    began = time.monotonic()
    answer = ground.service.get(
        f"/wps/CancelComputationServlet?id={job_id}&gcube-token={ground.token}"
    )
    assert answer.status_code == 200
    assert ground.end(job_id).state is JobState.DISMISSED
    assert time.monotonic() - began < 20


def test_every_exit_code_is_the_programs_own(ground: Ground) -> None:
    ids = {code: ground.submit(PROBE, f"probe exit {code}") for code in CODES}
    for code, job_id in ids.items():
        failure = failure_of(ground.end(job_id), FaultClass.USER)
        assert (failure.exit_code, f"exit code {code}" in failure.text) == (code, True)


# -- logs


def peak_memory() -> int:
    """The most memory that this process, and so the service in it, has had; in bytes."""
    status = Path("/proc/self/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_of_the_log_stays_within_our_memory_and_the_engines_files(
    ground: Ground, image: str, flood: str
) -> None:
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew (proc(5))
    before = peak_memory()
    job_id = ground.submit(image, f"hostile {flood}")
    engine = ground.service.runtime.engine
    largest = 0
    while not engine.job(job_id).state.is_final:
        engine.wait(job_id, 0.3)
        largest = max(largest, ground.log_files())
    job = ground.end(job_id)
    assert TIME in failure_of(job, FaultClass.LIMIT).text
    # Three files of 1 MiB, each beyond it by what was written in one piece, and one being packed.
    assert 2**19 < largest < 8 * 2**20
    assert len(job.log_tail.encode()) <= ground.service.settings.log_tail
    assert len(job.log_tail) > 10_000
    assert "\x1b" not in job.log_tail
    assert peak_memory() - before < 64 * 2**20


def test_the_last_word_of_a_program_that_floods_is_kept_and_clean(
    ground: Ground, image: str
) -> None:
    job = ground.run(image, "hostile log-ends")
    assert failure_of(job, FaultClass.USER).exit_code == 3
    assert job.log_tail.endswith("</wps:ProcessFailed>\n\nthe last word\n")


def test_nothing_is_left_of_any_of_them_and_a_usual_job_runs(
    outcomes: Mapping[str, Job], ground: Ground
) -> None:
    assert outcomes
    ground.assert_unharmed()
