"""The decoder over cached sequences: `read` takes chunks of texts in, `decode` adds a token to every running sequence.

With drafts, `draft` asks the multi-token head how each sequence goes on, `verify` adds the newest token and the drafts
in one pass, and `accept` says how many of them stayed.

All go through the same `Block.qkv` and `Block.finish` as training; only attention differs, since its keys come from the
cache. Results agree with the full forward to rounding, for any chunk size and any batch mates. Small fp32 models on a
CPU go through one C++ call a step instead (`engine.native`), but for chunks with images, which are read here; large
ones in few bits go through `engine.wide`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor
from torch.nn import functional as F

from dokja.engine.graphs import Graphs
from dokja.engine.kv import Cache
from dokja.engine.lowbit import LowBitDecoder, few_bits
from dokja.engine.native import Native
from dokja.engine.packed import Bits, PackedWeights
from dokja.engine.wide import Wide
from dokja.model.block import rotation
from dokja.model.decoder import Decoder
from dokja.model.norm import rms_norm
from dokja.model.vision import Images
from dokja.text.images import Patches, token_count


def in_dtype(model: Decoder, dtype: torch.dtype, device: str) -> Decoder:
    """The model with its matrices in `dtype` and its gains as they were, which is how training multiplies.

    A model that is so already, on its own device, is used as it is, not copied.
    """
    fits = all(p.dtype == dtype for p in model.parameters() if p.ndim > 1)
    if not fits or torch.device(device) != model.embed.device:
        model = copy.deepcopy(model).to(device).requires_grad_(False)
        for p in model.parameters():
            if p.ndim > 1:
                p.data = p.data.to(dtype)
    return model


def cached_attention(q_BLHK: Tensor, k_BGTK: Tensor, v_BGTK: Tensor, mask: Tensor) -> Tensor:
    """Attention of L queries to T cached places -> o[B,L,H,K]. `mask` is added to the scores, [B or 1, 1, L, T].

    The query heads of one key head become queries of their own, so no key is copied for them. fp32 on the CPU goes
    through plain products: about twice as fast as torch's fused kernel for one query a sequence.
    """
    b, length, heads, width = q_BLHK.shape
    groups = k_BGTK.shape[1]
    shared = heads // groups
    if length == 1:
        q = q_BLHK.view(b, groups, shared, width)
    else:
        q = q_BLHK.unflatten(2, (groups, shared)).permute(0, 2, 3, 1, 4).reshape(b, groups, shared * length, width)
        mask = mask.repeat(1, 1, shared, 1)
    if length == 1 and q.dtype == torch.float32 and q.device.type == "cpu":
        scores = torch.matmul(q * width**-0.5, k_BGTK.transpose(2, 3)).add_(mask)
        return torch.matmul(scores.softmax(-1), v_BGTK).view(b, 1, heads, width)
    o = F.scaled_dot_product_attention(q, k_BGTK, v_BGTK, attn_mask=mask)
    if length == 1:
        return o.reshape(b, 1, heads, width)
    return o.unflatten(2, (shared, length)).permute(0, 3, 1, 2, 4).reshape(b, length, heads, width)


@dataclass(frozen=True)
class Sight:
    """Features of the images of a text, from the first that is not wholly cached."""

    features_MD: Tensor
    skipped: int
    """places of images in the text before them"""


@dataclass(frozen=True)
class Chunk:
    """Tokens start..stop-1 of a text, which the sequence in a row of the cache goes on with."""

    row: int
    text: Sequence[int]
    start: int
    stop: int
    sight: Sight | None = None
    """where the text holds images from `start` on"""


class Forward:
    """A model with its caches. Callers hold `torch.inference_mode`, and see to it that what is written has pages
    (`Cache.cover`)."""

    def __init__(
        self,
        model: Decoder | PackedWeights,
        slots: int,
        dtype: torch.dtype,
        device: str,
        chunk: int,
        ahead: int = 0,
        weights: Bits | None = None,
        *,
        head: bool | None = None,
        tokens: int | None = None,
        keep: int = 0,
    ):
        """`chunk`: the most tokens of one text in one pass. `ahead`: the most drafts of a sequence in one step.
        `weights`: of a decoder, see `engine.lowbit.few_bits`; they and packed weights need bf16. `head` (None: where
        there are drafts), `tokens`, `keep`: as in `Cache`."""
        if weights and isinstance(model, Decoder):
            model = few_bits(model, weights, device)
        self.spec, self.dtype, self.device = model.spec, dtype, device
        packed = model if isinstance(model, PackedWeights) else None
        if isinstance(model, Decoder):  # packed weights need none, and it would be the larger part of memory
            self.model = in_dtype(model, dtype, device)
            self._blocks = self.model.blocks
        self.packed, self.chunk = packed, chunk
        head = ahead > 0 if head is None else head
        gpu = torch.device(device).type == "cuda"
        # Recordings fill their batch up with a row that no sequence has.
        self.cache = Cache(self.spec, slots + gpu, dtype, device, ahead, head=head, tokens=tokens, keep=keep)
        self.rows = torch.arange(slots, device=device)
        """Where in the cache the sequences lie that `decode`, `verify` and `draft` go on with."""
        self._numbers = torch.arange(slots * (ahead + 1), device=device)
        # The stack's output at the rows of the last `verify`
        self._verified = torch.zeros(slots * (ahead + 1), self.spec.width, dtype=dtype, device=device)
        positions = torch.arange(self.spec.context + ahead, device=device)
        self._turns = torch.cat(rotation(positions, self.spec), dim=-1)  # cos, sin
        self._taken = 0
        self._weights: list[tuple[int, int]] = []  # as they were when last looked at
        self._native: Native | Wide | None = (
            Native.of(self.model, self.cache, self._turns)
            if packed is None
            else Wide.of(packed, self.cache, self._turns)
        )
        # Experts are sorted by load, which a recording cannot follow.
        self.graphs = Graphs(self._next, self.cache, slots) if gpu and self.spec.moe is None else None

    def take(self, model: Decoder) -> None:
        """The weights of another model of the same shape, in place of these. Nothing may be running."""
        self._taken += 1
        if self.packed is not None:
            self.packed.take(model)
        elif isinstance(self.model, LowBitDecoder):
            self.model.take(dict(model.named_parameters()).__getitem__)
        else:
            with torch.no_grad():
                for own, new in zip(self.model.parameters(), model.parameters(), strict=True):
                    if own is not new:
                        own.copy_(new)

    def renewed(self) -> bool:
        """Whether the parameters may have changed since the last call; the native path packs them again then.

        Only while nothing is running. Fused optimisers change parameters without counting it, so that only frozen ones
        can be trusted to say that they have not.
        """
        parameters = list(self.model.parameters()) if self.packed is None else []
        counted = not any(p.requires_grad or p.is_inference() for p in parameters)
        now = [(0, self._taken), *((p.data_ptr(), p._version) for p in parameters)] if counted else []
        if now and now == self._weights:
            return False
        self._weights = now
        if isinstance(self._native, Native):
            self._native.renew()
        return True

    # --- reading ------------------------------------------------------------------------------------------------

    def sight(self, text: Sequence[int], images: Sequence[Patches], start: int) -> Sight | None:
        """What to see of a text's images from position `start` on; None where there is nothing left to see."""
        if not images:
            return None
        vision = self.spec.vision
        assert vision is not None
        seen, skipped = text[:start].count(vision.image_token), 0
        for number, image in enumerate(images):
            if seen < skipped + (count := token_count(image.grid, vision.merge)):
                return Sight(self.model.features(Images.of(images[number:], self.device), self.dtype), skipped)
            skipped += count
        return None

    def read(self, chunks: Sequence[Chunk]) -> Tensor:
        """Takes chunks of different rows in -> logits [N, V] after each text that ends here, in order."""
        ends = {i: number for number, i in enumerate(i for i, c in enumerate(chunks) if c.stop == len(c.text))}
        blind = [i for i, chunk in enumerate(chunks) if not self._shows(chunk)]
        if self._native is None:
            blind = []
        elif len(blind) == len(chunks):
            return self._read_native(chunks, list(ends))
        logits = torch.empty(len(ends), self.spec.vocab, device=self.device)
        if blind:
            at = [i for i in blind if i in ends]
            scores = self._read_native([chunks[i] for i in blind], [blind.index(i) for i in at])
            logits[[ends[i] for i in at]] = scores
        rest = sorted(set(range(len(chunks))) - set(blind), key=lambda i: chunks[i].start - chunks[i].stop)
        while rest:  # the longest first, with those that padding makes at most twice as long
            longest = chunks[rest[0]].stop - chunks[rest[0]].start
            some = [i for i in rest if 2 * (chunks[i].stop - chunks[i].start) >= longest]
            rest = rest[len(some) :]
            at = [i for i in some if i in ends]
            x_ND = self._read([chunks[i] for i in some], [some.index(i) for i in at])
            if at:
                logits[[ends[i] for i in at]] = self.model.logits(x_ND).float()
        return logits

    def read_scored(self, chunk: Chunk) -> Tensor:
        """Takes one chunk in -> logits [L, V] after each of its tokens."""
        if self._native is not None and not self._shows(chunk):
            return self._read_native([chunk], [0], every=True)
        return self.model.logits(self._stream([chunk], [0])[0]).float()

    def _shows(self, chunk: Chunk) -> bool:
        """Whether a place of an image is in the chunk, or right behind it."""
        return chunk.sight is not None and self._places(chunk) != []

    def _places(self, chunk: Chunk) -> list[int]:
        """Where the chunk, and the token behind it, hold places of images."""
        assert self.spec.vision is not None
        token = self.spec.vision.image_token
        return [i for i, t in enumerate(chunk.text[chunk.start : chunk.stop + 1]) if t == token]

    def _read_native(self, chunks: Sequence[Chunk], ends: Sequence[int], every: bool = False) -> Tensor:
        """Reads chunks without images -> scores after those numbered in `ends`; `every`: after each token of the only
        one."""
        assert self._native is not None
        lengths = torch.tensor([c.stop - c.start for c in chunks])
        behind = lengths.cumsum(0)
        token = torch.tensor(list(chain.from_iterable(c.text[c.start : c.stop] for c in chunks)))
        slot = torch.tensor([c.row for c in chunks]).repeat_interleave(lengths)
        shift = torch.tensor([c.start for c in chunks]) - (behind - lengths)
        position = torch.arange(len(token)) + shift.repeat_interleave(lengths)
        score = torch.full_like(token, -1)
        scored = torch.arange(len(token)) if every else behind[ends] - 1
        score[scored] = torch.arange(len(scored))
        rows = [token, slot, position, score]
        if self.cache.hidden is None or not isinstance(self._native, Native):
            return self._native.run(rows, len(scored))
        after, hidden = token.roll(-1), torch.empty(len(scored), self.spec.width)
        after[behind - 1] = torch.tensor([c.text[c.stop] if c.stop < len(c.text) else 0 for c in chunks])
        scores = self._native.run(rows, len(scored), hidden, after)
        self.cache.hidden[[chunks[i].row for i in ends]] = hidden[-len(ends) :] if ends else hidden
        return scores

    def _read(self, chunks: Sequence[Chunk], ends: Sequence[int]) -> Tensor:
        """Reads chunks together, the longest first -> normed stream [N, D] at the last token of those in `ends`."""
        x_BLD = self._stream(chunks, ends)
        return x_BLD[list(ends), [chunks[i].stop - chunks[i].start - 1 for i in ends]]

    def _stream(self, chunks: Sequence[Chunk], ends: Sequence[int]) -> Tensor:
        """The same -> all of the stream [B, L, D], padding included."""
        lengths, width = [c.stop - c.start for c in chunks], chunks[0].stop - chunks[0].start
        # With the token behind each, for the multi-token head; then zeros
        padded = [[*c.text[c.start : c.stop + 1], *[0] * width][: width + 1] for c in chunks]
        x_BLD = self.model.embedded(torch.tensor(padded, device=self.device), self.dtype)
        for number, chunk in enumerate(chunks):
            if chunk.sight is not None and (places := self._places(chunk)):
                assert self.spec.vision is not None
                first = chunk.text[: chunk.start].count(self.spec.vision.image_token) - chunk.sight.skipped
                x_BLD[number, places] = chunk.sight.features_MD[first : first + len(places)]
        lengths_B1 = torch.tensor(lengths, device=self.device)[:, None]
        at_L = torch.arange(width, device=self.device)
        start_B1 = torch.tensor([c.start for c in chunks], device=self.device)[:, None]
        kept = None if min(lengths) == width else (at_L < lengths_B1).flatten().nonzero()[:, 0]
        x_BLD = self._pass(
            x_BLD,
            torch.tensor([c.row for c in chunks], device=self.device),
            start_B1 + torch.minimum(at_L, lengths_B1 - 1),  # padding stands where the last token does
            max(c.stop for c in chunks),
            kept,
        )
        if self.cache.hidden is not None and ends:
            self.cache.hidden[[chunks[i].row for i in ends]] = x_BLD[list(ends), [lengths[i] - 1 for i in ends]]
        return x_BLD

    def prefill(
        self, first: int, prompts: Sequence[Sequence[int]], images: Sequence[Sequence[Patches]] = (), room: int = 0
    ) -> Tensor:
        """Reads whole prompts into the rows from `first` on, with pages for `room` tokens more -> logits_BV after each:
        for checks of a model, which need no scheduler. `images` of every prompt, in order, where any has some."""
        self.renewed()
        rows = range(first, first + len(prompts))
        shown = [self.sight(p, i, 0) for p, i in zip(prompts, images or [()] * len(prompts), strict=True)]
        logits = torch.empty(len(prompts), self.spec.vocab, device=self.device)
        for row in rows:
            self.cache.release(row)
        for start in range(0, max(map(len, prompts)), self.chunk):
            chunks = [
                Chunk(row, prompt, start, min(start + self.chunk, len(prompt)), sight)
                for row, prompt, sight in zip(rows, prompts, shown, strict=True)
                if start < len(prompt)
            ]
            for c in chunks:
                self.cache.trim(c.row, start)
                if not self.cache.cover(c.row, c.stop + room * (c.stop == len(c.text))):
                    raise ValueError("the cache has too few pages for these prompts")
            ended = [c.row - first for c in chunks if c.stop == len(c.text)]
            logits[ended] = self.read(chunks)
        return logits

    # --- going on -----------------------------------------------------------------------------------------------

    def decode(self, tokens_B: Tensor, position_B: Tensor, longest: int) -> Tensor:
        """Adds tokens_B at position_B to the sequences in `rows[:B]` -> logits_BV.

        `longest` is the length of the longest of them, this token included.
        """
        n = len(tokens_B)
        if self._native is not None:
            return self._native.run([tokens_B, self.rows[:n], position_B, self._numbers[:n]], n)
        return (self.graphs or self._next)(tokens_B, self.rows[:n], position_B, longest)

    def _next(self, tokens_B: Tensor, rows_B: Tensor, position_B: Tensor, longest: int) -> Tensor:
        """`decode` of the sequences in rows rows_B, through torch."""
        x = self.model.embedded(tokens_B[:, None], self.dtype)
        return self.model.logits(self._pass(x, rows_B, position_B[:, None], longest)[:, 0]).float()

    def verify(self, tokens_BL: Tensor, position_BL: Tensor, longest: int) -> Tensor:
        """Adds the newest token of each sequence and its drafts, at position_BL -> logits [B*L, V] after each of them.

        `longest` counts the drafts as well. `accept` must follow.
        """
        n, length = tokens_BL.shape
        # The drafts stand for the tokens after each; what is refused is written anew before it is seen, and so is the
        # last row, whose next token is not known yet.
        if self._native is not None:
            slot, number = self.rows[:n].repeat_interleave(length), self._numbers[: n * length]
            rows = [tokens_BL.flatten(), slot, position_BL.flatten(), number]
            if self.cache.hidden is None or not isinstance(self._native, Native):
                return self._native.run(rows, n * length)
            return self._native.run(rows, n * length, self._verified, rows[0].roll(-1))
        tokens = F.pad(tokens_BL, (0, 1)) if self.cache.mtp is not None else tokens_BL
        x = self._pass(self.model.embedded(tokens, self.dtype), self.rows[:n], position_BL, longest)
        self._verified[: n * length] = x.flatten(0, 1)
        return self.model.logits(x).float().flatten(0, 1)

    def accept(self, row_B: Tensor) -> None:
        """`row_B`: the last of each sequence's rows in the last `verify` that stayed."""
        if self.cache.hidden is not None:
            self.cache.hidden.index_copy_(0, self.rows[: len(row_B)], self._verified.index_select(0, row_B))

    def _pass(
        self, x_BMD: Tensor, row_B: Tensor, position_BL: Tensor, longest: int, kept: Tensor | None = None
    ) -> Tensor:
        """Embedded tokens at position_BL of the sequences in rows row_B through all layers -> normed stream x[B,L,D].

        M is L, or L + 1 with the token behind each, which the multi-token head asks for. `longest` and `kept` as in
        `Cache.places`.
        """
        self.cache.sync()
        length, mtp = position_BL.shape[1], self.cache.mtp
        rot = self._rotation(position_BL)
        layers = [*self.cache.layers, mtp] if mtp is not None else self.cache.layers
        places = self.cache.places(layers, row_B, position_BL, kept, longest)
        x = x_BMD[:, :length].contiguous()  # products of rows that lie apart are slower
        for block, cache in zip(self._blocks, self.cache.layers, strict=True):
            at = places[cache.window]
            q, k, v = block.qkv(x, rot)
            cache.add(k, v, at, kept)
            x, _ = block.finish(x, cached_attention(q, *cache.read(at), at.mask_B1LT))
        x = rms_norm(x, self.model.norm, self.spec.norm_eps)
        if mtp is not None:  # keys and values are all that later drafts need of these positions
            _, k, v = self.model.mtp.block.qkv(self.model.mtp.enter(x, x_BMD[:, 1:]), rot)
            mtp.add(k, v, places[mtp.window], kept)
        return x

    def _rotation(self, position_BL: Tensor) -> tuple[Tensor, Tensor]:
        cos, sin = self._turns[position_BL].chunk(2, dim=-1)
        return cos, sin

    def draft(self, tokens_B: Tensor, position_B: Tensor, longest: int, depth: int) -> Tensor:
        """The multi-token head's best `depth` tokens [B, depth] after tokens_B, which stand at position_B of the
        sequences in `rows[:B]` and have not been added yet. `longest` as in `verify`."""
        mtp, cache, row_B = self.model.mtp, self.cache.mtp, self.rows[: len(tokens_B)]
        assert cache is not None and self.cache.hidden is not None
        if self._native is not None:
            assert isinstance(self._native, Native)
            return self._native.draft(tokens_B, row_B, position_B, self.cache.hidden, depth)
        self.cache.sync()
        x, drafts = self.cache.hidden.index_select(0, row_B), []
        for i in range(depth):
            at = position_B[:, None] + (i - 1)
            places = self.cache.places([cache], row_B, at, None, longest)[cache.window]
            entered = mtp.enter(x, self.model.embedded(tokens_B, self.dtype))[:, None]
            q, k, v = mtp.block.qkv(entered, self._rotation(at))
            cache.add(k, v, places, None)
            o = cached_attention(q, *cache.read(places), places.mask_B1LT)
            x = mtp.leave(mtp.block.finish(entered, o)[0][:, 0])
            tokens_B = self.model.logits(x).argmax(-1)
            drafts.append(tokens_B)
        return torch.stack(drafts, dim=1)
