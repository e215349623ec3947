"""The Swarm adapter on a real engine."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import docker
import pytest
from jobs_fixture import TOKEN, make_job
from swarm_fixture import PROBE_VARIANT

from die_algorithm.errors import ImageNotFound, ServiceRefused
from die_algorithm.image_reference import ImageReference
from die_algorithm.models import FaultClass, Job, TaskPhase, TaskReport
from die_algorithm.service_spec import service_spec
from die_algorithm.settings import Settings
from die_algorithm.states import failure
from die_algorithm.swarm import Swarm

MEMORY = 32 * 2**20
FINAL = (TaskPhase.COMPLETE, TaskPhase.FAILED, TaskPhase.REJECTED, TaskPhase.LOST)


class Bench:
    """Runs jobs on the engine and removes all of them at the end.

    Args:
        swarm: under test.
        docker_host: the same engine, for looking at what was made.
        repository: of the probe image.
    """

    def __init__(self, swarm: Swarm, docker_host: str, repository: str) -> None:
        self.swarm = swarm
        self.docker = docker.APIClient(docker_host)
        self.image = ImageReference.parse(repository)
        self.digests: dict[ImageReference, str] = {}
        self.names: list[str] = []

    def close(self) -> None:
        for name in self.names:
            self.swarm.remove_service(name)
        self.swarm.close()
        self.docker.close()

    def spec(
        self, *command: str, image: ImageReference | None = None, **settings: Any
    ) -> tuple[Job, dict[str, Any]]:
        image = image or self.image
        if image not in self.digests:
            self.digests[image] = self.swarm.resolve_digest(image)
        job = make_job(command=command)
        settings = {"memory_limit": MEMORY, "stop_grace": "1s"} | settings
        spec = service_spec(
            job,
            Settings(**settings),
            image=image.pinned(self.digests[image]),
            engine=self.swarm.facts(),
        )
        self.names.append(job.service_name)
        return job, spec

    def start(self, *command: str, init: bool = True, **options: Any) -> Job:
        job, spec = self.spec(*command, **options)
        if not init:
            spec["TaskTemplate"]["ContainerSpec"].pop("Init", None)
        self.swarm.create_service(spec)
        return job

    def report(
        self, job: Job, wanted: Callable[[TaskReport], bool], timeout: float = 60
    ) -> TaskReport:
        """Watch a job until its report is as wanted."""
        deadline = time.monotonic() + timeout
        report = None
        while time.monotonic() < deadline:
            reports = {each.job_id: each for each in self.swarm.task_reports()}
            report = reports.get(job.id)
            if report and wanted(report):
                return report
            time.sleep(0.05)
        raise AssertionError(f"not as wanted in time: {report}")

    def end(self, job: Job) -> TaskReport:
        return self.report(job, lambda report: report.phase in FINAL)

    def running(self, job: Job) -> TaskReport:
        return self.report(job, lambda report: report.phase is TaskPhase.RUNNING)

    def log(self, job: Job, limit: int = 65536) -> str:
        return self.swarm.log_tail(job.service_name, limit=limit, timeout=20).decode()

    def run(self, *command: str, **options: Any) -> str:
        """Run a command that ends well, and give back its output."""
        job = self.start(*command, **options)
        assert self.end(job).phase is TaskPhase.COMPLETE
        return self.log(job)

    def fault(self, *command: str, **options: Any) -> tuple[FaultClass, str, int | None]:
        """Run a command that fails, and give back how that is sorted."""
        job = self.start(*command, **options)
        report = self.end(job)
        container = report.container_id
        result = failure(
            report,
            command=command[0],
            memory_limit=MEMORY,
            oom_killed=self.swarm.oom_killed(container) if container else None,
            log_tail=self.log(job),
            cut_off=self.swarm.cut_off(report) if container else None,
        )
        assert result is not None
        return result.fault_class, result.text, result.exit_code


@pytest.fixture(scope="module")
def bench(docker_host: str, probe_image: str) -> Iterator[Bench]:
    bench = Bench(Swarm(docker_host), docker_host, probe_image)
    yield bench
    bench.close()


def test_the_engine_tells_what_it_is(bench: Bench) -> None:
    facts = bench.swarm.facts()
    info = bench.docker.info()
    assert facts.is_manager
    assert facts.version == info["ServerVersion"]
    assert (facts.cpus, facts.memory) == (info["NCPU"], info["MemTotal"])
    assert facts.nodes == 1
    assert tuple(map(int, facts.api_version.split("."))) >= (1, 41)


# -- images


def test_a_tag_is_resolved_to_the_digest_that_the_registry_gave(bench: Bench) -> None:
    answer = bench.docker.inspect_distribution(bench.image.canonical)
    assert bench.swarm.resolve_digest(bench.image) == answer["Descriptor"]["digest"]


def test_a_digest_wins_over_a_tag(bench: Bench) -> None:
    digest = bench.swarm.resolve_digest(bench.image)
    both = ImageReference.parse(f"{bench.image.repository}:no-such-tag@{digest}")
    assert bench.swarm.resolve_digest(both) == digest


@pytest.mark.parametrize("suffix", [":no-such-tag", "-missing", "@sha256:" + "0" * 64])
def test_what_the_registry_does_not_have_is_not_found(bench: Bench, suffix: str) -> None:
    image = ImageReference.parse(bench.image.repository + suffix)
    with pytest.raises(ImageNotFound, match="not public") as caught:
        bench.swarm.resolve_digest(image)
    assert image.familiar in str(caught.value)


def test_an_image_that_only_the_engine_has_does_not_count(bench: Bench) -> None:
    name = "die-tests/only-here"
    bench.docker.pull(bench.image.canonical)
    bench.docker.tag(bench.image.canonical, name, force=True)
    try:
        with pytest.raises(ImageNotFound):
            bench.swarm.resolve_digest(ImageReference.parse(name))
    finally:
        bench.docker.remove_image(name)


# -- what a container gets


def test_the_args_arrive_exactly(bench: Bench) -> None:
    output = bench.run("probe", "args", "-x", "{{.Service.Name}}", "a*b")
    assert output.splitlines() == [
        "args", "-x", "{{.Service.Name}}", "a*b", TOKEN, "item-0001", "folder-0001"
    ]  # fmt: skip


def test_the_images_entry_point_stays_and_its_health_check_is_off(bench: Bench) -> None:
    image = ImageReference.parse(PROBE_VARIANT)
    output = bench.run("sh", "-c", "sleep 3; probe args after", image=image)
    assert output.splitlines()[0].startswith("entrypoint: first sh -c")
    assert output.splitlines()[-1] == "after"


def test_the_environment_is_the_images_and_the_address_of_storagehub(bench: Bench) -> None:
    output = bench.run("probe", "environment", container_storagehub_url="http://hub/workspace")
    names = {line.partition("=")[0] for line in output.splitlines()}
    assert "STORAGEHUB_URL=http://hub/workspace" in output.splitlines()
    assert names <= {"STORAGEHUB_URL", "HOSTNAME", "PATH", "HOME", "PWD", "SHLVL", "OLDPWD"}


def test_extra_hosts_are_known_by_name(bench: Bench) -> None:
    output = bench.run("probe", "resolve", extra_hosts=("hub.example.org:10.1.2.3",))
    assert ["10.1.2.3", "hub.example.org"] in [line.split() for line in output.splitlines()]


def test_a_container_has_no_capabilities_and_few_files(bench: Bench) -> None:
    output = bench.run("sh", "-c", "cat /proc/self/status; ulimit -n; ulimit -c")
    status = dict(line.split(":", 1) for line in output.splitlines() if ":" in line)
    for name in ("CapBnd", "CapEff", "CapPrm", "CapInh"):
        assert int(status[name], 16) == 0
    assert status["Seccomp"].strip() == "2"
    assert output.splitlines()[-2:] == ["4096", "0"]


def test_no_new_privileges_is_in_force_where_the_engine_knows_it(bench: Bench) -> None:
    if tuple(map(int, bench.swarm.facts().api_version.split("."))) < (1, 44):
        pytest.skip("this engine's services cannot ask for no-new-privileges")
    assert "NoNewPrivs:\t1" in bench.run("cat", "/proc/self/status", "/dev/null")


def test_the_limits_are_in_force(bench: Bench) -> None:
    job = bench.start("probe", "forever", cpu_limit=0.5, pids_limit=77, log_limit="1MiB")
    container = bench.docker.inspect_container(bench.running(job).container_id)
    host = container["HostConfig"]
    assert host["Memory"] == MEMORY
    assert host["NanoCpus"] == 500_000_000
    assert host["PidsLimit"] == 77
    assert host["LogConfig"] == {
        "Type": "local",
        "Config": {"max-size": "1048576", "max-file": "3"},
    }
    assert host["Init"] is (True if bench.swarm.facts().has_init else None)
    assert container["Config"]["Tty"] is False
    service = bench.docker.inspect_service(job.service_name)
    assert service["Spec"]["TaskTemplate"]["ContainerSpec"]["StopGracePeriod"] == 10**9
    bench.swarm.remove_service(job.service_name)


# -- create and remove


def test_creating_twice_adopts_the_service_that_exists(bench: Bench) -> None:
    _, spec = bench.spec("probe", "forever")
    first = bench.swarm.create_service(spec)
    assert bench.swarm.create_service(spec) == first


def test_many_threads_that_create_one_service_get_the_same(bench: Bench) -> None:
    _, spec = bench.spec("probe", "noop")
    ids: list[str] = []
    threads = [
        threading.Thread(target=lambda: ids.append(bench.swarm.create_service(spec)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 8
    assert len(set(ids)) == 1


def test_a_service_of_another_job_is_not_adopted(bench: Bench) -> None:
    _, spec = bench.spec("probe", "forever")
    bench.swarm.create_service(spec)
    foreign = spec | {"Labels": {"die.job": "another"}}
    with pytest.raises(ServiceRefused, match="Another service"):
        bench.swarm.create_service(foreign)


def test_a_service_that_the_engine_cannot_have_is_refused(bench: Bench) -> None:
    _, spec = bench.spec("probe", "noop", network="no-such-network")
    with pytest.raises(ServiceRefused) as caught:
        bench.swarm.create_service(spec)
    assert "no-such" not in str(caught.value)


def test_removing_twice_is_done(bench: Bench) -> None:
    job = bench.start("probe", "forever")
    container = bench.running(job).container_id
    assert job.id in bench.swarm.job_services()
    bench.swarm.remove_service(job.service_name)
    bench.swarm.remove_service(job.service_name)
    assert job.id not in bench.swarm.job_services()
    deadline = time.monotonic() + 30
    while bench.docker.containers(all=True, filters={"id": container}):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_services_of_others_are_not_ours(bench: Bench) -> None:
    _, spec = bench.spec("probe", "forever")
    container = spec["TaskTemplate"]["ContainerSpec"]
    spec = spec | {"Name": f"other-{spec['Name'][4:]}", "Labels": {"other": "yes"}}
    container["Labels"] = {"die.job": "seen-only-if-containers-are-matched"}
    bench.names.append(spec["Name"])
    service_id = bench.swarm.create_service(spec)
    assert service_id not in bench.swarm.job_services().values()
    assert service_id not in [report.service_id for report in bench.swarm.task_reports()]


# -- how a task ends


def test_a_task_that_ends_well_is_complete(bench: Bench) -> None:
    report = bench.end(bench.start("probe", "noop"))
    assert (report.phase, report.state, report.exit_code) == (TaskPhase.COMPLETE, "complete", 0)
    assert report.container_id
    assert report.node_id


@pytest.mark.parametrize("code", [1, 3, 127, 137, 139, 255])
def test_an_exit_code_is_the_users(bench: Bench, code: int) -> None:
    assert bench.fault("probe", "exit", str(code))[::2] == (FaultClass.USER, code)


def test_running_out_of_memory_is_known(bench: Bench) -> None:
    fault_class, text, code = bench.fault("probe", "oom", "512")
    assert (fault_class, code) == (FaultClass.LIMIT, 137)
    assert "32 MiB" in text


@pytest.mark.parametrize("init", [True, False])
@pytest.mark.parametrize("command", ["no-such-command", "/bin/no-such-command"])
def test_a_command_that_the_image_lacks_is_the_images(
    bench: Bench, command: str, init: bool
) -> None:
    fault_class, text, code = bench.fault(command, init=init)
    assert (fault_class, code) == (FaultClass.IMAGE, 127)
    assert f"no command '{command}'" in text


@pytest.mark.parametrize("init", [True, False])
@pytest.mark.parametrize("command", ["/etc/passwd", "/etc"])
def test_what_cannot_be_executed_is_the_images(bench: Bench, command: str, init: bool) -> None:
    fault_class, text, code = bench.fault(command, init=init)
    assert (fault_class, code) == (FaultClass.IMAGE, 126)
    assert f"'{command}' may not be executed" in text


def test_an_image_that_is_gone_since_it_was_resolved_is_the_images(bench: Bench) -> None:
    image = ImageReference.parse(f"{bench.image.repository}-gone")
    bench.digests[image] = "sha256:" + "1" * 64
    assert bench.fault("probe", "noop", image=image)[0] is FaultClass.IMAGE


def test_a_task_that_no_node_can_take_waits_and_says_why(bench: Bench) -> None:
    job = bench.start("probe", "noop", placement=("node.labels.nowhere==true",))
    report = bench.report(job, lambda report: "no suitable node" in report.message)
    assert (report.phase, report.state) == (TaskPhase.STARTING, "pending")
    assert (report.exit_code, report.container_id, report.node_id) == (None, None, None)


def test_a_task_of_a_removed_service_is_lost_until_it_is_gone(bench: Bench) -> None:
    job = bench.start("probe", "ignore-term")
    bench.running(job)
    bench.swarm.remove_service(job.service_name)
    assert bench.end(job).phase is TaskPhase.LOST


def test_nobody_knows_how_the_container_of_another_node_ended(bench: Bench) -> None:
    assert bench.swarm.oom_killed("0" * 64) is None


def test_what_the_managers_know_of_a_node_tells_that_it_was_not_cut_off(bench: Bench) -> None:
    report = bench.end(bench.start("probe", "exit", "255"))
    assert bench.swarm.cut_off(dataclasses.replace(report, container_id="0" * 64)) is False


def test_a_container_that_ended_by_itself_was_not_cut_off(bench: Bench) -> None:
    report = bench.end(bench.start("probe", "exit", "137"))
    assert bench.swarm.cut_off(report) is False


# -- logs


def test_a_log_has_both_streams(bench: Bench) -> None:
    assert sorted(bench.run("sh", "-c", "echo out; echo err >&2").split()) == ["err", "out"]


@pytest.mark.parametrize("limit", [1, 100, 4096, 65536])
def test_a_log_is_cut_to_its_last_bytes(bench: Bench, limit: int) -> None:
    job = bench.start("probe", "log", "3000")
    bench.end(job)
    whole = "".join(
        f"{number} the quick brown fox jumps over the lazy dog\n" for number in range(1, 3001)
    )
    assert bench.log(job, limit) == whole[-limit:]


def test_a_log_of_very_short_lines_is_fetched_up_to_the_limit(bench: Bench) -> None:
    output = bench.run("sh", "-c", "seq 20000")
    assert output.endswith("19999\n20000\n")
    assert len(output) == 65536


def test_a_flood_is_cut_to_its_last_bytes_in_time(bench: Bench) -> None:
    flood = (
        "yes 0123456789 | head -c 40000000; head -c 40000000 /dev/zero | tr '\\0' x; echo; echo end"
    )
    output = bench.run("sh", "-c", flood)
    assert len(output) == 65536
    assert output.rstrip().endswith("end")
    assert output.startswith("x")


def test_no_log_is_no_error(bench: Bench) -> None:
    assert bench.swarm.log_tail("no-such-service", limit=100, timeout=5) == b""
    job = bench.start("probe", "noop", placement=("node.labels.nowhere==true",))
    assert bench.log(job) == ""
