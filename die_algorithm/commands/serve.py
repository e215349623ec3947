"""``die serve``: the WPS, and its worker as a process beside it."""

from __future__ import annotations

import logging
import sys
from datetime import timedelta
from pathlib import Path

import click

from die_algorithm.commands.memory import share_memory
from die_algorithm.commands.program import (
    allow_many_files,
    begin_program,
    config_option,
    end_in_time,
    end_of_program,
    load_configuration,
)
from die_algorithm.errors import DieError
from die_algorithm.runtime import Runtime
from die_algorithm.server import service_server, stop_service
from die_algorithm.web import WebApplication
from die_algorithm.worker_process import WorkerProcess

LOGGER = logging.getLogger(__name__)

#: A worker on a busy machine is silent for a while, however short its lease is.
_LEAST_SILENCE = timedelta(seconds=10)
_WORKER = (sys.executable, "-m", "die_algorithm", "worker", "--supervised")


@click.command("serve")
@config_option
@click.option(
    "--worker/--no-worker",
    "with_worker",
    default=True,
    show_default=True,
    help="Start a worker beside the WPS and keep it running. Without it, start 'die worker' yourself.",
)
def command(config: Path | None, *, with_worker: bool) -> None:
    """Start the service: the WPS and its worker, a process each."""
    share_memory()
    mask = begin_program("web")
    allow_many_files()
    configuration = load_configuration(config)
    settings = configuration.settings
    runtime = Runtime(lambda: settings, works_here=False, mask=mask, policy=configuration.policy())
    try:
        engine = runtime.engine
        server = service_server(settings, WebApplication(settings, runtime))
    except DieError as error:
        runtime.stop()
        raise click.ClickException(f"The service cannot start: {error.for_operator}") from None
    worker = None
    if with_worker:
        # By then its lease has run out, and another one could have its jobs.
        silence = max(2 * settings.worker_lease, _LEAST_SILENCE)
        worker = WorkerProcess(_WORKER, configuration.handed_over(), engine.notify, silence)
    if worker:
        worker.start()
        engine.on_submit = worker.wake
    LOGGER.info("Listening on %s; clients use %s.", ", ".join(settings.listen), settings.url)
    server.start()
    end_of_program().wait()
    LOGGER.info("Stopping; jobs under way go on at the next start.")
    end_in_time()
    if worker:
        worker.end()
    stop_service(server, runtime)
    if worker:
        worker.stop()
    LOGGER.info("Stopped.")
