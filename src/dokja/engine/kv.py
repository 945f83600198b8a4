"""Keys and values of all sequences, in pages of 32 positions: one tensor a layer, kv[pages, 2, G, PAGE, K].

Layers of one window are a group: they share a pool of pages and a table [rows, width] that says in which page the
positions 32*i..32*i+31 of the sequence in a row lie. Page 0 holds zeros and is never given out; where a table names it,
nothing is kept.

| group  | a sequence of n positions holds pages for | gives back                                  |
|--------|-------------------------------------------|---------------------------------------------|
| global | all of them                               | all, when it ends                           |
| local  | its window, and what is being read        | what falls out of the window, as in a ring  |

Full pages are shared: by the answers to one prompt (`fork`), and with prompts that come later and begin alike (`adopt`;
digests in `engine.prefix`). A shared page is never written again: what a sequence writes lies behind the positions that
it shares, in pages of its own.

Drafts write positions beyond the newest token that may be refused. Those are never in view, for they lie behind the
query, until the sequence gets there and writes them anew.

Pools grow by doubling, so `kv` may move; tables stay where they are. The multi-token head has a layer of the same kind
(`Cache.mtp`), and needs the stack's output at the token before the newest (`Cache.hidden`).

    legend   B sequences, L tokens of each in a pass, G key heads, K head width, P pages read, T = P*PAGE places read
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dokja.engine.pages import PAGE, Pool, pages_for
from dokja.model.spec import ModelSpec

__all__ = ["PAGE", "Cache", "Group", "LayerCache", "Places"]


@dataclass(frozen=True)
class Places:
    """Where one pass writes and reads in the layers of a group."""

    write: Tensor
    """[2*N*G] rows of kv seen as [-1, K], for the N tokens that are kept."""
    read: Tensor
    """[2*B*G*P] rows of kv seen as [-1, PAGE*K]."""
    mask_B1LT: Tensor
    """0 where the place holds a position in view, -inf elsewhere."""


class LayerCache:
    """Keys and values of one layer."""

    def __init__(self, group: Group, heads: int, width: int, dtype: torch.dtype, device: str):
        self.group, self.window, self.table = group, group.window, group.table
        # Zeros, not empty: a masked place has weight 0, and 0 times a stray NaN would be NaN.
        self.kv = torch.zeros(1, 2, heads, PAGE, width, dtype=dtype, device=device)

    def grow(self, pages: int) -> None:
        """Makes room for `pages` pages, page 0 included."""
        kv = self.kv.new_zeros(pages, *self.kv.shape[1:])
        kv[: len(self.kv)] = self.kv
        self.kv = kv

    def add(self, k_BLGK: Tensor, v_BLGK: Tensor, places: Places, kept: Tensor | None) -> None:
        """Writes the tokens of a pass; `kept` [N] names those of the B*L that are no padding, None keeps all."""
        new = torch.stack((k_BLGK.flatten(0, 1), v_BLGK.flatten(0, 1)))
        if kept is not None:
            new = new.index_select(1, kept)
        width = new.shape[-1]
        self.kv.view(-1, width).index_copy_(0, places.write, new.reshape(-1, width))

    def read(self, places: Places) -> tuple[Tensor, Tensor]:
        """Keys and values [B, G, T, K] as `places` reads them."""
        _, _, heads, page, width = self.kv.shape
        b, t = len(places.mask_B1LT), places.mask_B1LT.shape[-1]
        both = self.kv.view(-1, page * width).index_select(0, places.read).view(2, b, heads, t, width)
        return both[0], both[1]


class Group:
    """Layers of one window: their pool, their table, and which part of every sequence has pages."""

    def __init__(self, window: int | None, rows: int, width: int, device: str, pool: Pool):
        self.window, self.pool = window, pool
        self.layers: list[LayerCache] = []
        self.table = torch.zeros(rows, width, dtype=torch.int32, device=device)
        host = self.table if device == "cpu" else torch.zeros(rows, width, dtype=torch.int32)
        self._host, self._stale = host, False
        self.rows = host.numpy()  # the same memory; single entries are set faster so
        self.first = [0] * rows
        self.end = [0] * rows
        """Pages first[row]..end[row]-1 of the row's sequence are there."""

    def needs(self, reused: int) -> int:
        """The first page that a sequence must hold to go on behind `reused` pages."""
        return 0 if self.window is None else max(0, reused * PAGE - self.window + 1) // PAGE

    def cover(self, row: int, end: int) -> bool:
        """Gives the sequence pages up to `end`; False where the pool has no more."""
        for at in range(self.end[row], end):
            if (wanted := self.pool.wanted()) > self.pool.size:
                for layer in self.layers:
                    layer.grow(wanted + 1)
                self.pool.grow(wanted)
            if not (page := self.pool.take()):
                return False
            self.rows[row, at] = page
            self.end[row], self._stale = at + 1, True
        return True

    def trim(self, row: int, first: int) -> None:
        """Gives back the pages before `first`."""
        first = min(first, self.end[row])
        for at in range(self.first[row], first):
            self.pool.drop(int(self.rows[row, at]))
            self.rows[row, at] = 0
            self.first[row], self._stale = at + 1, True

    def release(self, row: int) -> None:
        """Gives all pages of a sequence back, the last first: it is what others need least."""
        held = self.rows[row, self.first[row] : self.end[row]]
        for page in reversed(held.tolist()):
            self.pool.drop(page)
        held[:] = 0
        self.first[row] = self.end[row] = 0
        self._stale = True

    def take_over(self, row: int, first: int, pages: Sequence[int]) -> None:
        """A sequence begins with pages that others have filled, of which `pages[0]` is page `first`."""
        for at, page in enumerate(pages, first):
            self.pool.share(page)
            self.rows[row, at] = page
        self.first[row], self.end[row], self._stale = first, first + len(pages), True

    def sync(self) -> None:
        """Brings the table to the device."""
        if self._stale and self.table is not self._host:
            self.table.copy_(self._host)
        self._stale = False


