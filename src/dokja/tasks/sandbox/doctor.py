"""Attacks of our own that must fail before any score counts."""

from __future__ import annotations

import functools
import os
import secrets
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from dokja.tasks.sandbox.isolation import Isolation, SandboxError, find_isolation
from dokja.tasks.sandbox.limits import MIB, Limits
from dokja.tasks.sandbox.outcome import Outcome
from dokja.tasks.sandbox.run import run_program

_QUICK = Limits(seconds=5.0, wall=30.0, memory=256 * MIB, output=64 << 10, disk=4 * MIB)
_TIGHT = Limits(seconds=1.0, wall=2.0, memory=256 * MIB, output=64 << 10, disk=4 * MIB)
BREACH = "BREACH"
"""What an attack prints when it got through."""


@dataclass(frozen=True)
class Finding:
    """One attack and whether it was held."""

    name: str
    held: bool
    said: str


def examine(isolation: Isolation | None = None) -> list[Finding]:
    """Every attack once, in this order: they take about four seconds. SandboxError where nothing isolates at all."""
    isolation = isolation or find_isolation()
    return [
        _works(isolation),
        _network(isolation),
        *_host_files(isolation),
        _host_processes(isolation),
        *_endless(isolation),
    ]


@functools.cache
def ensure_sandbox() -> Isolation:
    """The isolation of this machine, once it has stood the attacks on network, files and processes.

    SandboxError where one of them got through: then no program is run.
    """
    isolation = find_isolation()
    findings = [_works(isolation), _network(isolation), *_host_files(isolation), _fork_bomb(isolation)]
    if failed := [f for f in findings if not f.held]:
        raise SandboxError(
            f"The sandbox ({isolation}) does not hold: {'; '.join(f'{f.name}: {f.said}' for f in failed)}. "
            "Code that a model wrote is not run here; `dokja doctor sandbox` shows all checks."
        )
    return isolation


def _said(outcome: Outcome) -> str:
    return f"{outcome.reason} ({outcome.detail})" if outcome.detail else outcome.reason


def _attack(name: str, source: str, isolation: Isolation, limits: Limits = _QUICK, also: bool = True) -> Finding:
    """Run an attack; it was held where it neither says BREACH nor leaves the trace that `also` looked for."""
    outcome = run_program(source, limits=limits, isolation=isolation)
    held = BREACH not in outcome.stdout and also
    return Finding(name, held, _said(outcome) if held else "got through")


def _works(isolation: Isolation) -> Finding:
    outcome = run_program("import sys; print(sum(map(int, sys.stdin)))", "1\n2\n", _QUICK, isolation=isolation)
    good = outcome.finished and outcome.stdout == "3\n"
    return Finding("an honest program runs", good, f"{outcome.seconds * 1000:.0f} ms" if good else _said(outcome))


def _network(isolation: Isolation) -> Finding:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        port = server.getsockname()[1]
        source = f"import socket; socket.create_connection(('127.0.0.1', {port}), 2); print('{BREACH}')"
        outcome = run_program(source, limits=_QUICK, isolation=isolation)
        try:
            server.accept()[0].close()
            reached = True
        except TimeoutError:
            reached = False
    held = not reached and BREACH not in outcome.stdout
    return Finding("network", held, _said(outcome) if held else "a connection to this machine came through")


def _host_files(isolation: Isolation) -> list[Finding]:
    secret = secrets.token_hex(16)
    with tempfile.TemporaryDirectory() as folder:
        canary = Path(folder) / "canary"
        canary.write_text(secret, encoding="utf-8")
        os.chmod(folder, 0o777)
        canary.chmod(0o666)
        read = run_program(f"print(open({str(canary)!r}).read())", limits=_QUICK, isolation=isolation)
        link = f"import os; os.symlink({str(canary)!r}, 'link'); print(open('link').read())"
        linked = run_program(link, limits=_QUICK, isolation=isolation)
        write = run_program(f"open({str(canary)!r}, 'w').write('x')", limits=_QUICK, isolation=isolation)
        intact = canary.read_text(encoding="utf-8") == secret
    return [
        Finding("files of the host, read", secret not in read.stdout, _said(read)),
        Finding("files of the host, by a link", secret not in linked.stdout, _said(linked)),
        Finding("files of the host, written", intact, _said(write)),
    ]


def _host_processes(isolation: Isolation) -> Finding:
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(30)"]) as canary:
        source = (
            "import os, signal\n"
            f"for pid in ({canary.pid}, -1, os.getppid()):\n"
            "    try: os.kill(pid, signal.SIGKILL)\n"
            "    except OSError: pass\n"
        )
        outcome = run_program(source, limits=_QUICK, isolation=isolation)
        alive = canary.poll() is None
        canary.kill()
    return Finding("processes of the host", alive, _said(outcome) if alive else "one was killed")


def _fork_bomb(isolation: Isolation) -> Finding:
    source = f"import os\nfor n in range(200):\n    if os.fork() == 0: os._exit(0)\nprint('{BREACH}')"
    return _attack("fork bomb", source, isolation)


def _endless(isolation: Isolation) -> list[Finding]:
    return [
        _fork_bomb(isolation),
        _attack(
            "memory bomb", f"x = []\nwhile len(x) < 4000: x.append(b'x' * (1 << 20))\nprint('{BREACH}')", isolation
        ),
        _attack("endless output", f"for _ in range(1 << 20): print('x' * 1000)\nprint('{BREACH}' * 100000)", isolation),
        _attack("endless time", f"import time\ntime.sleep(60)\nprint('{BREACH}')", isolation, _TIGHT),
        _attack(
            "endless disk",
            f"for n in range(64): open(f'f{{n}}', 'wb').write(b'x' * (1 << 20))\nprint('{BREACH}')",
            isolation,
        ),
        _attack(
            "forbidden system calls",
            f"import ctypes\nctypes.CDLL(None).ptrace(0, 0, 0, 0)\nprint('{BREACH}')",
            isolation,
        ),
    ]
