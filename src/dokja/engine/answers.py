"""From messages to a prompt, from a completion to thought and answer, and from an answer to its grade: what chat,
judge and RL sampler share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dokja.engine.api import Completion
from dokja.engine.stops import StopStream
from dokja.errors import DataError, DokjaError
from dokja.tasks.problem import Grade, Problem
from dokja.tasks.registry import find_task
from dokja.text.chat import THINK_END, Message, Mode, Segment
from dokja.text.images import ImageConfig, Patches, patches, token_count
from dokja.text.style import Style
from dokja.text.styles import DOKJA
from dokja.text.tokenizer import Tokenizer, expand


def encode_prompt(
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    images: ImageConfig | None,
    thinking: bool,
    style: Style = DOKJA,
) -> tuple[list[int], tuple[Patches, ...]]:
    """A conversation that waits for its next answer -> its ids, every image's place in full, and the images as patches.

    `images` is the model's image config, None for a model of text alone; then DataError for a conversation with images.
    """
    segments = style.render(messages, thinking=thinking, add_generation_prompt=True)
    return encode_rendered(segments, messages, tokenizer, images, style)


def encode_rendered(
    segments: Sequence[Segment],
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    images: ImageConfig | None,
    style: Style = DOKJA,
) -> tuple[list[int], tuple[Patches, ...]]:
    """`encode_prompt` of a conversation that was rendered already, with tools or anything else."""
    ids, loss = tokenizer.encode_segments(segments)
    pixels = [image for message in messages for image in message.images]
    if not pixels:
        return ids, ()
    if images is None or style.image is None:
        raise DataError("This conversation holds images, and this model reads text alone. Remove them.")
    cut = tuple(patches(image, images) for image in pixels)
    counts = [token_count(image.grid, images.merge) for image in cut]
    return expand(ids, loss, tokenizer.special_id(style.image), counts)[0], cut


@dataclass(frozen=True)
class Answer:
    """What the chat contract makes of a completion."""

    raw: str
    reasoning: str
    content: str
    reasoning_tokens: int
    wrong_mode: bool


def stop_ids(style: Style, tokenizer: Tokenizer) -> tuple[int, ...]:
    """The ids that end an answer."""
    return tuple(map(tokenizer.special_id, style.stops))


def closing_ids(style: Style, tokenizer: Tokenizer) -> tuple[int, ...]:
    """The ids that close a thought by force; the last one is the closing marker.

    Raises DokjaError where the family has no thoughts, or its tokenizer no token that closes them.
    """
    if style.thought is None or style.thought[1] not in tokenizer.specials:
        raise DokjaError(
            "A thinking budget needs one token that closes thoughts, and this model has none. Leave the budget out."
        )
    return tuple(tokenizer.encode_segments(style.closing)[0])


def thought_fields(style: Style, tokenizer: Tokenizer, budget: int | None = None) -> dict[str, Any]:
    """What a request whose prompt ends in an open thought says of it: how it is closed, and that an answer follows.

    Empty for a family whose thoughts cannot be closed by force; raises DokjaError where it is given a budget.
    """
    closes = style.thought is not None and style.thought[1] in tokenizer.specials
    if budget is None and not closes:
        return {}
    close = closing_ids(style, tokenizer)
    return {"thinking": True, "think_close": close, "think_budget": budget, "recover": True}


def read_answer(completion: Completion, tokenizer: Tokenizer, mode: Mode, style: Style = DOKJA) -> Answer:
    """Split what the model wrote into thought and answer, and see whether it kept to the mode asked for. A stop string
    that ended the answer, and what stands behind it, is no part of its content.

    Wrong mode, at once: any marker of a thought. Wrong mode, thinking: a thought left open or left empty, or a second
    one. A marker spelled in ordinary letters inside the answer counts as well: a reader would see it.
    """
    thinking, stops = mode == "think", stop_ids(style, tokenizer)
    parser = style.parser(thinking, spelled=style.spelled_by(tokenizer.specials))
    stream, raw, reasoning_tokens, open_thought = tokenizer.stream(), "", 0, thinking
    shown = StopStream([tokenizer.normal(completion.stopped_by)] if completion.stopped_by else [])
    for token in completion.tokens:
        for piece in stream.feed(token):
            raw += piece.text
            for part in [piece] if open_thought else shown.feed(piece):
                parser.feed(part)
        open_thought = open_thought and not parser.closed
        reasoning_tokens += open_thought and token not in stops
    for piece in stream.flush():
        raw += piece.text
        for part in [piece] if open_thought else shown.feed(piece):
            parser.feed(part)
    for part in shown.flush():
        parser.feed(part)
    message = parser.finish()
    reasoning = message.reasoning or ""
    wrong = parser.leaked or any(name in message.content for name in style.thought or ())
    if thinking:
        wrong = wrong or parser.thoughts != [THINK_END] or not reasoning.strip()
    else:
        wrong = wrong or bool(parser.thoughts)
    return Answer(raw, reasoning, message.content, reasoning_tokens, wrong)


def grade_answer(problem: Problem, answer: str, truncated: bool) -> Grade:
    """Grade by the problem's own family. A grader that raises is counted as such, apart from wrong answers."""
    try:
        return find_task(problem.task).grade(problem, answer, truncated=truncated)
    except Exception as error:  # one broken grader must not lose the suite
        return Grade(0.0, "grader_failed", f"{type(error).__name__}: {error}")
