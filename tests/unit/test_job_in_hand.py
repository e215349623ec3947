"""Each line of the log names the job that it is about."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from die_algorithm.job_in_hand import JobMark, job_in_hand


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    """A logger whose lines are marked, and what it has written."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(JobMark())
    logger = logging.getLogger("marked")
    logger.addHandler(handler)
    yield logger, stream
    logger.removeHandler(handler)


def test_threads_that_work_at_once_write_the_job_of_each(
    log: tuple[logging.Logger, io.StringIO],
) -> None:
    logger, stream = log
    barrier = Barrier(2)

    def work(job_id: str) -> None:
        with job_in_hand(job_id):
            for number in range(3):
                barrier.wait()
                logger.warning("%s lacks %d", job_id[::-1], number)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(work, ("job-a", "job-b")))
    expected = {f"job={j} {j[::-1]} lacks {n}" for j in ("job-a", "job-b") for n in range(3)}
    assert set(stream.getvalue().splitlines()) == expected


def test_a_line_that_names_its_job_or_is_about_none_stays_as_it_is(
    log: tuple[logging.Logger, io.StringIO],
) -> None:
    logger, stream = log
    with job_in_hand("job-a"):
        logger.warning("Job %s ends", "job-a")
        with job_in_hand("job-b"):
            logger.warning("inner")
        logger.warning("outer")
    logger.warning("100 %")
    assert stream.getvalue().splitlines() == [
        "Job job-a ends",
        "job=job-b inner",
        "job=job-a outer",
        "100 %",
    ]


def test_an_id_of_another_form_spoils_no_line(log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, stream = log
    with job_in_hand("50%s"):
        logger.warning("a line with %d", 1)
        logger.warning("a line of 5 %")
    assert stream.getvalue().splitlines() == ["job=50%s a line with 1", "job=50%s a line of 5 %"]
