import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dokja.data.batch import IGNORE, sweep
from dokja.data.loader import Loader
from dokja.data.shards import ShardSet, ShardWriter
from dokja.errors import ConfigError, DataError

VOCAB = 50_000


def make(path, lengths, first=0, flags=None, tokens_per_file=100):
    """Documents whose tokens count upwards over the whole set, so that a token tells where it comes from."""
    with ShardWriter(path, VOCAB, tokens_per_file=tokens_per_file) as writer:
        for n in lengths:
            ids = list(range(first, first + n))
            writer.add(ids, None if flags is None else [flags(token) for token in ids])
            first += n
    return ShardSet.open(path)


def same(a, b):
    arrays = zip((a.tokens_BL, a.targets_BL, a.docs_BL), (b.tokens_BL, b.targets_BL, b.docs_BL), strict=True)
    return all(np.array_equal(x, y) for x, y in arrays) and (a.tokens, a.targets) == (b.tokens, b.targets)


@pytest.fixture
def shards(tmp_path):
    return make(tmp_path / "s", [2, 30, 1, 7, 0, 100, 12, 55, 3] * 5)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 60), min_size=1, max_size=60), st.integers(1, 32), st.integers(1, 5))
def test_a_sweep_trains_every_target_exactly_once(tmp_path_factory, lengths, seq_len, rows):
    shards = make(tmp_path_factory.mktemp("s"), lengths)
    ends = np.cumsum([0, *lengths])
    wanted = [token for a, b in pairwise(ends) for token in range(a + 1, b)]
    batches = list(sweep(shards, seq_len, rows))
    seen = np.concatenate([batch.targets_BL[batch.targets_BL != IGNORE] for batch in batches] or [np.zeros(0)])
    assert sorted(seen.tolist()) == wanted
    assert sum(batch.targets for batch in batches) == len(wanted)
    assert all(batch.tokens_BL.shape == (rows, seq_len) for batch in batches)


def test_an_epoch_of_the_loader_trains_every_target_exactly_once(shards):
    loader = Loader([(shards, 1.0)], 32, 1, seed=5)
    steps = loader.rows_in_epoch(0, 0)
    first = np.concatenate([loader.batch(step).targets_BL.ravel() for step in range(steps)])
    second_epoch = range(steps, steps + loader.rows_in_epoch(0, 1))
    second = np.concatenate([loader.batch(step).targets_BL.ravel() for step in second_epoch])
    wanted = np.concatenate([shards.document(n)[1:] for n in range(shards.documents)])
    for epoch in (first, second):
        assert sorted(epoch[epoch != IGNORE].tolist()) == wanted.tolist()
    assert not np.array_equal(first, second[: len(first)])


def test_targets_are_next_tokens_inside_the_same_document(tmp_path):
    shards = make(tmp_path / "s", [20, 30, 140, 30] * 9)  # leaves gaps in rows of 48
    of_token = np.repeat(np.arange(shards.documents), shards.lengths)
    batch = Loader([(shards, 1.0)], 48, 8).batch(0)
    real = batch.docs_BL > 0
    assert (batch.targets_BL[real] == batch.tokens_BL[real] + 1).all()
    assert (of_token[batch.targets_BL[real]] == of_token[batch.tokens_BL[real]]).all()
    assert (batch.targets_BL[~real] == IGNORE).all() and (batch.tokens_BL[~real] == 0).all()
    assert (~real).any() and batch.tokens == batch.targets == real.sum()


def test_document_numbers_count_from_one_and_change_with_the_document(shards):
    of_token = np.repeat(np.arange(shards.documents), shards.lengths)
    for tokens, docs in zip(
        *(lambda b: (b.tokens_BL, b.docs_BL))(Loader([(shards, 1.0)], 64, 6).batch(1)), strict=True
    ):
        used = docs[docs > 0]
        assert used[0] == 1 and set(np.diff(used)) <= {0, 1} and (docs[len(used) :] == 0).all()
        assert np.array_equal(np.diff(used) > 0, np.diff(of_token[tokens[: len(used)]]) != 0)


