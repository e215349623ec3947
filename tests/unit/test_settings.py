from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from die_algorithm.errors import SettingsError
from die_algorithm.models import Deadlines
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


def test_the_file_of_a_pywps_service_may_do_without_our_section(tmp_path: Path) -> None:
    file = tmp_path / "service.cfg"
    file.write_text("[server]\nurl = x\n")
    assert load(PYWPS_CFG=str(file)) == load()


def test_a_file_that_was_named_must_have_our_section(tmp_path: Path) -> None:
    file = tmp_path / "service.cfg"
    file.write_text("[server]\nurl = x\n")
    with pytest.raises(SettingsError, match=r"service\.cfg has no section \[die\]"):
        Settings.load(file, {"PYWPS_CFG": str(file)})


def test_an_empty_value_means_the_default() -> None:
    assert load(DIE_URL="", DIE_RUN_DEADLINE="") == load()


def test_other_variables_are_not_ours() -> None:
    assert load(DIE_CACHE="/c", URL="http://x", die_url="http://x", DIED="y") == load()


@pytest.mark.parametrize("service", ["DIE", "DIE_SERVICE", "DIE_DB"])
def test_what_kubernetes_sets_for_a_service_called_die_is_not_ours(service: str) -> None:
    variables = {
        f"{service}_SERVICE_HOST": "10.0.0.1",
        f"{service}_SERVICE_PORT": "80",
        f"{service}_SERVICE_PORT_HTTP": "80",
        f"{service}_PORT": "tcp://10.0.0.1:80",
        f"{service}_PORT_80_TCP_ADDR": "10.0.0.1",
    }
    assert load(**variables) == load()
    del variables[f"{service}_SERVICE_HOST"]
    assert f"'{service}_PORT'" in refusal(**variables)


@pytest.mark.parametrize("name", ["DIE_FOO", "DIE_url", "DIE_MEMORYLIMIT", "DIE_"])
@pytest.mark.parametrize("value", ["x", ""])
def test_a_variable_that_is_no_setting_is_refused(name: str, value: str) -> None:
    expected = f"The setting '{name}' does not exist (environment variable {name})."
    assert refusal(**{name: value}) == expected


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
        "36501d",
    ],
)
def test_a_duration_without_sense_is_refused(text: str) -> None:
    assert "'run_deadline'" in refusal(DIE_RUN_DEADLINE=text)


@pytest.mark.parametrize(("text", "size"), [("64KiB", 65536), ("2GiB", 2 << 30), ("100", 100)])
def test_a_size_may_have_a_unit(text: str, size: int) -> None:
    assert load(DIE_LOG_TAIL=text).log_tail == size


@pytest.mark.parametrize("text", ["much", "-1", "1,5GiB", "64KiB/s", "2 XB", "1 2", "nan", ""])
def test_a_size_without_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="bytes, or one with a unit: 64KiB, 2GiB"):
        Settings(memory_limit=text)


@pytest.mark.parametrize("text", ["9" * 400, "9" * 400 + "KiB", "8192PiB", "8 EiB"])
def test_a_size_that_no_engine_can_count_is_refused(text: str) -> None:
    assert "'memory_limit'" in refusal(DIE_MEMORY_LIMIT=text)


@pytest.mark.parametrize(
    "address",
    [
        "unix:///var/run/docker.sock",
        "unix:///with a space/docker.sock",
        "tcp://manager.example:2375",
        "tcp://[::1]:2375",
    ],
)
def test_an_engine_is_reached_in_two_ways(address: str) -> None:
    assert load(DIE_DOCKER_HOST=address).docker_host == address


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
    assert settings.key_path == tmp_path / "token.key"
    assert settings.results_path == tmp_path / "results"
    assert settings.results_base_url == "https://x/results"
    assert settings.storagehub_url_in_containers == "https://hub/workspace"
    other = load(
        DIE_DATA_DIR=str(tmp_path),
        DIE_DATABASE="postgresql://db/die",
        DIE_KEY_FILE="/k",
        DIE_RESULTS_DIR="/r",
        DIE_RESULTS_URL="https://files/",
        DIE_CONTAINER_STORAGEHUB_URL="http://inside/workspace",
    )
    assert other.database_url == "postgresql://db/die"
    assert other.key_path == Path("/k")
    assert other.results_path == Path("/r")
    assert other.results_base_url == "https://files"
    assert other.storagehub_url_in_containers == "http://inside/workspace"


