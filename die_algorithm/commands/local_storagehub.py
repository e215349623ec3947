"""``die local-storagehub``: the embedded StorageHub."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from die_algorithm.commands.program import allow_many_files, begin_program, end_of_program
from die_algorithm.errors import DieError
from die_algorithm.local_storagehub.server import LocalStorageHub

LOGGER = logging.getLogger(__name__)


@click.command("local-storagehub")
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
    help='TOML file of the users and their tokens: for each a table [[users]] with name = "me", tokens = '
    '["…"] and, if you like, fullname = "…" and vre = "/…".',
)
@click.option(
    "--listen",
    multiple=True,
    default=("127.0.0.1:8081",),
    show_default=True,
    help="ADDRESS:PORT; may be repeated.",
)
@click.option("--url", help="Its address as clients see it; without it, what they ask for.")
def command(folder: Path, users: Path, listen: tuple[str, ...], url: str | None) -> None:
    """Start the embedded StorageHub: workspaces on this machine's disk.

    It is for authors of images, who need no account then: the README's "Write an image" shows its use.
    """
    begin_program("storagehub")
    allow_many_files()
    hub = LocalStorageHub(folder, users, listen, url)
    try:
        hub.start()
    except DieError as error:
        raise click.ClickException(str(error)) from None
    LOGGER.info("The embedded StorageHub answers at %s.", hub.base_url)
    end_of_program().wait()
    hub.stop()
