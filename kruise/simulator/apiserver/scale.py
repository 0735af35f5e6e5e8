"""The scale subresource, and the two review kinds that are asked and never stored.

Purpose: what has a path like an object's and is none.

Guarantees:

* TST1: ``autoscaling/v1 Scale`` reads and writes the paths that the kind names, under the same preconditions.
* TokenReview and SubjectAccessReview answer from the tokens and the rule that the server was given.

What this does not do: no authorizer; a test states what is allowed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from kruise.simulator.apiserver.call import Answer
from kruise.simulator.apiserver.failure import bad_request, invalid, invalid_value
from kruise.simulator.apiserver.resources import ResourceType
from kruise.simulator.apiserver.selectors import field_default
from kruise.simulator.apiserver.workloads import selector_text

Body = dict[str, Any]


def scale_of(obj: Body, info: ResourceType) -> Body:
    """Return the Scale of *obj*."""
    meta = obj["metadata"]
    wanted = int(field_default(obj, info.scale["spec"]) or 0)
    if info.custom:
        selector = field_default(obj, info.scale["selector"]) if info.scale["selector"] else ""
    else:
        selector = selector_text((obj.get("spec") or {}).get("selector"))
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {k: meta[k] for k in kept if k in meta},
        "spec": {"replicas": wanted} if wanted else {},
        "status": {"replicas": int(field_default(obj, info.scale["status"]) or 0)}
        | ({"selector": selector} if selector else {}),
    }


def with_scale(obj: Body, info: ResourceType, scale: Body) -> Body:
    """Return *obj* with the replicas and preconditions of *scale*. Raises Failure."""
    replicas = (scale.get("spec") or {}).get("replicas", 0)
    if not isinstance(replicas, int):
        raise bad_request(
            f"json: cannot unmarshal {replicas!r} into Go struct field ScaleSpec.spec.replicas of type int32"
        )
    if replicas < 0 and not info.custom:
        cause = invalid_value("spec.replicas", replicas, "must be greater than or equal to 0")
        raise invalid("Scale", "autoscaling", obj["metadata"]["name"], cause)
    meta = dict(obj["metadata"])
    for name in ("uid", "resourceVersion"):
        given = (scale.get("metadata") or {}).get(name)
        if given:
            meta[name] = given
    return _set({**obj, "metadata": meta}, info.scale["spec"].split("."), replicas)


def _set(obj: Body, path: list[str], value: Any) -> Body:
    if len(path) == 1:
        return {**obj, path[0]: value}
    return {**obj, path[0]: _set(obj.get(path[0]) or {}, path[1:], value)}


class Reviews:
    """Answers the review kinds."""

    def __init__(self) -> None:
        self.tokens: dict[str, Body] = {}
        """Token -> ``status.user`` of its TokenReview."""
        self.allows: Callable[[Body], bool] = lambda _spec: True
        """Says whether the ``spec`` of a SubjectAccessReview is allowed."""

    def answer(self, review: Body, user: str = "system:admin") -> Answer:
        """Return *review* with its status."""
        spec = review.get("spec") or {}
        review = {**review, "metadata": review.get("metadata") or {}}
        if review.get("kind") == "SelfSubjectReview":
            status: Body = {"userInfo": {"username": user, "groups": ["system:masters", "system:authenticated"]}}
            return Answer(201, orjson.dumps({**review, "status": status}))
        if review.get("kind") == "TokenReview":
            found = self.tokens.get(spec.get("token", ""))
            status = {"user": {}} if found is None else {"authenticated": True, "user": found}
        else:
            allowed = self.allows(spec)
            status = {"allowed": allowed} if allowed else {"allowed": False, "reason": "no rule allows it"}
        return Answer(201, orjson.dumps({**review, "status": status}))
