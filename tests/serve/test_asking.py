"""From what a client asks to what the engine is asked: mode, budget, sampling, tools, context."""

from dataclasses import replace

import pytest
from models_small import CLOCK, WEATHER, facts

from dokja.engine.recommended import Recommended
from dokja.errors import DokjaError
from dokja.serve.asking import Ask, Refusal, open_thought, plan
from dokja.serve.facts import Facts
from dokja.text.chat import Message
from dokja.text.styles import STYLES

USER = [Message("user", "</think> 안녕 <think>")]


def planned(name: str = "dokja", facts_: Facts | None = None, messages=USER, **ask):
    return plan(Ask(messages, ask.pop("draws", {}), **ask), facts_ or facts(name), "r")


@pytest.mark.parametrize("name", STYLES)
def test_the_state_of_thinking_is_read_off_the_prompt(name: str) -> None:
    style = STYLES[name]
    for mode in style.modes:
        rendered = style.render(USER, thinking=mode == "think", add_generation_prompt=True)
        assert open_thought(rendered, style) == (mode == "think")
    assert planned(name).thinking == style.thinking


@pytest.mark.parametrize(
    ("how", "thinks"),
    [
        ({}, True), ({"thinking": False}, False), ({"thinking": True}, True), ({"effort": "none"}, False),
        ({"effort": "low"}, True), ({"thinking": False, "effort": "high"}, False), ({"budget": 0}, False),
        ({"budget": 7}, True),
    ],
)  # fmt: skip
def test_switch_effort_and_budget_choose_the_mode(how: dict, thinks: bool) -> None:
    got = planned(**how)
    assert (got.thinking, got.request.thinking) == (thinks, thinks)
    assert got.request.recover == thinks, "an answer follows every thought"


def test_an_effort_is_a_share_of_what_may_be_written() -> None:
    assert planned(effort="low", max_tokens=80).request.think_budget == 10
    assert planned(effort="high", max_tokens=80).request.think_budget == 60
    assert planned(budget=3, max_tokens=80).request.think_budget == 3
    assert planned(thinking=True).request.think_budget is None


def test_a_model_of_one_mode_says_so() -> None:
    with pytest.raises(DokjaError, match="cannot think"):
        planned("exaone3.5", thinking=True)
    assert planned("exaone3.5", effort="high").thinking is False
    assert planned("deep", thinking=False).request.think_budget == 0


def test_the_makers_recommendation_stands_where_the_client_is_silent() -> None:
    advised = replace(facts("k"), sampling=Recommended(0.6, 0.95, presence_penalty=1.5))
    request = planned(facts_=advised).request
    assert (request.temperature, request.top_p, request.presence_penalty) == (0.6, 0.95, 1.5)
    request = planned(facts_=advised, draws={"temperature": 0.0, "presence_penalty": 0.0}).request
    assert (request.temperature, request.top_p, request.presence_penalty) == (0.0, 0.95, 0.0)


def test_seeds_are_kept_or_drawn() -> None:
    assert planned(seed=5).request.seed == planned(seed=5).request.seed == 5
    assert planned(seed=-3).request.seed == (-3) % (1 << 63)
    assert planned().request.seed != planned().request.seed


def test_what_does_not_fit_is_refused_with_its_field() -> None:
    with pytest.raises(Refusal, match="Shorten it") as refused:
        planned(facts_=facts("dokja", 64), messages=[Message("user", "가" * 100)])
    assert (refused.value.param, refused.value.code) == ("messages", "context_length_exceeded")
    assert planned(facts_=facts("dokja", 64)).request.max_tokens == 64 - len(planned().request.prompt)
    assert planned(max_tokens=7).request.max_tokens == 7


def test_no_tool_is_shown_where_none_may_be_called() -> None:
    without, none = planned().request.prompt, planned(tools=[CLOCK], choice="none").request.prompt
    assert without == none
    assert len(planned(tools=[CLOCK]).request.prompt) > len(without)
    with pytest.raises(Refusal, match="none of the tools"):
        planned(tools=[CLOCK], choice="weather")
    with pytest.raises(DokjaError, match="never taught to call tools"):
        planned("deep", tools=[CLOCK])


@pytest.mark.parametrize("name", [n for n, style in STYLES.items() if style.tools])
def test_a_call_that_has_to_come_begins_as_the_format_has_it(name: str) -> None:
    for thinking in (mode == "think" for mode in STYLES[name].modes):
        forced = planned(name, tools=[WEATHER, CLOCK], choice="weather", thinking=thinking).forced
        text = "".join(s.text for s in forced.segments)
        lead = STYLES[name].lead if thinking else ""
        assert text == lead + "<tool_call>" + ("\n<function=weather>\n" if name == "k2" else "")
        assert (forced.grammar is None) == (name == "k2")
