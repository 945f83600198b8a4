"""Bytes and limits of inference on a mesh: dp copies, each on tp x pp devices, experts spread over ep of the copies."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from dokja.errors import ConfigError
from dokja.model.plan.devices import Device
from dokja.model.plan.memory import BF16, local
from dokja.model.plan.mesh import Mesh, check
from dokja.model.plan.parts import Part, stage_parts, stages
from dokja.model.spec import ModelSpec

BITS = {"bf16": 16.0, "int8": 8.5, "int4": 4.5}
"""Bits of a number of a matrix; integers share an fp16 scale among 32 numbers."""
LENGTHS = (32_768, 131_072, 262_144)


@dataclass(frozen=True)
class Weights:
    """Bytes of a device of the fullest stage with weights of one kind, and what is left for keys and values."""

    kind: str
    bytes: float
    free: float


@dataclass(frozen=True)
class Served:
    """A sequence length with one kind of weights: how many such sequences one copy holds, and the tokens per second of
    a copy that reading weights and keys and values allows, for one sequence and for as many as fit."""

    kind: str
    length: int
    sequences: int
    alone: float
    together: float


@dataclass(frozen=True)
class Serving:
    """What inference takes."""

    kv_token: int
    """Bytes of keys and values that one more token adds once every window is full, over all devices of a copy."""
    kv: dict[int, int]
    """Bytes of a whole sequence by its length, over all devices; each key counted once."""
    kv_device: dict[int, float]
    """Of these, what a device of the fullest stage holds."""
    weights: tuple[Weights, ...]
    served: tuple[Served, ...]


def lengths(spec: ModelSpec) -> tuple[int, ...]:
    """The lengths shown: those the model is meant for, its context where that is shorter than all."""
    return tuple(n for n in LENGTHS if n <= spec.context) or (spec.context,)


def serving(spec: ModelSpec, mesh: Mesh, device: Device) -> Serving:
    """What inference of the shape takes; the mesh has been checked for serving."""
    sizes = lengths(spec)
    row = 2 * spec.kv_heads * spec.head_dim * BF16
    weights, served = [], []
    for kind in BITS:
        held = _held(spec, mesh, kind)
        weights.append(Weights(kind, held, device.usable - held))
        for length in sizes:
            kv = max(kv_stage(spec, mesh, length))
            fit = max(0, int((device.usable - held) // kv))
            served.append(
                Served(
                    kind,
                    length,
                    fit,
                    1 / decode_seconds(spec, mesh, device, kind, length, 1) if fit else 0.0,
                    fit / decode_seconds(spec, mesh, device, kind, length, fit) if fit else 0.0,
                )
            )
    return Serving(
        kv_token=row * sum(layer.window is None for layer in spec.layer_specs),
        kv={n: spec.kv_bytes(n) for n in sizes},
        kv_device={n: max(kv_stage(spec, mesh, n)) for n in sizes},
        weights=tuple(weights),
        served=tuple(served),
    )


def refuse_too_large(spec: ModelSpec, mesh: Mesh, device: Device) -> None:
    """ConfigError where not even one sequence fits beside int4 weights: by how much, and the smallest mesh of tp and pp
    on which one would."""
    length = lengths(spec)[0]
    need = _least(spec, mesh, length)
    if need <= device.usable:
        return
    sentence = (
        f"{mesh} does not fit: int4 weights and one sequence of {length:,} tokens take {need / 1e9:,.1f} GB of a "
        f"device, {(need - device.usable) / 1e9:,.1f} GB more than may be filled."
    )
    powers = [1 << n for n in range(11)]
    for tp, pp in sorted(product(powers[:4], powers), key=lambda at: (at[0] * at[1], at[1])):
        found = Mesh(mesh.dp, tp, pp, mesh.ep)
        try:
            check(spec, found, serve=True)
        except ConfigError:
            continue
        if _least(spec, found, length) <= device.usable:
            raise ConfigError(f"{sentence} The smallest mesh that fits: {found} ({found.devices} devices).")
    raise ConfigError(f"{sentence} No tp up to 8 with any pp does.")


def _least(spec: ModelSpec, mesh: Mesh, length: int) -> float:
    """Bytes of a device with int4 weights and one sequence."""
    return _held(spec, mesh, "int4") + max(kv_stage(spec, mesh, length))


def _held(spec: ModelSpec, mesh: Mesh, kind: str) -> float:
    """Bytes of weights of one kind on a device of the fullest stage."""
    return max(sum(local(p, mesh, p.params) * width(p, kind) for p in held) for held in stage_parts(spec, mesh.pp))


def width(part: Part, kind: str) -> float:
    """Bytes of a number of a part: the matrices of layers and the output matrix are quantised, nothing else."""
    return BITS[kind] / 8 if part.matrices or part.name == "head" else float(BF16)


def kv_stage(spec: ModelSpec, mesh: Mesh, length: int) -> list[float]:
    """Bytes of a sequence's keys and values on one device of every stage; tp beyond kv_heads holds them again."""
    row = 2 * spec.kv_heads * spec.head_dim * BF16 / min(mesh.tp, spec.kv_heads)
    specs = spec.layer_specs
    return [sum(row * min(specs[i].window or length, length) for i in run) for run in stages(spec.layers, mesh.pp)]


def decode_seconds(spec: ModelSpec, mesh: Mesh, device: Device, kind: str, length: int, sequences: int) -> float:
    """Least seconds of one decoding step of a copy with this many sequences: every byte that a step must read, stage
    after stage. Of E experts, tokens that choose A each are expected to meet E (1 - (1 - A/E)^tokens)."""
    seconds = 0.0
    for held, kv in zip(stage_parts(spec, mesh.pp), kv_stage(spec, mesh, length), strict=True):
        read = sequences * kv
        for part in held:
            if part.name in ("embed", "vision", "mtp") and not (part.name == "embed" and spec.tied):
                continue  # rows are looked up; images and drafts are not of this step
            met = 1.0
            if part.experts and spec.moe:
                met = 1 - (1 - spec.moe.active / spec.moe.experts) ** (sequences * mesh.ep)
            read += local(part, mesh, part.params) * width(part, kind) * met
        seconds += read / device.bandwidth
    return seconds
