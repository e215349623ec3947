"""What only a real engine can show: what a container gets, and how its own programs end."""

from __future__ import annotations

from collections.abc import Iterator

import docker
import pytest
from jobs_fixture import TOKEN, make_job
from swarm_bench import MEMORY, Bench
from swarm_fixture import PROBE_VARIANT

from die_algorithm.errors import ImageNotFound
from die_algorithm.image_reference import ImageReference
from die_algorithm.models import FaultClass
from die_algorithm.service_spec import secret_spec
from die_algorithm.settings import Settings


class RealBench(Bench):
    """A bench that looks at what was made with Docker's own library, too."""

    def __init__(self, docker_host: str, repository: str) -> None:
        super().__init__(docker_host, repository)
        self.docker = docker.APIClient(docker_host)

    def close(self) -> None:
        super().close()
        self.docker.close()


@pytest.fixture(scope="module")
def bench(docker_host: str, probe_image: str) -> Iterator[RealBench]:
    bench = RealBench(docker_host, probe_image)
    yield bench
    bench.close()


def test_the_engine_tells_what_it_is(bench: RealBench) -> None:
    facts = bench.swarm.facts()
    info = bench.docker.info()
    assert facts.is_manager
    assert facts.version == info["ServerVersion"]
    assert (facts.cpus, facts.memory) == (info["NCPU"], info["MemTotal"])
    assert facts.nodes == 1
    assert tuple(map(int, facts.api_version.split("."))) >= (1, 41)


# -- images


def test_a_tag_is_resolved_to_the_digest_that_the_registry_gave(bench: RealBench) -> None:
    answer = bench.docker.inspect_distribution(bench.image.canonical)
    assert bench.swarm.resolve_digest(bench.image) == answer["Descriptor"]["digest"]


def test_an_image_that_only_the_engine_has_does_not_count(bench: RealBench) -> None:
    name = "die-tests/only-here"
    bench.docker.pull(bench.image.canonical)
    bench.docker.tag(bench.image.canonical, name, force=True)
    try:
        with pytest.raises(ImageNotFound):
            bench.swarm.resolve_digest(ImageReference.parse(name))
    finally:
        bench.docker.remove_image(name)


# -- what a container gets


def test_the_images_entry_point_stays_and_its_health_check_is_off(bench: RealBench) -> None:
    image = ImageReference.parse(PROBE_VARIANT)
    output = bench.run("sh", "-c", "sleep 3; probe args after", image=image)
    assert output.splitlines()[0].startswith("entrypoint: first sh -c")
    assert output.splitlines()[-1] == "after"


def test_the_environment_is_the_images_and_the_address_of_storagehub(bench: RealBench) -> None:
    output = bench.run("probe", "environment", container_storagehub_url="http://hub/workspace")
    names = {line.partition("=")[0] for line in output.splitlines()}
    assert "STORAGEHUB_URL=http://hub/workspace" in output.splitlines()
    assert names <= {"STORAGEHUB_URL", "HOSTNAME", "PATH", "HOME", "PWD", "SHLVL", "OLDPWD"}


def test_extra_hosts_are_known_by_name(bench: RealBench) -> None:
    output = bench.run("probe", "resolve", extra_hosts=("hub.example.org:10.1.2.3",))
    assert ["10.1.2.3", "hub.example.org"] in [line.split() for line in output.splitlines()]


def test_a_container_has_no_capabilities_and_few_files(bench: RealBench) -> None:
    output = bench.run("sh", "-c", "cat /proc/self/status; ulimit -n; ulimit -c")
    status = dict(line.split(":", 1) for line in output.splitlines() if ":" in line)
    for name in ("CapBnd", "CapEff", "CapPrm", "CapInh"):
        assert int(status[name], 16) == 0
    assert status["Seccomp"].strip() == "2"
    assert output.splitlines()[-2:] == ["4096", "0"]


def test_no_new_privileges_is_in_force_where_the_engine_knows_it(bench: RealBench) -> None:
    if tuple(map(int, bench.swarm.facts().api_version.split("."))) < (1, 44):
        pytest.skip("this engine's services cannot ask for no-new-privileges")
    assert "NoNewPrivs:\t1" in bench.run("cat", "/proc/self/status", "/dev/null")


def test_the_limits_are_in_force(bench: RealBench) -> None:
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


# -- how a task ends


@pytest.mark.parametrize("init", [True, False])
@pytest.mark.parametrize("command", ["no-such-command", "/bin/no-such-command"])
def test_a_command_that_the_image_lacks_is_the_images(
    bench: RealBench, command: str, init: bool
) -> None:
    fault_class, text, code = bench.fault(command, init=init)
    assert (fault_class, code) == (FaultClass.IMAGE, 127)
    assert f"no command '{command}'" in text


@pytest.mark.parametrize("init", [True, False])
@pytest.mark.parametrize("command", ["/etc/passwd", "/etc"])
def test_what_cannot_be_executed_is_the_images(bench: RealBench, command: str, init: bool) -> None:
    fault_class, text, code = bench.fault(command, init=init)
    assert (fault_class, code) == (FaultClass.IMAGE, 126)
    assert f"'{command}' may not be executed" in text


# -- logs


def test_a_log_has_both_streams(bench: RealBench) -> None:
    assert sorted(bench.run("sh", "-c", "echo out; echo err >&2").split()) == ["err", "out"]


def test_a_log_of_very_short_lines_is_fetched_up_to_the_limit(bench: RealBench) -> None:
    output = bench.run("sh", "-c", "seq 20000")
    assert output.endswith("19999\n20000\n")
    assert len(output) == 65536


def test_a_flood_is_cut_to_its_last_bytes_in_time(bench: RealBench) -> None:
    flood = (
        "yes 0123456789 | head -c 40000000; head -c 40000000 /dev/zero | tr '\\0' x; echo; echo end"
    )
    output = bench.run("sh", "-c", flood)
    assert len(output) == 65536
    assert output.rstrip().endswith("end")
    assert output.startswith("x")


# -- the token as a file


@pytest.mark.parametrize("user", ["0", "65534:65534"])
def test_whoever_the_image_runs_as_reads_the_token_in_its_file(bench: RealBench, user: str) -> None:
    job = make_job(command=("cat",))
    secret_id = bench.swarm.create_secret(secret_spec(job, Settings()))
    _, spec = bench.spec(job=job, secret_id=secret_id)
    container = spec["TaskTemplate"]["ContainerSpec"]
    container |= {"User": user, "Args": ["-c", "cat /run/secrets/gcube-token; env"]}
    container["Command"] = ["sh"]
    bench.swarm.start_service(bench.swarm.create_service(spec))
    bench.end(job)
    output = bench.log(job)
    assert output.startswith(TOKEN)
    assert output.count(TOKEN) == 1
    bench.swarm.remove_service(job.service_name)
    bench.swarm.remove_secret(job.service_name)
