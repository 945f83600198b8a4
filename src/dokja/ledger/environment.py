"""The machine and the versions a stage ran on, found without importing anything heavy."""

import os
import platform
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any


def describe_environment(threads: int | None = None) -> dict[str, Any]:
    """What a manifest says of the machine. `threads`: the CPU threads the run uses, all cores when None."""
    return {
        "dokja": version("dokja"),
        "python": platform.python_version(),
        "torch": version("torch"),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cores": cores(),
        "threads": threads or cores(),
        "memory_bytes": memory_bytes(),
    }


def version(package: str) -> str | None:
    """Installed version of a distribution, None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def cores() -> int:
    """CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> int:
    """Physical memory, or the container's limit where that is lower."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else "max"
    return min(physical, int(text)) if text.isdigit() else physical


@cache
def cpu_name() -> str:
    """Model name of the CPU, or its architecture where the system keeps it to itself."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


@cache
def cpu_flags() -> frozenset[str]:
    """Instruction-set flags as Linux names them; empty elsewhere."""
    return frozenset((_cpuinfo("flags") or _cpuinfo("Features") or "").split())


def _cpuinfo(field: str) -> str | None:
    table = Path("/proc/cpuinfo")
    lines = table.read_text(errors="replace").splitlines() if table.is_file() else []
    for name, _, value in (line.partition(":") for line in lines):
        if name.strip() == field:
            return value.strip()
    return None
