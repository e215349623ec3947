"""The private Swarm's command line, for Makefiles: ``python -m die_algorithm.local_swarm``."""

from __future__ import annotations

from pathlib import Path

import click

from die_algorithm.errors import LocalSwarmError
from die_algorithm.local_swarm import LocalSwarm


@click.command()
@click.argument("action", type=click.Choice(["start", "stop", "status", "purge"]))
@click.option(
    "--state",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of its images, registry and logs.",
)
@click.option("--internet", is_flag=True, help="Let it reach the outside.")
def main(action: str, state: Path, internet: bool) -> None:
    """Start, stop or purge the private Swarm of a state folder, or tell its status.

    start and status print its addresses as NAME=value lines; status exits with 3 if it does not
    run; purge stops it and deletes the folder.
    """
    swarm = LocalSwarm(state, internet=internet)
    try:
        _act(swarm, action)
    except LocalSwarmError as error:
        raise click.ClickException(str(error)) from None


def _act(swarm: LocalSwarm, action: str) -> None:
    if action == "start":
        swarm.start()
    elif action == "stop":
        swarm.stop()
    elif action == "purge":
        swarm.purge()
    elif not swarm.is_running:
        click.echo("not running")
        raise SystemExit(3)
    if action in {"start", "status"}:
        click.echo(f"DOCKER_HOST={swarm.docker_host}")
        click.echo(f"HOST_ADDRESS={swarm.host_address}")


if __name__ == "__main__":
    main()
