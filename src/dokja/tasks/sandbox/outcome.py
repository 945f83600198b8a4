"""How a run ended, by name: seen from outside where possible, else read from the program's own last words."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from typing import Literal

Reason = Literal[
    "finished", "failed", "time", "memory", "processes", "output", "disk", "files", "network", "system_call", "crashed"
]
"""| reason | the program |
|---|---|
| finished | ended with status 0 |
| failed | ended with another status, an exception of its own |
| time, memory, output, disk | went over that limit |
| processes | tried to start more than it may, or to signal others |
| files | tried to reach a file it may not |
| network | tried to open a socket |
| system_call | made a call that no solution needs, and was killed for it |
| crashed | was ended by another signal |
"""

# The last line of a traceback, in the order in which they are tried
_WORDS: tuple[tuple[re.Pattern[str], Reason], ...] = (
    (re.compile(r"MemoryError|Cannot allocate memory|out of memory", re.IGNORECASE), "memory"),
    (re.compile(r"Network is down|Network is unreachable"), "network"),
    (re.compile(r"\[Errno 11\]|Resource temporarily unavailable|can't start new thread"), "processes"),
    (re.compile(r"No space left|File too large|Disk quota|Too many open files"), "disk"),
    (re.compile(r"ProcessLookupError|\[Errno 1\] Operation not permitted(?!:)|Function not implemented"), "processes"),
    (
        re.compile(r"PermissionError|FileNotFoundError|Read-only file system|Invalid cross-device|NotADirectoryError"),
        "files",
    ),
)


@dataclass(frozen=True)
class Outcome:
    """What a run left."""

    reason: Reason
    status: int
    """as a shell gives it: 128 and the signal's number for one that a signal ended"""
    stdout: str
    stderr: str
    seconds: float
    peak_memory: int
    """bytes resident, of all its processes together, as far as it was seen"""
    detail: str = ""

    @property
    def finished(self) -> bool:
        """Whether the program ended by itself with status 0."""
        return self.reason == "finished"


def name_ending(status: int, stderr: str) -> tuple[Reason, str]:
    """The reason for an ending that nobody outside forced, and the words it was read from."""
    if status == 0:
        return "finished", ""
    if status > 128:
        try:
            name = signal.Signals(status - 128).name
        except ValueError:
            return "failed", f"status {status}"
        reasons: dict[str, Reason] = {"SIGSYS": "system_call", "SIGXCPU": "time", "SIGXFSZ": "disk"}
        return reasons.get(name, "crashed"), name
    last = next((line for line in reversed(stderr.splitlines()) if line.strip()), "")[:300]
    for words, reason in _WORDS:
        if words.search(last):
            return reason, last
    return "failed", last or f"status {status}"
