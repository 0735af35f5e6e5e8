"""patch.py: RFC 7386, by its own table."""

from __future__ import annotations

from typing import Any

import pytest

from kruise.runtime.client.patch import apply_merge, merge_diff

RFC_7386: list[tuple[Any, Any, Any]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("target", "patch", "result"), RFC_7386)
def test_cli4_merge_patches_work_as_the_rfc_says(target: Any, patch: Any, result: Any) -> None:
    assert apply_merge(target, patch) == result


def test_cli4_a_diff_names_only_what_differs() -> None:
    old = {"spec": {"a": 1, "b": [1, 2], "c": {"x": 1}}, "keep": {"y": 1}}
    new = {"spec": {"a": 1, "b": [1], "c": {}}, "keep": {"y": 1}}
    assert merge_diff(old, new) == {"spec": {"b": [1], "c": {"x": None}}}
    assert merge_diff(old, old) == {}


def test_cli4_a_boolean_is_no_number() -> None:
    assert merge_diff({"a": 1, "b": 1, "c": [1]}, {"a": True, "b": 1.0, "c": [True]}) == {"a": True, "c": [True]}


def test_obj2_neither_function_changes_its_arguments() -> None:
    old: dict[str, Any] = {"a": {"b": 1}}
    patch = merge_diff(old, {"a": {"b": 2, "c": {"d": 1}}})
    apply_merge(old, patch)["a"]["b"] = 9
    assert old == {"a": {"b": 1}} and patch == {"a": {"b": 2, "c": {"d": 1}}}
