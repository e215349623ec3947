"""The private Swarm on a real kernel: start, use, crash, stop."""

from __future__ import annotations

import http.server
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from swarm_fixture import PROBE, kill_engine, publish_probe, registry_outage

from die_algorithm.errors import LocalSwarmError
from die_algorithm.local_swarm import LocalSwarm
from die_algorithm.local_swarm.network import Network

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a private Swarm")

ROOT = Path(__file__).resolve().parents[2]
CLI = (sys.executable, "-m", "die_algorithm.local_swarm")
FINAL = {"complete", "failed", "rejected", "shutdown"}


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Longer than a socket's path may be.
    return tmp_path_factory.mktemp("swarm") / "-".join(["folder"] * 15)


@pytest.fixture(scope="module")
def swarm(state: Path) -> Iterator[LocalSwarm]:
    swarm = LocalSwarm(state)
    try:
        swarm.start()
        publish_probe(swarm)
        yield swarm
    finally:
        swarm.purge()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[LocalSwarm]:
    """A second private Swarm, not started."""
    other = LocalSwarm(tmp_path / "other")
    yield other
    other.purge()


def create(swarm: LocalSwarm, name: str, *words: str, options: tuple[str, ...] = ()) -> None:
    common = ("--detach", "--restart-condition=none", f"--name={name}")
    swarm.engine.docker("service", "create", *common, *options, PROBE, *words)


def await_state(swarm: LocalSwarm, name: str, states: set[str]) -> str:
    """Wait until the service's task has one of the states; return it with its error."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        line = swarm.engine.docker(
            "service", "ps", "--no-trunc", "--format={{.CurrentState}};{{.Error}}", name
        ).strip()
        if line and line.split()[0].lower() in states:
            state, error = line.split(";")
            return f"{state.split()[0].lower()} {error}".strip()
        time.sleep(0.05)
    pytest.fail(f"{name} did not become one of {states}")


def run_probe(swarm: LocalSwarm, *words: str, options: tuple[str, ...] = ()) -> str:
    """Run the probe as a plain container and return what it printed."""
    return swarm.engine.docker("run", "--rm", *options, PROBE, "probe", *words, "t", "i", "f")


def distribution(swarm: LocalSwarm, repository: str) -> str:
    """Return what the engine's API says about an image in the registry."""
    socket = swarm.docker_host.removeprefix("unix://")
    url = f"http://engine/distribution/{repository}/json"
    command = ["curl", "--silent", "--show-error", "--unix-socket", socket, url]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@contextmanager
def server(address: str, answer: bytes) -> Iterator[int]:
    """Serve one answer on the address; gives the port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer((address, 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield httpd.server_port
        finally:
            httpd.shutdown()
            thread.join()


def traces(swarm: LocalSwarm) -> list[str]:
    """Return what of a private Swarm the machine still shows outside its state folder."""
    found = [str(path) for path in Path("/run").glob(f"**/{swarm.name}")]
    found += [str(path) for path in Path("/sys/class/net").glob(swarm.name)]
    groups = (Path("/sys/fs/cgroup") / swarm.name, *Path("/sys/fs/cgroup").glob(f"*/{swarm.name}"))
    found += [str(path) for path in groups if path.exists()]
    found += [line for line in Path("/proc/mounts").read_text().splitlines() if swarm.name in line]
    found += [line for line in iptables_save().splitlines() if swarm.name in line]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if swarm.name in command or f"{swarm.state}/" in command:
            found.append(command.replace("\0", " "))
    return found


def name_of(pid: str) -> str:
    """The name of a process, empty if it has just ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def all_commands() -> str:
    return subprocess.run(
        ["ps", "-e", "-o", "args="], capture_output=True, text=True, check=True
    ).stdout


def iptables_save() -> str:
    return subprocess.run(["iptables-save"], capture_output=True, text=True, check=True).stdout


def test_a_second_start_recognises_the_running_one(swarm: LocalSwarm) -> None:
    pid = swarm.engine.pid
    again = LocalSwarm(swarm.state)

    again.start()

    assert pid is not None
    assert again.engine.pid == pid
    assert (again.docker_host, again.host_address) == (swarm.docker_host, swarm.host_address)


def test_two_starts_at_once_make_one_engine(other: LocalSwarm) -> None:
    command = (*CLI, "start", "--state", str(other.state))
    starts = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    outputs = {start.communicate(timeout=60)[0] for start in starts}

    assert [start.returncode for start in starts] == [0, 0]
    assert outputs == {f"DOCKER_HOST={other.docker_host}\nHOST_ADDRESS={other.host_address}\n"}
    pids = subprocess.run(
        ["ip", "netns", "pids", other.name], capture_output=True, text=True, check=True
    ).stdout.split()
    assert list(map(name_of, pids)).count("dockerd") == 1


