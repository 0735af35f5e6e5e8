"""Reviews as an API server sends them, and what comes back, for the tests of this folder."""

from __future__ import annotations

import base64
from typing import Any

import orjson

from kruise.runtime.webhook.admission import AdmissionRequest, Outcome, open_review


def review(
    obj: Any = None,
    *,
    old: Any = None,
    operation: str = "CREATE",
    uid: str = "705ab4f5-6393-11e8-b7cc-42010a800002",
    version: str = "v1",
    name: str = "web",
    kind: str = "Web",
    group: str = "example.com",
) -> bytes:
    request = {
        "uid": uid,
        "kind": {"group": group, "version": "v1", "kind": kind},
        "resource": {"group": group, "version": "v1", "resource": "webs"},
        "requestKind": {"group": group, "version": "v1", "kind": kind},
        "name": name,
        "namespace": "shop",
        "operation": operation,
        "userInfo": {"username": "ann", "groups": ["system:authenticated"], "extra": {"x": ["y"]}},
        "object": obj,
        "oldObject": old,
        "dryRun": False,
        "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"},
    }
    return orjson.dumps({"apiVersion": f"admission.k8s.io/{version}", "kind": "AdmissionReview", "request": request})


def request(obj: Any = None, **more: Any) -> AdmissionRequest:
    return open_review(review(obj, **more)).request


def response(outcome: Outcome) -> dict[str, Any]:
    """Return the response of an outcome that must be an answer."""
    assert outcome.status == 200, outcome
    body = orjson.loads(outcome.body)
    assert body["kind"] == "AdmissionReview"
    found: dict[str, Any] = body["response"]
    return found


def operations(answer: dict[str, Any]) -> list[dict[str, Any]]:
    assert answer["patchType"] == "JSONPatch"
    found: list[dict[str, Any]] = orjson.loads(base64.b64decode(answer["patch"]))
    return found
