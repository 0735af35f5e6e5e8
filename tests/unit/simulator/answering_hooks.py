"""Webhooks of tests: configurations, and replicas that answer what a test says."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

from kruise.runtime.clock import Clock, Random
from kruise.runtime.manager.http import Call, Reply
from kruise.simulator.apiserver import ApiServer, LocalCaller
from kruise.simulator.apiserver.webhooks_config import MUTATING, VALIDATING

Body = dict[str, Any]
Says = Callable[[Body], Body]
"""From a request to a response without its uid."""

SERVICE = "test/hooks"


def hook(name: str, path: str, *, plural: str = "configmaps", group: str = "", **more: Any) -> Body:
    """Return a webhook for all operations on one resource; *more* replaces its fields."""
    rule = {"apiGroups": [group], "apiVersions": ["*"], "resources": [plural], "operations": ["*"]}
    base: Body = {
        "name": f"{name}.example.com",
        "clientConfig": {"service": {"namespace": "test", "name": "hooks", "path": path}},
        "rules": [rule],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    return base | more


def patching(*operations: Body) -> Body:
    """Return a response with a patch."""
    encoded = base64.b64encode(json.dumps(operations).encode()).decode()
    return {"allowed": True, "patchType": "JSONPatch", "patch": encoded}


def labelling(key: str, value: str) -> Says:
    """Return a webhook that sets a label."""

    def say(request: Body) -> Body:
        if request["object"]["metadata"].get("labels"):
            return patching({"op": "add", "path": f"/metadata/labels/{key}", "value": value})
        return patching({"op": "add", "path": "/metadata/labels", "value": {key: value}})

    return say


class Hooks:
    """An API server with webhooks that answer in process."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.server = ApiServer(self.clock, Random(1))
        self.caller = LocalCaller(self.clock)
        self.caller.serve(SERVICE, self._answer)
        self.server.caller = self.caller
        self.says: dict[str, Says] = {}
        self.raw: dict[str, Callable[[Body], Reply]] = {}
        """What answers a whole review, whatever it is."""
        self.asked: list[tuple[str, Body]] = []
        """Path and request of each call."""

    async def _answer(self, call: Call) -> Reply:
        review = json.loads(call.body)
        self.asked.append((call.path, review["request"]))
        if call.path in self.raw:
            return self.raw[call.path](review)
        says = self.says.get(call.path)
        if says is None:
            return Reply.text("there is nothing", 404)
        response = {"uid": review["request"]["uid"], **says(review["request"])}
        answer = {"kind": review["kind"], "apiVersion": review["apiVersion"], "response": response}
        return Reply(200, json.dumps(answer).encode(), "application/json")

    def mutating(self, *webhooks: Body, name: str = "m") -> Body:
        """Register mutating webhooks."""
        return self.server.create(MUTATING, {"metadata": {"name": name}, "webhooks": list(webhooks)})

    def validating(self, *webhooks: Body, name: str = "v") -> Body:
        """Register validating webhooks."""
        return self.server.create(VALIDATING, {"metadata": {"name": name}, "webhooks": list(webhooks)})

    def paths(self) -> list[str]:
        """Return the paths that were asked, and forget the calls."""
        found = [path for path, _ in self.asked]
        self.asked.clear()
        return found
