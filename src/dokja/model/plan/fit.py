"""Which micro batch fits into a device, and on which mesh one would."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

from dokja.errors import ConfigError
from dokja.model.plan.devices import Device
from dokja.model.plan.memory import Job, memory
from dokja.model.plan.mesh import Mesh, check
from dokja.model.spec import ModelSpec

MICRO_TOKENS, CPU_MICRO_TOKENS = 65_536, 8192
"""Most tokens of a forward and backward pass on a GPU and on a CPU; `train.loop` has the same numbers."""
LARGEST = 65_536
"""Devices of the largest mesh that is tried."""


def make_job(
    spec: ModelSpec,
    mesh: Mesh,
    device: Device,
    seq: int,
    batch_tokens: int,
    micro_rows: int | None = None,
    recompute: bool | None = None,
    micro_tokens: int = MICRO_TOKENS,
) -> Job:
    """The job in the largest micro batches (a power of two of rows, up to `micro_tokens`) that fit without
    recomputation, else with it, else in single rows; `micro_rows` and `recompute` fix the choice.

    With a pipeline, at least four micro batches a stage where there are as many rows: fewer leave it idle.
    ConfigError where rows cannot be shared out.
    """
    _check_rows(spec, mesh, seq, batch_tokens, micro_rows)
    most = max(1, min(micro_tokens // seq, batch_tokens // seq // mesh.dp // (4 * mesh.pp if mesh.pp > 1 else 1)))
    sizes = [micro_rows] if micro_rows else [1 << n for n in reversed(range(most.bit_length()))]
    job = Job(seq, batch_tokens, value_bytes=device.value_bytes)
    for again in [recompute] if recompute is not None else [False, True]:
        for rows in sizes:
            job = replace(job, micro_rows=rows, recompute=again)
            if memory(spec, mesh, job).total <= device.usable:
                return job
    return job


def _check_rows(spec: ModelSpec, mesh: Mesh, seq: int, batch_tokens: int, micro_rows: int | None) -> None:
    if seq > spec.context:
        raise ConfigError(f"--seq {seq} is longer than model.context ({spec.context}). Lower it.")
    whole = seq * mesh.dp
    if batch_tokens % whole:
        raise ConfigError(
            f"a batch of {batch_tokens:,} tokens is no whole number of rows of {seq:,} for each of dp={mesh.dp}. Set "
            f"--batch-tokens {max(1, round(batch_tokens / whole)) * whole}, for instance."
        )
    if micro_rows and micro_rows > batch_tokens // whole:
        raise ConfigError(
            f"--micro {micro_rows} rows, and a rank has {batch_tokens // whole} of a batch. Lower --micro."
        )


def refuse_too_large(spec: ModelSpec, mesh: Mesh, job: Job, device: Device, fixed: bool = False) -> None:
    """ConfigError where the job does not fit: by how much, and the smallest mesh of the same kind on which it would.

    fixed: the micro batch or recomputation was asked for and is kept.
    """
    need = memory(spec, mesh, job)
    if need.total <= device.usable:
        return
    over = need.total - device.usable
    sentence = (
        f"{mesh} does not fit: {need.total / 1e9:,.1f} GB on a device of the fullest stage, {over / 1e9:,.1f} GB more "
        f"than the {device.usable / 1e9:,.1f} GB that may be filled of {device.name}'s {device.memory / 1e9:,.0f} GB."
    )
    found = smallest(spec, mesh, job, device, fixed)
    if found is None:
        what = "Add tp or pp to the mesh, lower --seq" + (" or --micro" if fixed else "")
        raise ConfigError(f"{sentence} No mesh of this kind of up to {LARGEST:,} devices does. {what}.")
    raise ConfigError(f"{sentence} The smallest mesh of this kind that fits: {found} ({found.devices} devices).")


def smallest(spec: ModelSpec, mesh: Mesh, job: Job, device: Device, fixed: bool = False) -> Mesh | None:
    """The mesh with the fewest devices that uses the same axes (and dp, which any may) and fits; the batch grows with
    dp where it must."""
    for candidate in sorted(_kind(spec, mesh), key=lambda m: (m.devices, m.tp, m.pp, -m.ep)):
        batch = -(-job.batch_tokens // (job.seq * candidate.dp)) * job.seq * candidate.dp
        if fixed:
            batch = max(batch, job.micro_rows * job.seq * candidate.dp)
            tried = replace(job, batch_tokens=batch)
        else:
            tried = make_job(spec, candidate, device, job.seq, batch)
        if memory(spec, candidate, tried).total <= device.usable:
            return candidate
    return None


def _kind(spec: ModelSpec, mesh: Mesh) -> Iterator[Mesh]:
    """Meshes of doubled axes; tp stays within a node, and axes that are not in use stay so, dp apart."""
    powers = [1 << n for n in range(17)]

    def of(used: int, most: int) -> list[int]:
        return [n for n in powers if 1 < n <= most] if used > 1 else [1]

    experts = spec.moe.experts if spec.moe else 1
    for dp, tp, pp, ep in product(powers, of(mesh.tp, 8), of(mesh.pp, spec.layers), of(mesh.ep, experts)):
        found = Mesh(dp, tp, pp, ep)
        if found.devices > LARGEST:
            continue
        try:
            check(spec, found)
        except ConfigError:
            continue
        yield found
