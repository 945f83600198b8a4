"""The parameters of a shape in groups that are stored, moved and sharded alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

from dokja.model.spec import LayerSpec, ModelSpec, VisionSpec

FRONT, BACK = -1, -2
"""Places before the first layer and behind the last one."""


@dataclass(frozen=True)
class Part:
    """A group of parameters at `place` (a layer's number, FRONT or BACK).

    matrices: (how many, rows, columns) of what Muon moves; vectors: numbers that AdamW moves; fixed: numbers that no
    optimiser moves. split: divided by tp; experts: divided by ep.
    """

    name: str
    place: int
    matrices: tuple[tuple[int, int, int], ...] = ()
    vectors: int = 0
    fixed: int = 0
    split: bool = False
    experts: bool = False

    @property
    def muon(self) -> int:
        """Numbers in the matrices."""
        return sum(n * rows * columns for n, rows, columns in self.matrices)

    @property
    def params(self) -> int:
        """All numbers."""
        return self.muon + self.vectors + self.fixed


@cache
def parts(spec: ModelSpec) -> tuple[Part, ...]:
    """Every parameter of the shape, once; `train.optim` decides in the same way what is a matrix."""
    found = [Part("embed", FRONT, vectors=spec.vocab * spec.width, split=True)]
    if spec.vision:
        found.append(_tower(spec.vision, spec.width))
    for i, layer in enumerate(spec.layer_specs):
        found += _layer(spec, layer, i)
    found.append(Part("norm", BACK, vectors=spec.width))
    if not spec.tied:
        found.append(Part("head", BACK, vectors=spec.vocab * spec.width, split=True))
    if spec.mtp:
        found.append(Part("mtp", BACK, matrices=((1, spec.width, 2 * spec.width),), split=True))
        found.append(Part("mtp", BACK, vectors=3 * spec.width))
        own = _layer(spec, LayerSpec(spec.mtp.window, spec.mtp.rope), BACK)
        found += [replace(part, name="mtp") for part in own]
    return tuple(found)


def _layer(spec: ModelSpec, layer: LayerSpec, place: int) -> Iterator[Part]:
    d, keys = spec.width, spec.kv_heads * spec.head_dim
    attention = ((1, spec.attn_width, d), (2, keys, d), (1, d, spec.attn_width))
    yield Part("attention", place, attention, split=True)
    yield Part("norm", place, vectors=2 * d + (2 * spec.head_dim if spec.qk_norm else 0))
    if spec.qkv_bias:
        yield Part("attention", place, vectors=spec.qkv_width, split=True)
    if layer.experts and (m := spec.moe):
        yield Part("experts", place, ((2 * m.experts, m.ffn, d), (m.experts, d, m.ffn)), split=True, experts=True)
        if m.shared:
            wide = m.ffn * m.shared
            yield Part("shared", place, ((2, wide, d), (1, d, wide)), split=True)
        yield Part("router", place, vectors=m.experts * d, fixed=m.experts)
    else:
        yield Part("ffn", place, ((spec.gated, spec.ffn, d), (1, d, spec.ffn)), split=True)


def _tower(v: VisionSpec, width: int) -> Part:
    """Vision tower and merger; not split by tp, since it is small beside the stack."""
    keys, n, merged = v.kv_heads * v.head_dim, v.layers, v.width * v.merge**2
    matrices = (
        (1, v.width, v.patch_values), (n, v.width, v.width), (2 * n, keys, v.width), (n, v.width, v.width),
        (2 * n, v.ffn, v.width), (n, v.width, v.ffn), (1, merged, merged), (1, width, merged),
    )  # fmt: skip
    biases = n * (v.width + 2 * keys + v.width + 2 * v.ffn + v.width) + merged + width
    return Part("vision", FRONT, matrices, vectors=biases + n * 2 * v.width + v.width)


def stages(layers: int, pp: int) -> list[range]:
    """The layers of every pipeline stage: as even as can be."""
    return [range(layers * i // pp, layers * (i + 1) // pp) for i in range(pp)]


@cache
def stage_parts(spec: ModelSpec, pp: int) -> tuple[tuple[Part, ...], ...]:
    """The parts of every stage; a tied vocabulary matrix lies on the first stage and, with pp > 1, on the last too."""
    everything, held = parts(spec), []
    for i, run in enumerate(stages(spec.layers, pp)):
        places = {*run, *([FRONT] if i == 0 else []), *([BACK] if i == pp - 1 else [])}
        mine = [part for part in everything if part.place in places]
        if spec.tied and i == pp - 1 > 0:
            mine.append(everything[0])
        held.append(tuple(mine))
    return tuple(held)
