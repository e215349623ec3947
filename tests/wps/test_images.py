"""Which image a job runs: found and pinned when it is accepted, allowed by the operator's policy."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from lxml import etree
from service_fixture import Service, elements, running_service, text_of
from storagehub_fixture import ALICE
from swarm_fixture import PROBE, PROBE_VARIANT, registry_outage

from die_algorithm.errors import SettingsError
from die_algorithm.local_swarm import LocalSwarm
from die_algorithm.models import JobState, UserToken
from die_algorithm.settings import Settings

Refusal = tuple[int, str | None, str | None, str]


@contextlib.contextmanager
def service_with(settings: Settings, folder: Path, policy: str = "") -> Iterator[Service]:
    """A service with a policy file of its own."""
    file = folder / "policy.toml"
    file.write_text(policy)
    changes = {"data_dir": folder / "service", "policy_file": file}
    with running_service(settings.model_copy(update=changes)) as service:
        yield service


@pytest.fixture
def own(settings: Settings, tmp_path: Path) -> Iterator[Service]:
    with service_with(settings, tmp_path) as service:
        yield service


def refusal(service: Service, image: str, item: str) -> Refusal:
    """Status, code, locator and sentence of the answer to an Execute that is refused."""
    url = service.execute_url(
        ALICE.token, asynchronous=True, Image=image, CommandName="probe noop", FileParam=item
    )
    answer = service.get(url)
    document = etree.fromstring(answer.content)
    (exception,) = elements(document, "//ows:Exception")
    text = text_of(document, "//ows:Exception")
    return answer.status_code, exception.get("exceptionCode"), exception.get("locator"), text


@pytest.mark.parametrize("suffix", ["-missing", ":missing", "@sha256:" + "0" * 64])
def test_an_image_that_is_not_there_is_refused_at_once(
    own: Service, item: str, suffix: str
) -> None:
    status, code, locator, text = refusal(own, PROBE + suffix, item)
    assert (status, code, locator) == (400, "InvalidParameterValue", "Image")
    assert "does not exist on Docker Hub" in text


def test_a_job_runs_what_its_tag_meant_when_it_was_accepted(
    settings: Settings, swarm: LocalSwarm, tmp_path: Path, item: str
) -> None:
    moving = "die-tests/moving"
    before = swarm.push(PROBE, moving)
    one_at_once = settings.model_copy(update={"max_running": 1})
    with service_with(one_at_once, tmp_path) as own:
        first = own.submit(ALICE.token, PROBE, "probe forever", item)
        job_id = own.submit(ALICE.token, moving, "probe args pinned", item)
        assert swarm.push(PROBE_VARIANT, moving) != before
        assert not own.runtime.engine.job(job_id).is_admitted
        own.runtime.engine.cancel(first, UserToken(ALICE.token))
        job = own.runtime.engine.wait(job_id, 60)
    assert job.digest == before
    assert job.log_tail.startswith("args\npinned")


def test_an_image_that_asks_for_the_token_as_a_file_gets_it_whoever_its_user_is(
    own: Service, item: str
) -> None:
    # It prints the file's length only: what it prints of the token would be masked.
    job_id = own.submit(ALICE.token, PROBE_VARIANT, "wc -c /run/secrets/gcube-token", item)
    job = own.runtime.engine.wait(job_id, 60)
    assert job.token_file
    assert f"{len(ALICE.token)} /run/secrets/gcube-token" in job.log_tail


def test_of_tag_and_digest_the_digest_is_run(own: Service, swarm: LocalSwarm, item: str) -> None:
    digest = swarm.push(PROBE, "die-tests/both")
    swarm.push(PROBE_VARIANT, "die-tests/both:tag")
    job_id = own.submit(ALICE.token, f"die-tests/both:tag@{digest}", "probe args by-digest", item)
    job = own.runtime.engine.wait(job_id, 60)
    assert (job.state, job.digest) == (JobState.SUCCEEDED, digest)
    assert job.log_tail.startswith("args\nby-digest")


def test_a_registry_that_is_away_refuses_nobody(own: Service, swarm: LocalSwarm, item: str) -> None:
    with registry_outage(swarm):
        job_id = own.submit(ALICE.token, PROBE, "probe noop", item)
        assert own.runtime.engine.job(job_id).digest is None
    job = own.runtime.engine.wait(job_id, 60)
    assert job.state is JobState.SUCCEEDED
    assert job.digest is not None


@pytest.mark.parametrize(
    ("policy", "rule"),
    [
        ("allow = []", "'allow', which is empty"),
        ('allow = ["d4science/*"]', "it is not in 'allow'"),
        ('deny = ["die-tests/*"]', "'deny' has docker.io/die-tests/*"),
        ('forbidden_tags = ["latest"]', "the tag latest"),
        ('digest_required = ["**"]', "name@sha256:"),
        ('max_size = "1KiB"', "'max_size' is 1.0KiB"),
        (f'[images.pinned]\n"{PROBE}" = ["sha256:{"0" * 64}"]', "'pinned' has other digests"),
        (
            f'[[images.groups]]\nname = "test"\nusers = ["{ALICE.name}"]\ndeny = ["**"]',
            "group test",
        ),
    ],
)
def test_what_the_policy_does_not_allow_is_refused_by_its_rule(
    settings: Settings, tmp_path: Path, item: str, policy: str, rule: str
) -> None:
    with service_with(settings, tmp_path, f"[images]\ncontact = 'Olga'\n{policy}") as own:
        status, code, locator, text = refusal(own, PROBE, item)
    assert (status, code, locator) == (403, "NoApplicableCode", None)
    assert rule in text
    assert "ask Olga" in text


def test_an_image_for_another_platform_is_refused_at_once(
    settings: Settings, tmp_path: Path, item: str
) -> None:
    with service_with(settings, tmp_path, '[images]\nplatform = "linux/s390x"') as own:
        status, code, locator, text = refusal(own, PROBE, item)
    assert (status, code, locator) == (400, "InvalidParameterValue", "Image")
    assert "no variant for linux/s390x" in text


def test_a_job_that_waited_is_held_to_the_rules_that_hold_when_it_starts(
    settings: Settings, swarm: LocalSwarm, tmp_path: Path, item: str
) -> None:
    with service_with(settings, tmp_path) as own, registry_outage(swarm):
        job_id = own.submit(ALICE.token, PROBE, "probe noop", item)
        own.stop()
    with service_with(settings, tmp_path, "[images]\nallow = []") as own:
        job = own.runtime.engine.wait(job_id, 60)
    assert job.state is JobState.FAILED
    assert job.failure is not None
    assert job.failure.fault_class.value == "IMAGE"
    assert "may not be run here" in job.failure.text
    assert job.service_id is None


@pytest.mark.parametrize(
    "policy", [f'[images.pinned]\n"{PROBE}" = ["sha256:{"0" * 64}"]', '[images]\nmax_size = "1KiB"']
)
def test_what_was_found_when_it_was_accepted_is_held_to_the_rules_that_hold_when_it_starts(
    settings: Settings, tmp_path: Path, item: str, policy: str
) -> None:
    one_at_once = settings.model_copy(update={"max_running": 1})
    with service_with(one_at_once, tmp_path) as own:
        first = own.submit(ALICE.token, PROBE, "probe forever", item)
        job_id = own.submit(ALICE.token, PROBE, "probe noop", item)
        assert own.runtime.engine.job(job_id).digest is not None
    with service_with(one_at_once, tmp_path, policy) as own:
        own.runtime.engine.cancel(first, UserToken(ALICE.token))
        job = own.runtime.engine.wait(job_id, 60)
    assert job.failure is not None
    assert "may not be run here" in job.failure.text
    assert job.service_id is None


def test_another_registry_that_the_policy_names_is_used(
    settings: Settings, swarm: LocalSwarm, tmp_path: Path, item: str
) -> None:
    registry = swarm.registry_address  # as the engine sees it; the service itself cannot ask there
    with service_with(settings, tmp_path, f'[images]\nregistries = ["{registry}"]') as own:
        job_id = own.submit(ALICE.token, f"{registry}/{PROBE}", "probe noop", item)
        job = own.runtime.engine.wait(job_id, 60)
        assert refusal(own, PROBE, item)[0] == 403
    assert job.state is JobState.SUCCEEDED
    assert job.request.image == f"{registry}/{PROBE}:latest"


def test_a_policy_that_is_wrong_keeps_the_service_from_starting(
    settings: Settings, tmp_path: Path
) -> None:
    with (
        pytest.raises(SettingsError, match=r"policy.toml is wrong. images.alow"),
        service_with(settings, tmp_path, "[images]\nalow = []"),
    ):
        pass
