#!/usr/bin/env python3
"""Looks from inside at what a container can do and reach.

    probe [--peer ADDRESS:PORT]… [--manager ADDRESS]… [--public HOST:PORT] [WORD…]
    probe --listen SECONDS [WORD…]

Prints one line for each check, ``ok|open|unknown NAME: TEXT``, and all of them as JSON in the last line.
``ok`` is what should be: the container is shut in, and StorageHub can be reached. Nothing outside the
container is changed: what is tried is undone, or is of no effect if it should succeed. With ``--listen`` it
is the one that others try to reach: it prints its address and waits.

The last three words of a job, its token among them, are ignored.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import resource
import select
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

_LIBC = ctypes.CDLL(None, use_errno=True)
#: Of system calls that the C library has no function for.
_CALLS = ("keyctl", "bpf", "init_module", "open_by_handle_at", "perf_event_open", "syslog", "kexec_load",
          "reboot", "pivot_root")  # fmt: skip
_NUMBERS = {
    "x86_64": dict(zip(_CALLS, (250, 321, 175, 304, 298, 103, 246, 169, 155), strict=True)),
    "aarch64": dict(zip(_CALLS, (219, 280, 105, 265, 241, 116, 104, 142, 41), strict=True)),
}
_NEW_USERS, _NEW_MOUNTS = 0x10000000, 0x00020000
_REFUSED = (errno.EPERM, errno.EACCES, errno.ENOSYS)
_MANY = 2**60
#: Belongs to root and has the set-user bit; the image has it.
_SETUID_PROGRAM = "/usr/local/bin/setuid-busybox"
_SOCKETS = (
    "/var/run/docker.sock",
    "/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
)
_MASKED = (
    "/proc/kcore",
    "/proc/keys",
    "/proc/timer_list",
    "/proc/sched_debug",
    "/proc/latency_stats",
    "/proc/scsi",
    "/proc/acpi",
    "/sys/firmware",
)
_READ_ONLY = ("/proc/sys", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sysrq-trigger")
_DEVICES = {
    "console",
    "core",
    "fd",
    "full",
    "mqueue",
    "null",
    "ptmx",
    "pts",
    "random",
    "shm",
    "stderr",
    "stdin",
    "stdout",
    "tty",
    "urandom",
    "zero",
}
_OWN_FILES = {"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"}
_OWN_KINDS = {"overlay", "proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2"}
_SECRET_WORDS = (
    "TOKEN",
    "SECRET",
    "PASSW",
    "CREDENTIAL",
    "APIKEY",
    "API_KEY",
    "PRIVATE",
    "AWS_",
    "DOCKER_",
)
_MANAGER_PORTS = (2375, 2376, 2377, 7946)
_SERVICE_PORTS = (
    *range(1, 1025),
    2049,
    3306,
    5000,
    5432,
    6379,
    8000,
    8080,
    8081,
    8443,
    9000,
    9090,
    9100,
    9323,
    10250,
)
_PATIENCE = 1.5
#: Connections tried at once: less than there may be open files.
_AT_ONCE = 2000

OK, OPEN, UNKNOWN = "ok", "open", "unknown"


class Report:
    """What was found, in order."""

    def __init__(self) -> None:
        self.checks: list[dict[str, str]] = []

    def add(self, name: str, status: str, text: str) -> None:
        """Take a check's outcome and print it."""
        text = " ".join(text.split())
        self.checks.append({"name": name, "status": status, "text": text})
        print(f"{status} {name}: {text}", flush=True)

    def holds(self, name: str, holds: bool, text: str) -> None:
        """Take a check that is ok or not."""
        self.add(name, OK if holds else OPEN, text)


def look(report: Report, arguments: Arguments) -> None:
    """Make all checks. One that breaks is unknown; the others go on."""
    rounds = (
        capabilities, privileges, system_calls, users, limits, files, kernel_files, devices, name_spaces,
        leaks, lambda report: neighbourhood(report, arguments), lambda report: outside(report, arguments),
    )  # fmt: skip
    for each in rounds:
        try:
            each(report)
        except Exception as error:  # noqa: BLE001 - one look must not end the others
            report.add(
                getattr(each, "__name__", "look"), UNKNOWN, f"could not be looked at: {error!r}"
            )
    processes(report)


# -- what the process may do


