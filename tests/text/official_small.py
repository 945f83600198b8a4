"""Conversations for the golden strings, and small tokenizers built as the official files are."""

import json
from functools import cache

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers

from dokja.text.chat import Message, Segment, ToolCall, text_of
from dokja.text.style import Style
from dokja.text.styles import STYLES
from dokja.text.tokenizer import Tokenizer

SYSTEM = Message("system", "S")
ASK, ASK_AGAIN = Message("user", "U"), Message("user", "V")
TOLD, TOLD_AGAIN = Message("assistant", "A", "R"), Message("assistant", "B", "Q")
CALL = Message("assistant", "", "R", (ToolCall("f", {"x": "가", "n": 1}),))
CALLS = Message("assistant", "볼게요", "R", (ToolCall("f", {"x": "가"}), ToolCall("g", {})))
RESULT, RESULT_2 = Message("tool", "21"), Message("tool", '{"a": "b"}')
TOOL_F = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
TOOL_G = {"name": "g"}

# The vocabulary of 3.x, Deep and 4.0: digits alone, then GPT-2's pattern; the specials lie wherever they came to lie.
DIGIT = r"\p{N}"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# The vocabulary of 4.5 and K-EXAONE: words may span single spaces.
SUPER = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"
)
FIRST = {"[PAD]": 0, "[BOS]": 1}
SPECIALS = {
    "exaone3.5": {**FIRST, "[|endofturn|]": 361},
    "deep": {**FIRST, "[|endofturn|]": 361, "<thought>": 362, "</thought>": 363},
    "exaone4": {**FIRST, "</think>": 355, "<think>": 356, "[|endofturn|]": 361},
    "k": {
        **FIRST, "<|system|>": 50, "<|user|>": 51, "<|assistant|>": 52, "<|endofturn|>": 53, "<think>": 54,
        "</think>": 55, "<|vision_pad|>": 66, "<|image_pad|>": 67, "<|video_pad|>": 68, "<vision>": 73,
        "</vision>": 74,
    },
}  # fmt: skip
SPECIALS["k2"] = SPECIALS["k"]
SPECIALS["qwen2.5"] = SPECIALS["qwen2.5-coder"] = {
    "<|endoftext|>": 543, "<|im_start|>": 544, "<|im_end|>": 545, "<tool_call>": 557, "</tool_call>": 558,
}  # fmt: skip
CORPUS = [
    "정답은 12 입니다. 차례로 더하면 345 입니다.\n\n생각을 정리하면 다음과 같습니다: 가, 나, 다.",
    "The answer is 12. We add 3 and 4 step by step, and it's done;\n\n  x = [1, 2]  # don't",
    '{"name": "weather", "arguments": {"city": "서울"}}\n<div class="a">_</div> [x](y) | z',
] * 3


@cache
def source(name: str) -> str:
    """The text of a tokenizer.json as the style's family has it: 102,400 and 153,600 tokens there, 560 here."""
    new = name in ("k", "k2")
    hf = tokenizers.Tokenizer(models.BPE())
    split = [(SUPER,)] if new else [(DIGIT,), (GPT2,)]
    hf.pre_tokenizer = pre_tokenizers.Sequence(
        [
            *(pre_tokenizers.Split(Regex(pattern), "isolated") for (pattern,) in split),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False, min_frequency=2
    )
    hf.train_from_iterator(CORPUS, trainer)
    raw = json.loads(hf.to_str())
    wanted = SPECIALS[name]
    free = (i for i in range(10_000) if i not in wanted.values())
    raw["model"]["vocab"] = dict(wanted) | {token: next(free) for token in raw["model"]["vocab"]}
    raw["added_tokens"] = [
        {"id": i, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": "think" not in token}  # some files do not call these special
        for token, i in sorted(wanted.items(), key=lambda item: item[1])
    ]  # fmt: skip
    hf = tokenizers.Tokenizer.from_str(json.dumps(raw))
    hf.normalizer = normalizers.NFC() if new else normalizers.NFKC()
    hf.decoder = decoders.ByteLevel()
    return hf.to_str()


@cache
def tokenizer(name: str) -> Tokenizer:
    """The small tokenizer of a style's family."""
    return Tokenizer(source(name), imported=True)


def rendered(name: str, messages: list[Message], **how: object) -> str:
    """The string that a style makes of a conversation."""
    return text_of(STYLES[name].render(messages, **how))


def learnt(segments: list[Segment]) -> str:
    """What bears the loss."""
    return "".join(s.text for s in segments if s.loss)


def own(style: Style, message: Message, thinking: bool, tools: tuple = ()) -> list[Segment]:
    """What a model writes for `message` after the generation prompt."""
    ask = [Message("user", "?")]
    prompt = style.render(ask, tools=tools, thinking=thinking, add_generation_prompt=True)
    whole = style.render([*ask, message], tools=tools, thinking=thinking)
    start = len(text_of(prompt))
    assert text_of(whole).startswith(text_of(prompt))
    out = []
    for segment in whole:
        cut, start = segment.text[start:], max(0, start - len(segment.text))
        if cut:
            out.append(Segment(cut, segment.special, segment.loss))
    return [s for s in out if s.loss]
