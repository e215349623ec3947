"""The command ``die``."""

from __future__ import annotations

import importlib

import click

from die_algorithm import __version__

#: Each command's module.
_COMMANDS = {
    "doctor": "doctor",
    "local-storagehub": "local_storagehub",
    "serve": "serve",
    "worker": "worker",
}


class _CommandsOnDemand(click.Group):
    """Loads a command's module when it is called, or when help is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"die_algorithm.commands.{_COMMANDS[cmd_name]}")
        command = module.command
        if not isinstance(command, click.Command):
            raise TypeError(f"{module.__name__} has no command")
        return command


@click.group(cls=_CommandsOnDemand, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="die-algorithm", prog_name="die")
def main() -> None:
    """Run Docker images on files of a gCube workspace, as a WPS."""
