"""The Swarm adapter on a real engine, and on the stand-in, which must behave alike.

What only a real container can show is in ``test_swarm_containers``.
"""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from jobs_fixture import TOKEN, make_job
from stand_in_engine import StandInEngine
from storagehub_fixture import ALICE, HubClient, hub_client, local_storagehub
from swarm_bench import AnswerLoser, Bench
from swarm_fixture import PROBE, kill_engine, let_end

from die_algorithm.errors import ImageNotFound, ServiceGone, ServiceRefused, SwarmUnavailable
from die_algorithm.image_reference import ImageReference
from die_algorithm.local_swarm import LocalSwarm
from die_algorithm.models import FaultClass, Folder, Job, JobSecret, TaskPhase, UserToken
from die_algorithm.service_spec import INSTANCE_LABEL, JOB_LABEL, PROBE_LABEL, secret_spec
from die_algorithm.settings import Settings
from die_algorithm.states import is_unfetched
from die_algorithm.swarm import Swarm

pytestmark = pytest.mark.xdist_group("swarm")


class EngineBench(Bench):
    """A bench on either engine.

    Args:
        docker_host: the engine.
        restart: lets it crash and come back.
        let_end: lets the program of a job, given by its id, wait no longer.
        host_address: where its containers reach this machine.
    """

    def __init__(
        self,
        docker_host: str,
        restart: Callable[[], None],
        let_end: Callable[[str], None],
        host_address: str,
    ) -> None:
        super().__init__(docker_host, PROBE)
        self.restart = restart
        self.let_end = let_end
        self.host_address = host_address


@pytest.fixture(scope="module", params=["real", "stand-in"])
def bench(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EngineBench]:
    if request.param == "stand-in":
        with StandInEngine(tmp_path_factory.mktemp("engine") / "s") as engine:
            bench = EngineBench(engine.docker_host, engine.restart, engine.let_end, "127.0.0.1")
            yield bench
            bench.close()
        return
    swarm: LocalSwarm = request.getfixturevalue("swarm")

    def restart() -> None:
        kill_engine(swarm)
        swarm.start()

    let = functools.partial(let_end, swarm)
    bench = EngineBench(swarm.docker_host, restart, let, swarm.host_address)
    yield bench
    bench.close()


@pytest.fixture
def workspace(bench: EngineBench, tmp_path: Path) -> Iterator[HubClient]:
    """Alice's workspace on a StorageHub that the engine's containers reach."""
    listen = (f"{bench.host_address}:0",)
    with local_storagehub(tmp_path / "hub", listen=listen) as hub, hub_client(hub, ALICE) as alice:
        yield alice


def in_threads(count: int, action: Callable[[], None]) -> int:
    """Do the same many times at once; return how often it raised nothing."""
    barrier = threading.Barrier(count)

    def once(_: int) -> None:
        barrier.wait()
        action()

    with ThreadPoolExecutor(count) as pool:
        return len(list(pool.map(once, range(count))))


def test_the_engine_tells_what_it_is(bench: Bench) -> None:
    facts = bench.swarm.facts()
    assert facts.is_manager
    assert facts.nodes == 1
    assert facts.has_init
    assert facts.limits_memory
    assert facts.limits_swap
    assert facts.limits_pids
    assert facts.limits_cpus
    assert tuple(map(int, facts.api_version.split("."))) >= (1, 41)
    (node,) = bench.swarm.nodes()
    assert node.is_ready
    assert node.attributes["node.role"] == "manager"
    assert node.cpus == facts.cpus
    assert node.engine_version == facts.version
    assert ipaddress.ip_address(node.manager_address)


def test_the_engine_tells_how_it_protects_and_what_it_consists_of(bench: Bench) -> None:
    facts = bench.swarm.facts()
    assert "seccomp" in facts.security
    assert all("=" not in name for name in facts.security)
    for component in ("Engine", "containerd", "runc"):
        assert re.match(r"v?\d+\.\d+", facts.components[component])


def test_services_are_found_by_two_labels_and_their_task_by_their_id(bench: Bench) -> None:
    job, service_id = bench.create("probe", "forever")
    swarm = bench.swarm
    owner = Settings().instance_name
    assert service_id in swarm.services_labelled(JOB_LABEL, INSTANCE_LABEL, owner)
    assert swarm.services_labelled(JOB_LABEL, INSTANCE_LABEL, "another") == []
    assert swarm.services_labelled(PROBE_LABEL, INSTANCE_LABEL, owner) == []
    assert swarm.task_report(service_id) is None
    swarm.start_service(service_id)
    bench.running(job)
    report = swarm.task_report(service_id)
    assert report is not None
    assert report.phase is TaskPhase.RUNNING
    swarm.remove_service(service_id)


