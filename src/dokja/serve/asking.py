"""What a client asks for, apart from how its API spells it, and what the engine is asked for it.

    Ask ──► rendered prompt ──► does it end inside an open thought? ──► Plan: the request, and how to read the answer

Whether the answer begins in a thought is read off the rendered prompt alone; parser, grammar and budget follow it.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dokja.engine.answers import encode_rendered, thought_fields
from dokja.engine.api import Request
from dokja.engine.effort import Effort, thought
from dokja.engine.rules import Grammar
from dokja.errors import DokjaError
from dokja.serve.calls import answer_or_calls, call_schema, forced_beginning, tool_names
from dokja.serve.facts import Facts
from dokja.text.chat import BOS, CALL, CALL_END, Message, Segment
from dokja.text.style import Style, Tools

DRAWS = ("temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty")
"""What a client may say of how tokens are drawn; the makers' recommendation stands where it does not."""


class Refusal(DokjaError):
    """A request that cannot be served as it is; `param` names the field at fault, `code` is OpenAI's word for it."""

    def __init__(self, sentence: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(sentence)
        self.param, self.code = param, code


@dataclass(frozen=True)
class Ask:
    """One conversation and the answer wanted of it."""

    messages: Sequence[Message]
    draws: Mapping[str, float]
    """Of `DRAWS`, what the client chose."""
    tools: Tools = ()
    choice: str = "auto"
    """auto, none, required, or the name of the tool to call."""
    parallel: bool = True
    thinking: bool | None = None
    effort: Effort | None = None
    budget: int | None = None
    preserve_thinking: bool = False
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logit_bias: tuple[tuple[int, float], ...] = ()
    top_logprobs: int | None = None
    """None wants no logprobs, 0 those of the tokens alone."""
    echo: bool = False
    """The prompt stands before the answer, scored where the answer is; 0 `max_tokens` want the prompt alone."""
    schema: Mapping[str, Any] | None = None
    """JSON schema that the content has to match."""


@dataclass(frozen=True)
class Forced:
    """A tool call that has to come: what is written in the model's place, and the request that goes on behind it."""

    segments: tuple[Segment, ...]
    stop: tuple[int, ...]
    stop_text: tuple[str, ...]
    grammar: Grammar | None


@dataclass(frozen=True)
class Plan:
    """What the engine is asked for and how its answer is read. With `forced`, `request` is asked for the thought alone,
    and not at all where there is none."""

    request: Request
    ask: Ask
    thinking: bool
    """The prompt ends in an open thought."""
    tools: Tools
    """Those that the prompt declares."""
    forced: Forced | None = None
    raw: bool = False
    """A plain text to go on with: no chat format, markers are left out."""

    @property
    def prompt(self) -> list[int]:
        """Of the request."""
        return self.request.prompt

    @property
    def size(self) -> int:
        """Tokens of the prompt."""
        return len(self.request.prompt)


def open_thought(segments: Sequence[Segment], style: Style) -> bool:
    """Whether a rendered prompt ends inside a thought."""
    if style.thought is None:
        return False
    seen = [s.text for s in segments if s.special and s.text in style.thought]
    return bool(seen) and seen[-1] == style.thought[0]


def plan(ask: Ask, facts: Facts, name: str, most_tokens: int | None = None) -> Plan:
    """What to ask the engine for. Raises Refusal (or another DokjaError) for what cannot be served."""
    style, tools = facts.style, () if ask.choice == "none" else ask.tools
    wanted, budget = _wanted(ask, facts)
    rendered = style.render(
        ask.messages,
        tools=tools,
        thinking=wanted,
        add_generation_prompt=True,
        preserve_thinking=ask.preserve_thinking,
    )
    thinking = open_thought(rendered, style)
    prompt, images = encode_rendered(rendered, ask.messages, facts.tokenizer, facts.images, style)
    request = _request(ask, facts, name, prompt, most_tokens, "messages")
    max_tokens, room = request.max_tokens, facts.context - len(prompt)
    if budget is not None:  # known now how much there is to share out
        effort: Effort = "none" if ask.thinking is False else ask.effort or "high"
        budget = thought(effort, max_tokens, room, budget=ask.budget, modes=style.modes).budget
    request = replace(
        request,
        images=images,
        **(thought_fields(style, facts.tokenizer, budget) if thinking else {}),
    )
    lead = style.lead if thinking else ""  # an answer at once has it in the prompt
    forced = _forced(ask, tools, facts, lead) if ask.choice not in ("auto", "none") else None
    if ask.schema is not None and forced is None:  # a call that must come is no content
        request = replace(request, grammar=_answer_grammar(ask.schema, ask, tools, facts, lead))
    return Plan(request, ask, thinking, tools, forced)


def plain_plan(ask: Ask, facts: Facts, name: str, prompt: str | list[int], most_tokens: int | None = None) -> Plan:
    """What to ask the engine for, for a text to go on with. A text begins with the marker that texts began with in
    training, where there is one. Raises Refusal for one that is too long."""
    if isinstance(prompt, str):
        tokenizer = facts.tokenizer
        prompt = [*([tokenizer.specials[BOS]] if BOS in tokenizer.specials else []), *tokenizer.encode(prompt)]
    return Plan(_request(ask, facts, name, prompt, most_tokens, "prompt"), ask, False, (), raw=True)


def _request(ask: Ask, facts: Facts, name: str, prompt: list[int], most_tokens: int | None, param: str) -> Request:
    """The request apart from thoughts, images and grammar."""
    room = facts.context - len(prompt)
    if room < 1:
        raise Refusal(
            f"The prompt has {len(prompt)} tokens, and this model's context of {facts.context} must hold prompt and "
            "answer. Shorten it.",
            param,
            "context_length_exceeded",
        )
    recommended = {field: getattr(facts.sampling, field) for field in DRAWS}
    return Request(
        name,
        prompt,
        max(1, min(n for n in (ask.max_tokens, most_tokens, room) if n is not None)),
        **{**recommended, **ask.draws},
        seed=secrets.randbits(62) if ask.seed is None else ask.seed % (1 << 63),
        stop=facts.stops,
        stop_text=ask.stop,
        logit_bias=ask.logit_bias,
        top_logprobs=ask.top_logprobs or 0,
        prompt_logprobs=ask.top_logprobs if ask.echo else None,
    )


def _wanted(ask: Ask, facts: Facts) -> tuple[bool, int | None]:
    """(whether to ask for a thought, a number where it has a budget)."""
    style = facts.style
    if ask.thinking is False:
        return thought("none", 1, 1, modes=style.modes).thinking, 0 if style.modes == ("think",) else None
    if ask.effort is not None or ask.budget is not None:
        known = thought(ask.effort or "high", facts.context, facts.context, budget=ask.budget, modes=style.modes)
        return known.thinking, known.budget
    return style.thinking if ask.thinking is None else ask.thinking, None


def _answer_grammar(schema: Mapping[str, Any], ask: Ask, tools: Tools, facts: Facts, lead: str) -> Grammar:
    """JSON under the schema; with tools, calls of them may come in its place."""
    if not tools:
        return Grammar.json_schema(schema).after(lead)
    style, specials = facts.style, facts.tokenizer.specials
    return answer_or_calls(style.calls, tools, schema, specials, ask.parallel).after(lead)


def _forced(ask: Ask, tools: Tools, facts: Facts, lead: str) -> Forced:
    """The call that `tool_choice` asks for."""
    if not tools:
        raise Refusal("A tool_choice needs tools. Declare them, or leave it out.", "tool_choice")
    if ask.choice != "required":
        tools = [tool for tool in tools if tool_names([tool]) == {ask.choice}]
        if not tools:
            raise Refusal(f"tool_choice names {ask.choice!r}, which is none of the tools.", "tool_choice")
    style, specials = facts.style, facts.tokenizer.specials
    beginning = forced_beginning(style.calls, tool_names(tools))
    segments = (Segment(lead, False), Segment(CALL, True), Segment(beginning, False))
    grammar = None
    if style.calls == "json":
        grammar = Grammar.json_schema(call_schema(tools))
    ends = (specials[CALL_END],) if CALL_END in specials else ()
    return Forced(tuple(s for s in segments if s.text), (*ends, *facts.stops), () if ends else (CALL_END,), grammar)
