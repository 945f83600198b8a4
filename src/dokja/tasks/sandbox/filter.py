"""The system calls a program may not make, as a classic BPF program for seccomp(2).

| calls | verdict | because |
|---|---|---|
| socket | "network is down" | no network, not even where no network namespace holds |
| fork, vfork, clone of a process | "try again" where one process is allowed | no process outlives or multiplies |
| clone with namespace flags, unshare, mount, ptrace, bpf, ... | killed | no solution needs them |
| chmod, chown, utime, setxattr | "not permitted" where no mount namespace holds | Landlock lets them pass |
| kill and its kin, towards others | "not permitted" where no process namespace holds | others run under the same user |
| clone3, io_uring, pidfd | "not implemented" | flags and targets behind pointers cannot be seen; libraries fall back |

The filter is a second wall behind namespaces and the first one where there are none. Numbers of the calls: the
kernel's tables for x86-64 and for the generic layout of arm64.
"""

from __future__ import annotations

import errno
import platform
import struct
from dataclasses import dataclass

# Classic BPF: load word at k; compare; return k. linux/bpf_common.h
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
# linux/seccomp.h: verdicts, and where seccomp_data holds the call's number, the architecture and the arguments
_KILL, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_NUMBER, _ARCH, _ARGUMENT = 0, 4, 16
_X32 = 0x40000000  # the second table of numbers of x86-64, refused as a whole

_CLONE_THREAD = 0x00010000
_CLONE_NAMESPACES = 0x7E020080  # every CLONE_NEW* flag
_F_SETOWN, _F_SETOWN_EX, _FIOSETOWN, _SIOCSPGRP, _TIOCSTI = 8, 15, 0x8901, 0x8902, 0x5412

_CALLS: dict[str, dict[str, int]] = {
    "x86_64": {
        "socket": 41, "fork": 57, "vfork": 58, "clone": 56, "clone3": 435, "kill": 62, "tkill": 200, "tgkill": 234,
        "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297, "fcntl": 72, "ioctl": 16, "prlimit64": 302,
        "shmget": 29, "semget": 64, "msgget": 68, "mq_open": 240, "ptrace": 101, "process_vm_readv": 310,
        "process_vm_writev": 311, "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161, "unshare": 272,
        "setns": 308, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "keyctl": 250, "add_key": 248,
        "request_key": 249, "kexec_load": 246, "kexec_file_load": 320, "init_module": 175, "finit_module": 313,
        "delete_module": 176, "reboot": 169, "swapon": 167, "swapoff": 168, "open_by_handle_at": 304, "acct": 163,
        "settimeofday": 164, "clock_settime": 227, "sethostname": 170, "setdomainname": 171, "quotactl": 179,
        "iopl": 172, "ioperm": 173, "syslog": 103, "fanotify_init": 300, "open_tree": 428, "move_mount": 429,
        "fsopen": 430, "fsconfig": 431, "fsmount": 432, "mount_setattr": 442, "io_uring_setup": 425,
        "io_uring_enter": 426, "io_uring_register": 427, "pidfd_open": 434, "pidfd_send_signal": 424,
        "pidfd_getfd": 438, "modify_ldt": 154, "personality": 135,
        "chmod": 90, "fchmod": 91, "fchmodat": 268, "fchmodat2": 452, "chown": 92, "fchown": 93, "lchown": 94,
        "fchownat": 260, "utime": 132, "utimes": 235, "futimesat": 261, "utimensat": 280, "truncate": 76,
        "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190, "removexattr": 197, "lremovexattr": 198,
        "fremovexattr": 199, "setxattrat": 463, "removexattrat": 466,
    },
    "aarch64": {
        "socket": 198, "clone": 220, "clone3": 435, "kill": 129, "tkill": 130, "tgkill": 131, "rt_sigqueueinfo": 138,
        "rt_tgsigqueueinfo": 240, "fcntl": 25, "ioctl": 29, "prlimit64": 261, "shmget": 194, "semget": 190,
        "msgget": 186, "mq_open": 180, "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "mount": 40,
        "umount2": 39, "pivot_root": 41, "chroot": 51, "unshare": 97, "setns": 268, "bpf": 280,
        "perf_event_open": 241, "userfaultfd": 282, "keyctl": 219, "add_key": 217, "request_key": 218,
        "kexec_load": 104, "kexec_file_load": 294, "init_module": 105, "finit_module": 273, "delete_module": 106,
        "reboot": 142, "swapon": 224, "swapoff": 225, "open_by_handle_at": 265, "acct": 89, "settimeofday": 170,
        "clock_settime": 112, "sethostname": 161, "setdomainname": 162, "quotactl": 60, "syslog": 116,
        "fanotify_init": 262, "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432,
        "mount_setattr": 442, "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
        "pidfd_open": 434, "pidfd_send_signal": 424, "pidfd_getfd": 438, "personality": 92,
        "fchmod": 52, "fchmodat": 53, "fchmodat2": 452, "fchown": 55, "fchownat": 54, "utimensat": 88, "truncate": 45,
        "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7, "removexattr": 14, "lremovexattr": 15, "fremovexattr": 16,
        "setxattrat": 463, "removexattrat": 466,
    },
}  # fmt: skip
_ARCHES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # linux/audit.h

