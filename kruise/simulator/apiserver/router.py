"""From method and path to an operation.

Purpose: parse a URL path as kube-apiserver does, name the verb, and call what answers it.

Guarantees:

* TST1: every path of a resource, its objects and their subresources; an unknown path is 404, a verb that the resource
  does not have is 405, each with a Status body.

What this does not do: legacy watch paths, proxies, logs and exec are refused politely.
"""

from __future__ import annotations

from typing import Final

import orjson

from kruise.simulator.apiserver.bodies import document
from kruise.simulator.apiserver.call import Answer, Call
from kruise.simulator.apiserver.crd import deprecations
from kruise.simulator.apiserver.discovery import discover
from kruise.simulator.apiserver.failure import Failure, bad_request, method_not_allowed, no_such_path
from kruise.simulator.apiserver.openapi import OpenApi
from kruise.simulator.apiserver.operations import Operations
from kruise.simulator.apiserver.resources import Registry
from kruise.simulator.apiserver.scale import Reviews, scale_of, with_scale
from kruise.simulator.apiserver.webhooks_gate import SCALE

_HEALTH: Final = ("healthz", "livez", "readyz")
_OF_NAMESPACES: Final = ("status", "finalize")
_VERBS: Final = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "GET": "get"}


def resolve(call: Call, registry: Registry) -> list[str]:
    """Fill in what the path of *call* means; return its parts. Raises Failure 404 for an unknown resource.

    A call may be resolved twice.
    """
    parts = [part for part in call.path.split("/") if part]
    if not parts or parts[0] not in ("api", "apis"):
        return parts
    head = 2 if parts[0] == "api" else 3
    if len(parts) <= head:
        return parts
    group = "" if parts[0] == "api" else parts[1]
    call.version = parts[head - 1]
    rest = parts[head:]
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in _OF_NAMESPACES:
        call.namespace = rest[1]
        rest = rest[2:]
    info = registry.find(group, call.version, rest[0])
    if info is None or len(rest) > 3 or (call.namespace and not info.namespaced):
        raise no_such_path()
    call.info = info
    call.name = rest[1] if len(rest) > 1 else ""
    call.subresource = rest[2] if len(rest) > 2 else ""
    call.verb = _verb(call)
    call.dry_run = call.query.get("dryRun") == "All"
    return parts


def _verb(call: Call) -> str:
    verb = _VERBS.get(call.method, "")
    if verb == "get" and not call.name:
        return "watch" if call.query.get("watch", "").lower() in ("1", "true") else "list"
    if verb == "delete" and not call.name:
        return "deletecollection"
    return verb


def _no_such_version(call: Call, registry: Registry) -> bool:
    """Tell whether the path names a version that no custom kind of its group has: that is not the router's to know."""
    parts = [part for part in call.path.split("/") if part]
    if len(parts) < 4 or parts[0] != "apis":
        return False
    groups = registry.groups()
    return parts[2] not in groups.get(parts[1], [parts[2]]) and registry.custom(parts[1])


async def route(call: Call, registry: Registry, operations: Operations, reviews: Reviews) -> Answer:
    """Answer *call*. Raises Failure."""
    try:
        parts = resolve(call, registry)
    except Failure:
        if _no_such_version(call, registry):
            return Answer(404, b"404 page not found\n", {"content-type": "text/plain; charset=utf-8"})
        raise
    info = call.info
    if info is None:
        return _other(call, parts, registry)
    if info.namespaced and call.name and not call.namespace:
        raise no_such_path()
    if info.definition is not None:
        call.warnings += deprecations(info, call.version)
    if "review" in info.categories:
        if call.method != "POST":
            raise method_not_allowed(call.method)
        return reviews.answer(document(call))
    if call.subresource:
        return await _subresource(call, operations)
    if call.verb == "watch":
        return await operations.watch(call)
    if call.verb == "list":
        return await operations.list(call)
    if call.verb == "get":
        return await operations.get(call)
    if call.verb == "create" and not call.name:
        return await operations.create(call)
    if call.verb == "deletecollection":
        return await operations.delete_collection(call)
    writes = {"update": operations.update, "patch": operations.patch, "delete": operations.delete}
    if call.name and call.verb in writes:
        return await writes[call.verb](call)
    raise method_not_allowed(call.method)


async def _subresource(call: Call, operations: Operations) -> Answer:
    info, sub = call.info, call.subresource
    assert info is not None, "a subresource belongs to a resource"
    if sub not in info.subresources:
        raise no_such_path()
    if sub in ("binding", "eviction"):
        if call.method != "POST":
            raise method_not_allowed(call.method)
        return await (operations.bind(call) if sub == "binding" else operations.evict(call))
    if sub in ("log", "exec", "attach", "portforward", "ephemeralcontainers"):
        raise bad_request(f"pods/{sub}: a simulated pod runs no process")
    if sub == "scale":
        return await _scale(call, operations)
    if call.verb == "get":
        return await operations.get(call)
    if call.verb == "update":
        return await operations.update(call)
    if call.verb == "patch":
        return await operations.patch(call)
    raise method_not_allowed(call.method)


async def _scale(call: Call, operations: Operations) -> Answer:
    info = call.info
    assert info is not None, "a subresource belongs to a resource"
    if call.verb not in ("get", "update", "patch"):
        raise method_not_allowed(call.method)
    record = operations.existing(call, info)
    if call.verb != "get":
        old = scale_of(record.obj, info)
        gate = operations.gate
        asked = await gate.mutate(call, info, "UPDATE", operations.patched(call, info, old), old, own=SCALE)
        await gate.validate(call, info, "UPDATE", asked, old, own=SCALE)
        call.subresource = ""
        changed = await operations.change(call, info, record, lambda obj: with_scale(obj, info, asked), ask=False)
        call.subresource = "scale"
        record = changed if changed is not None else record
    return Answer(200, orjson.dumps(scale_of(record.obj, info)))


def _other(call: Call, parts: list[str], registry: Registry) -> Answer:
    if call.method != "GET":
        raise no_such_path() if parts else method_not_allowed(call.method)
    if parts and parts[0] in _HEALTH:
        return Answer(200, b"ok", {"content-type": "text/plain; charset=utf-8"})
    if not parts:
        paths = ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"]
        return Answer(200, orjson.dumps({"paths": paths}))
    if parts[0] == "openapi" and len(parts) > 1:
        documented = OpenApi(registry).answer(parts[1:])
        if documented is None:
            raise no_such_path()
        return Answer(200, orjson.dumps(documented))
    found = discover(parts, registry, call.headers.get("accept", ""))
    if found is None:
        raise no_such_path()
    body, kind = found
    return Answer(200, orjson.dumps(body), {"content-type": kind})
