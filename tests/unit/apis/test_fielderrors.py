"""Field errors: the printed form."""

from __future__ import annotations

from kruise.apis import fielderrors as fe


def test_printed_forms() -> None:
    assert fe.required("a").message == "a: Required value"
    assert fe.required("a", "why").message == "a: Required value: why"
    assert fe.invalid("a", None, "x").message == "a: Invalid value: null: x"
    assert fe.invalid("a", True, "x").message == "a: Invalid value: true: x"
    assert fe.invalid("a", ["p", "q"], "x").message == 'a: Invalid value: []string{"p", "q"}: x'
    assert fe.invalid("a", fe.Plain("cpu"), "x").message == "a: Invalid value: cpu: x"
    assert fe.not_supported("a", "v", ("x", "y")).message == 'a: Unsupported value: "v": supported values: "x", "y"'
    assert fe.forbidden("a", "no").message == "a: Forbidden: no"
    assert fe.not_found("a", "v").message == 'a: Not found: "v"'
    assert fe.duplicate("a", 3).message == "a: Duplicate value: 3"
    assert fe.too_long("a", 7).message == "a: Too long: may not be more than 7 bytes"
    assert str(fe.too_many("a", 9, 7)) == "a: Too many: 9: must have at most 7 items"
    assert fe.type_invalid("a", 1, "must be a string").message == "a: Invalid value: 1: must be a string"


def test_quotes_are_gos() -> None:
    assert fe.go_quote('a"\\\n\x01é\u2028') == '"a\\"\\\\\\n\\x01é\\u2028"'
    assert fe.go_quote("\U000e0001") == '"\\U000e0001"'


def test_aggregate() -> None:
    one, two = fe.required("a"), fe.required("b")
    assert fe.aggregate([]) == ""
    assert fe.aggregate([one, one]) == "a: Required value"
    assert fe.aggregate([one, two, one]) == "[a: Required value, b: Required value]"