def test_only_networks_that_exist_can_be_joined(bench: Bench) -> None:
    assert bench.swarm.can_join("bridge")
    assert not bench.swarm.can_join("no-such-network")


# -- images


def test_a_tag_is_resolved_to_a_digest_always_the_same(bench: Bench) -> None:
    digest = bench.swarm.resolve_digest(bench.image)
    assert re.fullmatch("sha256:[0-9a-f]{64}", digest)
    assert bench.swarm.resolve_digest(bench.image) == digest


def test_a_digest_wins_over_a_tag(bench: Bench) -> None:
    digest = bench.swarm.resolve_digest(bench.image)
    both = ImageReference.parse(f"{bench.image.repository}:no-such-tag@{digest}")
    assert bench.swarm.resolve_digest(both) == digest


@pytest.mark.parametrize("suffix", [":missing", "-missing", "@sha256:" + "0" * 64])
def test_what_the_registry_does_not_have_is_not_found(bench: Bench, suffix: str) -> None:
    image = ImageReference.parse(bench.image.repository + suffix)
    with pytest.raises(ImageNotFound, match="not public") as caught:
        bench.swarm.resolve_digest(image)
    assert image.familiar in str(caught.value)


# -- what a container gets


def test_the_args_arrive_exactly(bench: Bench) -> None:
    output = bench.run("probe", "args", "-x", "{{.Service.Name}}", "a*b")
    assert output.splitlines() == [
        "args", "-x", "{{.Service.Name}}", "a*b", TOKEN, "item-0001", "folder-0001"
    ]  # fmt: skip


# -- what a container writes


def test_what_a_container_has_written_to_its_own_disk_is_told(bench: Bench) -> None:
    full, empty = bench.start("probe", "fill", "8"), bench.start("probe", "forever")
    containers = [bench.running(job).container_id or "" for job in (full, empty)]
    bench.wait_until(lambda: bench.swarm.written().get(containers[0], 0) >= 8 * 2**20)
    written = bench.swarm.written()
    assert written[containers[0]] < 9 * 2**20
    assert written[containers[1]] < 2**20
    assert bench.swarm.written_by(containers[0]) == written[containers[0]]
    for job in (full, empty):
        bench.swarm.remove_service(job.service_name)


def test_containers_that_do_not_run_and_those_of_others_write_nothing(bench: Bench) -> None:
    ended = bench.start("probe", "noop")
    container = bench.end(ended).container_id or ""
    assert container not in bench.swarm.written()
    assert bench.swarm.written_by("0" * 64) is None


# -- create and remove


def test_creating_twice_adopts_the_service_that_exists(bench: Bench) -> None:
    _, spec = bench.spec("probe", "forever")
    first = bench.swarm.create_service(spec)
    assert bench.swarm.create_service(spec) == first


def test_many_threads_that_create_one_service_get_the_same(bench: Bench) -> None:
    _, spec = bench.spec("probe", "noop")
    ids: list[str] = []
    assert in_threads(8, lambda: ids.append(bench.swarm.create_service(spec))) == 8
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
    assert container
    assert bench.service(job)
    bench.swarm.remove_service(job.service_name)
    bench.swarm.remove_service(job.service_name)
    assert bench.service(job) is None
    bench.wait_until(lambda: bench.swarm.oom_killed(container) is None)


def test_services_of_others_are_not_ours(bench: Bench) -> None:
    _, spec = bench.spec("probe", "forever")
    container = spec["TaskTemplate"]["ContainerSpec"]
    spec = spec | {"Name": f"other-{spec['Name'][4:]}", "Labels": {"other": "yes"}}
    container["Labels"] = {"die.job": "seen-only-if-containers-are-matched"}
    bench.names.append(spec["Name"])
    service_id = bench.swarm.create_service(spec)
    bench.swarm.start_service(service_id)
    assert service_id not in [each.service_id for each in bench.swarm.job_services()]
    assert service_id not in [report.service_id for report in bench.swarm.task_reports()]


