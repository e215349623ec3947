"""``scripts/job_network`` on a real engine: what it makes, what its check sees, what jobs reach."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from job_network_fixture import BRIDGE, CHAIN, NETWORK, SUBNET6, JobNetwork
from jobs_fixture import make_job
from swarm_bench import Bench
from swarm_fixture import DIE_PROBE

from die_algorithm.local_swarm import LocalSwarm
from die_algorithm.local_swarm.command import run

_PROGRAMS = {4: "iptables", 6: "ip6tables"}


@pytest.fixture
def bench(docker_host: str) -> Iterator[Bench]:
    with contextlib.closing(Bench(docker_host, DIE_PROBE)) as bench:
        yield bench


@pytest.fixture(params=["", "fd99::", "fec0::", "2001:0:99::"])
def address(
    request: pytest.FixtureRequest, swarm: LocalSwarm, job_network: JobNetwork
) -> Iterator[str]:
    """A private one of the host's, which nothing allows; from these IPv6 networks, or an IPv4 one."""
    prefix = request.param
    if not prefix:
        yield swarm.host_address
        return
    address, gateway = f"{prefix}1/64", f"{prefix}2"
    job_network.inside(*f"ip -6 address add {gateway}/64 dev host nodad".split())
    job_network.inside("sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
    run(*f"ip -6 address add {address} dev {swarm.name} nodad".split())
    run(*f"ip -6 route add {SUBNET6} via {gateway} dev {swarm.name}".split())
    yield f"{prefix}1"
    run(*f"ip -6 route del {SUBNET6} via {gateway} dev {swarm.name}".split())
    run(*f"ip -6 address del {address} dev {swarm.name}".split())
    job_network.inside(*f"ip -6 address del {gateway}/64 dev host".split())


@contextlib.contextmanager
def private_machine(address: str) -> Iterator[int]:
    """A server that greets, at an address that is private and not allowed; its port."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as listener:
        threading.Thread(target=_greet_all, args=(listener,), daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def _greet_all(listener: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the test has ended
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"welcome")


_CALL = """
import socket, sys
try:
    print(socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=3).recv(99).decode())
except OSError as error:
    print(type(error).__name__, error)
