"""``die doctor``: what is missing, and how to mend it."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from die_algorithm.check import Level
from die_algorithm.commands.program import config_option, load_configuration
from die_algorithm.doctor import examine, probe_nodes

_SIGNS = {Level.OK: "ok  ", Level.WARN: "warn", Level.FAIL: "FAIL"}


@click.command("doctor")
@config_option
@click.option(
    "--probe",
    is_flag=True,
    help="Also run a container on each node that looks from inside at what jobs can do and reach.",
)
def command(config: Path | None, *, probe: bool) -> None:
    """Say what is missing for the service to work, and how to mend it."""
    configuration = load_configuration(config)
    settings, policy = configuration.settings, configuration.policy()
    found = examine(settings, policy)
    if probe:
        found += probe_nodes(settings, policy.containers)
    for check in found:
        click.echo(f"{_SIGNS[check.level]}  {check.name}: {check.text}")
        if check.remedy:
            click.echo(f"      {check.remedy}")
    if not all(check.passed for check in found):
        sys.exit(1)
    click.echo("The service can run jobs.")
