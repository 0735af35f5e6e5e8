"""Selectors: conversion, text, matching, overlap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kruise.apis import selectors
from kruise.apis.selectors import Selector, SelectorError
from tests.golden.loader import Case, compare_errors, parametrize


def described(make: Callable[[], Selector], labels: list[dict[str, str]]) -> dict[str, Any]:
    try:
        selector = make()
    except SelectorError as error:
        return {"error": str(error)}
    return {
        "string": str(selector),
        "matches": [selector.matches(item) for item in labels],
        "empty": selector.empty,
    }


@parametrize("selectors", do="labelSelector")
def test_label_selectors(case: Case) -> None:
    selector, labels = case.input["selector"], case.input["labels"]
    wanted = dict(case.output)
    compare_errors(selectors.validate(selector, "spec.selector"), wanted.pop("errors"))
    found = described(lambda: selectors.convert(selector), labels)
    fast = described(lambda: selectors.convert_fast(selector), labels)
    fast.pop("empty", None)
    found.update({f"fast{key[0].upper()}{key[1:]}": value for key, value in fast.items()})
    found["formatted"] = selectors.display(selector)
    assert found == wanted


@parametrize("selectors", do="parse")
def test_selector_texts(case: Case) -> None:
    assert described(lambda: selectors.parse(case.input["text"]), case.input["labels"]) == case.output


@parametrize("selectors", do="set")
def test_selectors_of_label_maps(case: Case) -> None:
    found = described(lambda: selectors.from_set(case.input["set"]), case.input["labels"])
    assert {**found, "setString": found["string"]} == case.output


@parametrize("selectors", do="overlap")
def test_selector_overlap(case: Case) -> None:
    wanted = dict(case.output)
    wanted.pop("looseOverlap", None)  # optional: no kind uses this variant
    assert {"overlapping": selectors.overlapping(case.input["selector"], case.input["other"])} == wanted