def test_a_jobs_service_is_listed_with_what_matters(bench: Bench) -> None:
    job, spec = bench.spec("probe", "forever")
    spec["Labels"] = {**spec["Labels"], "die.service": "here"}
    service_id = bench.swarm.create_service(spec)
    found = bench.service(job)
    assert found
    assert (found.service_id, found.instance, found.is_started) == (service_id, "here", False)
    assert found.image == bench.image.pinned(bench.digests[bench.image]).canonical
    assert found.args == ("probe", "forever", TOKEN, "item-0001", "folder-0001")
    assert timedelta(0) <= datetime.now(UTC) - found.created_at < timedelta(seconds=10)
    bench.swarm.start_service(service_id)
    started = bench.service(job)
    assert started
    assert started.is_started
    assert started.args == found.args


# -- start


def test_a_service_whose_image_no_machine_can_fetch_has_not_run_and_may_be_made_anew(
    bench: Bench,
) -> None:
    job, spec = bench.spec("probe", "noop")
    container = spec["TaskTemplate"]["ContainerSpec"]
    fetchable = container["Image"]
    container["Image"] = f"{bench.image.canonical}@sha256:{'0' * 64}"
    refused = bench.swarm.create_service(spec)
    bench.swarm.start_service(refused)
    assert is_unfetched(bench.end(job))
    assert not bench.swarm.has_run(refused)
    bench.swarm.remove_service(refused)
    container["Image"] = fetchable
    again = bench.swarm.create_service(spec)
    assert again != refused
    bench.swarm.start_service(again)
    assert bench.report(job, lambda report: report.phase is TaskPhase.COMPLETE).service_id == again
    assert bench.swarm.has_run(again)


def test_a_service_that_was_created_has_no_task_and_no_container(bench: Bench) -> None:
    job, service_id = bench.create("probe", "noop")
    bench.end(bench.start("probe", "noop"))  # a later one has come and gone meanwhile
    assert bench.tasks(service_id) == []
    assert bench.look(job) is None
    assert not bench.tasks_left(service_id)


def test_a_service_tells_whether_it_was_started_until_it_is_gone(bench: Bench) -> None:
    _, service_id = bench.create("probe", "forever")
    assert not bench.swarm.is_started(service_id)
    bench.swarm.start_service(service_id)
    assert bench.swarm.is_started(service_id)
    bench.swarm.remove_service(service_id)
    with pytest.raises(ServiceGone):
        bench.swarm.is_started(service_id)


def test_starting_twice_starts_once(bench: Bench) -> None:
    job, service_id = bench.create("probe", "noop")
    for _ in range(2):
        bench.swarm.start_service(service_id)
        bench.end(job)
    bench.swarm.start_service(service_id)
    bench.end(bench.start("probe", "noop"))
    assert len(bench.tasks(service_id)) == 1


def test_many_threads_that_start_one_service_start_one_container(bench: Bench) -> None:
    job, service_id = bench.create("probe", "forever")
    assert in_threads(8, lambda: bench.swarm.start_service(service_id)) == 8
    bench.running(job)
    bench.end(bench.start("probe", "noop"))
    assert len(bench.tasks(service_id)) == 1


def test_a_service_that_is_adopted_when_it_runs_is_not_started_again(bench: Bench) -> None:
    job, spec = bench.spec("probe", "forever")
    bench.swarm.start_service(bench.swarm.create_service(spec))
    first = bench.running(job).container_id
    bench.swarm.start_service(bench.swarm.create_service(spec))
    bench.end(bench.start("probe", "noop"))
    assert bench.running(job).container_id == first


def test_a_service_that_was_removed_cannot_be_started(bench: Bench) -> None:
    job, service_id = bench.create("probe", "noop")
    bench.swarm.remove_service(service_id)
    with pytest.raises(ServiceGone):
        bench.swarm.start_service(service_id)
    bench.end(bench.start("probe", "noop"))
    assert bench.look(job) is None


def test_a_start_whose_answer_is_lost_is_found_to_have_happened(
    bench: Bench, tmp_path: Path
) -> None:
    job, service_id = bench.create("probe", "forever")
    with AnswerLoser(tmp_path / "s", bench.docker_host, b"/update?") as loser:
        swarm = Swarm(loser.docker_host)
        with pytest.raises(SwarmUnavailable):
            swarm.start_service(service_id)
        swarm.close()
    assert b" 200 OK" in loser.lost[0]
    bench.swarm.start_service(service_id)
    bench.running(job)
    assert len(bench.tasks(service_id)) == 1


def test_the_version_of_a_service_can_be_used_once(bench: Bench) -> None:
    _, service_id = bench.create("probe", "noop")
    seen = bench.get(f"/services/{service_id}")
    spec = seen["Spec"] | {"Mode": {"Replicated": {"Replicas": 1}}}
    answers = [bench.update(service_id, seen["Version"]["Index"], spec) for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 500]
    assert answers[1].message == "rpc error: code = Unknown desc = update out of sequence"


