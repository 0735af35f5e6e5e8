from __future__ import annotations

from typing import Any

import pytest

from kruise.runtime.cache.store import Change
from kruise.runtime.controller import (
    AnnotationChanged,
    Filter,
    Funcs,
    GenerationChanged,
    LabelChanged,
    LabelSelector,
    Predicate,
    ResourceVersionChanged,
)
from kruise.runtime.objects import Object, ObjectMeta, Unreadable


def obj(**meta: Any) -> Object:
    return Object(metadata=ObjectMeta(name="a", namespace="n", **{"resource_version": "1", "generation": 1} | meta))


BASE = obj()
CHANGED: list[tuple[Predicate, Object]] = [
    (ResourceVersionChanged(), obj(resource_version="2")),
    (GenerationChanged(), obj(generation=2)),
    (AnnotationChanged(), obj(annotations={"a": "b"})),
    (LabelChanged(), obj(labels={"a": "b"})),
]


@pytest.mark.parametrize("row", range(len(CHANGED)))
@pytest.mark.parametrize("column", range(len(CHANGED)))
def test_pre1_each_predicate_sees_its_own_part_only(row: int, column: int) -> None:
    predicate, (_, changed) = CHANGED[row][0], CHANGED[column]
    assert predicate.test(Change(BASE, changed)) is (row == column)


@pytest.mark.parametrize("predicate", [p for p, _ in CHANGED])
def test_pre1_additions_deletions_and_resyncs(predicate: Predicate) -> None:
    assert predicate.test(Change(None, BASE)), "nothing to compare with: it passes"
    assert predicate.test(Change(BASE, None))
    assert not predicate.test(Change(BASE, BASE, resync=True))


def test_pre1_unreadable_objects_are_judged_by_their_metadata() -> None:
    broken = Unreadable(metadata=ObjectMeta(name="a", namespace="n", generation=2, labels={"app": "x"}))
    assert GenerationChanged().test(Change(BASE, broken))
    assert LabelSelector({"app": "x"}).test(Change(None, broken))


def test_pre1_funcs_default_to_passing() -> None:
    never = Funcs(create=lambda o: False, update=lambda old, new: False, delete=lambda o: False)
    for change in (Change(None, BASE), Change(BASE, BASE), Change(BASE, None)):
        assert Funcs().test(change)
        assert not never.test(change)
    seen: list[Object | None] = []
    Funcs(delete=lambda o: bool(seen.append(o))).test(Change(BASE, None))
    assert seen == [BASE]


@pytest.mark.parametrize("a", [True, False])
@pytest.mark.parametrize("b", [True, False])
def test_pre1_combinators_are_boolean_algebra(a: bool, b: bool) -> None:
    def constant(value: bool) -> Predicate:
        return Funcs(create=lambda o: value)

    def flt(value: bool) -> Filter:
        return Filter(lambda o: value)

    change = Change(None, BASE)
    for left in (constant(a), flt(a)):
        for right in (constant(b), flt(b)):
            assert (left & right).test(change) is (a and b)
            assert (left | right).test(change) is (a or b)
            assert (~left).test(change) is (not a)
            assert (~(left & right)).test(change) is (~left | ~right).test(change)
            assert ((left & right).apply(change) is not None) is (a and b)
            assert ((left | right).apply(change) is not None) is (a or b)


def test_pre1_the_base_class_has_no_opinion() -> None:
    with pytest.raises(NotImplementedError):
        Predicate().test(Change(None, BASE))


IN, OUT = obj(labels={"app": "x"}), obj(labels={"app": "y"}, resource_version="2")


@pytest.mark.parametrize(
    ("change", "want"),
    [
        (Change(None, IN), Change(None, IN)),
        (Change(None, OUT), None),
        (Change(IN, None), Change(IN, None)),
        (Change(OUT, None), None),
        (Change(IN, IN), Change(IN, IN)),
        (Change(OUT, OUT), None),
        (Change(OUT, IN), Change(None, IN)),
        (Change(IN, OUT), Change(IN, None)),
        (Change(None, IN, initial=True), Change(None, IN, initial=True)),
    ],
)
def test_pre2_entering_a_filter_is_an_addition_and_leaving_it_a_deletion(
    change: Change[Object], want: Change[Object] | None
) -> None:
    selector = LabelSelector({"app": "x"})
    assert selector.apply(change) == want
    assert selector.test(change) is (want is not None)
    assert (selector & Filter(lambda o: True)).apply(change) == want
    assert (~~selector).apply(change) == want
    assert (selector & ResourceVersionChanged() | Filter(lambda o: False)).apply(change) == (
        None if want is not None and want.old is not None and want.new is not None else want
    )


@pytest.mark.parametrize(
    ("labels", "expression", "want"),
    [
        ({"a": "1"}, ("a", "In", ["1", "2"]), True),
        ({"a": "3"}, ("a", "In", ["1", "2"]), False),
        ({}, ("a", "In", ["1"]), False),
        ({"a": "3"}, ("a", "NotIn", ["1", "2"]), True),
        ({"a": "1"}, ("a", "NotIn", ["1"]), False),
        ({}, ("a", "NotIn", ["1"]), True),
        ({"a": ""}, ("a", "Exists", []), True),
        ({}, ("a", "Exists", []), False),
        ({"a": ""}, ("a", "DoesNotExist", []), False),
        ({}, ("a", "DoesNotExist", []), True),
    ],
)
def test_pre1_label_selector_operators(
    labels: dict[str, str], expression: tuple[str, str, list[str]], want: bool
) -> None:
    assert LabelSelector(expressions=[expression]).matches(obj(labels=labels)) is want


def test_pre1_label_selector_is_the_conjunction_and_empty_is_everything() -> None:
    assert LabelSelector().matches(obj())
    both = LabelSelector({"a": "1"}, [("b", "Exists", ())])
    assert both.matches(obj(labels={"a": "1", "b": ""}))
    assert not both.matches(obj(labels={"a": "1"})) and not both.matches(obj(labels={"b": ""}))


@pytest.mark.parametrize("bad", [("a", "In", ()), ("a", "Exists", ("x",)), ("a", "Gt", ("1",))])
def test_pre1_label_selector_refuses_nonsense(bad: tuple[str, str, tuple[str, ...]]) -> None:
    with pytest.raises(ValueError, match="label selector a"):
        LabelSelector(expressions=[bad])
