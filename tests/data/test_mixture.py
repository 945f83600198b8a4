import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dokja.data.mixture import BLOCK, Mixture
from dokja.errors import ConfigError

WEIGHTS = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=12)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(WEIGHTS, st.integers(0, 9))
def test_each_source_deals_its_rows_in_order_without_gaps(weights, seed):
    source, index = Mixture(weights, seed).locate(np.arange(3 * BLOCK))
    for n in range(len(weights)):
        dealt = index[source == n]
        assert sorted(dealt.tolist()) == list(range(len(dealt))) and len(dealt) >= 3


@settings(max_examples=50, deadline=None, derandomize=True)
@given(WEIGHTS, st.lists(st.integers(0, 10**12), min_size=1, max_size=20))
def test_a_row_is_located_without_those_before_it(weights, rows):
    mixture = Mixture(weights, 0)
    together = mixture.locate(np.array(rows))
    alone = [Mixture(weights, 0).locate(np.array([row])) for row in rows]
    assert together[0].tolist() == [int(source[0]) for source, _ in alone]
    assert together[1].tolist() == [int(index[0]) for _, index in alone]


def test_any_stretch_of_rows_is_close_to_the_weights():
    source, _ = Mixture([6, 3, 1], seed=3).locate(np.arange(BLOCK))
    for first in range(0, 4000, 100):
        share = np.bincount(source[first : first + 100], minlength=3) / 100
        assert abs(share - [0.6, 0.3, 0.1]).max() <= 0.03


def test_only_ratios_of_weights_matter_and_small_sources_are_not_forgotten():
    rows = np.arange(2 * BLOCK)
    assert np.array_equal(Mixture([1, 2], 0).locate(rows)[0], Mixture([10, 20], 0).locate(rows)[0])
    assert Mixture([1.0, 1e-9], 0).per_block.tolist() == [BLOCK - 1, 1]


def test_blocks_and_seeds_are_dealt_differently():
    rows = np.arange(BLOCK)
    first = Mixture([1, 1], 0).locate(rows)[0]
    assert not np.array_equal(first, Mixture([1, 1], 0).locate(rows + BLOCK)[0])
    assert not np.array_equal(first, Mixture([1, 1], 1).locate(rows)[0])


@pytest.mark.parametrize("weights", [[], [1.0, 0.0], [-1.0], [float("nan")], [float("inf")]])
def test_weights_that_mean_nothing_are_refused(weights):
    with pytest.raises(ConfigError):
        Mixture(weights, 0)
