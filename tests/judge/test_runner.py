import json

import numpy as np
import pytest
from judge_scripted import TOKENIZER, EchoTask, ScriptedEngine, number_in, problems, prompt_text

from dokja.engine.answers import read_answer
from dokja.engine.api import Completion
from dokja.errors import ConfigError, DataError
from dokja.judge.local import EngineAnswerer
from dokja.judge.records import Sampling, read_records
from dokja.judge.runner import items_of, run_suite
from dokja.tasks import registry
from dokja.tasks.problem import Problem
from dokja.text.chat import IMAGE, MODES, THINK_END, Message
from dokja.text.images import ImageConfig, patches


@pytest.fixture(autouse=True)
def _echo_family(monkeypatch):
    monkeypatch.setitem(registry.LOADED, "echo", EchoTask())


def good(request):
    thought = "" if prompt_text(request).endswith("</think>") else "one two</think>"
    return f"{thought}{number_in(request)}<|end|>"


def ask(asked, engine, out, modes=MODES, repeats=1, seed=0, model_sha256="0" * 64, images=None, **drawn):
    sampling = Sampling(**{"temperature": 0.0, "top_p": 1.0, "max_tokens": 50, "budget": None, **drawn})
    answerer = EngineAnswerer(engine, TOKENIZER, model_id="m", model_sha256=model_sha256, images=images)
    return run_suite(items_of(asked, modes, repeats, sampling), answerer, out, seed=seed)


def judge(engine, out, n=3, **kw):
    return ask(problems(n), engine, out, **kw)


def lines_without_seconds(out):
    lines = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def only(answer, tmp_path, mode, **kw):
    """The one record of one problem answered with `answer`."""
    engine = ScriptedEngine(lambda _: answer, **kw)
    return ask(problems(1, ("en",)), engine, tmp_path, modes=[mode])[0]


def test_every_problem_is_asked_in_every_mode_and_repeat_and_graded(tmp_path):
    engine = ScriptedEngine(good)
    records = judge(engine, tmp_path, repeats=2)
    assert len(records) == len(engine.asked) == 3 * 2 * 2 * 2
    assert all(r.score == 1.0 and r.reason == "right" and not r.wrong_mode for r in records)
    assert {r.reasoning for r in records if r.mode == "think"} == {"one two"}
    assert {r.reasoning for r in records if r.mode == "direct"} == {""}
    assert records == read_records(tmp_path)
    one = records[0]
    assert one.raw == "one two</think>0<|end|>" and one.answer == "0" and one.reference == "0"


def test_reasoning_tokens_are_those_before_the_thought_is_closed(tmp_path):
    record = only("step by step</think>0<|end|>", tmp_path, "think")
    thought = len(TOKENIZER.encode("step by step"))
    assert (record.usage.reasoning_tokens, record.usage.completion_tokens) == (thought, thought + 3)


def test_killed_and_restarted_leaves_the_same_records(tmp_path):
    judge(ScriptedEngine(good), tmp_path / "straight")
    engine = ScriptedEngine(good, stop_after=5)
    with pytest.raises(KeyboardInterrupt):
        judge(engine, tmp_path / "killed")
    with open(tmp_path / "killed" / "records.jsonl", "ab") as file:
        file.write(b'{"task": "echo", "probl')
    again = ScriptedEngine(good)
    judge(again, tmp_path / "killed")
    assert len(again.asked) == 12 - 5
    assert lines_without_seconds(tmp_path / "killed") == lines_without_seconds(tmp_path / "straight")


def test_finished_suite_asks_nothing_again(tmp_path):
    first = judge(ScriptedEngine(good), tmp_path)
    engine = ScriptedEngine(good)
    assert judge(engine, tmp_path) == first and engine.asked == []


def test_seeds_follow_from_the_question_alone(tmp_path):
    few, many = ScriptedEngine(good), ScriptedEngine(good)
    judge(few, tmp_path / "few", n=1, modes=["think"])
    judge(many, tmp_path / "many", n=3, repeats=2)
    seeds = {r.id: r.seed for r in many.asked}
    assert len(set(seeds.values())) == len(seeds)
    assert all(seeds[r.id] == r.seed for r in few.asked)
    other = ScriptedEngine(good)
    judge(other, tmp_path / "other", n=1, seed=1)
    assert all(seeds[r.id] != r.seed for r in other.asked)


