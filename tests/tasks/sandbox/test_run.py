"""What an honest program gets, what goes over a limit, and what the filter says."""

from __future__ import annotations

import errno
import struct

import pytest

from dokja.errors import ConfigError
from dokja.tasks.sandbox import doctor, filter, isolation
from dokja.tasks.sandbox.isolation import SandboxError, find_isolation
from dokja.tasks.sandbox.limits import Limits
from dokja.tasks.sandbox.outcome import name_ending
from dokja.tasks.sandbox.run import run_program

try:
    find_isolation()
    HERE = True
except SandboxError:
    HERE = False
isolated = pytest.mark.skipif(not HERE, reason="nothing isolates on this machine, so programs are refused")


@isolated
def test_an_honest_program_reads_its_input_and_its_files() -> None:
    source = "import sys, json\nprint(json.load(open('sub/a.json'))['k'], sys.stdin.read(), '한글')"
    outcome = run_program(source, stdin="x" * 200_000, files={"sub/a.json": b'{"k": 7}'})
    assert outcome.finished and outcome.stdout == f"7 {'x' * 200_000} 한글\n"


@isolated
def test_standard_error_and_status_come_back() -> None:
    outcome = run_program("import sys\nsys.stderr.write('why')\nsys.exit(7)")
    assert (outcome.reason, outcome.status, outcome.stderr) == ("failed", 7, "why")


@isolated
def test_a_program_that_ignores_its_input_ends() -> None:
    assert run_program("print(1)", stdin="x" * 1_000_000).finished


@isolated
def test_runs_do_not_see_each_other() -> None:
    run_program("open('left', 'w').write('x')")
    assert run_program("import os; print(os.path.exists('left'))").stdout == "False\n"


@isolated
def test_the_environment_is_empty_of_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "geheim")
    assert "geheim" not in run_program("import os; print(dict(os.environ))").stdout


@isolated
@pytest.mark.parametrize("way", list(isolation._candidates()), ids=str)
def test_a_program_that_may_start_others_cannot_start_without_end(way: isolation.Isolation) -> None:
    if isolation._starts(way) is not None:
        pytest.skip("does not start here")
    source = "import os, time\nwhile True: os.fork() or time.sleep(0.01)"
    outcome = run_program(source, limits=Limits(processes=8, threads=8, seconds=5, wall=20), isolation=way)
    assert outcome.reason == "processes" and outcome.seconds < 15


@isolated
def test_the_doctor_finds_that_everything_holds() -> None:
    findings = doctor.examine()
    assert len(findings) == 12
    assert [f for f in findings if not f.held] == []


def test_where_nothing_isolates_programs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "_candidates", lambda: iter(()))
    find_isolation.cache_clear()
    try:
        with pytest.raises(SandboxError, match="Install bubblewrap"):
            run_program("print(1)")
    finally:
        find_isolation.cache_clear()


@isolated
def test_a_sandbox_that_leaks_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    leak = doctor.Finding("network", False, "a connection came through")
    monkeypatch.setattr(doctor, "_network", lambda isolation: leak)
    doctor.ensure_sandbox.cache_clear()
    try:
        with pytest.raises(SandboxError, match="a connection came through"):
            doctor.ensure_sandbox()
    finally:
        doctor.ensure_sandbox.cache_clear()


def test_limits_of_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="above zero"):
        Limits(memory=0)


@pytest.mark.parametrize(
    ("status", "stderr", "reason"),
    [
        (0, "", "finished"),
        (1, "Traceback\nMemoryError", "memory"),
        (1, "OSError: [Errno 100] Network is down", "network"),
        (1, "BlockingIOError: [Errno 11] Resource temporarily unavailable", "processes"),
        (1, "FileNotFoundError: [Errno 2] No such file or directory: '/x'", "files"),
        (1, "OSError: [Errno 28] No space left on device", "disk"),
        (1, "AssertionError", "failed"),
        (159, "", "system_call"),
        (152, "", "time"),
        (139, "", "crashed"),
        (137, "", "crashed"),
        (255, "", "failed"),
    ],
)
def test_endings_have_names(status: int, stderr: str, reason: str) -> None:
    assert name_ending(status, stderr)[0] == reason


def verdict(program: bytes, arch: int, number: int, *arguments: int) -> int:
    """What a filter says to a call: a machine for classic BPF, in ten lines."""
    code = [struct.unpack("=HBBI", program[i : i + 8]) for i in range(0, len(program), 8)]
    data = struct.pack("=iIQ6Q", number, arch, 0, *(arguments + (0,) * 6)[:6])
    at = word = 0
    while True:
        operation, then, otherwise, k = code[at]
        at += 1
        if operation == 0x20:
            word = struct.unpack_from("=I", data, k)[0]
        elif operation == 0x06:
            return k
        else:
            true = {0x15: word == k, 0x35: word >= k, 0x45: bool(word & k)}[operation]
            at += then if true else otherwise


KILL, ALLOW = 0x80000000, 0x7FFF0000


def denied(number: int) -> int:
    return 0x00050000 | number


@pytest.mark.parametrize(("arch", "audit"), [("x86_64", 0xC000003E), ("aarch64", 0xC00000B7)])
def test_the_filter_says_what_its_table_says(arch: str, audit: int) -> None:
    calls, program = filter._CALLS[arch], filter.build(1, arch=arch)
    assert verdict(program, audit, calls["socket"]) == denied(errno.ENETDOWN)
    assert verdict(program, audit, calls["clone"], 17) == denied(errno.EAGAIN)
    assert verdict(program, audit, calls["clone"], 0x10000) == ALLOW  # a thread
    assert verdict(program, audit, calls["clone"], 0x10010000) == KILL  # with a user namespace
    assert verdict(program, audit, calls["ptrace"]) == KILL
    assert verdict(program, audit, calls["clone3"]) == denied(errno.ENOSYS)
    assert verdict(program, audit, calls["kill"], 5) == ALLOW  # a process namespace keeps it in
    assert verdict(program, audit, 0) == ALLOW  # read, or io_setup
    assert verdict(program, audit ^ 1, 0) == KILL  # another architecture's numbers
    many = filter.build(8, arch=arch)
    assert verdict(many, audit, calls["clone"], 17) == ALLOW
    alone = filter.build(8, own_pid=77, arch=arch)
    assert verdict(alone, audit, calls["kill"], 77) == ALLOW
    assert verdict(alone, audit, calls["kill"], 78) == denied(errno.EPERM)
    assert verdict(alone, audit, calls["kill"], (1 << 64) - 1) == denied(errno.EPERM)
    assert verdict(alone, audit, calls["fchmodat"]) == denied(errno.EPERM)
    assert verdict(alone, audit, calls["clone"], 17) == denied(errno.EAGAIN)


def test_the_second_table_of_numbers_is_refused() -> None:
    assert verdict(filter.build(1, arch="x86_64"), 0xC000003E, 0x40000000 + 41) == KILL