def test_an_installation_without_a_name_is_called_after_its_address() -> None:
    first, again, other = (load(DIE_URL=url) for url in ("http://a", "http://a/", "http://b"))
    assert first.instance_name == again.instance_name != other.instance_name
    assert load(DIE_INSTANCE=first.instance_name).instance_name == first.instance_name
    assert load(DIE_URL="http://a", DIE_INSTANCE="die.prod-1_a").instance_name == "die.prod-1_a"


def test_an_installation_without_a_name_is_told_from_others_by_its_database() -> None:
    def name(database: str, url: str = "http://a") -> str:
        return load(DIE_URL=url, DIE_DATABASE=database).instance_name

    first = name("postgresql://die:secret@db/die")
    assert first == name("postgresql://die:another@db/die?connect_timeout=5")
    assert first != name("postgresql://die:secret@db/other")
    assert first != name("postgresql://die:secret@db2/die")
    here, again, there = (load(DIE_DATA_DIR=path).instance_name for path in ("/a", "/a", "/b"))
    assert here == again != there


def test_the_deadlines_of_a_job_are_those_of_the_settings() -> None:
    settings = load(DIE_START_DEADLINE="1m", DIE_RUN_DEADLINE="2h", DIE_TOTAL_DEADLINE="3d")
    assert settings.deadlines == Deadlines(
        start=timedelta(minutes=1), run=timedelta(hours=2), total=timedelta(days=3)
    )


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("10.0.0.1, 10.0.0.0/8", ["10.0.0.1/32", "10.0.0.0/8"]),
        ("::1, fd00::/8, ::/0", ["::1/128", "fd00::/8", "::/0"]),
        # As a listener for IPv6 sees who comes by IPv4.
        ("::ffff:10.0.0.1", ["10.0.0.1/32"]),
        ("::ffff:10.0.0.0/104, ::ffff:0:0/96", ["10.0.0.0/8", "0.0.0.0/0"]),
    ],
)
def test_a_network_of_ipv4_is_one_though_ipv6_wraps_it(written: str, read: list[str]) -> None:
    proxies = load(DIE_TRUSTED_PROXIES=written).trusted_proxies
    assert [str(network) for network in proxies] == read


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
        ("storagehub_url", "http://{{hub}}/workspace"),
        ("container_storagehub_url", "http://hub/{{.Node.ID}}"),
        ("listen", "8080"),
        ("listen", "127.0.0.1"),
        ("listen", "127.0.0.1:99999"),
        ("listen", "::1:80"),
        ("listen", ","),
        ("extra_hosts", "hub.example"),
        ("extra_hosts", "hub:x y"),
        ("url", "http://x/a//b"),
        ("results_url", "http://x/a/../b"),
        ("results_url", "http://x//b"),
        ("results_url", "http://x/./b"),
        ("results_url", "http://x/.."),
        ("docker_host", "/var/run/docker.sock"),
        ("docker_host", "unix://docker.sock"),
        ("docker_host", "tcp://manager"),
        ("docker_host", "tcp://manager:2375/path"),
        ("docker_host", "manager:2375"),
        ("docker_host", "http://manager:2375"),
        ("docker_host", "ssh://user@manager.example"),
        ("placement", "worker"),
        ("placement", "node.role=worker"),
        ("placement", "node.role=="),
        ("placement", "node.role==worker, ==x"),
        ("placement", "node.role==worker==x"),
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
        ("instance", "a/b"),
        ("instance", "a\nb"),
        ("instance", "name\n"),
        ("instance", "n\u00e4me"),
    ],
)
def test_a_wrong_value_is_refused_by_the_settings_name(name: str, value: str) -> None:
    assert f"'{name}'" in refusal(**{f"DIE_{name.upper()}": value})


