"""ModelSpec: one description for every decoder shape, and the numbers that follow from it (no torch).

The shape is a pattern string over layers: `L` a local layer (attends to the last `window` tokens, itself
included), `G` a global one. 'LLLG' is repeated over the depth and the last layer is always global when the
pattern has a `G`; a string as long as the depth is taken as it stands. Where layers differ in more than that
(K-EXAONE 2.0), `window` is a list with a number for every layer, 0 = global, and the letters follow from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self, TypeVar

import numpy as np

from dokja.errors import ConfigError

S = TypeVar("S")


@dataclass(frozen=True)
class LayerSpec:
    """What one layer does: `window` in tokens (None = sees everything before it), whether RoPE is applied, whether
    its feed-forward is a mixture of experts, and the limit of its SwiGLU (0 = none)."""

    window: int | None
    rope: bool
    experts: bool = False
    clamp: float = 0.0


@dataclass(frozen=True)
class RopeScaling:
    """Llama 3's stretching of RoPE (arXiv 2407.21783): wavelengths beyond `original / low_freq` tokens are divided by
    `factor`, those below `original / high_freq` stay, and between them the two are mixed."""

    factor: float
    low_freq: float = 1.0
    high_freq: float = 4.0
    original: int = 8192


@dataclass(frozen=True)
class MoeSpec:
    """A mixture of experts with a sigmoid router (DeepSeek-V3, arXiv 2412.19437 section 2.1.2; K-EXAONE).

    Every token goes to `active` of `experts` SwiGLU networks of width `ffn` and to `shared` more of that width.
    The first `dense` layers keep the model's ordinary feed-forward. Experts are chosen by score + bias and weighted by
    score alone, brought to sum 1 (`normalize`) and multiplied by `scale`. `groups` > 1 first chooses `group_active`
    groups of experts, by the sum of their two best.
    """

    experts: int
    active: int
    ffn: int
    shared: int = 1
    dense: int = 1
    scale: float = 1.0
    normalize: bool = True
    groups: int = 1
    group_active: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.active <= self.experts:
            raise ConfigError(
                f"moe.active ({self.active}) of moe.experts ({self.experts}) cannot be. Choose 1 to {self.experts}."
            )
        if self.experts % self.groups or not 1 <= self.group_active <= self.groups:
            raise ConfigError(
                f"moe.groups ({self.groups}) must divide moe.experts ({self.experts}), and moe.group_active "
                f"({self.group_active}) be 1 to {self.groups}."
            )
        per_group = self.experts // self.groups
        if self.groups > 1 and (per_group < 2 or self.active > per_group * self.group_active):
            raise ConfigError(
                f"moe: {self.group_active} groups of {per_group} experts cannot give {self.active} experts a token, or "
                "have fewer than the two that rank a group. Lower moe.active or moe.groups."
            )


@dataclass(frozen=True)
class MtpSpec:
    """Multi-token prediction: one more layer, with an ordinary feed-forward, that predicts the token after the next.

    Its attention may differ from the stack's: published configs and engines disagree (None = global).
    """

    window: int | None = None
    rope: bool = True


@dataclass(frozen=True)
class VisionSpec:
    """A vision transformer and the merger that hands its features to the decoder (Qwen2.5-VL's, arXiv 2502.13923
    section 2.1, with grouped-query attention as in EXAONE 4.5). `patch` and `window` in pixels.

    Blocks listed in `full` attend to the whole image, the others to windows. `merge` x `merge` patches make one token
    of the text, at places that hold `image_token`.
    """

    layers: int
    width: int
    heads: int
    kv_heads: int
    ffn: int
    full: tuple[int, ...]
    image_token: int
    video_token: int = -1
    patch: int = 14
    temporal_patch: int = 2
    merge: int = 2
    window: int = 112
    channels: int = 3
    norm_eps: float = 1e-6

    @property
    def head_dim(self) -> int:
        """Features of one head."""
        return self.width // self.heads

    @property
    def patch_values(self) -> int:
        """Numbers in one patch."""
        return self.channels * self.temporal_patch * self.patch**2

    def params(self, text_width: int) -> int:
        """Parameters of the tower and of the merger to `text_width` features."""
        qkv = self.width + 2 * self.kv_heads * self.head_dim
        attention = qkv * (self.width + 1) + self.width * (self.width + 1)
        feed_forward = 2 * self.ffn * (self.width + 1) + self.width * (self.ffn + 1)
        merged = self.width * self.merge**2
        merger = self.width + merged * (merged + 1) + text_width * (merged + 1)
        return self.patch_values * self.width + self.layers * (attention + feed_forward + 2 * self.width) + merger

    def __post_init__(self) -> None:
        if self.width % self.heads or self.heads % self.kv_heads or self.head_dim % 4:
            raise ConfigError(
                f"vision: width {self.width}, heads {self.heads} and kv_heads {self.kv_heads} do not fit: heads divide "
                "the width into multiples of 4, kv_heads divide the heads."
            )
        if self.window % (self.patch * self.merge):
            raise ConfigError(
                f"vision.window ({self.window} pixels) must be a multiple of patch x merge ({self.patch * self.merge})."
            )
        if any(not 0 <= i < self.layers for i in self.full):
            raise ConfigError(f"vision.full {list(self.full)} names blocks outside 0 to {self.layers - 1}.")


@dataclass(frozen=True)
class ModelSpec:
    """Shape of a decoder. Widths in features, `window` and `context` in tokens.

    rope: "local" rotates queries and keys on local layers only (global layers are NoPE on purpose, as in
    EXAONE 4.0, arXiv 2507.11407 section 2.1), "all" rotates everywhere.
    norm: "post" is EXAONE 4.0's QK-Reorder-Norm, h = x + norm(f(x)); "pre" is h = x + f(norm(x)).
    clamp: limit of SwiGLU by layer, 0 = none; empty = none anywhere. gate is cut from above, up from both sides.
    qkv_bias: queries, keys and values have biases (Qwen2, arXiv 2407.10671 section 2.2.1).
    """

    vocab: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    context: int
    pattern: str = "LLLG"
    window: int | tuple[int, ...] | None = None
    activation: Literal["swiglu", "relu2"] = "swiglu"
    norm: Literal["post", "pre"] = "post"
    qk_norm: bool = True
    norm_eps: float = 1e-5
    rope: Literal["local", "all"] = "local"
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    tied: bool = False
    clamp: tuple[float, ...] = ()
    moe: MoeSpec | None = None
    mtp: MtpSpec | None = None
    vision: VisionSpec | None = None
    qkv_bias: bool = False

    def __post_init__(self) -> None:
        if set(self.pattern) - set("LG") or not self.pattern:
            raise ConfigError(f"pattern {self.pattern!r} may hold only L (local) and G (global) layers.")
        for name, listed in (("window", self.window), ("clamp", self.clamp)):
            if isinstance(listed, tuple) and listed and len(listed) != self.layers:
                raise ConfigError(f"{name} lists {len(listed)} numbers for {self.layers} layers. Give one a layer.")
        if "L" in self.layer_pattern and not self.window:
            raise ConfigError(
                f"pattern {self.pattern!r} has local layers (L) but `window` is unset. "
                "Set `window` (EXAONE 4.0 uses 4096, K-EXAONE 128) or write the pattern as 'G'."
            )
        if self.heads % self.kv_heads:
            raise ConfigError(
                f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads}): each key head is shared "
                "by the same number of query heads."
            )
        if self.head_dim % 2:
            raise ConfigError(f"head_dim ({self.head_dim}) must be even: RoPE turns pairs of features.")
        if (self.clamp or self.moe) and self.activation != "swiglu":
            raise ConfigError(f"clamp and moe need activation 'swiglu', not {self.activation!r}.")

    @property
    def layer_pattern(self) -> str:
        """One letter a layer, e.g. 'LLLG' over 6 layers -> 'LLLGLG' (the last is global when the pattern has a G)."""
        if isinstance(self.window, tuple):
            return "".join("L" if window else "G" for window in self.window)
        if len(self.pattern) == self.layers:
            return self.pattern
        tiled = (self.pattern * self.layers)[: self.layers]
        return tiled[:-1] + "G" if "G" in self.pattern else tiled

    @property
    def layer_specs(self) -> tuple[LayerSpec, ...]:
        """LayerSpec of every layer, in order."""
        windows = self.window if isinstance(self.window, tuple) else (self.window,) * self.layers
        return tuple(
            LayerSpec(
                window if kind == "L" else None,
                kind == "L" or self.rope == "all",
                self.moe is not None and i >= self.moe.dense,
                self.clamp[i] if self.clamp else 0.0,
            )
            for i, (kind, window) in enumerate(zip(self.layer_pattern, windows, strict=True))
        )

    # --- counts -----------------------------------------------------------------------------------------------

    @property
    def attn_width(self) -> int:
        """Features of all query heads together; not always `width`."""
        return self.heads * self.head_dim

    @property
    def qkv_width(self) -> int:
        """Features of all queries, keys and values together."""
        return (self.heads + 2 * self.kv_heads) * self.head_dim

    @property
    def gated(self) -> int:
        """Matrices that read the stream in a feed-forward: gate and up, or up alone."""
        return 2 if self.activation == "swiglu" else 1

    def layer_params(self, experts: bool = False, active: bool = False) -> int:
        """Parameters of one layer, norms and biases included; `active`: of the experts, those that one token meets."""
        q_o = 2 * self.width * self.attn_width
        k_v = 2 * self.width * self.kv_heads * self.head_dim
        bias = self.qkv_width if self.qkv_bias else 0
        norms = 2 * self.width + (2 * self.head_dim if self.qk_norm else 0)
        if experts and self.moe:
            m = self.moe
            networks = (m.active if active else m.experts) + m.shared
            ffn = 3 * self.width * m.ffn * networks + m.experts * (self.width + 1)
        else:
            ffn = (self.gated + 1) * self.width * self.ffn
        return q_o + k_v + bias + ffn + norms

    @property
    def mtp_params(self) -> int:
        """Parameters of the multi-token head, which shares embedding and output matrix with the stack."""
        return 2 * self.width**2 + 3 * self.width + self.layer_params() if self.mtp else 0

    @property
    def vision_params(self) -> int:
        """Parameters of vision tower and merger."""
        return self.vision.params(self.width) if self.vision else 0

    @property
    def text_params(self) -> int:
        """Parameters of embedding, stack and head; a tied vocabulary matrix counts once."""
        stack = sum(self.layer_params(layer.experts) for layer in self.layer_specs)
        return stack + self.width + self.vocab * self.width * (1 if self.tied else 2)

    @property
    def params(self) -> int:
        """All parameters, the router's correction biases included."""
        return self.text_params + self.mtp_params + self.vision_params

    @property
    def active_params(self) -> int:
        """Parameters a text token multiplies with: one vocabulary matrix, of the experts the chosen and the shared."""
        stack = sum(self.layer_params(layer.experts, active=True) for layer in self.layer_specs)
        return stack + self.width + self.vocab * self.width

    def trained_params(self, mtp: bool) -> int:
        """Parameters a token multiplies with in training; with `mtp` it passes the multi-token head, and the output
        matrix a second time."""
        return self.active_params + (self.mtp_params + self.vocab * self.width if mtp else 0)

    def attention_flops(self, lengths: Sequence[int] | np.ndarray, mtp: bool = False) -> float:
        """Training FLOPs of scores and mixing for documents of these lengths (tokens): 12 per pair and feature.

        A pair is a query and a key it sees: 2 · K for its score, 2 · K for mixing, and three times that with backward.
        `mtp` counts the layer of the multi-token head as well.
        """
        n = np.asarray(lengths, dtype=np.float64)
        pairs = 0.0
        windows = [layer.window for layer in self.layer_specs]
        if mtp and self.mtp:
            windows.append(self.mtp.window)
        for window in windows:
            w = np.minimum(window or n, n)  # token i of a document sees min(i + 1, w) keys
            pairs += float((w * (w + 1) / 2 + (n - w) * w).sum())
        return 12 * self.attn_width * pairs

    def kv_bytes(self, length: int, bytes_per_value: int = 2) -> int:
        """Bytes of keys and values for one sequence of `length` tokens; local layers keep their window only."""
        row = 2 * self.kv_heads * self.head_dim * bytes_per_value
        return sum(row * min(layer.window or length, length) for layer in self.layer_specs)

    # --- to and from plain data -------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as it is stored in checkpoints. `qkv_bias` stands there only where it is set: what was hashed
        before there was such a thing keeps its hash."""
        data = asdict(self)
        if not self.qkv_bias:
            del data["qkv_bias"]
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The spec behind `to_dict` (lists may stand for tuples); an unknown key is refused."""
        parts = {"rope_scaling": RopeScaling, "moe": MoeSpec, "mtp": MtpSpec, "vision": VisionSpec}
        given = {k: _known(parts[k], v) if k in parts and isinstance(v, Mapping) else v for k, v in data.items()}
        return _known(cls, given)


def _known(cls: type[S], data: Mapping[str, Any]) -> S:
    known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
    if unknown := sorted(set(data) - known):
        raise ConfigError(
            f"the model description has unknown keys {unknown}; this version of dokja knows {sorted(known)}."
        )
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in data.items()})
