"""What the server knows of small models of every chat format, and answers in their tokens."""

import itertools
from functools import cache

import official_small

from dokja.serve.facts import Facts
from dokja.text.chat import Message, Segment
from dokja.text.styles import STYLES
from dokja.text.tokenizer import Tokenizer, train_tokenizer

CORPUS = ["안녕하세요. 독자는 자기만의 모델입니다.", "three plus four is seven; 3 + 4 = 7"] * 20
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "today's weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city"],
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}}


@cache
def tokenizer(name: str) -> Tokenizer:
    """Of a style's family, or ours."""
    return train_tokenizer(CORPUS, 320) if name == "dokja" else official_small.tokenizer(name)


@cache
def facts(name: str, context: int = 4096) -> Facts:
    """A model that speaks the format `name`."""
    return Facts(tokenizer(name), STYLES[name], context)


def segments(name: str, message: Message, thinking: bool, tools: tuple = ()) -> list[Segment]:
    """What a model of this format writes for a message, its end included."""
    return official_small.own(STYLES[name], message, thinking, tools)


def tokens(name: str, written: list[Segment], cuts: tuple[int, ...] = ()) -> list[int]:
    """The ids of what was written, ordinary text cut at these places (mod its length) and encoded piece by piece."""
    tok, ids = tokenizer(name), []
    for segment in written:
        if segment.special:
            ids += tok.encode_segments([segment])[0]
            continue
        raw = tok.normal(segment.text).encode()
        edges = sorted({0, len(raw), *(cut % (len(raw) + 1) for cut in cuts)})
        for start, end in itertools.pairwise(edges):
            ids += _bytes(tok, raw[start:end])
    return ids


def _bytes(tok: Tokenizer, raw: bytes) -> list[int]:
    """Tokens that spell these bytes, also where they are no whole characters."""
    try:
        return tok.encode(raw.decode())
    except UnicodeDecodeError:
        single = _singles(tok)
        return [single[raw[i : i + 1]] for i in range(len(raw))]


@cache
def _singles(tok: Tokenizer) -> dict[bytes, int]:
    return {tok.token_bytes(i): i for i in range(tok.vocab_size) if len(tok.token_bytes(i)) == 1}
