"""Admission reviews: the question that a webhook gets, and what its answer may be.

Purpose: the bodies of ``admission.k8s.io`` v1 and v1beta1, in both directions.

Guarantees:

* TST1: the review has everything that the server sends: both objects in the version of the webhook's rule, the kind and
  resource of the request beside those of the rule, options, user, dry run. An answer is held to the server's rules: its
  uid and kind (v1), a patch together with its type, none from a validating webhook.

What this does not do: ``denied`` and the patch are the dispatcher's.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any, Final

import orjson

from kruise.apis.fielderrors import go_quote
from kruise.simulator.apiserver.webhooks import CallFailed
from kruise.simulator.apiserver.webhooks_match import Place, Question

Body = dict[str, Any]

GROUP: Final = "admission.k8s.io"
JSON_PATCH: Final = "JSONPatch"
_KNOWN: Final = (f"{GROUP}/v1", f"{GROUP}/v1beta1")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a webhook has said."""

    allowed: bool
    patch: list[Any]
    """The operations of a JSON patch."""
    status: Any
    warnings: tuple[str, ...]
    audit: dict[str, str]


def version_for(versions: tuple[str, ...]) -> str:
    """Return the version of the review for a webhook that takes *versions*. Raises CallFailed."""
    for version in versions:
        if version in ("v1", "v1beta1"):
            return version
    raise CallFailed(
        "could not create admission objects: webhook does not accept known AdmissionReview versions (v1, v1beta1)"
    )


def review(version: str, uid: str, question: Question, place: Place, obj: Body | None, old: Body | None) -> Body:
    """Return the review for a webhook whose rule is about *place*."""
    request: Body = {"uid": uid, "kind": question.gvk_at(place), "resource": place.gvr()}
    if question.subresource:
        request["subResource"] = question.subresource
    request["requestKind"] = question.gvk_at(question.place)
    request["requestResource"] = question.place.gvr()
    if question.subresource:
        request["requestSubResource"] = question.subresource
    if question.name:
        request["name"] = question.name
    if question.namespace:
        request["namespace"] = question.namespace
    request |= {
        "operation": question.operation,
        "userInfo": question.user,
        "object": obj,
        "oldObject": old,
        "dryRun": question.dry_run,
        "options": question.options,
    }
    return {"kind": "AdmissionReview", "apiVersion": f"{GROUP}/{version}", "request": request}


def variables(question: Question, place: Place, obj: Body | None, old: Body | None) -> Body:
    """Return what an expression of ``matchConditions`` sees."""
    request = dict(review("v1", "", question, place, None, None)["request"])
    for name in ("uid", "object", "oldObject"):
        del request[name]
    for name in ("subResource", "requestSubResource", "name", "namespace"):
        request.setdefault(name, "")
    return {"object": obj, "oldObject": old, "request": request}


def verdict(version: str, uid: str, answer: Body, *, mutating: bool) -> Verdict:
    """Return what *answer*, a decoded review, says. Raises CallFailed."""
    wanted = f"{GROUP}/{version}"
    given, kind = str(answer.get("apiVersion") or wanted), str(answer.get("kind") or "AdmissionReview")
    if kind != "AdmissionReview" or given not in _KNOWN:
        text = f'no kind "{kind}" is registered for version "{given}" in scheme "pkg/runtime/scheme.go:111"'
        raise CallFailed(f"failed to call webhook: {text}")
    if given != wanted:
        has, wants = given.rpartition("/")[2], version
        text = f"converting ({has}.AdmissionReview) to ({wants}.AdmissionReview): unknown conversion"
        raise CallFailed(f"failed to call webhook: {text}")
    response = answer.get("response")
    if not isinstance(response, dict):
        raise _invalid("webhook response was absent")
    given_uid = response.get("uid", "")
    if not isinstance(given_uid, str):
        raise CallFailed(
            f"failed to call webhook: json: cannot unmarshal {_go(given_uid)} into Go struct field "
            "AdmissionResponse.response.uid of type types.UID"
        )
    if version == "v1" and given_uid != uid:
        raise _invalid(f"expected response.uid={go_quote(uid)}, got {go_quote(given_uid)}")
    if version == "v1" and not (answer.get("apiVersion") and answer.get("kind")):
        named = f"{answer.get('apiVersion') or '/'}, Kind={answer.get('kind') or ''}"
        raise _invalid(f"expected webhook response of {wanted}, Kind=AdmissionReview, got {named}")
    patch = _patch_bytes(response)
    kind_of_patch = response.get("patchType")
    if not mutating:
        if version == "v1" and patch:
            raise _invalid("validating webhook may not return response.patch")
        if version == "v1" and kind_of_patch is not None:
            raise _invalid("validating webhook may not return response.patchType")
        patch = b""
    elif version == "v1":
        _check_patch_type(patch, kind_of_patch)
    return Verdict(
        response.get("allowed") is True,
        _operations(patch, kind_of_patch if version == "v1" else JSON_PATCH) if response.get("allowed") is True else [],
        response.get("status"),
        tuple(w for w in response.get("warnings") or () if isinstance(w, str)),
        {k: v for k, v in (response.get("auditAnnotations") or {}).items() if isinstance(v, str)},
    )


def _go(value: Any) -> str:
    return {dict: "object", list: "array", bool: "bool"}.get(type(value), "number")


def _invalid(why: str) -> CallFailed:
    return CallFailed(f"received invalid webhook response: {why}")


def _patch_bytes(response: Body) -> bytes:
    given = response.get("patch")
    if given is None:
        return b""
    try:
        return base64.b64decode(given, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise CallFailed("failed to call webhook: illegal base64 data at input byte 0") from None


def _check_patch_type(patch: bytes, kind: Any) -> None:
    if patch and kind is None:
        raise _invalid("webhook returned response.patch but not response.patchType")
    if not patch and kind is not None:
        raise _invalid("webhook returned response.patchType but not response.patch")
    if kind == "":
        raise _invalid('webhook returned invalid response.patchType of ""')


def _operations(patch: bytes, kind: Any) -> list[Any]:
    if not patch:
        return []
    try:
        read = orjson.loads(patch)
    except orjson.JSONDecodeError:
        raise CallFailed("received undecodable patch in webhook response: Invalid JSON Patch") from None
    if not isinstance(read, list) or not all(isinstance(one, dict) for one in read):
        raise CallFailed("received undecodable patch in webhook response: Invalid JSON Patch")
    if read and kind != JSON_PATCH:
        raise CallFailed(f"unsupported patch type {go_quote(str(kind))}")
    return read