def test_a_pushed_image_is_found_as_if_on_docker_hub(swarm: LocalSwarm) -> None:
    digest = publish_probe(swarm)
    swarm.engine.docker("rmi", "--force", PROBE)

    create(swarm, "from-hub", "probe", "noop", "t", "i", "f")

    assert await_state(swarm, "from-hub", FINAL) == "complete"
    image = "--format={{.Spec.TaskTemplate.ContainerSpec.Image}}"
    pinned = swarm.engine.docker("service", "inspect", image, "from-hub").strip()
    assert pinned == f"{PROBE}:latest@{digest}"


def test_an_image_that_was_not_pushed_is_unknown(swarm: LocalSwarm) -> None:
    assert "manifest unknown" in distribution(swarm, "die-tests/never-pushed")


def test_during_a_registry_outage_the_engine_cannot_tell(swarm: LocalSwarm) -> None:
    before = distribution(swarm, PROBE)
    with registry_outage(swarm):
        during = distribution(swarm, PROBE)

    assert "sha256:" in before
    assert "sha256:" not in during
    assert "manifest unknown" not in during
    assert distribution(swarm, PROBE) == before


def test_a_service_may_ask_for_an_init_process(swarm: LocalSwarm) -> None:
    create(swarm, "with-init", "probe", "exit", "3", "t", "i", "f", options=("--init",))

    assert await_state(swarm, "with-init", FINAL) == 'failed "task: non-zero exit (3)"'


def test_the_host_has_one_address_for_containers_and_for_itself(swarm: LocalSwarm) -> None:
    with server(swarm.host_address, b"hello") as port:
        url = f"http://{swarm.host_address}:{port}/"
        inside = run_probe(swarm, "fetch", url)
        on_the_host_network = run_probe(swarm, "fetch", url, options=("--network=host",))
        outside = subprocess.run(["curl", "-sS", url], capture_output=True, check=True).stdout

    assert (inside, on_the_host_network, outside) == ("hello", "hello", b"hello")


def test_a_forwarded_port_leads_to_the_server_named_last(swarm: LocalSwarm) -> None:
    host = f"--add-host=registry.d4science.org:{swarm.host_address}"
    answers = []
    for answer in (b"first", b"second"):
        with server(swarm.host_address, answer) as port:
            swarm.forward_port(80, to=port)
            answers.append(
                run_probe(swarm, "fetch", "http://registry.d4science.org/", options=(host,))
            )

    assert answers == ["first", "second"]


@pytest.mark.parametrize("port", [2377, 5000])
def test_containers_reach_neither_the_manager_nor_the_registry(
    swarm: LocalSwarm, port: int
) -> None:
    gateway = "172.17.0.1"  # the engine's end of docker0
    with pytest.raises(LocalSwarmError, match="refused"):
        run_probe(swarm, "fetch", f"http://{gateway}:{port}/")


def test_without_internet_containers_reach_nothing_outside(swarm: LocalSwarm) -> None:
    with pytest.raises(LocalSwarmError, match="unreachable"):
        run_probe(swarm, "fetch", "http://192.0.2.77/")
    with pytest.raises(LocalSwarmError, match="bad address"):
        run_probe(swarm, "fetch", "http://example.org/")


def test_after_a_crash_of_the_engine_a_start_ends_the_containers_and_keeps_the_services(
    swarm: LocalSwarm,
) -> None:
    create(swarm, "crashed", "probe", "ignore-term", "t", "i", "f")
    await_state(swarm, "crashed", {"running"})
    address = swarm.host_address
    with server(address, b"still here") as port:
        kill_engine(swarm)
        assert not swarm.is_running
        assert "ignore-term" in all_commands()

        swarm.start()

        assert "ignore-term" not in all_commands()
        assert await_state(swarm, "crashed", FINAL).startswith("failed")
        assert run_probe(swarm, "fetch", f"http://{address}:{port}/") == "still here"
    create(swarm, "after-crash", "probe", "noop", "t", "i", "f")
    assert await_state(swarm, "after-crash", FINAL) == "complete"


def test_after_a_restart_of_the_machine_a_start_keeps_images_and_services(
    swarm: LocalSwarm,
) -> None:
    create(swarm, "rebooted", "probe", "forever", "t", "i", "f")
    await_state(swarm, "rebooted", {"running"})
    swarm._enclosure.close()  # as a power cut: everything dies at once
    swarm._network.close()
    shutil.rmtree(f"/run/{swarm.name}")

    swarm.start()

    assert await_state(swarm, "rebooted", FINAL).startswith("failed")
    assert run_probe(swarm, "args") == "args\nt\ni\nf\n"


def test_a_hung_engine_is_replaced(swarm: LocalSwarm) -> None:
    hung = swarm.engine.pid
    assert hung is not None
    os.kill(hung, signal.SIGSTOP)

    swarm.start()

    assert swarm.engine.pid not in {None, hung}
    assert run_probe(swarm, "noop") == ""


