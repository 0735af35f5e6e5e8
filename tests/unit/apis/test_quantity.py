"""Quantities: arithmetic laws, kept texts, limits."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kruise.apis.quantity import ZERO, Format, Quantity, QuantityError, by_value

TEXTS = st.from_regex(r"[+-]?[0-9]{1,12}(\.[0-9]{1,6})?(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|e[0-9])?", fullmatch=True)


def exact(quantity: Quantity) -> Fraction:
    return Fraction(quantity.unscaled) * Fraction(10) ** quantity.scale


@given(TEXTS)
def test_canonical_text_means_the_same(text: str) -> None:
    quantity = Quantity.parse(text)
    again = Quantity.parse(quantity.canonical())
    assert again == quantity
    assert again.canonical() == quantity.canonical()


@given(TEXTS, TEXTS)
def test_sums_and_order_are_exact(a: str, b: str) -> None:
    left, right = Quantity.parse(a), Quantity.parse(b)
    assert exact(left + right) == exact(left) + exact(right)
    assert exact(left - right) == exact(left) - exact(right)
    assert (left < right) == (exact(left) < exact(right))
    assert (left == right) == (exact(left) == exact(right))
    if left == right:
        assert hash(left) == hash(right)


@given(TEXTS)
def test_rounding_goes_away_from_zero(text: str) -> None:
    quantity = Quantity.parse(text)
    rounded = quantity.round_up_to_milli()
    assert abs(exact(rounded)) >= abs(exact(quantity))
    assert abs(exact(rounded) - exact(quantity)) < Fraction(1, 1000)
    assert rounded.exact_milli() == quantity.exact_milli()


@pytest.mark.parametrize("text", ["+1", "00012", "1.500", "123.456789", "1e3", "1025Ki"])
def test_a_canonical_looking_text_is_kept(text: str) -> None:
    assert str(Quantity.parse(text)) == text


@pytest.mark.parametrize(("text", "shown"), [("1000m", "1"), ("0.5", "500m"), ("1.5Gi", "1536Mi"), ("1024Ki", "1Mi")])
def test_other_texts_are_rewritten(text: str, shown: str) -> None:
    assert str(Quantity.parse(text)) == shown


@pytest.mark.parametrize(
    "text", ["", "1 ", "1K", "abc", "1e", "0x1", "1.2.3", "١", "1\n", "1e99999999999999999999", "Pi"]
)
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(QuantityError):
        Quantity.parse(text)


@pytest.mark.parametrize("text", ["1e2147483647", "9" * 5000, "1e5000"])
def test_absurd_sizes_are_refused_at_once(text: str) -> None:
    with pytest.raises(QuantityError):
        Quantity.parse(text)


def test_absurdly_small_numbers_become_one_nano() -> None:
    assert str(Quantity.parse("1e-2147483647")) == "1e-9"


def test_json_forms() -> None:
    assert str(Quantity.from_json(0.5)) == "500m"
    assert Quantity.from_json(None) == ZERO
    assert Quantity.from_json(" 2 ") == Quantity.of(2)
    for bad in (True, [], {}, "1\n", "\\u0031"):
        with pytest.raises(QuantityError):
            Quantity.from_json(bad)


def test_the_first_summand_gives_the_format() -> None:
    assert (ZERO + Quantity.parse("1Gi")).format is Format.BINARY_SI
    assert str(Quantity.parse("1") + Quantity.parse("1Ki")) == "1025"
    assert str(-Quantity.parse("1Gi")) == "-1Gi"
    assert Quantity.of(5) >= 5
    assert Quantity.of(5) <= 5
    assert Quantity.of_milli(5, Format.DECIMAL_EXPONENT).canonical() == "5e-3"
    assert (Quantity.of(1) == "1") is False


@pytest.mark.parametrize(
    "spellings",
    [("1G", "1e9", "1000M", "1000000000"), ("1Ki", "1024"), ("500m", "0.5"), ("0", "0Gi", 0), ("-1k", -1000)],
)
def test_s6_all_spellings_of_a_value_have_one_text(spellings: tuple[str | int, ...]) -> None:
    assert len({by_value(one) for one in spellings}) == 1
    assert by_value(spellings[0]) != by_value("77")


def test_what_is_no_quantity_stays_as_it_is() -> None:
    assert by_value("a lot") == "a lot"
