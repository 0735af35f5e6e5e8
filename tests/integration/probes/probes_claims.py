"""Probes of what an Advanced StatefulSet stands on: claims, their owners, resize, and its scale subresource."""

from __future__ import annotations

from typing import Any

from tests.integration.probes.asking import World
from tests.integration.probes.registry import acted, probe

_IMAGE = "registry.example.com/app:v1"


async def storage(w: World, *, grows: bool, mode: str = "Immediate") -> str:
    """Make a storage class whose volumes come from the simulated nodes; return its name."""
    name = f"class-{w.ns}"
    body = w.body("storageclasses", name, provisioner="sim.kruise.io/provisioner", volumeBindingMode=mode)
    await w.make("storageclasses", {**body, "allowVolumeExpansion": grows})
    return name


def claim(w: World, name: str, storage_class: str, *owners: dict[str, Any]) -> dict[str, Any]:
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": storage_class,
        "resources": {"requests": {"storage": "1Gi"}},
    }
    return w.body("persistentvolumeclaims", name, meta={"ownerReferences": list(owners)}, spec=spec)


def asks(size: str) -> dict[str, Any]:
    return {"spec": {"resources": {"requests": {"storage": size}}}}


def reference(obj: dict[str, Any], **more: Any) -> dict[str, Any]:
    meta = obj["metadata"]
    return {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "name": meta["name"], "uid": meta["uid"], **more}


def a_set(w: World, name: str) -> dict[str, Any]:
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "main", "image": _IMAGE}], "schedulerName": "nobody"},
    }
    spec = {"replicas": 0, "selector": {"matchLabels": {"app": name}}, "template": template}
    return w.body("advancedstatefulsets", name, spec=spec)


def mounting(w: World, name: str, claim_name: str, **spec: Any) -> dict[str, Any]:
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": claim_name}}
    return w.pod(name, volumes=[volume], **spec)


@acted
async def claim_is_bound_and_grows(w: World) -> Any:
    await w.make("persistentvolumeclaims", claim(w, "a", await storage(w, grows=True)))
    bound = await w.until("persistentvolumeclaims", "a", lambda o: o["status"].get("phase") == "Bound")
    grown = await w.patch("strategic", "persistentvolumeclaims", "a", asks("2Gi"))
    done = await w.until(
        "persistentvolumeclaims", "a", lambda o: (o["status"].get("capacity") or {}).get("storage") == "2Gi"
    )
    return [bound["status"]["capacity"], grown.code, done["spec"]["resources"]["requests"], done["status"]["phase"]]


@acted
async def claim_never_shrinks(w: World) -> Any:
    await w.make("persistentvolumeclaims", claim(w, "a", await storage(w, grows=True)))
    await w.until("persistentvolumeclaims", "a", lambda o: o["status"].get("phase") == "Bound")
    return (await w.patch("strategic", "persistentvolumeclaims", "a", asks("512Mi"))).brief()


@acted
async def claim_of_a_class_that_does_not_grow(w: World) -> Any:
    await w.make("persistentvolumeclaims", claim(w, "a", await storage(w, grows=False)))
    await w.until("persistentvolumeclaims", "a", lambda o: o["status"].get("phase") == "Bound")
    return (await w.patch("strategic", "persistentvolumeclaims", "a", asks("2Gi"))).refusal()


@acted
async def claim_in_use_is_held(w: World) -> Any:
    await w.make("persistentvolumeclaims", claim(w, "a", "none"))
    await w.make("pods", mounting(w, "user", "a"))
    deleted = await w.delete("persistentvolumeclaims", "a")
    held = (await w.read("persistentvolumeclaims", "a")).obj["metadata"]
    await w.delete("pods", "user")
    gone = await w.gone("persistentvolumeclaims", "a")
    return [deleted.code, held["finalizers"], "deletionTimestamp" in held, gone]


@acted
async def claim_goes_with_its_pod(w: World) -> Any:
    pod = await w.make("pods", w.pod("web-2"))
    await w.make("persistentvolumeclaims", claim(w, "data-web-2", "none", reference(pod)))
    await w.delete("pods", "web-2")
    return await w.gone("persistentvolumeclaims", "data-web-2")


@acted
async def claim_goes_with_its_set(w: World) -> Any:
    owner = await w.make("advancedstatefulsets", a_set(w, "web"))
    await w.make("persistentvolumeclaims", claim(w, "data-web-0", "none", reference(owner)))
    await w.delete("advancedstatefulsets", "web", {"propagationPolicy": "Background"})
    return await w.gone("persistentvolumeclaims", "data-web-0")


@acted
async def claim_outlives_a_pod_while_its_set_is_there(w: World) -> Any:
    owner = await w.make("advancedstatefulsets", a_set(w, "web"))
    pod = await w.make("pods", w.pod("web-2"))
    await w.make("persistentvolumeclaims", claim(w, "data-web-2", "none", reference(owner), reference(pod)))
    await w.delete("pods", "web-2")
    kept = await w.until("persistentvolumeclaims", "data-web-2", lambda o: len(o["metadata"]["ownerReferences"]) == 1)
    return [kept["metadata"]["ownerReferences"][0]["kind"], "deletionTimestamp" in kept["metadata"]]


@acted
async def claim_of_an_orphaned_set_stays(w: World) -> Any:
    owner = await w.make("advancedstatefulsets", a_set(w, "web"))
    await w.make("persistentvolumeclaims", claim(w, "data-web-0", "none", reference(owner)))
    await w.delete("advancedstatefulsets", "web", {"propagationPolicy": "Orphan"})
    await w.gone("advancedstatefulsets", "web")
    return (await w.read("persistentvolumeclaims", "data-web-0")).obj["metadata"].get("ownerReferences")


