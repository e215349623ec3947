"""The command ``die``: serve, look after the set-up, run the embedded StorageHub."""

from __future__ import annotations

import logging
import os
import resource
import signal
import sys
import threading
from pathlib import Path

import click

from die_algorithm import __version__, checks
from die_algorithm.errors import DieError, SettingsError
from die_algorithm.local_storagehub.server import LocalStorageHub
from die_algorithm.runtime import Runtime
from die_algorithm.server import service_server, stop_service
from die_algorithm.settings import Settings
from die_algorithm.web import WebApplication
from die_algorithm.worker_process import Supervisor, WorkerProcess

LOGGER = logging.getLogger(__name__)

#: Seconds after which the service ends, whatever hangs; the jobs' records stand a sudden end.
_END_BY = 28.0

_config = click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A configuration file with a section [die]; without it PYWPS_CFG, if set. DIE_* in the "
    "environment overrides it.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="die-algorithm", prog_name="die")
def main() -> None:
    """Run Docker images on files of a gCube workspace, as a WPS."""


@main.command()
@_config
@click.option(
    "--worker/--no-worker",
    "with_worker",
    default=True,
    show_default=True,
    help="Start a worker beside the WPS and keep it running. Without it, start 'die worker' yourself.",
)
def serve(config: Path | None, *, with_worker: bool) -> None:
    """Start the service: the WPS and its worker, a process each."""
    _log_to_stderr()
    _allow_many_files()
    settings = _settings(config)
    runtime = Runtime(lambda: settings, works_here=False)
    try:
        engine = runtime.engine
        server = service_server(settings, WebApplication(settings, runtime))
    except DieError as error:
        runtime.stop()
        raise click.ClickException(f"The service cannot start: {error}") from None
    worker = WorkerProcess(_worker_command(config), engine.notify) if with_worker else None
    if worker:
        worker.start()
        engine.on_submit = worker.wake
    LOGGER.info("Listening on %s; clients use %s.", ", ".join(settings.listen), settings.url)
    server.start()
    _wait_for_the_end()
    LOGGER.info("Stopping; jobs under way go on at the next start.")
    _end_by(_END_BY)
    if worker:
        worker.end()
    stop_service(server, runtime)
    if worker:
        worker.stop()
    LOGGER.info("Stopped.")


@main.command()
@_config
@click.option("--supervised", is_flag=True, hidden=True, help="Talk to 'die serve' over the pipes.")
def worker(config: Path | None, *, supervised: bool) -> None:
    """Start a worker alone: it carries jobs on, and is the only one that talks to the Swarm.

    Several may share one PostgreSQL database, each on a machine or in a data_dir of its own.
    """
    _log_to_stderr()
    settings = _settings(config)
    runtime = Runtime(lambda: settings)
    try:
        engine = runtime.engine
    except DieError as error:
        runtime.stop()
        raise click.ClickException(f"The worker cannot start: {error}") from None
    end = _end_of_service()
    if supervised:
        supervisor = Supervisor(engine.on_submit, end.set)
        engine.on_end = supervisor.tell
        supervisor.listen()
    end.wait()
    LOGGER.info("Stopping; jobs under way go on at the next start.")
    runtime.stop()


def _worker_command(config: Path | None) -> list[str]:
    command = [sys.executable, "-m", "die_algorithm", "worker", "--supervised"]
    return [*command, "--config", str(config)] if config else command


@main.command()
@_config
def doctor(config: Path | None) -> None:
    """Say what is missing for the service to work, and how to mend it."""
    settings = _settings(config)
    found = checks.doctor(settings)
    for check in found:
        sign = "ok  " if check.passed and not check.remedy else "warn" if check.passed else "FAIL"
        click.echo(f"{sign}  {check.name}: {check.text}")
        if check.remedy:
            click.echo(f"      {check.remedy}")
    if not all(check.passed for check in found):
        sys.exit(1)
    click.echo("The service can run jobs.")


@main.command("local-storagehub")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Where workspaces are kept; made if need be.",
)
@click.option(
    "--users",
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    required=True,
    help="TOML file of the users and their tokens.",
)
@click.option(
    "--listen",
    multiple=True,
    default=("127.0.0.1:8081",),
    show_default=True,
    help="ADDRESS:PORT; may be repeated.",
)
@click.option("--url", help="Its address as clients see it; without it, what they ask for.")
def local_storagehub(folder: Path, users: Path, listen: tuple[str, ...], url: str | None) -> None:
    """Start the embedded StorageHub: workspaces on this machine's disk."""
    _log_to_stderr()
    _allow_many_files()
    hub = LocalStorageHub(folder, users, listen, url)
    try:
        hub.start()
    except DieError as error:
        raise click.ClickException(str(error)) from None
    LOGGER.info("The embedded StorageHub answers at %s.", hub.base_url)
    _wait_for_the_end()
    hub.stop()


def _wait_for_the_end() -> None:
    """Return at SIGTERM or SIGINT."""
    _end_of_service().wait()


def _end_of_service() -> threading.Event:
    """What SIGTERM or SIGINT sets."""
    end = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _signal, _frame: end.set())
    return end


def _end_by(seconds: float) -> None:
    """End this process then, if it has not ended by itself."""

    def end() -> None:
        LOGGER.warning("Something hangs; the service ends without waiting for it.")
        logging.shutdown()
        os._exit(0)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def _allow_many_files() -> None:
    """Hold as many connections as the machine allows; by default it is few, for old programs' sake."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _settings(config: Path | None) -> Settings:
    try:
        return Settings.load(config)
    except SettingsError as error:
        raise click.ClickException(str(error)) from None


def _log_to_stderr() -> None:
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    # The libraries' own debug lines may hold URLs, and so tokens.
    for name in ("urllib3", "docker", "PYWPS", "waitress.queue"):
        logging.getLogger(name).setLevel(logging.WARNING)
