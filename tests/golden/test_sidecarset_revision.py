"""Revisions of SidecarSets: exact bytes and names, which one is the latest, which ones go, and restoring one."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kruise.apis.sidecarset import SIDECARSETS, InjectionRevision
from kruise.controllers.common.revisions import (
    AdoptRevision,
    BumpRevision,
    CreateRevision,
    resolve_exists,
)
from kruise.controllers.sidecarset.podstate import entry_of
from kruise.controllers.sidecarset.revisions import (
    FORM,
    RevisionNotFoundError,
    choose_revision,
    content_of,
    find_revision,
    new_revision,
    restore,
    revisions_of,
    surplus,
)
from tests.golden.loader import Case, normalise, parametrize
from tests.golden.pod_flow import typed
from tests.golden.sidecar_world import JSON, revision, set_of

SPACE = "kruise-system"


@parametrize("sidecarset-revision")
def test_s6_a_new_revision_has_their_bytes(case: Case) -> None:
    given = case.input
    body = new_revision(
        set_of(given["set"]),
        namespace=given["namespace"],
        number=given["number"],
        collision_count=given["collisionCount"],
    )
    wanted = case.output
    assert bytes(body["data"]).decode() == wanted["data"]
    found = {"revision": body["revision"], **{key: body["metadata"].get(key) for key in wanted if key in TOLD}}
    assert normalise(found) == normalise({key: value for key, value in wanted.items() if key != "data"})


TOLD = ("name", "namespace", "labels", "annotations", "ownerReferences")


def registered(case: Case) -> tuple[str, int, int, dict[str, JSON]]:
    """Perform the choice on the given revisions: latest, its number, collision count, and what is there after it."""
    one = set_of(case.input["set"])
    stored = {body["metadata"]["name"]: revision(body) for body in case.input["revisions"]}
    bodies: dict[str, JSON] = {
        name: {"name": name, "revision": obj.revision, "labels": dict(obj.metadata.labels), "data": bytes(obj.data)}
        for name, obj in stored.items()
    }
    chosen = choose_revision(one, revisions_of(one, stored.values(), SPACE), SPACE)
    while (taken := stored.get(chosen.update.name)) and any(isinstance(w, CreateRevision) for w in chosen.writes):
        chosen = resolve_exists(chosen, taken, SIDECARSETS, one, form=FORM)
    for write in chosen.writes:
        if isinstance(write, CreateRevision):
            meta = write.body["metadata"]
            data = bytes(write.body["data"])
            bodies[write.name] = {
                "name": write.name,
                "revision": write.body["revision"],
                "labels": meta["labels"],
                "data": data,
            }
        elif isinstance(write, BumpRevision):
            body = bodies[write.obj.metadata.name]
            assert write.patch, "a write that changes nothing"
            body["revision"] = write.patch.get("revision", body["revision"])
            body["labels"].update(write.patch.get("metadata", {}).get("labels", {}))
        else:
            assert isinstance(write, AdoptRevision)
    names = {entry_of(one.metadata.name, typed(pod)).revision for pod in case.input["pods"]}
    for gone in surplus(one, chosen, names):
        del bodies[gone.metadata.name]
    return chosen.update.name, bodies[chosen.update.name]["revision"], chosen.collision_count, bodies


@parametrize("sidecarset-revision-register")
def test_s6_register(case: Case) -> None:
    latest, number, collisions, bodies = registered(case)
    wanted = case.output
    assert (latest, number, collisions) == (wanted["latest"], wanted["latestNumber"], wanted["collisionCount"] or 0)
    found = [{**bodies[name], "data": bodies[name]["data"].decode()} for name in sorted(bodies)]
    assert found == [{**one, "labels": one.get("labels") or {}} for one in wanted["revisionsAfter"]]


@parametrize("sidecarset-revision-restore")
def test_restore(case: Case) -> None:
    one = set_of(case.input["set"])
    ref = msgspec.convert(case.input["revision"], InjectionRevision)
    stored = [revision(body) for body in case.input["revisions"]]
    if "error" in case.output:
        with pytest.raises(RevisionNotFoundError) as raised:
            find_revision(one.metadata.name, ref, stored)
        assert str(raised.value) == case.output["error"]
        return
    found = find_revision(one.metadata.name, ref, stored)
    wanted: Any = case.output["set"]
    assert (found is None) == (wanted is None)
    if found is None:
        return
    restored = restore(one, found)
    content = content_of(restored)
    assert normalise(content) == normalise({key: wanted["spec"].get(key) for key in content})
    assert restored.metadata.annotations == wanted["metadata"]["annotations"]
    assert restored.metadata.labels == wanted["metadata"].get("labels", {})
    assert (restored.uid, restored.resource_version) == (one.uid, one.resource_version)
    assert restored.status.latest_revision == wanted["status"]["latestRevision"]
    assert restored.spec.selector is None