def own_status() -> dict[str, str]:
    """The fields of ``/proc/self/status``."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def capabilities(report: Report) -> None:
    """The five sets; empty as it should be."""
    status = own_status()
    for name, field in (("effective", "CapEff"), ("permitted", "CapPrm"), ("bounding", "CapBnd"),
                        ("inheritable", "CapInh"), ("ambient", "CapAmb")):  # fmt: skip
        report.add(f"capabilities-{name}", *told(status, field, lambda text: int(text, 16) == 0))


def told(status: dict[str, str], field: str, is_good: Callable[[str], bool]) -> tuple[str, str]:
    """The outcome of a look at a field of the kernel's; gVisor's has not all of them."""
    value = status.get(field)
    if value is None:
        return UNKNOWN, f"the kernel does not tell {field}"
    return (OK if is_good(value) else OPEN), f"{field} is {value}"


def privileges(report: Report) -> None:
    """What holds a program down that would become more than it is."""
    status = own_status()
    report.add("no-new-privileges", *told(status, "NoNewPrivs", lambda text: text == "1"))
    found, text = told(status, "Seccomp", lambda text: text == "2")
    report.add("seccomp", found, f"{text} (2: filtered)")
    try:
        label = Path("/proc/self/attr/current").read_text().strip(" \n\0")
    except OSError:
        label = ""
    if not label:
        report.add("apparmor", UNKNOWN, "the kernel has no AppArmor or SELinux that tells")
    else:
        report.add("apparmor", confined(label), f"confined by {label}")


def confined(label: str) -> str:
    """Whether a label of AppArmor's or SELinux' holds: AppArmor's may only complain."""
    # SELinux' labels have four parts and no mode.
    return OK if label.endswith("(enforce)") or label.count(":") >= 3 else OPEN


def tried(number: int, *arguments: object) -> int:
    """Make a system call by its number; return the error, 0 if it was done."""
    ctypes.set_errno(0)
    return ctypes.get_errno() if _LIBC.syscall(number, *arguments) == -1 else 0


def in_child(action: object, *arguments: object) -> int:
    """Call a C function in a child, so that it has no effect here; return its error."""
    child = os.fork()
    if not child:
        ctypes.set_errno(0)
        os._exit(ctypes.get_errno() if action(*arguments) == -1 else 0)  # type: ignore[operator]
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def refused(report: Report, name: str, error: int) -> None:
    """Take the error of a call that should be forbidden."""
    what = "was done" if not error else f"got as far as {errno.errorcode.get(error, error)}"
    report.holds(name, error in _REFUSED, "is refused" if error in _REFUSED else what)


def system_calls(report: Report) -> None:
    """Calls that would change the machine, with arguments that change nothing."""
    refused(report, "call-mount", in_child(_LIBC.mount, b"none", b"/proc/self", b"tmpfs", 0, None))
    refused(report, "call-unshare-user", in_child(_LIBC.unshare, _NEW_USERS))
    refused(report, "call-unshare-mount", in_child(_LIBC.unshare, _NEW_MOUNTS))
    refused(report, "call-setns", in_child(_LIBC.setns, os.open("/proc/1/ns/net", os.O_RDONLY), 0))
    refused(report, "call-swapon", in_child(_LIBC.swapon, b"/nothing", 0))
    refused(report, "call-chroot", in_child(_LIBC.chroot, b"/"))
    numbers = _NUMBERS.get(platform.machine(), {})
    for name, arguments in (
        ("keyctl", (0, -3, 0)),  # the session's key ring, not made
        ("bpf", (0, None, 0)),
        ("init_module", (None, 0, b"")),
        ("open_by_handle_at", (-1, None, 0)),
        ("perf_event_open", (None, 0, -1, -1, 0)),
        ("syslog", (10, None, 0)),  # the size of the kernel's log
        ("kexec_load", (0, 0, None, 0)),
        ("reboot", (0, 0, 0, None)),  # without its magic numbers
        ("pivot_root", (b"/nothing", b"/nothing")),
    ):
        if name in numbers:
            refused(report, f"call-{name.replace('_', '-')}", tried(numbers[name], *arguments))
        else:
            report.add(
                f"call-{name.replace('_', '-')}", UNKNOWN, f"not tried on {platform.machine()}"
            )
    try:
        time.clock_settime(time.CLOCK_REALTIME, time.time())
        report.holds("call-clock-settime", False, "was done")
    except OSError as error:
        refused(report, "call-clock-settime", error.errno or 0)
    for name, family in (("raw-socket", socket.AF_INET), ("packet-socket", socket.AF_PACKET)):
        try:
            protocol = socket.IPPROTO_ICMP if family == socket.AF_INET else 0
            socket.socket(family, socket.SOCK_RAW, protocol).close()
            report.holds(name, False, "was opened")
        except OSError as error:
            refused(report, name, error.errno or 0)


