"""What Swarm's words about a task mean for a job. Pure rules, from what engines were seen to answer.

A task ends in few ways (reference: swarm, "What a task tells"): the program ended, the container
could not be started, or Swarm took the task away. :func:`failure` sorts them by whose fault it is.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from types import MappingProxyType

from die_algorithm.errors import SwarmError
from die_algorithm.faults import not_fetched, size_in_words
from die_algorithm.models import Failure, FaultClass, TaskPhase, TaskReport

#: All task states of Swarm, in Swarm's order; ``remove`` is only ever desired.
TASK_PHASES: Mapping[str, TaskPhase] = MappingProxyType(
    {
        "new": TaskPhase.STARTING,
        "allocated": TaskPhase.STARTING,
        "pending": TaskPhase.STARTING,
        "assigned": TaskPhase.STARTING,
        "accepted": TaskPhase.STARTING,
        "preparing": TaskPhase.STARTING,
        "ready": TaskPhase.STARTING,
        "starting": TaskPhase.STARTING,
        "running": TaskPhase.RUNNING,
        "complete": TaskPhase.COMPLETE,
        "shutdown": TaskPhase.LOST,
        "failed": TaskPhase.FAILED,
        "rejected": TaskPhase.REJECTED,
        "remove": TaskPhase.LOST,
        "orphaned": TaskPhase.LOST,
    }
)

#: Desired states of a task that Swarm has given up. It never takes that back.
_CONDEMNED = ("shutdown", "remove", "orphaned")

_KILLED = 128 + signal.SIGKILL
_CANNOT_EXECUTE = 126
_NOT_FOUND = 127

# docker-init (tini) is pid 1 when the service asks for it, so it is tini that does not find the
# command, says so in the container's log and exits with 126 or 127.
_TINI = re.compile(r"\[FATAL tini \(\d+\)\] exec (?P<word>.{1,128}?) failed: (?P<reason>.+)")
# Without it, runc says so to the engine, and nothing ever runs.
_RUNC = re.compile(r'exec: "(?P<word>[^"]{1,128})": (?P<reason>.+)')
# A file that is no program is found out late, so that runc can only say so in the log.
_NO_PROGRAM = re.compile(r"exec (?P<word>\S{1,128}): (?P<reason>exec format error)\s*\Z")

# An ELF file for another processor may be given to the image's shell by tini, which reads it as text.
_READ_AS_TEXT = re.compile(r"\A(?P<word>\S{1,128}): (?:line )?1: .{0,2}ELF", re.MULTILINE)
# Arguments and environment go through the kernel together, and ours are short.
_TOO_LONG = re.compile(r"exec \S{1,128}: argument list too long\s*(?:\Z|: unknown)")

#: What an engine says of parts of an image's configuration that it cannot use.
_IMAGE_FAULTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "USER": ("unable to find user", "unable to find group", "uids and gids must be"),
        "WORKDIR": ("chdir to cwd", "Cwd must be", "container init: mkdir ", "Cannot mkdir"),
        # The last is what comes of a volume in place of the whole file system: any of what is set there.
        "VOLUME": ('_data" to rootfs', "error during container init: open /proc/sys/"),
    }
)

_AGAIN = "Submit the job again; if it happens again, tell the operator."


def phase(state: str, desired_state: str) -> TaskPhase:
    """What a task's two states mean for its job.

    A task that Swarm wants gone counts as lost even while it is said to run. Its node is then
    drained, and the task ends as ``shutdown`` whatever its exit code; or the node is lost, and the
    task is called ``running`` until the node comes back or a day has passed.

    Args:
        state: what the task is.
        desired_state: what Swarm wants it to be.

    Raises:
        SwarmError: a word that Swarm did not have when this was written.
    """
    try:
        result = TASK_PHASES[state]
        TASK_PHASES[desired_state]
    except KeyError as error:
        raise SwarmError(f"The Swarm calls a task {error}, which is not known here.") from None
    under_way = result in (TaskPhase.STARTING, TaskPhase.RUNNING)
    return TaskPhase.LOST if under_way and desired_state in _CONDEMNED else result


def failure(
    report: TaskReport,
    command: str,
    memory_limit: int,
    oom_killed: bool | None,
    log_tail: str,
    *,
    cut_off: bool | None = None,
) -> Failure | None:
    """Sort the end of a task.

    Args:
        report: of a task that has ended.
        command: the first word of the job's command.
        memory_limit: of the container, in bytes.
        oom_killed: whether something in the container was killed for want of memory; None if
            nobody knows, because the container is on another node.
        log_tail: the end of the container's output.
        cut_off: whether the container ended, or may have, because its engine was restarted; None if
            nobody knows.

    Returns:
        None if the program ended well, otherwise whose fault it is and what to do next.

    Raises:
        ValueError: the task has not ended.
    """
    if report.phase is TaskPhase.COMPLETE:
        return _interrupted(report, cut_off=cut_off)
    if report.phase is TaskPhase.FAILED:
        return (
            _interrupted(report, cut_off=cut_off)
            or _not_started(report, command, log_tail)
            or _ended_badly(report, memory_limit, oom_killed)
        )
    if report.phase is TaskPhase.REJECTED:
        return _rejected(report)
    if report.phase is TaskPhase.LOST:
        return Failure(
            fault_class=FaultClass.SYSTEM,
            text="The machine that ran the container was lost or taken out of the Swarm, or somebody "
            f"stopped the container. {_AGAIN}",
        )
    raise ValueError("the task has not ended")


def is_unfetched(report: TaskReport) -> bool:
    """Whether a task's machine has no such image and could not fetch it, so that nothing ever ran.

    Why it could not, no engine says: an image that is missing, a registry that is away and one that lets
    the machine fetch no more have the same message (reference: swarm, "What a task tells").
    """
    return report.phase is TaskPhase.REJECTED and "No such image" in report.message


def _interrupted(report: TaskReport, *, cut_off: bool | None) -> Failure | None:
    """The engine ended under the container: stopped in good order, or killed with it.

    That includes a machine that is switched off and on before the Swarm takes it for lost.

    An engine that was stopped no longer finds the container afterwards. One that was killed stops
    the container when it is back, which may end it with any exit code: a program that ends well when
    it is told to end has done half its work.
    """
    if not (cut_off or "No such container" in report.message):
        return None
    return Failure(
        fault_class=FaultClass.SYSTEM,
        text="The machine or its Docker engine was restarted while the program ran, or before it could be "
        f"seen how it ended. {_AGAIN}",
    )


def _not_started(report: TaskReport, command: str, log_tail: str) -> Failure | None:
    """The image has no such command, or one that cannot be executed."""
    found = _NO_PROGRAM.search(log_tail)
    if report.exit_code in (_CANNOT_EXECUTE, _NOT_FOUND):
        found = found or _RUNC.search(report.message) or _TINI.search(log_tail)
    if found:
        return _image_fault(_why_not(found["word"], command, found["reason"]), report.exit_code)
    if report.exit_code and (found := _READ_AS_TEXT.match(log_tail)):
        text = _why_not(found["word"], command, "exec format error")
        return _image_fault(text, report.exit_code)
    if _TOO_LONG.search(report.message) or _TOO_LONG.fullmatch(log_tail):
        return _image_fault(
            "The image's environment variables are more than a program can be given. Take some out "
            "of its ENV.",
            report.exit_code,
        )
    if "starting container failed" not in report.message:
        return None
    if unusable := _unusable_part(report.message):
        return _image_fault(unusable, report.exit_code)
    return Failure(
        fault_class=FaultClass.SYSTEM,
        text=f"The machine could not start the container. {_AGAIN}",
        exit_code=report.exit_code,
    )


def _unusable_part(message: str) -> str:
    """A sentence on what of the image's configuration the engine cannot use; empty if nothing."""
    for part, phrases in _IMAGE_FAULTS.items():
        if any(phrase in message for phrase in phrases):
            return (
                f"The image's {part} cannot be used: what it names does not exist in the image, or "
                "cannot be made there. Try the image with 'docker run' and mend it."
            )
    return ""


