"""The expression language of resourcesPolicy: every text has an answer, and no answer is negative."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kruise.apis.quantity import Quantity
from kruise.apis.sidecarset_expression import ExpressionError, evaluate, probe

AMOUNTS = ["0", "1", "250m", "1.500", "1Gi", "100M", "1E", "1e3", "1u", "9223372036854775807"]
WORDS = [
    "cpu",
    "memory",
    "Memory",
    "max",
    "min",
    "1",
    "2.5",
    "50%",
    "5Mi",
    "1e300",
    "+",
    "-",
    "*",
    "/",
    "(",
    ")",
    ",",
    " ",
]


def answer(text: str, amount: str) -> Quantity | str:
    """Return the amount, or what is wrong with the text."""
    try:
        return evaluate(text, Quantity.parse(amount))
    except ExpressionError as error:
        return str(error)


@given(st.text(max_size=30) | st.lists(st.sampled_from(WORDS), max_size=12).map("".join), st.sampled_from(AMOUNTS))
@settings(max_examples=500, deadline=None)
def test_c8_every_text_has_an_answer_that_is_not_negative(text: str, amount: str) -> None:
    for bound in ("cpu", "memory"):
        assert isinstance(probe(text, bound), str)
    result = answer(text, amount)
    if isinstance(result, str):
        assert result.startswith("failed to parse expression ")
    else:
        assert result.sign() >= 0
        assert Quantity.parse(str(result)) == result


@pytest.mark.parametrize(
    "text", ["(" * 5000, "-" * 5000 + "1", "max(" * 5000, "1+" * 5000 + "1", "(" * 101 + "1" + ")" * 101]
)
def test_c8_no_text_exhausts_the_stack(text: str) -> None:
    result = answer(text, "1")
    if isinstance(result, str):
        assert "parentheses" in result or "negative" in result
    else:
        assert result.sign() >= 0


def test_nesting_within_reason_is_fine() -> None:
    assert str(evaluate("(" * 100 + "cpu" + ")" * 100, Quantity.parse("2"))) == "2"


@pytest.mark.parametrize("text", ["1e308*10", "9e15*2000", "cpu*1e300", "1e19", "1e400"])
def test_an_overflow_is_an_error(text: str) -> None:
    with pytest.raises(ExpressionError, match="overflows"):
        evaluate(text, Quantity.parse("2"))


@pytest.mark.parametrize(
    ("text", "bound", "fine"),
    [
        ("memory*2", "memory", True),
        ("Memory*2", "memory", False),
        ("max(Memory,memory)", "memory", True),
        ("CPU*2", "cpu", True),
        ("memory", "cpu", False),
        ("MEMORY", "memory", False),
        ("1Gi", "memory", True),
        ("-1", "cpu", False),
    ],
)
def test_what_admission_accepts_injection_can_read(text: str, bound: str, fine: bool) -> None:
    assert (probe(text, bound) == "") is fine
    if fine:
        assert evaluate(text, Quantity.parse("2")).sign() > 0
