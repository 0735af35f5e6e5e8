"""Int-or-string: one rounding function, and the edges of each use."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kruise.apis import intorstring as ios


@given(st.integers(-300, 300), st.integers(0, 100_000))
def test_scaled_rounds_exactly(percentage: int, total: int) -> None:
    exact = Fraction(percentage * total, 100)
    up, down = ios.scaled(percentage, total, round_up=True), ios.scaled(percentage, total, round_up=False)
    assert down <= exact <= up
    assert up - down == (0 if exact.denominator == 1 else 1)


@given(st.integers(1, 10_000), st.integers(0, 99))
def test_a_partition_below_100_percent_never_keeps_all_of_several(total: int, percentage: int) -> None:
    kept = ios.sidecarset_partition(f"{percentage}%", total)
    assert 0 <= kept.value <= (total if total == 1 else total - 1)


@pytest.mark.parametrize(
    ("value", "total", "kept"),
    [("0.1%", 3, 1), ("100.0%", 5, 4), ("100%", 5, 5), ("0x1p4%", 100, 16), (-3, 5, 0), (9, 5, 5), (None, 5, 0)],
)
def test_partition(value: int | str | None, total: int, kept: int) -> None:
    assert ios.sidecarset_partition(value, total) == ios.Scaled(kept)


@pytest.mark.parametrize("value", ["ab%", "%", "10%%", "1e999999%", "0x1p99999%"])
def test_an_unreadable_partition_is_zero_with_an_error(value: str) -> None:
    result = ios.sidecarset_partition(value, 10)
    assert result.value == 0
    assert result.error.startswith("strconv.ParseFloat")


def test_a_partition_that_is_a_string_needs_its_percent_sign() -> None:
    assert ios.sidecarset_partition("7", 10).value == 0
    assert "not a percentage" in ios.sidecarset_partition("7", 10).error


def test_uses_keep_their_defaults_and_floors() -> None:
    assert ios.broadcastjob_parallelism(None, 3).value == ios.NO_LIMIT
    assert ios.broadcastjob_parallelism("1%", 3).value == 1
    assert ios.broadcastjob_parallelism("0%", 3).value == 0
    assert ios.statefulset_max_unavailable(None, 3).value == 1
    assert ios.statefulset_max_unavailable("0%", 3).value == 1
    assert ios.statefulset_scale_max_unavailable(None, 3) is None
    assert ios.sidecarset_max_unavailable(None, 3).value == 1


def test_a_huge_percentage_saturates() -> None:
    assert ios.lenient("9223372036854775807%", 10**6, round_up=True) == 2**63 - 1
    with pytest.raises(ios.IntOrStringError, match="out of range"):
        ios.lenient("9" * 100, 1, round_up=True)


def test_strict_wants_a_percent_sign() -> None:
    assert ios.strict(4, 10, round_up=True) == 4
    assert ios.strict("25%", 10, round_up=True) == 3
    for bad in ("25", "", "x%"):
        with pytest.raises(ios.IntOrStringError):
            ios.strict(bad, 10, round_up=True)


def test_parse_decode_and_int_value() -> None:
    assert ios.parse("-7") == -7
    assert ios.parse("2147483648") == "2147483648"
    for bad in (1.0, True, [], 2**31):
        with pytest.raises(ios.IntOrStringError):
            ios.decode(bad)
    assert ios.int_value("12") == 12
    assert ios.int_value("x") == 0
    assert ios.int_value("9" * 30) == 2**63 - 1
    assert ios.int_value("-" + "9" * 30) == -(2**63)


def test_validation() -> None:
    assert [e.message for e in ios.validate_positive_int_or_percent(-1, "f")] == [
        "f: Invalid value: -1: must be greater than or equal to 0"
    ]
    assert ios.validate_positive_int_or_percent("5%\n", "f")
    assert ios.validate_not_above_100_percent("101%", "f")
    assert not ios.validate_not_above_100_percent("00100%", "f")
    assert not ios.validate_not_above_100_percent(500, "f")
