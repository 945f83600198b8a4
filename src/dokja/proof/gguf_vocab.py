"""A tokenizer.json as GGUF's metadata: tokens, their kinds, merges, special ids, chat template, pre-tokenizer.

llama.cpp does not read the pattern that cuts text into words; it knows patterns by name, and with a wrong name it takes
a wrong pattern without a word. `NAMES` are the patterns whose ids were shown to be equal (bench/gguf_parity.py). It
does not bring text into NFC either: text that comes in pieces of letters is cut otherwise there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dokja.errors import ConfigError, DataError
from dokja.text.chat import BOS, CALL, CALL_END, THINK, THINK_END
from dokja.text.tokenizer import PATTERN, PRE_TOKENIZER

GPT2 = "gpt-2"
"""GPT-2's own pattern, which the library's ByteLevel step has built in."""
NAMES = {PATTERN: PRE_TOKENIZER, "": GPT2}
"""Pattern of a Split step before ByteLevel -> its name there; empty where ByteLevel cuts by itself."""
SHOWN = (THINK, THINK_END, CALL, CALL_END)
"""Markers that stand in an answer: llama.cpp prints USER_DEFINED tokens, and swallows CONTROL ones."""
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
"""gguf.TokenType"""


@dataclass(frozen=True)
class Vocabulary:
    """What the file says of text."""

    tokens: tuple[str, ...]
    types: tuple[int, ...]
    merges: tuple[str, ...]
    pre: str
    special: dict[str, int]
    """ids of bos, eos and pad"""
    add_bos: bool
    template: str | None

    def write(self, writer: Any) -> None:
        """Adds it to a GGUFWriter."""
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(list(self.tokens))
        writer.add_token_types(list(self.types))
        writer.add_token_merges(list(self.merges))
        for name, add in (
            ("bos", writer.add_bos_token_id), ("eos", writer.add_eos_token_id), ("pad", writer.add_pad_token_id)
        ):  # fmt: skip
            if name in self.special:
                add(self.special[name])
        writer.add_add_bos_token(self.add_bos)
        if self.template:
            writer.add_chat_template(self.template)


def read_vocabulary(folder: Path, size: int) -> Vocabulary:
    """The vocabulary of a release folder, filled up to the model's `size`.

    ConfigError for a tokenizer that llama.cpp would read otherwise, DataError for files that are missing or damaged.
    """
    raw = _json(folder / "tokenizer.json")
    config = _json(folder / "tokenizer_config.json", {})
    model, added = raw.get("model") or {}, raw.get("added_tokens") or []
    if model.get("type", "BPE") != "BPE" or model.get("byte_fallback") or model.get("ignore_merges"):
        raise ConfigError(
            f"{folder}/tokenizer.json is not plain byte-level BPE, and llama.cpp would cut text otherwise. Serve the "
            "release folder itself, or train a tokenizer with dokja."
        )
    tokens, types = [f"[PAD{i}]" for i in range(size)], [UNUSED] * size
    for text, i in model.get("vocab", {}).items():
        tokens[i], types[i] = text, NORMAL
    for token in added:
        shown = token["content"] in SHOWN or not token["special"]
        tokens[token["id"]], types[token["id"]] = token["content"], USER_DEFINED if shown else CONTROL
    ours = any(token["content"] == BOS for token in added)
    return Vocabulary(
        tuple(tokens),
        tuple(types),
        tuple(m if isinstance(m, str) else " ".join(m) for m in model.get("merges", ())),
        _pre_tokenizer(raw.get("pre_tokenizer"), folder),
        _special(_json(folder / "config.json", {})),
        bool(config.get("add_bos_token", ours)),
        _template(folder, config),
    )


def _pre_tokenizer(step: dict[str, Any] | None, folder: Path) -> str:
    """The name that llama.cpp knows a pre-tokenizer by."""
    steps = (step or {}).get("pretokenizers", [step]) if step else []
    pattern = None
    if steps and steps[-1].get("type") == "ByteLevel" and not steps[-1].get("add_prefix_space"):
        before = [s.get("pattern", {}).get("Regex") if s.get("behavior") == "Isolated" else None for s in steps[:-1]]
        if not steps[-1].get("use_regex", True):
            pattern = before[0] if len(before) == 1 else None
        elif not before:
            pattern = ""
    if pattern not in NAMES:
        raise ConfigError(
            f"{folder}/tokenizer.json cuts text into words by a pattern whose name in llama.cpp dokja does not know; "
            "with another name it would read text otherwise without a word. Serve the release folder itself, which "
            "transformers and vLLM read as it is, or train a tokenizer with dokja."
        )
    return NAMES[pattern]


def _special(config: dict[str, Any]) -> dict[str, int]:
    """Ids of bos, eos and pad; of several that end an answer the first."""
    found = {name: config.get(f"{name}_token_id") for name in ("bos", "eos", "pad")}
    firsts = {name: i[0] if isinstance(i, list) and i else i for name, i in found.items()}
    return {name: i for name, i in firsts.items() if isinstance(i, int)}


def _template(folder: Path, config: dict[str, Any]) -> str | None:
    beside = folder / "chat_template.jinja"
    if beside.is_file():
        return beside.read_text(encoding="utf-8")
    found = config.get("chat_template")
    return found if isinstance(found, str) else None


def _json(path: Path, default: dict[str, Any] | None = None) -> dict[str, Any]:
    if default is not None and not path.is_file():
        return default
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}). Name a whole release folder.") from None
    return found
