import math

import pytest

from dokja.judge.efficiency import (
    active_share,
    goodput,
    mfu,
    sample_efficiency,
    scaling_efficiency,
    score_per_log_flop,
    size_ratio,
)


def test_shares_of_parameters():
    assert f"{100 * active_share(23e9, 236e9):.1f}" == "9.7" and size_ratio(1, 4) == 0.25
    with pytest.raises(ValueError, match="cannot be active"):
        active_share(2, 1)
    with pytest.raises(ValueError, match="divided"):
        size_ratio(1, 0)


def test_score_per_log_flop_of_a_published_model():
    """EXAONE Deep 32B: MATH-500 95.7 for 1.26e24 FLOPs, log10 = 24.100."""
    assert score_per_log_flop(95.7, 1.26e24) == pytest.approx(95.7 / 24.10037, rel=1e-5)
    with pytest.raises(ValueError, match="no training"):
        score_per_log_flop(90, 1)


def test_goodput_leaves_out_what_was_lost():
    steps = [2.0] * 45
    assert goodput(steps, 100) == 0.9
    with pytest.raises(ValueError, match="do not fit"):
        goodput(steps, 80)


def test_scaling_efficiency_is_one_where_devices_add_up():
    assert scaling_efficiency(800, 8, 100) == 1.0 and scaling_efficiency(600, 8, 100) == 0.75


def test_mfu_is_palms_table():
    """PaLM 540B (arXiv 2204.02311, table 3 and appendix B): 238.3 K tokens/s on 6144 chips of 275 TFLOP/s, 46.2 %."""
    layers, heads, head, length = 118, 48, 256, 2048
    attention = 12 * layers * heads * head * length
    assert mfu(540.35e9, 238_300, 6144 * 275e12, attention) == pytest.approx(0.462, abs=0.001)
    assert mfu(540.35e9, 238_300, 6144 * 275e12) == pytest.approx(0.457, abs=0.001)


def test_sample_efficiency_compares_tokens_to_a_loss():
    reference = [(1e6, 4.0), (1e7, 3.0), (1e8, 2.0)]
    ours = [(tokens / 2, loss) for tokens, loss in reference]
    for loss in (4.5, 3.7, 3.0, 2.2, 2.0):
        assert sample_efficiency(ours, reference, loss) == pytest.approx(2.0)
    assert sample_efficiency(reference, reference, 2.5) == 1.0
    with pytest.raises(ValueError, match="the reference never"):
        sample_efficiency([(1e6, 1.0)], reference, 1.0)


def test_tokens_to_a_loss_lie_on_a_line_over_log_tokens():
    curve = [(10.0**n, 10.0 - n) for n in range(1, 6)]
    assert sample_efficiency([(1.0, 7.5)], curve, 7.5) == pytest.approx(math.exp(2.5 * math.log(10)))
