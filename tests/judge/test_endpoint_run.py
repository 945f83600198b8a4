"""Judging an endpoint: records, grades, resumption, stops; against a scripted server."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from endpoint_scripted import fails, says, serving, streams, words
from judge_scripted import EchoTask, problems

from dokja.errors import ConfigError, DataError
from dokja.judge import remote
from dokja.judge.endpoint.client import Stopped
from dokja.judge.endpoint.description import Endpoint
from dokja.judge.endpoint.spending import Limits, Spending
from dokja.judge.records import Sampling, read_records
from dokja.judge.remote import EndpointAnswerer
from dokja.judge.run_endpoint import judge_endpoint
from dokja.judge.runner import Unfinished, items_of, run_suite
from dokja.judge.settings import Wishes
from dokja.tasks import registry

SRC = Path(__file__).parents[2] / "src"


@pytest.fixture(autouse=True)
def _echo_family(monkeypatch):
    monkeypatch.setitem(registry.LOADED, "echo", EchoTask())


def good(body, n):
    """What an echo problem asks for; a thought where it is switched on."""
    thinks = body.get("chat_template_kwargs", {}).get("enable_thinking")
    return says(words(body).split()[1], **({"reasoning_content": "one two"} if thinks else {}))


def ask(served, out, n=3, modes=("direct",), repeats=1, seed=0, limits=None, stream=False, asked=None, drawn=(), **row):
    endpoint = Endpoint(**{"name": "e", "base_url": served.url, "model": "m", "concurrency": 4, **row})
    sampling = Sampling(**{"temperature": 0.5, "top_p": 0.9, "max_tokens": 50, "budget": None, **dict(drawn)})
    spending = Spending(limits or Limits())
    answerer = EndpointAnswerer(endpoint, spending=spending, stream=stream, first_wait=0.001)
    items = items_of(problems(n) if asked is None else asked, modes, repeats, sampling)
    return run_suite(items, answerer, out, seed=seed)


def test_every_item_is_asked_once_and_recorded_with_who_answered(tmp_path):
    with serving(good) as served:
        records = ask(served, tmp_path, modes=("think", "direct"), repeats=2, thinking="enable_thinking")
    assert len(records) == len(served.asked) == 6 * 2 * 2 and records == read_records(tmp_path)
    assert all((r.score, r.reason, r.wrong_mode) == (1.0, "right", False) for r in records)
    one = records[0]
    assert (one.model, one.endpoint, one.model_sha256) == (f"{served.url}#m", "e", "")
    assert (one.raw, one.reasoning, one.answer) == ("<think>one two</think>0", "one two", "0")
    assert one.times.tries == 1 and one.times.seconds > 0 and one.usage.prompt_tokens == 10
    assert len({r.seed for r in records}) == len({b["seed"] for b in served.asked}) == len(records)
    body = next(b for b in served.asked if words(b) == "ko 0" and b["chat_template_kwargs"]["enable_thinking"])
    assert (body["temperature"], body["top_p"], body["max_tokens"], body["model"]) == (0.5, 0.9, 50, "m")
    assert not {"top_k", "min_p", "presence_penalty", "stream"} & body.keys()


def test_the_seeds_and_settings_of_an_item_do_not_depend_on_its_mates(tmp_path):
    with serving(good) as few, serving(good) as many:
        ask(few, tmp_path / "few", n=1, drawn={"presence_penalty": 1.5, "top_k": 20})
        ask(many, tmp_path / "many", n=3, repeats=2, drawn={"presence_penalty": 1.5, "top_k": 20})
    assert all(body in many.asked for body in few.asked)
    assert all((b["presence_penalty"], b["top_k"]) == (1.5, 20) for b in many.asked)


def test_a_finished_suite_asks_nothing_again_not_even_whether_the_endpoint_is_there(tmp_path):
    with serving(good) as served:
        first = ask(served, tmp_path)
        count = len(served.asked)
        assert ask(served, tmp_path) == first and len(served.asked) == count
    assert ask(served, tmp_path) == first  # it is gone by now


def test_a_request_that_fails_is_no_answer_and_the_run_says_how_to_go_on(tmp_path):
    with serving(lambda body, n: fails(500, "boom") if words(body) == "en 1" else good(body, n)) as served:
        with pytest.raises(Unfinished, match=r"5 of 6 answers are recorded .* 1 are not: 1 failed") as caught:
            ask(served, tmp_path)
        assert "en-1: 500: boom" in str(caught.value) and "same command" in str(caught.value)
        assert {r.problem_id for r in read_records(tmp_path)} == {p.id for p in problems(3)} - {"en-1"}
        served.script = good
        before = len(served.asked)
        records = ask(served, tmp_path)
    assert len(served.asked) == before + 1 and [r.score for r in records] == [1.0] * 6


def test_an_endpoint_that_only_fails_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "IN_A_ROW", 5)
    with serving(lambda body, n: fails(400, "no")) as served, pytest.raises(Unfinished, match="in a row, which ended"):
        ask(served, tmp_path, n=40)
    assert 5 <= len(served.asked) <= 5 + 4


def test_a_key_that_is_not_taken_stops_the_run_at_once(tmp_path):
    with serving(lambda body, n: fails(401, "bad key")) as served, pytest.raises(Stopped, match=r"401.*bad key"):
        ask(served, tmp_path, n=40)
    assert len(served.asked) <= 4


def test_an_endpoint_that_is_not_there_is_said_before_anything_is_asked(tmp_path):
    with serving(good) as served:
        pass
    with pytest.raises(Stopped, match="does not answer"):
        ask(served, tmp_path)


def test_a_filter_that_ends_an_answer_is_a_refusal_and_a_cut_is_a_cut(tmp_path):
    finishes = {"ko 0": "content_filter", "ko 1": "length", "en 0": "stop"}
    with serving(lambda body, n: says("0", finish=finishes.get(words(body), "stop"))) as served:
        reasons = {r.problem_id: r.reason for r in ask(served, tmp_path, n=2)}
    assert reasons == {"ko-0": "refused", "ko-1": "truncated", "en-0": "right", "en-1": "wrong"}


def test_answers_in_the_wrong_mode_are_seen(tmp_path):
    with serving(lambda body, n: says("<think>a</think>0")) as served:
        direct = ask(served, tmp_path / "a", n=1)[0]
        hidden = ask(served, tmp_path / "b", n=1, reasoning="none", thinking="reasoning_effort", modes=("think",))[0]
    assert direct.wrong_mode and direct.answer == "0" and not hidden.wrong_mode
    assert served.asked[-1]["reasoning_effort"] == "high"
    with serving(lambda body, n: says("0")) as served:
        assert ask(served, tmp_path / "c", n=1, thinking="enable_thinking", modes=("think",))[0].wrong_mode
    with serving(lambda body, n: says("<think>a")) as served:
        left = ask(served, tmp_path / "d", n=1)[0]
    assert (left.reason, left.answer, left.wrong_mode) == ("truncated", "", True)


def test_what_the_context_cannot_hold_is_as_with_our_engine(tmp_path):
    """Too long with the answer's bound: asked without it. Too long by itself: cut off before it began."""

    def script(body, n):
        too_long = words(body) == "ko 0" or "max_tokens" in body
        return fails(400, "maximum context length is 9", code="context_length_exceeded") if too_long else good(body, n)

    with serving(script) as served:
        by_id = {r.problem_id: r for r in ask(served, tmp_path, n=1)}
    assert (by_id["ko-0"].reason, by_id["ko-0"].raw, by_id["ko-0"].finish) == ("truncated", "", "length")
    assert by_id["en-0"].reason == "right"


