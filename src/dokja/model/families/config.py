"""Reading config.json: every key is either read, known to change nothing, or refused.

Official configs of one family differ by age; the functions here know the spellings. Lists over layers are read before
scalars, since K-EXAONE 2.0 has no scalar window and a reader that looks at scalars alone is silently wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dokja.errors import CheckpointError
from dokja.model.spec import MtpSpec, RopeScaling

# Keys that do not change what is computed: names, token ids, dropout, training aids, how outputs are handed over.
INERT = {
    "_attn_implementation", "_attn_implementation_autoset", "_name_or_path", "architectures", "attention_dropout",
    "auto_map", "aux_loss_alpha", "bos_token_id", "chunk_size_feed_forward", "dtype", "embed_dropout", "eos_token_id",
    "id2label", "initializer_range", "is_encoder_decoder", "label2id", "model_type", "mtp_loss_scaling_factor",
    "mtp_num_speculative_steps", "mtp_share_layers", "output_attentions", "output_hidden_states",
    "output_router_logits", "pad_token_id", "pretraining_tp", "problem_type", "resid_dropout", "return_dict",
    "router_aux_loss_coef", "seq_aux", "tokenizer_class", "torch_dtype", "transformers_version", "use_cache",
    "vision_end_token_id", "vision_start_token_id", "vision_token_id",
}  # fmt: skip

_LETTERS = {"sliding_attention": "L", "full_attention": "G"}
_TYPES = {letter: name for name, letter in _LETTERS.items()}


class Config:
    """A config.json, or a dictionary inside it, that remembers which of its keys were read."""

    def __init__(self, data: Mapping[str, Any], where: str = "config.json"):
        self.data, self.where = data, where
        self._read = set(INERT)

    def get(self, *names: str, default: Any = None) -> Any:
        """The first of the keys that is there and not null."""
        self._read.update(names)
        return next((self.data[n] for n in names if self.data.get(n) is not None), default)

    def need(self, *names: str) -> Any:
        """As `get`, but the key must be there."""
        if (value := self.get(*names)) is None:
            raise CheckpointError(f"{self.where} lacks {names[0]!r}: it does not describe the model. Copy it again.")
        return value

    def whole(self, *names: str, default: int | None = None) -> int:
        """As `need`, or `default`; a whole number above zero."""
        value = self.need(*names) if default is None else self.get(*names, default=default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise CheckpointError(f"{self.where}: {names[0]} is {value!r}; it must be a whole number above zero.")
        return value

    def expect(self, name: str, *values: Any) -> None:
        """Refuses any value of a key but these; the key may be missing."""
        if (value := self.get(name)) is not None and value not in values:
            raise CheckpointError(f"{self.where}: {name} is {value!r}; dokja computes {values[0]!r} only.")

    def part(self, name: str) -> Config:
        """The dictionary at a key."""
        value = self.need(name)
        if not isinstance(value, Mapping):
            raise CheckpointError(f"{self.where}: {name} is {value!r}; it must be a table of keys.")
        return Config(value, f"{self.where}, {name}")

    def listed(self, name: str, layers: int) -> list[Any] | None:
        """A list with an entry for every layer, or None where the key is missing."""
        if (value := self.get(name)) is None:
            return None
        if not isinstance(value, list) or len(value) != layers:
            raise CheckpointError(f"{self.where}: {name} does not describe {layers} layers: {value!r}.")
        return value

    def refuse_unread(self) -> None:
        """CheckpointError when a key was neither read nor is known to change nothing."""
        if unknown := sorted(set(self.data) - self._read):
            raise CheckpointError(
                f"{self.where} has keys that dokja does not know for this layout: {unknown}. "
                "It will not guess what they change."
            )


def shape(c: Config) -> dict[str, Any]:
    """The keys of ModelSpec that every layout names alike (but for their age)."""
    heads = c.whole("num_attention_heads")
    width = c.whole("hidden_size")
    c.expect("hidden_act", "silu")
    for bias in ("attention_bias", "mlp_bias"):
        c.expect(bias, False)
    return {
        "vocab": c.whole("vocab_size"),
        "width": width,
        "heads": heads,
        "kv_heads": c.whole("num_key_value_heads", default=heads),
        "head_dim": c.whole("head_dim", default=width // heads),  # 4.5 leaves it out; 128 at K-EXAONE, not 96
        "ffn": c.whole("intermediate_size"),
        "context": c.whole("max_position_embeddings"),
        "norm_eps": float(c.get("rms_norm_eps", "layer_norm_epsilon", default=1e-5)),
        "tied": bool(c.get("tie_word_embeddings", default=False)),
        **rope(c),
    }


def rope(c: Config) -> dict[str, Any]:
    """rope_theta and rope_scaling: θ at the top (transformers 4) or nested (5), the stretching under either name."""
    theta = c.get("rope_theta")
    parts = [c.part(n) for n in ("rope_parameters", "rope_scaling") if c.get(n) is not None]
    if not parts:
        return {"rope_theta": float(theta or 10000.0)}
    r = parts[0]
    theta = r.get("rope_theta", default=theta) or 10000.0
    kind = r.get("rope_type", "type", default="default")
    r.expect("partial_rotary_factor", 1.0)
    scaling = None
    if kind == "llama3":
        scaling = RopeScaling(
            factor=float(r.need("factor")),
            low_freq=float(r.get("low_freq_factor", default=1.0)),
            high_freq=float(r.get("high_freq_factor", default=4.0)),
            original=int(r.get("original_max_position_embeddings", default=8192)),
        )
    elif kind != "default":
        raise CheckpointError(f"{r.where} asks for {kind!r} RoPE scaling; dokja computes 'llama3' and 'default'.")
    r.refuse_unread()
    return {"rope_theta": float(theta), "rope_scaling": scaling}


def write_rope(theta: float, scaling: RopeScaling | None) -> dict[str, Any]:
    """The keys that `rope` reads, in the old place (vLLM, llama.cpp) and in the new one (transformers 5)."""
    if scaling is None:
        kind: dict[str, Any] = {"rope_type": "default"}
        return {"rope_theta": theta, "rope_parameters": {**kind, "rope_theta": theta}}
    kind = {
        "rope_type": "llama3",
        "factor": scaling.factor,
        "low_freq_factor": scaling.low_freq,
        "high_freq_factor": scaling.high_freq,
        "original_max_position_embeddings": scaling.original,
    }
    return {"rope_theta": theta, "rope_scaling": kind, "rope_parameters": {**kind, "rope_theta": theta}}


def attention(c: Config, layers: int, lists: bool = False) -> dict[str, Any]:
    """pattern, window and rope of a stack with local and global layers.

    `sliding_windows` (a number a layer, 0 = global) is read before `layer_types`, that before
    `sliding_window_pattern`; where `lists` is False the layout has no `sliding_windows`, and one is refused as an
    unknown key. RoPE turns local layers only, or every layer of a model whose `sliding_window` is null.
    """
    windows = c.listed("sliding_windows", layers) if lists else None
    types = c.listed("layer_types", layers)
    scalar = c.get("sliding_window")
    pattern = c.get("sliding_window_pattern")
    if types is not None and set(types) - set(_LETTERS):
        raise CheckpointError(f"{c.where}: layer_types {types} hold kinds other than {sorted(_LETTERS)}.")
    letters = "".join(_LETTERS[t] for t in types) if types is not None else None
    if windows is not None:
        windows = [int(w or 0) for w in windows]
        listed = "".join("L" if w else "G" for w in windows)
        if letters is not None and letters != listed:
            raise CheckpointError(
                f"{c.where}: sliding_windows {windows} and layer_types {types} contradict each other."
            )
        letters = listed
        if len(distinct := set(windows) - {0}) > 1:
            return {"window": tuple(windows), "rope": "local"}
        scalar = distinct.pop() if distinct else scalar
    if letters is None:
        letters = _from_pattern(c, pattern, scalar, layers)
    if "L" in letters and not scalar:
        raise CheckpointError(f"{c.where} has local layers but no sliding_window: how far they see is not said.")
    return {
        "pattern": shortest_pattern(letters),
        "window": scalar if "L" in letters else None,
        "rope": "all" if scalar is None else "local",
    }


def _from_pattern(c: Config, pattern: Any, window: int | None, layers: int) -> str:
    """Letters of configs from before `layer_types`: "LLLG" (the last layer is global), or every n-th global."""
    if window is None:
        return "G" * layers
    if isinstance(pattern, str) and pattern and not set(pattern) - set("LG"):
        return (pattern * layers)[: layers - 1] + "G"
    if isinstance(pattern, int) and pattern > 0:
        return "".join("G" if (i + 1) % pattern == 0 else "L" for i in range(layers))
    raise CheckpointError(
        f"{c.where} has sliding_window {window} but neither layer_types nor a sliding_window_pattern that says which "
        f"layers it holds for ({pattern!r})."
    )


def shortest_pattern(letters: str) -> str:
    """The shortest pattern that ModelSpec spreads to these letters: 'LLLGLLLG' -> 'LLLG'."""
    for n in range(1, len(letters)):
        tiled = (letters[:n] * len(letters))[: len(letters)]
        if (tiled[:-1] + "G" if "G" in letters[:n] else tiled) == letters:
            return letters[:n]
    return letters


def layer_types(letters: str) -> list[str]:
    """'LG' -> ['sliding_attention', 'full_attention']."""
    return [_TYPES[letter] for letter in letters]


def mtp(c: Config, default: int | None, found: bool | None) -> MtpSpec | None:
    """The multi-token head: where the file has one (`found`), or by the config's word when no file is at hand (None).

    Its attention is what `mtp_layer_types` and `mtp_sliding_windows` say. Configs that do not say it get the window
    `default`, vLLM's choice. RoPE is always on: vLLM's comment says the layer is trained with it. Early configs lack
    `num_nextn_predict_layers`.
    """
    kinds, windows = c.get("mtp_layer_types"), c.get("mtp_sliding_windows")
    count = c.get("num_nextn_predict_layers", default=len(kinds or ()))
    if count > 1 or any(listed is not None and len(listed) != count for listed in (kinds, windows)):
        raise CheckpointError(
            f"{c.where}: {count} multi-token layers with mtp_layer_types {kinds} and mtp_sliding_windows {windows}; "
            "dokja knows one such layer."
        )
    if not (found if found is not None else count):
        return None
    if not kinds:
        return MtpSpec((windows[0] or None) if windows else default)
    if kinds[0] == "full_attention":
        return MtpSpec(None)
    if kinds[0] != "sliding_attention" or not (window := windows[0] if windows else default or _smallest(c)):
        raise CheckpointError(f"{c.where}: mtp_layer_types {kinds} with mtp_sliding_windows {windows} has no window.")
    return MtpSpec(int(window))


def _smallest(c: Config) -> int | None:
    """The window of most local layers where they differ (2.0: 128 everywhere but in layer 1), or the scalar."""
    return min((int(w) for w in c.get("sliding_windows", default=[]) if w), default=c.get("sliding_window"))
