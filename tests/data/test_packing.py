import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dokja.data.packing import pack
from dokja.data.shuffle import permutation, random_bits

DOCUMENTS = st.lists(st.integers(0, 70), max_size=300)


def trained(rows):
    """Every (document, position of a target) of an epoch."""
    pieces = zip(rows.doc.tolist(), rows.start.tolist(), rows.length.tolist(), strict=True)
    return [(doc, start + 1 + i) for doc, start, length in pieces for i in range(length)]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(DOCUMENTS, st.integers(1, 40), st.integers(0, 5), st.integers(0, 5))
def test_every_target_is_trained_exactly_once_an_epoch(lengths, seq_len, seed, epoch):
    rows = pack(np.array(lengths, dtype=np.int64), seq_len, seed, epoch)
    assert sorted(trained(rows)) == [(doc, i) for doc, n in enumerate(lengths) for i in range(1, n)]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(DOCUMENTS, st.integers(1, 40))
def test_rows_are_never_empty_nor_overfull(lengths, seq_len):
    rows = pack(np.array(lengths, dtype=np.int64), seq_len, 0, 0)
    sizes = np.add.reduceat(rows.length, rows.row_offsets[:-1]) if len(rows) else np.zeros(0)
    assert (sizes <= seq_len).all() and (rows.length > 0).all()
    assert (np.diff(rows.row_offsets) > 0).all() and rows.row_offsets[-1] == len(rows.doc)


def test_documents_are_cut_only_where_they_do_not_fit():
    rows = pack(np.array([10, 33, 34, 65, 66]), 32, 0, 0)
    pieces = [sorted(rows.length[rows.doc == doc].tolist()) for doc in range(5)]
    assert pieces == [[9], [32], [1, 32], [32, 32], [1, 32, 32]]


def test_epochs_and_seeds_differ_and_repeat():
    lengths = np.arange(2, 200)
    first = pack(lengths, 64, 0, 0)
    assert np.array_equal(first.doc, pack(lengths, 64, 0, 0).doc)
    assert not np.array_equal(first.doc, pack(lengths, 64, 0, 1).doc)
    assert not np.array_equal(first.doc, pack(lengths, 64, 1, 0).doc)


@pytest.mark.parametrize(
    ("name", "seq_len"), [("short", 256), ("short", 512), ("long", 512), ("uniform", 512), ("long", 8192)]
)
def test_rows_are_filled_to_95_percent(name, seq_len):
    draw = np.random.default_rng(0)
    lengths = {
        "short": 2 + draw.geometric(1 / 60, 20_000),
        "long": 2 + draw.lognormal(6.0, 1.2, 20_000).astype(np.int64),
        "uniform": draw.integers(2, 513, 20_000),
    }[name]
    assert pack(lengths, seq_len, 0, 0).fill > 0.98


def test_packing_costs_a_few_microseconds_per_document():
    lengths = 2 + np.random.default_rng(0).geometric(1 / 60, 100_000)
    begin = time.process_time()
    pack(lengths, 512, 0, 0)
    assert time.process_time() - begin < 1.5  # 0.1 s when idle


def test_permutation_is_one_and_is_fixed_for_ever():
    assert sorted(permutation(1000, "x", 1).tolist()) == list(range(1000))
    assert np.array_equal(random_bits(10, "x", 1), random_bits(20, "x", 1)[:10])
    assert permutation(8, "pieces", 0, 0).tolist() == [4, 5, 2, 3, 7, 6, 0, 1]  # runs are replayed years later


def test_permutation_favours_no_place():
    firsts = np.bincount([int(permutation(5, "x", seed)[0]) for seed in range(2000)], minlength=5)
    assert (abs(firsts - 400) < 90).all()  # five standard deviations