def _why_not(word: str, command: str, reason: str) -> str:
    if "ermission denied" in reason:
        return (
            f"The image's '{word}' may not be executed: it is a folder, or its file mode lacks the "
            "right. Set it with 'chmod +x' when the image is built, or correct the command's name."
        )
    if "exec format error" in reason:
        return (
            f"The machine cannot execute '{word}': it was built for another kind of processor, or is "
            "a script without '#!' line. Build the image for this platform."
        )
    if word == command:
        return (
            f"The image has no command '{word}', or lacks the interpreter that it needs. Correct the "
            "command's name, or give its full path in the image."
        )
    return (
        f"The image's own entry point '{word}' does not exist in it. Tell the author of the image."
    )


def _ended_badly(report: TaskReport, memory_limit: int, oom_killed: bool | None) -> Failure:
    code = report.exit_code
    if oom_killed or (oom_killed is None and code == _KILLED):
        surely = "" if oom_killed else "most probably "
        return Failure(
            fault_class=FaultClass.LIMIT,
            text=f"The program was killed, {surely}because it needed more than the memory limit of "
            f"{size_in_words(memory_limit)}. Give it less to do at once, or ask the operator for more "
            "memory.",
            exit_code=code,
        )
    if not code:
        return Failure(
            fault_class=FaultClass.SYSTEM,
            text=f"The container failed for a reason that the engine does not name. {_AGAIN}",
        )
    return Failure(
        fault_class=FaultClass.USER,
        text=f"The program ended with exit code {code}{_by_signal(code)}. Read "
        "what it printed, try it with the same file on your own machine, and mend it.",
        exit_code=code,
    )


def _by_signal(code: int) -> str:
    """What a shell means by an exit code above 128, for the signals that end programs."""
    meanings = {
        signal.SIGABRT: "it gave up by itself",
        signal.SIGFPE: "a wrong calculation",
        signal.SIGILL: "an instruction that this processor does not have",
        signal.SIGSEGV: "a wrong memory access",
        signal.SIGKILL: "it was killed",
        signal.SIGTERM: "it was asked to end",
    }
    for number, meaning in meanings.items():
        if code == 128 + number:
            return f" ({number.name}: {meaning})"
    return ""


def _rejected(report: TaskReport) -> Failure:
    if is_unfetched(report):
        return not_fetched()
    if "no matching manifest" in report.message:
        return _image_fault(
            "The image has no variant for the machine's platform. Build and publish one."
        )
    if unusable := _unusable_part(report.message):
        return _image_fault(unusable)
    if "Range of CPUs" in report.message:
        return Failure(
            fault_class=FaultClass.SYSTEM,
            text="The service is set to give a container more CPUs than the machine has. Tell the "
            "operator.",
        )
    return Failure(
        fault_class=FaultClass.SYSTEM,
        text=f"The machine refused the container before it started. {_AGAIN}",
    )


def _image_fault(text: str, exit_code: int | None = None) -> Failure:
    return Failure(fault_class=FaultClass.IMAGE, text=text, exit_code=exit_code)