"""


def call(bench: Bench, address: str, port: int) -> str:
    """What a job gets from there, or why it gets nothing; it waits three seconds."""
    job, spec = bench.spec(job=make_job(command=("call",)), network=NETWORK)
    spec["TaskTemplate"]["ContainerSpec"] |= {
        "Command": ["python3", "-c", _CALL],
        "Args": [address, str(port)],
    }
    bench.swarm.start_service(bench.swarm.create_service(spec))
    bench.end(job)
    return bench.log(job).strip()


@contextlib.contextmanager
def accepted(job_network: JobNetwork, family: int) -> Iterator[None]:
    """As an engine lets the packets of a bridge through that it makes, before all other rules."""
    # For IPv4 it puts DOCKER-USER before them once more.
    first = "DOCKER-USER" if family == 4 else "FORWARD"
    rule = (first, "-i", BRIDGE, "!", "-o", BRIDGE, "-j", "ACCEPT")
    job_network.rule("-I", *rule, program=_PROGRAMS[family])
    try:
        yield
    finally:
        job_network.rule("-D", *rule, program=_PROGRAMS[family])


@pytest.mark.parametrize("address", ["", "fd99::"], indirect=True)
def test_jobs_reach_no_private_address_though_the_engine_lets_them_through_first(
    job_network: JobNetwork, bench: Bench, address: str
) -> None:
    family = 6 if ":" in address else 4
    with private_machine(address) as port, accepted(job_network, family):
        assert job_network.is_in_force()
        assert "timed out" in call(bench, address, port)
        # And it is the rules that hold them.
        job_network.rule("-t", "security", "-F", CHAIN, program=_PROGRAMS[family])
        assert call(bench, address, port) == "welcome"
        assert not job_network.is_in_force()


@pytest.mark.usefixtures("job_network")
def test_a_job_is_told_at_once_what_it_may_not_reach(bench: Bench, address: str) -> None:
    with private_machine(address) as port:
        answer = call(bench, address, port)
    assert "OSError" in answer or "PermissionError" in answer
    assert "timed out" not in answer


@pytest.mark.parametrize(
    ("chain", "rule"),
    [("FORWARD", ("-j", "ACCEPT")), ("INPUT", ("-i", BRIDGE, "-j", "ACCEPT"))],
)
def test_what_lets_packets_through_before_the_rules_is_seen(
    job_network: JobNetwork, chain: str, rule: tuple[str, ...]
) -> None:
    job_network.rule("-t", "security", "-I", chain, *rule)
    try:
        checked = job_network.script("--check")
        assert checked.returncode == 1
        assert chain in checked.stderr
        # Made anew, the rules come first again.
        assert job_network.script().returncode == 0
        assert job_network.is_in_force()
    finally:
        job_network.rule("-t", "security", "-D", chain, *rule)


@pytest.mark.parametrize("words", [(), ("--check",)])
def test_what_shall_not_be_reached_and_has_no_address_is_told(
    job_network: JobNetwork, words: tuple[str, ...]
) -> None:
    before = job_network.rules()
    refused = job_network.script("--deny", "no..name", *words)
    assert refused.returncode == 68
    assert "no..name: it has no address" in refused.stderr
    assert "reach neither" not in refused.stdout
    assert job_network.rules() == before


def test_the_script_may_run_again_and_changes_nothing(job_network: JobNetwork) -> None:
    before = job_network.rules()
    assert job_network.script().returncode == 0
    assert job_network.rules() == before


def test_a_flush_of_the_rules_is_mended(job_network: JobNetwork) -> None:
    before = job_network.rules()
    for table in ("filter", "security"):
        job_network.rule("-t", table, "-D", "INPUT", "-i", BRIDGE, "-j", f"{CHAIN}-IN")
        job_network.rule("-t", table, "-F", CHAIN)
    job_network.rule("-D", "FORWARD", "-j", "DOCKER-USER")
    assert job_network.script().returncode == 0
    assert job_network.rules() == before


@pytest.mark.parametrize("address", ["", "fd99::"], indirect=True)
def test_rules_made_before_the_engine_starts_hold_for_the_first_of_its_jobs(
    swarm: LocalSwarm, job_network: JobNetwork, bench: Bench, address: str
) -> None:
    swarm.engine.stop()
    try:
        job_network.lose_rules()
        made = job_network.script("--rules")
    finally:
        swarm.start()
    assert made.returncode == 0, made.stderr
    assert "in force" in made.stdout
    with private_machine(address) as port:
        assert call(bench, address, port) != "welcome"
    assert job_network.is_in_force()


def test_other_options_than_those_in_force_are_no_match(job_network: JobNetwork) -> None:
    assert job_network.script("--check", "--closed").returncode == 1
    assert job_network.is_in_force()


def test_what_was_made_can_be_taken_away(swarm: LocalSwarm, job_network: JobNetwork) -> None:
    assert job_network.script("--remove").returncode == 0
    assert CHAIN not in job_network.rules()
    assert NETWORK not in swarm.engine.docker("network", "ls", "--format={{.Name}}").split()
    checked = job_network.script("--check")
    assert checked.returncode == 1
    assert "missing" in checked.stderr


@pytest.mark.parametrize("kind", [("--driver", "overlay"), ("--driver", "bridge")])
def test_a_network_of_that_name_that_is_anothers_is_told_and_stays(
    swarm: LocalSwarm, job_network: JobNetwork, kind: tuple[str, ...]
) -> None:
    assert job_network.script("--remove").returncode == 0
    swarm.engine.docker("network", "create", *kind, NETWORK)
    try:
        made = job_network.script()
        assert made.returncode == 1
        assert "choose another --name" in made.stderr
        assert "reach neither" not in made.stdout
        assert not job_network.is_in_force()
        removed = job_network.script("--remove")
        assert "stays" in removed.stderr
        names = swarm.engine.docker("network", "ls", "--format={{.Name}}").split()
        assert NETWORK in names
        assert f"{NETWORK}-node" not in names
        assert CHAIN not in job_network.rules()
    finally:
        swarm.engine.docker("network", "rm", NETWORK)


def test_another_configuration_of_the_node_is_told(job_network: JobNetwork) -> None:
    made = job_network.script("--subnet", "10.69.0.0/24")
    assert made.returncode == 1
    assert f"{NETWORK}-node" in made.stderr
    assert "reach neither" not in made.stdout


def test_the_name_servers_that_systemd_keeps_behind_its_own_stay_in_reach(
    job_network: JobNetwork, tmp_path: Path
) -> None:
    (tmp_path / "own").write_text("nameserver 127.0.0.53\n")
    (tmp_path / "resolve").mkdir()
    (tmp_path / "resolve" / "resolv.conf").write_text("nameserver 192.168.77.1\n")
    mounts = (
        f"mount --bind {tmp_path}/own /etc/resolv.conf\n"
        f"mkdir -p /run/systemd\nmount --bind {tmp_path} /run/systemd"
    )
    made = job_network.script_where(mounts)
    assert made.returncode == 0, made.stderr
    for protocol in ("udp", "tcp"):
        rule = f"-d 192.168.77.1/32 -p {protocol} -m {protocol} --dport 53 -j RETURN"
        assert f"-A {CHAIN} {rule}" in job_network.rules()
    assert job_network.script_where(mounts, "--check").returncode == 0
