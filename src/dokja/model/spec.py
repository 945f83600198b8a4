"""ModelSpec: one description for every decoder shape, and the numbers that follow from it (no torch).

The shape is a pattern string over layers: `L` a local layer (attends to the last `window` tokens, itself
included), `G` a global one. 'LLLG' is repeated over the depth and the last layer is always global when the
pattern has a `G`; a string as long as the depth is taken as it stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np

from dokja.errors import ConfigError


@dataclass(frozen=True)
class LayerSpec:
    """What one layer does: `window` in tokens (None = sees everything before it) and whether RoPE is applied."""

    window: int | None
    rope: bool


@dataclass(frozen=True)
class ModelSpec:
    """Shape of a decoder. Widths in features, `window` and `context` in tokens.

    rope: "local" rotates queries and keys on local layers only (global layers are NoPE on purpose, as in
    EXAONE 4.0, arXiv 2507.11407 section 2.1), "all" rotates everywhere.
    norm: "post" is EXAONE 4.0's QK-Reorder-Norm, h = x + norm(f(x)); "pre" is h = x + f(norm(x)).
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
    window: int | None = None
    activation: Literal["swiglu", "relu2"] = "swiglu"
    norm: Literal["post", "pre"] = "post"
    qk_norm: bool = True
    norm_eps: float = 1e-5
    rope: Literal["local", "all"] = "local"
    rope_theta: float = 10000.0
    tied: bool = False

    def __post_init__(self) -> None:
        if set(self.pattern) - set("LG") or not self.pattern:
            raise ConfigError(f"pattern {self.pattern!r} may hold only L (local) and G (global) layers.")
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

    @property
    def layer_pattern(self) -> str:
        """One letter a layer, e.g. 'LLLG' over 6 layers -> 'LLLGLG' (the last is global when the pattern has a G)."""
        if len(self.pattern) == self.layers:
            return self.pattern
        tiled = (self.pattern * self.layers)[: self.layers]
        return tiled[:-1] + "G" if "G" in self.pattern else tiled

    @property
    def layer_specs(self) -> tuple[LayerSpec, ...]:
        """LayerSpec of every layer, in order."""
        return tuple(
            LayerSpec(self.window if kind == "L" else None, kind == "L" or self.rope == "all")
            for kind in self.layer_pattern
        )

    # --- counts -----------------------------------------------------------------------------------------------

    @property
    def attn_width(self) -> int:
        """Features of all query heads together; not always `width`."""
        return self.heads * self.head_dim

    @property
    def layer_params(self) -> int:
        """Parameters of one layer, norms included."""
        q_o = 2 * self.width * self.attn_width
        k_v = 2 * self.width * self.kv_heads * self.head_dim
        ffn = (3 if self.activation == "swiglu" else 2) * self.width * self.ffn
        norms = 2 * self.width + (2 * self.head_dim if self.qk_norm else 0)
        return q_o + k_v + ffn + norms

    @property
    def params(self) -> int:
        """All parameters; a tied vocabulary matrix counts once."""
        return self.layers * self.layer_params + self.width + self.vocab * self.width * (1 if self.tied else 2)

    @property
    def active_params(self) -> int:
        """Parameters a token multiplies with: everything but the embedding look-up (one vocabulary matrix stays)."""
        return self.layers * self.layer_params + self.width + self.vocab * self.width

    def attention_flops(self, lengths: Sequence[int] | np.ndarray) -> float:
        """Training FLOPs of scores and mixing for documents of these lengths (tokens): 12 per pair and feature.

        A pair is a query and a key it sees: 2 · K for its score, 2 · K for mixing, and three times that with backward.
        """
        n = np.asarray(lengths, dtype=np.float64)
        pairs = 0.0
        for layer in self.layer_specs:
            w = np.minimum(layer.window or n, n)  # token i of a document sees min(i + 1, w) keys
            pairs += float((w * (w + 1) / 2 + (n - w) * w).sum())
        return 12 * self.attn_width * pairs

    def kv_bytes(self, length: int, bytes_per_value: int = 2) -> int:
        """Bytes of keys and values for one sequence of `length` tokens; local layers keep their window only."""
        row = 2 * self.kv_heads * self.head_dim * bytes_per_value
        return sum(row * min(layer.window or length, length) for layer in self.layer_specs)

    # --- to and from plain data -------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as it is stored in checkpoints."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ModelSpec:
        """The spec behind `to_dict`; an unknown key is refused."""
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(data) - known):
            raise ConfigError(
                f"the model description has unknown keys {unknown}; this version of dokja knows {sorted(known)}."
            )
        return cls(**data)
