"""Tokenizers of other models: byte-level BPE with special tokens at any ids and any pre-tokenizer or normalizer.

Their file stays as it is. Two things are made sure of before it is used: what a person types never becomes a special
token, and every text comes back byte for byte (after the file's own normal form).
"""

from __future__ import annotations

import json
import re

import tokenizers

from dokja.errors import DataError

COMPANIONS = ("tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
"""Files that lie with a `tokenizer.json` and go where it goes."""
_PROBE = "한글 ㄱ, I'll  add 12\n\n\tdone. 漢字 👍🏽 <x>[y]|z "
_ADDED = re.compile(r'"added_tokens"\s*:\s*\[')
_KEPT = ("<", "[")  # how a marker begins; other added tokens that are not special (runs of spaces) are ordinary text


def mark(source: str) -> str:
    """A `tokenizer.json` whose markers are all called special: one that is not would be found in what people type.

    Of a file of megabytes the list of added tokens alone is read, if it stands where the library writes it.
    """
    place = _ADDED.search(source)
    if place is None:
        return source
    try:
        added, end = json.JSONDecoder().raw_decode(source, place.end() - 1)
        silent = [token for token in added if not token["special"] and _looks_like_a_marker(token["content"])]
    except (ValueError, TypeError, KeyError, IndexError):
        return source  # the library will say what is wrong with it
    if not silent:
        return source
    for token in silent:
        token["special"] = True
    return source[: place.end() - 1] + json.dumps(added, ensure_ascii=False) + source[end:]


def read_foreign(hf: tokenizers.Tokenizer, byte_of: dict[str, int]) -> tuple[list[bytes], dict[str, int]]:
    """(the bytes of every id, the ids of special tokens by name) of the library's tokenizer of a `mark`ed file, which
    is set to spell special tokens in letters where text holds them.

    `byte_of` is the byte-level alphabet. Special tokens and ids that the file leaves out have no bytes. Raises
    DataError where the file is not byte-level or would change text.
    """
    hf.encode_special_tokens = True
    added = hf.get_added_tokens_decoder()
    special = {token.content: i for i, token in added.items() if token.special}
    plain = {i: token.content.encode() for i, token in added.items() if not token.special}
    if any(_looks_like_a_marker(token.content) and not token.special for token in added.values()):
        raise DataError("This tokenizer.json is not laid out as the library writes it. Save it again with tokenizers.")
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
    return table, special


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