def test_targets_without_the_loss_flag_are_ignored(tmp_path):
    flagged = make(tmp_path / "f", [9, 40, 5] * 4, flags=lambda token: token % 3 == 0)
    batch = Loader([(flagged, 1.0)], 16, 6).batch(0)
    real = batch.docs_BL > 0
    learnt = batch.targets_BL != IGNORE
    assert np.array_equal(learnt, real & ((batch.tokens_BL + 1) % 3 == 0))
    assert (batch.targets_BL[learnt] == batch.tokens_BL[learnt] + 1).all()
    assert 0 < batch.targets == learnt.sum() < batch.tokens


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 300), st.sampled_from([1, 2, 3, 4, 6, 12]), st.integers(0, 3))
def test_parts_of_all_processes_make_the_batch_of_one(tmp_path_factory, step, world, seed):
    folder = tmp_path_factory.mktemp("w")
    sources = [(make(folder / "a", [5, 17, 64] * 9), 2.0), (make(folder / "b", [33] * 9, 5000), 1.0)]
    whole = Loader(sources, 24, 12, seed).batch(step)
    parts = [Loader(sources, 24, 12, seed).batch(step, rank, world) for rank in range(world)]
    for name in ("tokens_BL", "targets_BL", "docs_BL"):
        assert np.array_equal(np.concatenate([getattr(part, name) for part in parts]), getattr(whole, name))
    assert sum(part.tokens for part in parts) == whole.tokens
    assert np.array_equal(np.sum([part.sources for part in parts], axis=0), whole.sources)


def test_a_batch_depends_on_seed_and_step_alone(shards):
    straight = Loader([(shards, 1.0)], 32, 4, seed=1)
    batches = [straight.batch(step) for step in range(60)]  # several epochs
    for step in (59, 0, 31, 7):
        assert same(Loader([(shards, 1.0)], 32, 4, seed=1).batch(step), batches[step])
        assert same(straight.batch(step), batches[step])
    assert not same(Loader([(shards, 1.0)], 32, 4, seed=2).batch(0), batches[0])


def test_rows_come_from_the_source_they_are_counted_for(tmp_path):
    low, high = make(tmp_path / "a", [20] * 30), make(tmp_path / "b", [20] * 30, first=10_000)
    loader = Loader([(low, 3.0), (high, 1.0)], 40, 100, seed=0)
    batch = loader.batch(2)
    from_high = (batch.tokens_BL[:, 0] >= 10_000).sum()
    assert batch.sources == (100 - from_high, from_high) and 22 <= from_high <= 28


def test_fingerprint_changes_with_all_that_changes_a_batch_and_not_with_the_place(tmp_path):
    data = make(tmp_path / "a", [20] * 9)
    base = Loader([(data, 1.0)], 16, 4, 0).fingerprint()
    assert base == Loader([(make(tmp_path / "moved", [20] * 9), 1.0)], 16, 4, 0).fingerprint()
    others = [
        Loader([(make(tmp_path / "b", [20] * 8 + [19]), 1.0)], 16, 4, 0),
        Loader([(data, 1.0), (data, 1.0)], 16, 4, 0),
        Loader([(data, 2.0), (data, 1.0)], 16, 4, 0),
        Loader([(data, 1.0)], 17, 4, 0),
        Loader([(data, 1.0)], 16, 5, 0),
        Loader([(data, 1.0)], 16, 4, 1),
    ]
    assert len({base, *(loader.fingerprint() for loader in others)}) == 7


def test_what_cannot_be_loaded_is_refused(tmp_path, shards):
    with pytest.raises(DataError, match="no document of two tokens"):
        Loader([(make(tmp_path / "e", [1, 0, 1]), 1.0)], 8, 4)
    with pytest.raises(ConfigError, match="processes"):
        Loader([(shards, 1.0)], 8, 4).batch(0, rank=0, world=3)


def test_prefetched_batches_equal_those_of_the_loader(shards):
    loader = Loader([(shards, 1.0)], 32, 4, seed=1)
    with Loader([(shards, 1.0)], 32, 4, seed=1).open(3, rank=1, world=2) as ahead:
        for step in range(3, 40):
            assert same(next(ahead), loader.batch(step, 1, 2))
    assert not ahead._thread.is_alive()
    with pytest.raises(StopIteration):
        next(ahead)


def test_an_error_in_the_thread_reaches_the_trainer(shards):
    ahead = Loader([(shards, 1.0)], 32, 4).open(0, world=3)
    with pytest.raises(ConfigError, match="processes"):
        next(ahead)


def test_loading_keeps_far_ahead_of_training(tmp_path):
    lengths = 2 + np.random.default_rng(0).geometric(1 / 60, 5000)
    with ShardWriter(tmp_path, VOCAB) as writer:
        for n in lengths:
            writer.add(np.arange(n))
    loader = Loader([(ShardSet.open(tmp_path), 1.0)], 256, 64)
    loader.batch(0)
    begin = time.process_time()
    tokens = sum(loader.batch(step).tokens for step in range(20))
    assert tokens / (time.process_time() - begin) > 2e6  # 20e6 when idle
