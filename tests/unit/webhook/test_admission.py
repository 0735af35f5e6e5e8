"""The core of admission: bytes in, bytes out."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest

from kruise.runtime.errors import Cause
from kruise.runtime.webhook.admission import (
    MAX_DEPTH,
    MAX_VALUES,
    AdmissionRequest,
    Answer,
    allow,
    deny,
    patch,
    respond,
    too_deep,
    too_many,
)
from tests.unit.webhook.reviews import operations, request, response, review

POD = {"metadata": {"generateName": "web-"}, "spec": {"containers": [{"name": "app"}]}}


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_web2_the_answer_has_the_version_and_the_uid_of_the_review(version: str) -> None:
    outcome = respond(review(POD, version=version, uid="u-1"), lambda _: allow())
    assert orjson.loads(outcome.body) == {
        "apiVersion": f"admission.k8s.io/{version}",
        "kind": "AdmissionReview",
        "response": {"uid": "u-1", "allowed": True},
    }


def test_web2_the_handler_gets_what_the_review_has() -> None:
    seen: list[AdmissionRequest] = []

    def look(one: AdmissionRequest) -> Answer:
        seen.append(one)
        return allow()

    respond(review(POD, old={"a": 1}, operation="UPDATE"), look)
    (one,) = seen
    assert (one.operation, one.namespace, one.name, one.kind.kind) == ("UPDATE", "shop", "web", "Web")
    assert (one.user_info.username, one.user_info.groups, one.dry_run) == ("ann", ("system:authenticated",), False)
    assert one.parsed() == POD
    assert one.parsed() is one.parsed()
    assert one.parsed_old() == {"a": 1}


def test_web2_a_refusal_is_an_answer_with_all_its_causes() -> None:
    causes = (Cause("FieldValueInvalid", "must not be 0", "spec.n"),)
    outcome = respond(
        review(POD), lambda _: deny("no", code=422, reason="Invalid", causes=causes, warnings=["careful"])
    )
    answer = response(outcome)
    assert not answer["allowed"]
    assert answer["warnings"] == ["careful"]
    assert answer["status"] == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "no",
        "reason": "Invalid",
        "code": 422,
        "details": {
            "name": "web",
            "group": "example.com",
            "kind": "Web",
            "causes": [{"reason": "FieldValueInvalid", "message": "must not be 0", "field": "spec.n"}],
        },
    }
    assert "patch" not in answer


def test_web2_an_exception_of_ours_is_http_500_and_refuses_nothing() -> None:
    def broken(_: AdmissionRequest) -> Answer:
        raise KeyError("top-secret-value")

    outcome = respond(review(POD), broken)
    assert (outcome.status, outcome.allowed) == (500, None)
    assert isinstance(outcome.error, KeyError)
    assert b"top-secret" not in outcome.body
    assert "top-secret" not in outcome.problem


MALFORMED: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"hello",
    "half": review(POD)[:-20],
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "not UTF-8": review(POD).replace(b"generateName", b"generate\xff\xfe"),
    "no UTF-8 where it is read": review(POD).replace(b'"uid":"7', b'"uid":"\xff'),
    "another kind": review(POD).replace(b"AdmissionReview", b"ConversionReview"),
    "another version": review(POD, version="v2"),
    "no request": b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}',
    "null request": b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":null}',
    "no uid": review(POD, uid=""),
    "uid of another type": review(POD).replace(b'"uid":"705ab4f5-6393-11e8-b7cc-42010a800002"', b'"uid":{}'),
    "deep": review(POD).replace(b'"app"', b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1)),
    "deeper than any stack": b"[" * 1_000_000,
    "deep without an end": review(POD).replace(b'"app"', b'{"a":' * 100_000),
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
def test_c8_what_is_no_review_is_answered_and_refuses_nothing(body: bytes) -> None:
    asked = []

    def look(one: AdmissionRequest) -> Answer:
        asked.append(one.parsed())
        return allow()

    outcome = respond(body, look)
    assert outcome.status == 400
    assert outcome.allowed is None
    assert outcome.error is None
    assert outcome.problem
    assert not asked
    assert len(outcome.body) < 300


@pytest.mark.parametrize("obj", [None, [], "text", 7])
def test_c8_an_object_that_is_none_is_a_bad_review(obj: Any) -> None:
    assert respond(review(obj), lambda r: patch([{"op": "add", "path": "/a", "value": r.parsed()}])).status == 400


def test_web12_a_patch_is_tried_before_it_is_sent() -> None:
    good = [{"op": "add", "path": "/spec/containers/0/image", "value": "x"}]
    bad = [{"op": "replace", "path": "/spec/containers/1/image", "value": "x"}]
    answer = response(respond(review(POD), lambda _: patch(good)))
    assert operations(answer) == good
    assert answer["allowed"]
    for wrong in (patch(bad), patch(orjson.dumps(bad)), patch(b"[1]"), patch(b"{}"), patch(b"nonsense")):
        outcome = respond(review(POD), lambda _, wrong=wrong: wrong)
        assert (outcome.status, outcome.allowed) == (500, None)
        assert outcome.problem == "PatchError"


def test_web12_a_patch_that_leaves_no_object_is_not_sent() -> None:
    assert respond(review(POD), lambda _: patch([{"op": "replace", "path": "", "value": 1}])).status == 500


def test_web12_a_deletion_is_never_patched() -> None:
    body = review(None, old=POD, operation="DELETE")
    assert respond(body, lambda _: patch([{"op": "add", "path": "/a", "value": 1}])).status == 500
    assert response(respond(body, lambda _: allow()))["allowed"]


def test_web12_serialized_parts_are_sent_as_they_are() -> None:
    fragment = b'[{"op":"add","path":"/metadata/labels","value":{"a": "b"}}]'
    answer = response(respond(review(POD), lambda _: patch(fragment)))
    assert base64.b64decode(answer["patch"]) == fragment


def test_an_empty_patch_is_none() -> None:
    assert "patch" not in response(respond(review(POD), lambda _: patch([])))


def test_web4_warnings_fit_into_headers() -> None:
    texts = ["one\ntwo\x00", "one\ntwo\x00", "", "x" * 300, *("y" * 200 + str(n) for n in range(50))]
    warnings = response(respond(review(POD), lambda _: allow(warnings=texts)))["warnings"]
    assert warnings[0] == "one two"
    assert warnings[1] == "x" * 253 + "..."
    assert len(set(warnings)) == len(warnings)
    assert sum(map(len, warnings)) <= 4096


def test_audit_annotations_are_passed_on() -> None:
    answer = response(respond(review(POD), lambda _: allow(audit={"set": "a"})))
    assert answer["auditAnnotations"] == {"set": "a"}


@pytest.mark.parametrize(
    ("text", "limit", "wanted"),
    [
        (b'{"a":{"b":{"c":1}}}', 3, False),
        (b'{"a":{"b":{"c":1}}}', 2, True),
        (b'["[[[[", "]]", "{\\"["]', 1, False),
        (b'["\\\\", [["\\""]]]', 3, False),
        (b'["\\\\", [["\\""]]]', 2, True),
        (b"[" + b"[]," * 500 + b"[]]", 2, False),
        (b"[" + b"[]," * 500 + b"[[]]]", 2, True),
        (b"[" * 199 + b'{},"{}",[]' + b"]" * 199, 200, False),
        (b"[" * 200 + b'{},"{}",[]' + b"]" * 200, 200, True),
        (b"[" + b"[]," * 5000 + b"[]]", 2, False),
        (b"[" + b"[]," * 5000 + b"[{}]]", 2, True),
        (b"[" + b"[]," * 700_000 + b"[]]", 2, True),
    ],
)
def test_c8_depth_counts_values_and_not_text(text: bytes, limit: int, wanted: bool) -> None:
    assert too_deep(text, limit) is wanted


@pytest.mark.parametrize(
    ("text", "limit", "wanted"),
    [
        (b"[1,2,3]", 2, False),
        (b"[1,2,3]", 1, True),
        (b'[{"a":1,"b":2},{"c":3,"d":4}]', 3, False),
        (b'[{"a":1,"b":2},{"c":3,"d":4}]', 2, True),
        (b'["' + b"," * 500 + b'",1]', 1, False),
        (b'["\\"' + b"," * 500 + b'\\\\",1]', 1, False),
        (b'["\\\\",1,"\\","]', 1, True),
        (b'["\\\\",1,"\\","]', 2, False),
    ],
)
def test_c8_values_are_counted_and_not_text(text: bytes, limit: int, wanted: bool) -> None:
    orjson.loads(text)
    assert too_many(text, limit) is wanted


def test_c8_a_review_of_more_values_than_an_object_has_is_none() -> None:
    head = b'{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"1","object":{"a":['
    within = head + b",".join([b"1"] * (MAX_VALUES - 3)) + b"]}}}"
    assert respond(within, lambda _: allow()).status == 200
    beyond = respond(within.replace(b"[1,", b"[1,1,1,1,", 1), lambda _: allow())
    assert (beyond.status, beyond.body) == (400, f"there are more than {MAX_VALUES} values\n".encode())


def test_c8_the_deepest_allowed_review_passes() -> None:
    inner: Any = "x"
    for _ in range(MAX_DEPTH - 5):
        inner = {"a": inner}
    assert (
        respond(review(inner), lambda r: patch([{"op": "add", "path": "/n", "value": len(r.parsed())}])).status == 200
    )


def test_a_changed_request_keeps_its_past() -> None:
    first = request(POD, old={"a": 1}, operation="UPDATE")
    first.parsed_old()
    second = first.with_object({"b": 2})
    assert (second.parsed(), second.parsed_old(), orjson.loads(memoryview(second.object))) == (
        {"b": 2},
        {"a": 1},
        {"b": 2},
    )
    assert first.parsed() == POD
