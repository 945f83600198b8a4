"""Logits beside transformers: small random checkpoints of every layout, in every way of reading them.

    python bench/parity.py                    the table, in about a minute on one core

A checkpoint is made by transformers' own classes and saved by them; we load the folder. `exaone` has no class there, so
its checkpoint is `llama`'s, converted by the map of tensor names. K-EXAONE 2.0's per-layer windows and clamps have none
either: `exaone_moe 2.0` says equal windows and no clamp in 2.0's keys (tests/model/families holds a reference for the
rest). `exaone4_5 text` has a vision tower with random weights too; `checkpoint` hands both models to whoever compares
images.

| situation | ours                                       | theirs                                  |
|-----------|--------------------------------------------|-----------------------------------------|
| short     | whole rows, shorter than the window        | the same                                |
| long      | whole rows, five windows long              | the same                                |
| chunked   | engine, prompts in chunks of 3 of window 8 | whole rows                              |
| padded    | rows of three lengths, padded on the right | padded on the left, with attention mask |
| decode    | engine: a prompt, then token by token      | DynamicCache, token by token            |

The engine goes through its C++ step where it serves the shape (rows with head_dim 16 or 80 and no experts), else
through torch. Weights are scaled so that logits have order 1 to 10 (the table prints the largest); all is fp32.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dokja.engine.forward import Forward
from dokja.model.decoder import Decoder
from dokja.model.families import convert, load_model

WINDOW, VOCAB, CHUNK = 8, 96, 3
LIMIT = 1e-5
_BASE = dict(
    vocab_size=VOCAB, hidden_size=48, intermediate_size=80, num_hidden_layers=4, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=256, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2,
    pad_token_id=0, attn_implementation="eager",
)  # fmt: skip
_HYBRID = dict(sliding_window=WINDOW, sliding_window_pattern="LLLG")
_HYBRID["layer_types"] = ["sliding_attention"] * 3 + ["full_attention"]
_ALL_ROPE = dict(sliding_window=None, sliding_window_pattern=None, layer_types=["full_attention"] * 4)
_EXPERTS = dict(num_experts=8, num_experts_per_tok=3, moe_intermediate_size=32, routed_scaling_factor=2.5)
_VISION = dict(
    depth=2, hidden_size=32, intermediate_size=48, num_heads=4, num_key_value_heads=2, out_hidden_size=48,
    fullatt_block_indexes=[1],
)  # fmt: skip


def _rope(theta: float = 10000.0, factor: float | None = None, original: int = 32) -> dict[str, Any]:
    if factor is None:
        return {"rope_type": "default", "rope_theta": theta}
    return {
        "rope_type": "llama3", "rope_theta": theta, "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": original,
    }  # fmt: skip


def _llama(**changes: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**{**_BASE, "rope_parameters": _rope(1e4, 8.0), **changes}))


def _qwen2(**changes: Any) -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    return Qwen2ForCausalLM(Qwen2Config(**{**_BASE, "rope_parameters": _rope(1e6), **changes}))


def _exaone4(**changes: Any) -> Any:
    from transformers import Exaone4Config, Exaone4ForCausalLM

    return Exaone4ForCausalLM(Exaone4Config(**{**_BASE, "rope_parameters": _rope(1e4, 16.0), **changes}))


def _exaone4_5(**changes: Any) -> Any:
    from transformers import Exaone4_5_Config, Exaone4_5_ForConditionalGeneration

    text = {**_BASE, **_HYBRID, "model_type": "exaone4", "rope_parameters": _rope(1e4, 16.0), **changes}
    whole = Exaone4_5_Config(
        text_config=text, vision_config=_VISION, image_token_id=67, video_token_id=68, attn_implementation="eager"
    )
    return Exaone4_5_ForConditionalGeneration(whole)


def _exaone_moe(**changes: Any) -> Any:
    from transformers import ExaoneMoeConfig, ExaoneMoeForCausalLM

    given = {**_BASE, **_HYBRID, **_EXPERTS, "head_dim": 16, "rope_parameters": _rope(1e4), **changes}
    return ExaoneMoeForCausalLM(ExaoneMoeConfig(**given))


CASES: dict[str, Callable[[], Any]] = {
    "exaone4 hybrid": lambda: _exaone4(**_HYBRID),
    "exaone4 hybrid, C++ step": lambda: _exaone4(**_HYBRID, head_dim=16),
    "exaone4 all RoPE, tied": lambda: _exaone4(**_ALL_ROPE, tie_word_embeddings=True),
    "exaone4_5 text": _exaone4_5,
    "exaone_moe": _exaone_moe,
    "exaone_moe, groups": lambda: _exaone_moe(n_group=4, topk_group=2),
    "exaone_moe, no shared": lambda: _exaone_moe(num_shared_experts=0),
    "exaone_moe, two dense": lambda: _exaone_moe(mlp_layer_types=["dense"] * 2 + ["sparse"] * 2),
    "exaone_moe 2.0": _exaone_moe,
    "llama, llama3 bands": lambda: _llama(head_dim=12),
    "llama, head_dim 80, tied": lambda: _llama(head_dim=80, tie_word_embeddings=True),
    "qwen2": _qwen2,
    "qwen2, head_dim 16, tied": lambda: _qwen2(hidden_size=64, tie_word_embeddings=True),
    "exaone 3.0": lambda: _llama(rope_parameters=_rope(5e5)),
    "exaone 3.5, head_dim 80, tied": lambda: _llama(head_dim=80, tie_word_embeddings=True),
}


def scaled(model: Any, seed: int = 0) -> Any:
    """Random weights that make every part count: matrices keep the size of what they multiply, gains lie about 1, the
    router's correction moves choices."""
    gen = torch.Generator().manual_seed(seed)
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    with torch.no_grad():
        for name, p in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith("inv_freq"):
                continue
            if "e_score_correction_bias" in name:
                p.normal_(0.0, 0.5, generator=gen)  # large enough for score + correction below zero
            elif p.ndim == 1:
                p.uniform_(0.5, 1.5, generator=gen)
            elif "embed_tokens" in name:
                p.normal_(0.0, p.shape[1] ** -0.5 if tied else 1.0, generator=gen)
            elif p.numel():
                p.normal_(0.0, p[0].numel() ** -0.5 if p.ndim != 3 else p.shape[-1] ** -0.5, generator=gen)
    return model.eval()


