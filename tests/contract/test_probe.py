"""What a container really gets and reaches, under each profile and on each network, seen from inside.

The expectation is the engine's: what it cannot do is named here, and what it can must hold.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import tarfile
from collections.abc import Iterator

import pytest
from click.testing import CliRunner
from hostile_ground import Images
from job_network_fixture import BRIDGE, CHAIN, NETWORK, JobNetwork
from jobs_fixture import TOKEN, make_job
from odd_images import RegistryFiles
from swarm_bench import Bench
from swarm_fixture import DIE_PROBE

from die_algorithm.check import Level
from die_algorithm.cli import main
from die_algorithm.container_rules import ContainerRules
from die_algorithm.doctor import examine, probe_nodes
from die_algorithm.image_reference import ImageReference
from die_algorithm.local_storagehub.server import LocalStorageHub
from die_algorithm.local_swarm import LocalSwarm
from die_algorithm.models import EngineFacts
from die_algorithm.policy import Policy
from die_algorithm.probe import Probe
from die_algorithm.probe_report import Judgement
from die_algorithm.service_spec import INSTANCE_LABEL, PROBE_LABEL, secret_spec
from die_algorithm.settings import Settings
from die_algorithm.swarm import Swarm

#: What no service can ask for; whether it holds is the machine's business.
MACHINES = {"apparmor", "user-namespace", "swap", "outside-names", "public-network"}
#: What nothing is known of before engines of API 1.44.
SINCE_1_44 = {"no-new-privileges"}
#: What images are used to: the probe's has no user of its own, so it runs as root.
USUAL = {"user", "groups", "root-filesystem", "unbounded-writes"}
#: Of the engine's own bridge.
SHARED_BRIDGE = {"host-services", "other-containers"}
BY_CAPABILITIES = {
    "capabilities-effective",
    "capabilities-permitted",
    "capabilities-bounding",
    "call-chroot",
    "mknod",
    "setuid-gain",
}


class World:
    """Probes the private Swarm's one node."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.swarm = Swarm(settings.docker_host)
        self.engine: EngineFacts = self.swarm.facts()

    def probe(self, rules: ContainerRules | None = None, network: str = "") -> dict[str, Judgement]:
        settings = self.settings.model_copy(update={"network": network})
        runner = Probe(settings, rules or ContainerRules(), self.swarm)
        (report,) = runner.run(self.swarm.nodes())
        assert not report.trouble
        return {each.finding.name: each for each in report.judgements}

    def left(self) -> list[str]:
        owner = self.settings.instance_name
        return self.swarm.services_labelled(PROBE_LABEL, INSTANCE_LABEL, owner)

    @property
    def before_1_44(self) -> set[str]:
        version = tuple(map(int, self.engine.api_version.split(".")))
        return SINCE_1_44 if version < (1, 44) else set()


@pytest.fixture(scope="module")
def world(
    swarm: LocalSwarm, storagehub: LocalStorageHub, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("probe"),
        storagehub_url=storagehub.base_url,
        docker_host=swarm.docker_host,
        memory_limit="64MiB",
        pids_limit=100,
        tmpfs_limit="4MiB",
        probe_image=DIE_PROBE,
    )
    world = World(settings)
    yield world
    world.swarm.close()


def not_ok(found: dict[str, Judgement]) -> set[str]:
    return {name for name, each in found.items() if each.finding.status != "ok"}


def failed(found: dict[str, Judgement]) -> set[str]:
    return {name for name, each in found.items() if each.level is Level.FAIL}


def test_the_default_profile_shuts_in_all_but_what_images_are_used_to(world: World) -> None:
    found = world.probe()
    assert len(found) >= 70
    # It looks around in its own network only: there are 15 addresses below it, and no more.
    assert "of 1 known and 1" in found["other-containers"].finding.text
    assert not_ok(found) - MACHINES == USUAL | SHARED_BRIDGE | world.before_1_44
    assert not failed(found)


def test_the_open_profile_opens_dockers_capabilities_but_raw_packets_and_nothing_else(
    world: World,
) -> None:
    found = world.probe(ContainerRules(profile="open"))
    opened = BY_CAPABILITIES | SINCE_1_44
    assert not_ok(found) - MACHINES == USUAL | SHARED_BRIDGE | opened
    assert not failed(found)


# -- the network of jobs


def test_on_the_job_network_nothing_is_reached_but_storagehub(
    world: World, job_network: JobNetwork
) -> None:
    assert job_network.is_in_force()
    found = world.probe(network=NETWORK)
    expected = USUAL | world.before_1_44 | {"names-of-others"}
    assert not_ok(found) - MACHINES == expected
    assert found["other-containers"].finding.text.startswith("reached none of 2 known")
    assert found["storagehub"].finding.status == "ok"
    assert not failed(found)


