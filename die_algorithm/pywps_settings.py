"""The settings in a PyWPS service of somebody's own: those of the configuration that PyWPS has loaded.

PyWPS takes its files from the list that ``Service`` is given, from ``PYWPS_CFG``, or from
``/etc/pywps.cfg`` and ``~/.pywps.cfg``, and merges them (``load_configuration`` of PyWPS 4.8). It is asked
what it has made of them, so it does not matter which way they came.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path

from pywps import configuration

from die_algorithm.errors import SettingsError
from die_algorithm.settings import SECTION, Settings

LOGGER = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Loaded:
    """What of PyWPS's configuration is used."""

    url: str
    output_path: str
    output_url: str
    #: As it is written; None if there is none.
    section: Mapping[str, str] | None


class PywpsSettings:
    """Reads the settings, and notices if PyWPS goes by others later. Stays the same when copied."""

    def __init__(self) -> None:
        self._loaded: _Loaded | None = None

    def __deepcopy__(self, _memo: object) -> PywpsSettings:
        return self

    def load(self) -> Settings:
        """The settings, with results where PyWPS puts outputs.

        Raises:
            SettingsError: a setting is unknown or wrong.
        """
        loaded = self._loaded = _loaded()
        if loaded.section is None:
            LOGGER.warning(
                "PyWPS has loaded no configuration with a section [%s]: what the environment does not set "
                "has its default.",
                SECTION,
            )
        settings = Settings.load(pywps_section=loaded.section)
        changes: dict[str, object] = {"url": loaded.url}
        if settings.results_dir is None:
            changes["results_dir"] = Path(loaded.output_path).absolute()
        if not settings.results_url:
            changes["results_url"] = loaded.output_url.rstrip("/")
        return settings.model_copy(update=changes)

    def check(self) -> None:
        """See that PyWPS still goes by what was loaded.

        Raises:
            SettingsError: it does not.
        """
        if _loaded() != self._loaded:
            raise SettingsError(
                "PyWPS has loaded another configuration since the jobs' engine was started. Make the Service "
                "first, and only then call the process's start()."
            )


def _loaded() -> _Loaded:
    return _Loaded(
        url=_server("url"),
        output_path=_server("outputpath"),
        output_url=_server("outputurl"),
        section=_section(),
    )


def _server(name: str) -> str:
    return str(configuration.get_config_value("server", name))


def _section() -> dict[str, str] | None:
    if not configuration.CONFIG.has_section(SECTION):
        return None
    parser = copy.deepcopy(configuration.CONFIG)
    # PyWPS makes all of the environment every section's defaults; of that, settings know DIE_* alone.
    parser.defaults().clear()
    # As `die serve` reads it: PyWPS would put variables in where a password has a $ or %.
    return dict(parser.items(SECTION, raw=True))
