"""noop.py: what a patch would change in an object of which only a part is known."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kruise.runtime.client.noop import PatchKind, patch_changes, semantically_equal, would_change
from kruise.runtime.objects import Object, ObjectMeta, OwnerReference


class Condition(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    type: str = ""
    status: str = ""
    reason: str = ""


class Status(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    active: int = 0
    phase: str = ""
    conditions: tuple[Condition, ...] = ()


class Spec(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    paused: bool = False
    parallelism: int | None = None
    pod_ip: str = msgspec.field(default="", name="podIP")
    template: msgspec.Raw = msgspec.Raw(b"{}")
    tolerations: tuple[Condition, ...] = ()


class Thing(Object, frozen=True, kw_only=True, rename="camel"):
    spec: Spec = Spec()
    status: Status = Status()


THING = Thing(
    metadata=ObjectMeta(
        name="a",
        labels={"x": "1"},
        finalizers=("f",),
        owner_references=(OwnerReference(kind="Job", name="j", uid="o1", controller=True),),
    ),
    spec=Spec(
        parallelism=3,
        pod_ip="10.0.0.1",
        template=msgspec.Raw(b'{"labels":{"a":"b"},"n":1}'),
        tolerations=(Condition(type="t1"), Condition(type="t2")),
    ),
    status=Status(
        active=2, conditions=(Condition(type="Ready", status="True"), Condition(type="Done", status="False"))
    ),
)


@pytest.mark.parametrize(
    "patch",
    [
        {},
        {"metadata": {"labels": {"x": "1"}}},
        {"metadata": {"labels": {"gone": None}}},
        {"metadata": {"annotations": {}}},
        {"metadata": {"annotations": None}},
        {"metadata": {"finalizers": ["f"]}},
        {"spec": {"parallelism": 3, "podIP": "10.0.0.1"}},
        {"spec": {"paused": None}},
        {"spec": {"paused": False}},
        {"spec": {"template": {"labels": {"a": "b"}}}},
        {"spec": {"template": {"other": None}}},
        {"spec": {"tolerations": [{"type": "t1"}, {"type": "t2"}]}},
        {"status": {"phase": None}},
        {"status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Done", "status": "False"}]}},
    ],
)
def test_nop1_a_patch_that_changes_nothing_is_found(patch: dict[str, Any]) -> None:
    assert not would_change(THING, patch)


@pytest.mark.parametrize(
    "patch",
    [
        {"metadata": {"labels": {"x": "2"}}},
        {"metadata": {"labels": {"y": "1"}}},
        {"metadata": {"labels": {"x": None}}},
        {"metadata": {"labels": None}},
        {"metadata": {"finalizers": None}},
        {"spec": {"paused": True}},
        {"spec": {"parallelism": None}},
        {"spec": {"parallelism": True}},
        {"spec": {"template": {"n": 2}}},
        {"spec": {"template": {"labels": None}}},
        {"spec": {"tolerations": [{"type": "t1"}]}},
        {"spec": {"tolerations": [{"type": "t1", "status": "x"}, {"type": "t2"}]}},
        {"spec": None},
        {"spec": 5},
        {"status": {"active": 3}},
        {"status": {"conditions": [{"type": "Ready", "status": "True"}]}},
        {"status": {"conditions": []}},
    ],
)
def test_nop1_a_patch_that_changes_something_is_sent(patch: dict[str, Any]) -> None:
    assert would_change(THING, patch)


@pytest.mark.parametrize(
    "patch",
    [
        {"spec": {"unknown": None}},
        {"spec": {"unknown": {}}},
        {"spec": {"pod_ip": "10.0.0.1"}},
        {"other": None},
        {"metadata": {"managedFields": []}},
        {"spec": {"tolerations": [{"type": "t1", "key": None}, {"type": "t2"}]}},
    ],
)
def test_nop1_what_a_projection_does_not_know_always_counts_as_a_change(patch: dict[str, Any]) -> None:
    assert would_change(THING, patch)


STRATEGIC_SAME: list[dict[str, Any]] = [
    {"status": {"conditions": [{"type": "Done", "status": "False"}]}},
    {"metadata": {"ownerReferences": [{"uid": "o1", "name": "j"}]}},
]
STRATEGIC_OTHER: list[dict[str, Any]] = [
    {"status": {"conditions": [{"type": "Done", "status": "True"}]}},
    {"status": {"conditions": [{"type": "New", "status": "True"}]}},
    {"status": {"conditions": [{"status": "True"}]}},
    {"spec": {"tolerations": [{"type": "t1"}]}},
    {"metadata": {"ownerReferences": [{"uid": "o1", "$patch": "delete"}]}},
    {"metadata": {"$retainKeys": ["x"]}},
]


@pytest.mark.parametrize("patch", STRATEGIC_SAME)
def test_nop1_a_strategic_patch_names_elements_by_their_merge_key(patch: dict[str, Any]) -> None:
    assert not would_change(THING, patch, PatchKind.STRATEGIC)
    assert would_change(THING, patch, PatchKind.MERGE)  # which would drop the others


@pytest.mark.parametrize("patch", STRATEGIC_OTHER)
def test_nop1_a_strategic_patch_that_changes_something_is_sent(patch: dict[str, Any]) -> None:
    assert would_change(THING, patch, PatchKind.STRATEGIC)


@pytest.mark.parametrize(
    ("ops", "changes"),
    [
        ([], False),
        ([{"op": "test", "path": "/metadata/name", "value": "zzz"}], False),
        ([{"op": "replace", "path": "/metadata/labels/x", "value": "1"}], False),
        ([{"op": "add", "path": "/spec/template/labels/a", "value": "b"}], False),
        ([{"op": "replace", "path": "/status/conditions/0/status", "value": "True"}], False),
        ([{"op": "replace", "path": "/metadata/labels/x", "value": "2"}], True),
        ([{"op": "add", "path": "/metadata/labels/y", "value": ""}], True),
        ([{"op": "add", "path": "/metadata/finalizers/0", "value": "f"}], True),
        ([{"op": "add", "path": "/metadata/finalizers/-", "value": "f"}], True),
        ([{"op": "replace", "path": "/status/conditions/7/status", "value": "True"}], True),
        ([{"op": "remove", "path": "/metadata/labels/nope"}], True),
        ([{"op": "add", "path": "/spec/unknown", "value": None}], True),
    ],
)
def test_nop1_json_patches(ops: list[dict[str, Any]], changes: bool) -> None:
    assert would_change(THING, ops, PatchKind.JSON) is changes


def test_nop1_nil_empty_and_absent_are_the_same_and_zero_is_not() -> None:
    for empty in (None, {}, []):
        assert semantically_equal({"a": empty}, {})
    for value in (0, "", False):
        assert not semantically_equal({"a": value}, {})
    assert not patch_changes({"a": {"b": 1}}, {"a": {"c": None}, "d": {}, "e": None})
    assert patch_changes({}, {"a": 0})
