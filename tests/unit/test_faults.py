from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from die_algorithm import errors, faults
from die_algorithm.errors import DieError, JobFault
from die_algorithm.models import Failure, FaultClass, TaskPhase, TaskReport

SECRET = "/var/lib/die/jobs.sqlite c0ffee00-canary"
SINCE = datetime(2026, 3, 4, 5, 6, tzinfo=UTC)


def leaves(kind: type[DieError]) -> list[type[DieError]]:
    below = kind.__subclasses__()
    return [leaf for sub in below for leaf in leaves(sub)] if below else [kind]


#: The errors that a step may meet.
MET = [
    *leaves(errors.StorageHubError),
    *leaves(errors.ImageError),
    *leaves(errors.SwarmError),
    *leaves(errors.ArchiveError),
    *leaves(errors.StoreError),
]
SPEAKING = (
    errors.ImageNotFound,
    errors.ImageUnusable,
    errors.FolderTooDeep,
    errors.ArchiveTooLarge,
    errors.ServiceRefused,
)


@pytest.mark.parametrize(
    ("kind", "fault_class"),
    [
        (errors.TokenRejected, FaultClass.TOKEN),
        (errors.ItemUnusable, FaultClass.STORAGE),
        (errors.ArchiveIncomplete, FaultClass.STORAGE),
        (errors.ArchiveTooLarge, FaultClass.LIMIT),
        (errors.NoRoom, FaultClass.SYSTEM),
        (errors.ResultUnwritable, FaultClass.SYSTEM),
        (errors.FolderTooDeep, FaultClass.LIMIT),
        (errors.ImageNotFound, FaultClass.IMAGE),
        (errors.ServiceRefused, FaultClass.SYSTEM),
        (errors.StoreUnavailable, FaultClass.SYSTEM),
        (errors.SwarmError, FaultClass.SYSTEM),
        (DieError, FaultClass.SYSTEM),
    ],
)
def test_an_error_that_does_not_pass_has_its_class(
    kind: type[DieError], fault_class: FaultClass
) -> None:
    assert faults.failure(kind("x")).fault_class is fault_class


@pytest.mark.parametrize("kind", [kind for kind in MET if kind not in SPEAKING])
def test_an_errors_own_words_stay_inside(kind: type[DieError]) -> None:
    text = faults.failure(kind(SECRET)).text
    assert "canary" not in text
    assert "/" not in text
    assert text.endswith(".")


@pytest.mark.parametrize("kind", SPEAKING)
def test_words_that_were_written_for_the_client_reach_her(kind: type[DieError]) -> None:
    assert faults.failure(kind("The image is gone.")).text == "The image is gone."


def test_a_fault_of_the_job_is_taken_as_it_is() -> None:
    failure = faults.failure(JobFault(FaultClass.LIMIT, "Too much."))
    assert failure == Failure(fault_class=FaultClass.LIMIT, text="Too much.")


def test_what_nobody_foresaw_is_ours() -> None:
    assert faults.internal().fault_class is FaultClass.SYSTEM


@pytest.mark.parametrize(
    ("kind", "name", "fault_class"),
    [
        (errors.StorageHubUnavailable, "StorageHub", FaultClass.STORAGE),
        (errors.ItemDoubtful, "StorageHub", FaultClass.STORAGE),
        (errors.DamagedDownload, "StorageHub", FaultClass.STORAGE),
        (errors.RegistryUnavailable, "the image registry", FaultClass.SYSTEM),
        (errors.SwarmUnavailable, "the Docker Swarm", FaultClass.SYSTEM),
        (errors.NotASwarm, "the Docker Swarm", FaultClass.SYSTEM),
        (errors.DiskTrouble, "this service", FaultClass.SYSTEM),
    ],
)
def test_an_outage_is_named_while_it_lasts_and_when_it_lasted_too_long(
    kind: type[DieError], name: str, fault_class: FaultClass
) -> None:
    assert kind in faults.PASSING
    waiting = faults.waiting_for(kind(SECRET))
    assert name in waiting
    assert not waiting.endswith(".")
    given_up = faults.given_up(kind(SECRET), SINCE)
    assert given_up.fault_class is fault_class
    assert name in given_up.text
    assert "2026-03-04 05:06 UTC" in given_up.text
    assert "canary" not in waiting + given_up.text


def test_every_outage_has_a_name() -> None:
    assert set(faults.PASSING) == {
        errors.StorageHubUnavailable,
        errors.ItemDoubtful,
        errors.DamagedDownload,
        errors.LinkUnavailable,
        errors.RegistryUnavailable,
        errors.SwarmUnavailable,
        errors.NotASwarm,
        errors.DiskTrouble,
    }


@pytest.mark.parametrize(
    ("deadline", "words"),
    [
        (timedelta(hours=24), "1 day."),
        (timedelta(days=7), "7 days."),
        (timedelta(minutes=90), "1.5 hours."),
        (timedelta(hours=1), "1 hour."),
        (timedelta(seconds=30), "30 seconds."),
        (timedelta(milliseconds=500), "0.5 seconds."),
    ],
)
def test_a_program_that_ran_too_long_hears_the_limit(deadline: timedelta, words: str) -> None:
    failure = faults.ran_too_long(deadline)
    assert failure.fault_class is FaultClass.LIMIT
    assert words in failure.text


@pytest.mark.parametrize(
    ("message", "explained"), [("no suitable node (insufficient memory)", True), (SECRET, False)]
)
def test_a_container_that_never_started_is_ours(message: str, *, explained: bool) -> None:
    report = TaskReport(
        job_id="j",
        service_id="s",
        phase=TaskPhase.STARTING,
        state="pending",
        desired_state="complete",
        message=message,
        exit_code=None,
        container_id=None,
        node_id=None,
        created_at=datetime.now(UTC),
        told_at=datetime.now(UTC),
    )
    failure = faults.never_started(report.message, timedelta(minutes=30))
    assert failure.fault_class is FaultClass.SYSTEM
    assert "30 minutes" in failure.text
    assert ("no machine of the Swarm" in failure.text) is explained
    assert "canary" not in failure.text


def test_the_tree_in_the_docstring_shows_every_error() -> None:
    def walk(kind: type[DieError]) -> set[type[DieError]]:
        return {kind}.union(*(walk(sub) for sub in kind.__subclasses__()))

    ours = {kind for kind in walk(DieError) if kind.__module__ == errors.__name__}
    for kind in ours:
        assert kind.__name__ in (errors.__doc__ or ""), kind.__name__
        assert kind.__doc__