def test_a_damaged_swarm_is_founded_anew_with_the_images_it_had(swarm: LocalSwarm) -> None:
    swarm._enclosure.close()
    (swarm.state / "engine" / "swarm" / "certificates" / "swarm-node.crt").write_text("damaged")

    swarm.start()

    create(swarm, "founded-anew", "probe", "noop", "t", "i", "f")
    assert await_state(swarm, "founded-anew", FINAL) == "complete"


def test_two_private_swarms_do_not_know_of_each_other(swarm: LocalSwarm, other: LocalSwarm) -> None:
    other.start()
    for one in (swarm, other):
        create(one, "same-name", "probe", "sleep", "1000", "t", "i", "f")
    await_state(swarm, "same-name", {"running"})
    assert other.host_address != swarm.host_address

    other.stop()

    assert await_state(swarm, "same-name", {"running", *FINAL}) == "running"


def test_two_networks_that_would_have_the_same_addresses_get_different_ones() -> None:
    networks = [Network(f"die-test-{letter}", seed=16383) for letter in "ab"]
    try:
        for network in networks:
            network.open()
        first, second = (network.host_address for network in networks)
    finally:
        for network in networks:
            network.close()

    assert first != second


def test_stop_leaves_only_the_images(swarm: LocalSwarm) -> None:
    create(swarm, "stubborn", "probe", "ignore-term", "t", "i", "f")
    await_state(swarm, "stubborn", {"running"})

    swarm.stop()

    assert traces(swarm) == []
    assert not swarm.is_running
    with pytest.raises(LocalSwarmError, match="not started"):
        _ = swarm.host_address
    swarm.start()
    assert swarm.engine.docker("service", "ls", "--quiet") == ""
    assert swarm.engine.docker("container", "ls", "--all", "--quiet") == ""
    assert run_probe(swarm, "noop") == ""


def test_services_of_a_dead_engine_do_not_come_back_after_stop(swarm: LocalSwarm) -> None:
    create(swarm, "forgotten", "probe", "forever", "t", "i", "f")
    await_state(swarm, "forgotten", {"running"})
    kill_engine(swarm)

    swarm.stop()

    assert traces(swarm) == []
    swarm.start()
    assert swarm.engine.docker("service", "ls", "--quiet") == ""
    assert run_probe(swarm, "noop") == ""


def test_stop_and_purge_are_content_when_nothing_runs(tmp_path: Path) -> None:
    never = LocalSwarm(tmp_path / "never")
    never.stop()
    never.stop()
    never.purge()

    assert not never.state.exists()
    assert traces(never) == []


def test_rules_for_the_internet_are_removed_at_stop(tmp_path: Path) -> None:
    online = LocalSwarm(tmp_path / "online", internet=True)
    try:
        online.start()
        online.start()
        rules = [line for line in iptables_save().splitlines() if online.name in line]
    finally:
        online.purge()

    assert len(rules) == 3
    assert traces(online) == []


def test_an_engine_that_cannot_start_is_explained_by_its_log(tmp_path: Path) -> None:
    broken = LocalSwarm(tmp_path / "broken")
    broken.state.mkdir()
    (broken.state / "engine").write_text("where the engine wants a folder")
    try:
        with pytest.raises(LocalSwarmError, match="points to a file"):
            broken.start()
    finally:
        broken.purge()

    assert traces(broken) == []


@pytest.mark.parametrize("rights", ["-sys_admin", "-sys_admin,-net_admin"])
def test_a_machine_without_namespaces_is_told_so(tmp_path: Path, rights: str) -> None:
    state = tmp_path / "forbidden"
    weaker = ("setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}")
    start = subprocess.run(
        [*weaker, *CLI, "start", "--state", str(state)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert start.returncode == 1
    assert "does not permit" in start.stderr
    assert "Operation not permitted" in start.stderr
    assert traces(LocalSwarm(state)) == []


def test_only_root_may_start_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    with pytest.raises(LocalSwarmError, match="root"):
        LocalSwarm(tmp_path).start()


def test_missing_programs_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def which(name: str, path: str) -> str | None:
        return None if name == "docker-registry" else f"{path}/{name}"

    monkeypatch.setattr(shutil, "which", which)

    with pytest.raises(LocalSwarmError, match="not installed: docker-registry\\."):
        LocalSwarm(tmp_path).start()


def test_the_command_line_starts_tells_and_stops(tmp_path: Path) -> None:
    swarm = LocalSwarm(tmp_path / "by-hand")

    def cli(action: str) -> tuple[int, str]:
        command = [*CLI, action, "--state", str(swarm.state)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    try:
        started = cli("start")
        told = cli("status")
        assert started[0] == 0
        assert f"DOCKER_HOST={swarm.docker_host}\n" in started[1]
        assert told == started
        assert cli("stop") == (0, "")
        assert cli("status") == (3, "not running\n")
    finally:
        assert cli("purge")[0] == 0
    assert not swarm.state.exists()
