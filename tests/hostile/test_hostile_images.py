"""Images that nobody would build who meant well: each runs as it says, or its author is told why not.

All of them are run at once, beside each other (reference: safety, I29, C10-C13, A16, A18).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import pytest
from hostile_ground import Ground, Images, failure_of

from die_algorithm.models import FaultClass, Job, JobState

OTHER_JOB = "11111111-1111-4111-8111-111111111111"
FAILING_CHECK = {"Test": ["CMD", "false"], "Interval": 10**9, "Timeout": 10**9, "Retries": 1}
MANY_VARIABLES = [f"VARIABLE_{number}=value {number}" for number in range(10_000)]
PATH = "PATH=/usr/bin:/bin"
#: The head of a program for ARM, and no more of it.
FOR_ARM = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHI", 2, 0xB7, 1) + bytes(200)

#: What a configuration has beside the probe's, of images that run all the same.
RUNNING: Mapping[str, Mapping[str, Any]] = {
    "failing-health-check": {"Healthcheck": FAILING_CHECK},
    "volumes": {"Volumes": {"/data": {}, "/tmp": {}, "/usr/share": {}}},
    "ports": {"ExposedPorts": {"80/tcp": {}, "99999/tcp": {}, "x/y": {}}},
    "on-build": {"OnBuild": ["RUN false", "COPY / /"]},
    "user-root": {"User": "root"},
    "user-number": {"User": "4711:4711"},
    "stop-signal": {"StopSignal": "SIGUSR1"},
    "stop-signal-unknown": {"StopSignal": "SIGNOTHING"},
    "many-variables": {"Env": [*MANY_VARIABLES, PATH]},
    "odd-variables": {
        "Env": ["", "=", "=x", "A\nB=c", "STORAGEHUB_URL=http://x/", "{{.ID}}=1", PATH]
    },
    "work-folder-missing": {"WorkingDir": "/not/there"},
    "entry-point-itself": {"Entrypoint": ["/proc/self/exe", "--"]},
    "no-command": {"Cmd": None, "Entrypoint": None},
    "anothers-labels": {
        "Labels": {
            "die.job": OTHER_JOB,
            "die.service": "another",
            "die.owner": "root",
            "com.docker.swarm.task.id": "none",
        }
    },
    "shell": {"Shell": ["/nothing"]},
}

#: The same of images that cannot run, with words of the reason.
UNUSABLE: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "user-missing": ({"User": "nobody-here"}, "USER"),
    "group-missing": ({"User": "0:nobody-here"}, "USER"),
    "user-too-large": ({"User": "99999999999"}, "USER"),
    "work-folder-leaked": ({"WorkingDir": "/proc/self/fd/8"}, "WORKDIR"),
    "work-folder-relative": ({"WorkingDir": "a/../.."}, "WORKDIR"),
    "work-folder-file": ({"WorkingDir": "/etc/passwd"}, "WORKDIR"),
    "volume-over-all": ({"Volumes": {"/": {}}}, "VOLUME"),
    "volume-over-proc": ({"Volumes": {"/proc": {}}}, "VOLUME"),
    "entry-point-missing": ({"Entrypoint": ["/nothing"]}, "entry point '/nothing'"),
    "variable-too-long": ({"Env": ["A=" + "x" * 200_000, PATH]}, "ENV"),
}

#: Images that are no images, with words of the reason.
BROKEN: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "other-processor": ({"architecture": "arm64"}, "no variant for"),
    "other-system": ({"os": "windows"}, "no variant for"),
    "no-file-system": ({"rootfs": None}, "could not fetch the image"),
    "wrong-layers": (
        {"rootfs": {"type": "layers", "diff_ids": ["sha256:" + "0" * 64]}},
        "could not fetch the image",
    ),
    "no-object": ({"raw": b"null"}, "could not fetch the image"),
    "no-json": ({"raw": b"hello"}, "could not fetch the image"),
}

#: Commands that cannot be executed, with exit code and words of the reason.
COMMANDS: Mapping[str, tuple[int, str]] = {
    "nothing": (127, "no command 'nothing'"),
    "/bin/nothing": (127, "no command '/bin/nothing'"),
    "without-interpreter": (127, "lacks the interpreter"),
    "/etc": (126, "'/etc' may not be executed"),
    "/etc/passwd": (126, "'/etc/passwd' may not be executed"),
    "/dev/null": (126, "'/dev/null' may not be executed"),
    "for-arm": (127, "another kind of processor"),
}


@pytest.fixture(scope="module")
def outcomes(ground: Ground, images: Images) -> Mapping[str, Job]:
    """How jobs of all these images have ended."""
    files = images.files
    odd = {
        **{name: images.publish(name, config) for name, config in RUNNING.items()},
        **{name: images.publish(name, config) for name, (config, _) in UNUSABLE.items()},
        **{name: images.publish(name, **changes) for name, (changes, _) in BROKEN.items()},
        "no-archive": images.publish("no-archive", layers=[files.raw_layer(b"no archive" * 999)]),
        "110-layers": images.publish(
            "110-layers", layers=[files.layer({f"l{number}": b"x"}) for number in range(100)]
        ),
        "200-layers": images.publish(
            "200-layers", layers=[files.layer({f"l{number}": b"x"}) for number in range(200)]
        ),
        "shell-entry-point": images.publish("shell-entry-point", {"Entrypoint": ["sh", "-c"]}),
    }
    programs = {
        "usr/bin/for-arm": FOR_ARM,
        "usr/bin/without-interpreter": b"#!/no/such/interpreter\n",
    }
    commands = images.publish("commands", files=programs)
    ids = {name: ground.submit(image, "probe args -a") for name, image in odd.items()}
    ids |= {command: ground.submit(commands, command) for command in COMMANDS}
    return {name: ground.end(job_id) for name, job_id in ids.items()}


@pytest.mark.parametrize("name", [*RUNNING, "110-layers"])
def test_an_odd_image_runs_and_its_program_gets_the_contracts_words_exactly(
    outcomes: Mapping[str, Job], ground: Ground, name: str
) -> None:
    job = outcomes[name]
    assert job.state is JobState.SUCCEEDED, job.failure
    assert job.folder is not None
    words = ["args", "-a", "***", ground.item, job.folder.id]
    # docker-init complains when it is called twice.
    assert [line for line in job.log_tail.splitlines() if "tini" not in line.lower()][-5:] == words


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_configuration_that_the_engine_cannot_use_is_the_images_and_named(
    outcomes: Mapping[str, Job], name: str
) -> None:
    assert UNUSABLE[name][1] in failure_of(outcomes[name], FaultClass.IMAGE).text


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_image_for_this_engine_is_the_images(
    outcomes: Mapping[str, Job], name: str
) -> None:
    assert BROKEN[name][1] in failure_of(outcomes[name], FaultClass.IMAGE).text


@pytest.mark.parametrize("name", ["no-archive", "200-layers"])
def test_layers_that_the_engine_does_not_take_are_the_images(
    outcomes: Mapping[str, Job], name: str
) -> None:
    failure_of(outcomes[name], FaultClass.IMAGE)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_cannot_be_executed_is_the_images_and_named(
    outcomes: Mapping[str, Job], command: str
) -> None:
    failure = failure_of(outcomes[command], FaultClass.IMAGE)
    assert (failure.exit_code, COMMANDS[command][1] in failure.text) == (COMMANDS[command][0], True)


def test_a_shell_as_entry_point_gets_the_command_as_with_docker_run(
    outcomes: Mapping[str, Job],
) -> None:
    job = outcomes["shell-entry-point"]
    assert failure_of(job, FaultClass.USER).exit_code == 64
    assert "no behaviour" in job.log_tail  # 'sh -c probe': the rest are words of the shell's


def test_nothing_is_left_of_any_of_them_and_a_usual_job_runs(
    outcomes: Mapping[str, Job], ground: Ground
) -> None:
    assert outcomes
    ground.assert_unharmed()
