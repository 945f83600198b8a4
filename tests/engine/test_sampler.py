"""Distribution, filters and independence of the sampler; `transformers` is the reference for what filters keep."""

import math
import random

import pytest
import torch
from engine_small import needs_compiler, wish
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from dokja.engine.api import Request
from dokja.engine.penalties import BARRED, Edits
from dokja.engine.sampler import Needs, Sampler, least_kept, logprobs, seed_key, uniform

VOCAB = 300  # more than the head that is looked at first


def scores(rows: int, seed: int = 0, spread: float = 2.0) -> torch.Tensor:
    return torch.randn(rows, VOCAB, generator=torch.Generator().manual_seed(seed)) * spread


def brute_force(p: list[float], top_k: int, top_p: float) -> set[int]:
    order = sorted(range(len(p)), key=lambda i: -p[i])
    order = order[:top_k] if top_k else order
    mass, kept, total = sum(p[i] for i in order), set(), 0.0
    for i in order:
        if total >= top_p * mass and top_p < 1.0:
            break
        kept.add(i)
        total += p[i]
    return kept


def draw(logits: torch.Tensor, seeds: list[int], position: int = 0, **settings) -> list[int]:
    sampler = Sampler(len(seeds), "cpu")
    values = {"temperature": 1.0, "top_p": 1.0, "top_k": 0} | settings
    for slot, seed in enumerate(seeds):
        sampler.put(slot, wish(seed=seed, **values))
    at = torch.full((len(seeds),), position)
    return sampler.sample(logits.expand(len(seeds), -1), 0, at, sampler.needs(0, len(seeds))).tolist()


@pytest.mark.parametrize("spread", [0.1, 2.0, 8.0])
def test_top_k_and_top_p_keep_what_a_plain_loop_keeps(spread):
    settings = [(k, p) for k in (0, 1, 5, 64, 65, 200, 300, 999) for p in (0.05, 0.5, 0.9, 0.999, 1.0)]
    rows = scores(len(settings), spread=spread).double()
    p = rows.softmax(-1)
    top_k, top_p = torch.tensor([k for k, _ in settings]), torch.tensor([q for _, q in settings], dtype=torch.float64)
    least = least_kept(rows, p, top_k, top_p, torch.full((len(settings),), torch.inf))
    for row, (k, q) in enumerate(settings):
        assert set((rows[row] >= least[row]).nonzero()[:, 0].tolist()) == brute_force(p[row].tolist(), k, q), (k, q)


@pytest.mark.parametrize("spread", [0.1, 2.0, 8.0])
def test_filters_keep_what_those_of_transformers_keep(spread):
    chance, rows = random.Random(0), scores(200, seed=7, spread=spread)
    for row in rows:
        heat, k = chance.choice([0.5, 1.0, 1.6]), chance.choice([0, 1, 20, 64, 65, 250])
        p, least_p = chance.choice([1.0, 0.95, 0.6, 0.1]), chance.choice([0.0, 0.02, 0.3, 1.0])
        want = TemperatureLogitsWarper(heat)(None, row[None])
        want = TopKLogitsWarper(k)(None, want) if k else want
        want = TopPLogitsWarper(p)(None, want) if p < 1 else want
        want = MinPLogitsWarper(least_p)(None, want) if least_p else want
        sampler = Sampler(1, "cpu")
        sampler.put(0, wish(heat, p, k, min_p=least_p))
        (_, top_p, drop), (top_k, _) = sampler._floats, sampler._ints
        least = least_kept(row[None], (row[None] / heat).softmax(-1), top_k, top_p, drop)
        assert torch.equal(row >= least, want[0] > -torch.inf), (heat, k, p, least_p)


def native_and_torch(slots: int) -> tuple[Sampler, Sampler]:
    native, plain = Sampler(slots, "cpu"), Sampler(slots, "cpu")
    plain._library = None
    return native, plain


