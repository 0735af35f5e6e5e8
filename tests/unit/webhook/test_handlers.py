"""Handlers for one kind, and several of them as one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from kruise.runtime.errors import Cause
from kruise.runtime.webhook.admission import AdmissionRequest, Answer, allow, deny, patch, patched, respond
from kruise.runtime.webhook.handlers import Defaulter, Finding, Validator, Warn, for_operations, in_turn
from tests.unit.webhook.reviews import operations, request, response, review


class Spec(msgspec.Struct, frozen=True):
    replicas: int = 0


class Web(msgspec.Struct, frozen=True):
    spec: Spec = Spec()


def defaults(obj: dict[str, Any], _request: AdmissionRequest) -> dict[str, Any]:
    """Keep the fields that a typed client of last year knows, and add one."""
    return {"spec": {"replicas": obj["spec"].get("replicas", 1)}}


def check(new: Web) -> Iterable[Finding]:
    if new.spec.replicas < 0:
        yield Cause("FieldValueInvalid", "must not be negative", "spec.replicas")
    if new.spec.replicas > 5:
        yield Warn("many replicas")
    if new.spec.replicas % 2:
        yield Cause("FieldValueInvalid", "must be even", "spec.replicas")


def check_update(new: Web, old: Web) -> Iterable[Finding]:
    if new.spec.replicas < old.spec.replicas:
        yield Cause("FieldValueForbidden", "may only grow", "spec.replicas")


def check_delete(old: Web) -> Iterable[Finding]:
    if old.spec.replicas:
        yield Cause("FieldValueForbidden", "scale it to 0 first", "spec.replicas")


VALIDATOR = Validator(Web, create=check, update=check_update, delete=check_delete)


def test_web5_x35_a_default_is_added_and_unknown_fields_stay() -> None:
    obj = {"metadata": {"x": 1}, "spec": {"paused": True, "new": {"a": [1]}}}
    answer = response(respond(review(obj), Defaulter(defaults)))
    assert operations(answer) == [{"op": "add", "path": "/spec/replicas", "value": 1}]


def test_web5_a_defaulter_may_remove_what_it_declares() -> None:
    body = review({"spec": {"replicas": 2}, "status": {"a": 1}})
    answer = response(respond(body, Defaulter(defaults, removes=("/status",))))
    assert operations(answer) == [{"op": "remove", "path": "/status"}]


def test_web5_a_complete_object_gets_no_patch_and_a_deletion_no_default() -> None:
    assert "patch" not in response(respond(review({"spec": {"replicas": 2}}), Defaulter(defaults)))
    assert "patch" not in response(respond(review(None, old={}, operation="DELETE"), Defaulter(defaults)))


def test_web4_all_errors_come_at_once_with_their_paths() -> None:
    answer = response(respond(review({"spec": {"replicas": -1}}), VALIDATOR))
    assert answer["status"]["message"] == (
        'Web.example.com "web" is invalid: [spec.replicas: must not be negative, spec.replicas: must be even]'
    )
    assert answer["status"]["code"] == 422
    assert [c["field"] for c in answer["status"]["details"]["causes"]] == ["spec.replicas", "spec.replicas"]


def test_web4_warnings_come_with_a_pass_and_with_a_refusal() -> None:
    assert response(respond(review({"spec": {"replicas": 6}}), VALIDATOR))["warnings"] == ["many replicas"]
    refused = response(respond(review({"spec": {"replicas": 7}}), VALIDATOR))
    assert (refused["allowed"], refused["warnings"]) == (False, ["many replicas"])
    assert refused["status"]["message"] == 'Web.example.com "web" is invalid: spec.replicas: must be even'


@pytest.mark.parametrize(
    ("operation", "new", "old", "allowed"),
    [
        ("UPDATE", 3, 2, True),
        ("UPDATE", 2, 4, False),
        ("DELETE", None, 0, True),
        ("DELETE", None, 2, False),
        ("CONNECT", None, 9, True),
    ],
)
def test_web4_each_operation_has_its_own_rules(operation: str, new: int | None, old: int, allowed: bool) -> None:
    body = review(
        None if new is None else {"spec": {"replicas": new}}, old={"spec": {"replicas": old}}, operation=operation
    )
    assert response(respond(body, VALIDATOR))["allowed"] is allowed


def test_web4_an_object_of_the_wrong_type_is_the_users_fault_and_names_the_path() -> None:
    answer = response(respond(review({"spec": {"replicas": "many"}}), VALIDATOR))
    assert not answer["allowed"]
    assert answer["status"]["code"] == 400
    assert "$.spec.replicas" in answer["status"]["message"]
    assert "many" not in answer["status"]["message"]


def test_web4_a_stored_object_that_cannot_be_read_can_be_repaired() -> None:
    old = {"spec": {"replicas": "many"}}
    assert response(respond(review({"spec": {"replicas": 2}}, old=old, operation="UPDATE"), VALIDATOR))["allowed"]
    assert not response(respond(review({"spec": {"replicas": 3}}, old=old, operation="UPDATE"), VALIDATOR))["allowed"]


def test_web2_an_exception_of_a_rule_is_ours() -> None:
    def broken(_: Web) -> Iterable[Finding]:
        yield Warn("before")
        raise RuntimeError("bug")

    assert respond(review({}), Validator(Web, create=broken)).status == 500


def test_web5_each_handler_sees_what_the_one_before_made() -> None:
    def label(one: AdmissionRequest) -> Answer:
        return patch([{"op": "add", "path": "/labels", "value": {}}], warnings=["first"], audit={"a": "1"})

    def value(one: AdmissionRequest) -> Answer:
        assert "labels" in one.parsed()
        return patch(b'[{"op":"add","path":"/labels/x","value":"y"}]', warnings=["second"], audit={"b": "2"})

    def count(one: AdmissionRequest) -> Answer:
        return patch([{"op": "add", "path": "/n", "value": len(one.parsed()["labels"])}])

    asked = request({})
    answer = in_turn(label, value, count)(asked)
    assert patched(asked, answer) == {"labels": {"x": "y"}, "n": 1}
    assert answer.warnings == ("first", "second")
    assert answer.audit == {"a": "1", "b": "2"}
    assert operations(response(respond(review({}), in_turn(label, value, count)))) == list(answer.operations)


def test_web5_the_first_refusal_ends_it() -> None:
    asked: list[str] = []

    def last(_: AdmissionRequest) -> Answer:
        asked.append("last")
        return allow()

    handler = in_turn(lambda _: allow(warnings=["w"]), lambda _: deny("no"), last)
    answer = handler(request({}))
    assert (answer.allowed, answer.message, answer.warnings, asked) == (False, "no", ("w",), [])


def test_operations_that_are_not_meant_pass() -> None:
    handler = for_operations(lambda _: deny("no"), "CREATE")
    assert not handler(request({})).allowed
    assert handler(request({}, operation="UPDATE")).allowed
