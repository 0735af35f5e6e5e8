"""Quantities: what the Go library reads, writes and computes."""

from __future__ import annotations

import json
from typing import Any

from kruise.apis.quantity import Format, Quantity, QuantityError
from tests.golden.loader import Case, parametrize


def describe(q: Quantity) -> dict[str, Any]:
    return {
        "string": str(q),
        "json": json.dumps(str(q)),
        "canonical": q.canonical(),
        "format": str(q.format),
        "isZero": q.is_zero(),
        "sign": q.sign(),
        "value": str(q.value()),
        "milliValue": str(q.milli_value()),
        "roundedToMilli": str(q.round_up_to_milli()),
    }


def answer(case: Case) -> dict[str, Any]:
    what = case.input
    match what["do"]:
        case "parse":
            return describe(Quantity.parse(what["text"]))
        case "decode":
            return describe(Quantity.from_json(what["json"]))
        case "sum":
            total = Quantity()
            for text in what["sum"]:
                total = total + Quantity.parse(text)
            return describe(total)
        case "pair":
            a, b = Quantity.parse(what["a"]), Quantity.parse(what["b"])
            return {
                "cmp": a.compare(b),
                "equal": a == b,
                "add": str(a + b),
                "sub": str(a - b),
                "addValue": str((a + b).value()),
                "addMilliValue": str((a + b).milli_value()),
            }
        case "new":
            number, fmt = what["int"], Format(what["format"])
            return {"quantity": str(Quantity.of(number, fmt)), "milliQuantity": str(Quantity.of_milli(number, fmt))}
    raise AssertionError(f"unknown question {what['do']!r}")


@parametrize("quantities")
def test_quantities(case: Case) -> None:
    try:
        found = answer(case)
    except QuantityError as error:
        found = {"error": str(error)}
    assert found == case.output