def users(report: Report) -> None:
    """Who it is, and whether it can become somebody else."""
    report.holds("user", os.getuid() != 0, f"user {os.getuid()}, group {os.getgid()}")
    groups = sorted(set(os.getgroups()) - {os.getgid()})
    report.holds(
        "groups", 0 not in groups and os.getgid() != 0, f"further groups: {groups or 'none'}"
    )
    mapped = Path("/proc/self/uid_map").read_text().split()
    report.holds(
        "user-namespace",
        mapped[:2] != ["0", "0"],
        f"user 0 here is user {mapped[1]} of the machine",
    )
    report.add("setuid-gain", *gain())


def gain() -> tuple[str, str]:
    """Whether a program that belongs to another user runs as that user, or a user can be changed."""
    if os.getuid() == 0:
        return root_changes()
    try:
        is_set = bool(os.stat(_SETUID_PROGRAM).st_mode & stat.S_ISUID)
    except OSError:
        is_set = False
    if not is_set:
        return UNKNOWN, f"{_SETUID_PROGRAM} is missing or has lost its set-user bit"
    text = output_of(_SETUID_PROGRAM, "cat", "/proc/self/status")
    ids = next((line.split()[1:] for line in text.splitlines() if line.startswith("Uid:")), [])
    if not ids:
        return UNKNOWN, "a program of root's told nothing"
    return (OPEN if "0" in ids else OK), f"a program of root's runs with the users {' '.join(ids)}"


def root_changes() -> tuple[str, str]:
    """Whether root can become another user."""
    child = os.fork()
    if not child:
        try:
            os.setuid(65534)
        except OSError:
            os._exit(0)
        os._exit(1)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        return OPEN, "root becomes another user"
    return OK, "root cannot become another user"


def output_of(program: str, *words: str) -> str:
    """What a program writes; nothing if it cannot be run."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        # The child must never go on with what is the parent's.
        try:
            os.dup2(writer, 1)
            os.execv(program, words)
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader) as stream:
        text = stream.read()
    os.waitpid(child, 0)
    return text


# -- how much it may use


def control(first: str, second: str) -> str | None:
    """A file of the control group: version 1's name, or version 2's; empty if it has none."""
    for path in (first, second):
        try:
            return Path("/sys/fs/cgroup", path).read_text().strip()
        except OSError:
            continue
    return None


def limits(report: Report) -> None:
    """Memory, swap, CPU, files."""
    memory = control("memory/memory.limit_in_bytes", "memory.max")
    report.add("memory-limit", *limited(memory, "bytes"))
    with_swap = control("memory/memory.memsw.limit_in_bytes", "")
    alone = control("", "memory.swap.max")
    swap = next(
        (
            line.split()[1]
            for line in Path("/proc/meminfo").read_text().splitlines()
            if line.startswith("SwapTotal")
        ),
        "?",
    )
    report.holds(
        "swap",
        swap == "0" or cannot_swap(memory, with_swap, alone),
        f"the machine has {swap} kB of swap; limit: "
        + (f"{with_swap}, memory included" if with_swap else str(alone)),
    )
    report.add(
        "cpu-limit",
        *limited((control("cpu/cpu.cfs_quota_us", "cpu.max") or "").split(" ")[0], "µs"),
    )
    for name, number, most in (
        ("open-files", resource.RLIMIT_NOFILE, 4096),
        ("core-files", resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(number)[1]
        report.holds(name, 0 <= hard <= most, f"at most {hard}")
    room = os.statvfs("/dev/shm")
    size = room.f_blocks * room.f_frsize
    report.holds("shared-memory", size <= 64 * 2**20, f"/dev/shm holds {size >> 20} MiB")


def cannot_swap(memory: str | None, with_swap: str | None, alone: str | None) -> bool:
    """Whether limits leave no room for swap.

    Version 1 of control groups limits memory and swap together: no swap is left if that is memory's own
    limit. Version 2 limits swap alone, where the same number means as much swap again: Docker's default.
    """
    return alone == "0" or (with_swap is not None and with_swap == memory)


def limited(value: str | None, unit: str) -> tuple[str, str]:
    """The outcome of a look at a limit."""
    if not value:
        return UNKNOWN, "no control group tells"
    is_limited = value.isdigit() and int(value) < _MANY
    return (OK if is_limited else OPEN), f"{value} {unit}"


def processes(report: Report) -> None:
    """Fork until it is refused; last, because it disturbs."""
    most = control("pids/pids.max", "pids.max")
    if most is None or not most.isdigit() or int(most) > 10_000:
        report.holds("processes", False, f"at most {most}")
        return
    children = []
    error: OSError | None = None
    while error is None and len(children) <= int(most):
        try:
            child = os.fork()
        except OSError as refusal:
            error = refusal
            break
        if not child:
            signal.pause()
            os._exit(0)
        children.append(child)
    for child in children:
        os.kill(child, signal.SIGKILL)
    for child in children:
        os.waitpid(child, 0)
    report.holds("processes", error is not None, f"{len(children)} more processes, of {most}")


# -- what it may write and see


def mounts() -> list[tuple[str, str, str, str]]:
    """Each mount's root, place, options and kind."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        words = line.split()
        found.append((words[3], words[4], words[5], words[words.index("-") + 1]))
    return found