def test_a_budget_goes_by_the_name_that_the_endpoint_has_for_it(tmp_path):
    think = {"n": 1, "modes": ("think", "direct"), "thinking": "enable_thinking", "drawn": {"budget": 20}}
    for owner, field in remote.BUDGETS.items():
        with serving(good, [{"id": "m", "owned_by": owner}]) as served:
            ask(served, tmp_path / owner, **think)
        sent = {b["chat_template_kwargs"]["enable_thinking"]: b.get(field) for b in served.asked}
        assert sent == {True: 20, False: None}
    with serving(good, [{"id": "m", "owned_by": "somebody"}]) as served:
        with pytest.raises(ConfigError, match="not known to close a thought"):
            ask(served, tmp_path / "x", **think)
        assert not served.asked
        ask(served, tmp_path / "x", budget="stop_thinking_at", **think)
        assert {b.get("stop_thinking_at") for b in served.asked} == {20, None}


def test_a_mode_that_cannot_be_switched_is_refused(tmp_path):
    with serving(good) as served, pytest.raises(ConfigError, match="--thinking enable_thinking"):
        ask(served, tmp_path, modes=("think",))


@pytest.mark.parametrize(
    "change",
    [{"model": "other"}, {"drawn": {"temperature": 0.7}}, {"seed": 3}, {"n": 2}],
    ids=["model", "sampling", "seed", "suite"],
)
def test_records_of_another_origin_are_refused_with_a_sentence(tmp_path, change):
    with serving(good) as served:
        ask(served, tmp_path)
        with pytest.raises(DataError, match=r"another .*Judge into another folder"):
            ask(served, tmp_path, **change)


PRICES = {"input": 1000.0, "output": 2000.0}  # an answer of `says` costs 0.02


