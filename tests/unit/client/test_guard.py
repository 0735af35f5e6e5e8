"""guard.py: every form of a write that could overwrite what its sender has not seen."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kruise.runtime.client.guard import UnconditionalWrite, WriteGuard, check_write
from kruise.runtime.client.noop import PatchKind
from kruise.runtime.client.transport import Pool, Request, chain
from tests.unit.client.fakes import Script, ok

MERGE, STRATEGIC, JSON = (kind.value for kind in PatchKind)
BOTH = {"uid": "u", "resourceVersion": "5"}
UID_TEST = {"op": "test", "path": "/metadata/uid", "value": "u"}
VERSION_TEST = {"op": "test", "path": "/metadata/resourceVersion", "value": "5"}
CHANGE = {"op": "add", "path": "/metadata/labels/x", "value": "y"}
OWNERS = {"metadata": {"uid": "u", "ownerReferences": []}}


def write(method: str, body: Any = None, *, kind: str = MERGE, path: str = "/x", **more: Any) -> Request:
    more = {"resource": "pods", "name": "a", **more}
    data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
    return Request(method, path, {"content-type": kind}, data, **more)


ALLOWED = {
    "cli2-create": write("POST", {"metadata": {"name": "a"}}, name=""),
    "cli2-merge": write("PATCH", {"metadata": BOTH, "spec": {}}),
    "cli2-strategic": write("PATCH", {"metadata": BOTH}, kind=STRATEGIC),
    "cli2-json": write("PATCH", [UID_TEST, VERSION_TEST, CHANGE], kind=JSON),
    "obj5-adopt": write("PATCH", OWNERS, kind=STRATEGIC),
    "cli3-status": write("PATCH", {"metadata": BOTH, "status": {}}, subresource="status", custom=True),
    "cli2-delete": write("DELETE", {"preconditions": {"uid": "u"}}),
    "cli2-evict": write("POST", {"deleteOptions": {"preconditions": {"uid": "u"}}}, subresource="eviction"),
    "cli2-bind": write("POST", {"target": {}}, subresource="binding"),
    "cli2-review": write(
        "POST", {"spec": {}}, name="", group="authorization.k8s.io", resource="selfsubjectaccessreviews"
    ),
}
FORBIDDEN = {
    "cli2-generate-name": write("POST", {"metadata": {"generateName": "a-"}}, name=""),
    "cli2-both-names": write("POST", {"metadata": {"generateName": "a-", "name": "a"}}, name=""),
    "cli2-no-name": write("POST", {}, name=""),
    "cli2-no-version": write("PATCH", {"metadata": {"uid": "u", "labels": {}}}),
    "cli2-nothing": write("PATCH", {"spec": {}}),
    "cli2-no-body": write("PATCH"),
    "cli2-bad-body": write("PATCH", b"{"),
    "cli2-no-uid": write("PATCH", {"metadata": {"resourceVersion": "5"}}),
    "cli2-empty-version": write("PATCH", {"metadata": {"uid": "u", "resourceVersion": ""}}),
    "cli2-apply": write("PATCH", {"metadata": {"name": "a"}}, kind="application/apply-patch+yaml"),
    "cli2-json-no-test": write("PATCH", [CHANGE], kind=JSON),
    "cli2-json-no-version-test": write("PATCH", [UID_TEST, CHANGE], kind=JSON),
    "cli2-json-late-test": write("PATCH", [CHANGE, UID_TEST, VERSION_TEST], kind=JSON),
    "obj5-custom-adopt": write("PATCH", OWNERS, custom=True),
    "obj5-unsaid-custom-adopt": write("PATCH", OWNERS, group="apps.kruise.io"),
    "obj5-more-than-owners": write("PATCH", {"metadata": {**OWNERS["metadata"], "labels": {}}}),
    "obj5-and-spec": write("PATCH", {**OWNERS, "spec": {}}),
    "cli3-status-by-uid": write("PATCH", {"metadata": {"uid": "u"}, "status": {}}, subresource="status", custom=True),
    "cli3-builtin-status": write("PATCH", {"metadata": {"uid": "u"}, "status": {}}, subresource="status"),
    "cli2-delete-by-name": write("DELETE"),
    "cli2-delete-by-version": write("DELETE", {"preconditions": {"resourceVersion": "5"}}),
    "cli2-now": write("DELETE", {"gracePeriodSeconds": 0, "preconditions": {"uid": "u"}}),
    "cli2-now-by-query": write("DELETE", {"preconditions": {"uid": "u"}}, path="/x?gracePeriodSeconds=0"),
    "cli2-collection": write("DELETE", {"preconditions": {"uid": "u"}}, name=""),
    "cli2-claim": write("DELETE", {"preconditions": {"uid": "u"}}, resource="persistentvolumeclaims"),
    "cli2-evict-by-name": write("POST", {"metadata": {"name": "a"}}, subresource="eviction"),
    "fra7-put": write("PUT", {"metadata": BOTH}),
}


@pytest.mark.parametrize("name", ALLOWED)
async def test_cli2_conditional_forms_pass(name: str) -> None:
    script, guard = Script(lambda _: ok({})), WriteGuard()
    await chain(script, [guard]).request(ALLOWED[name])
    assert len(script.requests) == 1 and guard.writes == 1
    guard.assert_clean()


@pytest.mark.parametrize("name", FORBIDDEN)
async def test_cli2_cli3_fra7_unconditional_forms_are_not_sent(name: str) -> None:
    script, guard = Script(lambda _: ok({})), WriteGuard()
    with pytest.raises(UnconditionalWrite):
        await chain(script, [guard]).request(FORBIDDEN[name])
    assert script.requests == []
    with pytest.raises(AssertionError):  # also when whoever sent it caught the error
        guard.assert_clean()


async def test_cli2_a_guard_that_only_watches_remembers() -> None:
    script, guard = Script(lambda _: ok({})), WriteGuard(refuse=False)
    await chain(script, [guard]).request(write("DELETE", controller="test"))
    assert [v.controller for v in guard.violations] == ["test"] and len(script.requests) == 1


async def test_rec7_events_alone_are_exempt_and_reads_pass() -> None:
    script, guard = Script(lambda _: ok({})), WriteGuard()
    for group in ("", "events.k8s.io"):
        await chain(script, [guard]).request(write("PATCH", {"series": {}}, resource="events", group=group))
    await chain(script, [guard]).request(Request("GET", "/api/v1/pods", resource="pods"))
    assert guard.writes == 0 and len(script.requests) == 3
    assert check_write(write("PATCH", {}, resource="events", group="other.io")) is not None


def test_cli6_in_a_dry_run_every_write_says_so_but_the_lease() -> None:
    patch = {"metadata": BOTH}
    assert check_write(write("PATCH", patch), dry_run=True)
    assert check_write(write("PATCH", patch, path="/x?fieldManager=k&dryRun=All"), dry_run=True) is None
    assert check_write(write("PATCH", patch, resource="leases", pool=Pool.LEASE), dry_run=True) is None
