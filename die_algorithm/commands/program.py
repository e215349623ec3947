"""What every long-running command does: read the settings, write the log, end when it is told to."""

from __future__ import annotations

import ctypes
import logging
import os
import resource
import signal
import sys
import threading
from pathlib import Path
from types import TracebackType

import click

from die_algorithm.configuration import Configuration
from die_algorithm.errors import SettingsError
from die_algorithm.job_in_hand import JobMark
from die_algorithm.token_mask import TokenMask

LOGGER = logging.getLogger(__name__)

#: Seconds after which a program ends, whatever hangs; the jobs' records stand a sudden end.
_END_BY = 28.0
#: ``PR_SET_DUMPABLE`` of Linux' ``prctl``.
_SET_DUMPABLE = 4

config_option = click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A configuration file with a section [die]; without it PYWPS_CFG, if set. DIE_* in the "
    "environment overrides it.",
)


def load_configuration(config: Path | None) -> Configuration:
    """Read the settings and the policy.

    Raises:
        click.ClickException: something in them is wrong; says what.
    """
    try:
        return Configuration.load(config)
    except SettingsError as error:
        raise click.ClickException(str(error)) from None


def begin_program(program: str) -> TokenMask:
    """Set the log up, and keep tokens in: what every program does first.

    Args:
        program: its name in the log.

    Returns:
        What masks tokens in the log; to be told of those that the program learns.
    """
    mask = TokenMask()
    _log_to_stderr(program, mask)
    _log_last_words()
    _keep_memory_in()
    return mask


def _log_to_stderr(program: str, mask: TokenMask) -> None:
    """Log in lines that name the process: web and worker share a terminal or a journal."""
    handler = logging.StreamHandler(sys.stderr)
    # Of the handler, not of a logger: they see what the libraries log as well.
    handler.addFilter(JobMark())
    handler.addFilter(mask)
    logging.basicConfig(
        level=logging.INFO,
        format=f"%(asctime)s {program}[%(process)d] %(levelname)s %(name)s: %(message)s",
        handlers=[handler],
    )
    logging.captureWarnings(True)
    # The libraries' own debug lines may hold URLs, and so tokens; Alembic's are about nothing.
    for name in ("urllib3", "docker", "PYWPS", "waitress.queue", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _log_last_words() -> None:
    """Let what nobody has caught go to the log, where it is masked, and not to stderr as it is."""

    def of_program(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, traceback)
        else:
            LOGGER.critical("The program ends in an unforeseen way.", exc_info=error)

    def of_thread(caught: threading.ExceptHookArgs) -> None:
        LOGGER.critical("A thread has ended in an unforeseen way.", exc_info=caught.exc_value)

    def of_nobody(caught: sys.UnraisableHookArgs) -> None:
        LOGGER.error("Something could not be raised.", exc_info=caught.exc_value)

    sys.excepthook, threading.excepthook, sys.unraisablehook = of_program, of_thread, of_nobody


def _keep_memory_in() -> None:
    """Leave no core dump, and let no other process of the same user look into the memory.

    The limit is for dumps into files; those into pipes do not ask for it.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_SET_DUMPABLE, 0, 0, 0, 0)


def end_of_program() -> threading.Event:
    """What SIGTERM or SIGINT sets."""
    end = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _signal, _frame: end.set())
    return end


def end_in_time(seconds: float = _END_BY, code: int = 0) -> None:
    """End this process in some seconds, if it has not ended by itself.

    Args:
        seconds: so many.
        code: what it ends with then.
    """

    def end() -> None:
        LOGGER.warning("Something hangs; the program ends without waiting for it.")
        logging.shutdown()
        os._exit(code)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def allow_many_files() -> None:
    """Hold as many connections as the machine allows; by default it is few, for old programs' sake."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