def test_the_least_and_the_most_that_an_engine_takes_may_be_set() -> None:
    least = load(DIE_MEMORY_LIMIT="6MiB", DIE_TMPFS_LIMIT="1", DIE_CPU_LIMIT="0.01")
    assert (least.memory_limit, least.tmpfs_limit, least.cpu_limit) == (6 * 2**20, 1, 0.01)
    assert load(DIE_PIDS_LIMIT="4194304").pids_limit == 4194304


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    file = tmp_path / "service.cfg"
    file.write_text("[die]\nurll = http://x\nmax_sync = 0\n")
    with pytest.raises(SettingsError) as refused:
        Settings.load(file, {})
    assert f"The setting 'urll' does not exist (file {file})." in str(refused.value)
    assert f"'max_sync' = '0' is wrong (file {file}): must be 1 or more." in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("memory_limit", "much", "give a number of bytes, or one with a unit: 64KiB, 2GiB"),
        ("threads", "many", "must be a whole number"),
        ("open_status", "perhaps", "must be true or false"),
        ("threads", "4.5", "must be a whole number"),
        ("threads", "3", "must be 4 or more"),
        ("memory_limit", "0", "must be 6MiB or more: the engine takes no less"),
        ("memory_limit", "6291455", "must be 6MiB or more: the engine takes no less"),
        ("tmpfs_limit", "0", "must be more than nothing, which would be no limit"),
        ("pids_limit", "0", "must be more than 0"),
        ("pids_limit", "4194305", "must be 4194304 or less"),
        ("cpu_limit", "0.009", "must be 0.01 or more"),
        ("cpu_limit", "1e10", "must be 9000000000 or less"),
        ("cpu_limit", "all", "must be a number"),
        ("cpu_limit", "inf", "must be a number"),
        ("storagehub_auth", "cookie", "must be 'auto', 'header', 'query' or 'bearer'"),
        ("run_deadline", "2", "give a number and a unit: 500ms, 30s, 10m, 24h or 7d"),
        ("docker_host", "x", "must be unix:///path or tcp://host:port"),
        ("instance", "two words", "must be at most 63 letters, digits, '.', '_' and '-'"),
        ("instance", "x" * 64, "must be at most 63 letters, digits, '.', '_' and '-'"),
        ("max_running", "0", "must be 1 or more"),
        ("max_running_per_owner", "-1", "must be 1 or more"),
        ("max_waiting", "many", "must be a whole number"),
        ("max_waiting_per_owner", "1.5", "must be a whole number"),
        ("worker_lease", "15", "give a number and a unit: 500ms, 30s, 10m, 24h or 7d"),
        ("worker_lease", "0s", "must be longer than nothing"),
        ("worker_lease", "25h", "must be 1d or less"),
        ("storagehub_timeout", "25h", "must be 1d or less"),
        ("total_deadline", "3000000d", "must be 36500d or less"),
        ("container_storagehub_url", "http://{{hub}}", "must not hold '{{'"),
        ("result_retention", "1w", "give a number and a unit: 500ms, 30s, 10m, 24h or 7d"),
        ("record_retention", "x", "give a number and a unit: 500ms, 30s, 10m, 24h or 7d"),
        ("folder_retention", "-7d", "give a number and a unit: 500ms, 30s, 10m, 24h or 7d"),
    ],
)
def test_a_refusal_says_where_the_value_stands_and_what_it_should_be(
    tmp_path: Path, name: str, value: str, reason: str
) -> None:
    file = tmp_path / "service.cfg"
    file.write_text(f"[die]\n{name} = something\n")
    variable = f"DIE_{name.upper()}"
    with pytest.raises(SettingsError) as refused:
        Settings.load(file, {variable: value})
    assert str(refused.value) == (
        f"The setting {name!r} = {value!r} is wrong (environment variable {variable}): {reason}."
    )


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


def test_tls_is_for_an_engine_that_is_reached_by_tcp() -> None:
    with pytest.raises(SettingsError, match="'docker_tls_dir' is for a 'docker_host' like tcp:"):
        load(DIE_DOCKER_TLS_DIR="/tls")
    host = "tcp://manager.example:2376"
    assert load(DIE_DOCKER_TLS_DIR="/tls", DIE_DOCKER_HOST=host).docker_tls_dir == Path("/tls")


def test_a_record_must_not_be_forgotten_before_its_files_are_removed() -> None:
    with pytest.raises(SettingsError) as refused:
        load(DIE_RESULT_RETENTION="31d")
    assert str(refused.value) == (
        "The settings do not fit together: 'record_retention' must not be shorter than "
        "'result_retention', or results would be left that nothing knows of."
    )
    assert load(DIE_RESULT_RETENTION="31d", DIE_RECORD_RETENTION="31d")
