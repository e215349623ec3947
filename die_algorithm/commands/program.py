"""What every long-running command does: read the settings, write the log, end when it is told to."""

from __future__ import annotations

import logging
import os
import resource
import signal
import sys
import threading
from pathlib import Path

import click

from die_algorithm.errors import SettingsError
from die_algorithm.settings import Settings

LOGGER = logging.getLogger(__name__)

#: Seconds after which a program ends, whatever hangs; the jobs' records stand a sudden end.
_END_BY = 28.0

config_option = click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A configuration file with a section [die]; without it PYWPS_CFG, if set. DIE_* in the "
    "environment overrides it.",
)


def load_settings(config: Path | None) -> Settings:
    """Read the settings.

    Raises:
        click.ClickException: they are wrong; says which.
    """
    try:
        return Settings.load(config)
    except SettingsError as error:
        raise click.ClickException(str(error)) from None


def log_to_stderr(program: str) -> None:
    """Log in lines that name the process: web and worker share a terminal or a journal."""
    logging.basicConfig(
        level=logging.INFO,
        format=f"%(asctime)s {program}[%(process)d] %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    # The libraries' own debug lines may hold URLs, and so tokens; Alembic's are about nothing.
    for name in ("urllib3", "docker", "PYWPS", "waitress.queue", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)


def end_of_program() -> threading.Event:
    """What SIGTERM or SIGINT sets."""
    end = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _signal, _frame: end.set())
    return end


def end_in_time(seconds: float = _END_BY) -> None:
    """End this process in some seconds, if it has not ended by itself."""

    def end() -> None:
        LOGGER.warning("Something hangs; the program ends without waiting for it.")
        logging.shutdown()
        os._exit(0)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def allow_many_files() -> None:
    """Hold as many connections as the machine allows; by default it is few, for old programs' sake."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
