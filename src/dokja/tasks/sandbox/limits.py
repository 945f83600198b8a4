"""How much of everything a program gets."""

from __future__ import annotations

from dataclasses import dataclass

from dokja.errors import ConfigError

MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Bounds of one run; what goes over them is stopped and named."""

    seconds: float = 10.0
    """of processor time of all its processes: a busy machine fails nobody"""
    wall: float | None = None
    """seconds by the clock, for those that sleep; None allows three times `seconds` and ten more"""
    memory: int = 512 * MIB
    """bytes of address space of a process, and of resident memory of all together"""
    processes: int = 1
    """how many may run at once; 1 forbids starting others, as does every isolation that cannot count them"""
    threads: int = 32
    """processes and threads together"""
    output: int = 1 * MIB
    """bytes of standard output and standard error together"""
    disk: int = 16 * MIB
    """bytes of the scratch folder, which lies in memory where namespaces hold"""
    files: int = 64
    """open file descriptors"""

    def __post_init__(self) -> None:
        if (
            self.patience <= 0
            or self.seconds <= 0
            or min(self.memory, self.processes, self.threads, self.output, self.disk, self.files) < 1
        ):
            raise ConfigError(f"{self} leaves a program nothing to run with. All limits must be above zero.")

    @property
    def patience(self) -> float:
        """Seconds by the clock after which it is stopped."""
        return 3 * self.seconds + 10 if self.wall is None else self.wall
