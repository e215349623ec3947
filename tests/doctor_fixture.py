"""The doctor, asked as an operator asks it."""

from __future__ import annotations

from click.testing import CliRunner

from die_algorithm.cli import main


def ask_doctor(**settings: object) -> tuple[int, str]:
    """Exit code and words of the doctor; settings as in a file. Without an address nobody is asked."""
    settings = {"docker_hub_url": "engine", "storagehub_url": "http://127.0.0.1:9", **settings}
    environment = {f"DIE_{name.upper()}": str(value) for name, value in settings.items()}
    result = CliRunner().invoke(main, ["doctor"], env=environment)
    assert "Traceback" not in result.output
    return result.exit_code, result.output
