"""The judge in front of our own server: both modes, budgets, tokens of thoughts, streamed and not."""

import pytest
from judge_scripted import EchoTask, problems
from live import in_thread, script
from models_small import segments, tokens

from dokja.judge.endpoint.description import Endpoint
from dokja.judge.records import Sampling
from dokja.judge.remote import EndpointAnswerer
from dokja.judge.runner import items_of, run_suite
from dokja.tasks import registry
from dokja.text.chat import Message


@pytest.mark.parametrize("stream", [False, True])
def test_our_own_server_is_judged_in_both_modes(tmp_path, monkeypatch, stream):
    monkeypatch.setitem(registry.LOADED, "echo", EchoTask())
    answer = tokens("dokja", segments("dokja", Message("assistant", "0", "three plus four"), True))
    plain = tokens("dokja", segments("dokja", Message("assistant", "0"), False))
    found = {}
    for mode, written in {"think": answer, "direct": plain}.items():
        with in_thread({"m": script("dokja", tmp_path / f"{mode}{stream}", [written])}) as address:
            endpoint = Endpoint(name="own", base_url=f"{address}/v1", model="m", thinking="enable_thinking")
            sampling = Sampling(0.6, 0.95, 64, 40, min_p=0.1, repetition_penalty=1.1)
            answerer = EndpointAnswerer(endpoint, stream=stream, first_wait=0.01)
            items = items_of(problems(2), (mode,), 1, sampling)
            found[mode] = run_suite(items, answerer, tmp_path / f"out-{mode}")
    for record in found["think"]:
        assert (record.reasoning, record.answer, record.wrong_mode) == ("three plus four", "0", False)
        assert 0 < record.usage.reasoning_tokens < record.usage.completion_tokens and record.usage.prompt_tokens > 4
        assert (record.times.first_token is not None) == stream
    assert all((r.reasoning, r.answer, r.wrong_mode) == ("", "0", False) for r in found["direct"])
    assert {r.problem_id: r.score for r in found["direct"]} == {"ko-0": 1.0, "ko-1": 0.0, "en-0": 1.0, "en-1": 0.0}