def writes(path: str) -> bool:
    """Whether a file can be opened for writing; nothing is written."""
    try:
        os.close(os.open(path, os.O_WRONLY))
    except OSError:
        return False
    return True


def makes(folder: str) -> bool:
    """Whether a file can be made in a folder; it is removed again."""
    path = f"{folder}/.probe-{os.getpid()}"
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except OSError:
        return False
    os.unlink(path)
    return True


def files(report: Report) -> None:
    """The root file system and what is mounted into it."""
    options = next(options for _, place, options, _ in mounts() if place == "/")
    report.holds("root-filesystem", "ro" in options.split(","), f"mounted {options.split(',')[0]}")
    writable = [
        folder
        for folder in ("/", "/etc", "/usr/bin", "/root", "/var", "/tmp", "/var/tmp", "/run")
        if makes(folder)
    ]
    bounded = {place for _, place, _, kind in mounts() if kind == "tmpfs"}
    beyond = [folder for folder in writable if folder not in bounded]
    report.holds("unbounded-writes", not beyond, f"can write to {', '.join(writable) or 'nothing'}")
    loose = [
        place
        for _, place, options, kind in mounts()
        if kind == "tmpfs"
        and place in ("/tmp", "/var/tmp", "/run", "/dev/shm")
        and not {"nosuid", "nodev"} <= set(options.split(","))
    ]
    report.holds(
        "memory-filesystems",
        not loose,
        f"set-user programs and devices count in {', '.join(loose) or 'none'}",
    )
    foreign = [
        place for root, place, _, kind in mounts()
        if kind not in _OWN_KINDS and place not in _OWN_FILES and Path(place).name != "docker-init"
    ]  # fmt: skip
    report.holds(
        "host-mounts", not foreign, f"mounted from the machine: {', '.join(foreign) or 'nothing'}"
    )
    sockets = [path for path in _SOCKETS if Path(path).exists()]
    report.holds("engine-socket", not sockets, f"{', '.join(sockets) or 'none'} found")
    secrets = sorted(path.name for path in Path("/run/secrets").glob("*"))
    report.holds("secrets", not secrets, f"/run/secrets holds {', '.join(secrets) or 'nothing'}")


