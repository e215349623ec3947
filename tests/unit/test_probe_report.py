"""What a probe's findings mean under the operator's rules."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from die_algorithm.check import Level
from die_algorithm.container_rules import ContainerRules, Profile
from die_algorithm.models import EngineFacts
from die_algorithm.probe_report import Finding, Judgement, findings, judge
from die_algorithm.settings import Settings


def judged(
    finding: Finding,
    operator: Settings,
    *,
    api: str = "1.41",
    limits: bool = True,
    profile: Profile = "default",
) -> Judgement:
    return judge(
        finding,
        limits=ContainerRules(profile=profile).limits_for(
            "docker.io/d4science/die-probe", operator
        ),
        settings=operator,
        engine=EngineFacts(
            version="0",
            api_version=api,
            is_manager=True,
            nodes=1,
            cpus=1,
            memory=1,
            has_init=True,
            limits_memory=limits,
            limits_swap=limits,
            limits_pids=limits,
            limits_cpus=limits,
        ),
    )


def demanded(
    name: str,
    *,
    api: str = "1.41",
    limits: bool = True,
    profile: Profile = "default",
    **settings: Any,
) -> bool:
    """Whether a check that does not hold is a failure, and not a warning."""
    finding = Finding(name=name, status="open", text="seen")
    judgement = judged(finding, Settings(**settings), api=api, limits=limits, profile=profile)
    assert judgement.remedy
    assert judgement.level is not Level.OK
    return judgement.level is Level.FAIL


@pytest.mark.parametrize("profile", ["strict", "default", "open"])
@pytest.mark.parametrize("name", ["seccomp", "call-mount", "engine-socket", "host-mounts", "new"])
def test_what_every_engine_can_keep_must_hold(profile: Profile, name: str) -> None:
    assert demanded(name, profile=profile)


@pytest.mark.parametrize(
    ("name", "profile", "is_demanded"),
    [
        ("capabilities-bounding", "default", True),
        ("capabilities-bounding", "open", False),
        ("capabilities-ambient", "open", True),
        ("raw-socket", "open", True),
        ("root-filesystem", "default", False),
        ("root-filesystem", "strict", True),
        ("user", "strict", True),
    ],
)
def test_the_profile_decides(name: str, profile: Profile, is_demanded: bool) -> None:
    assert demanded(name, profile=profile) is is_demanded


@pytest.mark.parametrize("name", ["seccomp", "user-namespace"])
def test_what_is_as_it_should_be_is_ok_whether_demanded_or_not(name: str) -> None:
    judgement = judged(Finding(name=name, status="ok", text="seen"), Settings())
    assert judgement.level is Level.OK
    assert not judgement.remedy


@pytest.mark.parametrize("name", ["no-new-privileges", "setuid-gain"])
def test_no_new_privileges_must_hold_where_the_engine_was_asked_for_it(name: str) -> None:
    assert not demanded(name, api="1.43")
    assert demanded(name, api="1.44")
    assert not demanded(name, api="1.44", profile="open")


@pytest.mark.parametrize("name", ["memory-limit", "processes", "cpu-limit"])
def test_a_limit_must_hold_where_the_engine_says_that_it_can(name: str) -> None:
    assert demanded(name)
    assert not demanded(name, limits=False)


@pytest.mark.parametrize("name", ["other-containers", "host-services", "metadata-ipv4"])
def test_the_network_must_hold_where_there_is_one(name: str) -> None:
    assert not demanded(name)
    assert demanded(name, network="die-jobs")


def test_what_is_unknown_is_not_taken_for_good() -> None:
    finding = Finding(name="other-containers", status="unknown", text="nobody there")
    judgement = judged(finding, Settings(network="die-jobs"))
    assert judgement.level is Level.FAIL


@pytest.mark.parametrize(
    ("memory", "with_swap", "alone", "cannot"),
    [
        ("64", "64", None, True),
        ("64", "128", None, False),
        ("64", None, "0", True),
        ("64", None, "64", False),  # version 2: as much swap again
        ("max", None, "max", False),
        (None, None, None, False),
    ],
)
def test_swap_is_off_by_what_each_version_of_control_groups_means(
    memory: str | None, with_swap: str | None, alone: str | None, cannot: bool
) -> None:
    assert probe_program().cannot_swap(memory, with_swap, alone) is cannot


def probe_program() -> Any:
    """The program that looks from inside, which is no part of the package."""
    path = Path(__file__).resolve().parents[2] / "examples" / "probe" / "probe.py"
    spec = importlib.util.spec_from_file_location("die_probe", path)
    assert spec is not None
    assert spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    return program


def test_the_last_line_is_the_report() -> None:
    line = json.dumps([{"name": "seccomp", "status": "ok", "text": "x"}])
    found = findings(f"ok seccomp: x\n{line}\n")
    assert found is not None
    assert found[0] == Finding(name="seccomp", status="ok", text="x")


def test_a_check_that_a_report_lacks_is_unknown() -> None:
    told = json.dumps([{"name": "seccomp", "status": "ok", "text": "x"}])
    empty, one = findings("[]"), findings(told)
    assert empty is not None
    assert one is not None
    assert len(empty) == len(one)
    assert {finding.status for finding in empty} == {"unknown"}
    assert [finding.name for finding in one if finding.status == "ok"] == ["seccomp"]


@pytest.mark.parametrize(
    ("label", "outcome"),
    [
        ("docker-default (enforce)", "ok"),
        ("docker-default (complain)", "open"),
        ("unconfined", "open"),
        ("system_u:system_r:container_t:s0:c1,c2", "ok"),
    ],
)
def test_a_profile_that_only_complains_confines_nothing(label: str, outcome: str) -> None:
    assert probe_program().confined(label) == outcome


def test_a_field_that_the_kernel_lacks_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    program = probe_program()
    gvisor = {"CapInh": "0", "CapPrm": "0", "CapEff": "0", "CapBnd": "0", "Seccomp": "2"}
    monkeypatch.setattr(program, "own_status", lambda: gvisor)
    report = program.Report()
    program.capabilities(report)
    program.privileges(report)
    found = {check["name"]: check["status"] for check in report.checks}
    assert found["capabilities-ambient"] == found["no-new-privileges"] == "unknown"
    assert found["capabilities-effective"] == found["seccomp"] == "ok"


def test_a_program_without_the_set_user_bit_shows_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = probe_program()
    monkeypatch.setattr(program.os, "getuid", lambda: 1000)
    plain = tmp_path / "plain"
    plain.write_text("")
    for path in (plain, tmp_path / "missing"):
        monkeypatch.setattr(program, "_SETUID_PROGRAM", str(path))
        assert program.gain()[0] == "unknown"


def test_a_program_that_cannot_be_run_tells_nothing(tmp_path: Path) -> None:
    assert probe_program().output_of(str(tmp_path / "missing"), "cat") == ""


def test_a_public_name_without_address_shows_nothing_of_the_network() -> None:
    assert probe_program().public_network([], 443)[0] == "unknown"


@pytest.mark.parametrize("log", ["", "\n", "ok seccomp: x\n", "[", '[{"name": "x"}]', "{}"])
def test_a_probe_that_has_not_ended_has_no_report(log: str) -> None:
    assert findings(log) is None
