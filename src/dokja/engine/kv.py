"""Keys and values of the running sequences: one tensor a layer, kv[2, slots, G, capacity, K].

| layer | capacity | position p lies at | grows |
|---|---|---|---|
| global | the longest running sequence, in buckets | p | doubling, up to the context |
| local | its window (a ring) | p mod window | never |

Running sequences fill slots 0..n-1 without a gap, so that every read is a view and nothing is gathered.

A ring needs window + chunk - 1 places where `chunk` tokens are written before they attend. Decoding writes one, so
the window itself is enough; a prompt's chunk attends to a row of its own, window - 1 places of the past and then the
chunk (`LayerCache.extend`), before the ring takes what of it stays in view. So decoding reads no place in vain,
however long the chunks are.

    legend   n running sequences, B rows of a prefill, L tokens of its chunk, G key heads, K head width, T places read
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dokja.model.spec import ModelSpec

BUCKET = 64  # global layers grow in multiples of it
_STEP = 16  # places read are a multiple of it: whole vectors


@dataclass(frozen=True)
class Places:
    """Where one decoding step writes and reads in layers of one capacity."""

    write: Tensor
    """[2*n*G] rows of kv seen as [-1, K]."""
    length: int
    """T, places read per sequence."""
    mask_B11T: Tensor
    """0 where the place holds a position in view, -inf elsewhere."""


class LayerCache:
    """Keys and values of one layer. `window` None = global."""

    def __init__(
        self, slots: int, capacity: int, heads: int, width: int, window: int | None, dtype: torch.dtype, device: str
    ):
        self.window, self.capacity = window, capacity
        # Zeros, not empty: a masked place has weight 0, and 0 times a stray NaN would be NaN.
        self.kv = torch.zeros(2, slots, heads, capacity, width, dtype=dtype, device=device)

    def grow(self, capacity: int) -> None:
        """Makes room for `capacity` positions (global layers)."""
        kv = self.kv.new_zeros(*self.kv.shape[:3], capacity, self.kv.shape[4])
        kv[:, :, :, : self.capacity] = self.kv
        self.kv, self.capacity = kv, capacity

    def append(self, k_B1GK: Tensor, v_B1GK: Tensor, places: Places) -> tuple[Tensor, Tensor]:
        """Writes one token of each running sequence -> keys and values [n, G, T, K] as `places` reads them."""
        n, width = k_B1GK.shape[0], k_B1GK.shape[3]
        self.kv.view(-1, width).index_copy_(0, places.write, torch.stack((k_B1GK, v_B1GK)).view(-1, width))
        read = self.kv[:, :n, :, : places.length]
        return read[0], read[1]

    def extend(self, first: int, k_BLGK: Tensor, v_BLGK: Tensor, start: int, ends_B: Tensor) -> tuple[Tensor, Tensor]:
        """Writes a chunk, positions start..start+L-1 of the B slots from `first` on -> keys, values [B, G, T, K].

        The T places are the positions start+L-T..start+L-1. Row b has `ends_B[b]` positions so far; what a shorter
        row carries beyond that is padding, which no query of that row sees.
        """
        new = torch.stack((k_BLGK, v_BLGK)).transpose(2, 3)
        rows, length = new.shape[1], new.shape[3]
        own = self.kv[:, first : first + rows]
        fits = start + length <= self.capacity
        if self.window is None:
            own[:, :, :, start : start + length] = new
            seen = own[:, :, :, : start + length]
        else:
            seen = new
            if past := min(self.window - 1, start):
                at = torch.arange(start - past, start, device=new.device) % self.capacity
                seen = torch.cat((own.index_select(3, at), new), dim=3)
            if fits:  # padding lands on places that decoding overwrites before it sees them
                own[:, :, :, start : start + length] = new
            else:
                self._wrap(own, new, start, ends_B)
        return seen[0], seen[1]

    def _wrap(self, own: Tensor, new: Tensor, start: int, ends_B: Tensor) -> None:
        """Puts the newest positions of a chunk into the ring, row by row up to its own end, and no padding."""
        place = torch.arange(self.capacity, device=new.device)
        last = ends_B[:, None] - 1
        position = last - (last - place) % self.capacity  # the newest position that belongs at each place
        source = torch.where(position >= start, self.capacity + position - start, place)
        shape = (2, -1, own.shape[2], -1, own.shape[4])
        own.copy_(torch.cat((own, new), dim=3).gather(3, source[None, :, None, :, None].expand(shape)))

    def move(self, source: int, target: int, length: int) -> None:
        """Copies a sequence of `length` positions to another slot."""
        n = min(length, self.capacity)
        self.kv[:, target, :, :n] = self.kv[:, source, :, :n]


class Cache:
    """The caches of all layers, and the places a step touches in them (shared by layers of one capacity)."""

    def __init__(self, spec: ModelSpec, slots: int, dtype: torch.dtype, device: str):
        self.spec, self.slots, self.dtype, self.device = spec, slots, dtype, device
        self.layers = [
            LayerCache(slots, self._capacity(layer.window), spec.kv_heads, spec.head_dim, layer.window, dtype, device)
            for layer in spec.layer_specs
        ]
        self._bases: dict[int, Tensor] = {}

    def _capacity(self, window: int | None) -> int:
        return min(window or BUCKET, self.spec.context)

    def reserve(self, length: int) -> None:
        """Makes sure that every global layer has room for sequences of `length` positions."""
        for layer in self.layers:
            if layer.window is None and layer.capacity < length:
                wanted = max(2 * layer.capacity, -(-length // BUCKET) * BUCKET)
                layer.grow(min(wanted, self.spec.context))

    def places(self, position_B: Tensor, longest: int) -> dict[int, Places]:
        """Places by capacity, for a step that writes `position_B` (at most `longest` - 1) of slots 0..n-1."""
        made: dict[int, Places] = {}
        length = -(-longest // _STEP) * _STEP
        mask = torch.arange(length, device=self.device) > position_B[:, None]
        mask_B11T = torch.zeros_like(mask, dtype=self.dtype).masked_fill_(mask, -torch.inf)[:, None, None]
        for capacity in {layer.capacity for layer in self.layers}:
            at_B = position_B % capacity  # a global layer has room for every position
            write = (self._base(capacity)[:, : len(position_B)] + at_B[:, None]).flatten()
            # Place s of a ring holds a position in view as soon as one was written there: s <= p, as in a global layer.
            read = min(length, capacity)
            made[capacity] = Places(write, read, mask_B11T[..., :read])
        return made

    def _base(self, capacity: int) -> Tensor:
        """[2, slots, G] row of place 0 in kv seen as [-1, K]."""
        if capacity not in self._bases:
            shape = (2, self.slots, self.spec.kv_heads)
            rows = torch.arange(2 * self.slots * self.spec.kv_heads, device=self.device)
            self._bases[capacity] = (rows * capacity).view(shape)
        return self._bases[capacity]

    def copy(self, sources: list[int], first: int, length: int) -> None:
        """Copies sequences of at most `length` positions to the slots from `first` on, in every layer."""
        source = torch.tensor(sources, device=self.device)
        for layer in self.layers:
            n = min(length, layer.capacity)
            layer.kv[:, first : first + len(sources), :, :n] = layer.kv[:, :, :, :n].index_select(1, source)

    def move(self, source: int, target: int, length: int) -> None:
        """Copies a sequence of `length` positions to another slot, in every layer."""
        for layer in self.layers:
            layer.move(source, target, length)