@needs_compiler
@pytest.mark.parametrize("spread", [0.1, 2.0, 30.0])
def test_the_native_sampler_draws_and_scores_what_torch_does(spread):
    wishes = [(1.0, 1.0, 0), (0.0, 1.0, 0), (0.8, 0.9, 0), (1.5, 0.5, 20), (1.0, 1.0, 3), (0.3, 1.0, 0)]
    logits, samplers = scores(3000, seed=4, spread=spread), native_and_torch(3000)
    forced = torch.full((3000,), -1)
    forced[::7] = torch.arange(429) % VOCAB
    for slot in range(3000):
        for sampler in samplers:
            sampler.put(slot, wish(*wishes[slot % 6], seed=slot))
    at, needs = torch.arange(3000), samplers[0].needs(0, 3000)
    wide = torch.cat((logits, torch.full((3000, 20), torch.nan)), 1)[:, :VOCAB]  # rows that lie apart
    (tokens, logp), (want, want_logp) = (s.draw(wide, 0, at, needs, forced) for s in samplers)
    assert torch.equal(tokens, want)
    assert torch.allclose(logp, want_logp, atol=2e-6 * max(1.0, spread))
    assert torch.equal(tokens[::7], forced[::7])


def wild(slots: int, vocab: int, chance: random.Random) -> list[Request]:
    """Every mixture of settings."""
    temperature, top_p, top_k = (0, 0.3, 1, 1, 1.7), (1, 0.95, 0.5, 0.1, 0.9999), (0, 0, 1, 5, 40, 70, vocab, 2 * vocab)
    rest = [[chance.choice(x) for x in (temperature, top_p, top_k, (0, 0, 0.05, 0.5, 1.0))] for _ in range(slots)]
    return [wish(*three, min_p=p, seed=seed) for seed, (*three, p) in enumerate(rest)]