def test_thinking_requests_carry_the_budget_and_at_once_requests_do_not(tmp_path):
    engine = ScriptedEngine(good)
    judge(engine, tmp_path, n=1, budget=20)
    for request in engine.asked:
        thinking = prompt_text(request).endswith("<think>")
        assert request.think_budget == (20 if thinking else None)
        assert tuple(request.think_close) == ((TOKENIZER.special_id(THINK_END),) if thinking else ())


@pytest.mark.parametrize(
    ("mode", "answer", "wrong"),
    [
        ("think", "a</think>0<|end|>", False),
        ("think", "</think>0<|end|>", True),
        ("think", "  </think>0<|end|>", True),
        ("think", "never closed<|end|>", True),
        ("think", "a</think>b<think>c</think>0<|end|>", True),
        ("think", "<think>a</think>0<|end|>", True),
        ("direct", "0<|end|>", False),
        ("direct", "<think>a</think>0<|end|>", True),
        ("direct", "a</think>0<|end|>", True),
    ],
)
def test_answers_in_the_wrong_mode_are_seen(tmp_path, mode, answer, wrong):
    assert only(answer, tmp_path, mode).wrong_mode is wrong


def test_a_marker_spelled_in_letters_counts_as_wrong_mode():
    tokens = TOKENIZER.encode("<think>0")
    for mode in ("think", "direct"):
        closed = [TOKENIZER.special_id(THINK_END)] if mode == "think" else []
        completion = Completion("x", TOKENIZER.encode("a") * len(closed) + closed + tokens, [], "stop", False, 1)
        assert read_answer(completion, TOKENIZER, mode).wrong_mode


def test_reasoning_never_stands_in_the_answer(tmp_path):
    record = only("secret", tmp_path, "think", finish="length")
    assert (record.answer, record.reasoning, record.reason) == ("", "secret", "truncated")


def test_a_grader_that_raises_is_counted_as_such(tmp_path):
    record = only("explode<|end|>", tmp_path, "direct")
    assert (record.score, record.reason) == (0.0, "grader_failed") and "ZeroDivisionError" in record.detail


@pytest.mark.parametrize(
    "change",
    [{"model_sha256": "1" * 64}, {"temperature": 0.7}, {"weights": "int8"}, {"seed": 3}, {"n": 2}],
    ids=["model", "sampling", "weights", "seed", "suite"],
)
def test_records_of_another_origin_are_refused_with_a_sentence(tmp_path, change):
    judge(ScriptedEngine(good), tmp_path)
    with pytest.raises(DataError, match=r"another .*Judge into another folder"):
        judge(ScriptedEngine(good), tmp_path, **change)


def test_settings_that_cannot_be_meant_are_refused(tmp_path):
    for wrong in ({"modes": ["aloud"]}, {"modes": []}, {"repeats": 0}, {"budget": 50}):
        with pytest.raises(ConfigError):
            judge(ScriptedEngine(good), tmp_path, **wrong)


def test_an_engine_that_loses_answers_is_found_out(tmp_path):
    engine = ScriptedEngine(good)
    engine.complete = lambda requests, on_done=None: []
    with pytest.raises(DataError, match="without 12 of 12"):
        judge(engine, tmp_path)


def test_images_reach_the_engine_and_belong_to_the_prompt_of_the_record(tmp_path):
    config = ImageConfig(patch=4, merge=2, min_pixels=64, max_pixels=6400)
    black, white = (np.full((16, 24, 3), value, np.uint8) for value in (0, 255))
    seen = []
    for folder, pixels in (("a", black), ("b", black.copy()), ("c", white)):
        asked = Problem("one", "echo", 1, "en", (Message("user", "en 0", images=(pixels,)),), "0", "", ())
        engine = ScriptedEngine(good)
        seen.append(ask([asked], engine, tmp_path / folder, ["think"], images=config)[0].prompt_sha256)
        (request,) = engine.asked
        assert request.images == (patches(pixels, config),)
        assert prompt_text(request).startswith("<|bos|><|user|>" + IMAGE * 6 + "en 0<|end|>")
    assert seen[0] == seen[1] != seen[2]
