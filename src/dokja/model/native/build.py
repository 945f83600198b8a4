"""Compiles a C++ file of this folder with the machine's own compiler and loads it; no ninja, no torch headers.

The library is cached under ~/.cache/dokja (or $DOKJA_CACHE), named by the hash of sources, flags and processor.
Without a compiler `load` returns None and says so once; callers then use torch's own kernels.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FLAGS = ["-O3", "-march=native", "-std=c++17", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC"]


def cache_dir() -> Path:
    """Folder of compiled kernels."""
    return Path(os.environ.get("DOKJA_CACHE") or Path.home() / ".cache" / "dokja") / "native"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return "".join(sorted({line for line in lines if line.startswith(("model name", "flags"))}))


@functools.cache
def _compiler() -> str | None:
    found = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if found is None:
        print(
            "dokja: no C++ compiler found, so torch's own kernels do the work (install g++ for more speed).",
            file=sys.stderr,
        )
    return found


@functools.cache
def load(name: str) -> ctypes.CDLL | None:
    """The library made from `<name>.cpp`, or None (with one sentence on stderr) where it cannot be compiled."""
    if os.environ.get("DOKJA_NATIVE") == "0":
        return None
    if (compiler := _compiler()) is None:
        return None
    source = Path(__file__).with_name(f"{name}.cpp")
    texts = [file.read_text() for file in (source, *sorted(source.parent.glob("*.h")))]
    key = hashlib.sha256("\n".join([*texts, *FLAGS, compiler, _cpu()]).encode()).hexdigest()[:16]
    library = cache_dir() / f"{name}-{key}.so"
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(suffix=".so", dir=library.parent)
        os.close(handle)
        made = subprocess.run([compiler, *FLAGS, str(source), "-o", partial], capture_output=True, text=True)
        if made.returncode:
            os.unlink(partial)
            first = next(iter(made.stderr.splitlines()), "no message")
            print(
                f"dokja: {compiler} could not compile {source.name} ({first}); using torch's own kernels.",
                file=sys.stderr,
            )
            return None
        os.replace(partial, library)
    return ctypes.CDLL(str(library))
