"""Rollouts: forced thoughts are known as such, the same place draws the same answer, and storing loses nothing."""

from types import SimpleNamespace

import pytest
import torch

from dokja.engine.engine import Engine
from dokja.errors import DataError
from dokja.model.decoder import Decoder
from dokja.model.spec import ModelSpec
from dokja.tasks.registry import TASKS
from dokja.text.chat import THINK_END
from dokja.text.tokenizer import train_tokenizer
from dokja.train.rollouts.record import read_rollouts, write_rollouts
from dokja.train.rollouts.rewards import violations
from dokja.train.rollouts.sampling import repeats, sample, statistics
from dokja.train.rollouts.source import trained

TOKENIZER = train_tokenizer(["1이 몇 개인가요? count the ones"] * 4, vocab=300)
CLOSE = TOKENIZER.special_id(THINK_END)
SETTINGS = SimpleNamespace(temperature=1.0, max_tokens=12, budget=5)


@pytest.fixture(scope="module")
def engine() -> Engine:
    shape = dict(width=32, layers=2, heads=2, kv_heads=1, head_dim=16, ffn=48, context=96, window=16)
    model = Decoder(ModelSpec(vocab=TOKENIZER.vocab_size, **shape)).init_weights(0)
    with torch.no_grad():
        model.head.normal_(0, 0.3, generator=torch.Generator().manual_seed(1))
    return Engine(model, slots=16)


def rounds(engine, **how):
    asked = [(TASKS["bits"].problem(n, 1, language), mode)
             for n, language in enumerate(("ko", "en")) for mode in ("think", "direct")]  # fmt: skip
    return sample(engine, TOKENIZER, asked, 4, SETTINGS, seed=7, **how)


def test_a_thought_closed_by_force_is_marked_and_its_closing_is_not_learned(engine):
    forced = [r for group in rounds(engine) for r in group if r.forced]
    assert forced, "random weights seldom close a thought in five tokens"
    for r in forced:
        assert r.mode == "think" and r.tokens[r.forced_at] == CLOSE and r.forced_at == SETTINGS.budget
        assert "forced" in violations(r)
        assert list(trained(r).forced) == [SETTINGS.budget]
    assert statistics(forced)["forced"] == 1.0


def test_an_answer_depends_on_its_place_alone(engine):
    first, again = rounds(engine, step=3), rounds(engine, step=3)
    assert first == again
    assert [r.tokens for g in rounds(engine, step=4) for r in g] != [r.tokens for g in first for r in g]
    assert len({tuple(r.tokens) for r in first[0]}) == 4


def test_storing_is_exact_and_makes_the_same_bytes(engine, tmp_path):
    rollouts = [r for group in rounds(engine) for r in group]
    rollouts[0].answer = "line\u2028separator\x85 and \n more"
    write_rollouts(tmp_path / "a.jsonl.zst", rollouts)
    write_rollouts(tmp_path / "b.jsonl.zst", rollouts)
    assert (tmp_path / "a.jsonl.zst").read_bytes() == (tmp_path / "b.jsonl.zst").read_bytes()
    back = list(read_rollouts(tmp_path / "a.jsonl.zst"))
    assert [torch.tensor(r.logprobs).tolist() for r in back] == [torch.tensor(r.logprobs).tolist() for r in rollouts]
    for was, now in zip(rollouts, back, strict=True):
        now.logprobs = was.logprobs
        assert now == was


def test_a_cut_file_of_rollouts_is_named(engine, tmp_path):
    path = tmp_path / "a.jsonl.zst"
    write_rollouts(path, [r for group in rounds(engine) for r in group])
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"a\.jsonl\.zst"):
        list(read_rollouts(path))


def test_only_a_loop_at_the_end_counts_as_repetition():
    assert repeats([1, 2, 3] + [7] * 14)
    assert repeats([5] + [1, 2, 3] * 5)
    assert not repeats([1, 2, 3] * 3 + list(range(20)))
    assert not repeats(list(range(60)))
