"""The registry of chat formats, and which one a model folder speaks.

| the tokenizer has         | and                                                        | style      |
|---------------------------|------------------------------------------------------------|------------|
| `<|bos|>` and `<|end|>`   |                                                            | dokja      |
| `<|endofturn|>`           | a template with `preserve_thinking`, or 2.0's config       | k2         |
| `<|endofturn|>`           | otherwise                                                  | k          |
| `[|endofturn|]`           | `<think>`                                                  | exaone4    |
| `[|endofturn|]`           | `<thought>`, as a token or in the template                 | deep       |
| `[|endofturn|]`           | otherwise                                                  | exaone3.5  |
| `<|im_end|>`              | a template that writes the same (`text.probe`)             | qwen2.5, qwen2.5-coder |
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from dokja.errors import DataError
from dokja.text import chat
from dokja.text.chat import BOS, END, IMAGE, MODES, SPECIALS, THINK, THINK_END, Message, Segment
from dokja.text.official import chatml, deep, exaone4, k, k2
from dokja.text.parse import StreamParser
from dokja.text.probe import difference
from dokja.text.style import Parser, Style, Tools
from dokja.text.template import JINJA_SHA256
from dokja.text.tokenizer import Tokenizer


def _layout(
    messages: Sequence[Message], tools: Tools, thinking: bool, add_generation_prompt: bool, preserve_thinking: bool
) -> list[Segment]:
    """`chat.render`; past thoughts are never kept in it, whatever `preserve_thinking` says."""
    return chat.render(messages, tools=tools, thinking=thinking, add_generation_prompt=add_generation_prompt)


def _reading(thinking: bool, spelled: Collection[str], tools: Tools) -> Parser:
    return StreamParser(thinking)


DOKJA = Style(
    name="dokja",
    markers=SPECIALS,
    stops=(END,),
    thought=(THINK, THINK_END),
    modes=MODES,
    tools=True,
    image=IMAGE,
    closing=(Segment(THINK_END, True),),
    layout=_layout,
    reading=_reading,
    template_sha256=JINJA_SHA256,
)
"""Our own format: `text.chat` and `text.parse`."""
STYLES: dict[str, Style] = {
    s.name: s for s in (DOKJA, deep.EXAONE_3, deep.DEEP, exaone4.EXAONE_4, k.K, k2.K2, *chatml.ALL)
}


def style_of(folder: str | Path, tokenizer: Tokenizer | None = None) -> Style:
    """The chat format of the model in `folder`, from its tokenizer, chat template and config.json.

    `tokenizer` saves reading it again. Raises DataError with a sentence for a format that is not known.
    """
    folder = Path(folder)
    specials = (tokenizer or Tokenizer.load(folder, imported=True)).specials
    return style_behind(specials, read_template(folder), _read_json(folder / "config.json"), folder)


def style_behind(
    specials: Collection[str], template: str | None, config: Mapping[str, Any], where: str | Path
) -> Style:
    """`style_of` a model with these special tokens, chat template and config.json, which lies at `where`."""
    template = template or ""
    if BOS in specials and END in specials:
        return DOKJA
    if k.TURN_END in specials:
        second = "preserve_thinking" in template or "swiglu_limits" in config or "<function=" in template
        return k2.K2 if second else k.K
    if deep.TURN_END in specials:
        if THINK in specials or (not template and config.get("model_type") == "exaone4"):
            return exaone4.EXAONE_4
        return deep.DEEP if deep.THOUGHT in specials or deep.THOUGHT in template else deep.EXAONE_3
    if chatml.TURN in specials and chatml.TURN_END in specials:
        return _chatml(template, where)
    raise DataError(
        f"The chat format of the model in {where} ({config.get('model_type', 'no model_type')}) is not known: its "
        f"tokenizer ends turns with none of {END}, {deep.TURN_END}, {k.TURN_END}, {chatml.TURN_END}. "
        f"dokja speaks {', '.join(STYLES)}."
    )


def _chatml(template: str, where: str | Path) -> Style:
    """The ChatML that the template writes, where it is a known one."""
    instead = "dokja will not guess how it is spoken to. Use another engine: dokja serve --engine llama.cpp."
    if not template:
        raise DataError(f"The model in {where} has ChatML's markers and no chat template. {instead}")
    for style in chatml.ALL:
        if (written := difference(style, template)) is None:
            return style
    raise DataError(
        f"The chat template of the model in {where} has ChatML's markers, but writes neither what "
        f"{' nor what '.join(s.name for s in chatml.ALL)} does: {written!r}. {instead}"
    )


def read_template(folder: Path) -> str | None:
    """The Jinja template that lies with a model, in its own file or in tokenizer_config.json; None where none does."""
    beside = folder / "chat_template.jinja"
    if beside.is_file():
        return beside.read_text(encoding="utf-8")
    found = _read_json(folder / "tokenizer_config.json").get("chat_template")
    return str(found) if found else None


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON file's object; empty where there is no file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}). Restore the release folder.") from error
    return found if isinstance(found, dict) else {}