def checkpoint(case: str, folder: Path) -> Any:
    """Writes the checkpoint of a case into `folder`; returns transformers' model of the same weights."""
    theirs = scaled(CASES[case]())
    if case.startswith("exaone 3"):
        theirs.save_pretrained(folder / "llama")
        convert(folder / "llama", folder, family="exaone")
        return theirs
    theirs.save_pretrained(folder)
    if case == "exaone_moe 2.0":
        path = folder / "config.json"
        config = json.loads(path.read_text())
        for key in ("sliding_window", "sliding_window_pattern", "first_k_dense_replace"):
            del config[key]
        config |= {"sliding_windows": [8, 8, 8, 0], "swiglu_limits": [0.0] * 4, "topk_method": "noaux_tc"}
        path.write_text(json.dumps(config))
    return theirs


def tokens(rows: int, length: int) -> Tensor:
    """Random ids, none of a special meaning to any layout."""
    return torch.randint(3, 60, (rows, length), generator=torch.Generator().manual_seed(rows * 1000 + length))


def their_logits(model: Any, ids: Tensor, **more: Any) -> Tensor:
    """[B, L, V]."""
    return model(input_ids=ids, use_cache=False, **more).logits


def whole_rows(ours: Decoder, theirs: Any, length: int) -> float:
    """Largest difference over two rows."""
    ids = tokens(2, length)
    return _apart(ours(ids), their_logits(theirs, ids))


