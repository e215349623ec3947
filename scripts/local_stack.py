"""The whole service on this machine, in one folder: to see it, to try it, to develop it.

    local_stack.py demo     start everything, run one job, show its result, stop what was started
    local_stack.py serve    start everything and leave it running
    local_stack.py stop     stop everything that was started
    local_stack.py doctor   say what is missing for the service to work; with --probe also what a
                            container can do and reach

Started are a private Docker engine with a one-node Swarm and a registry that stands in for Docker Hub,
the embedded StorageHub with a demo user, and the service.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import demo_client
from background_process import BackgroundProcess
from folder_lock import folder_lock

from die_algorithm.errors import DieError
from die_algorithm.local_storagehub.server import LocalStorageHub
from die_algorithm.local_swarm import LocalSwarm

REPOSITORY = Path(__file__).resolve().parent.parent
SORTAPP = REPOSITORY / "examples" / "sortapp"
SAMPLE = SORTAPP / "sortableelements.txt"
IMAGE = "d4science/sortapp"
PROBE = REPOSITORY / "examples" / "probe"
PROBE_IMAGE = "d4science/die-probe"
USER = "demo.user"
#: Opens the demo's own StorageHub on this machine and nothing else: no secret.
TOKEN = "d3305e2c-0000-4000-8000-00000000d3e0-843339462"  # noqa: S105
_PORT, _STORAGEHUB_PORT = 8080, 8081
_SHOWN_LINES = 5
_WAITING = "Another make demo, serve or stop is under way here; waiting ..."
_INTERRUPTED = 128 + signal.SIGINT


class LocalStack:
    """Engine, StorageHub and service, with all they write in one folder.

    Args:
        state: the folder.
        docker_host: an engine in place of the private one, for benchmarks; its containers must reach
            this machine's loopback, where StorageHub listens then.
        settings: of the service, as ``DIE_*`` in its environment.
    """

    def __init__(
        self, state: Path, docker_host: str = "", settings: Mapping[str, str] | None = None
    ) -> None:
        self._settings = dict(settings or {})
        self.state = state
        self._facts_file = state / "stack.json"
        self._storagehub = BackgroundProcess("storagehub", state)
        self._service = BackgroundProcess("service", state)
        self._docker_host = docker_host
        self.swarm = None if docker_host else LocalSwarm(state / "swarm", internet=True)

    @property
    def is_up(self) -> bool:
        """Whether StorageHub and service run."""
        return None not in (self._storagehub.pid, self._service.pid) and self._facts_file.exists()

    @property
    def service_environment(self) -> dict[str, str] | None:
        """The environment of the service that runs, or None."""
        return self._service.environment

    def up(self) -> dict[str, str]:
        """Start everything, unless it is up already.

        Returns:
            What there is to know: ``service``, ``service_pid``, ``storagehub``, ``token``, ``item``
            and ``state``.
        """
        self.state.mkdir(parents=True, exist_ok=True)
        if self.is_up:
            return dict(json.loads(self._facts_file.read_text()))
        self._stop_programs()  # one of them may have been left over
        address = "127.0.0.1"
        if self.swarm:
            print("Starting a private Docker engine with a one-node Swarm ...", flush=True)
            self.swarm.start()
            self._docker_host = self.swarm.docker_host
            address = self.swarm.host_address
            print(
                "Building the example images and pushing them to the local registry ...", flush=True
            )
            _publish_examples(self.swarm)
        print("Starting the embedded StorageHub and the service ...", flush=True)
        storagehub, item = self._start_storagehub(address)
        service = self._start_service(storagehub, address)
        facts = {
            "service": service,
            "service_pid": str(self._service.pid),
            "storagehub": storagehub,
            "token": TOKEN,
            "item": item,
            "state": str(self.state),
        }
        self._facts_file.write_text(json.dumps(facts, indent=1))
        return facts

    def down(self) -> None:
        """Stop everything; jobs, workspaces and images stay in the folder."""
        self._stop_programs()
        # Without root, no private Swarm can have been started here, unless its folder says so.
        if self.swarm and (os.geteuid() == 0 or self.swarm.state.exists()):
            self.swarm.stop()

    def purge(self) -> None:
        """Stop everything and delete the folder."""
        self.down()
        if self.swarm:
            self.swarm.purge()
        shutil.rmtree(self.state)

    def _stop_programs(self) -> None:
        self._service.stop()
        self._storagehub.stop()
        self._facts_file.unlink(missing_ok=True)

    def _start_storagehub(self, address: str) -> tuple[str, str]:
        folder, users = self.state / "storagehub", self.state / "users.toml"
        users.write_text(
            f'[[users]]\nname = "{USER}"\nfullname = "Demo User"\ntokens = ["{TOKEN}"]\n'
            'vre = "/d4science.research-infrastructures.eu/D4Research/AnalyticsLab"\n'
        )
        port = _free_port(address, _STORAGEHUB_PORT)
        url = f"http://{address}:{port}"
        with LocalStorageHub(folder, users, (f"{address}:0",), url) as hub:
            item = hub.seed(USER, SAMPLE.name, SAMPLE.read_bytes())
        self._storagehub.start(
            [
                *(_die(), "local-storagehub", "--folder", folder, "--users", users),
                *("--listen", f"{address}:{port}", "--url", url),
            ],
            {},
            lambda: _answers(url),
        )
        if self.swarm:
            # The original example image looks for StorageHub at registry.d4science.org, port 80.
            self.swarm.forward_port(80, to=port)
        return f"{url}/storagehub/workspace", item

    def _start_service(self, storagehub: str, address: str) -> str:
        listen = f"127.0.0.1:{_free_port('127.0.0.1', _PORT)}"
        self._service.start(
            [_die(), "serve"],
            {
                "DIE_URL": f"http://{listen}",
                "DIE_LISTEN": listen,
                "DIE_DATA_DIR": str(self.state / "service"),
                "DIE_STORAGEHUB_URL": storagehub,
                "DIE_DOCKER_HOST": self._docker_host,
                "DIE_DOCKER_HUB_URL": self.swarm.registry_url if self.swarm else "engine",
                "DIE_EXTRA_HOSTS": f"registry.d4science.org:{address}",
                **self._settings,
            },
            lambda: _answers(f"http://{listen}/ready"),
        )
        return f"http://{listen}/wps/WebProcessingService"


def demo(stack: LocalStack) -> None:
    """Run one job as a client would and show what comes of it."""
    was_up = stack.is_up
    try:
        facts = stack.up()
        began = time.monotonic()
        print(
            "\nThe contract: the container gets  sortapp <token> <file-item-id> <temp-dir-item-id>"
        )
        print(f"Sending an asynchronous Execute to {facts['service']} ...")
        execute = demo_client.execute_url(
            facts["service"], facts["token"], IMAGE, "sortapp", facts["item"]
        )
        address, result = demo_client.run(execute, facts["token"], print)
        print(
            f"Done in {time.monotonic() - began:.1f} s. The result, {len(result)} bytes: {address}"
        )
        target = REPOSITORY / ".die" / "result.zip"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(result)
        _show(demo_client.files_in(result))
        print(
            f"\nThe zip is kept as {target.relative_to(REPOSITORY)}; logs, workspaces and the engine's "
            f"images are in {stack.state.relative_to(REPOSITORY)}.\n'make serve' keeps everything up "
            "and prints how to use it."
        )
    finally:
        if not was_up:
            with _uninterrupted():
                stack.down()


def _show(files: dict[str, str]) -> None:
    before = SAMPLE.read_text().split()
    for name, text in files.items():
        lines = text.split()
        print(f"\n  {SAMPLE.name:<24}{name}")
        for old, new in list(zip(before, lines, strict=False))[:_SHOWN_LINES]:
            print(f"  {old:<24}{new}")
        print(f"  {'...':<24}...  ({len(lines)} lines)")
        if lines != sorted(before):
            raise RuntimeError("The result is not the sorted file.")


def serve(stack: LocalStack) -> None:
    """Start everything and say how to use it."""
    try:
        facts = stack.up()
    except BaseException:
        with _uninterrupted():
            stack.down()
        raise
    execute = demo_client.execute_url(facts["service"], TOKEN, IMAGE, "sortapp", facts["item"])
    print(f"\nThe service is up: {facts['service']}?service=WPS&request=GetCapabilities")
    print(f"Demo user's token: {TOKEN}\nA file of hers:    {facts['item']}  ({SAMPLE.name})")
    print(
        f"\nAn Execute to paste:\n\n  curl '{execute}'\n\nLogs are in .die; 'make stop' ends it all."
    )


def doctor(stack: LocalStack, *options: str) -> int:
    """Let ``die doctor`` look at what the running service uses, else at this shell's settings.

    Args:
        stack: the service's.
        options: more words for ``die doctor``.

    Returns:
        its exit code.
    """
    environment = stack.service_environment
    if environment is None:
        print("No local stack is up here; these are the defaults and the DIE_* of your shell.")
    else:
        print("This is what the service that runs here uses.")
    sys.stdout.flush()
    return subprocess.run([_die(), "doctor", *options], env=environment, check=False).returncode


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let a second Ctrl-C pass, here and in the programs called: clean-up ends by itself."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _publish_examples(swarm: LocalSwarm) -> None:
    environment = {**os.environ, "DOCKER_HOST": swarm.docker_host}
    subprocess.run([REPOSITORY / "scripts" / "python_base_image"], check=True, env=environment)
    for folder, image in ((SORTAPP, IMAGE), (PROBE, PROBE_IMAGE)):
        swarm.build(folder, image, {})
        swarm.push(image, image)


def _die() -> Path:
    return Path(sys.executable).with_name("die")


def _free_port(address: str, wanted: int) -> int:
    """The wanted port if it is free, else any."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise RuntimeError(f"No port is free on {address}.")


def _answers(url: str) -> bool:
    """Whether a server is there and content."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own servers
            return bool(answer.status == 200)
    except urllib.error.HTTPError as error:
        return error.code < 500
    except OSError:
        return False


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="The whole service on this machine.")
    parser.add_argument("command", choices=["demo", "serve", "stop", "doctor"])
    parser.add_argument("--probe", action="store_true", help="with doctor")
    parser.add_argument("--state", type=Path, default=REPOSITORY / ".die", metavar="FOLDER")
    arguments = parser.parse_args()
    stack = LocalStack(arguments.state)
    try:
        if arguments.command == "doctor":
            return doctor(stack, *(["--probe"] if arguments.probe else []))
        with folder_lock(stack.state, _WAITING):
            {"demo": demo, "serve": serve, "stop": LocalStack.down}[arguments.command](stack)
    except (DieError, RuntimeError, subprocess.CalledProcessError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return _INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
