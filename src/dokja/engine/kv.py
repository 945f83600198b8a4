"""Keys and values of the running sequences: one tensor a layer, kv[2, slots, G, capacity, K].

| layer | capacity | position p lies at | grows |
|---|---|---|---|
| global | the longest running sequence, in buckets | p | doubling, up to the context |
| local | its window and `ahead` (a ring) | p mod capacity | never |

Running sequences fill slots 0..n-1 without a gap, so that every read is a view and nothing is gathered.

A ring needs window + chunk - 1 places where `chunk` tokens are written before they attend. Decoding writes one, so
the window itself is enough; a prompt's chunk attends to a row of its own, window - 1 places of the past and then the
chunk (`LayerCache.extend`), before the ring takes what of it stays in view. So decoding reads no place in vain,
however long the chunks are.

With drafts a step writes positions p..p+ahead, of which some may be refused, and the next step begins at p + 1 or
later. It must see everything from p + 2 - window on, and rings of window + ahead places keep that: position q takes the
place of q - window - ahead, which is p - window at the latest. Refused positions are never in view, for they lie
behind the query, until the sequence gets there and writes them anew. Nothing is copied aside or restored. Global layers
and the table of rotations have room for `ahead` positions behind the context, so that all sequences have as many rows.

The multi-token head has a layer of the same kind (`Cache.mtp`), and needs the stack's output at the token before the
newest (`Cache.hidden`).

    legend   n running sequences, B rows of a prefill, L tokens of its chunk or of a step, G key heads, K head width,
             T places read
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dokja.model.spec import ModelSpec

BUCKET = 64  # global layers grow in multiples of it
_STEP = 16  # places read are a multiple of it: whole vectors


@dataclass(frozen=True)
class Places:
    """Where one decoding step writes and reads in layers of one window."""

    write: Tensor
    """[2*n*G*L] rows of kv seen as [-1, K]."""
    length: int
    """T, places read per sequence."""
    mask_B1LT: Tensor
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

    def append(self, k_BLGK: Tensor, v_BLGK: Tensor, places: Places) -> tuple[Tensor, Tensor]:
        """Writes the tokens of each running sequence -> keys and values [n, G, T, K] as `places` reads them."""
        n, width = k_BLGK.shape[0], k_BLGK.shape[3]
        new = torch.stack((k_BLGK, v_BLGK)).transpose(2, 3)
        self.kv.view(-1, width).index_copy_(0, places.write, new.reshape(-1, width))
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
    """The caches of all layers, and the places a step touches in them (shared by layers of one window)."""

    def __init__(self, spec: ModelSpec, slots: int, dtype: torch.dtype, device: str, ahead: int = 0):
        """`ahead`: the most drafts a step verifies; above 0 there is a cache for a multi-token head as well."""
        self.spec, self.slots, self.dtype, self.device, self.ahead = spec, slots, dtype, device, ahead
        self.layers = [self._layer(layer.window) for layer in spec.layer_specs]
        self.mtp = self._layer(spec.mtp.window) if spec.mtp and ahead else None
        self.hidden = torch.zeros(slots, spec.width, dtype=dtype, device=device) if self.mtp else None
        self._all = [*self.layers, self.mtp] if self.mtp else self.layers
        self._bases: dict[int, Tensor] = {}

    def _layer(self, window: int | None) -> LayerCache:
        capacity = min(BUCKET if window is None else window, self.spec.context) + (self.ahead if window else 0)
        heads, width = self.spec.kv_heads, self.spec.head_dim
        return LayerCache(self.slots, capacity, heads, width, window, self.dtype, self.device)

    def reserve(self, length: int) -> None:
        """Makes sure that every global layer has room for sequences of `length` positions."""
        for layer in self._all:
            if layer.window is None and layer.capacity < length:
                wanted = max(2 * layer.capacity, -(-length // BUCKET) * BUCKET)
                layer.grow(min(wanted, self.spec.context + self.ahead))

    def places(self, position_BL: Tensor, longest: int, layers: Sequence[LayerCache]) -> dict[int | None, Places]:
        """Places by window of `layers`, for a step that writes `position_BL` (below `longest`) of slots 0..n-1."""
        made: dict[int | None, Places] = {}
        length = -(-longest // _STEP) * _STEP
        place = torch.arange(length, device=self.device)
        # Place s of a ring holds a position as soon as one was written there: s <= p, as in a global layer.
        hidden = place > position_BL[..., None]
        mask_B1LT = torch.zeros_like(hidden, dtype=self.dtype).masked_fill_(hidden, -torch.inf)[:, None]
        for layer in layers:
            if layer.window in made:
                continue
            read, mask = min(length, layer.capacity), mask_B1LT
            at_BL = position_BL % layer.capacity  # a global layer has room for every position
            write = (self._base(layer.capacity)[:, : len(position_BL), :, None] + at_BL[:, None]).flatten()
            if self.ahead and layer.window is not None:  # more places than the window
                behind = (position_BL[..., None] - place[:read]) % layer.capacity
                mask = mask[..., :read].masked_fill((behind >= layer.window)[:, None], -torch.inf)
            made[layer.window] = Places(write, read, mask[..., :read])
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
        for layer in self._all:
            n = min(length, layer.capacity)
            layer.kv[:, first : first + len(sources), :, :n] = layer.kv[:, :, :, :n].index_select(1, source)
        if self.hidden is not None:
            self.hidden[first : first + len(sources)] = self.hidden[source]

    def move(self, source: int, target: int, length: int) -> None:
        """Copies a sequence of `length` positions to another slot, in every layer."""
        for layer in self._all:
            layer.move(source, target, length)
        if self.hidden is not None:
            self.hidden[target] = self.hidden[source]