def chunked(ours: Decoder, theirs: Any) -> float:
    """Prompts about the window's length and far beyond it, read together in chunks that do not divide the window."""
    prompts = [tokens(1, n)[0] for n in (5 * WINDOW + 1, 2 * WINDOW, WINDOW + 1, WINDOW, WINDOW - 1, 2)]
    engine = Forward(ours, len(prompts), torch.float32, "cpu", CHUNK)
    mine = engine.prefill(0, [p.tolist() for p in prompts])
    return max(_apart(mine[i], their_logits(theirs, p[None])[0, -1]) for i, p in enumerate(prompts))


def padded(ours: Decoder, theirs: Any) -> float:
    """Rows of three lengths: what stands in the padding changes nothing."""
    lengths, longest = (3 * WINDOW, 11, 3), 3 * WINDOW
    ids = tokens(len(lengths), longest)
    right = torch.stack([torch.arange(longest) < n for n in lengths])
    mine = ours(ids, right.int())
    left = torch.stack([torch.cat((row[n:], row[:n])) for row, n in zip(ids, lengths, strict=True)])
    mask = right.flip(1).long()
    reference = their_logits(theirs, left, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0))
    return max(_apart(mine[i, :n], reference[i, longest - n :]) for i, n in enumerate(lengths))


def decoded(ours: Decoder, theirs: Any) -> float:
    """A prompt longer than the window, then as much again token by token, beside a cache of theirs."""
    from transformers import DynamicCache

    ids, prompt = tokens(2, 4 * WINDOW), WINDOW + 3
    engine = Forward(ours, 2, torch.float32, "cpu", CHUNK)
    cache = DynamicCache(config=theirs.config.get_text_config())
    mine = engine.prefill(0, [row[:prompt].tolist() for row in ids], room=ids.shape[1] - prompt)
    reference = theirs(input_ids=ids[:, :prompt], past_key_values=cache, use_cache=True).logits[:, -1]
    worst = _apart(mine, reference)
    for at in range(prompt, ids.shape[1]):
        mine = engine.decode(ids[:, at], torch.tensor([at, at]), at + 1)
        reference = theirs(input_ids=ids[:, at : at + 1], past_key_values=cache, use_cache=True).logits[:, -1]
        worst = max(worst, _apart(mine, reference))
    return worst


SITUATIONS: dict[str, Callable[[Decoder, Any], float]] = {
    "short": lambda ours, theirs: whole_rows(ours, theirs, WINDOW - 2),
    "long": lambda ours, theirs: whole_rows(ours, theirs, 5 * WINDOW + 3),
    "chunked": chunked,
    "padded": padded,
    "decode": decoded,
}


def _apart(a: Tensor, b: Tensor) -> float:
    return (a - b).abs().max().item()


def differences(case: str, folder: Path) -> tuple[dict[str, float], float]:
    """Largest difference of logits by situation, and the largest logit, of one case whose files go to `folder`."""
    theirs = checkpoint(case, folder)
    ours = load_model(folder).requires_grad_(False)
    with torch.inference_mode():
        size = ours(tokens(2, 5 * WINDOW + 3)).abs().max().item()
        return {name: compare(ours, theirs) for name, compare in SITUATIONS.items()}, size


def main() -> None:
    """Prints the table."""
    from transformers.utils import logging

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--case", choices=CASES, help="one row only")
    chosen = parser.parse_args().case
    logging.disable_progress_bar()
    print("| layout | largest logit | " + " | ".join(SITUATIONS) + " |")
    print("|" + "---|" * (len(SITUATIONS) + 2))
    for case in [chosen] if chosen else CASES:
        with tempfile.TemporaryDirectory() as folder:
            apart, size = differences(case, Path(folder))
        print(f"| {case} | {size:.1f} | " + " | ".join(f"{value:.1e}" for value in apart.values()) + " |", flush=True)


if __name__ == "__main__":
    main()