def _why(obj: dict[str, Any]) -> tuple[str, str, str]:
    for one in obj["status"].get("conditions") or ():
        if one["type"] == "PodScheduled":
            return one["status"], one.get("reason", ""), one.get("message", "")
    return "", "", ""


@acted
async def pod_waits_for_a_claim_that_is_not_there(w: World) -> Any:
    await w.make("pods", mounting(w, "a", "missing", schedulerName="default-scheduler"))
    text = 'persistentvolumeclaim "missing" not found'
    status, reason, message = _why(await w.until("pods", "a", lambda o: text in _why(o)[2]))
    return [status, reason, text in message]


@acted
async def pod_waits_for_a_claim_that_is_being_deleted(w: World) -> Any:
    body = claim(w, "dying", "none")
    body["metadata"]["finalizers"] = ["example.com/hold"]
    await w.make("persistentvolumeclaims", body)
    await w.delete("persistentvolumeclaims", "dying")
    await w.make("pods", mounting(w, "a", "dying", schedulerName="default-scheduler"))
    text = 'persistentvolumeclaim "dying" is being deleted'
    status, reason, message = _why(await w.until("pods", "a", lambda o: text in _why(o)[2]))
    await w.patch("merge", "persistentvolumeclaims", "dying", {"metadata": {"finalizers": None}})
    return [status, reason, text in message]


@probe
async def claim_patches_of_owner_references(w: World) -> Any:
    owner = await w.make("advancedstatefulsets", a_set(w, "web"))
    pod = await w.make("pods", w.pod("web-2"))
    made = await w.make("persistentvolumeclaims", claim(w, "a", "none", reference(pod)))
    meta = {"uid": made["metadata"]["uid"], "resourceVersion": made["metadata"]["resourceVersion"]}
    swap = [reference(owner), {"$patch": "delete", "uid": pod["metadata"]["uid"]}]
    swapped = await w.patch("strategic", "persistentvolumeclaims", "a", {"metadata": {**meta, "ownerReferences": swap}})
    again = await w.patch("strategic", "persistentvolumeclaims", "a", {"metadata": {**meta, "ownerReferences": swap}})
    return [[ref["kind"] for ref in swapped.obj["metadata"]["ownerReferences"]], again.brief()]


@probe
async def pod_resize_leaves_metadata_alone(w: World) -> Any:
    resources = {"requests": {"cpu": "1", "memory": "1Gi"}}
    await w.make("pods", w.pod("a", containers=[{"name": "main", "image": _IMAGE, "resources": resources}]))
    wanted = {"name": "main", "resources": {"requests": {"cpu": "2"}}}
    patch = {"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}, "spec": {"containers": [wanted]}}
    done = (await w.patch("strategic", "pods", "a", patch, "resize")).obj
    return [done["metadata"].get("labels"), done["metadata"].get("annotations"), done["metadata"].get("generation")]


@probe
async def pod_resize_on_a_stale_version(w: World) -> Any:
    resources = {"requests": {"cpu": "1"}}
    made = await w.make("pods", w.pod("a", containers=[{"name": "main", "image": _IMAGE, "resources": resources}]))
    await w.patch("merge", "pods", "a", {"metadata": {"labels": {"a": "b"}}})
    meta = {"uid": made["metadata"]["uid"], "resourceVersion": made["metadata"]["resourceVersion"]}
    wanted = {"name": "main", "resources": {"requests": {"cpu": "2"}}}
    body = {"metadata": meta, "spec": {"containers": [wanted]}}
    return (await w.patch("strategic", "pods", "a", body, "resize")).brief()


@probe
async def pod_resize_refuses_another_class_of_service(w: World) -> Any:
    await w.make("pods", w.pod("a"))
    wanted = {"name": "main", "resources": {"requests": {"cpu": "2"}}}
    return (await w.patch("strategic", "pods", "a", {"spec": {"containers": [wanted]}}, "resize")).brief()


@probe
async def scale_of_an_advanced_stateful_set(w: World) -> Any:
    made = await w.make("advancedstatefulsets", a_set(w, "web"))
    status = {"status": {"replicas": 2, "readyReplicas": 1, "availableReplicas": 1, "labelSelector": "app=web"}}
    status["status"] |= {"currentReplicas": 0, "updatedReplicas": 0, "observedGeneration": 1}
    told = await w.patch("merge", "advancedstatefulsets", "web", status, "status")
    first = await w.get(w.path("advancedstatefulsets", "web", "scale"))
    patched = await w.patch("merge", "advancedstatefulsets", "web", {"spec": {"replicas": 3}}, "scale")
    negative = await w.patch("merge", "advancedstatefulsets", "web", {"spec": {"replicas": -1}}, "scale")
    after = (await w.read("advancedstatefulsets", "web")).obj
    return [
        made["metadata"]["generation"],
        told.code,
        first.obj["status"],
        first.obj["spec"],
        patched.obj["spec"],
        negative.code,
        after["metadata"]["generation"],
        after["spec"]["replicas"],
    ]


@probe
async def status_of_a_custom_object_minds_no_uid_but_the_version(w: World) -> Any:
    made = await w.make("advancedstatefulsets", a_set(w, "web"))
    other = {"metadata": {"uid": "00000000-0000-4000-8000-000000000000"}, "status": {"replicas": 1}}
    by_uid = await w.patch("merge", "advancedstatefulsets", "web", other, "status")
    stale = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}, "status": {"replicas": 2}}
    by_version = await w.patch("merge", "advancedstatefulsets", "web", stale, "status")
    return [by_uid.brief(), by_version.brief()]
