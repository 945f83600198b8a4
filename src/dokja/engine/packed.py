"""All that `model/native/wide.cpp` needs of a model, in the order in which it reads it (matrix.h), and its file.

| part                             | dtype                | read by a step                                  |
|----------------------------------|----------------------|-------------------------------------------------|
| head, layers.i.{qkv,out,up,down} | bytes, see matrix.h  | whole: they lie on large pages, if there are any|
| their .scale where they are int8 | fp32, one an output  | whole                                           |
| norm, layers.i.*_norm, qkv_bias  | fp32                 | whole                                           |
| embed                            | bf16 [V, D]          | a few rows; it may stay in the file             |

The file is safetensors, tensors at multiples of 64 bytes in the order above. What it was made of stands in its
metadata, with a digest of the header and checksums of every byte behind it: they find damage, not intent, at the speed
of memory.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import math
import mmap
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import torch
from torch import Tensor

from dokja.errors import CheckpointError, ConfigError
from dokja.model.native.build import load
from dokja.model.spec import ModelSpec

if TYPE_CHECKING:
    from dokja.model.decoder import Decoder
    from dokja.model.families.weights import Checkpoint

Bits = Literal["bf16", "int8", "int4"]
BITS: tuple[Bits, ...] = ("bf16", "int8", "int4")
FORMAT = "1"
"""Of the file. Whoever changes the bytes that are written raises it; files of another format are packed anew."""
PANEL, GROUP = 32, 32  # outputs side by side; inputs with one scale
WIDTHS = (16, 32, 64, 80, 96, 128)
"""Head widths that wide.cpp is compiled for."""
_KINDS: dict[Bits, int] = {"bf16": 0, "int8": 1, "int4": 2}  # as in matrix.h
_BLOCK4 = 576
_MATRICES = ("qkv", "out", "up", "down")
_NAMES = {torch.uint8: "U8", torch.float32: "F32", torch.bfloat16: "BF16"}
_PAGE, _LARGE = 1 << 12, 1 << 21


def obstacle(spec: ModelSpec, device: str = "cpu") -> str | None:
    """Why wide.cpp cannot serve a model of this shape, as the end of a sentence; None where it can."""
    inner = spec.heads // spec.kv_heads * spec.head_dim
    for what, there in (("experts", spec.moe), ("a multi-token head", spec.mtp), ("a vision tower", spec.vision)):
        if there:
            return f"this model has {what}"
    if spec.activation != "swiglu":
        return f"this model's activation is {spec.activation}"
    if spec.head_dim not in WIDTHS or any(n % GROUP for n in (spec.width, spec.ffn, inner)):
        return (
            f"this model's widths are not multiples of {GROUP} or its head_dim is none of {', '.join(map(str, WIDTHS))}"
        )
    if device != "cpu":
        return f"it runs on {device}"
    return None if load("pack") and load("wide") else "the kernels for them are not there"


class Matrix(ctypes.Structure):
    """As in matrix.h. Whoever made it keeps the memory."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("scale", ctypes.c_void_p),
        *((n, ctypes.c_int64) for n in ("n", "N", "kind")),
    ]


class _Source(NamedTuple):
    """The matrix [N, n] of the model behind a packed one."""

    parameter: str
    N: int
    n: int
    bits: Bits


