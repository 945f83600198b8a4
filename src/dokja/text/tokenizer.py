"""Byte-level BPE: training, encoding, export.

Every byte is a token, so any text comes back byte for byte (after NFC). Digits stand alone: a model that computes must
see them one by one. Ordinary text can never produce a marker's id, whatever it says.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from dokja.errors import ConfigError, DataError
from dokja.text.chat import BOS, END, PAD, SPECIALS, Segment
from dokja.text.foreign import COMPANIONS, mark, read_foreign
from dokja.text.stream import StreamDecoder
from dokja.text.template import JINJA
from dokja.text.unicode import nfc, refuse_surrogates

# The pattern that llama.cpp knows as "qwen2": contractions, words, single digits, punctuation, line ends, spaces.
PRE_TOKENIZER = "qwen2"
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CHUNK = 20_000  # conversations encoded together: bounds memory, long enough to keep every thread busy

T = TypeVar("T")
Encoded = tuple[list[int], list[int]]
"""Token ids and, for each, 1 where it bears the loss and 0 where it does not."""


def train_tokenizer(texts: Iterable[str], vocab: int, specials: Sequence[str] = SPECIALS) -> Tokenizer:
    """Learn merges from `texts` until there are `vocab` tokens, markers (first ids) and the 256 bytes included.

    The same texts give the same file. A text too small for `vocab` gives fewer tokens: read `vocab_size` afterwards.
    """
    floor = len(specials) + 256
    if vocab < floor:
        raise ConfigError(f"A vocabulary of {vocab} cannot hold {len(specials)} markers and 256 bytes. Use >= {floor}.")
    hf = tokenizers.Tokenizer(models.BPE())
    hf.normalizer = normalizers.NFC()
    hf.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    hf.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        min_frequency=2,
        special_tokens=list(specials),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    hf.train_from_iterator(_checked(texts), trainer)
    return Tokenizer(hf.to_str())


class Tokenizer:
    """Text to ids and back. Built from the text of a `tokenizer.json`; `sha256` is the hash of that text.

    `foreign` says that it is another model's: its markers have other names and ids, its normal form is the file's.
    """

    def __init__(self, source: str, *, imported: bool = False) -> None:
        """Raises DataError where `source` is not a byte-level BPE with our markers at ids 0 to 11; `imported` also
        takes the tokenizers of other models (see `text.foreign`)."""
        try:
            self._hf = tokenizers.Tokenizer.from_str(mark(source) if imported else source)
        except Exception as err:  # the library raises bare Exception
            raise DataError(f"tokenizer.json cannot be read ({err}). Restore it or train the tokenizer again.") from err
        self._source = source
        self.sha256 = hashlib.sha256(source.encode()).hexdigest()
        self.vocab_size: int = self._hf.get_vocab_size(with_added_tokens=True)
        self.companions: dict[str, str] = {}
        self.foreign = imported and any(self._hf.id_to_token(i) != name for i, name in enumerate(SPECIALS))
        if self.foreign:
            self._bytes, self._special = read_foreign(self._hf, _BYTE_OF)
            self.vocab_size = len(self._bytes)
        else:
            self._bytes, self._special = self._read_ours(), {name: i for i, name in enumerate(SPECIALS)}
        self._names = {i: name for name, i in self._special.items()}

    def _read_ours(self) -> list[bytes]:
        """The bytes of every id; sees to it that the file is one of ours."""
        names = [self._hf.id_to_token(i) or "" for i in range(self.vocab_size)]
        if tuple(names[: len(SPECIALS)]) != SPECIALS:
            raise DataError(f"This tokenizer lacks our markers at ids 0 to {len(SPECIALS) - 1}. Train one with dokja.")
        try:
            table = [bytes(_BYTE_OF[c] for c in name) for name in names[len(SPECIALS) :]]
        except KeyError:  # a foreign alphabet
            raise DataError(
                "This tokenizer is not byte-level (some tokens are no bytes). Train one with dokja."
            ) from None
        if b"" in table or len({t for t in table if len(t) == 1}) != 256:
            raise DataError(
                "This tokenizer has gaps, or not all of the 256 bytes, so text could be lost. Train one with dokja."
            )
        # Ordinary text that spells a marker stays text. NFC is done here, with Python's own tables (and much faster),
        # so that `decode_bytes(encode(x)) == nfc(x).encode()` holds exactly.
        self._hf.encode_special_tokens = True
        self._hf.normalizer = None
        return [b""] * len(SPECIALS) + table

    @property
    def specials(self) -> Mapping[str, int]:
        """The markers and their ids."""
        return self._special

    def normal(self, text: str) -> str:
        """The form in which text is encoded: NFC, or what the file of another model says."""
        if not self.foreign:
            return nfc(text)
        refuse_surrogates(text)
        return str(self._hf.normalizer.normalize_str(text)) if self._hf.normalizer else text

    def encode(self, text: str) -> list[int]:
        """The ids of ordinary text after `normal`; never a marker's. Raises DataError for lone surrogates."""
        plain = text if self.foreign else nfc(text)  # the file's own normalizer is still in the foreign one
        return _refusing([text], lambda: self._hf.encode(plain, add_special_tokens=False).ids)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text, on all threads of the machine."""
        normal = list(texts) if self.foreign else [nfc(t) for t in texts]
        done = _refusing(normal, lambda: self._hf.encode_batch_fast(normal, add_special_tokens=False))
        return [e.ids for e in done]

    def encode_segments(self, segments: Sequence[Segment]) -> Encoded:
        """The ids of a rendered conversation and where the loss lies. Markers which another model's tokenizer has no
        token for are spelled in letters, in one text with what stands beside them."""
        segments = self._spell(segments)
        return self._join(segments, {s.text: self.encode(s.text) for s in segments if not s.special})

    def encode_segments_batch(self, conversations: Iterable[Sequence[Segment]]) -> Iterator[Encoded]:
        """`encode_segments` of many conversations, in order: texts are encoded together and equal ones only once."""
        chunk: list[Sequence[Segment]] = []
        for segments in conversations:
            chunk.append(self._spell(segments))
            if len(chunk) == _CHUNK:
                yield from self._encode_chunk(chunk)
                chunk = []
        yield from self._encode_chunk(chunk)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The raw bytes behind the ids; markers have none."""
        return b"".join(self._bytes[i] for i in ids if i < len(self._bytes))

    def decode(self, ids: Iterable[int], *, markers: bool = False) -> str:
        """The text behind the ids (U+FFFD for bytes that are no text), with the names of markers where asked for."""
        if not markers:
            return self.decode_bytes(ids).decode("utf-8", "replace")
        named = (self._names[i].encode() if i in self._names else self.decode_bytes([i]) for i in ids)
        return b"".join(named).decode("utf-8", "replace")

    def token_bytes(self, token: int) -> bytes:
        """The raw UTF-8 bytes that a token stands for: the denominator of bits per byte. Markers stand for none."""
        return self._bytes[token]

    def special_id(self, name: str) -> int:
        """The id of a marker, for example `<|end|>`."""
        if name not in self._special:
            raise DataError(f"{name!r} is no marker of this tokenizer. The markers are {', '.join(self._special)}.")
        return self._special[name]

    def stream(self) -> StreamDecoder:
        """A decoder for one answer, fed token by token."""
        return StreamDecoder(self._bytes, self._names)

    def save(self, folder: str | Path) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json` (with the chat template) as transformers reads them."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tokenizer.json").write_bytes(self._source.encode())
        if self.foreign:
            for name, text in self.companions.items():
                (folder / name).write_bytes(text.encode())
            return
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": BOS,
            "eos_token": END,
            "pad_token": PAD,
            "additional_special_tokens": [s for s in SPECIALS if s not in (BOS, END, PAD)],
            "clean_up_tokenization_spaces": False,
            "chat_template": JINJA,
        }
        text = json.dumps(config, ensure_ascii=False, indent=2) + "\n"
        (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path, *, imported: bool = False) -> Tokenizer:
        """Read the `tokenizer.json` of `folder`; raises DataError where it is missing or not one of ours (or, where
        `imported`, not one that can be read at all)."""
        path = Path(folder) / "tokenizer.json"
        try:
            read = cls(path.read_bytes().decode(), imported=imported)
            beside = (path.with_name(name) for name in COMPANIONS if read.foreign)
            read.companions = {file.name: file.read_bytes().decode() for file in beside if file.is_file()}
            return read
        except (OSError, UnicodeDecodeError) as err:
            raise DataError(f"{path} cannot be read ({err}). Name the folder of a tokenizer or release.") from err
        except DataError as err:
            raise DataError(f"{path}: {err}") from err

    def _spell(self, segments: Sequence[Segment]) -> Sequence[Segment]:
        if not self.foreign:
            return segments
        out: list[Segment] = []
        for s in segments:
            special = s.special and s.text in self._special
            if out and not special and not out[-1].special and out[-1].loss == s.loss:
                out[-1] = Segment(out[-1].text + s.text, False, s.loss)
            else:
                out.append(Segment(s.text, special, s.loss))
        return out

    def _encode_chunk(self, conversations: Sequence[Sequence[Segment]]) -> Iterator[Encoded]:
        texts = list({s.text: None for segments in conversations for s in segments if not s.special})
        ids = dict(zip(texts, self.encode_batch(texts), strict=True))
        for segments in conversations:
            yield self._join(segments, ids)

    def _join(self, segments: Sequence[Segment], texts: dict[str, list[int]]) -> Encoded:
        ids: list[int] = []
        loss: list[int] = []
        for segment in segments:
            part = [self.special_id(segment.text)] if segment.special else texts[segment.text]
            ids += part
            loss += [int(segment.loss)] * len(part)
        return ids, loss


def expand(ids: Sequence[int], loss: Sequence[int], image_id: int, counts: Sequence[int]) -> Encoded:
    """An encoded conversation with every image's marker repeated as often as the image takes tokens (`counts`, in
    order; see `text.images.token_count`). Raises DataError where markers and counts are not equally many."""
    at = [i for i, token in enumerate(ids) if token == image_id]
    if len(at) != len(counts):
        raise DataError(
            f"A conversation has {len(at)} places for images and {len(counts)} images. Give one image for each place."
        )
    if not at:
        return list(ids), list(loss)
    out: Encoded = ([], [])
    for start, end, count in zip([0, *(i + 1 for i in at)], [*at, len(ids)], [*counts, 0], strict=True):
        out[0].extend([*ids[start:end], *[image_id] * count])
        out[1].extend([*loss[start:end], *[loss[end] if count else 0] * count])
    return out


def bytes_per_token(tokenizer: Tokenizer, texts: Iterable[str]) -> float:
    """UTF-8 bytes (after NFC) per token over `texts`: how much text one step of the model covers."""
    encoded = tokenizer.encode_batch(list(texts))
    tokens = sum(map(len, encoded))
    if not tokens:
        raise DataError("There is no text to measure bytes per token on. Give at least one text that is not empty.")
    return sum(len(tokenizer.decode_bytes(ids)) for ids in encoded) / tokens


def bytes_per_token_by_language(tokenizer: Tokenizer, texts: Iterable[tuple[str, str]]) -> dict[str, float]:
    """`bytes_per_token` for each language of (language, text) pairs, languages in the order of their first text."""
    groups: dict[str, list[str]] = {}
    for language, text in texts:
        groups.setdefault(language, []).append(text)
    return {language: bytes_per_token(tokenizer, group) for language, group in groups.items()}


def _checked(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        refuse_surrogates(text)
        yield text


def _refusing(texts: Sequence[str], encode: Callable[[], T]) -> T:
    """Run `encode`; the library's TypeError for what is no UTF-8 text becomes a sentence."""
    try:
        return encode()
    except (TypeError, UnicodeEncodeError):
        for text in texts:
            refuse_surrogates(text)
        raise


def _byte_alphabet() -> dict[str, int]:
    """The characters which byte-level BPE writes bytes as (GPT-2's table): printable ones as themselves, the others,
    in order, from U+0100 on."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [b for b in range(256) if b not in shown]
    return {chr(b): b for b in shown} | {chr(256 + i): b for i, b in enumerate(hidden)}


_BYTE_OF = _byte_alphabet()
