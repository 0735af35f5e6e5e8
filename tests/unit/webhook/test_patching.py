"""JSON patches: applied as the API server applies them, and made of differences."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kruise.runtime.webhook.patching import PatchError, apply_patch, difference, pointer, same

# The examples of RFC 6902, appendix A, and what stands beside them.
APPLIES: list[tuple[Any, list[dict[str, Any]], Any]] = [
    ({"a": 1}, [{"op": "add", "path": "/b", "value": 2}], {"a": 1, "b": 2}),
    ({"a": ["x", "y"]}, [{"op": "add", "path": "/a/1", "value": "z"}], {"a": ["x", "z", "y"]}),
    ({"a": ["x"]}, [{"op": "add", "path": "/a/-", "value": ["y"]}], {"a": ["x", ["y"]]}),
    ({"a": 1}, [{"op": "add", "path": "/a", "value": None}], {"a": None}),
    ({"a": 1, "b": 2}, [{"op": "remove", "path": "/a"}], {"b": 2}),
    ({"a": [1, 2, 3]}, [{"op": "remove", "path": "/a/1"}], {"a": [1, 3]}),
    ({"a": {"b": 1}}, [{"op": "replace", "path": "/a/b", "value": 2}], {"a": {"b": 2}}),
    ({"a": [1, {"b": 1}]}, [{"op": "replace", "path": "/a/1/b", "value": 2}], {"a": [1, {"b": 2}]}),
    ({"a": {"b": 1}, "c": {}}, [{"op": "move", "from": "/a/b", "path": "/c/d"}], {"a": {}, "c": {"d": 1}}),
    ({"a": [1, 2, 3]}, [{"op": "move", "from": "/a/0", "path": "/a/2"}], {"a": [2, 3, 1]}),
    ({"a": {"b": [1]}}, [{"op": "copy", "from": "/a/b", "path": "/c"}], {"a": {"b": [1]}, "c": [1]}),
    ({"a/b": 1, "m~n": 2}, [{"op": "replace", "path": "/a~1b", "value": 3}], {"a/b": 3, "m~n": 2}),
    ({"~1": 1}, [{"op": "test", "path": "/~01", "value": 1}], {"~1": 1}),
    ({"": 1}, [{"op": "test", "path": "/", "value": 1.0}], {"": 1}),
    ({"a": 1}, [{"op": "replace", "path": "", "value": {"b": 1}}], {"b": 1}),
    ({}, [], {}),
]

FAILS: list[tuple[Any, dict[str, Any], str]] = [
    ({"a": 1}, {"op": "remove", "path": "/b"}, "no such member"),
    ({"a": 1}, {"op": "replace", "path": "/b", "value": 1}, "no such member"),
    ({"a": 1}, {"op": "add", "path": "/b/c", "value": 1}, "no such member"),
    ({"a": 1}, {"op": "add", "path": "/a/c", "value": 1}, "has no members"),
    ({"a": [1]}, {"op": "add", "path": "/a/2", "value": 1}, "no such element"),
    ({"a": [1]}, {"op": "replace", "path": "/a/-", "value": 1}, "no such element"),
    ({"a": [1]}, {"op": "replace", "path": "/a/00", "value": 1}, "no such element"),
    ({"a": [1]}, {"op": "remove", "path": "/a/-1"}, "no such element"),
    ({"a": [1]}, {"op": "remove", "path": "/a/٣"}, "no such element"),
    ({"a": [1]}, {"op": "remove", "path": "/a/99999999999999999999"}, "no such element"),
    ({"a": 1}, {"op": "test", "path": "/a", "value": True}, "another value"),
    ({"a": 1}, {"op": "test", "path": "/a", "value": "secret"}, "another value"),
    ({"a": 1}, {"op": "add", "path": "a", "value": 1}, "begins with /"),
    ({"a": 1}, {"op": "add", "path": "/a"}, "value is missing"),
    ({"a": 1}, {"op": "add", "value": 1}, "path is missing"),
    ({"a": 1}, {"op": "increment", "path": "/a", "value": 1}, "no operation"),
    ({"a": {"b": 1}}, {"op": "move", "from": "/a", "path": "/a/c"}, "into itself"),
    ({"a": {"b": 1}}, {"op": "copy", "path": "/a/c"}, "from is missing"),
    ({"a": 1}, {"op": "remove", "path": ""}, "cannot go"),
]


@pytest.mark.parametrize(("document", "operations", "wanted"), APPLIES)
def test_web12_a_patch_does_what_the_standard_says(
    document: Any, operations: list[dict[str, Any]], wanted: Any
) -> None:
    before = copy.deepcopy(document)
    assert apply_patch(document, operations) == wanted
    assert document == before


@pytest.mark.parametrize(("document", "operation", "text"), FAILS)
def test_web12_a_patch_that_does_not_apply_says_so_without_a_value(
    document: Any, operation: dict[str, Any], text: str
) -> None:
    before = copy.deepcopy(document)
    with pytest.raises(PatchError, match=text) as raised:
        apply_patch(document, [operation])
    assert "secret" not in str(raised.value)
    assert document == before


def test_a_pointer_escapes_its_parts() -> None:
    assert pointer("metadata", "annotations", "a/b~c", 0) == "/metadata/annotations/a~1b~0c/0"


def test_numbers_and_booleans_are_compared_as_json_does() -> None:
    assert same({"a": [1]}, {"a": [1.0]})
    assert not same({"a": [1]}, {"a": [True]})
    assert not same([None], [])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab/~", max_size=2),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("ab/~0", max_size=2), inner, max_size=3)
        | st.lists(
            st.fixed_dictionaries({"name": st.sampled_from("abcd"), "v": inner}),
            max_size=4,
            unique_by=lambda o: o["name"],
        )
    ),
    max_leaves=12,
)
objects = st.dictionaries(st.text("ab/~0", max_size=2), json_values, max_size=4)


@given(objects, objects)
def test_web12_the_difference_makes_one_object_of_the_other(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert same(apply_patch(old, difference(old, new, removable=("",))), new)
    assert difference(old, copy.deepcopy(old)) == []


def _has_all(old: Any, now: Any, wanted: Any) -> bool:
    """Tell whether every member of *old* that *wanted* lacks is in *now*."""
    if isinstance(old, dict) and isinstance(wanted, dict):
        return isinstance(now, dict) and all(
            same(now.get(k), v) if k not in wanted else _has_all(v, now.get(k), wanted[k]) for k, v in old.items()
        )
    return True


@given(objects, objects)
def test_web5_x35_what_a_defaulter_has_lost_stays(old: dict[str, Any], new: dict[str, Any]) -> None:
    operations = difference(old, new)
    assert not [one for one in operations if one["op"] == "remove"]
    now = apply_patch(old, operations)
    assert _has_all(old, now, new)
    assert all(k in now for k in new)


def test_web5_removals_need_a_path_that_allows_them() -> None:
    old = {"spec": {"a": 1, "b": 2}, "status": {"x": 1}, "statusquo": 1}
    assert difference(old, {"spec": {"a": 1}}, removable=("/status",)) == [{"op": "remove", "path": "/status"}]


def test_c2_an_element_is_added_beside_the_others_and_none_is_replaced() -> None:
    old = {"c": [{"name": "app", "env": [1]}, {"name": "log"}]}
    new = {"c": [{"name": "first"}, {"name": "app", "env": [1], "x": 1}, {"name": "log"}, {"name": "last"}]}
    assert difference(old, new) == [
        {"op": "add", "path": "/c/0", "value": {"name": "first"}},
        {"op": "add", "path": "/c/1/x", "value": 1},
        {"op": "add", "path": "/c/3", "value": {"name": "last"}},
    ]