class _Part(NamedTuple):
    """A tensor of the file."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int
    """of its first byte, behind the header"""

    @property
    def bytes(self) -> int:
        """Size of its data."""
        return math.prod(self.shape) * self.dtype.itemsize


def _sources(spec: ModelSpec, bits: Bits) -> dict[str, _Source]:
    """All matrices, by name: the largest first, while the memory for the others is still untouched."""
    d, a, f = spec.width, spec.attn_width, spec.ffn
    shapes = {"qkv": (a + 2 * spec.kv_heads * spec.head_dim, d), "out": (d, a), "up": (2 * f, d), "down": (d, f)}
    last: Bits = "int8" if bits == "int4" else bits  # the output matrix decides most: it keeps eight bits
    found = {"head": _Source("embed" if spec.tied else "head", spec.vocab, d, last)}
    for i in range(spec.layers):
        for kind in _MATRICES:
            found[f"layers.{i}.{kind}"] = _Source(f"layers.{i}.{kind}_weight", *shapes[kind], bits)
    return found


def _parts(spec: ModelSpec, bits: Bits) -> dict[str, _Part]:
    """All tensors, by name, in order."""
    sized: list[tuple[str, torch.dtype, tuple[int, ...]]] = []
    for name, m in _sources(spec, bits).items():
        panels = -(-m.N // PANEL)
        size = {"bf16": m.n * 64, "int8": m.n * 32, "int4": m.n // GROUP * _BLOCK4}[m.bits]
        sized.append((name, torch.uint8, (panels, size)))
        if m.bits == "int8":
            sized.append((f"{name}.scale", torch.float32, (panels * PANEL,)))
    for i in range(spec.layers):
        if spec.qk_norm:
            sized += [(f"layers.{i}.{n}_norm", torch.float32, (spec.head_dim,)) for n in ("q", "k")]
        sized += [(f"layers.{i}.{n}_norm", torch.float32, (spec.width,)) for n in ("attn", "ffn")]
        if spec.qkv_bias:
            sized.append((f"layers.{i}.qkv_bias", torch.float32, (spec.qkv_width,)))
    sized += [("norm", torch.float32, (spec.width,)), ("embed", torch.bfloat16, (spec.vocab, spec.width))]
    found, at = {}, 0
    for name, dtype, shape in sized:
        found[name] = part = _Part(dtype, shape, at)
        at += part.bytes
    return found


class PackedWeights:
    """A model's weights as wide.cpp reads them. Make one by `of`, `read` or `open`."""

    def __init__(self, spec: ModelSpec, bits: Bits, source: str, body: Tensor, embed: Tensor):
        """body: all bytes but those of `embed` [V, D]. `source`: sha256 of the weights they come from, or ""."""
        self.spec, self.bits, self.source, self.embed, self.body = spec, bits, source, embed, body
        self._parts, self._sources, self._moving = _parts(spec, bits), _sources(spec, bits), threading.Lock()
        self.bytes_per_step = body.numel()
        """Bytes that a step reads, however many rows it has."""

    # --- what a kernel reads: it lies in `body`, which `settle` may have changed since they were asked for ---------

    @property
    def head(self) -> Matrix:
        """The output matrix [V, D]."""
        return self._matrix("head")

    @property
    def norm(self) -> Tensor:
        """[D]"""
        return self._tensor("norm")

    def layer(self, i: int) -> tuple[list[Matrix], list[Tensor | None]]:
        """qkv, out, up and down of a layer; its q_norm, k_norm, attn_norm, ffn_norm and qkv_bias, None where there is
        none."""
        vectors = (f"layers.{i}.{n}" for n in ("q_norm", "k_norm", "attn_norm", "ffn_norm", "qkv_bias"))
        matrices = [self._matrix(f"layers.{i}.{kind}") for kind in _MATRICES]
        return matrices, [self._tensor(n) if n in self._parts else None for n in vectors]

    def settle(self) -> None:
        """Moves what is read from a file's mapping to large pages, from which steps are faster by some percent.

        Another thread may do it, on one core, while steps go on: whoever uses `body` holds it until the step is over.
        """
        with self._moving:
            body = _memory(self.body.numel())
            _checksum(self.body, body, threads=1)
            self.body = body

    def _tensor(self, name: str) -> Tensor:
        part = self._parts[name]
        return self.body[part.offset : part.offset + part.bytes].view(part.dtype).view(part.shape)

    def _matrix(self, name: str) -> Matrix:
        m, at, scale = self._sources[name], self.body.data_ptr(), self._parts.get(f"{name}.scale")
        where = at + self._parts[name].offset, None if scale is None else at + scale.offset
        return Matrix(*where, m.n, m.N, _KINDS[m.bits])

    # --- making them --------------------------------------------------------------------------------------------

    @classmethod
    def of(cls, model: Decoder, bits: Bits) -> PackedWeights:
        """Of a model in memory, of any dtype. Raises CheckpointError for weights that are not finite."""
        made = cls._empty(model.spec, bits, "")
        made.take(model)
        return made

    def take(self, model: Decoder) -> None:
        """The weights of another model of the same shape, in place of these. Raises as `of`."""
        by_name = dict(model.named_parameters())

        def get(name: str, target: Tensor | None) -> Tensor:
            value = by_name[name].detach().cpu()
            return value if target is None else target.copy_(value)

        with self._moving:
            self._fill(get)
            self.source = ""

    @classmethod
    def read(cls, checkpoint: Checkpoint, bits: Bits, source: str) -> PackedWeights:
        """Of an official folder, tensor by tensor. Peak memory: these and one layer; raises as `of`."""
        made, shapes = cls._empty(checkpoint.spec, bits, source), checkpoint.shapes
        from dokja.model.families.weights import dtypes_of

        kinds = dtypes_of(checkpoint)

        def get(name: str, target: Tensor | None) -> Tensor:
            return checkpoint.read_into(
                name, torch.empty(shapes[name], dtype=kinds[name]) if target is None else target
            )

        made._fill(get)
        return made

    @classmethod
    def _empty(cls, spec: ModelSpec, bits: Bits, source: str) -> PackedWeights:
        embed = torch.empty(spec.vocab, spec.width, dtype=torch.bfloat16)
        return cls(spec, bits, source, _memory(_parts(spec, bits)["embed"].offset), embed)

    def _fill(self, get: Callable[[str, Tensor | None], Tensor]) -> None:
        """`get` gives a parameter as it is, or in the memory that it is handed."""
        library, threads = _library(), ctypes.c_int64(torch.get_num_threads())
        for name, m in self._sources.items():
            matrix = self._matrix(name)
            w = get(m.parameter, None)
            w = (w if w.dtype == torch.bfloat16 else w.float()).contiguous()
            sizes = [ctypes.c_int64(x) for x in (w.dtype == torch.bfloat16, m.N, m.n, matrix.kind)]
            where = ctypes.c_void_p(matrix.data), ctypes.c_void_p(matrix.scale)
            if library.dokja_pack(ctypes.c_void_p(w.data_ptr()), *sizes, *where, threads):
                raise CheckpointError(f"{m.parameter} holds numbers that are not finite: the weights are damaged.")
        for name in self._parts:
            if name.endswith(("norm", "bias")):
                get(name, self._tensor(name))
        get("embed", self.embed)

    # --- their file ---------------------------------------------------------------------------------------------

    def save(self, path: Path, identity: str = "") -> None:
        """Writes them to `path`, which shows the whole file or none. `identity`: what `open` shall ask for.

        Nothing waits for the disk: whoever opens a file that a power cut tore finds it out.
        """
        sums = [_checksum(self.body), _checksum(self.embed.view(-1).view(torch.uint8))]
        header = _header(self.spec, self.bits, self.source, identity, sums)
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        try:
            with open(partial, "wb") as file:
                file.write(header)
                file.write(self.body.numpy().data)
                file.write(self.embed.view(-1).view(torch.uint8).numpy().data)
            os.replace(partial, path)
        except OSError:
            partial.unlink(missing_ok=True)
            raise

    @classmethod
    def open(cls, path: Path, identity: str = "") -> PackedWeights:
        """The weights in a file of `save`, which stay there until `settle`: header, size and every byte are checked.

        FileNotFoundError where there is no file, CheckpointError with a sentence for one that is damaged, of another
        format or of another identity.
        """
        with open(path, "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) if os.fstat(file.fileno()).st_size else b""
        if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_HUGEPAGE"):
            mapped.madvise(mmap.MADV_HUGEPAGE)
        meta, begin = _read_header(mapped, path)
        if meta["identity"] != identity:
            raise CheckpointError(f"{path} was packed from other weights.")
        spec, bits = ModelSpec.from_dict(json.loads(meta["spec"])), cast(Bits, meta["bits"])
        part = _parts(spec, bits)["embed"]
        if len(mapped) != begin + part.offset + part.bytes:
            raise CheckpointError(f"{path} is truncated.")
        whole = torch.frombuffer(mapped, dtype=torch.uint8)[begin:]
        body, rows = whole[: part.offset], whole[part.offset :]
        if [_checksum(body), _checksum(rows)] != meta["checksums"].split():
            raise CheckpointError(f"{path} is damaged: its bytes are not those that were written.")
        return cls(spec, bits, meta["source"], body, rows.view(torch.bfloat16).view(part.shape))


def _library() -> ctypes.CDLL:
    library = load("pack")
    assert library is not None, "see `obstacle`"
    library.dokja_copy.restype, library.dokja_pack.restype = ctypes.c_uint64, ctypes.c_int64
    return library


def _checksum(x: Tensor, copy: Tensor | None = None, threads: int | None = None) -> str:
    """Of bytes, which are copied on the way; it does not depend on the threads."""
    to = ctypes.c_void_p(None if copy is None else copy.data_ptr())
    sizes = ctypes.c_int64(x.numel()), ctypes.c_int64(threads or torch.get_num_threads())
    return f"{_library().dokja_copy(ctypes.c_void_p(x.data_ptr()), to, *sizes):016x}"


def _memory(size: int) -> Tensor:
    """Bytes on large pages where the system has them: they spare the processor most look-ups of addresses."""
    area = mmap.mmap(-1, size + _LARGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        area.madvise(mmap.MADV_HUGEPAGE)
    whole = torch.frombuffer(area, dtype=torch.uint8)
    begin = -whole.data_ptr() % _LARGE
    return whole[begin : begin + size]


def _header(spec: ModelSpec, bits: Bits, source: str, identity: str, checksums: list[str]) -> bytes:
    """What stands before the tensors; they begin on a page."""
    entries: dict[str, Any] = {
        name: {"dtype": _NAMES[p.dtype], "shape": p.shape, "data_offsets": [p.offset, p.offset + p.bytes]}
        for name, p in _parts(spec, bits).items()
    }
    meta = {
        "format": f"dokja packed {FORMAT}",
        "spec": json.dumps(spec.to_dict()),
        "bits": bits,
        "source": source,
        "identity": identity,
        "checksums": " ".join(checksums),
    }
    text = json.dumps({"__metadata__": meta, **entries}).encode()
    meta["digest"] = hashlib.sha256(text).hexdigest()
    text = json.dumps({"__metadata__": meta, **entries}).encode()
    text += b" " * (-(8 + len(text)) % _PAGE)
    return len(text).to_bytes(8, "little") + text


def _read_header(file: mmap.mmap | bytes, path: Path) -> tuple[Mapping[str, str], int]:
    """The metadata of a file and where its tensors begin. CheckpointError for a header that `_header` did not write."""
    begin = 8 + int.from_bytes(file[:8], "little")
    try:
        meta: dict[str, str] = json.loads(file[8:begin])["__metadata__"]
        if meta["format"] != f"dokja packed {FORMAT}":
            raise CheckpointError(f"{path} is of another format ({meta['format']}).")
        spec = ModelSpec.from_dict(json.loads(meta["spec"]))
        if meta["bits"] in BITS and file[:begin] == _header(
            spec, meta["bits"], meta["source"], meta["identity"], meta["checksums"].split()
        ):
            return meta, begin
    except (ValueError, KeyError, TypeError, ConfigError):
        pass
    raise CheckpointError(f"{path} is damaged: its header is not one that was written.")
