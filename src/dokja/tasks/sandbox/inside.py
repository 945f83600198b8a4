"""The last step before a program runs: limits, rights and filter, put on from inside the sandbox.

Run as `python -I -S inside.py PLAN`, where PLAN is a file of JSON that `isolation.py` wrote. Whatever
cannot be put on ends the run with status SETUP_FAILED: a program never starts half dressed. Nothing of dokja is
imported: inside, there is none.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import struct
import sys
from collections.abc import Sequence
from typing import Any

SETUP_FAILED = 231
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _PR_CAPBSET_DROP, _PR_SET_PDEATHSIG = 22, 38, 24, 1
_SECCOMP_MODE_FILTER = 2
_CAPABILITIES = 64  # numbers tried; those the kernel lacks answer EINVAL
_CAPSET_VERSION_3 = 0x20080522
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_CAPSET = {"x86_64": 126, "aarch64": 91}
# linux/landlock.h: execute 1, read file 4, read folder 8; a write is everything the ABI knows but devices' ioctl
_READ = 1 | 4 | 8
_RIGHTS_BY_ABI = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 4: 0x7FFF, 5: 0xFFFF}
_IOCTL_DEVICE = 0x8000
_FILE_RIGHTS = 1 | 2 | 4 | 0x4000 | _IOCTL_DEVICE  # what a rule about a file, not a folder, may hold


def _call(libc: ctypes.CDLL, *arguments: Any) -> None:
    if libc.syscall(*arguments) < 0:
        raise OSError(ctypes.get_errno(), f"system call {arguments[0]}")


def _prctl(libc: ctypes.CDLL, *arguments: Any) -> None:
    words = [ctypes.c_ulong(a) if isinstance(a, int) else a for a in arguments]
    if libc.prctl(*words, *[ctypes.c_ulong(0)] * (5 - len(words))) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {arguments[0]}")


def landlock_abi(libc: ctypes.CDLL) -> int:
    """The version of Landlock the kernel offers; 0 where there is none."""
    return max(0, int(libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1)))


def landlock(libc: ctypes.CDLL, readable: Sequence[str], writable: Sequence[str]) -> None:
    """Forbid every file but these, TCP, and signals and abstract sockets out of this domain, as far as the ABI goes."""
    abi = landlock_abi(libc)
    rights = _RIGHTS_BY_ABI[min(abi, 5)]
    attributes = struct.pack("=QQQ", rights, 3 if abi >= 4 else 0, 3 if abi >= 6 else 0)
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    rules = libc.syscall(_LANDLOCK_CREATE, attributes, ctypes.c_size_t(size), 0)
    if rules < 0:
        raise OSError(ctypes.get_errno(), "landlock_create_ruleset")
    for paths, allowed in ((readable, _READ), (writable, rights & ~_IOCTL_DEVICE)):
        for path in paths:
            if not os.path.exists(path):
                continue
            held = os.open(path, os.O_PATH | os.O_CLOEXEC)
            granted = allowed if os.path.isdir(path) else allowed & _FILE_RIGHTS
            _call(libc, _LANDLOCK_ADD, rules, 1, struct.pack("=Qi", granted & rights, held), 0)
            os.close(held)
    _call(libc, _LANDLOCK_RESTRICT, rules, 0)
    os.close(rules)


def drop_capabilities(libc: ctypes.CDLL) -> None:
    """Give up every capability, now and for whatever is executed."""
    for number in range(_CAPABILITIES):
        libc.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(number), 0, 0, 0)
    header, none = struct.pack("=Ii", _CAPSET_VERSION_3, 0), struct.pack("=6I", *[0] * 6)
    _call(libc, _CAPSET[os.uname().machine], header, none)


def install_filter(libc: ctypes.CDLL, code: bytes) -> None:
    """Put on a seccomp filter, given as an array of sock_filter."""
    array = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("=H6xQ", len(code) // 8, ctypes.addressof(array))
    _prctl(libc, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.create_string_buffer(program, len(program)))


def dress(plan: dict[str, Any]) -> None:
    """Everything of the plan but running the program. OSError where a part of it cannot be had."""
    libc = ctypes.CDLL(None, use_errno=True)
    for name, value in plan["limits"].items():
        resource.setrlimit(getattr(resource, name), (value, value))
    if plan["uid"] is not None:
        os.setgroups([])
        os.setresgid(plan["uid"], plan["uid"], plan["uid"])
        os.setresuid(plan["uid"], plan["uid"], plan["uid"])
    elif os.geteuid() == 0 and plan["drop"]:
        drop_capabilities(libc)
    if plan["parent"] is not None:
        _prctl(libc, _PR_SET_PDEATHSIG, 9)
        if os.getppid() != plan["parent"]:
            raise OSError("the caller is gone")
    _prctl(libc, _PR_SET_NO_NEW_PRIVS, 1)
    if plan["landlock"] is not None:
        landlock(libc, **plan["landlock"])
    if plan["filter"] is not None:
        code = bytes.fromhex(plan["filter"])
        if plan["own_pid_mark"] is not None:  # the filter was written before this process had a number
            mark, mine = (struct.pack("=I", number) for number in (plan["own_pid_mark"], os.getpid()))
            words = [code[i : i + 4] for i in range(0, len(code), 4)]
            code = b"".join(mine if n % 2 and word == mark else word for n, word in enumerate(words))
        install_filter(libc, code)


def main() -> None:
    """Read the plan, put it on, become the program."""
    with open(sys.argv[1], "rb") as file:
        plan = json.loads(file.read())
    try:
        os.chdir(plan["folder"])
        dress(plan)
    except OSError as error:
        os.write(2, f"sandbox: {error}".encode())
        os._exit(SETUP_FAILED)
    os.closerange(3, 1024)
    os.execve(plan["command"][0], plan["command"], plan["environment"])


if __name__ == "__main__":
    main()
