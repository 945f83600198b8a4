"""Tokenizers of other models: byte-level BPE with special tokens at any ids and any pre-tokenizer or normalizer.

Their file stays as it is. Two things are made sure of before it is used: what a person types never becomes a special
token, and every text comes back byte for byte (after the file's own normal form).
"""

from __future__ import annotations

import json
from typing import Any

import tokenizers

from dokja.errors import DataError

COMPANIONS = ("tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
"""Files that lie with a `tokenizer.json` and go where it goes."""
_PROBE = "한글 ㄱ, I'll  add 12\n\n\tdone. 漢字 👍🏽 <x>[y]|z "
_KEPT = ("<", "[")  # how a marker begins; other added tokens that are not special (runs of spaces) are ordinary text


def read_foreign(source: str, byte_of: dict[str, int]) -> tuple[tokenizers.Tokenizer, list[bytes], dict[str, int]]:
    """(the library's tokenizer, the bytes of every id, the ids of special tokens by name) of a `tokenizer.json`.

    `byte_of` is the byte-level alphabet. Special tokens and ids that the file leaves out have no bytes. Raises
    DataError where the file is not byte-level or would change text.
    """
    raw = json.loads(source)
    added: list[dict[str, Any]] = raw.get("added_tokens") or []
    for token in added:  # a marker that is not called special would be found in what people type
        token["special"] = bool(token["special"] or _looks_like_a_marker(token["content"]))
    hf = tokenizers.Tokenizer.from_str(json.dumps(raw, ensure_ascii=False))
    hf.encode_special_tokens = True
    special = {token["content"]: token["id"] for token in added if token["special"]}
    plain = {token["id"]: token["content"].encode() for token in added if not token["special"]}
    vocab = hf.get_vocab(with_added_tokens=True)
    table = [b""] * (max(vocab.values(), default=-1) + 1)
    for name, i in vocab.items():
        if name in special:
            continue
        try:
            table[i] = plain[i] if i in plain else bytes(byte_of[c] for c in name)
        except KeyError:
            raise DataError(
                f"The token {name!r} of this tokenizer is no bytes: only byte-level BPE can be read. "
                "Use the tokenizer.json of an EXAONE release, or train one with dokja."
            ) from None
    _check(hf, table, special)
    return hf, table, special


def _looks_like_a_marker(content: str) -> bool:
    return len(content) > 2 and content[0] in _KEPT and content[-1] in ">]"


def _check(hf: tokenizers.Tokenizer, table: list[bytes], special: dict[str, int]) -> None:
    """Raises DataError where text would be lost, changed, or taken for a special token."""
    ids = hf.encode(_PROBE, add_special_tokens=False).ids
    normal = hf.normalizer.normalize_str(_PROBE) if hf.normalizer else _PROBE
    if b"".join(table[i] for i in ids) != normal.encode():
        raise DataError("This tokenizer changes text when it encodes it, so bytes cannot be counted. Use another one.")
    if len({t for t in table if len(t) == 1}) != 256:
        raise DataError("This tokenizer lacks some of the 256 bytes, so text could be lost. Use another one.")
    taken, markers = set(special.values()), list(special)
    for name, encoded in zip(markers, hf.encode_batch(markers, add_special_tokens=False), strict=True):
        if taken.intersection(encoded.ids):
            raise DataError(f"This tokenizer takes the text {name!r} for its special token. It cannot be used safely.")