@pytest.mark.slow
def test_without_its_rules_the_probe_and_the_check_say_so(
    world: World, job_network: JobNetwork
) -> None:
    way_in = ("INPUT", "-i", BRIDGE, "-j", f"{CHAIN}-IN")
    job_network.rule("-D", *way_in)
    job_network.rule("-t", "security", "-D", *way_in)
    assert not job_network.is_in_force()
    found = world.probe(network=NETWORK)
    assert failed(found) == {"host-services"}
    assert "job_network" in found["host-services"].remedy
    assert job_network.script().returncode == 0
    assert job_network.is_in_force()


@pytest.mark.slow
@pytest.mark.parametrize("table", ["filter", "security"])
def test_what_one_of_the_two_tables_has_lost_the_other_holds(
    world: World, job_network: JobNetwork, table: str
) -> None:
    for program in ("iptables", "ip6tables"):
        job_network.rule("-t", table, "-F", CHAIN, program=program)
    assert job_network.is_in_force() is (table == "filter")
    assert not failed(world.probe(network=NETWORK))


@pytest.mark.slow
def test_without_the_rules_for_ipv6_jobs_reach_each_other(
    world: World, job_network: JobNetwork
) -> None:
    for table in ("filter", "security"):
        job_network.rule("-t", table, "-F", "FORWARD", program="ip6tables")
    assert not job_network.is_in_force()
    assert failed(world.probe(network=NETWORK)) == {"other-containers"}


@pytest.mark.usefixtures("job_network")
def test_the_strict_profile_leaves_nothing_open_but_what_the_engine_cannot_do(
    world: World,
) -> None:
    # The operator's word is taken; the probe finds out where it is not true.
    rules = ContainerRules(profile="strict", engines_forbid_new_privileges=True)
    found = world.probe(rules, network=NETWORK)
    missing = world.before_1_44 | ({"setuid-gain"} if world.before_1_44 else set())
    assert not_ok(found) - MACHINES == missing | {"names-of-others"}
    assert failed(found) == missing
    # A file system in memory gets the rights of the image's folder: only /tmp is everybody's there.
    assert found["unbounded-writes"].finding.text == "can write to /tmp"


@pytest.mark.usefixtures("job_network")
def test_the_token_in_its_file_is_there_for_nobodys_user_under_the_strict_profile(
    docker_host: str, probe_image: str
) -> None:
    rules = ContainerRules(profile="strict", engines_forbid_new_privileges=True)
    job = make_job(command=("cat", "/run/secrets/gcube-token"))
    with contextlib.closing(Bench(docker_host, probe_image)) as bench:
        secret_id = bench.swarm.create_secret(secret_spec(job, Settings()))
        _, spec = bench.spec(job=job, secret_id=secret_id, rules=rules, network=NETWORK)
        container = spec["TaskTemplate"]["ContainerSpec"]
        assert "/run" in [mount["Target"] for mount in container["Mounts"]]
        container |= {"Command": ["sh"], "Args": ["-c", "cat /run/secrets/gcube-token; id -u"]}
        bench.swarm.start_service(bench.swarm.create_service(spec))
        bench.end(job)
        output = bench.log(job)
        bench.swarm.remove_service(job.service_name)
        bench.swarm.remove_secret(job.service_name)
    assert output == f"{TOKEN}65534\n"


@pytest.mark.usefixtures("job_network", "probe_image")
def test_an_images_volume_is_on_disk_and_counted_under_the_strict_profile_too(
    swarm: LocalSwarm,
) -> None:
    images = Images(RegistryFiles(swarm.state / "registry"))
    folder = images.files.raw_layer(everybodys_folder("data"))
    repository = images.publish("volume", {"Volumes": {"/data": {}}}, layers=[folder])
    rules = ContainerRules(profile="strict", engines_forbid_new_privileges=True)
    job = make_job()
    with contextlib.closing(Bench(swarm.docker_host, repository)) as bench:
        _, spec = bench.spec(job=job, rules=rules, network=NETWORK)
        script = "head -c 3000000 /dev/zero > /data/x && ls -ln /data && sleep 60"
        spec["TaskTemplate"]["ContainerSpec"] |= {"Command": ["sh"], "Args": ["-c", script]}
        bench.swarm.start_service(bench.swarm.create_service(spec))
        container = str(bench.running(job).container_id)
        bench.wait_until(lambda: " 3000000 " in bench.log(job))
        assert bench.swarm.written()[container] >= 3_000_000
        assert " 65534 " in bench.log(job)


