"""``die worker``: what carries the jobs on, alone."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import click

from die_algorithm.commands.program import (
    begin_program,
    config_option,
    end_in_time,
    end_of_program,
    load_configuration,
)
from die_algorithm.configuration import Configuration
from die_algorithm.errors import DieError, SettingsError
from die_algorithm.runtime import Runtime
from die_algorithm.worker_process import Supervisor, read_handed_over

LOGGER = logging.getLogger(__name__)

#: Seconds that steps get to end in good order. One that hangs, because StorageHub does, must not keep
#: the place from the next worker, when there is no web process any more that would kill this one.
_STEPS_END_BY = 5.0
#: Seconds between two looks whether the worker still works.
_LOOK_AGAIN = 2.0


@click.command("worker")
@config_option
@click.option(
    "--supervised",
    type=int,
    hidden=True,
    help="Talk to 'die serve' over the pipes; what it has read at its start is behind this descriptor.",
)
def command(config: Path | None, *, supervised: int | None) -> None:
    """Start a worker alone: it carries jobs on, and is the only one that talks to the Swarm.

    Several may share one PostgreSQL database, each on a machine or in a data_dir of its own.
    """
    mask = begin_program("worker")
    configuration = load_configuration(config) if supervised is None else _taken_over(supervised)
    settings = configuration.settings
    runtime = Runtime(lambda: settings, mask=mask, policy=configuration.policy())
    try:
        engine = runtime.engine
    except DieError as error:
        runtime.stop()
        raise click.ClickException(f"The worker cannot start: {error.for_operator}") from None
    end = end_of_program()
    if supervised is not None:
        supervisor = Supervisor(engine.on_submit, end.set)
        engine.on_end = supervisor.tell
        supervisor.listen()
    while not (lost := runtime.has_lost_worker()) and not end.wait(_LOOK_AGAIN):
        pass
    if lost:
        again = "Start it again." if supervised is None else "'die serve' starts it again."
        LOGGER.error("The worker has stopped working; its process ends. %s", again)
    else:
        LOGGER.info("Stopping; jobs under way go on at the next start.")
    end_in_time(_STEPS_END_BY, int(lost))
    runtime.stop()
    sys.exit(int(lost))


def _taken_over(descriptor: int) -> Configuration:
    try:
        return Configuration.taken_over(read_handed_over(descriptor))
    except SettingsError as error:
        raise click.ClickException(f"The worker cannot start: {error}") from None
