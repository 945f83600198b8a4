"""Sampled answers in rows: nothing lost, nothing learned that the policy did not choose."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dokja.errors import DataError
from dokja.train.rollouts.layout import Sampled, lay_out

SEQ, ROWS = 24, 2
lengths = st.lists(st.tuples(st.integers(1, 10), st.integers(1, 14)), min_size=1, max_size=20)


def made(sizes, first=5):
    """Sequences whose every token is another number, with the logprob -token / 1000."""
    out, token = [], first
    for prompt, answer in sizes:
        ids = range(token, token + prompt + answer)
        token += prompt + answer
        out.append(Sampled(list(ids[:prompt]), list(ids[prompt:]), [-t / 1000 for t in ids[prompt:]]))
    return out


@settings(max_examples=60, deadline=None)
@given(lengths)
def test_every_answer_token_is_a_target_once_with_its_own_logprob_and_sequence(sizes):
    sequences = made(sizes)
    batch = lay_out(sequences, SEQ, ROWS)
    at = batch.targets_BL >= 0
    found = sorted(zip(batch.targets_BL[at].tolist(), batch.sequence_BL[at].tolist(), strict=True))
    assert found == sorted((t, i) for i, s in enumerate(sequences) for t in s.tokens)
    np.testing.assert_array_equal(batch.old_BL[at], (-batch.targets_BL[at] / 1000).astype(np.float32))
    assert (batch.sequence_BL[~at] == -1).all() and (batch.old_BL[~at] == 0).all()
    assert batch.targets == at.sum() and len(batch.tokens_BL) % ROWS == 0


@settings(max_examples=60, deadline=None)
@given(lengths)
def test_a_target_follows_its_input_within_its_own_document(sizes):
    batch = lay_out(made(sizes), SEQ, ROWS)
    rows, slots = np.nonzero(batch.targets_BL >= 0)
    assert (batch.tokens_BL[rows, slots] + 1 == batch.targets_BL[rows, slots]).all()  # ids count up within a sequence
    for row in range(len(batch.docs_BL)):
        for doc in set(batch.docs_BL[row]) - {0}:
            ids = batch.tokens_BL[row][batch.docs_BL[row] == doc]
            assert (np.diff(ids) == 1).all()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 10)), min_size=2, max_size=24))
def test_a_pair_never_spans_two_micro_batches(sizes):
    sequences = made(sizes[: len(sizes) // 2 * 2])
    pairs = [[i, i + 1] for i in range(0, len(sequences), 2)]
    batch = lay_out(sequences, SEQ, ROWS, pairs)
    micro = {i: set() for i in range(len(sequences))}
    for row, ids in enumerate(batch.sequence_BL):
        for i in set(ids.tolist()) - {-1}:
            micro[i].add(row // ROWS)
    assert all(micro[a] == micro[b] and len(micro[a]) == 1 for a, b in pairs)


def test_a_token_written_by_force_is_read_but_never_learned():
    forced = Sampled([1, 2], [3, 4, 5, 6], [-1.0, -2.0, -3.0, -4.0], range(2, 3))
    batch = lay_out([forced], SEQ, ROWS)
    row = int(np.flatnonzero((batch.docs_BL > 0).any(1))[0])
    assert batch.tokens_BL[row, :5].tolist() == [1, 2, 3, 4, 5]
    assert batch.targets_BL[row, :6].tolist() == [-100, 3, 4, -100, 6, -100]
    assert batch.targets == 3


def test_what_cannot_fit_is_refused_with_a_sentence():
    with pytest.raises(DataError, match="Raise seq_len"):
        lay_out(made([(20, 10)]), SEQ, ROWS)
    with pytest.raises(DataError, match="do not fit"):
        lay_out(made([(10, 14)] * 3), SEQ, ROWS, [[0, 1, 2]])


def test_a_round_without_groups_is_a_batch_without_targets():
    batch = lay_out([], SEQ, ROWS)
    assert batch.targets == 0 and batch.sequences == 0 and batch.tokens_BL.shape == (ROWS, SEQ)
