"""`run_program`: source in, Outcome out. The only place where a program that a model wrote is started."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from dokja.tasks.sandbox.inside import SETUP_FAILED
from dokja.tasks.sandbox.isolation import Isolation, SandboxError, command, find_isolation
from dokja.tasks.sandbox.limits import Limits
from dokja.tasks.sandbox.outcome import Outcome, Reason, name_ending

_TICK = 0.02  # seconds between looks at memory and disk
_PAGE, _TICKS = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")


def run_program(
    source: str,
    stdin: str = "",
    limits: Limits = Limits(),  # noqa: B008 - frozen
    files: Mapping[str, bytes] | None = None,
    isolation: Isolation | None = None,
) -> Outcome:
    """Run Python source in isolation; `files` lie beside it in its working folder.

    The program sees the standard library, standard input, its folder, and nothing of the machine. SandboxError where
    nothing isolates: there is no way to run it without.
    """
    isolation = isolation or find_isolation()
    beside = {**(files or {}), "main.py": source.encode("utf-8", "surrogatepass"), ".stdin": stdin.encode()}
    with command(isolation, limits, {k: v for k, v in beside.items() if k != ".stdin"}) as (argv, kept, folder):
        started = time.perf_counter()
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=kept,
            cwd=folder,
            start_new_session=True,
            env={},
        )
        scratch = Path(folder) if isolation.kind == "landlock" else None
        try:
            ended, out, err, peak = _watch(process, beside[".stdin"], limits, started, scratch)
        finally:
            _end(process)
        seconds = time.perf_counter() - started
    status = process.returncode if process.returncode >= 0 else 128 - process.returncode
    stdout, stderr = out.decode(errors="replace"), err.decode(errors="replace")
    if status == SETUP_FAILED and ended is None:
        raise SandboxError(f"The sandbox could not be put on ({stderr.strip()[:200]}), so the program was not run.")
    if ended is not None:
        reason, detail = ended
    else:
        reason, detail = name_ending(status, stderr)
    return Outcome(reason, status, stdout, stderr, seconds, peak, detail)


def _watch(
    process: subprocess.Popen[bytes], given: bytes, limits: Limits, started: float, scratch: Path | None
) -> tuple[tuple[Reason, str] | None, bytes, bytes, int]:
    """Feed and read the program until it ends or goes over a limit; then say which."""
    assert process.stdin and process.stdout and process.stderr
    heard = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
    peak, fed = 0, 0
    selector = selectors.DefaultSelector()
    for number in heard:
        os.set_blocking(number, False)
        selector.register(number, selectors.EVENT_READ)
    os.set_blocking(process.stdin.fileno(), False)
    if given:
        selector.register(process.stdin.fileno(), selectors.EVENT_WRITE)
    else:
        process.stdin.close()

    def results(ended: tuple[Reason, str] | None) -> tuple[tuple[Reason, str] | None, bytes, bytes, int]:
        selector.close()
        return ended, bytes(heard[process.stdout.fileno()]), bytes(heard[process.stderr.fileno()]), peak  # type: ignore[union-attr]

    looked = 0.0
    while True:
        now = time.perf_counter()
        if now - started > limits.patience:
            return results(("time", f"longer than {limits.patience:g} s by the clock"))
        if now - looked >= _TICK:
            looked = now
            used, busy = _usage(process.pid)
            peak = max(peak, used)
            if busy > limits.seconds:
                return results(("time", f"more than {limits.seconds:g} s of processor time"))
            if used > limits.memory:
                return results(("memory", f"more than {limits.memory >> 20} MiB"))
            if scratch is not None and _size(scratch) > limits.disk:
                return results(("disk", f"more than {limits.disk >> 20} MiB of files"))
        reading = [n for n in heard if n in selector.get_map()]
        if not reading and process.poll() is not None:
            return results(None)
        for key, _ in selector.select(_TICK if reading else 0.001):
            number = key.fd
            if number not in heard:
                try:
                    fed += os.write(number, given[fed : fed + 65536])
                except BlockingIOError:
                    continue
                except BrokenPipeError:
                    fed = len(given)
                if fed >= len(given):
                    selector.unregister(number)
                    process.stdin.close()
                continue
            piece = os.read(number, 65536)
            if not piece:
                selector.unregister(number)
                continue
            room = limits.output - sum(map(len, heard.values()))
            heard[number] += piece[: max(0, room)]
            if len(piece) > room:
                return results(("output", f"more than {limits.output >> 10} KiB"))
        if not reading:
            time.sleep(0.001)
        elif process.poll() is not None and not selector.select(0):
            # the process is gone, and whoever still holds its pipes says nothing
            return results(None)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill whatever is left of the run and wait until nothing is."""
    if process.poll() is None:
        inside = list(_descendants(process.pid))
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.wait()
        until = time.perf_counter() + 5  # the first process of a namespace takes the others along, a moment later
        while any(map(_runs, inside)) and time.perf_counter() < until:
            time.sleep(0.001)
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None and not pipe.closed:
            pipe.close()


def _descendants(pid: int) -> Iterator[int]:
    """A process and all that it and they have started."""
    open_pids = [pid]
    while open_pids:
        here = open_pids.pop()
        yield here
        with suppress(OSError):
            for task in os.listdir(f"/proc/{here}/task"):
                with open(f"/proc/{here}/task/{task}/children", "rb") as file:
                    open_pids += map(int, file.read().split())


def _fields(pid: int) -> list[bytes]:
    """A process's line in /proc from its state on; empty where it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return []


def _runs(pid: int) -> bool:
    return _fields(pid)[:1] not in ([], [b"Z"], [b"X"])


def _usage(pid: int) -> tuple[int, float]:
    """Bytes of memory that a process and all its descendants hold, and seconds of processor time they have used."""
    held = ticks = 0
    for here in _descendants(pid):
        if fields := _fields(here):
            held += int(fields[21]) * _PAGE
            ticks += sum(map(int, fields[11:15]))  # user and system, its own and of children it waited for
    return held, ticks / _TICKS


def _size(folder: Path) -> int:
    """Bytes of all files below a folder, links not followed; a file counts at least a block."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += max(4096, os.lstat(os.path.join(place, name)).st_size)
            except OSError:
                continue
    return total
