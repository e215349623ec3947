"""What is read once is handed over whole, and not read again."""

from __future__ import annotations

from pathlib import Path

import pytest

from die_algorithm.configuration import Configuration
from die_algorithm.errors import SettingsError
from die_algorithm.settings import Settings

SECRET = "postgresql://u:p4ssw0rd@db/jobs"
#: For each kind of value, one that is no default.
GIVEN = {
    "url": "https://die.example.org/x",
    "listen": "127.0.0.1:1, [::1]:2",
    "data_dir": "relative/folder",
    "database": SECRET,
    "storagehub_timeout": "1.5s",
    "result_retention": "36h",
    "transfer_min_rate": "8KiB",
    "memory_limit": "1.5GiB",
    "cpu_limit": "0.1",
    "trusted_hosts": "Data.example.org:443, b",
    "trusted_proxies": "10.0.0.0/8, ::1",
    "extra_hosts": "a:127.0.0.1, b:::1",
    "placement": "node.role==worker, node.labels.x!=y",
    "docker_hub_url": "engine",
    "docker_host": "tcp://127.0.0.1:2375",
    "save_results": "true",
    "storagehub_auth": "bearer",
    "instance": "here",
}


def written(folder: Path, policy: str | None = None, **given: str) -> Path:
    """A configuration file, and beside it a policy file."""
    if policy is not None:
        given["policy_file"] = str(folder / "policy.toml")
        (folder / "policy.toml").write_text(policy)
    file = folder / "die.cfg"
    file.write_text("[die]\n" + "\n".join(f"{name} = {value}" for name, value in given.items()))
    return file


@pytest.mark.parametrize("given", [{}, GIVEN])
def test_what_is_handed_over_is_what_was_read(tmp_path: Path, given: dict[str, str]) -> None:
    policy = (
        "# \u00e4\n[images]\nallow = ['a/*']\nmax_size = '1GiB'\n[containers]\nprofile = 'strict'\n"
    )
    read = Configuration.load(written(tmp_path, policy, **given))
    taken = Configuration.taken_over(read.handed_over())
    assert taken.settings == read.settings
    assert taken.policy() == read.policy()
    assert taken.policy().images.allow is not None


def test_the_smallest_of_durations_arrives() -> None:
    settings = Settings(stop_grace="0.001ms", total_deadline="1000.000001s")
    assert (
        Configuration.taken_over(Configuration(settings, None).handed_over()).settings == settings
    )


def test_files_that_are_changed_afterwards_change_nothing(tmp_path: Path) -> None:
    read = Configuration.load(written(tmp_path, "[images]\n"))
    written(tmp_path, "[images]\nalow = []", url="http://other")
    taken = Configuration.taken_over(read.handed_over())
    assert taken.policy().images.allow is None
    assert taken.settings.url == "http://127.0.0.1:8080"


def test_without_a_policy_file_the_defaults_hold(tmp_path: Path) -> None:
    taken = Configuration.taken_over(Configuration.load(written(tmp_path)).handed_over())
    assert taken.policy().images.allow is None


def test_a_policy_that_is_wrong_is_told_when_it_is_read(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"policy.toml is wrong. images.alow"):
        Configuration.load(written(tmp_path, "[images]\nalow = []"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'{"settings": {}}',
        b'{"settings": {"database": "p4ssw0rd", "unknown": 1}, "policy": null}',
        b'{"settings": {"policy_file": "x", "database": "p4ssw0rd"}, "policy": "[images]\\nnew = 1"}',
    ],
)
def test_what_another_release_hands_over_is_refused_without_a_word_of_it(data: bytes) -> None:
    with pytest.raises(SettingsError, match="another release") as caught:
        Configuration.taken_over(data)
    assert "p4ssw0rd" not in str(caught.value)