def test_a_changed_template_runs_a_job_again(bench: Bench) -> None:
    # Why a service is started with the very spec that was read.
    job, service_id = bench.create("probe", "noop")
    bench.swarm.start_service(service_id)
    bench.end(job)
    seen = bench.get(f"/services/{service_id}")
    same, changed = seen["Spec"], {**seen["Spec"]}
    changed["TaskTemplate"] = {**same["TaskTemplate"], "ForceUpdate": 1}
    assert bench.update(service_id, seen["Version"]["Index"], same).status == 200
    bench.end(bench.start("probe", "noop"))
    assert len(bench.tasks(service_id)) == 1
    version = bench.get(f"/services/{service_id}")["Version"]["Index"]
    assert bench.update(service_id, version, changed).status == 200
    bench.wait_until(lambda: len(bench.tasks(service_id)) == 2)


# -- the end of a service


def test_tasks_are_left_until_the_container_has_ended(bench: Bench) -> None:
    job = bench.start("probe", "ignore-term")
    report = bench.running(job)
    assert report.container_id
    assert bench.tasks_left(report.service_id)
    bench.swarm.remove_service(report.service_id)
    assert bench.service(job) is None
    assert bench.is_running(report.container_id)
    assert bench.tasks_left(report.service_id)
    with pytest.raises(SwarmUnavailable, match="404"):
        bench.tasks(report.service_id)  # why they are not asked for in this way
    bench.wait_until(lambda: not bench.tasks_left(report.service_id))
    assert not bench.is_running(report.container_id)


def test_no_tasks_are_left_of_what_was_never_started_or_never_was(bench: Bench) -> None:
    _, service_id = bench.create("probe", "noop")
    bench.swarm.remove_service(service_id)
    assert not bench.tasks_left(service_id)
    assert not bench.tasks_left("0" * 25)


def test_a_service_that_is_removed_while_it_starts_leaves_nothing(bench: Bench) -> None:
    job, service_id = bench.create("probe", "forever")
    bench.swarm.start_service(service_id)
    bench.swarm.remove_service(service_id)
    bench.end(bench.start("probe", "noop"))
    bench.wait_until(lambda: not bench.tasks_left(service_id))
    assert bench.look(job) is None


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


def test_a_container_that_dies_with_its_engine_was_cut_off(bench: EngineBench) -> None:
    failed, succeeded = bench.start("probe", "exit", "3"), bench.start("probe", "noop")
    bench.end(failed)
    bench.end(succeeded)
    job, service_id = bench.create("probe", "noop")
    # When they are told to end, one goes on, one fails, and two end as if all had gone well or ill.
    programs = (("ignore-term",), ("forever",), ("give-up", "0"), ("give-up", "3"))
    jobs = [bench.start("probe", *program) for program in programs]
    for each in jobs:
        bench.running(each)
    bench.restart()
    for each in jobs:
        failure = bench.failure(each)
        assert failure.fault_class is FaultClass.SYSTEM
        assert "restarted" in failure.text
    assert bench.failure(failed).fault_class is FaultClass.USER
    assert bench.verdict(succeeded) is None
    assert bench.tasks(service_id) == []
    bench.swarm.start_service(service_id)
    assert bench.end(job).phase is TaskPhase.COMPLETE


def test_nobody_knows_how_the_container_of_another_node_ended(bench: Bench) -> None:
    assert bench.swarm.oom_killed("0" * 64) is None


def test_what_the_managers_know_of_a_node_tells_that_it_was_not_cut_off(bench: Bench) -> None:
    report = bench.end(bench.start("probe", "exit", "255"))
    assert bench.swarm.cut_off(dataclasses.replace(report, container_id="0" * 64)) is False


def test_a_container_that_ended_by_itself_was_not_cut_off(bench: Bench) -> None:
    report = bench.end(bench.start("probe", "exit", "137"))
    assert bench.swarm.cut_off(report) is False


# -- logs


@pytest.mark.parametrize("limit", [1, 100, 4096, 65536])
def test_a_log_is_cut_to_its_last_bytes(bench: Bench, limit: int) -> None:
    job = bench.start("probe", "log", "3000")
    bench.end(job)
    whole = "".join(
        f"{number} the quick brown fox jumps over the lazy dog\n" for number in range(1, 3001)
    )
    assert bench.log(job, limit) == whole[-limit:]


