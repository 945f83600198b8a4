"""What this machine can do, measured: the peaks that speeds are given as shares of.

A peak is the best of several shapes and repeats: what the machine reaches when nothing disturbs it. Speeds of a loop
are divided by it, so that a figure means the same on another machine.
"""

import os
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from dokja.engine.packed_cache import files as packed_cache
from dokja.engine.packed_cache import packed_dir
from dokja.ledger.environment import cpu_flags, describe_environment
from dokja.tasks.sandbox.isolation import SandboxError, find_isolation

CPU_SHAPES = ((512, 512, 512), (1024, 1024, 1024), (2048, 1024, 1024), (4096, 512, 2048))
GPU_SHAPES = ((4096, 4096, 4096), (8192, 8192, 8192), (16384, 4096, 4096))
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "avx_vnni", "amx_bf16", "asimd", "bf16", "sve")


def gemm_peak(dtype: torch.dtype = torch.float32, device: str = "cpu", seconds: float = 0.5) -> float:
    """Best rate of one dense matrix product, in GFLOP/s (2·m·n·k per product), over some `seconds` of trying."""
    shapes = CPU_SHAPES if device == "cpu" else GPU_SHAPES
    best = 0.0
    for m, n, k in shapes:
        a = torch.randn(m, k, device=device, dtype=dtype)
        b = torch.randn(k, n, device=device, dtype=dtype)
        out = torch.empty(m, n, device=device, dtype=dtype)
        fastest = _fastest(partial(torch.mm, a, b, out=out), seconds / len(shapes), device)
        best = max(best, 2 * m * n * k / fastest / 1e9)
    return best


def memory_bandwidth(seconds: float = 0.5, megabytes: int = 256) -> float:
    """GB/s of a copy that does not fit in the caches, bytes read and bytes written both counted."""
    source = torch.ones(megabytes * 2**20 // 4)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _fastest(lambda: target.copy_(source), seconds, "cpu") / 1e9


def disk_write_speed(folder: Path, megabytes: int = 64) -> float:
    """MB/s of writing a file in `folder` and fsyncing it, as a checkpoint is; the file is removed."""
    path = folder / f".dokja-doctor-{os.getpid()}"
    data = os.urandom(2**20)  # not zeros: some file systems do not store those
    try:
        began = time.perf_counter()
        with open(path, "wb") as file:
            for _ in range(megabytes):
                file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return megabytes * 2**20 / 1e6 / (time.perf_counter() - began)
    finally:
        path.unlink(missing_ok=True)


def examine(folder: Path = Path("."), seconds: float = 0.5) -> dict[str, Any]:
    """Everything `dokja doctor` prints; plain JSON values. Takes about four times `seconds` and a disk write."""
    return {
        **describe_environment(torch.get_num_threads()),
        "instructions": [flag for flag in INSTRUCTIONS if flag in cpu_flags()],
        "gemm_gflops": {
            "fp32": gemm_peak(torch.float32, "cpu", seconds),
            "bf16": gemm_peak(torch.bfloat16, "cpu", seconds),
        },
        "memory_gb_per_second": memory_bandwidth(seconds),
        "compiler": next((found for name in ("g++", "clang++", "c++") if (found := shutil.which(name))), None),
        "disk": {"free_bytes": shutil.disk_usage(folder).free, "write_mb_per_second": disk_write_speed(folder)},
        "sandbox": _sandbox(),
        "packed_weights": {"folder": str(packed_dir()), "bytes": [path.stat().st_size for path in packed_cache()]},
        "gpus": [_examine_gpu(i, seconds) for i in range(torch.cuda.device_count())],
    }


def _sandbox() -> str | None:
    """What programs can be isolated with; None where they are refused."""
    try:
        return str(find_isolation())
    except SandboxError:
        return None


def _examine_gpu(index: int, seconds: float) -> dict[str, Any]:
    about = torch.cuda.get_device_properties(index)
    peak = gemm_peak(torch.bfloat16, f"cuda:{index}", seconds) / 1e3
    return {"name": about.name, "memory_bytes": about.total_memory, "bf16_tflops": peak}


def _fastest(work: Callable[[], object], seconds: float, device: str) -> float:
    """Shortest time of one call, in seconds: one call to warm up, then as many as fit, and at least two."""
    _finish(work(), device)
    best, spent, calls = float("inf"), 0.0, 0
    while spent < seconds or calls < 2:
        began = time.perf_counter()
        _finish(work(), device)
        took = time.perf_counter() - began
        best, spent, calls = min(best, took), spent + took, calls + 1
    return best


def _finish(_: object, device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)
