import math
import random
from collections import Counter, defaultdict

import numpy as np
import pytest

from dokja.judge import baselines
from dokja.judge.baselines import START, ByteNgram, xz_bits_per_byte

KOREAN = "세종대왕은 훈민정음을 만들었다. 훈민정음은 백성을 가르치는 바른 소리라는 뜻이다. "
ENGLISH = "the quick brown fox jumps over the lazy dog, and the dog does not mind. "
TEXTS = [(KOREAN * 3).encode(), ENGLISH.encode(), b"", "fox와 dog".encode(), b"x", (ENGLISH * 2).encode()]


class Naive:
    """Interpolated Kneser-Ney as the formula reads, with dictionaries."""

    def __init__(self, documents, order):
        self.order = order
        grams = Counter()
        for document in documents:
            symbols = [START] * (order - 1) + list(document)
            grams.update(tuple(symbols[i : i + order]) for i in range(len(document)))
        self.levels = [grams]
        while len(self.levels) < order:
            self.levels.append(Counter(gram[1:] for gram in self.levels[-1]))  # kinds of symbols before the rest
        self.discounts = []
        self.after = []
        for level in self.levels:
            n1, n2 = (sum(c == n for c in level.values()) for n in (1, 2))
            self.discounts.append(n1 / (n1 + 2 * n2) if n1 else 0.5)
            after = defaultdict(dict)
            for gram, c in level.items():
                after[gram[:-1]][gram[-1]] = c
            self.after.append(after)

    def p(self, context, byte, level=0):
        if level == self.order:
            return 1 / 256
        shorter = self.p(context[1:], byte, level + 1)
        seen = self.after[level].get(context)
        if not seen:
            return shorter
        d = self.discounts[level]
        return (max(seen.get(byte, 0) - d, 0) + d * len(seen) * shorter) / sum(seen.values())

    def bits(self, documents):
        total = 0.0
        for document in documents:
            symbols = [START] * (self.order - 1) + list(document)
            for i, byte in enumerate(document):
                total -= math.log2(self.p(tuple(symbols[i : i + self.order - 1]), byte))
        return total


@pytest.mark.parametrize("order", [1, 2, 5, 7])
def test_equals_the_formula_written_with_dictionaries(order):
    model, naive = ByteNgram.train(TEXTS, order), Naive(TEXTS, order)
    unseen = ["훈민정음이 좋다".encode(), b"the dog jumps \x00\xff", b"", b"q"]
    assert model.bits(unseen) == pytest.approx(naive.bits(unseen), rel=1e-12)
    assert model.bits(TEXTS) == pytest.approx(naive.bits(TEXTS), rel=1e-12)


@pytest.mark.parametrize("order", [1, 3, 5])
def test_probabilities_of_all_next_bytes_sum_to_one(order):
    model, rng = ByteNgram.train(TEXTS, order), random.Random(0)
    contexts = [b"", b"t", KOREAN.encode()[:7], *(rng.randbytes(rng.randrange(6)) for _ in range(30))]
    contexts += [text[: rng.randrange(len(text))] for text in TEXTS if len(text) > 1]
    for context in contexts:
        p = model.probabilities(context)
        assert p.shape == (256,) and (p > 0).all()
        assert p.sum() == pytest.approx(1.0, abs=1e-12)


def test_probabilities_are_those_that_the_bits_come_from():
    model, text = ByteNgram.train(TEXTS), "dog가 fox를".encode()
    expected = -sum(math.log2(model.probabilities(text[:i])[byte]) for i, byte in enumerate(text))
    assert model.bits([text]) == pytest.approx(expected, rel=1e-12)
    assert model.bits_per_byte(text) == pytest.approx(expected / len(text), rel=1e-12)


def test_blocks_leave_no_trace(monkeypatch):
    whole = ByteNgram.train(TEXTS)
    expected = whole.bits(TEXTS)
    monkeypatch.setattr(baselines, "BLOCK", 7)  # documents are cut, and several fall into one block
    pieces = ByteNgram.train(TEXTS)
    assert pieces.training_bytes == whole.training_bytes == sum(map(len, TEXTS))
    for a, b in zip(whole._levels, pieces._levels, strict=True):
        assert np.array_equal(a.keys, b.keys) and np.array_equal(a.counts, b.counts)
    assert pieces.bits(TEXTS) == pytest.approx(expected, rel=1e-12)


def test_documents_do_not_see_each_other():
    model = ByteNgram.train([b"ab", b"ab", b"cd"])
    assert model.bits([b"ab", b"cd"]) == pytest.approx(model.bits([b"ab"]) + model.bits([b"cd"]), rel=1e-12)
    joined = ByteNgram.train([b"ababcd"])
    assert joined.probabilities(b"ab")[ord("c")] > model.probabilities(b"ab")[ord("c")]


def test_random_bytes_cost_eight_bits_and_what_false_hopes_cost():
    rng = random.Random(1)
    model = ByteNgram.train(rng.randbytes(2000) for _ in range(100))
    assert 8.0 <= model.bits_per_byte(rng.randbytes(20_000)) < 8.5
    assert xz_bits_per_byte(rng.randbytes(20_000)) == pytest.approx(8.0, abs=0.1)


def test_untrained_it_knows_nothing():
    assert ByteNgram.train([]).bits_per_byte(b"abc") == pytest.approx(8.0)


def test_hangul_counts_its_bytes():
    text = KOREAN * 50
    data = text.encode()
    assert len(data) > 2 * len(text)
    model = ByteNgram.train([data])
    assert model.bits_per_byte(data) == pytest.approx(model.bits([data]) / len(data), rel=1e-12)
    assert xz_bits_per_byte(data) * len(data) % 8 == pytest.approx(0.0, abs=1e-6)


def test_known_text_is_cheaper_than_other_text():
    model = ByteNgram.train([(ENGLISH * 20).encode()])
    assert model.bits_per_byte(ENGLISH.encode()) < 1.0 < 6.0 < model.bits_per_byte(KOREAN.encode())
    assert xz_bits_per_byte((ENGLISH * 100).encode()) < 0.5
    assert xz_bits_per_byte(b"") == 0.0


def test_orders_that_fit_no_key_are_refused():
    for order in (0, 8):
        with pytest.raises(ValueError, match="order"):
            ByteNgram.train([b"a"], order)
