"""Answers that a model judges: its words in the record, a judge that is away, and judging again."""

import json

import pytest
from endpoint_scripted import fails, says, serving, words
from judge_scripted import TOKENIZER, ScriptedEngine

from dokja.errors import ConfigError, DataError
from dokja.judge.endpoint.description import Endpoint
from dokja.judge.endpoint.judging import JudgingModel, judged_by
from dokja.judge.endpoint.spending import Limits, Spending
from dokja.judge.local import EngineAnswerer
from dokja.judge.records import Sampling, read_records
from dokja.judge.remote import EndpointAnswerer
from dokja.judge.runner import items_of, run_suite
from dokja.tasks import registry
from dokja.tasks.graders.judged import Judged
from dokja.tasks.packs.load import PackTask
from dokja.tasks.problem import Problem
from dokja.text.chat import Message

SAMPLING = Sampling(0.0, 1.0, 50, None)


@pytest.fixture(autouse=True)
def _essays(monkeypatch):
    monkeypatch.setitem(registry.LOADED, "essay", PackTask("essay", Judged(), True))


def essays(n=3):
    return [
        Problem(f"e{i}", "essay", 1, "en", (Message("user", f"Say {i}."),),
                json.dumps({"question": f"Say {i}.", "reference": str(i)}), "")
        for i in range(n)
    ]  # fmt: skip


def verdict(body, n):
    """Yes where reference and answer are the same number."""
    text = words(body)
    parts = [text.split(head)[1].split("\n")[1] for head in ("Reference:", "Answer to judge:")]
    return says(f"<think>compare</think>Compared.\nVerdict: {'yes' if parts[0] == parts[1] else 'no'}")


def row(served, name="j", **more):
    return Endpoint(name=name, base_url=served.url, model=name, concurrency=4, **more)


def judged(out, judge, answerer, n=3, spending=None):
    model = JudgingModel(judge, spending, first_wait=0.001)
    with judged_by(model, essays(n)), model:
        return run_suite(items_of(essays(n), ("direct",), 1, SAMPLING), answerer, out)


def endpoint_says_one(served):
    return EndpointAnswerer(row(served, "m"), first_wait=0.001)


def test_the_prompt_and_the_words_of_the_judge_stand_in_the_record(tmp_path):
    spending = Spending(Limits())
    with serving(lambda body, n: says("1")) as served, serving(verdict) as judge:
        prices = {"input": 100.0, "output": 100.0}
        records = judged(tmp_path, row(judge, prices=prices), endpoint_says_one(served), spending=spending)
    assert [r.score for r in records] == [0.0, 1.0, 0.0] and records == read_records(tmp_path)
    right = records[1]
    assert right.judge.model == f"{judge.url}#j" and "Reference:\n1\n" in right.judge.prompt
    assert right.judge.said == "<think>compare</think>Compared.\nVerdict: yes" and right.judge.usage.prompt_tokens == 10
    assert "Compared" in right.detail and spending.cost == pytest.approx(3 * 15e-4) and spending.tokens == 45
    assert all((b["temperature"], b["model"]) == (0, "j") for b in judge.asked)


def test_our_own_engine_is_judged_the_same_way(tmp_path):
    engine = ScriptedEngine(lambda request: "1<|end|>")
    answerer = EngineAnswerer(engine, TOKENIZER, model_id="m", model_sha256="0" * 64)
    with serving(verdict) as judge:
        records = judged(tmp_path, row(judge), answerer, n=20)
    assert [r.problem_id for r in records if r.score] == ["e1"] and len(judge.asked) == 20
    assert all(r.judge is not None for r in records)


def test_a_judge_that_was_away_judges_the_kept_answers_later(tmp_path):
    with serving(lambda body, n: says("1")) as served:
        with serving(lambda body, n: fails(500)) as judge:
            away = judged(tmp_path, row(judge), endpoint_says_one(served))
            assert {r.reason for r in away} == {"grader_failed"} and "500" in away[0].detail
            judge.script = verdict
            back = judged(tmp_path, row(judge), endpoint_says_one(served))
        assert [r.score for r in back] == [0.0, 1.0, 0.0] and all(r.judge for r in back)
        assert len(served.asked) == 3  # no answer was asked for again
        with serving(verdict) as other, pytest.raises(DataError, match="another judging model"):
            judged(tmp_path, row(other, "other"), endpoint_says_one(served))


def test_without_a_judge_nothing_is_asked():
    with (
        pytest.raises(ConfigError, match=r"A model judges the answers to essay.*--judge-model"),
        judged_by(None, essays()),
    ):
        pass
    assert registry.LOADED["essay"].grader.ask is None
