"""One question to the registry serves all jobs that were accepted before it was asked."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from jobs_fixture import make_job

from die_algorithm.errors import RegistryUnavailable
from die_algorithm.image_reference import ImageReference
from die_algorithm.models import ImageFacts, Job, JobState
from die_algorithm.steps import digests
from die_algorithm.steps.digests import Digests

IMAGE, OTHER = "docker.io/library/a:latest", "docker.io/library/b:latest"


class Registry:
    """Gives another digest at each question."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.is_away = False

    def __call__(self, image: ImageReference) -> ImageFacts:
        self.asked.append(image.canonical)
        if self.is_away:
            raise RegistryUnavailable("away")
        return ImageFacts(digest=f"sha256:{len(self.asked)}")


def job_of(image: str = IMAGE, seconds: float = -60.0) -> Job:
    """A job that was accepted some seconds from now."""
    accepted_at = datetime.now(UTC) + timedelta(seconds=seconds)
    return make_job(image=image, reached={JobState.ACCEPTED: accepted_at}, state=JobState.ACCEPTED)


@pytest.fixture
def registry() -> Registry:
    return Registry()


def test_jobs_that_have_waited_share_an_answer(registry: Registry) -> None:
    known = Digests(registry)
    assert {known.of(job_of()).digest for _ in range(100)} == {"sha256:1"}


def test_a_job_accepted_after_the_question_asks_again(registry: Registry) -> None:
    known = Digests(registry)
    assert known.of(job_of()).digest == "sha256:1"
    assert known.of(job_of(seconds=60)).digest == "sha256:2"


def test_a_job_accepted_shortly_before_asks_again_since_clocks_differ(registry: Registry) -> None:
    known = Digests(registry)
    assert known.of(job_of(seconds=-1)).digest == "sha256:1"
    assert known.of(job_of(seconds=-1)).digest == "sha256:2"


@pytest.mark.parametrize("hours", [-1, 1])
def test_after_a_clock_was_set_all_is_asked_again(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    known = Digests(registry)
    assert known.of(job_of()).digest == "sha256:1"

    elapsed = time.monotonic
    monkeypatch.setattr(
        digests, "time", SimpleNamespace(monotonic=lambda: elapsed() - 3600 * hours)
    )
    assert known.of(job_of(seconds=-7200)).digest == "sha256:2"
    assert known.of(job_of(seconds=-7200)).digest == "sha256:2"


def test_each_reference_has_its_own_answer(registry: Registry) -> None:
    known = Digests(registry)
    assert [known.of(job_of(image)).digest for image in (IMAGE, OTHER, IMAGE)] == [
        "sha256:1",
        "sha256:2",
        "sha256:1",
    ]


def test_a_failed_question_is_no_answer(registry: Registry) -> None:
    known, job = Digests(registry), job_of()
    registry.is_away = True
    with pytest.raises(RegistryUnavailable):
        known.of(job)
    registry.is_away = False
    assert known.of(job).digest == "sha256:2"


def test_it_forgets_the_longest_unasked(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "_MOST", 2)
    known = Digests(registry)
    for number in range(3):
        known.of(job_of(f"docker.io/library/{number}:latest"))
    known.of(job_of("docker.io/library/2:latest"))
    assert len(registry.asked) == 3
    known.of(job_of("docker.io/library/0:latest"))
    assert len(registry.asked) == 4