def everybodys_folder(name: str) -> bytes:
    """An archive with a folder that any user may write to."""
    with io.BytesIO() as buffer:
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, 0o777
            archive.addfile(info)
        return buffer.getvalue()


# -- the managers


def test_the_managers_ports_are_tried_too(
    world: World, swarm: LocalSwarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The private manager tells the loopback address, which a container would take for its own.
    assert "127.0.0.1" not in world.probe()["manager-ports"].finding.text
    (node,) = world.swarm.nodes()
    outer = dataclasses.replace(node, manager_address=swarm.host_address)
    monkeypatch.setattr(world.swarm, "nodes", lambda: [outer])
    finding = world.probe()["manager-ports"].finding
    assert "of 8 ports" in finding.text
    assert swarm.host_address in finding.text


# -- the command


def test_the_probe_leaves_nothing_behind_and_removes_what_a_former_one_left(world: World) -> None:
    labels = {PROBE_LABEL: "1", INSTANCE_LABEL: world.settings.instance_name}
    image = ImageReference.parse(DIE_PROBE).canonical
    world.swarm.create_service(
        {
            "Name": "die-probe-left-over",
            "Labels": labels,
            "TaskTemplate": {"ContainerSpec": {"Image": image, "Args": ["probe"]}},
            "Mode": {"Replicated": {"Replicas": 0}},
        }
    )
    assert len(world.left()) == 1
    world.probe()
    assert world.left() == []


def test_the_doctor_fails_where_a_profile_cannot_be_kept(world: World) -> None:
    strict = {"images": ["docker.io/d4science/*"], "profile": "strict"}
    policy = Policy.model_validate({"containers": {"exceptions": [strict]}})
    found = [each for each in examine(world.settings, policy) if each.name == "profile strict"]
    assert {each.level for each in found} == {Level.FAIL}
    assert any("'network' is empty" in each.text for each in found)
    says_so = any("no-new-privileges" in each.text for each in found)
    assert says_so is bool(world.before_1_44)


@pytest.mark.parametrize(("profile", "level"), [("strict", Level.FAIL), ("default", Level.WARN)])
def test_the_doctor_looks_at_the_engines_of_all_nodes_and_not_at_the_managers_alone(
    world: World, monkeypatch: pytest.MonkeyPatch, profile: str, level: Level
) -> None:
    (node,) = world.swarm.nodes()
    old = dataclasses.replace(node, hostname="old-worker", engine_version="20.10.24")
    new = dataclasses.replace(node, engine_version="27.3.1")
    facts = dataclasses.replace(world.engine, api_version="1.47", nodes=2)
    monkeypatch.setattr(Swarm, "facts", lambda _: facts)
    monkeypatch.setattr(Swarm, "nodes", lambda _: [new, old])
    policy = Policy.model_validate({"containers": {"profile": profile}})
    (found,) = (each for each in examine(world.settings, policy) if "old-worker may" in each.text)
    assert found.level is level


def test_the_command_tells_each_check_and_its_exit_code_is_whether_all_hold(world: World) -> None:
    environment = {
        f"DIE_{name.upper()}": str(value)
        for name, value in world.settings.model_dump(mode="json", exclude_unset=True).items()
    }
    result = CliRunner().invoke(main, ["doctor", "--probe"], env=environment)
    assert result.exit_code == 0, result.output
    (node,) = world.swarm.nodes()
    assert f"ok    seccomp on {node.hostname}: " in result.output
    assert f"warn  other-containers on {node.hostname}: reached" in result.output
    network = CliRunner().invoke(
        main, ["doctor", "--probe"], env={**environment, "DIE_NETWORK": "bridge"}
    )
    assert network.exit_code == 1
    assert f"FAIL  other-containers on {node.hostname}: reached" in network.output


def test_a_probe_image_that_is_not_there_is_told(world: World) -> None:
    settings = world.settings.model_copy(update={"probe_image": "die-tests/nowhere"})
    (check,) = probe_nodes(settings, ContainerRules())
    assert check.level is Level.FAIL
    assert "nowhere" in check.text
    assert "probe_image" in check.remedy


def test_a_probe_that_ends_without_report_is_told(world: World, probe_image: str) -> None:
    settings = world.settings.model_copy(update={"probe_image": probe_image})
    (check,) = probe_nodes(settings, ContainerRules())
    assert check.level is Level.FAIL
    assert "told nothing" in check.text
    assert world.left() == []


def test_the_findings_are_json_for_programs_too(world: World) -> None:
    assert json.dumps([each.finding.model_dump() for each in world.probe().values()])
