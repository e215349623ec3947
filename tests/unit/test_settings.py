from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from die_algorithm.errors import SettingsError
from die_algorithm.settings import Settings


def load(**environment: str) -> Settings:
    return Settings.load(environment=environment)


def refusal(**environment: str) -> str:
    with pytest.raises(SettingsError) as refused:
        load(**environment)
    return str(refused.value)


# -- where they come from


def test_without_any_configuration_everything_has_a_default() -> None:
    settings = load()
    assert settings.url == "http://127.0.0.1:8080"
    assert settings.run_deadline == timedelta(hours=24)
    assert settings.inline_limit == 7 * 1024 * 1024
    assert settings.listen == ("127.0.0.1:8080",)


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    file = tmp_path / "service.cfg"
    file.write_text(
        "[server]\nurl = x\n[die]\nURL = http://file\nrun_deadline = 2h\nnetwork = a%b\n"
    )
    settings = Settings.load(file, {"DIE_URL": "http://environment"})
    assert settings.url == "http://environment"
    assert settings.run_deadline == timedelta(hours=2)
    assert settings.network == "a%b"


def test_the_file_is_the_one_that_pywps_reads(tmp_path: Path) -> None:
    file = tmp_path / "service.cfg"
    file.write_text("[die]\nmax_sync = 3\n")
    assert load(PYWPS_CFG=str(file)).max_sync == 3


def test_a_file_without_our_section_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "service.cfg"
    file.write_text("[server]\nurl = x\n")
    assert Settings.load(file, {}) == load()


def test_an_empty_value_means_the_default() -> None:
    assert load(DIE_URL="", DIE_RUN_DEADLINE="") == load()


def test_other_variables_are_not_ours() -> None:
    # Kubernetes sets such names for every service that is called "die".
    assert load(DIE_SERVICE_HOST="10.0.0.1", URL="http://x", die_url="http://x") == load()


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load().url = "http://other"  # type: ignore[misc]


def test_each_setting_says_what_it_is() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.rstrip().endswith((".", ")")), name


# -- what they mean


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("500ms", timedelta(milliseconds=500)),
        ("30s", timedelta(seconds=30)),
        ("1.5h", timedelta(minutes=90)),
        ("10 m", timedelta(minutes=10)),
        (" 7d ", timedelta(days=7)),
    ],
)
def test_a_duration_has_a_unit(text: str, duration: timedelta) -> None:
    assert load(DIE_RUN_DEADLINE=text).run_deadline == duration


@pytest.mark.parametrize(
    "text",
    [
        "30",
        "0s",
        "0.0h",
        "-1s",
        "1w",
        "s",
        "1 s s",
        "1e3s",
        "nan",
        "inf",
        "٣s",
        "9" * 30 + "d",
        "1000000000d",
    ],
)
def test_a_duration_without_sense_is_refused(text: str) -> None:
    assert "'run_deadline'" in refusal(DIE_RUN_DEADLINE=text)


@pytest.mark.parametrize(("text", "size"), [("64KiB", 65536), ("2GiB", 2 << 30), ("100", 100)])
def test_a_size_may_have_a_unit(text: str, size: int) -> None:
    assert load(DIE_MEMORY_LIMIT=text).memory_limit == size


def test_lists_are_separated_by_commas() -> None:
    settings = load(
        DIE_LISTEN="127.0.0.1:8080, [::1]:80,localhost:0,",
        DIE_EXTRA_HOSTS="hub.example:10.0.0.1,six:fe80::1",
        DIE_PLACEMENT="node.role==worker, node.labels.die==jobs",
    )
    assert settings.listen == ("127.0.0.1:8080", "[::1]:80", "localhost:0")
    assert settings.extra_hosts == ("hub.example:10.0.0.1", "six:fe80::1")
    assert settings.placement == ("node.role==worker", "node.labels.die==jobs")


def test_a_slash_at_the_end_of_an_address_does_not_count() -> None:
    settings = load(DIE_URL="https://x/die/", DIE_STORAGEHUB_URL="https://hub/workspace//")
    assert settings.url == "https://x/die"
    assert settings.storagehub_url == "https://hub/workspace"


def test_what_depends_on_other_settings_follows_them(tmp_path: Path) -> None:
    settings = load(
        DIE_DATA_DIR=str(tmp_path), DIE_URL="https://x", DIE_STORAGEHUB_URL="https://hub/workspace"
    )
    assert settings.database_url == f"sqlite:///{tmp_path}/jobs.sqlite"
    assert settings.results_path == tmp_path / "results"
    assert settings.results_base_url == "https://x/results"
    assert settings.storagehub_url_in_containers == "https://hub/workspace"
    other = load(
        DIE_DATA_DIR=str(tmp_path),
        DIE_DATABASE="postgresql://db/die",
        DIE_RESULTS_DIR="/r",
        DIE_RESULTS_URL="https://files/",
        DIE_CONTAINER_STORAGEHUB_URL="http://inside/workspace",
    )
    assert other.database_url == "postgresql://db/die"
    assert other.results_path == Path("/r")
    assert other.results_base_url == "https://files"
    assert other.storagehub_url_in_containers == "http://inside/workspace"


# -- what is refused


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("url", "example.org"),
        ("url", "ftp://example.org"),
        ("url", "http://example.org/?a=b"),
        ("url", "http://exa mple"),
        ("url", "http://x\nhttp://y"),
        ("storagehub_url", "http:///workspace"),
        ("listen", "8080"),
        ("listen", "127.0.0.1"),
        ("listen", "127.0.0.1:99999"),
        ("listen", "::1:80"),
        ("listen", ","),
        ("extra_hosts", "hub.example"),
        ("extra_hosts", "hub:x y"),
        ("storagehub_auth", "cookie"),
        ("memory_limit", "much"),
        ("memory_limit", "-1"),
        ("cpu_limit", "0"),
        ("cpu_limit", "-1"),
        ("cpu_limit", "nan"),
        ("cpu_limit", "inf"),
        ("pids_limit", "0"),
        ("pids_limit", "1.5"),
        ("max_sync", "0"),
        ("transfers", "none"),
        ("threads", "3"),
    ],
)
def test_a_wrong_value_is_refused_by_the_settings_name(name: str, value: str) -> None:
    assert f"'{name}'" in refusal(**{f"DIE_{name.upper()}": value})


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    file = tmp_path / "service.cfg"
    file.write_text("[die]\nurll = http://x\nmax_sync = 0\n")
    with pytest.raises(SettingsError) as refused:
        Settings.load(file, {})
    assert "The setting 'urll' does not exist." in str(refused.value)
    assert "'max_sync' = '0' is wrong" in str(refused.value)


@pytest.mark.parametrize("content", [b"no section", b"[die]\nx\n", b"[die]\nurl = \xff\n", None])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "service.cfg"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match=r"service\.cfg cannot be read"):
        Settings.load(file, {})


@given(st.sampled_from(sorted(Settings.model_fields)), st.text())
def test_any_value_is_taken_or_refused(name: str, value: str) -> None:
    try:
        settings = load(**{f"DIE_{name.upper()}": value})
    except SettingsError as error:
        assert name in str(error)  # noqa: PT017 - both ends are right
    else:
        assert isinstance(settings, Settings)


def test_waiting_requests_must_leave_threads_for_others() -> None:
    with pytest.raises(SettingsError, match="'max_sync' = 32 must be less than 'threads' = 32"):
        Settings.load(environment={"DIE_THREADS": "32"})
