"""Unicode: one normal form for everything that is trained on, encoded or compared."""

from __future__ import annotations

import unicodedata

from dokja.errors import DataError

_SCRIPTS = (
    ("hangul", ((0x1100, 0x11FF), (0x3130, 0x318F), (0xA960, 0xA97F), (0xAC00, 0xD7FF), (0xFFA0, 0xFFDC))),
    ("han", ((0x2E80, 0x2FDF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF))),
    ("latin", ((0x41, 0x5A), (0x61, 0x7A), (0xAA, 0xAA), (0xBA, 0xBA), (0xC0, 0x24F), (0x1E00, 0x1EFF))),
)


def nfc(text: str) -> str:
    """The composed form (NFC): a syllable typed as jamo and the same syllable typed whole become equal."""
    return unicodedata.normalize("NFC", text)


def refuse_surrogates(text: str) -> None:
    """Raise DataError where `text` cannot be written as UTF-8, naming the character and its place."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as err:
        raise DataError(
            f"The text holds a lone surrogate (U+{ord(text[err.start]):04X} at character {err.start}), which no UTF-8 "
            "file can hold. Decode its source again, for example with errors='replace'."
        ) from None


def script_share(text: str) -> dict[str, float]:
    """The share of each script among the letters of `text`: hangul, han, latin, other; all 0 where there are none."""
    counts = {"hangul": 0, "han": 0, "latin": 0, "other": 0}
    for char in text:
        if char.isalpha():
            counts[_script(ord(char))] += 1
    letters = sum(counts.values())
    return {script: n / letters if letters else 0.0 for script, n in counts.items()}


def _script(code: int) -> str:
    for script, ranges in _SCRIPTS:
        if any(low <= code <= high for low, high in ranges):
            return script
    return "other"
