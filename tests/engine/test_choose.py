"""Penalties, log-probabilities of the best tokens, and n answers: through the engine and against plain loops."""

import math
import random
from dataclasses import replace

import pytest
import torch
from engine_small import NATIVE, model, needs_compiler, prompt
from transformers.generation.logits_process import RepetitionPenaltyLogitsProcessor

from dokja.engine.api import Completion, Request, answers_of
from dokja.engine.engine import Engine
from dokja.engine.penalties import BARRED, Edits, Penalties, barred
from dokja.errors import ConfigError, DokjaError
from dokja.model.spec import MtpSpec

PATHS = [pytest.param({}, id="torch"), pytest.param(NATIVE, id="native", marks=needs_compiler)]
WISHES = [
    {"temperature": 0.0, "repetition_penalty": 1.3},
    {"presence_penalty": 1.5, "frequency_penalty": 0.5, "top_p": 0.9},
    {"temperature": 0.7, "min_p": 0.05, "logit_bias": ((3, 4.0), (5, -math.inf)), "top_k": 20},
    {"repetition_penalty": 0.8, "frequency_penalty": -0.3, "logit_bias": ((7, -2.5),)},
    {},
]


def requests(count: int, **settings) -> list[Request]:
    return [
        Request(**({"id": f"r{i}", "prompt": prompt(i, 4 + i), "max_tokens": 20, "seed": i} | WISHES[i % 5] | settings))
        for i in range(count)
    ]


class Script:
    """Proposes the right answers, with mistakes."""

    def __init__(self, depth: int, answers: list[Completion], wrong: float):
        self.depth, self.answers, self.wrong = depth, {a.id: a.tokens for a in answers}, wrong
        self.chance = random.Random(0)

    def propose(self, running, last_B, position_B, longest):
        rows = []
        for sequence in running:
            known = [*self.answers[sequence.request.id][len(sequence.tokens) :], *[0] * self.depth][: self.depth]
            rows.append([(t + 1) % 48 if self.chance.random() < self.wrong else t for t in known])
        return torch.tensor(rows)


def same(got: list[Completion], want: list[Completion], exact: bool) -> bool:
    """Whether the answers are equal; off the native path log-probabilities only nearly."""
    near = all(a.logprobs == pytest.approx(b.logprobs, abs=1e-4) for a, b in zip(got, want, strict=True))
    plain = [[replace(a, logprobs=[], top=[]) for a in done] for done in (got, want)]
    return near and (got == want if exact else plain[0] == plain[1])


def edited(scores: torch.Tensor, row) -> torch.Tensor:
    scores = scores.clone()[None]
    Edits.of([row]).apply(scores)
    return scores[0]


def test_the_repetition_penalty_is_that_of_transformers():
    scores = torch.randn(60, generator=torch.Generator().manual_seed(0)) * 3
    for rate in (1.3, 0.7):
        penalties = Penalties(Request("r", prompt(1, 9), 5, repetition_penalty=rate))
        for token in (3, 59, 3):
            penalties.wrote(token)
        seen = torch.tensor([[*prompt(1, 9), 3, 59, 3]])
        want = RepetitionPenaltyLogitsProcessor(rate)(seen, scores[None].clone())[0]
        assert torch.equal(edited(scores, penalties.rows(())[0]), want)


@pytest.mark.parametrize("wish", WISHES[:4])
def test_penalties_are_those_of_a_plain_loop_also_behind_drafts(wish):
    r = Request("r", [1, 2, 2, 7, 30], 5, **wish)
    chance, scores = random.Random(1), torch.randn(300, generator=torch.Generator().manual_seed(0)) * 3
    penalties, written = Penalties(r), []
    for _ in range(150):  # more than the room that there is at first
        drafts = [chance.randrange(300) for _ in range(chance.randrange(4))]
        rows = penalties.rows(drafts)
        for i, row in enumerate(rows if len(written) % 10 == 0 else []):
            answer, got = written + drafts[:i], edited(scores, row)
            assert len(set(row[0].tolist())) == len(row[0])
            for token, raw in enumerate(scores.tolist()):
                if token in answer or token in r.prompt:
                    raw = raw / r.repetition_penalty if raw > 0 else raw * r.repetition_penalty
                raw -= r.presence_penalty * (token in answer) + r.frequency_penalty * answer.count(token)
                raw = max(raw + dict(r.logit_bias).get(token, 0.0), BARRED)
                assert float(got[token]) == pytest.approx(raw, rel=1e-5, abs=1e-5)
        written.append(chance.randrange(300))
        penalties.wrote(written[-1])


