"""Prompts that are scored: what the engine says of them is the full forward's log_softmax, whatever reads them."""

from dataclasses import replace

import pytest
import torch
from engine_small import NATIVE, model, needs_compiler, prompt

from dokja.engine import schedule
from dokja.engine.api import Request
from dokja.engine.engine import Engine
from dokja.errors import ConfigError
from dokja.model.spec import MtpSpec

TORCH, CPP = model(), model(**NATIVE)
BOTH = pytest.mark.parametrize("decoder", [TORCH, pytest.param(CPP, marks=needs_compiler)], ids=["torch", "native"])


def asked(number: int, length: int, best: int | None = 3, tokens: int = 4, **more) -> Request:
    return Request(f"r{number}", prompt(number, length), tokens, temperature=0.0, prompt_logprobs=best, **more)


@torch.no_grad()
def check(decoder, request: Request, scores) -> None:
    """The scores are those of the model's own forward."""
    logp = decoder(torch.tensor([request.prompt]))[0].log_softmax(-1)
    assert len(scores) == len(request.prompt) - 1
    for place, (own, top) in enumerate(scores):
        assert own == pytest.approx(float(logp[place, request.prompt[place + 1]]), abs=1e-5)
        best = logp[place].topk(request.prompt_logprobs)
        assert [token for token, _ in top] == best.indices.tolist()
        assert [p for _, p in top] == pytest.approx(best.values.tolist(), abs=1e-5)


@BOTH
@pytest.mark.parametrize("options", [{"chunk": 5}, {"chunk": 64, "slots": 2}, {"chunk": 7, "prefill_tokens": 9}])
def test_scores_are_those_of_the_full_forward(decoder, options):
    requests = [asked(n, length, (3, None, 0, 20)[n % 4]) for n, length in enumerate((30, 9, 40, 17, 2, 1, 33, 25))]
    plain = Engine(decoder, **options).complete([replace(r, prompt_logprobs=None) for r in requests])
    done = Engine(decoder, **options).complete(requests)
    assert [c.tokens for c in done] == [c.tokens for c in plain], "scoring changes no answer"
    for request, completion in zip(requests, done, strict=True):
        if request.prompt_logprobs is None:
            assert completion.prompt_scores == []
        else:
            check(decoder, request, completion.prompt_scores)


@BOTH
def test_what_is_known_of_a_prompt_is_scored_all_the_same(decoder):
    engine = Engine(decoder, chunk=16)
    request, same = asked(1, 60, tokens=2), replace(asked(1, 60, tokens=2), id="same")
    for r in (replace(request, prompt_logprobs=None), request):
        done = engine.complete([r])
    assert done[0].cached_tokens == 0
    check(decoder, request, done[0].prompt_scores)
    one, two, three = engine.complete([request, replace(request, id="plain", prompt_logprobs=None), same])
    assert one.prompt_scores == three.prompt_scores == done[0].prompt_scores
    assert two.prompt_scores == [] and two.cached_tokens >= 32


def test_a_prompt_put_back_in_its_middle_is_scored_once():
    # the first needs a page more while the second is read
    requests = [asked(0, 29, tokens=20), asked(1, 50, tokens=8), asked(2, 20, tokens=40)]
    engine = Engine(TORCH, slots=4, chunk=8, prefill_tokens=8, kv_tokens=96, prefix_tokens=0)
    done = engine.complete(requests)
    stats = engine.stats()
    assert stats["preemptions"] > 0 and stats["read_tokens"] > stats["prompt_tokens"]
    for request, completion in zip(requests, done, strict=True):
        check(TORCH, request, completion.prompt_scores)


@pytest.mark.parametrize("changes", [{}, NATIVE])
def test_the_first_event_brings_them_with_drafts_too(changes):
    decoder = model(**changes, mtp=MtpSpec(8))
    requests = [asked(n, 20 + n, tokens=8) for n in range(3)]
    told = {}
    for event in Engine(decoder, draft=2, chunk=6).generate(requests):
        told.setdefault(event.id, []).append(event.prompt)
    for request in requests:
        first, *others = told[request.id]
        check(decoder, request, first)
        assert not any(others)


def test_scores_are_reduced_piece_by_piece(monkeypatch):
    monkeypatch.setattr(schedule, "piece", lambda vocab: 3)
    engine = Engine(TORCH, chunk=64)
    rows = []
    read = engine._forward.read_scored
    monkeypatch.setattr(engine._forward, "read_scored", lambda c: rows.append(c.stop - c.start) or read(c))
    (done,) = engine.complete([asked(0, 20)])
    check(TORCH, asked(0, 20), done.prompt_scores)
    assert max(rows) == 3 and sum(rows) == 20


def test_too_many_best_tokens_are_refused():
    for wrong in (-1, 21):
        with pytest.raises(ConfigError, match="prompt_logprobs"):
            asked(0, 3, wrong)
