from __future__ import annotations

import copy
import logging
from pathlib import Path

import pytest
from pywps import configuration

from die_algorithm.errors import SettingsError
from die_algorithm.pywps_settings import PywpsSettings
from die_algorithm.settings import Settings


@pytest.fixture(autouse=True)
def _nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configuration, "CONFIG", None)


def load_into_pywps(folder: Path, *sections: str) -> None:
    """Let PyWPS load files, as ``Service`` does with its list of them."""
    paths = []
    for number, text in enumerate(sections):
        paths.append(folder / f"{number}.cfg")
        paths[-1].write_text(f"[server]\nworkdir={folder}\noutputpath={folder}\n{text}")
    configuration.load_configuration([str(path) for path in paths])


def loaded(folder: Path, *sections: str) -> Settings:
    load_into_pywps(folder, *sections)
    return PywpsSettings().load()


def test_the_files_of_a_list_count_together_and_the_last_one_most(tmp_path: Path) -> None:
    settings = loaded(tmp_path, "[die]\nmax_sync=3\nthreads=9\n", "[die]\nmax_sync=4\n")
    assert (settings.max_sync, settings.threads) == (4, 9)


def test_a_file_that_does_not_count_for_pywps_does_not_count(tmp_path: Path) -> None:
    load_into_pywps(tmp_path, "[die]\nmax_sync=3\n")
    configuration.load_configuration([])
    assert PywpsSettings().load().max_sync == Settings.load().max_sync


def test_the_environment_overrides_what_pywps_has_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIE_MAX_SYNC", "5")
    assert loaded(tmp_path, "[die]\nmax_sync=3\n").max_sync == 5


def test_other_variables_are_no_settings_though_pywps_mixes_them_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETWORK", "wrong")
    monkeypatch.setenv("MAX_SYNC", "5")
    settings = loaded(tmp_path, "[die]\nmax_sync=3\n")
    assert (settings.network, settings.max_sync) == ("", 3)


def test_values_are_taken_as_they_are_written(tmp_path: Path) -> None:
    settings = loaded(tmp_path, "[die]\ndatabase=postgresql+psycopg://die:$HOME%40x@db/die\n")
    assert settings.database == "postgresql+psycopg://die:$HOME%40x@db/die"


def test_results_go_where_pywps_puts_outputs_unless_the_settings_say_otherwise(
    tmp_path: Path,
) -> None:
    server = "url=http://wps\noutputurl=http://outputs/\n"
    settings = loaded(tmp_path, f"{server}[die]\nurl=http://die\n")
    assert (settings.url, settings.results_url) == ("http://wps", "http://outputs")
    assert settings.results_dir == tmp_path
    settings = loaded(tmp_path, f"{server}[die]\nresults_url=http://r\nresults_dir=/r\n")
    assert (settings.results_url, settings.results_dir) == ("http://r", Path("/r"))


def test_a_setting_that_does_not_exist_is_refused_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refused:
        loaded(tmp_path, "[die]\npolicyfile=x\n")
    assert str(refused.value) == (
        "The setting 'policyfile' does not exist (section [die] of the configuration that PyWPS has "
        "loaded)."
    )


def test_a_file_that_pywps_passes_over_because_it_cannot_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYWPS_CFG", str(tmp_path / "none.cfg"))
    with pytest.raises(SettingsError, match=r"none\.cfg cannot be read"):
        loaded(tmp_path, "[die]\nmax_sync=3\n")


def test_that_there_is_no_section_is_said_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "die_algorithm"):
        loaded(tmp_path, "[die]\n")
        assert caplog.messages == []
        loaded(tmp_path, "")
    assert "no configuration with a section [die]" in caplog.text


@pytest.mark.parametrize(
    "other",
    [
        pytest.param("[die]\nmax_sync=4\n", id="setting"),
        pytest.param("", id="no section"),
        pytest.param("url=http://other\n[die]\nmax_sync=3\n", id="address"),
    ],
)
def test_another_configuration_than_the_one_in_force_is_noticed(tmp_path: Path, other: str) -> None:
    load_into_pywps(tmp_path, "[die]\nmax_sync=3\n")
    settings = PywpsSettings()
    settings.load()
    # PyWPS copies the process, and so this, for each Execute; two Services may load the same files.
    of_a_copy = copy.deepcopy(settings)
    load_into_pywps(tmp_path, "[die]\nmax_sync=3\n")
    of_a_copy.check()
    load_into_pywps(tmp_path, other)
    with pytest.raises(SettingsError, match="Make the Service first"):
        of_a_copy.check()