def changes(slots: int, vocab: int, chance: random.Random) -> Edits:
    """Penalties of some rows."""
    rows = []
    for _ in range(slots):
        ids = chance.sample(range(vocab), chance.choice([0, 0, 3, min(40, vocab // 2)]))
        scale = [chance.choice([1.0, 1.3]) for _ in ids]
        add = [chance.choice([0.0, -1.5, 2.0, BARRED]) for _ in ids]
        row = torch.tensor(ids, dtype=torch.int64), torch.tensor(scale), torch.tensor(add)
        rows.append(tuple(x.numpy() for x in row))
    edits = Edits.of(rows)
    assert edits is not None
    return edits


@needs_compiler
@pytest.mark.parametrize("vocab", [7, 300, 2085])
@pytest.mark.parametrize("step", [0.0, 0.25])  # 0.25: most scores have equals, also where a filter ends
@pytest.mark.parametrize("spread", [0.05, 2.0, 30.0])
def test_native_filters_penalties_and_masks_are_those_of_torch(spread, step, vocab):
    n, chance = 300, random.Random(vocab)
    logits = torch.randn(n, vocab, generator=torch.Generator().manual_seed(1)) * spread
    logits = (logits / step).round() * step if step else logits
    native, plain = native_and_torch(n)
    for slot, request in enumerate(wild(n, vocab, chance)):
        native.put(slot, request), plain.put(slot, request)
    mask = torch.tensor([[chance.randrange(-(2**31), 2**31) for _ in range(-(-vocab // 32))] for _ in range(n)])
    mask[::3] = -1
    mask[:, 0] |= 1 << 5  # something may always come
    at, needs, edits = torch.arange(n), native.needs(0, n), changes(n, vocab, chance)
    for rules in ((None, None), (edits, None), (None, mask.int()), (edits, mask.int())):
        (tokens, logp), (want, want_logp) = (s.draw(logits, 0, at, needs, None, 1, *rules) for s in (native, plain))
        # On flat rows a token more or less kept moves nearly every draw; rounding moves one in a million.
        assert (tokens != want).sum() <= 1
        same = tokens == want
        assert torch.allclose(logp[same], want_logp[same], atol=2e-6 * max(1.0, spread))
        if rules[1] is not None:
            assert all(mask[row, t // 32] >> t % 32 & 1 for row, t in enumerate(tokens.tolist()))


@needs_compiler
@pytest.mark.parametrize("top_k", [4, 5, 6])
def test_top_k_holds_where_just_as_many_tokens_are_far_above_the_rest(top_k):
    logits, best = torch.full((1, VOCAB), -8.5), set(range(10, 15))
    logits[0, 10:15] = 0.0
    for sampler in native_and_torch(3000):
        for seed in range(3000):
            sampler.put(seed, wish(top_k=top_k, seed=seed))
        at, needs = torch.zeros(3000, dtype=torch.int64), sampler.needs(0, 3000)
        drawn = set(sampler.draw(logits.expand(3000, -1), 0, at, needs)[0].tolist())
        assert drawn == best if top_k < 6 else drawn > best


@needs_compiler
def test_native_draws_follow_the_distribution_and_never_take_the_impossible():
    n, sampler = 20_000, Sampler(20_000, "cpu")
    for slot in range(n):
        sampler.put(slot, wish(seed=slot))
    logits = scores(1, seed=3)
    logits[0, ::5] = -torch.inf
    at, needs = torch.full((n,), 3), sampler.needs(0, n)
    tokens = sampler.draw(logits.repeat(n, 1), 0, at, needs)[0]
    assert (tokens % 5 != 0).all()
    statistic, freedom = chi_square(tokens.tolist(), logits[0].double().softmax(-1))
    z = ((statistic / freedom) ** (1 / 3) - 1 + 2 / (9 * freedom)) / math.sqrt(2 / (9 * freedom))
    assert abs(z) < 4, (statistic, freedom)


def chi_square(tokens: list[int], p: torch.Tensor) -> tuple[float, int]:
    """Statistic over tokens expected at least 5 times (the rest pooled), and its degrees of freedom."""
    counts = torch.bincount(torch.tensor(tokens), minlength=len(p)).double()
    expected = p.double() * len(tokens)
    big = expected >= 5
    rest = (~big).any() and expected[~big].sum() > 0
    observed = torch.cat((counts[big], counts[~big].sum()[None])) if rest else counts[big]
    wanted = torch.cat((expected[big], expected[~big].sum()[None])) if rest else expected[big]
    return float(((observed - wanted) ** 2 / wanted).sum()), len(wanted) - 1


def test_draws_stay_what_they_were():
    # of 2026: a change here changes every sampled answer, and with it every record that says how it was drawn
    logits = torch.linspace(-3, 3, VOCAB).sin()[None] * 2
    assert draw(logits, [0, 1, 2, 3], position=7) == [252, 236, 112, 288]
    for sampler in native_and_torch(4):
        for seed in range(4):
            sampler.put(seed, wish(seed=seed))
        tokens, _ = sampler.draw(logits.expand(4, -1), 0, torch.full((4,), 7), sampler.needs(0, 4))
        assert tokens.tolist() == [252, 236, 112, 288]


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.7}, {"top_p": 0.8}, {"top_k": 7, "temperature": 1.3}])
@pytest.mark.parametrize("across", ["seeds", "positions"])
def test_drawn_tokens_follow_the_distribution(settings, across):
    logits, n = scores(1, seed=3), 20_000
    if across == "seeds":
        tokens = draw(logits, list(range(n)), **settings)
    else:
        sampler = Sampler(n, "cpu")
        for slot in range(n):
            sampler.put(slot, wish(**settings, seed=5))
        at = torch.arange(n)
        tokens = sampler.sample(logits.expand(n, -1), 0, at, sampler.needs(0, n)).tolist()
    p = (logits[0].double() / settings.get("temperature", 1.0)).softmax(-1)
    kept = brute_force(p.tolist(), settings.get("top_k", 0), settings.get("top_p", 1.0))
    p = torch.tensor([float(x) if i in kept else 0.0 for i, x in enumerate(p)])
    assert set(tokens) <= kept
    statistic, freedom = chi_square(tokens, p / p.sum())
    # Wilson-Hilferty: a chi-square variable seldom lies 4 standard deviations above its mean
    z = ((statistic / freedom) ** (1 / 3) - 1 + 2 / (9 * freedom)) / math.sqrt(2 / (9 * freedom))
    assert abs(z) < 4, (statistic, freedom)


def test_uniform_numbers_are_spread_and_differ_by_seed_and_position():
    keys = torch.tensor([seed_key(s) for s in range(-200, 200)])
    u = uniform(keys[:, None], torch.arange(400)[None, :])
    assert u.min() >= 0 and u.max() < 1 and len(u.flatten().unique()) == u.numel()
    counts = torch.histc(u, 100, 0, 1)
    assert float(((counts - 1600) ** 2 / 1600).sum()) < 99 + 4 * math.sqrt(2 * 99)
    centred = u - 0.5
    for a, b in ((centred[1:], centred[:-1]), (centred[:, 1:], centred[:, :-1])):
        assert abs(float((a * b).mean()) * 12) < 4 / math.sqrt(a.numel())


def test_the_hash_is_splitmix64():
    # Reference: the published C code, seed 1234567, whose state after n draws is seed + n * golden
    want = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    u = uniform(torch.full((4,), 1234567), torch.arange(1, 5))
    assert [int(x * 2**53) for x in u.tolist()] == [w >> 11 for w in want]
    assert seed_key(1234567) % 2**64 == want[0]
    assert seed_key(-1) == seed_key(2**64 - 1) != seed_key(0)


def test_a_row_draws_the_same_beside_any_mates():
    logits = scores(6, seed=1)
    wishes = [(1.0, 1.0, 0), (0.0, 1.0, 0), (0.8, 0.9, 0), (1.5, 0.5, 20), (1.0, 1.0, 3), (0.0, 0.5, 2)]

    def run(rows: list[int]) -> list[int]:
        sampler = Sampler(8, "cpu")
        for slot, row in enumerate(rows, 1):
            sampler.put(slot, wish(*wishes[row], seed=row))
        at = torch.tensor([row + 10 for row in rows])
        needs = sampler.needs(1, 1 + len(rows))
        return sampler.sample(logits[rows], 1, at, needs).tolist()

    together = run([0, 1, 2, 3, 4, 5])
    assert [run([row])[0] for row in range(6)] == together
    assert run([5, 4, 3, 2, 1, 0]) == together[::-1]


def test_temperature_0_takes_the_best_token_and_needs_say_so():
    logits = scores(1, seed=2)
    sampler = Sampler(2, "cpu")
    sampler.put(0, wish(0.0, 0.5, 3, seed=1))
    sampler.put(1, wish(seed=1))
    assert sampler.needs(0, 1) == Needs(greedy=True, drawn=False, filters=False)
    assert sampler.needs(0, 2) == Needs(greedy=True, drawn=True, filters=False)
    assert draw(logits, [1, 2, 3], temperature=0.0) == [int(logits.argmax())] * 3
    assert draw(logits, list(range(50)), temperature=1e-3) == [int(logits.argmax())] * 50


def test_logprobs_are_of_the_raw_scores():
    logits, tokens = scores(4), torch.tensor([3, 1, 4, 1])
    want = logits.log_softmax(-1)[torch.arange(4), tokens]
    assert torch.allclose(logprobs(logits, tokens), want, atol=1e-6)


def test_impossible_tokens_are_never_drawn():
    logits = torch.full((1, VOCAB), -torch.inf)
    logits[0, [0, 150, VOCAB - 1]] = 0.0
    logits[0, 0] = -60.0  # possible, hardly likely
    assert set(draw(logits, list(range(2000)))) == {150, VOCAB - 1}
    golden = 0x9E3779B97F4A7C15
    assert uniform(torch.tensor([seed_key(-golden)]), torch.tensor([0])).tolist() == [0.0]
    logits[0, 0] = -torch.inf
    assert draw(logits, [-golden]) == [150]  # u = 0 is the first possible token, not the first token
