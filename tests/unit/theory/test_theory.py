import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specpress.theory.expected import expected_speedup, expected_tokens
from specpress.theory.roofline import MachineRates, ModelShape, roofline_step_ms


@given(st.floats(0, 0.999), st.integers(0, 30))
def test_expected_tokens_is_the_papers_formula(a, gamma):
    assert expected_tokens(a, gamma) == pytest.approx((1 - a ** (gamma + 1)) / (1 - a))


def test_all_accepted_is_the_limit():
    assert expected_tokens(1.0, 4) == 5


@pytest.mark.parametrize(("acceptance", "best"), [(0.5, 2), (0.7, 4), (0.9, 10)])
def test_best_gamma_at_a_draft_cost_of_a_tenth(acceptance, best):
    assert max(range(1, 30), key=lambda gamma: expected_speedup(acceptance, gamma, 0.1)) == best


def test_no_draft_is_the_baseline():
    assert expected_speedup(0.3, 0, 0.1) == 1


def test_an_impossible_acceptance_is_refused():
    with pytest.raises(ValueError, match="acceptance must lie in"):
        expected_tokens(1.2, 3)


PYTHIA = ModelShape(weight_bytes=5.55e9, kv_bytes_per_token=320 * 1024, flops_per_token=5.55e9)
BANDWIDTH = MachineRates(weight_gb_s={1: 900.0}, kv_gb_s={1: 900.0})  # memory alone, the same for weights and cache


def test_a_step_reads_the_weights_once_and_every_cache():
    model = ModelShape(weight_bytes=2e9, kv_bytes_per_token=1e5, flops_per_token=2e9)
    machine = MachineRates({1: 20.0}, {1: 10.0}, gflops=math.inf, step_overhead_ms=3.0)
    assert roofline_step_ms(model, machine, slots=1000) == pytest.approx(3 + 100 + 10)
    assert roofline_step_ms(model, machine, slots=1000, batch=4) == pytest.approx(3 + 100 + 40)


def test_arithmetic_counts_where_it_takes_longer_than_the_weights():
    model = ModelShape(weight_bytes=2e9, kv_bytes_per_token=0, flops_per_token=2e9)
    machine = MachineRates({1: 20.0}, {1: 10.0}, gflops=100.0)
    assert roofline_step_ms(model, machine, slots=0, batch=5) == pytest.approx(100)
    assert roofline_step_ms(model, machine, slots=0, batch=2, queries=4) == pytest.approx(160)


def test_rates_are_interpolated_in_time_a_byte_and_constant_outside():
    model = ModelShape(weight_bytes=1e9, kv_bytes_per_token=1e6, flops_per_token=0)
    machine = MachineRates({1: 20.0, 5: 10.0}, {1: 20.0, 3: 10.0})
    times = [roofline_step_ms(model, machine, slots=0, batch=rows) for rows in (1, 3, 5, 50)]
    assert times == pytest.approx([50, 75, 100, 100])
    assert roofline_step_ms(model, machine, slots=100, queries=2) == pytest.approx(62.5 + 7.5)


def gain_of_a_press(context, batch=1):
    """Step on the full cache over one on the 30% that the original study's press leaves."""
    full, kept = (roofline_step_ms(PYTHIA, BANDWIDTH, slots=share * context, batch=batch) for share in (1, 0.3))
    return full / kept


@pytest.mark.parametrize(("context", "gain"), [(1000, 1.04), (2048, 1.08)])
def test_the_original_studys_press_can_gain_no_more_than_its_cache_weighs(context, gain):
    assert gain_of_a_press(context) == pytest.approx(gain, abs=0.005)


def test_a_press_pays_when_the_caches_of_a_batch_weigh_as_much_as_the_weights():
    assert gain_of_a_press(2048, batch=16) > 1.7


def test_shape_and_rates_come_from_the_files_of_a_study():
    manifest = {"step_weight_bytes": 10, "kv_bytes_per_token": 2, "flops_per_token": 5, "layers": 3}
    assert ModelShape.from_manifest(manifest) == ModelShape(10, 2, 5)
    record = {"weight_gb_s_by_rows": {"1": 3.0}, "kv_gb_s_by_queries": {"1": 4.0}, "gflops": 5.0, "step_overhead_ms": 6}
    assert MachineRates.from_metrics(record) == MachineRates({1: 3.0}, {1: 4.0}, 5.0, 6)
