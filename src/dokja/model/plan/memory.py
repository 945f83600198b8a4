"""Bytes of one device in training.

Weights are fp32 masters; Muon keeps one fp32 momentum for a number of a matrix, AdamW two for any other
(`train.optim`). Shares are taken as even: FSDP2 rounds the first dimension of a tensor up, which is less than a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from dokja.model.plan.mesh import Mesh
from dokja.model.plan.parts import Part, stage_parts, stages
from dokja.model.spec import LayerSpec, ModelSpec

FP32, BF16 = 4, 2
LOSS_ROWS, LOSS_BYTES = 2048, 2**28
"""Rows and bytes of fp32 scores that exist at once; `model.loss` has the same numbers."""


@dataclass(frozen=True)
class Job:
    """What is trained: rows of `seq` tokens, `batch_tokens` of them in a step. A micro batch is `micro_rows` rows of
    one data-parallel rank; `recompute`: layers keep their input alone and run again in the backward pass."""

    seq: int
    batch_tokens: int
    micro_rows: int = 1
    recompute: bool = False
    value_bytes: int = BF16

    def rows_per_rank(self, mesh: Mesh) -> int:
        """Rows of a batch that one data-parallel rank trains on."""
        return self.batch_tokens // self.seq // mesh.dp

    def micro_batches(self, mesh: Mesh) -> int:
        """Forward and backward passes of a rank in a step."""
        return -(-self.rows_per_rank(mesh) // self.micro_rows)

    @property
    def micro_tokens(self) -> int:
        """Tokens of one forward and backward pass of a rank."""
        return self.micro_rows * self.seq


@dataclass(frozen=True)
class Memory:
    """Bytes of a device of the fullest stage."""

    stage: int
    weights: float
    gradients: float
    optimizer: float
    gathered: float
    activations: float
    logits: float

    @property
    def state(self) -> float:
        """What stays from step to step, gradients with it."""
        return self.weights + self.gradients + self.optimizer

    @property
    def total(self) -> float:
        """All of it together."""
        return self.state + self.gathered + self.activations + self.logits


def local(part: Part, mesh: Mesh, numbers: int) -> float:
    """Of `numbers` of a part, those that one device computes with: its share of tp and ep."""
    return numbers / (mesh.tp if part.split else 1) / (mesh.ep if part.experts else 1)


def kept(part: Part, mesh: Mesh, numbers: int) -> float:
    """Of `numbers` of a part, those that one device keeps: FSDP shards what `local` leaves."""
    return local(part, mesh, numbers) / (mesh.expert_dp if part.experts else mesh.dp)


def layer_values(spec: ModelSpec, layer: LayerSpec) -> int:
    """Numbers that a layer keeps per token for its backward pass, without recomputation.

    Streams: what enters attention and feed-forward, and what leaves them (post norm) or enters their products (pre
    norm), 4 D. Attention: q, k, v and the output, and q and k before their norm. Feed-forward: gate, up and their
    product; with experts, each chosen token goes and comes back as well.
    """
    d, a, k = spec.width, spec.attn_width, spec.kv_heads * spec.head_dim
    attention = 3 * (a + k) if spec.qk_norm else 2 * (a + k)
    if layer.experts and (m := spec.moe):
        ffn = m.active * (2 * d + 3 * m.ffn) + m.shared * 3 * m.ffn + 2 * m.experts
    else:
        ffn = (spec.gated + 1) * spec.ffn
    return 4 * d + attention + ffn


@cache
def stage_layers(spec: ModelSpec, pp: int) -> tuple[tuple[LayerSpec, ...], ...]:
    """The layers of every stage, the multi-token head's own on the last."""
    specs = spec.layer_specs
    held = [tuple(specs[i] for i in run) for run in stages(spec.layers, pp)]
    if spec.mtp:
        held[-1] += (LayerSpec(spec.mtp.window, spec.mtp.rope),)
    return tuple(held)


def activations(spec: ModelSpec, mesh: Mesh, job: Job, stage: int) -> float:
    """Bytes that the layers of a stage keep for the backward pass; under 1F1B stage s holds pp - s micro batches."""
    layers = stage_layers(spec, mesh.pp)[stage]
    flying = min(job.micro_batches(mesh), mesh.pp - stage)
    values = [layer_values(spec, layer) for layer in layers]
    numbers = flying * len(layers) * spec.width + max(values) if job.recompute else flying * sum(values)
    return numbers * job.micro_tokens * job.value_bytes / mesh.tp


def logits(spec: ModelSpec, mesh: Mesh, job: Job) -> float:
    """Bytes of the loss: scores of a chunk of rows in fp32, their exponentials, their gradients; and the output
    matrix's gradient of that chunk."""
    rows = min(job.micro_tokens, loss_rows(spec.vocab))
    return (3 * FP32 * rows * spec.vocab + job.value_bytes * spec.vocab * spec.width) / mesh.tp


def loss_rows(vocab: int) -> int:
    """Rows whose scores exist at once; equal to `model.loss.chunk_rows` (tested)."""
    fits = max(1, LOSS_BYTES // (FP32 * vocab))
    return min(LOSS_ROWS, 1 << (fits.bit_length() - 1))


def stage_memory(spec: ModelSpec, mesh: Mesh, job: Job, stage: int) -> Memory:
    """Memory of a device of one stage."""
    mine = stage_parts(spec, mesh.pp)[stage]
    trained = sum(kept(p, mesh, p.muon + p.vectors) for p in mine)
    by_layer: dict[tuple[int, str], float] = {}
    for part in mine:
        # what FSDP gathers together: a layer, the embedding, the output matrix
        key = (part.place, part.name if part.place < 0 and part.name in ("embed", "head", "vision") else "")
        by_layer[key] = by_layer.get(key, 0.0) + local(part, mesh, part.params)
    largest = sorted(by_layer.values(), reverse=True)[:2]
    if mesh.dp == 1:  # no shards to gather: the copy of a layer in the dtype of the products
        gathered = job.value_bytes * largest[0] if job.value_bytes != FP32 else 0.0
    elif mesh.pp == 1:  # a layer and the next one, and a layer's gradients before they are scattered
        gathered = BF16 * sum(largest) + FP32 * largest[0]
    else:  # whole for all micro batches: gathering them for each would cost more than it saves
        gathered = (BF16 + FP32) * sum(by_layer.values())
    return Memory(
        stage,
        weights=FP32 * sum(kept(p, mesh, p.params) for p in mine),
        gradients=FP32 * trained,
        optimizer=FP32 * sum(kept(p, mesh, p.muon + 2 * p.vectors) for p in mine),
        gathered=gathered,
        activations=activations(spec, mesh, job, stage),
        logits=logits(spec, mesh, job) if stage == mesh.pp - 1 else 0.0,
    )


def memory(spec: ModelSpec, mesh: Mesh, job: Job) -> Memory:
    """Memory of a device of the fullest stage."""
    return max((stage_memory(spec, mesh, job, s) for s in range(mesh.pp)), key=lambda m: m.total)