@pytest.mark.parametrize(
    ("limits", "row"),
    [(Limits(cost=0.1), {"prices": PRICES}), (Limits(tokens=75), {})],
    ids=["cost", "tokens"],
)
def test_a_budget_stops_cleanly_and_counts_earlier_sittings(tmp_path, limits, row):
    """Five answers reach it; with two requests at once a sixth may be under way."""
    with serving(lambda body, n: says("A")) as served:
        endpoint = Endpoint(name="e", base_url=served.url, model="m", concurrency=2, **row)
        how = {"tasks": ("reverse",), "per_cell": 10, "languages": ("en",), "out": tmp_path, "first_wait": 0.001}
        with pytest.raises(Unfinished, match=r"--max-.* is reached"):
            judge_endpoint(endpoint, limits=limits, **how)
        first = len(served.asked)
        assert first in (5, 6) and len(read_records(tmp_path)) == first
        with pytest.raises(Unfinished, match=r"--max-.* is reached"):
            judge_endpoint(endpoint, limits=limits, **how)
        assert len(served.asked) == first
        judged = judge_endpoint(endpoint, **how)
        assert len(served.asked) == len(judged.records) > 6


def test_seconds_end_a_run_too(tmp_path):
    over = pytest.raises(Unfinished, match=r"--max-seconds 0.2 are over")
    with serving(lambda body, n: says("0", delay=0.05)) as served, over:
        ask(served, tmp_path, n=100, limits=Limits(seconds=0.2))
    assert 0 < len(read_records(tmp_path)) == len(served.asked) < 60


def test_records_say_what_was_spent_and_how_fast_it_came(tmp_path):
    deltas = [{"content": "1"}, {"content": "2"}, {"content": "3"}, {"content": "4"}]
    with serving(lambda body, n: streams(*deltas, gap=0.02, delay=0.02)) as served:
        prices = {"input": 1, "output": 2, "currency": "KRW"}
        endpoint = Endpoint(name="e", base_url=served.url, model="m", prices=prices)
        judged = judge_endpoint(
            endpoint, tasks=("reverse",), per_cell=1, languages=("en",), stream=True, out=tmp_path, first_wait=0.001
        )
    row = judged.summary.rows["overall"][0]
    n = len(judged.records)
    assert (row.prompt_tokens, row.completion_tokens, row.cost) == (10, 8, pytest.approx(n * 26e-6))
    assert row.seconds > row.speed.first_token > 0.015 and row.speed.n == n
    assert 30 < row.speed.output_speed < 110  # 6 tokens after the first part's 2, in at least 0.06 s
    written = json.loads((tmp_path / "summary.json").read_text())
    assert written["settings"]["output_price"] == 2 and written["settings"]["currency"] == "KRW"
    assert written["rows"]["task"][0]["cost"] == pytest.approx(row.cost)


JUDGE = """
import sys
from dokja.judge.endpoint.description import read_endpoint
from dokja.judge.run_endpoint import judge_endpoint
endpoint = read_endpoint(sys.argv[1], concurrency=4)
judge_endpoint(endpoint, tasks=("reverse", "sort"), per_cell=4, out=sys.argv[2])
assert "torch" not in sys.modules and "transformers" not in sys.modules
"""


def test_killed_twice_and_resumed_repeats_at_most_what_was_under_way(tmp_path):
    """SIGKILL leaves no time to tidy up: only requests whose answer was not yet recorded, `concurrency` at most, are
    sent again. Nothing is recorded twice."""

    def start():
        env = {**os.environ, "PYTHONPATH": str(SRC)}
        return subprocess.Popen([sys.executable, "-c", JUDGE, served.model(), str(tmp_path)], env=env)

    with serving(lambda body, n: says("x", delay=0.05)) as served:
        for part in (1, 2):
            process = start()
            while len(served.asked) < 16 * part:
                assert process.poll() is None
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert len(served.asked) - len(read_records(tmp_path)) <= 4 * part
        assert start().wait(60) == 0
    records = read_records(tmp_path)
    assert len({r.key for r in records}) == len(records) > 40
    assert len(served.asked) - len(records) <= 2 * 4 and max(served.seen.values()) <= 3


def test_packs_bring_their_own_sampling_and_repeats(tmp_path):
    with serving(lambda body, n: says("A")) as served:
        endpoint = Endpoint(name="e", base_url=served.url, model="m", thinking="enable_thinking")
        how = {"packs": ("core-ko-en",), "limit": 1, "languages": ("ko",), "first_wait": 0.001}
        judged = judge_endpoint(endpoint, out=tmp_path / "a", **how)
        assert {r.mode: r.sampling for r in judged.records} == {
            "think": Sampling(0.6, 0.95, 8192, None, 0, ""), "direct": Sampling(0.0, 1.0, 2048, None, 0, ""),
        }  # fmt: skip
        settings = judged.summary.settings
        assert {(s["pack"], s["mode"], s["max_tokens"]) for s in settings["sampling"]} == {
            ("core-ko-en", "think", 8192), ("core-ko-en", "direct", 2048),
        }  # fmt: skip
        wishes = Wishes(modes=("direct",), temperature=0.3, repeats=2)
        own = judge_endpoint(endpoint, wishes=wishes, out=tmp_path / "b", **how)
    assert {r.sampling for r in own.records} == {Sampling(0.3, 1.0, 2048, None, 0, "")}
    assert {r.repeat for r in own.records} == {0, 1} and own.summary.settings["repeats"] == 2