def test_barred_tokens_keep_no_other_change():
    row = barred(Penalties(Request("r", [4, 5], 5, repetition_penalty=2.0)).rows(())[0], (5, 9, 9))
    got = edited(torch.arange(10.0), row)
    assert got.tolist() == [0, 1, 2, 3, 2, pytest.approx(BARRED), 6, 7, 8, pytest.approx(BARRED)]


@pytest.mark.parametrize("path", PATHS)
def test_penalties_give_the_same_answers_with_drafts_and_beside_any_mates(path):
    decoder, asked = model(**(path | {"mtp": MtpSpec()})), requests(15, top_logprobs=3)
    want = [Engine(decoder, slots=1).complete([r])[0] for r in asked]
    assert same(Engine(decoder, slots=6).complete(asked), want, path is NATIVE)
    for draft, wrong in ((1, 0.0), (3, 0.3)):
        engine = Engine(decoder, slots=4, draft=draft)
        engine._drafter = Script(draft, want, wrong)
        assert same(engine.complete(asked), want, path is NATIVE)
        assert engine.stats()["accepted"] > 50


def test_a_bias_bars_and_commands():
    decoder = model()
    asked = [replace(r, logit_bias=((5, -math.inf), (11, -math.inf))) for r in requests(10, temperature=2.0)]
    assert not {5, 11} & {t for a in Engine(decoder).complete(asked) for t in a.tokens}
    must = Engine(decoder).complete([replace(r, logit_bias=((11, 100.0),)) for r in asked])
    assert {t for a in must for t in a.tokens} == {11}
    with pytest.raises(DokjaError, match="vocabulary"):
        Engine(decoder).submit(Request("r", [1], 5, logit_bias=((48, 1.0),)))


@pytest.mark.parametrize("path", PATHS)
def test_the_best_tokens_of_a_place_are_those_of_the_raw_model(path):
    decoder = model(**path)
    asked = requests(5, top_logprobs=4)[:4] + requests(5, top_logprobs=20)[4:] + [Request("none", [1], 5)]
    events = list(Engine(decoder).generate(asked))
    done = {a.id: a for a in Engine(decoder).complete(asked)}
    for a in done.values():
        own = [e for e in events if e.id == a.id]
        assert [e.top for e in own] == (a.top or [()] * 5)
        r = next(r for r in asked if r.id == a.id)
        assert len(a.top) == (len(a.tokens) if r.top_logprobs else 0)
        ids = torch.tensor([[*r.prompt, *a.tokens]])
        want = decoder.logits(decoder.hidden(ids))[0].log_softmax(-1)[len(r.prompt) - 1 :]
        for step, top in enumerate(a.top):
            best = want[step].topk(r.top_logprobs)
            assert [i for i, _ in top] == best.indices.tolist()
            assert [x for _, x in top] == pytest.approx(best.values.tolist(), abs=1e-4)
            assert dict(top).get(a.tokens[step], a.logprobs[step]) == pytest.approx(a.logprobs[step], abs=1e-9)


def test_n_answers_have_seeds_of_their_own_that_do_not_depend_on_n():
    r = Request("a", [1, 2], 12, seed=7)
    assert answers_of(r, 1) == [r]
    four, two = answers_of(r, 4), answers_of(r, 2)
    assert [x.id for x in four] == ["a/0", "a/1", "a/2", "a/3"] and four[:2] == two and four[0].seed == 7
    assert len({x.seed for x in four + answers_of(replace(r, seed=8), 4)}) == 8
    decoder = model()
    done = Engine(decoder).complete(four)
    assert len({tuple(a.tokens) for a in done}) == 4 and done[0].tokens == Engine(decoder).complete([r])[0].tokens
    with pytest.raises(ConfigError, match="at least 1"):
        answers_of(r, 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_p": 1.5}, {"presence_penalty": 3.0}, {"frequency_penalty": math.nan}, {"repetition_penalty": 0.0},
        {"logit_bias": ((1, 2.0), (1, 3.0))}, {"logit_bias": ((-1, 2.0),)}, {"logit_bias": ((1, math.inf),)},
        {"logit_bias": ((1, math.nan),)}, {"stop_text": ("a", "")}, {"top_logprobs": 21}, {"thinking": True},
        {"recover": True, "stop": (5,), "think_close": (5,)}, {"answer_tokens": 0},
    ],
)  # fmt: skip
def test_requests_that_cannot_be_meant_are_refused(wrong):
    with pytest.raises(ConfigError, match="request 'r'"):
        Request("r", [1], 5, **wrong)