def kernel_files(report: Report) -> None:
    """The kernel's files, which are the machine's."""
    readable = [path for path in _MASKED if shows(path)]
    report.holds("masked-files", not readable, f"{', '.join(readable) or 'none'} can be read")
    options = {place: options.split(",") for _, place, options, _ in mounts()}
    open_ones = [
        path for path in _READ_ONLY if Path(path).exists() and "ro" not in options.get(path, [])
    ]
    report.holds(
        "read-only-proc", not open_ones, f"{', '.join(open_ones) or 'none'} mounted for writing"
    )
    for name, path in (
        ("core-pattern", "/proc/sys/kernel/core_pattern"),
        ("sysrq", "/proc/sysrq-trigger"),
        ("modprobe-path", "/proc/sys/kernel/modprobe"),
        ("uevent-helper", "/sys/kernel/uevent_helper"),
    ):
        report.holds(
            name, not writes(path), f"{path} can{'' if writes(path) else 'not'} be written"
        )
    report.holds(
        "sys", "ro" in options.get("/sys", []), f"/sys is mounted {options.get('/sys', ['not'])[0]}"
    )
    groups = [
        place
        for _, place, opts, kind in mounts()
        if kind in ("cgroup", "cgroup2") and "rw" in opts.split(",")
    ]
    agents = [
        str(path) for path in Path("/sys/fs/cgroup").glob("*/release_agent") if writes(str(path))
    ]
    report.holds(
        "control-groups",
        not groups and not agents,
        f"{', '.join(groups + agents) or 'none'} can be written",
    )


def shows(path: str) -> bool:
    """Whether there is anything to read in a file or folder."""
    try:
        if Path(path).is_dir():
            return bool(os.listdir(path))
        with open(path, "rb") as file:
            return bool(file.read(16))
    except OSError:
        return False


def devices(report: Report) -> None:
    """Devices, there or made."""
    found = sorted(set(os.listdir("/dev")) - _DEVICES)
    report.holds("devices", not found, f"beside the usual: {', '.join(found) or 'none'}")
    path = f"/tmp/.probe-device-{os.getpid()}"
    try:
        os.mknod(path, stat.S_IFBLK | 0o600, os.makedev(7, 0))
    except OSError as error:
        report.holds(
            "mknod", error.errno in (*_REFUSED, errno.EROFS), f"is refused: {error.strerror}"
        )
        return
    os.unlink(path)
    report.holds("mknod", False, "a block device was made")


def name_spaces(report: Report) -> None:
    """Whether it sees more than itself."""
    first = Path("/proc/1/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    numbers = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    report.holds(
        "process-namespace",
        "probe" in first and len(numbers) < 20,
        f"{len(numbers)} processes; the first is {first.split(' ')[0]}",
    )
    links = sorted(name for _, name in socket.if_nameindex())
    bridges = [
        name
        for name in links
        if name.startswith(("docker", "br-", "virbr", "ens", "enp"))
        or (
            name.endswith("0")
            and not name.startswith(("eth", "tunl", "sit", "gre", "ip6", "erspan"))
        )
    ]
    report.holds("network-namespace", not bridges, f"interfaces {', '.join(links)}")
    shared = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    report.holds("ipc-namespace", not shared, f"{len(shared)} pieces of shared memory of others'")


def leaks(report: Report) -> None:
    """What runtimes have left open (CVE-2019-5736, CVE-2024-21626), and secrets in the environment."""
    open_ones = []
    for number in os.listdir("/proc/self/fd"):
        if int(number) > 2:
            try:
                open_ones.append(f"{number} to {os.readlink(f'/proc/self/fd/{number}')}")
            except OSError:
                continue  # the one that lists
    open_ones = [each for each in open_ones if not each.endswith(("/ns/net", "]"))]
    report.holds("left-descriptors", not open_ones, f"{', '.join(open_ones) or 'none'} left open")
    try:
        here = os.getcwd()
    except OSError as error:
        here = f"unreachable: {error.strerror}"
    report.holds("working-folder", here.startswith("/") and "unreachable" not in here, f"is {here}")
    report.holds(
        "runtime-program",
        not writes("/proc/1/exe"),
        "the first process's program can"
        + ("" if writes("/proc/1/exe") else "not")
        + " be written",
    )
    names = [name for name in os.environ if any(word in name.upper() for word in _SECRET_WORDS)]
    report.holds("environment", not names, f"{', '.join(names) or 'no name'} looks like a secret's")


# -- what it reaches


def attempt(
    addresses: list[tuple[str, int]], patience: float = _PATIENCE
) -> dict[tuple[str, int], str]:
    """Connect to many at once; tell of each ``open``, ``closed`` (refused by it) or ``nothing``."""
    outcome = dict.fromkeys(addresses, "nothing")
    for start in range(0, len(addresses), _AT_ONCE):
        under_way = {}
        for host, port in addresses[start : start + _AT_ONCE]:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            try:
                sock = socket.socket(family, socket.SOCK_STREAM)
                sock.setblocking(False)
                error = sock.connect_ex((host, port))
            except OSError:
                continue
            if error in (0, errno.EINPROGRESS):
                under_way[sock.fileno()] = (sock, (host, port))
            else:
                outcome[host, port] = "closed" if error == errno.ECONNREFUSED else "nothing"
                sock.close()
        settle(under_way, outcome, time.monotonic() + patience)
    return outcome


