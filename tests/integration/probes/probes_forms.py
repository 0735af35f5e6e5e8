"""Probes of discovery, OpenAPI, tables and reviews."""

from __future__ import annotations

from typing import Any

from tests.integration.probes.asking import AGGREGATED, GROUP, PARTIAL_LIST, TABLE, World
from tests.integration.probes.probes_metadata import widget
from tests.integration.probes.probes_status import stateful
from tests.integration.probes.registry import probe


def columns(table: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [(c["name"], c["type"], c["format"], c["priority"]) for c in table["columnDefinitions"]]


def cells(table: dict[str, Any], *hidden: str) -> list[list[Any]]:
    """Return the cells of all rows, without ages and the columns named."""
    names = [c["name"] for c in table["columnDefinitions"]]
    return [
        [c for n, c in zip(names, row["cells"], strict=True) if n not in ("Age", "Last Seen", *hidden)]
        for row in table["rows"]
    ]


@probe
async def version_document(w: World) -> Any:
    found = (await w.get("/version")).obj
    return [found["major"], found["minor"], found["gitVersion"].partition("+")[0], sorted(found)]


@probe
async def health_paths(w: World) -> Any:
    return [(a.code, a.body) for a in [await w.get(p) for p in ("/healthz", "/livez", "/readyz", "/readyz/ping")]]


@probe
async def discovery_of_the_core_group(w: World) -> Any:
    found = (await w.get("/api")).obj
    return [found["kind"], found["versions"]]


@probe
async def discovery_of_groups(w: World) -> Any:
    found = (await w.get("/apis")).obj
    known = (
        "apps",
        "batch",
        "coordination.k8s.io",
        "policy",
        "events.k8s.io",
        "apiextensions.k8s.io",
        GROUP,
        "apps.kruise.io",
    )
    return [found["kind"], sorted((g for g in found["groups"] if g["name"] in known), key=lambda g: str(g["name"]))]


@probe
async def discovery_of_one_group(w: World) -> Any:
    return [(await w.get(f"/apis/{g}")).seen() for g in (GROUP, "apps")]


@probe
async def discovery_of_a_custom_group_version(w: World) -> Any:
    found = (await w.get(f"/apis/{GROUP}/v1")).obj
    return {**found, "resources": sorted(found["resources"], key=lambda r: str(r["name"]))}


@probe
async def discovery_of_resources(w: World) -> Any:
    wanted = {
        "/api/v1": (
            "pods",
            "pods/status",
            "pods/eviction",
            "pods/binding",
            "pods/resize",
            "nodes",
            "nodes/status",
            "namespaces",
            "namespaces/finalize",
            "events",
            "configmaps",
            "persistentvolumeclaims",
            "services",
            "secrets",
            "resourcequotas",
            "serviceaccounts",
        ),
        "/apis/apps/v1": (
            "deployments",
            "deployments/scale",
            "deployments/status",
            "statefulsets",
            "statefulsets/scale",
            "replicasets",
            "daemonsets",
            "controllerrevisions",
        ),
        "/apis/batch/v1": ("jobs", "jobs/status"),
        "/apis/coordination.k8s.io/v1": ("leases",),
        "/apis/policy/v1": ("poddisruptionbudgets", "poddisruptionbudgets/status"),
        "/apis/events.k8s.io/v1": ("events",),
        "/apis/apiextensions.k8s.io/v1": ("customresourcedefinitions", "customresourcedefinitions/status"),
        "/apis/rbac.authorization.k8s.io/v1": ("roles", "clusterroles"),
        "/apis/storage.k8s.io/v1": ("storageclasses",),
        "/apis/authorization.k8s.io/v1": ("selfsubjectaccessreviews", "subjectaccessreviews"),
        "/apis/authentication.k8s.io/v1": ("tokenreviews",),
    }
    seen = []
    for path, names in wanted.items():
        found = (await w.get(path)).obj
        by_name = {r["name"]: r for r in found["resources"]}
        seen.append([found["groupVersion"], found["kind"], found.get("apiVersion"), [by_name.get(n) for n in names]])
    return seen


@probe
async def discovery_in_one_document(w: World) -> Any:
    answer = await w.get("/apis", accept=AGGREGATED)
    group = next(g for g in answer.obj["items"] if g["metadata"].get("name") == GROUP)
    for version in group["versions"]:
        version["resources"].sort(key=lambda r: r["resource"])
    core = (await w.get("/api", accept=f"{AGGREGATED},application/json")).obj
    pods = next(r for r in core["items"][0]["versions"][0]["resources"] if r["resource"] == "pods")
    kept = ("status", "eviction", "binding", "resize")
    pods["subresources"] = sorted(
        (s for s in pods["subresources"] if s["subresource"] in kept), key=lambda s: str(s["subresource"])
    )
    return [
        answer.content_type,
        answer.obj["apiVersion"],
        answer.obj["kind"],
        group,
        pods,
        core["items"][0]["metadata"],
    ]


@probe
async def openapi_index(w: World) -> Any:
    found = (await w.get("/openapi/v3")).obj["paths"]
    wanted = ("api/v1", "apis/apps/v1", f"apis/{GROUP}/v1", "apis/batch/v1", "apis/apps.kruise.io/v1beta1")
    return [
        (p, found[p]["serverRelativeURL"].partition("?")[0], "hash=" in found[p]["serverRelativeURL"]) for p in wanted
    ]


@probe
async def openapi_of_a_custom_kind(w: World) -> Any:
    found = (await w.get(f"/openapi/v3/apis/{GROUP}/v1")).obj
    schema = found["components"]["schemas"]["com.example.probes.v1.Widget"]
    spec = schema["properties"]["spec"]
    own = {k: v for k, v in schema.items() if k != "properties"}
    spec["properties"].pop("template")  # described in the words of the real server's own types
    listed = found["components"]["schemas"]["com.example.probes.v1.WidgetList"]
    paths = sorted(p for p in found["paths"] if "/widgets" in p)
    return [
        own,
        spec,
        sorted(schema["properties"]),
        sorted(listed["properties"]),
        listed["x-kubernetes-group-version-kind"],
        paths,
    ]


@probe
async def openapi_of_pods(w: World) -> Any:
    found = (await w.get("/openapi/v3/api/v1")).obj["components"]["schemas"]

    def types(name: str) -> list[Any]:
        seen = []
        for field, schema in sorted(found[name]["properties"].items()):
            inner = schema.get("allOf", [schema])[0]
            seen.append(
                (
                    field,
                    inner.get("type", ""),
                    inner.get("$ref", "").rpartition("/")[2],
                    schema.get("x-kubernetes-patch-merge-key"),
                )
            )
        return [seen, found[name].get("required"), found[name].get("x-kubernetes-group-version-kind")]

    return [types(f"io.k8s.api.core.v1.{kind}") for kind in ("Pod", "PodSpec", "Container", "Node", "ConfigMap")]


@probe
async def openapi_of_the_second_version(w: World) -> Any:
    found = (await w.get("/openapi/v2")).obj
    pod = found["definitions"]["io.k8s.api.core.v1.Pod"]
    spec = found["definitions"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"]
    return [
        found["swagger"],
        pod["x-kubernetes-group-version-kind"],
        sorted(pod["properties"]),
        {k: v for k, v in spec.items() if k != "description"},
        "com.example.probes.v1.Widget" in found["definitions"],
    ]


@probe
async def table_of_pods(w: World) -> Any:
    await w.make("pods", w.pod("a", nodeName="nowhere"))
    await w.make("pods", w.pod("b", schedulingGates=[{"name": "example.com/x"}]))
    await w.make("pods", w.pod("c", readinessGates=[{"conditionType": "example.com/x"}]))
    state = {
        "name": "main",
        "image": "i",
        "imageID": "",
        "ready": True,
        "restartCount": 2,
        "state": {"running": {"startedAt": "2024-01-01T00:00:00Z"}},
    }
    running = {
        "phase": "Running",
        "podIP": "10.0.0.1",
        "podIPs": [{"ip": "10.0.0.1"}],
        "containerStatuses": [state],
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    await w.patch("merge", "pods", "a", {"status": running}, "status")
    table = (await w.get(w.path("pods"), accept=TABLE)).obj
    return [columns(table), cells(table), table["rows"][0]["object"]["kind"], table["kind"], table["apiVersion"]]


@probe
async def table_of_pods_in_trouble(w: World) -> Any:
    base = {"image": "i", "imageID": "", "ready": False, "restartCount": 0}
    waiting = {**base, "name": "main", "state": {"waiting": {"reason": "ImagePullBackOff"}}}
    done = {**base, "name": "main", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}
    failed = {**base, "name": "main", "state": {"terminated": {"exitCode": 3}}}
    signalled = {**base, "name": "main", "state": {"terminated": {"exitCode": 0, "signal": 9}}}
    init = {**base, "name": "init", "state": {"waiting": {"reason": "PodInitializing"}}}
    broken = {**base, "name": "init", "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}
    back = {**base, "name": "main", "restartCount": 4, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    cases: list[tuple[str, dict[str, Any]]] = [
        ("waiting", {"phase": "Pending", "containerStatuses": [waiting]}),
        ("done", {"phase": "Succeeded", "containerStatuses": [done]}),
        ("failed", {"phase": "Failed", "containerStatuses": [failed]}),
        ("signalled", {"phase": "Failed", "containerStatuses": [signalled]}),
        ("reason", {"phase": "Failed", "reason": "Evicted"}),
        ("init", {"phase": "Pending", "initContainerStatuses": [init]}),
        ("broken", {"phase": "Pending", "initContainerStatuses": [broken]}),
        ("back", {"phase": "Running", "containerStatuses": [back]}),
    ]
    for name, status in cases:
        inits = [{"name": "init", "image": "registry.example.com/app:v1"}] if "initContainerStatuses" in status else []
        await w.make(
            "pods",
            w.pod(name, nodeName="nowhere", restartPolicy="OnFailure", **({"initContainers": inits} if inits else {})),
        )
        patched = await w.patch("merge", "pods", name, {"status": status}, "status")
        assert patched.code == 200, patched.body
    await w.make("pods", w.pod("terminating", nodeName="nowhere"))
    await w.delete("pods", "terminating")
    return cells((await w.get(w.path("pods"), accept=TABLE)).obj, "Nominated Node", "Readiness Gates")


@probe
async def table_of_nodes(w: World) -> Any:
    name = f"node-{w.ns}"
    labels = {"node-role.kubernetes.io/worker": "", "kubernetes.io/role": "extra"}
    await w.make("nodes", w.body("nodes", name, meta={"labels": labels}, spec={"unschedulable": True}))
    status = {
        "conditions": [{"type": "Ready", "status": "True"}],
        "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
        "nodeInfo": {
            "kubeletVersion": "v1.2.3",
            "osImage": "os",
            "kernelVersion": "k",
            "containerRuntimeVersion": "c://1",
            "architecture": "",
            "bootID": "",
            "kubeProxyVersion": "",
            "machineID": "",
            "operatingSystem": "",
            "systemUUID": "",
        },
    }
    await w.patch("merge", "nodes", name, {"status": status}, "status")
    table = (await w.get(w.path("nodes", fieldSelector=f"metadata.name={name}"), accept=TABLE)).obj
    return [columns(table), cells(table)]


@probe
async def table_of_namespaces(w: World) -> Any:
    table = (await w.get(w.path("namespaces", fieldSelector=f"metadata.name={w.ns}"), accept=TABLE)).obj
    return [columns(table), cells(table)]


@probe
async def table_of_events(w: World) -> Any:
    from tests.integration.probes.probes_pods import event

    await w.make("events", event(w, "a"))
    table = (await w.get(w.path("coreevents"), accept=TABLE)).obj
    modern = (await w.get(w.path("events"), accept=TABLE)).obj
    return [columns(table), cells(table, "First Seen"), cells(modern, "First Seen")]


@probe
async def table_of_leases_and_claims(w: World) -> Any:
    from tests.integration.probes.probes_delete import claim

    await w.make("leases", w.body("leases", "a", spec={"holderIdentity": "me"}))
    await w.make("persistentvolumeclaims", w.body("persistentvolumeclaims", "a", spec=claim()))
    seen = []
    for plural in ("leases", "persistentvolumeclaims"):
        table = (await w.get(w.path(plural), accept=TABLE)).obj
        seen.append([columns(table), cells(table)])
    return seen


@probe
async def table_of_small_kinds(w: World) -> Any:
    await w.make("configmaps", w.body("configmaps", "a", data={"x": "1"}, binaryData={"y": "eA=="}))
    await w.make("secrets", w.body("secrets", "a", stringData={"x": "1"}))
    await w.make("controllerrevisions", w.body("controllerrevisions", "a", revision=3, data={"a": 1}))
    seen = []
    for plural in ("configmaps", "secrets", "controllerrevisions"):
        table = (await w.get(w.path(plural, fieldSelector="metadata.name=a"), accept=TABLE)).obj
        seen.append([columns(table), cells(table)])
    return seen


@probe
async def table_of_workloads(w: World) -> Any:
    set_ = stateful(w, "a")
    spec = {k: v for k, v in set_["spec"].items() if k != "serviceName"}
    await w.make("statefulsets", set_)
    await w.make("deployments", w.body("deployments", "a", spec=spec))
    await w.make("replicasets", w.body("replicasets", "b", spec=spec))
    seen = []
    for plural in ("statefulsets", "deployments", "replicasets"):
        path = w.path(plural, fieldSelector="metadata.name=" + ("b" if plural == "replicasets" else "a"))
        table = (await w.get(path, accept=TABLE)).obj
        seen.append([columns(table), cells(table)])
    return seen


@probe
async def table_of_budgets_and_quotas(w: World) -> Any:
    selector = {"matchLabels": {"a": "b"}}
    await w.make(
        "poddisruptionbudgets", w.body("poddisruptionbudgets", "a", spec={"minAvailable": 1, "selector": selector})
    )
    await w.make(
        "poddisruptionbudgets",
        w.body("poddisruptionbudgets", "b", spec={"maxUnavailable": "50%", "selector": selector}),
    )
    table = (await w.get(w.path("poddisruptionbudgets"), accept=TABLE)).obj
    return [columns(table), cells(table)]


@probe
async def table_of_a_custom_kind(w: World) -> Any:
    await w.make("widgets", widget(w, "a", tags=["x", "y"]))
    await w.make("widgets", widget(w, "b"))
    await w.patch("merge", "widgets", "a", {"status": {"conditions": [{"type": "Done", "status": "True"}]}}, "status")
    table = (await w.get(w.path("widgets"), accept=TABLE)).obj
    return [columns(table), [c["description"] for c in table["columnDefinitions"][1:3]], cells(table, "Since")]


@probe
async def table_of_a_custom_kind_without_columns(w: World) -> Any:
    await w.make("gadgets", w.body("gadgets", "a"))
    table = (await w.get(w.path("gadgets"), accept=TABLE)).obj
    return [columns(table), cells(table)]


@probe
async def table_of_one_object(w: World) -> Any:
    await w.make("configmaps", w.body("configmaps", "a"))
    table = (await w.get(w.path("configmaps", "a"), accept=TABLE)).obj
    return [len(table["rows"]), cells(table), table["rows"][0]["object"]["metadata"]["name"]]


@probe
async def table_rows_with_more_or_less_of_the_object(w: World) -> Any:
    await w.make("configmaps", w.body("configmaps", "a", data={"a": "b"}))
    seen = []
    for include in ("None", "Metadata", "Object", "Odd"):
        answer = await w.get(w.path("configmaps", fieldSelector="metadata.name=a", includeObject=include), accept=TABLE)
        seen.append([sorted(answer.obj["rows"][0].get("object") or {}) if answer.code == 200 else answer.brief()])
    return seen


@probe
async def table_of_definitions(w: World) -> Any:
    table = (
        await w.get(w.path("customresourcedefinitions", fieldSelector=f"metadata.name=widgets.{GROUP}"), accept=TABLE)
    ).obj
    return [columns(table), cells(table, "Created At")]


@probe
async def table_of_an_empty_collection(w: World) -> Any:
    table = (await w.get(w.path("widgets"), accept=f"{TABLE},application/json")).obj
    return [table["rows"], len(table["columnDefinitions"])]


@probe
async def lists_of_metadata_only(w: World) -> Any:
    await w.make("pods", w.pod("a"))
    found = (await w.get(w.path("pods"), accept=f"{PARTIAL_LIST},application/json")).obj
    return [found["kind"], found["apiVersion"], [sorted(i) for i in found["items"]]]


@probe
async def reviews_of_access(w: World) -> Any:
    attributes = {"namespace": w.ns, "verb": "list", "resource": "pods"}
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    answer = await w.ask("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body)
    return [
        answer.code,
        answer.obj["kind"],
        answer.obj["status"]["allowed"],
        answer.obj["spec"],
        answer.obj["metadata"],
    ]


@probe
async def reviews_of_unknown_tokens(w: World) -> Any:
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": "nonsense"}}
    answer = await w.ask("POST", "/apis/authentication.k8s.io/v1/tokenreviews", body)
    return [answer.code, answer.obj["status"].get("authenticated", False)]


@probe
async def reviews_cannot_be_read(w: World) -> Any:
    return (await w.get("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews")).code
