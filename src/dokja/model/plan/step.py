"""FLOPs, bytes moved and seconds of one training step.

FLOPs are the model's: 6 for every parameter a token multiplies with and 12 for every pair and feature of attention
(`ModelSpec.attention_flops`), rows taken as one document each. A collective over n devices in a ring sends and receives
(n - 1) / n of the whole tensor per device, an all-reduce twice that.
"""

from __future__ import annotations

from dataclasses import dataclass

from dokja.model.plan.devices import Device
from dokja.model.plan.memory import BF16, FP32, Job, kept, local, stage_layers
from dokja.model.plan.mesh import Mesh
from dokja.model.plan.parts import Part, stage_parts
from dokja.model.spec import LayerSpec, ModelSpec

NS_STEPS = 5
"""Newton-Schulz iterations of Muon; `train.muon` has the same number."""
HIDDEN = ("dp", "muon", "pp")
"""Axes whose bytes move while products run: weights are gathered ahead, gradients scattered behind. What tp and ep move
is what the next product waits for."""


@dataclass(frozen=True)
class Traffic:
    """Bytes that a device sends (and receives) in a step along an axis, and their seconds on its link."""

    axis: str
    bytes: float
    rate: float

    @property
    def seconds(self) -> float:
        """Time on the link alone."""
        return self.bytes / self.rate


@dataclass(frozen=True)
class Step:
    """One optimiser step. FLOPs of the whole step over all devices, seconds of the slowest."""

    tokens: int
    devices: int
    peak: float
    matrix_flops: float
    attention_flops: float
    recompute_flops: float
    muon_flops: float
    micro_batches: int
    bubble: float
    """Share of the time in which a stage waits for others, (p - 1) / (m + p - 1)."""
    compute: float
    """Seconds of the fullest stage's products, without the bubble."""
    traffic: tuple[Traffic, ...]

    @property
    def flops(self) -> float:
        """FLOPs of the model: what MFU counts."""
        return self.matrix_flops + self.attention_flops

    def _along(self, *axes: str) -> list[float]:
        return [t.seconds for t in self.traffic if t.axis in axes]

    @property
    def seconds(self) -> float:
        """Expected: tp and ep make products wait, the other axes' bytes are hidden behind them."""
        busy = (self.compute + sum(self._along("tp", "ep"))) / (1 - self.bubble)
        return max(busy, sum(self._along("dp", "muon")), *self._along("pp"))

    @property
    def worst(self) -> float:
        """Nothing hidden behind anything."""
        return (self.compute + sum(self._along("tp", "ep"))) / (1 - self.bubble) + sum(self._along(*HIDDEN))

    @property
    def tokens_per_second(self) -> float:
        """Over all devices."""
        return self.tokens / self.seconds

    @property
    def mfu(self) -> float:
        """The model's FLOPs over what the devices could do in the expected time."""
        return self.flops / (self.seconds * self.devices * self.peak)


def step(spec: ModelSpec, mesh: Mesh, job: Job, device: Device) -> Step:
    """What one step costs on a mesh of these devices; the mesh has been checked."""
    attention = pairs_flops(spec, job.seq) * job.batch_tokens / job.seq
    per_stage = [_stage_flops(spec, mesh, job, s) for s in range(mesh.pp)]
    muon = sum(newton_schulz_flops(p) for stage in stage_parts(spec, mesh.pp) for p in stage)
    per_device = max(per_stage) / (mesh.dp * mesh.tp) + muon / mesh.devices
    micro = job.micro_batches(mesh)
    layers = sum(_layer_flops(spec, layer, job) for held in stage_layers(spec, mesh.pp) for layer in held)
    return Step(
        tokens=job.batch_tokens,
        devices=mesh.devices,
        peak=device.flops,
        matrix_flops=6.0 * spec.trained_params(spec.mtp is not None) * job.batch_tokens,
        attention_flops=attention,
        recompute_flops=layers * job.batch_tokens / 3 if job.recompute else 0.0,
        muon_flops=muon,
        micro_batches=micro,
        bubble=(mesh.pp - 1) / (micro + mesh.pp - 1),
        compute=per_device / (device.flops * device.mfu),
        traffic=tuple(_traffic(spec, mesh, job, device)),
    )


