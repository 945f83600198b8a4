"""What a GGUF file says of text: its vocabulary as the text of a tokenizer.json, and its chat template (no torch).

The file names the pattern that cuts text into words, and leaves out the normal form; both are the makers' own here.

| tokenizer.ggml.pre | pattern                                   | normal form | whose                              |
|--------------------|-------------------------------------------|-------------|------------------------------------|
| qwen2              | words, single digits, line ends           | NFC         | Qwen2, Qwen2.5; our own            |
| llama-bpe          | the same, up to three digits; whole words | none        | Llama 3                            |
| gpt-2              | GPT-2's                                   | none        | GPT-2                              |
| exaone             | single digits, then GPT-2's               | NFKC        | EXAONE 3.0, 3.5, Deep              |
| exaone4            | GPT-2's                                   | NFKC        | EXAONE 4.0                         |

llama.cpp knows no normal forms; text that is in its normal form already gets the same ids there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dokja.errors import DataError
from dokja.model.families.gguf_file import GgufFile, is_gguf, read_gguf
from dokja.text.style import Style
from dokja.text.styles import style_behind
from dokja.text.tokenizer import PATTERN, Tokenizer

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
"""gguf.TokenType"""
_LLAMA3 = PATTERN.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
_PRE: dict[str, tuple[str | None, str | None, bool]] = {
    "qwen2": (PATTERN, "NFC", False),
    "llama-bpe": (_LLAMA3, None, False),
    "gpt-2": (None, None, True),
    "exaone": (r"\p{N}", "NFKC", True),
    "exaone4": (None, "NFKC", True),
}
"""The pattern of a Split step, the normal form, and whether ByteLevel cuts by GPT-2's pattern."""
_WHOLE_WORDS = ("llama-bpe",)  # a word that is a token is taken whole, whatever the merges say
# Of a vocabulary of this kind these change nothing here: ids are what chat formats name, the rest is about spaces that
# only other kinds have.
_INERT = {
    "model", "pre", "tokens", "token_type", "merges", "scores", "bos_token_id", "eos_token_id", "eot_token_id",
    "eom_token_id", "unknown_token_id", "padding_token_id", "seperator_token_id", "mask_token_id", "fim_pre_token_id",
    "fim_suf_token_id", "fim_mid_token_id", "fim_pad_token_id", "fim_rep_token_id", "fim_sep_token_id",
    "prefix_token_id", "suffix_token_id", "middle_token_id", "add_bos_token", "add_eos_token", "add_sep_token",
    "add_space_prefix",
}  # fmt: skip
_PREFIX = "tokenizer.ggml."


def tokenizer_at(path: str | Path) -> Tokenizer:
    """The tokenizer of a release folder or of a GGUF file."""
    path = Path(path)
    return tokenizer_of(read_gguf(path)) if is_gguf(path) else Tokenizer.load(path, imported=True)


def tokenizer_of(file: GgufFile) -> Tokenizer:
    """The tokenizer of a file. DataError for a vocabulary of another kind, a pattern that is not known, or keys that
    nobody here knows."""
    try:
        return Tokenizer(source_of(file), imported=True)
    except DataError as error:
        raise DataError(f"{file.path}: {error}") from None


def source_of(file: GgufFile) -> str:
    """The text of the tokenizer.json that a file's metadata stand for."""
    own = {k.removeprefix(_PREFIX): v for k, v in file.metadata.items() if k.startswith(_PREFIX)}
    if own.get("model") != "gpt2":
        raise DataError(
            f"its vocabulary is of the kind {own.get('model')!r}, and dokja reads byte-level BPE ('gpt2') alone. Use "
            "another engine: dokja serve --engine llama.cpp."
        )
    if (pre := own.get("pre", "default")) not in _PRE:
        raise DataError(
            f"it cuts text into words as {pre!r}, a pattern that dokja does not know; it knows {', '.join(_PRE)}. Use "
            "the model's official folder."
        )
    if unknown := sorted(set(own) - _INERT):
        raise DataError(f"its vocabulary has keys that dokja does not know: {unknown}. It will not guess them.")
    tokens, types, merges = (own.get(name) for name in ("tokens", "token_type", "merges"))
    if not (isinstance(tokens, list) and isinstance(types, list) and isinstance(merges, list)):
        raise DataError("it has no tokens, kinds of tokens or merges. Copy it again from its source.")
    kinds = {NORMAL, CONTROL, USER_DEFINED, UNUSED}
    if len(types) != len(tokens) or set(types) - kinds or any(m.count(" ") != 1 for m in merges):
        raise DataError("its tokens, their kinds and its merges do not fit together. Copy it again from its source.")
    vocab = {text: i for i, (text, kind) in enumerate(zip(tokens, types, strict=True)) if kind != UNUSED}
    if len(vocab) + types.count(UNUSED) != len(tokens):
        raise DataError("it has two tokens of the same name. Copy it again from its source.")
    added = [i for i, kind in enumerate(types) if kind in (CONTROL, USER_DEFINED)]
    source = {
        "version": "1.0",
        "added_tokens": [_added(i, tokens[i], types[i] == CONTROL) for i in added],
        **_steps(pre),
        "model": {
            "type": "BPE",
            "vocab": vocab,
            "merges": [merge.split(" ") for merge in merges],
            "ignore_merges": pre in _WHOLE_WORDS,
        },
    }
    return json.dumps(source, ensure_ascii=False)


def _added(i: int, content: str, special: bool) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": i, "content": content, **flags, "special": special}


def _steps(pre: str) -> dict[str, Any]:
    """What stands around the model in a tokenizer.json."""
    pattern, form, cuts = _PRE[pre]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": cuts}
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {
        "normalizer": {"type": form} if form else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*([split] if pattern else []), level]},
        "decoder": level,
    }


def template_of(file: GgufFile) -> str | None:
    """The chat template that lies in a file."""
    found = file.metadata.get("tokenizer.chat_template")
    return str(found) if found else None


def style_in(file: GgufFile, tokenizer: Tokenizer) -> Style:
    """The chat format of the model in a file; DataError as in `text.styles.style_of`."""
    return style_behind(tokenizer.specials, template_of(file), {"model_type": file.architecture}, file.path)
