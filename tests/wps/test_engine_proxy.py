"""A service behind a proxy that lets nobody ask for containers: jobs end at once, and as they did."""

from __future__ import annotations

from pathlib import Path

from filtering_proxy import FilteringProxy
from quick_fixture import Quick, submit

from die_algorithm.models import FaultClass, JobState


def test_jobs_end_without_what_the_proxy_withholds(quick: Quick, tmp_path: Path) -> None:
    with (
        FilteringProxy(tmp_path / "proxy", quick.engine.docker_host) as proxy,
        quick.service(docker_host=proxy.docker_host) as service,
    ):
        engine = service.runtime.engine
        well, ill = (submit(service, f"probe {word}", quick.item) for word in ("noop", "exit 3"))
        assert engine.wait(well, 20).state is JobState.SUCCEEDED
        job = engine.wait(ill, 20)
        assert job.failure is not None
        assert (job.failure.fault_class, job.exit_code) == (FaultClass.USER, 3)
        assert any("/containers/" in line for line in proxy.refused)
    quick.assert_nothing_left()