def pairs_flops(spec: ModelSpec, seq: int) -> float:
    """Attention's training FLOPs of a row of `seq` tokens, the multi-token head's layer with them."""
    return spec.attention_flops([seq], mtp=spec.mtp is not None)


def newton_schulz_flops(part: Part) -> float:
    """FLOPs of orthogonalising the matrices of a part: per iteration x xᵀ, its square, and their product with x."""
    total = 0.0
    for count, rows, columns in part.matrices:
        short, long = sorted((rows, columns))
        total += count * NS_STEPS * (4.0 * short**2 * long + 2.0 * short**3)
    return total


def _layer_flops(spec: ModelSpec, layer: LayerSpec, job: Job) -> float:
    """Training FLOPs of a layer for one token."""
    w = min(layer.window or job.seq, job.seq)
    pairs = (w * (w + 1) / 2 + (job.seq - w) * w) / job.seq
    return 6.0 * spec.layer_params(layer.experts, active=True) + 12.0 * spec.attn_width * pairs


def _stage_flops(spec: ModelSpec, mesh: Mesh, job: Job, stage: int) -> float:
    """FLOPs of a stage over a whole batch, recomputation with them."""
    again = 4 / 3 if job.recompute else 1.0
    token = sum(_layer_flops(spec, layer, job) for layer in stage_layers(spec, mesh.pp)[stage]) * again
    if stage == mesh.pp - 1:
        heads = 2 if spec.mtp else 1
        token += 6.0 * heads * spec.vocab * spec.width + (12.0 * spec.width**2 if spec.mtp else 0.0)
    return token * job.batch_tokens


def _traffic(spec: ModelSpec, mesh: Mesh, job: Job, device: Device) -> list[Traffic]:
    """Traffic of the axes in use, each of the stage that moves most."""
    found = []
    held = stage_parts(spec, mesh.pp)
    micro, tokens = job.micro_batches(mesh), job.rows_per_rank(mesh) * job.seq
    stream = tokens * spec.width * BF16
    layers = max(len(s) for s in stage_layers(spec, mesh.pp))
    if mesh.dp > 1:
        times = micro if mesh.pp == 1 else 1
        gather = (2 if mesh.pp == 1 else 1) * times * BF16 + times * FP32
        sizes = [sum(local(p, mesh, p.params) * _others(_ranks(p, mesh)) for p in stage) for stage in held]
        found.append(Traffic("dp", gather * max(sizes), _rate(mesh.tp * mesh.dp, device)))
        moved = max(sum(kept(p, mesh, p.muon) * _others(_ranks(p, mesh)) for p in stage) for stage in held)
        found.append(Traffic("muon", 2 * BF16 * moved, _rate(mesh.tp * mesh.dp, device)))
    if mesh.tp > 1:
        passes = (6 if job.recompute else 4) * layers + 2  # two all-reduces a layer and direction; embedding and head
        found.append(Traffic("tp", passes * 2 * _others(mesh.tp) * stream, _rate(mesh.tp, device)))
    if mesh.ep > 1 and spec.moe:
        experts = max(sum(layer.experts for layer in s) for s in stage_layers(spec, mesh.pp))
        passes = (6 if job.recompute else 4) * experts * spec.moe.active
        found.append(Traffic("ep", passes * _others(mesh.ep) * stream, _rate(mesh.tp * mesh.ep, device)))
    if mesh.pp > 1:
        found.append(Traffic("pp", 2 * stream / mesh.tp, _rate(mesh.devices, device)))
    return found


def _ranks(part: Part, mesh: Mesh) -> int:
    return mesh.expert_dp if part.experts else mesh.dp


def _others(n: int) -> float:
    """The share of a tensor that lies with the others of n."""
    return (n - 1) / n


def _rate(span: int, device: Device) -> float:
    """Bytes/s along an axis whose groups span that many neighbours (tp lies innermost, then ep, dp and pp)."""
    return device.link if span <= device.node else device.network
