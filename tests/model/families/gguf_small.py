"""GGUF files byte by byte, as the specification has them, and small vocabularies for them."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
from families_small import model
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers

from dokja.model.decoder import Decoder
from dokja.model.families.gguf_config import gguf_places
from dokja.model.families.weights import part
from dokja.model.spec import ModelSpec

WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PATTERNS = {"qwen2": WORDS + r"|\p{N}" + REST, "llama-bpe": WORDS + r"|\p{N}{1,3}" + REST, "gpt-2": None}
CHATML = {"<|endoftext|>": 3, "<|im_start|>": 3, "<|im_end|>": 3, "<tool_call>": 4, "</tool_call>": 4}
TEXTS = [
    "독자(獨自)는 스스로의 것이라는 뜻이다. 12 더하기 345는 357이다.", "I'll add 12 + 345 = 357, DON'T you? We'll see.",
    "👍🏽 좋아요! 👩‍👩‍👧 family\n\n\tend", "  spaces   and\r\nlines \n", "ㄱㄴㄷ ㅏㅑ café 漢字かな ２０２６",
    "def f(x):\n    return x**2  # 제곱\n", "<|im_end|> typed <tool_call>",
]  # fmt: skip
F32, F16, Q8_0 = 0, 1, 8


def gguf_bytes(metadata: Mapping[str, Any], tensors: Mapping[str, tuple[int, tuple[int, ...], bytes]]) -> bytes:
    """A file. `tensors`: ggml's kind, shape with rows first, data."""
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    for key, value in metadata.items():
        out += _string(key) + _value(value)
    offset = 0
    for name, (kind, shape, data) in tensors.items():
        dims = struct.pack(f"<{len(shape)}Q", *reversed(shape))
        out += _string(name) + struct.pack("<I", len(shape)) + dims + struct.pack("<IQ", kind, offset)
        offset += len(data) + -len(data) % 32
    out += bytes(-len(out) % 32)
    return out + b"".join(data + bytes(-len(data) % 32) for _, _, data in tensors.values())


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(value: Any) -> bytes:
    if isinstance(value, list):
        inner = [_value(v) for v in value]
        return struct.pack("<I", 9) + inner[0][:4] + struct.pack("<Q", len(value)) + b"".join(v[4:] for v in inner)
    if isinstance(value, str):
        return struct.pack("<I", 8) + _string(value)
    kind, code = {bool: (7, "?"), int: (4, "I"), float: (6, "f")}[type(value)]
    return struct.pack(f"<I{code}", kind, value)


def about(spec: ModelSpec, arch: str) -> dict[str, Any]:
    """The metadata of a shape."""
    return {
        "general.architecture": arch,
        f"{arch}.block_count": spec.layers,
        f"{arch}.context_length": spec.context,
        f"{arch}.embedding_length": spec.width,
        f"{arch}.feed_forward_length": spec.ffn,
        f"{arch}.attention.head_count": spec.heads,
        f"{arch}.attention.head_count_kv": spec.kv_heads,
        f"{arch}.attention.key_length": spec.head_dim,
        f"{arch}.attention.value_length": spec.head_dim,
        f"{arch}.attention.layer_norm_rms_epsilon": spec.norm_eps,
        f"{arch}.rope.freq_base": spec.rope_theta,
    }


def plain(made: Decoder) -> dict[str, tuple[int, tuple[int, ...], bytes]]:
    """Every tensor of a model in fp32."""
    own = dict(made.named_parameters())
    found = {}
    for place in gguf_places(made.spec):
        values = part(own[place.ours].detach(), place).float().numpy()
        found[place.theirs] = (F32, values.shape, values.astype(np.float32).tobytes())
    return found


def write(path: Path, spec: ModelSpec, arch: str, **changes: Any) -> Decoder:
    """A random model of a shape in a file, its metadata changed (None takes a key out)."""
    made = model(spec)
    metadata = {k: v for k, v in {**about(spec, arch), **changes}.items() if v is not None}
    path.write_bytes(gguf_bytes(metadata, plain(made)))
    return made


def vocabulary(pre: str, size: int = 420, names: Mapping[str, int] = CHATML) -> tuple[str, dict[str, Any]]:
    """(tokenizer.json, the metadata that llama.cpp's converter makes of it) of a small vocabulary that cuts text as
    `pre`, with special tokens behind it."""
    hf = tokenizers.Tokenizer(models.BPE(ignore_merges=pre == "llama-bpe"))
    pattern = PATTERNS[pre]
    split = [pre_tokenizers.Split(Regex(pattern), "isolated")] if pattern else []
    hf.pre_tokenizer = pre_tokenizers.Sequence(
        [*split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not pattern)]
    )
    hf.decoder = decoders.ByteLevel()
    if pre == "qwen2":
        hf.normalizer = normalizers.NFC()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    hf.train_from_iterator(
        TEXTS * 3, trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    )
    for name, kind in names.items():
        token = tokenizers.AddedToken(name, special=kind == 3, normalized=False)
        (hf.add_special_tokens if kind == 3 else hf.add_tokens)([token])
    raw = json.loads(hf.to_str())
    ids = hf.get_vocab(with_added_tokens=True)
    tokens = sorted(ids, key=ids.__getitem__)
    return hf.to_str(), {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": [*tokens, "[PAD0]", "[PAD1]"],
        "tokenizer.ggml.token_type": [*(names.get(token, 1) for token in tokens), 5, 5],
        "tokenizer.ggml.merges": [" ".join(pair) for pair in raw["model"]["merges"]],
        "tokenizer.ggml.eos_token_id": ids.get("<|im_end|>", 0),
        "tokenizer.ggml.add_bos_token": False,
    }


def logits(made: Decoder) -> torch.Tensor:
    """Of a fixed text."""
    with torch.inference_mode():
        return made(torch.arange(3, 30)[None])
