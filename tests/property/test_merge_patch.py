"""Merge patches and the no-op check, for any JSON."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from kruise.runtime.client.noop import patch_changes, semantically_equal
from kruise.runtime.client.patch import apply_merge, merge_diff, without_nulls

scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "x", "y"])
keys = st.sampled_from(["a", "b", "c"])
values = st.recursive(scalars, lambda x: st.lists(x, max_size=2) | st.dictionaries(keys, x, max_size=3), max_leaves=10)
objects: st.SearchStrategy[dict[str, Any]] = st.dictionaries(keys, values, max_size=3)


@given(objects, objects)
def test_cli4_a_diff_applied_gives_the_new_object(old: dict[str, Any], new: dict[str, Any]) -> None:
    old = without_nulls(old)
    assert apply_merge(old, merge_diff(old, new)) == without_nulls(new)


@given(objects, objects)
def test_cli4_a_diff_is_empty_only_without_a_difference(old: dict[str, Any], new: dict[str, Any]) -> None:
    old = without_nulls(old)
    if not merge_diff(old, new):
        assert without_nulls(new) == old


@given(objects, objects)
def test_cli4_applying_a_patch_twice_is_applying_it_once(target: dict[str, Any], patch: dict[str, Any]) -> None:
    once = apply_merge(target, patch)
    assert apply_merge(once, patch) == once


@given(objects, objects)
@example({}, {"a": {"a": []}})
def test_nop1_a_patch_is_skipped_only_if_its_result_is_semantically_the_same(
    current: dict[str, Any], patch: dict[str, Any]
) -> None:
    """Both ways: nothing that would change is left out, and what changes nothing is found."""
    assert patch_changes(current, patch) == (not semantically_equal(current, apply_merge(current, patch)))


@given(values, values, values)
def test_nop1_semantic_equality_is_an_equivalence(a: Any, b: Any, c: Any) -> None:
    assert semantically_equal(a, a)
    assert semantically_equal(a, b) == semantically_equal(b, a)
    if semantically_equal(a, b) and semantically_equal(b, c):
        assert semantically_equal(a, c)
