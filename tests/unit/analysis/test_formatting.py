import pytest
from hypothesis import given
from hypothesis import strategies as st

from specpress.analysis.formatting import (
    DASH,
    fixed,
    integer,
    is_missing,
    large,
    number,
    percent,
    significant,
    size,
    unit_of_sizes,
)


@pytest.mark.parametrize(
    ("value", "digits", "expected"),
    [(0.012345, 3, "0.0123"), (41.27, 3, "41.3"), (1234.5, 3, "1234"), (9.996, 3, "10.0"), (0.0, 3, "0.00"),
     (-0.5, 2, "\u22120.50")],
)  # fmt: skip
def test_significant_digits(value, digits, expected):
    assert significant(value, digits) == expected


@given(st.floats(1e-6, 1e6), st.integers(2, 4))
def test_a_rounded_number_is_off_by_half_a_digit_at_most(value, digits):
    assert float(significant(value, digits)) == pytest.approx(value, rel=0.5 * 10 ** (1 - digits) + 1e-9)


def test_formats_by_metric():
    assert number("speedup", 1.23456) == "1.235"
    assert number("ttft_s", 0.0512) == "51.2"
    assert number("kv_bytes", 23592960) == "22.5\xa0MiB"
    assert number("parameters", 134_515_008) == "135\xa0million"
    assert number("ppl", 12.346) == "12.35"


def test_whole_numbers_and_shares():
    assert integer(1234) == "1234"
    assert integer(45_000_000) == "45\u2009000\u2009000"
    assert large(2_775_208_960) == "2.78\xa0billion"
    assert percent(0.7) == "70%"
    assert size(512) == "512\xa0bytes"


def test_a_column_of_sizes_has_one_unit():
    assert unit_of_sizes([2048, 3 * 2**20, None]) == ("MiB", 2**20)
    assert unit_of_sizes([]) == ("bytes", 1)


@pytest.mark.parametrize("formatted", [fixed, significant, integer, percent, size, large])
@pytest.mark.parametrize("missing", [None, float("nan")])
def test_what_is__a_dash_in_every_format(formatted, missing):
    assert is_missing(missing)
    assert formatted(missing) == DASH
