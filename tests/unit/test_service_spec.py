"""The service of a job, field by field where a field protects from something."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from jobs_fixture import TOKEN, make_job

from die_algorithm.container_rules import ContainerRules
from die_algorithm.errors import ServiceRefused
from die_algorithm.image_reference import ImageReference
from die_algorithm.models import EngineFacts, Job, UserToken
from die_algorithm.service_spec import secret_spec, service_spec, shortfalls
from die_algorithm.settings import Settings

IMAGE = ImageReference.parse("d4science/sortapp").pinned("sha256:" + "0" * 64)


def engine(
    api: str = "1.41",
    *,
    has_init: bool = True,
    limits_memory: bool = True,
    limits_swap: bool = True,
    limits_pids: bool = True,
    limits_cpus: bool = True,
    security: str = "seccomp",
) -> EngineFacts:
    return EngineFacts(
        version="20.10.24",
        api_version=api,
        is_manager=True,
        nodes=1,
        cpus=2,
        memory=2**34,
        has_init=has_init,
        limits_memory=limits_memory,
        limits_swap=limits_swap,
        limits_pids=limits_pids,
        limits_cpus=limits_cpus,
        security=frozenset(security.split()),
    )


def spec(
    job: Job | None = None,
    facts: EngineFacts | None = None,
    rules: dict[str, Any] | None = None,
    **settings: Any,
) -> dict[str, Any]:
    return service_spec(
        job or make_job(),
        Settings(**settings),
        image=IMAGE,
        engine=facts or engine(),
        rules=ContainerRules.model_validate(rules or {}),
    )


def container(*args: Any, **settings: Any) -> dict[str, Any]:
    result: dict[str, Any] = spec(*args, **settings)["TaskTemplate"]["ContainerSpec"]
    return result


def test_the_args_are_the_contracts_words_and_the_entry_point_stays() -> None:
    job = make_job(command=("python3", "/app/main.py", "-v"))
    assert container(job)["Args"] == [
        "python3", "/app/main.py", "-v", TOKEN, "item-0001", "folder-0001"
    ]  # fmt: skip
    assert "Command" not in container(job)


def test_the_token_stands_nowhere_but_in_the_args() -> None:
    body = spec()
    assert body["TaskTemplate"]["ContainerSpec"].pop("Args")
    assert TOKEN not in json.dumps(body)
    assert "canary" not in json.dumps(body)


def test_the_name_is_the_jobs_so_that_a_second_create_is_a_conflict() -> None:
    job = make_job()
    assert spec(job)["Name"] == f"die-{job.id}"
    assert len(spec(job)["Name"]) <= 63


def test_the_image_is_pinned_to_its_digest() -> None:
    assert container()["Image"] == "docker.io/d4science/sortapp@sha256:" + "0" * 64


def test_service_and_container_tell_the_job_and_a_pseudonym_of_the_owner() -> None:
    job = make_job(owner="alice.liddell")
    labels = spec(job)["Labels"]
    assert labels == container(job)["Labels"]
    assert labels["die.job"] == job.id
    assert "alice" not in json.dumps(spec(job))
    assert labels["die.owner"] == spec(make_job(owner="alice.liddell"))["Labels"]["die.owner"]
    assert labels["die.owner"] != spec(make_job(owner="bob"))["Labels"]["die.owner"]


def test_the_environment_is_the_address_of_storagehub_alone() -> None:
    assert container(container_storagehub_url="http://hub:80/workspace")["Env"] == [
        "STORAGEHUB_URL=http://hub:80/workspace"
    ]


def test_extra_hosts_become_lines_of_the_hosts_file() -> None:
    hosts = ("hub.example.org:10.0.0.7", "six.example.org:fd00::7")
    assert container(extra_hosts=hosts)["Hosts"] == [
        "10.0.0.7 hub.example.org",
        "fd00::7 six.example.org",
    ]


def test_a_container_gets_no_privilege_that_it_could_use() -> None:
    described = container()
    assert described["CapabilityDrop"] == ["ALL"]
    assert described["TTY"] is False
    assert described["OpenStdin"] is False
    assert {"Name": "core", "Soft": 0, "Hard": 0} in described["Ulimits"]
    assert not {"User", "Mounts", "Secrets", "Configs", "CapabilityAdd"} & set(described)


def test_the_images_health_check_is_off() -> None:
    assert container()["Healthcheck"] == {"Test": ["NONE"]}


@pytest.mark.parametrize("has_init", [True, False])
def test_init_is_asked_for_only_where_the_engine_has_it(has_init: bool) -> None:
    assert container(None, engine(has_init=has_init)).get("Init", False) is has_init


@pytest.mark.parametrize(("api", "sent"), [("1.41", False), ("1.43", False), ("1.44", True)])
def test_no_new_privileges_is_sent_only_to_engines_that_know_it(api: str, sent: bool) -> None:
    privileges = container(None, engine(api)).get("Privileges", {})
    assert privileges.get("NoNewPrivileges", False) is sent


def test_the_limits_are_the_operators() -> None:
    resources = spec(memory_limit="64MiB", cpu_limit=0.5, pids_limit=99)["TaskTemplate"][
        "Resources"
    ]
    assert resources == {"Limits": {"MemoryBytes": 64 * 2**20, "NanoCPUs": 500_000_000, "Pids": 99}}


def test_no_memory_limit_is_sent_to_an_engine_that_cannot_keep_it() -> None:
    for api in ("1.41", "1.52"):
        resources = spec(None, engine(api, limits_memory=False))["TaskTemplate"]["Resources"]
        assert "MemoryBytes" not in resources["Limits"]
        assert "SwapBytes" not in resources


def test_no_cpu_limit_is_sent_to_an_engine_that_would_refuse_the_container_for_it() -> None:
    resources = spec(None, engine(limits_cpus=False))["TaskTemplate"]["Resources"]
    assert "NanoCPUs" not in resources["Limits"]


def test_swap_is_ruled_out_where_the_engine_can() -> None:
    assert spec(None, engine("1.52"))["TaskTemplate"]["Resources"]["SwapBytes"] == 0
    cannot = spec(None, engine("1.52", limits_swap=False))["TaskTemplate"]["Resources"]
    assert "SwapBytes" not in cannot


def test_a_task_is_tried_once_and_stopped_after_its_grace() -> None:
    body = spec(stop_grace="1500ms")
    assert body["TaskTemplate"]["RestartPolicy"] == {"Condition": "none"}
    assert body["TaskTemplate"]["ContainerSpec"]["StopGracePeriod"] == 1_500_000_000


def test_a_service_is_created_without_a_task() -> None:
    assert spec()["Mode"] == {"Replicated": {"Replicas": 0}}


def test_the_log_is_limited() -> None:
    assert spec(log_limit="10MiB")["TaskTemplate"]["LogDriver"] == {
        "Name": "local",
        "Options": {"max-size": "10485760", "max-file": "3"},
    }


def test_placement_and_network_are_the_operators() -> None:
    task = spec(placement=("node.role==worker",), network="die-jobs")["TaskTemplate"]
    assert task["Placement"] == {"Constraints": ["node.role==worker"]}
    assert task["Networks"] == [{"Target": "die-jobs"}]
    assert "Networks" not in spec()["TaskTemplate"]


def test_no_port_is_published_and_no_virtual_address_taken() -> None:
    assert spec()["EndpointSpec"] == {"Mode": "dnsrr"}


@pytest.mark.parametrize("missing", [{"token": None}, {"folder": None}])
def test_a_job_that_is_not_staged_in_has_no_service(missing: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not staged in"):
        spec(make_job(**missing))


def test_braces_in_what_the_user_wrote_are_words_like_others() -> None:
    job = make_job(command=("run", "{{.Service.Name}}"), token=UserToken("{{x}}"))
    assert container(job)["Args"][1:3] == ["{{.Service.Name}}", "{{x}}"]


# -- profiles

STRICT = {"profile": "strict"}
OPEN = {"profile": "open"}


@pytest.mark.parametrize("api", ["1.41", "1.44", "1.52"])
def test_the_default_profile_leaves_an_images_user_and_disk_alone(api: str) -> None:
    described = container(None, engine(api))
    assert described["CapabilityDrop"] == ["ALL"]
    assert not {"User", "ReadOnly", "Mounts"} & set(described)


def test_seccomp_and_apparmor_are_said_to_engines_that_know_them_only() -> None:
    assert "Privileges" not in container(None, engine("1.43"))
    assert container(None, engine("1.44"))["Privileges"] == {
        "NoNewPrivileges": True,
        "Seccomp": {"Mode": "default"},
        "AppArmor": {"Mode": "default"},
    }


def test_the_strict_profile_has_nothing_to_write_to_but_limited_memory() -> None:
    described = container(None, engine("1.44"), STRICT, network="die-jobs", tmpfs_limit="1MiB")
    assert described["ReadOnly"] is True
    assert [mount["Target"] for mount in described["Mounts"]] == ["/tmp", "/var/tmp", "/run"]
    for mount in described["Mounts"]:
        assert mount["Type"] == "tmpfs"
        assert mount["TmpfsOptions"] == {"SizeBytes": 2**20, "Mode": 0o1777}


def test_the_strict_profile_runs_as_nobody_unless_an_exception_names_a_user() -> None:
    exception = {"images": ("docker.io/d4science/sortapp",), "user": "1000:1000"}
    for rules, user in (
        (STRICT, "65534:65534"),
        ({**STRICT, "exceptions": (exception,)}, "1000:1000"),
    ):
        assert container(None, engine("1.44"), rules, network="die-jobs")["User"] == user


@pytest.mark.parametrize(
    ("facts", "network", "rules"),
    [
        (engine("1.43"), "die-jobs", STRICT),
        (engine("1.44"), "", STRICT),
        (engine("1.43"), "", STRICT),
        (engine("1.44"), "bridge", STRICT),
        (engine("1.44"), "host", STRICT),
        (engine("1.44"), "none", STRICT),
        (engine("1.40"), "die-jobs", {**STRICT, "engines_forbid_new_privileges": True}),
        (engine("1.52", security=""), "die-jobs", STRICT),
        (engine("1.52", limits_memory=False), "die-jobs", STRICT),
        (engine("1.52", limits_pids=False), "die-jobs", STRICT),
        (engine("1.52", limits_cpus=False), "die-jobs", STRICT),
    ],
)
def test_the_strict_profile_runs_nothing_that_it_cannot_protect(
    facts: EngineFacts, network: str, rules: dict[str, Any]
) -> None:
    with pytest.raises(ServiceRefused):
        spec(None, facts, rules, network=network)


@pytest.mark.parametrize(
    ("facts", "rules"),
    [
        (engine("1.44"), STRICT),
        (engine("1.44", limits_swap=False), STRICT),
        (engine("1.43", security="seccomp no-new-privileges"), STRICT),
        (engine("1.41"), {**STRICT, "engines_forbid_new_privileges": True}),
    ],
)
def test_the_strict_profile_runs_where_new_privileges_are_forbidden(
    facts: EngineFacts, rules: dict[str, Any]
) -> None:
    assert container(None, facts, rules, network="die-jobs")["ReadOnly"] is True


@pytest.mark.parametrize("api", ["1.41", "1.44"])
def test_the_open_profile_keeps_dockers_capabilities_but_raw_packets_and_every_limit(
    api: str,
) -> None:
    described = container(None, engine(api), OPEN)
    assert described["CapabilityDrop"] == ["NET_RAW"]
    assert not {"CapabilityAdd", "User"} & set(described)
    assert described.get("Privileges", {}).get("NoNewPrivileges", False) is False
    limits = [spec(None, engine(api), rules)["TaskTemplate"]["Resources"] for rules in ({}, OPEN)]
    assert limits[0] == limits[1]


def test_an_exceptions_limits_are_those_of_its_images_alone() -> None:
    exception = {"memory_limit": "8GiB", "cpu_limit": 4, "pids_limit": 9}
    wanted = {"MemoryBytes": 8 * 2**30, "NanoCPUs": 4 * 10**9, "Pids": 9}
    for images, is_meant in (("docker.io/d4science/s*", True), ("docker.io/d4science/x*", False)):
        rules = {"exceptions": [{"images": [images], **exception}]}
        limits = spec(None, engine(), rules)["TaskTemplate"]["Resources"]["Limits"]
        assert (limits == wanted) is is_meant


def test_what_an_engine_would_drop_without_a_word_is_said() -> None:
    old = told(
        engine(
            "1.40", limits_memory=False, limits_pids=False, limits_cpus=False, security="apparmor"
        )
    )
    for word in (
        "capabilities",
        "no-new-privileges",
        "no seccomp",
        "may swap",
        "limit memory",
        "limit processes",
        "limit CPUs",
        "own bridge",
    ):
        assert word in old
    assert not told(engine("1.52"), network="die-jobs")
    assert "swap" in told(engine("1.52", limits_swap=False), network="die-jobs")
    assert "swap" in told(engine("1.51"), network="die-jobs")


def told(facts: EngineFacts, **settings: Any) -> str:
    return " ".join(each.text for each in shortfalls(Settings(**settings), facts, ContainerRules()))


@pytest.mark.parametrize("network", ["bridge", "host", "none"])
def test_a_network_that_every_engine_has_is_no_wall(network: str) -> None:
    assert f"'{network}', which is the engine's own" in told(engine("1.52"), network=network)


# -- the token as a file


def test_an_image_that_wants_a_file_gets_it_readable_for_any_user() -> None:
    job = make_job(token_file=True)
    template: Any = service_spec(
        job, Settings(), image=IMAGE, engine=engine(), rules=ContainerRules(), secret_id="s1"
    )["TaskTemplate"]
    (secret,) = template["ContainerSpec"]["Secrets"]
    assert secret == {
        "File": {"Name": "gcube-token", "UID": "0", "GID": "0", "Mode": 0o444},
        "SecretID": "s1",
        "SecretName": f"die-{job.id}",
    }


def test_the_secret_has_the_services_name_and_labels_and_shows_no_token() -> None:
    job = make_job()
    described = secret_spec(job, Settings(instance="here"))
    assert described["Name"] == spec(job)["Name"]
    assert described["Labels"] == spec(job, instance="here")["Labels"]
    assert base64.b64decode(str(described.pop("Data"))).decode() == TOKEN
    assert TOKEN not in str(described)