def settle(
    under_way: dict[int, tuple[socket.socket, tuple[str, int]]],
    outcome: dict[tuple[str, int], str],
    deadline: float,
) -> None:
    """Wait for connections until the deadline."""
    poll = select.poll()
    for number in under_way:
        poll.register(number, select.POLLOUT)
    while under_way and (left := deadline - time.monotonic()) > 0:
        for number, _ in poll.poll(left * 1000):
            sock, address = under_way.pop(number)
            poll.unregister(number)
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            outcome[address] = (
                "open" if not error else "closed" if error == errno.ECONNREFUSED else "nothing"
            )
            sock.close()
    for sock, _ in under_way.values():
        sock.close()


def gateway() -> str | None:
    """The address that packets leave by."""
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        words = line.split()
        if words[1] == "00000000":
            return socket.inet_ntoa(int(words[2], 16).to_bytes(4, sys.byteorder))
    return None


def own_address() -> str:
    """Its own address on the way out."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect((gateway() or "192.0.2.1", 9))
        except OSError:
            return ""
        return str(sock.getsockname()[0])


def ipv6_table(name: str) -> list[list[str]]:
    """The words of a table of the kernel's; none without IPv6."""
    try:
        return [line.split() for line in Path(f"/proc/net/{name}").read_text().splitlines()]
    except OSError:
        return []


def own_address6() -> str:
    """Its own IPv6 address, if it has one that leads further than the next machine."""
    found = [bytes.fromhex(words[0]) for words in ipv6_table("if_inet6") if words[3] == "00"]
    return socket.inet_ntop(socket.AF_INET6, found[0]) if found else ""


def gateways() -> list[str]:
    """The addresses that packets leave by, of both kinds."""
    four = gateway()
    zeros = "0" * 32
    six = {
        socket.inet_ntop(socket.AF_INET6, bytes.fromhex(words[4]))
        for words in ipv6_table("ipv6_route")
        if words[0] == zeros and words[1] == "00" and words[4] != zeros
    }
    return [*([four] if four else []), *sorted(six)]


def names(addresses: dict[tuple[str, int], str], *wanted: str) -> str:
    """Those of which something came back, for a person to read."""
    return (
        ", ".join(f"{host}:{port}" for (host, port), what in addresses.items() if what in wanted)
        or "nothing"
    )


def neighbourhood(report: Report, arguments: Arguments) -> None:
    """The machine and the other containers."""
    ways_out = gateways()
    hosts = list(dict.fromkeys([*ways_out, *arguments.managers]))
    found = attempt([(host, port) for host in hosts for port in _MANAGER_PORTS])
    report.holds(
        "manager-ports",
        "open" not in found.values(),
        f"reached {names(found, 'open')} of {len(found)} ports on {', '.join(hosts) or 'no machine'}",
    )
    found = attempt([(host, 22) for host in hosts])
    report.holds("host-ssh", "open" not in found.values(), f"reached {names(found, 'open')}")
    found = attempt([(host, port) for host in ways_out for port in _SERVICE_PORTS])
    # One that refuses is there: the machine itself answers.
    reached = [port for (_, port), what in found.items() if what != "nothing"]
    report.holds(
        "host-services",
        not reached,
        f"the machine answers on {len(reached)} of {len(found)} ports; open: {names(found, 'open')}",
    )
    own = own_address()
    near = [host for host in neighbours(own) if host not in ways_out]
    found = attempt([*arguments.peers, *((host, 9) for host in near)])
    reached_ones = [host for (host, _), what in found.items() if what != "nothing"]
    report.add(
        "other-containers",
        OPEN if reached_ones else OK if arguments.peers else UNKNOWN,
        f"reached {', '.join(sorted(set(reached_ones))) or 'none'} of {len(arguments.peers)} known and "
        f"{len(near)} possible ones",
    )
    found_names = []
    for host, _ in arguments.peers:
        try:
            found_names.append(socket.gethostbyaddr(host)[0])
        except OSError:
            continue
    report.add("names-of-others", OPEN if found_names else OK if arguments.peers else UNKNOWN,
               f"their addresses tell {', '.join(found_names) or 'no name'}")  # fmt: skip


