"""What the README claims about the settings is what they are."""

from __future__ import annotations

import sys
from pathlib import Path

from die_algorithm.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))


def test_the_settings_table_is_that_of_the_settings() -> None:
    from settings_table import with_table

    readme = (ROOT / "README.md").read_text()
    assert readme == with_table(readme), "run: make docs"
    for name in Settings.model_fields:
        assert f"| `{name}` |" in readme


def test_the_shipped_configuration_file_is_right() -> None:
    settings = Settings.load(ROOT / "pywps.cfg", environment={})
    assert settings.storagehub_url == "https://api.d4science.org/workspace"