class Cache:
    """The caches of all layers."""

    def __init__(
        self,
        spec: ModelSpec,
        rows: int,
        dtype: torch.dtype,
        device: str,
        ahead: int = 0,
        *,
        head: bool = False,
        tokens: int | None = None,
        keep: int = 0,
    ):
        """`rows`: sequences at once. `ahead`: the most drafts that a step verifies. `head`: whether the multi-token
        head proposes them and needs a layer of its own. `tokens`: positions that the pool of global layers may have,
        None for as many as the rows need. `keep`: positions kept for reuse beyond those in use."""
        self.spec, self.rows, self.dtype, self.device, self.ahead = spec, rows, dtype, device, ahead
        self._width, self._keep = pages_for(spec.context + ahead), keep // PAGE
        self.limit = None if tokens is None else tokens // PAGE
        """The most pages of a global pool."""
        self._groups: dict[int | None, Group] = {}
        self.layers = [self._layer(layer.window) for layer in spec.layer_specs]
        self.mtp = self._layer(spec.mtp.window) if spec.mtp and head else None
        self.hidden = torch.zeros(rows, spec.width, dtype=dtype, device=device) if self.mtp else None
        self.groups = list(self._groups.values())

    def _layer(self, window: int | None) -> LayerCache:
        if window not in self._groups:
            pool = Pool(self._keep, self.limit if window is None else None)
            self._groups[window] = Group(window, self.rows, self._width, self.device, pool)
        group = self._groups[window]
        group.layers.append(LayerCache(group, self.spec.kv_heads, self.spec.head_dim, self.dtype, self.device))
        return group.layers[-1]

    @property
    def spare(self) -> int | None:
        """Pages of global layers that nobody uses; None where there are as many as are needed."""
        pool = self._groups[None].pool if None in self._groups else None
        return None if pool is None or pool.limit is None else pool.limit - pool.used

    @property
    def room(self) -> int:
        """The most positions that one sequence may have."""
        pool = self._groups[None].pool if None in self._groups else None
        most = self.spec.context + self.ahead
        return most if pool is None or pool.limit is None else min(most, pool.limit * PAGE)

    def held(self, row: int) -> int:
        """Pages up to the last position of a row that has one."""
        return self.groups[0].end[row]

    def covered(self, row: int) -> int:
        """Positions below this have pages, as far as they are in view."""
        return self.groups[0].end[row] * PAGE

    def cover(self, row: int, stop: int) -> bool:
        """Makes sure that positions below `stop` of the sequence in a row have pages; False where there are none left.

        What was given before that stays the row's.
        """
        return all([group.cover(row, pages_for(stop)) for group in self.groups])

    def trim(self, row: int, position: int) -> None:
        """Gives back what no query from `position` on sees in local layers (nor one before it, which the multi-token
        head asks again)."""
        for group in self.groups:
            if group.window is not None and position > group.window:
                group.trim(row, (position - group.window) // PAGE)

    def release(self, row: int) -> None:
        """Gives all pages of a row back."""
        for group in self.groups:
            group.release(row)

    def fork(self, source: int, target: int, length: int) -> bool:
        """Lets an empty row go on behind the `length` positions of another: full pages are shared, the last is copied
        (the multi-token head writes the last position anew, so that is never shared then).

        False where there is no page left for that; the row is empty then.
        """
        full = (length - (self.mtp is not None)) // PAGE
        for group in self.groups:
            first = group.first[source]
            group.take_over(target, first, group.rows[source, first:full].tolist())
        if length > full * PAGE:
            if not self.cover(target, length):
                self.release(target)
                return False
            for group in self.groups:
                old, new = (int(group.rows[row, full]) for row in (source, target))
                for layer in group.layers:
                    layer.kv[new] = layer.kv[old]
        if self.hidden is not None:
            self.hidden[target] = self.hidden[source]
        return True

    def adopt(self, row: int, digests: Sequence[bytes]) -> int:
        """Lets an empty row begin with known pages -> how many: the longest run from the front of which every group
        has all that a sequence behind it sees."""
        found = [[group.pool.find(digest) for digest in digests] for group in self.groups]
        missing = [_last_missing(pages) for pages in found]
        for count in range(len(digests), 0, -1):
            if all(last[count] < group.needs(count) for group, last in zip(self.groups, missing, strict=True)):
                for group, pages in zip(self.groups, found, strict=True):
                    first = group.needs(count)
                    group.take_over(row, first, pages[first:count])
                return count
        return 0

    def tell(self, row: int, digests: Sequence[bytes], begin: int = 0) -> None:
        """The row's pages from `begin` on are full and known by these digests from now on."""
        for group in self.groups:
            for at in range(max(begin, group.first[row]), min(begin + len(digests), group.end[row])):
                group.pool.tell(int(group.rows[row, at]), digests[at - begin])

    def forget(self) -> None:
        """Nothing that is kept will be reused: the weights have changed."""
        for group in self.groups:
            group.pool.forget()

    def wipe(self) -> None:
        """Fills the pages with zeros: what a broken model wrote must not reach others, not even with weight 0."""
        self.forget()
        for group in self.groups:
            for layer in group.layers:
                layer.kv.zero_()

    def pages(self) -> dict[str, int]:
        """Pages of all groups: total, used, cached (known, and used by nobody)."""
        pools = [group.pool for group in self.groups]
        return {
            "total": sum(pool.size for pool in pools),
            "used": sum(pool.used for pool in pools),
            "cached": sum(pool.cached for pool in pools),
        }

    def sync(self) -> None:
        """Brings the tables to the device."""
        for group in self.groups:
            group.sync()

    def places(
        self, layers: Sequence[LayerCache], row_B: Tensor, position_BL: Tensor, kept: Tensor | None, longest: int
    ) -> dict[int | None, Places]:
        """Places by window of `layers`, for a pass that writes position_BL (below `longest`) of the sequences in rows
        row_B; positions of a sequence are neighbours. `kept` as in `LayerCache.add`."""
        groups = {layer.window: layer.group for layer in layers}
        return {window: self._places(group, row_B, position_BL, kept, longest) for window, group in groups.items()}

    def _places(self, group: Group, row_B: Tensor, position_BL: Tensor, kept: Tensor | None, longest: int) -> Places:
        heads, length = self.spec.kv_heads, position_BL.shape[1]
        table_BW = group.table.index_select(0, row_B)
        count, first_B1 = pages_for(longest), torch.zeros_like(position_BL[:, :1])
        if group.window is not None:
            count = min(count, pages_for(group.window + length - 2) + 1)
            first_B1 = (position_BL[:, :1] - group.window + 1).clamp_(min=0) // PAGE
        at_BP = first_B1 + torch.arange(count, device=self.device)
        page_BP = table_BW.gather(1, at_BP.clamp(max=self._width - 1)).long()
        sides = torch.arange(2, device=self.device)
        head = torch.arange(heads, device=self.device)
        read = ((page_BP[None, :, None] * 2 + sides[:, None, None, None]) * heads + head[:, None]).flatten()
        place_BT = (at_BP[..., None] * PAGE + torch.arange(PAGE, device=self.device)).flatten(1)
        hidden = place_BT[:, None] > position_BL[..., None]
        if group.window is not None:
            hidden |= place_BT[:, None] <= position_BL[..., None] - group.window
        mask_B1LT = torch.zeros(hidden.shape, dtype=self.dtype, device=self.device)
        mask_B1LT = mask_B1LT.masked_fill_(hidden, -torch.inf)[:, None]
        page_N = table_BW.gather(1, position_BL // PAGE).long().flatten()
        position_N = position_BL.flatten()
        if kept is not None:
            page_N, position_N = page_N[kept], position_N[kept]
        write = ((page_N[:, None] * 2 + sides[:, None, None]) * heads + head) * PAGE + position_N[:, None] % PAGE
        return Places(write.flatten(), read, mask_B1LT)


def _last_missing(pages: Sequence[int]) -> list[int]:
    """last[n]: the last of the first n pages that is 0, -1 where none is."""
    last = [-1]
    for at, page in enumerate(pages):
        last.append(last[-1] if page else at)
    return last
