"""Task states to job phases, and the end of a task to whose fault it is.

The engine's texts are those that engine 20.10 was seen to answer.
"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from die_algorithm.errors import SwarmError
from die_algorithm.models import Failure, FaultClass, TaskPhase, TaskReport
from die_algorithm.states import TASK_PHASES, failure, phase

GIB = 1024**3
RUNC = (
    "starting: starting container failed: failed to create shim task: OCI runtime create failed: "
    "runc create failed: unable to start container process: "
)


def report(task_phase: TaskPhase, message: str = "", exit_code: int | None = None) -> TaskReport:
    return TaskReport(
        job_id="j",
        service_id="s",
        phase=task_phase,
        state="",
        desired_state="shutdown",
        message=message,
        exit_code=exit_code,
        container_id="c",
        node_id="n",
        created_at=datetime.now(UTC),
        told_at=datetime.now(UTC),
    )


def sort(
    message: str = "",
    exit_code: int | None = None,
    *,
    task_phase: TaskPhase = TaskPhase.FAILED,
    oom: bool | None = False,
    log: str = "",
    cut_off: bool | None = None,
) -> Failure:
    result = failure(
        report(task_phase, message, exit_code), "run", 2 * GIB, oom, log, cut_off=cut_off
    )
    assert result is not None
    assert result.text.endswith(".")
    return result


def test_all_fifteen_words_of_swarm_are_known() -> None:
    words = (
        "new allocated pending assigned accepted preparing ready starting running complete "
        "shutdown failed rejected remove orphaned"
    )
    assert set(TASK_PHASES) == set(words.split())


@pytest.mark.parametrize("state", ["new", "pending", "preparing", "ready", "starting"])
def test_a_task_before_running_is_starting(state: str) -> None:
    assert phase(state, "running") is TaskPhase.STARTING


@pytest.mark.parametrize(
    ("state", "desired", "expected"),
    [
        ("running", "running", TaskPhase.RUNNING),
        ("complete", "running", TaskPhase.COMPLETE),
        ("complete", "shutdown", TaskPhase.COMPLETE),
        ("failed", "shutdown", TaskPhase.FAILED),
        ("rejected", "shutdown", TaskPhase.REJECTED),
        ("shutdown", "shutdown", TaskPhase.LOST),
        ("orphaned", "shutdown", TaskPhase.LOST),
        ("complete", "remove", TaskPhase.COMPLETE),
    ],
)
def test_a_final_state_decides_whatever_is_desired(
    state: str, desired: str, expected: TaskPhase
) -> None:
    assert phase(state, desired) is expected


@pytest.mark.parametrize("desired", ["shutdown", "remove", "orphaned"])
@pytest.mark.parametrize("state", ["running", "pending", "preparing"])
def test_a_task_that_swarm_wants_gone_is_lost_though_said_to_run(state: str, desired: str) -> None:
    assert phase(state, desired) is TaskPhase.LOST


@pytest.mark.parametrize(("state", "desired"), [("paused", "running"), ("running", "paused")])
def test_an_unknown_word_is_an_error(state: str, desired: str) -> None:
    with pytest.raises(SwarmError, match="paused"):
        phase(state, desired)


def test_a_task_that_is_complete_has_no_failure() -> None:
    assert failure(report(TaskPhase.COMPLETE, exit_code=0), "run", GIB, None, "") is None


def test_a_task_that_ended_well_has_no_failure_though_a_child_ran_out_of_memory() -> None:
    assert failure(report(TaskPhase.COMPLETE, exit_code=0), "run", GIB, True, "") is None


@pytest.mark.parametrize("task_phase", [TaskPhase.STARTING, TaskPhase.RUNNING])
def test_a_task_that_has_not_ended_cannot_be_sorted(task_phase: TaskPhase) -> None:
    with pytest.raises(ValueError, match="not ended"):
        failure(report(task_phase), "run", GIB, None, "")


@pytest.mark.parametrize("code", [1, 3, 64, 125, 126, 127, 128, 129, 137, 139, 143, 255])
def test_an_exit_code_is_the_users_and_named(code: int) -> None:
    result = sort(f"task: non-zero exit ({code})", code)
    assert result.fault_class is FaultClass.USER
    assert result.exit_code == code
    assert f"exit code {code}" in result.text


def test_a_segmentation_fault_is_named() -> None:
    assert "SIGSEGV" in sort("task: non-zero exit (139)", 139).text


@pytest.mark.parametrize("code", [137, 1, 5])
def test_running_out_of_memory_is_the_limit_whatever_the_exit_code(code: int) -> None:
    result = sort(f"task: non-zero exit ({code})", code, oom=True)
    assert result.fault_class is FaultClass.LIMIT
    assert "2 GiB" in result.text
    assert "probably" not in result.text
    assert result.exit_code == code


def test_killed_on_another_node_is_most_probably_the_memory_limit() -> None:
    result = sort("task: non-zero exit (137)", 137, oom=None)
    assert result.fault_class is FaultClass.LIMIT
    assert "most probably" in result.text


def test_another_exit_code_on_another_node_is_the_users() -> None:
    assert sort("task: non-zero exit (1)", 1, oom=None).fault_class is FaultClass.USER


@pytest.mark.parametrize(
    ("message", "code", "log"),
    [
        (RUNC + 'exec: "run": executable file not found in $PATH: unknown', 127, ""),
        (RUNC + 'exec: "run": stat run: no such file or directory: unknown', 127, ""),
        (
            "started: task: non-zero exit (127)",
            127,
            "[FATAL tini (7)] exec run failed: No such file or directory\n",
        ),
    ],
)
def test_a_command_that_the_image_lacks_is_the_images(message: str, code: int, log: str) -> None:
    result = sort(message, code, log=log)
    assert result.fault_class is FaultClass.IMAGE
    assert "has no command 'run'" in result.text
    assert result.exit_code == 127


@pytest.mark.parametrize(
    ("message", "log"),
    [
        (RUNC + 'exec: "run": permission denied: unknown', ""),
        (
            "started: task: non-zero exit (126)",
            "[FATAL tini (7)] exec run failed: Permission denied\n",
        ),
    ],
)
def test_a_command_that_is_not_executable_is_the_images(message: str, log: str) -> None:
    result = sort(message, 126, log=log)
    assert result.fault_class is FaultClass.IMAGE
    assert "'run' may not be executed" in result.text


def test_a_missing_entry_point_is_not_blamed_on_the_command() -> None:
    log = "[FATAL tini (7)] exec /entry.sh failed: No such file or directory\n"
    result = sort("started: task: non-zero exit (127)", 127, log=log)
    assert result.fault_class is FaultClass.IMAGE
    assert "entry point '/entry.sh'" in result.text


def test_a_program_that_does_not_find_another_is_the_users() -> None:
    result = sort("task: non-zero exit (127)", 127, log="sh: Rscript: not found\n")
    assert result.fault_class is FaultClass.USER


@pytest.mark.parametrize(
    ("message", "code", "log"),
    [
        ("task: non-zero exit (1)", 1, "exec /bin/run: exec format error\n"),
        (RUNC + 'exec: "run": exec format error: unknown', 126, ""),
    ],
)
def test_a_program_for_another_platform_is_the_images(message: str, code: int, log: str) -> None:
    result = sort(message, code, log=log)
    assert result.fault_class is FaultClass.IMAGE
    assert "another kind of processor" in result.text


def test_an_image_whose_user_does_not_exist_is_the_images() -> None:
    message = "starting: starting container failed: unable to find user nobody: no matching entries"
    assert sort(message, 128).fault_class is FaultClass.IMAGE


@pytest.mark.parametrize(
    ("message", "part"),
    [
        ("starting container failed: unable to find group x: no matching entries", "USER"),
        ("starting container failed: uids and gids must be in range 0-2147483647", "USER"),
        (RUNC + "error during container init: mkdir /proc/self/fd/8: not a directory", "WORKDIR"),
        (RUNC + "Cwd must be an absolute path: unknown", "WORKDIR"),
        (RUNC + 'error mounting "/var/x/volumes/1/_data" to rootfs at "/proc": …', "VOLUME"),
        (RUNC + "error during container init: open /proc/sys/net/ipv4/x: no such file", "VOLUME"),
    ],
)
def test_a_part_of_the_image_that_cannot_be_used_is_named(message: str, part: str) -> None:
    result = sort(f"starting: {message}", 128)
    assert result.fault_class is FaultClass.IMAGE
    assert f"The image's {part}" in result.text


def test_a_work_folder_that_is_a_file_is_the_images() -> None:
    message = "preparing: Cannot mkdir: /etc/passwd is not a directory"
    assert sort(message, task_phase=TaskPhase.REJECTED).fault_class is FaultClass.IMAGE


@pytest.mark.parametrize(
    ("message", "log"),
    [
        ("task: non-zero exit (1)", "exec /sbin/docker-init: argument list too long\n"),
        (RUNC + "exec /sbin/docker-init: argument list too long: unknown", ""),
    ],
)
def test_an_environment_that_no_program_can_be_given_is_the_images(message: str, log: str) -> None:
    result = sort(message, 1, log=log)
    assert result.fault_class is FaultClass.IMAGE
    assert "ENV" in result.text


def test_a_program_that_hands_too_much_to_another_is_the_users() -> None:
    log = "reading\nsh: exec rm: Argument list too long\n"
    assert sort("task: non-zero exit (126)", 126, log=log).fault_class is FaultClass.USER


@pytest.mark.parametrize(
    "log", ["/bin/run: line 1: \ufffdELF\ufffd: not found\n", "/bin/run: 1: \ufffdELF: not found\n"]
)
def test_a_program_for_another_platform_that_a_shell_has_read_is_the_images(log: str) -> None:
    result = sort("task: non-zero exit (127)", 127, log=log)
    assert result.fault_class is FaultClass.IMAGE
    assert "another kind of processor" in result.text


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("starting: starting container failed: no space left on device", 128),
        (RUNC + 'error mounting "/usr/bin/docker-init": no such file or directory: unknown', 127),
    ],
)
def test_a_container_that_the_machine_cannot_start_is_the_systems(message: str, code: int) -> None:
    assert sort(message, code).fault_class is FaultClass.SYSTEM


def test_an_image_that_cannot_be_fetched_is_the_images() -> None:
    result = sort("preparing: No such image: u/r:latest", task_phase=TaskPhase.REJECTED)
    assert result.fault_class is FaultClass.IMAGE
    assert "Or the registry cannot be reached" in result.text  # nothing tells the two apart


@pytest.mark.parametrize(
    "message", ["preparing: Range of CPUs is from 0.01 to 2.00", "preparing: invalid mount"]
)
def test_any_other_rejection_is_the_systems(message: str) -> None:
    assert sort(message, task_phase=TaskPhase.REJECTED).fault_class is FaultClass.SYSTEM


def test_a_lost_task_is_the_systems_and_worth_another_try() -> None:
    result = sort("shutdown", 137, task_phase=TaskPhase.LOST)
    assert result.fault_class is FaultClass.SYSTEM
    assert "Submit the job again" in result.text
    assert result.exit_code is None


@pytest.mark.parametrize(
    ("message", "code", "cut_off"),
    [
        ("started: No such container: die-x.1.y", None, None),
        ("task: non-zero exit (137)", 137, True),
        ("task: non-zero exit (143)", 143, True),
        ("task: non-zero exit (255)", 255, True),
        ("task: non-zero exit (3)", 3, True),
    ],
)
def test_an_engine_restart_is_the_systems(
    message: str, code: int | None, cut_off: bool | None
) -> None:
    result = sort(message, code, cut_off=cut_off)
    assert result.fault_class is FaultClass.SYSTEM
    assert "restarted" in result.text


def test_a_program_that_ended_well_when_it_was_told_to_end_has_not_succeeded() -> None:
    result = sort("finished", 0, task_phase=TaskPhase.COMPLETE, cut_off=True)
    assert result.fault_class is FaultClass.SYSTEM
    assert "restarted" in result.text


def test_a_failure_without_a_reason_is_not_the_users() -> None:
    assert sort("started", None).fault_class is FaultClass.SYSTEM


@pytest.mark.parametrize(
    ("limit", "words"),
    [(512 * 1024**2, "512 MiB"), (3 * GIB // 2, "1.5 GiB"), (4096, "4 KiB"), (100, "100 bytes")],
)
def test_the_memory_limit_is_given_in_words(limit: int, words: str) -> None:
    result = failure(report(TaskPhase.FAILED, exit_code=137), "run", limit, True, "")
    assert result is not None
    assert words in result.text
