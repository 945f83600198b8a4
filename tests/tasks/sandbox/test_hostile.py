"""Two hundred programs that mean harm, each contained with the reason named."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile import FAMILIES, HOSTILE, Hostile

from dokja.tasks.sandbox.isolation import Isolation, SandboxError, _candidates, _starts, find_isolation
from dokja.tasks.sandbox.limits import MIB, Limits
from dokja.tasks.sandbox.outcome import Outcome
from dokja.tasks.sandbox.run import run_program

try:
    ISOLATION: Isolation | None = find_isolation()
except SandboxError:
    ISOLATION = None
pytestmark = pytest.mark.skipif(ISOLATION is None, reason="nothing isolates on this machine, so programs are refused")


class Host:
    """What the programs are after: a file, a process and a listener."""

    def __init__(self, folder: Path) -> None:
        self.secret = secrets.token_hex(16)
        self.folder = folder
        self.canary = folder / "canary"
        self.canary.write_text(self.secret)
        folder.chmod(0o777)
        self.canary.chmod(0o666)
        self.server = socket.create_server(("127.0.0.1", 0))
        self.server.setblocking(False)
        self.process = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"])

    def run(self, hostile: Hostile, isolation: Isolation | None) -> Outcome:
        """The outcome of one program, when the host has been seen to be whole afterwards."""
        source = hostile.source
        marks = {
            "canary": self.canary,
            "folder": self.folder,
            "port": self.server.getsockname()[1],
            "pid": self.process.pid,
        }
        for name, value in marks.items():
            source = source.replace("{" + name + "}", str(value))
        limits = Limits(seconds=3.0, wall=hostile.wall, memory=160 * MIB, output=32 << 10, disk=2 * MIB, threads=24)
        outcome = run_program(source, limits=limits, isolation=isolation)
        said = outcome.stdout + outcome.stderr
        assert self.secret not in said, "a file of the host was read"
        assert self.canary.read_text() == self.secret, "a file of the host was written"
        assert os.listdir(self.folder) == ["canary"], "a folder of the host was changed"
        assert self.process.poll() is None, "a process of the host was ended"
        with open(f"/proc/{self.process.pid}/stat") as file:
            assert file.read().rpartition(") ")[2][0] in "SR", "a process of the host was stopped"
        with pytest.raises(BlockingIOError):
            self.server.accept()
        return outcome

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.server.close()


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    found = Host(tmp_path_factory.mktemp("host"))
    yield found
    found.close()


def check(hostile: Hostile, outcome: Outcome) -> None:
    assert "BREACH" not in outcome.stdout, f"{hostile.name} got through: {hostile.source}"
    assert outcome.reason in hostile.reasons, f"{hostile.name}: {outcome.reason} {outcome.detail}\n{hostile.source}"
    assert outcome.seconds < hostile.wall + 10


def test_there_are_two_hundred() -> None:
    assert len(HOSTILE) >= 200
    assert len({h.source for h in HOSTILE}) == len(HOSTILE)
    assert len(FAMILIES) == 12


@pytest.mark.parametrize("family", FAMILIES)
def test_one_of_each_family_is_contained(family: str, host: Host) -> None:
    hostile = next(h for h in HOSTILE if h.name.startswith(family))
    check(hostile, host.run(hostile, ISOLATION))


@pytest.mark.slow
@pytest.mark.parametrize("hostile", HOSTILE, ids=[h.name for h in HOSTILE])
def test_every_program_is_contained(hostile: Hostile, host: Host) -> None:
    check(hostile, host.run(hostile, ISOLATION))


@pytest.mark.slow
@pytest.mark.parametrize("isolation", list(_candidates()), ids=str)
def test_every_isolation_of_this_machine_contains_them(isolation: Isolation, host: Host) -> None:
    if isolation == ISOLATION or _starts(isolation) is not None:
        pytest.skip("the one that is used, or one that does not start here")
    for hostile in HOSTILE[::3]:
        outcome = host.run(hostile, isolation)
        assert "BREACH" not in outcome.stdout, f"{hostile.name} got through: {hostile.source}"


def test_nothing_of_a_run_is_left_behind() -> None:
    name = f"left{secrets.token_hex(4)}"  # a process's own name is seen from outside, and is nobody else's
    source = (
        f"import ctypes, time\nctypes.CDLL(None).prctl(15, b'{name}', 0, 0, 0)\nprint(1, flush=True)\ntime.sleep(60)"
    )
    outcome = run_program(source, limits=Limits(wall=3.0), isolation=ISOLATION)
    assert (outcome.reason, outcome.stdout) == ("time", "1\n")
    assert name not in [_name(pid) for pid in filter(str.isdigit, os.listdir("/proc"))]


def _name(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