_ABSENT = ("clone3", "io_uring_setup", "io_uring_enter", "io_uring_register", "pidfd_open", "pidfd_send_signal",
           "pidfd_getfd")  # fmt: skip
_LASTING = ("shmget", "semget", "msgget", "mq_open")  # objects that outlive the process that made them
_SIGNALS = ("tkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo")
# What Landlock lets be done to files that it forbids to open
_MARKS = frozenset(
    """chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat utime utimes futimesat utimensat truncate setxattr
    lsetxattr fsetxattr removexattr lremovexattr fremovexattr setxattrat removexattrat""".split()  # noqa: SIM905
)
_NOT_DEADLY = {"socket", "fork", "vfork", "clone", "kill", "tgkill", "fcntl", "ioctl", "prlimit64", "personality"}


def machine() -> str:
    """The name of this machine's table of calls; one that is not in it has no filter."""
    return {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())


def known_machine() -> bool:
    """Whether a filter can be written for this machine."""
    return machine() in _CALLS


@dataclass
class _Program:
    """Instructions in order; every rule ends with the call's number in the accumulator."""

    code: bytes = b""

    def put(self, operation: int, k: int, then: int = 0, otherwise: int = 0) -> None:
        self.code += struct.pack("=HBBI", operation, then, otherwise, k)

    def on(self, number: int, verdict: int) -> None:
        """Give `verdict` to every call of this number."""
        self.put(_EQUAL, number, 0, 1)
        self.put(_RETURN, verdict)

    def on_argument(self, number: int, place: int, test: int, value: int, verdict: int, negate: bool = False) -> None:
        """Give `verdict` where the low word of an argument passes `test` against `value`, or fails it with `negate`."""
        self.put(_EQUAL, number, 0, 4)
        self.put(_LOAD, _ARGUMENT + 8 * place)
        self.put(test, value, *((1, 0) if negate else (0, 1)))
        self.put(_RETURN, verdict)
        self.put(_LOAD, _NUMBER)


def build(processes: int, own_pid: int | None = None, arch: str | None = None) -> bytes:
    """The filter as an array of sock_filter, for a program that may run so many processes.

    `own_pid` given: no process namespace holds, so signals go to this process alone and nothing is started. `arch` is
    for tests. KeyError for a machine without a table.
    """
    arch = arch or machine()
    calls = _CALLS[arch]
    program = _Program()
    program.put(_LOAD, _ARCH)
    program.put(_EQUAL, _ARCHES[arch], 1, 0)
    program.put(_RETURN, _KILL)
    program.put(_LOAD, _NUMBER)
    if arch == "x86_64":
        program.put(_AT_LEAST, _X32, 0, 1)
        program.put(_RETURN, _KILL)
    program.on(calls["socket"], _ERRNO | errno.ENETDOWN)
    program.on_argument(calls["clone"], 0, _ANY_BIT, _CLONE_NAMESPACES, _KILL)
    if processes == 1 or own_pid is not None:
        program.on_argument(calls["clone"], 0, _ANY_BIT, _CLONE_THREAD, _ERRNO | errno.EAGAIN, negate=True)
        for name in ("fork", "vfork"):
            if name in calls:
                program.on(calls[name], _ERRNO | errno.EAGAIN)
    if own_pid is not None:
        for name in ("kill", "tgkill"):
            program.on_argument(calls[name], 0, _EQUAL, own_pid, _ERRNO | errno.EPERM, negate=True)
        for name in _SIGNALS:
            program.on(calls[name], _ERRNO | errno.EPERM)
        for name in sorted(_MARKS & calls.keys()):
            program.on(calls[name], _ERRNO | errno.EPERM)
        program.on_argument(calls["prlimit64"], 0, _EQUAL, 0, _ERRNO | errno.EPERM, negate=True)
    for command in (_F_SETOWN, _F_SETOWN_EX):
        program.on_argument(calls["fcntl"], 1, _EQUAL, command, _ERRNO | errno.EPERM)
    for command in (_FIOSETOWN, _SIOCSPGRP, _TIOCSTI):
        program.on_argument(calls["ioctl"], 1, _EQUAL, command, _ERRNO | errno.EPERM)
    for name in _ABSENT:
        program.on(calls[name], _ERRNO | errno.ENOSYS)
    for name in _LASTING:
        program.on(calls[name], _ERRNO | errno.EPERM)
    named = {*_ABSENT, *_LASTING, *_SIGNALS, *_MARKS, *_NOT_DEADLY}
    for name, number in calls.items():
        if name not in named:
            program.on(number, _KILL)
    program.put(_RETURN, _ALLOW)
    return program.code
