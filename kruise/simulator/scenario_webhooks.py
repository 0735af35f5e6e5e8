"""The webhooks of the managers in a scenario: the way from the API server to a living replica, its faults, its judge.

Purpose: admission runs in the simulation as the production handlers have it, without a socket. A request goes to one
of the replicas that a Service would choose.

Guarantees:

* F10, F11: a replica that stands still does not answer, one that is gone refuses the connection; what the plan says
  strikes each call by its ordinal. A serving certificate that its caller would not trust, or that is over, ends a call,
  and is a violation.
* C2: each answer is asked for twice, and must be the same; a pod that was injected is injected again, under another
  uid, and nothing must change.
* C8, rule 31: whatever happens, an answer is 200, 500 or 503; a pod is refused for a user's fault only. No answer of
  ours removes a path (X35), and none replaces a list as a whole.
* WEB6: a conversion succeeds, keeps identity, and loses nothing on a way back that it kept on the way there.

What this does not do: the API server decides what a failed call means.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import orjson

from kruise.runtime.clock import Clock
from kruise.runtime.errors import Refused, Reset, Timeout
from kruise.runtime.manager.http import Call, Reply
from kruise.runtime.testing.tape import Tape
from kruise.runtime.webhook.patching import apply_patch
from kruise.runtime.webhook.server import WebhookServer
from kruise.simulator.apiserver.webhooks import Answer, Target
from kruise.simulator.faults import OnAdmission, Plan

Body = dict[str, Any]

PODS: Final = "/mutate-pod"
_ANSWERS: Final = (200, 500, 503)


class Served(Protocol):
    """One replica, as far as its webhooks go."""

    name: str
    paused: bool

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        ...

    @property
    def serving(self) -> WebhookServer | None:
        """Its webhooks; ``None`` when it has none."""
        ...

    def trouble_with_tls(self, bundle: bytes) -> str:
        """Say why a client that trusts *bundle* would not talk to it; empty when it would."""
        ...


class Webhooks:
    """Carries the calls of one API server to the replicas. A ``Caller`` of the server."""

    def __init__(
        self,
        replicas: Callable[[], Collection[Served]],
        plan: Plan,
        tape: Tape,
        clock: Clock,
        strike: Callable[[OnAdmission, str], None],
    ) -> None:
        self.down = False
        """Whether nobody can be reached."""
        self.healed = False
        self.refused: list[str] = []
        """Why pods were refused, as their users were told."""
        self.calls = 0
        self.violations: list[str] = []
        self._replicas = replicas
        self._plan = plan
        self._tape = tape
        self._clock = clock
        self._strike = strike

    async def __call__(self, target: Target, body: bytes, seconds: float) -> Answer:
        """POST *body*. Raises TransportError."""
        ordinal = self.calls
        self.calls += 1
        path = target.path or urlsplit(target.url).path
        fault = None if self.healed else self._plan.admissions.get(ordinal)
        if fault is not None:
            self._strike(fault, f"call {ordinal} of {path}")
        replica = self._choose()
        where = f"dial tcp {target.name or urlsplit(target.url).hostname}:443"
        if replica is None or self.down or fault is OnAdmission.REFUSED:
            raise Refused(f"{where}: connect: connection refused")
        if fault is OnAdmission.SLOW or replica.paused:
            await self._clock.sleep(seconds)
            raise Timeout(f"{where}: context deadline exceeded")
        problem = replica.trouble_with_tls(target.bundle)
        if problem:
            self._violated("F11", f"a call of {path} ends with {problem}")
            raise Reset(f"{where}: tls: failed to verify certificate: {problem}")
        return await self._ask(replica, path, body, seconds, fault)

    def _choose(self) -> Served | None:
        """Return one of those to whom a Service would send a request."""
        living = [one for one in self._replicas() if one.running and one.serving is not None]
        return self._tape.pick(living) if living else None

    async def _ask(self, replica: Served, path: str, body: bytes, seconds: float, fault: OnAdmission | None) -> Answer:
        server = replica.serving
        assert server is not None, "it was chosen because it serves"
        call = _call(path, body, seconds)
        reply = await server.answer(call)
        await self._judge(server, path, call, reply)
        match fault:
            case OnAdmission.RESET:
                raise Reset(f"Post {path}: connection reset by peer")
            case OnAdmission.INTERNAL:
                return Answer(500, b"on purpose\n", "text/plain")
            case OnAdmission.UNAVAILABLE:
                return Answer(503, b"on purpose\n", "text/plain")
            case OnAdmission.TRUNCATED:
                return Answer(reply.status, reply.body[: len(reply.body) // 2], reply.content_type)
        return Answer(reply.status, reply.body, reply.content_type)

    # The judge.

    async def _judge(self, server: WebhookServer, path: str, call: Call, reply: Reply) -> None:
        if reply.status not in _ANSWERS:
            self._violated("C8", f"{path} answers {reply.status}: {reply.body[:200]!r}")
        if reply.status != 200:
            return
        again = await server.answer(call)
        if again.status == 200 and again.body != reply.body:
            self._violated("C2", f"{path} answers the same review in two ways: {_short(reply)} and {_short(again)}")
        review = orjson.loads(call.body)
        answer = orjson.loads(reply.body)
        response = answer["response"]
        if path.startswith("/convert"):
            await self._on_converted(server, path, review["request"], response)
            return
        if response.get("uid") != review["request"]["uid"]:
            self._violated("C8", f"{path} answers another review")
        if not response["allowed"]:
            self._on_refused(path, response)
        elif response.get("patch"):
            await self._on_patched(server, path, review, orjson.loads(base64.b64decode(response["patch"])))

    def _on_refused(self, path: str, response: Body) -> None:
        status = response.get("status") or {}
        if not 400 <= int(status.get("code") or 0) < 500:
            self._violated("C8", f"{path} refuses with {status.get('code')}, which is no user's fault")
        if path == PODS:
            self.refused.append(str(status.get("message")))

    async def _on_patched(self, server: WebhookServer, path: str, review: Body, patch: list[Body]) -> None:
        request = review["request"]
        for step in patch:
            whole = step["op"] == "replace" and isinstance(step.get("value"), list) and path == PODS
            status = step["op"] == "remove" and str(step["path"]).startswith("/status")
            if whole or not (status or step["op"] in ("add", "test", "replace")):
                self._violated("C2", f"{path} sends {step['op']} of {step['path']}")
        changed = apply_patch(request["object"], patch)
        second = {**review, "request": {**request, "object": changed, "uid": f"{request['uid']}-again"}}
        reply = await server.answer(_call(path, orjson.dumps(second), 10.0))
        response = orjson.loads(reply.body)["response"] if reply.status == 200 else {}
        if response.get("patch"):
            text = base64.b64decode(response["patch"]).decode()
            self._violated("C2", f"{path} changes again what it has changed: {text[:400]}")

    async def _on_converted(self, server: WebhookServer, path: str, request: Body, response: Body) -> None:
        told = (response.get("result") or {}).get("status")
        if response.get("uid") != request["uid"] or told != "Success":
            self._violated("WEB6", f"{path} does not convert what was stored or admitted: {response.get('result')}")
            return
        given, found = request["objects"], response["convertedObjects"]
        if [_identity(one) for one in given] != [_identity(one) for one in found]:
            self._violated("WEB6", f"{path} answers with other objects than it was asked for")
        wanted = request["desiredAPIVersion"]
        for old, new in zip(given, found, strict=False):
            back = await _converted(server, path, request, new, old["apiVersion"])
            again = await _converted(server, path, request, back, wanted) if back is not None else None
            if new["apiVersion"] != wanted or again != new:
                self._violated("WEB6", f"{path} makes {again} of {new} on the way to {old['apiVersion']} and back")

    def _violated(self, invariant: str, text: str) -> None:
        if len(self.violations) < 20:
            self.violations.append(f"{invariant}: {text}")


async def _converted(server: WebhookServer, path: str, request: Body, obj: Body, version: str) -> Body | None:
    """Return what the webhook makes of *obj* in another version."""
    asked = {**request, "desiredAPIVersion": version, "objects": [obj]}
    body = {"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1", "request": asked}
    reply = await server.answer(_call(path, orjson.dumps(body), 10.0))
    found = orjson.loads(reply.body)["response"].get("convertedObjects") if reply.status == 200 else None
    return found[0] if found else None


def _identity(obj: Body) -> tuple[object, ...]:
    meta = obj["metadata"]
    return obj["kind"], meta.get("namespace"), meta.get("name"), meta.get("uid"), meta.get("generation")


def _call(path: str, body: bytes, seconds: float) -> Call:
    query = {"timeout": (f"{seconds:g}s",)}
    return Call("POST", path, query, {"content-type": "application/json"}, body)


def _short(reply: Reply) -> str:
    return reply.body[:300].decode(errors="replace")