def test_no_log_is_no_error(bench: Bench) -> None:
    assert bench.swarm.log_tail("no-such-service", limit=100, timeout=5) == b""
    job = bench.start("probe", "noop", placement=("node.labels.nowhere==true",))
    assert bench.log(job) == ""


# -- what a container writes


def write(bench: Bench, workspace: HubClient, *command: str) -> tuple[Job, str]:
    """Start a job whose temp folder is there; return the folder's id, too."""
    folder = workspace.create_folder("temp")
    job = make_job(
        command=("probe", *command),
        token=UserToken(ALICE.token),
        folder=Folder(id=folder, name="temp", path="/temp"),
    )
    bench.start(job=job, container_storagehub_url=workspace.base_url)
    return job, folder


def test_a_container_writes_into_the_temp_folder(bench: Bench, workspace: HubClient) -> None:
    job, folder = write(bench, workspace, "write", "a.txt", "50%")
    assert bench.end(job).phase is TaskPhase.COMPLETE
    (child,) = workspace.children(folder)
    assert child["name"] == "a.txt"
    assert workspace.download(str(child["id"])) == b"50%"


def test_a_container_that_cannot_write_fails(bench: Bench, workspace: HubClient) -> None:
    job = make_job(command=("probe", "write", "a.txt", "text"), token=UserToken(ALICE.token))
    bench.start(job=job, container_storagehub_url=workspace.base_url)
    assert bench.end(job).exit_code == 1


@pytest.mark.parametrize(
    ("command", "code"), [("write-slowly a.txt 600", 0), ("write-exit a.txt 600 3", 3)]
)
def test_a_container_writes_early_and_ends_when_it_may(
    bench: EngineBench, workspace: HubClient, command: str, code: int
) -> None:
    job, folder = write(bench, workspace, *command.split())
    bench.wait_until(lambda: workspace.names(folder) == ["a.txt"])
    assert bench.running(job).phase is TaskPhase.RUNNING
    bench.let_end(job.id)
    assert bench.end(job).exit_code == code


# -- the token as a file


@pytest.fixture
def secret(bench: Bench) -> Iterator[tuple[Job, dict[str, Any]]]:
    """What a job's secret is made of."""
    job = make_job()
    spec = secret_spec(job, Settings(instance="here"))
    yield job, spec
    bench.swarm.remove_service(job.service_name)
    bench.swarm.remove_secret(job.service_name)


def test_a_secret_is_made_once_and_listed_with_what_matters(
    bench: Bench, secret: tuple[Job, dict[str, Any]]
) -> None:
    job, spec = secret
    secret_id = bench.swarm.create_secret(spec)
    assert bench.swarm.create_secret(spec) == secret_id
    found = JobSecret(job_id=job.id, secret_id=secret_id, instance="here")
    assert found in bench.swarm.job_secrets()
    assert TOKEN not in str(bench.get(f"/secrets/{secret_id}"))


def test_a_secret_of_another_job_is_not_adopted(
    bench: Bench, secret: tuple[Job, dict[str, Any]]
) -> None:
    _, spec = secret
    bench.swarm.create_secret(spec)
    with pytest.raises(ServiceRefused, match="Another secret"):
        bench.swarm.create_secret(spec | {"Labels": {"die.job": "another"}})


def test_secrets_of_others_are_not_ours(bench: Bench, secret: tuple[Job, dict[str, Any]]) -> None:
    _, spec = secret
    secret_id = bench.swarm.create_secret(spec | {"Labels": {"other": "yes"}})
    assert secret_id not in [each.secret_id for each in bench.swarm.job_secrets()]


def test_a_secret_goes_when_no_service_uses_it_any_more(
    bench: Bench, secret: tuple[Job, dict[str, Any]]
) -> None:
    job, spec = secret
    secret_id = bench.swarm.create_secret(spec)
    _, service = bench.spec("probe", "forever", job=job, secret_id=secret_id)
    bench.swarm.create_service(service)
    found = bench.service(job)
    assert found
    assert found.has_token_file
    with pytest.raises(SwarmUnavailable, match="400"):
        bench.swarm.remove_secret(job.service_name)
    bench.swarm.remove_service(job.service_name)
    bench.swarm.remove_secret(job.service_name)
    bench.swarm.remove_secret(job.service_name)
    assert secret_id not in [each.secret_id for each in bench.swarm.job_secrets()]


def test_a_service_with_a_secret_that_is_gone_is_refused(bench: Bench) -> None:
    job, service = bench.spec("probe", "noop", secret_id="x" * 25)
    assert bench.service(job) is None
    with pytest.raises(ServiceRefused):
        bench.swarm.create_service(service)