def neighbours(own: str) -> list[str]:
    """Some addresses around one's own, in the container's own network and nowhere else."""
    if not own:
        return []
    number = int.from_bytes(socket.inet_aton(own), "big")
    masks = [
        (int.from_bytes(int(words[1], 16).to_bytes(4, sys.byteorder), "big"),
         int.from_bytes(int(words[7], 16).to_bytes(4, sys.byteorder), "big"))
        for words in (line.split() for line in Path("/proc/net/route").read_text().splitlines()[1:])
        if words[2] == "00000000"
    ]  # fmt: skip
    return [
        socket.inet_ntoa(near.to_bytes(4, "big"))
        for near in range(number - 16, number + 17)
        if near != number and any(near & mask == net == number & mask for net, mask in masks)
    ]


def public_network(addresses: list[str], port: int) -> tuple[str, str]:
    """Whether any of a public name's addresses can be reached; who knows none can try none."""
    if not addresses:
        return UNKNOWN, "no address to try: give --public the address of a machine"
    found = attempt([(address, port) for address in addresses])
    return (OPEN if "open" in found.values() else OK), f"reached {names(found, 'open')}"


def outside(report: Report, arguments: Arguments) -> None:
    """The world, and what it is there for."""
    metadata = ("169.254.169.254", 80)
    found = attempt([metadata])
    report.holds(
        "metadata-ipv4", found[metadata] == "nothing", f"reached {names(found, 'open', 'closed')}"
    )
    metadata = ("fd00:ec2::254", 80)
    found = attempt([metadata])
    report.holds(
        "metadata-ipv6", found[metadata] == "nothing", f"reached {names(found, 'open', 'closed')}"
    )
    host, port = arguments.public
    try:
        addresses = sorted(
            {str(each[4][0]) for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
        )
    except OSError:
        addresses = []
    report.holds(
        "outside-names", not addresses, f"{host} {'has addresses' if addresses else 'is not known'}"
    )
    report.add("public-network", *public_network(addresses, port))
    url = urlsplit(os.environ.get("STORAGEHUB_URL", ""))
    if not url.hostname:
        report.add("storagehub", UNKNOWN, "STORAGEHUB_URL is not set")
        return
    try:
        socket.create_connection(
            (url.hostname, url.port or (443 if url.scheme == "https" else 80)), 5
        ).close()
        report.add("storagehub", OK, f"{url.netloc} can be reached")
    except OSError as error:
        report.holds(
            "storagehub", False, f"{url.netloc} cannot be reached: {error.strerror or error}"
        )


# -- the command


class Arguments:
    """What the command line says."""

    def __init__(self, words: list[str]) -> None:
        self.peers: list[tuple[str, int]] = []
        self.managers: list[str] = []
        self.public = ("registry-1.docker.io", 443)
        self.listen = 0.0
        while len(words) > 1 and words[0].startswith("--"):
            option, value, *words = words
            if option == "--listen":
                self.listen = float(value)
            elif option == "--manager":
                self.managers.append(value)
            else:
                host, _, port = value.rpartition(":")
                if option == "--peer":
                    self.peers.append((host.strip("[]"), int(port)))
                elif option == "--public":
                    self.public = (host, int(port))


def listen(seconds: float) -> None:
    """Be there for others to find."""
    own, own6 = own_address(), own_address6()
    with socket.create_server(("::" if own6 else "", 0), family=socket.AF_INET6 if own6 else socket.AF_INET,
                              dualstack_ipv6=bool(own6)) as server:  # fmt: skip
        port = server.getsockname()[1]
        print("address", f"{own}:{port}", f"[{own6}]:{port}" if own6 else "", flush=True)
        time.sleep(seconds)


def main() -> None:
    """Run it."""
    os.environ["RES_OPTIONS"] = "timeout:1 attempts:1"  # a name server may be walled off
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    arguments = Arguments(sys.argv[1:])
    if arguments.listen:
        listen(arguments.listen)
        return
    report = Report()
    look(report, arguments)
    print(json.dumps(report.checks), flush=True)


if __name__ == "__main__":
    main()
