"""The rule that every write is conditional, checked where it cannot be missed.

Purpose: a middleware for tests and rehearsals that looks at each request on its way to the server and refuses one that
could overwrite what its sender has not seen.

Guarantees:

* CLI2: PATCH carries ``metadata.resourceVersion`` and ``metadata.uid``, or tests them; a patch of nothing but owners of
  a built-in kind may carry the uid alone (OBJ5). DELETE carries ``preconditions.uid``. CREATE carries a name.
* CLI3: a patch of the status of a custom resource without resourceVersion is refused: there the uid guards nothing.
* FRA7: PUT is refused.
* Never: ``gracePeriodSeconds: 0``, the deletion of a collection, of a claim, or of an object by its name alone.
* CLI6: with ``dry_run=True`` every write must say ``dryRun=All``; only the lease is really taken.

Events alone are exempt. Reads, and reviews that store nothing, pass.

What this does not do: it does not know whether the version is the right one; the server does. It sees forms, not
intentions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import msgspec

from kruise.runtime.client.noop import PatchKind
from kruise.runtime.client.transport import ByteStream, Pool, Request, Response, Transport

_EVENT_GROUPS: Final = ("", "events.k8s.io")
_REVIEW_GROUPS: Final = ("authentication.k8s.io", "authorization.k8s.io")


@dataclass(frozen=True, slots=True)
class Violation:
    """A write that breaks the rule."""

    rule: str
    """What is wrong, in one line."""
    method: str
    path: str
    controller: str

    def __str__(self) -> str:
        return f"{self.method} {self.path} by {self.controller or 'the runtime'}: {self.rule}"


class UnconditionalWrite(AssertionError):
    """A write broke the rule, and was not sent."""


class WriteGuard:
    """A middleware that refuses unconditional writes: it raises UnconditionalWrite, and remembers each of them.

    An error that is raised may be caught by whoever sent the write; :meth:`assert_clean` at the end of a test may not.
    With ``refuse=False`` such a write is sent and remembered.
    """

    def __init__(self, *, dry_run: bool = False, refuse: bool = True) -> None:
        self.dry_run = dry_run
        self.refuse = refuse
        self.violations: list[Violation] = []
        self.writes = 0
        """How many writes were seen, Events not counted."""

    async def call(self, request: Request, nxt: Transport) -> Response:
        """Check *request* and pass it on."""
        self._look(request)
        return await nxt.request(request)

    async def stream(self, request: Request, nxt: Transport) -> ByteStream:
        """Check *request* and pass it on."""
        self._look(request)
        return await nxt.stream(request)

    def assert_clean(self) -> None:
        """Raise UnconditionalWrite when any write broke the rule."""
        if self.violations:
            raise UnconditionalWrite("; ".join(map(str, self.violations)))

    def _look(self, request: Request) -> None:
        if not request.mutating or _exempt(request):
            return
        self.writes += 1
        found = check_write(request, dry_run=self.dry_run)
        if found is None:
            return
        violation = Violation(found, request.method, request.path, request.controller)
        self.violations.append(violation)
        if self.refuse:
            raise UnconditionalWrite(str(violation))


def _exempt(request: Request) -> bool:
    return request.resource == "events" and request.group in _EVENT_GROUPS


def _custom(request: Request) -> bool:
    """Tell whether a CustomResourceDefinition stands behind it, even if the sender does not say so."""
    return request.custom or ("." in request.group and not request.group.endswith(".k8s.io"))


def check_write(request: Request, *, dry_run: bool = False) -> str | None:
    """Return what is wrong with the write *request*; None when it is conditional."""
    if dry_run and request.pool is not Pool.LEASE and parse_qs(urlsplit(request.path).query).get("dryRun") != ["All"]:
        return "a write without dryRun=All in a dry run"
    try:
        body = msgspec.json.decode(request.body) if request.body else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "a body that is no JSON"
    if request.method == "POST":
        return _check_create(request, body)
    if request.method == "PATCH":
        return _check_patch(request, body)
    if request.method == "DELETE":
        return _check_delete(request, body)
    return f"{request.method}: objects are patched, never replaced"


def _check_create(request: Request, body: Any) -> str | None:
    if request.group in _REVIEW_GROUPS:
        return None
    if request.subresource == "eviction":
        return _check_delete_options(_dict(_dict(body).get("deleteOptions")))
    if request.subresource:
        return None
    meta = _dict(_dict(body).get("metadata"))
    if meta.get("generateName") or not meta.get("name"):
        return "CREATE without a name of its own"
    return None


def _check_patch(request: Request, body: Any) -> str | None:
    kind = _header(request, "content-type").partition(";")[0]
    if kind == PatchKind.JSON.value:
        return _check_json_patch(body)
    meta = _dict(_dict(body).get("metadata"))
    if meta.get("resourceVersion"):
        return None if meta.get("uid") else "PATCH without metadata.uid"
    if _custom(request) and request.subresource == "status":
        return "a status PATCH of a custom resource without metadata.resourceVersion: nothing else guards it"
    if meta.get("uid") and not _custom(request) and not request.subresource and _only_owners(body):
        return None
    return "PATCH without metadata.resourceVersion"


def _only_owners(body: Any) -> bool:
    return _dict(body).keys() == {"metadata"} and _dict(body["metadata"]).keys() == {"uid", "ownerReferences"}


def _check_json_patch(body: Any) -> str | None:
    tested = set()
    for op in body if isinstance(body, list) else ():
        if _dict(op).get("op") != "test":
            break  # a test after the first change would still hold, but is not how a precondition is read
        if op.get("value"):
            tested.add(op.get("path"))
    for path in ("/metadata/uid", "/metadata/resourceVersion"):
        if path not in tested:
            return f"JSON PATCH that does not begin with a test of {path}"
    return None


def _check_delete(request: Request, body: Any) -> str | None:
    if not request.name:
        return "the deletion of a collection"
    if request.resource == "persistentvolumeclaims" and not request.group:
        return "the deletion of a claim: the data in it is the user's"
    query = parse_qs(urlsplit(request.path).query)
    if query.get("gracePeriodSeconds") == ["0"]:
        return "gracePeriodSeconds 0: the kubelet may still run the pod"
    return _check_delete_options(_dict(body))


def _check_delete_options(options: dict[str, Any]) -> str | None:
    if options.get("gracePeriodSeconds") == 0:
        return "gracePeriodSeconds 0: the kubelet may still run the pod"
    if not _dict(options.get("preconditions")).get("uid"):
        return "DELETE without preconditions.uid"
    return None


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _header(request: Request, name: str) -> str:
    return next((v for k, v in request.headers.items() if k.lower() == name), "")
