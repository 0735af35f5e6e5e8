"""Probes of pods, claims, Leases, events and the rules of admission."""

from __future__ import annotations

from typing import Any

from tests.integration.probes.asking import World
from tests.integration.probes.probes_delete import claim
from tests.integration.probes.registry import acted, probe

_OTHER = "00000000-0000-4000-8000-000000000000"
_IMAGE = "registry.example.com/app:v1"


@probe
async def pod_without_containers(w: World) -> Any:
    bodies = [
        w.pod("a", containers=[]),
        w.pod("a", containers=[{"name": "x"}]),
        w.pod("a", containers=[{"image": _IMAGE}]),
        w.pod("a", containers=[{"name": "x", "image": _IMAGE}, {"name": "x", "image": _IMAGE}]),
        w.pod("a", containers=[{"name": "Bad_Name", "image": _IMAGE}]),
        w.pod("a", restartPolicy="Sometimes"),
    ]
    return [(await w.post("pods", b)).seen() for b in bodies]


@probe
async def pod_that_cannot_be_decoded(w: World) -> Any:
    bodies = [w.pod("a", containers={}), w.pod("a", terminationGracePeriodSeconds="x"), w.pod("a", nodeName=5)]
    return [(await w.post("pods", b)).brief() for b in bodies]


@probe
async def pod_pull_policies(w: World) -> Any:
    images = ("app", "app:latest", "app:v1", "reg.example.com:5000/app", "app@sha256:" + "0" * 64)
    made = await w.post("pods", w.pod("a", containers=[{"name": f"c{i}", "image": x} for i, x in enumerate(images)]))
    return [c["imagePullPolicy"] for c in made.obj["spec"]["containers"]]


@probe
async def pod_defaults_of_ports_probes_and_resources(w: World) -> Any:
    container = {
        "name": "main",
        "image": _IMAGE,
        "ports": [{"containerPort": 80}],
        "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
        "readinessProbe": {"httpGet": {"port": 80}},
        "livenessProbe": {"tcpSocket": {"port": 80}},
        "env": [{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "lifecycle": {"preStop": {"exec": {"command": ["true"]}}},
    }
    volumes = [
        {"name": "a", "emptyDir": {}},
        {"name": "b", "configMap": {"name": "x"}},
        {"name": "c", "secret": {"secretName": "x"}},
        {"name": "d", "hostPath": {"path": "/x"}},
        {"name": "e", "projected": {"sources": [{"downwardAPI": {"items": []}}]}},
        {"name": "f", "downwardAPI": {"items": [{"path": "x", "fieldRef": {"fieldPath": "metadata.name"}}]}},
    ]
    made = await w.post(
        "pods", w.pod("a", containers=[container], initContainers=[{"name": "init", "image": _IMAGE}], volumes=volumes)
    )
    return made.seen()


@probe
async def pod_quality_of_service(w: World) -> Any:
    cases = (
        {},
        {"requests": {"cpu": "1"}},
        {"limits": {"cpu": "1", "memory": "1Gi"}},
        {"limits": {"cpu": "1"}},
        {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1Gi"}},
    )
    seen = []
    for i, resources in enumerate(cases):
        made = await w.post("pods", w.pod(f"a{i}", containers=[{"name": "m", "image": _IMAGE, "resources": resources}]))
        seen.append((made.obj["status"]["qosClass"], made.obj["spec"]["containers"][0]["resources"]))
    return seen


@probe
async def pod_tolerations_at_creation(w: World) -> Any:
    lists = (
        [{"operator": "Exists"}],
        [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}],
        [{"key": "x", "value": "y", "effect": "NoSchedule"}],
    )
    seen = []
    for i, tolerations in enumerate(lists):
        seen.append((await w.post("pods", w.pod(f"a{i}", tolerations=tolerations))).obj["spec"]["tolerations"])
    return seen


@probe
async def pod_image_can_be_changed(w: World) -> Any:
    await w.make("pods", w.pod("a"))
    patch = {"spec": {"containers": [{"name": "main", "image": "registry.example.com/app:v2"}]}}
    empty = {"spec": {"containers": [{"name": "main", "image": ""}]}}
    return [(await w.patch("strategic", "pods", "a", p)).refusal() for p in (patch, empty)]


@probe
async def pod_spec_is_immutable_otherwise(w: World) -> Any:
    await w.make("pods", w.pod("a"))
    patches = (
        {"spec": {"containers": [{"name": "main", "env": [{"name": "A", "value": "b"}]}]}},
        {"spec": {"containers": [{"name": "other", "image": _IMAGE}]}},
        {"spec": {"nodeName": "x"}},
        {"spec": {"terminationGracePeriodSeconds": 5}},
        {"spec": {"restartPolicy": "Never"}},
        {"spec": {"containers": [{"name": "main", "resources": {"requests": {"cpu": "1"}}}]}},
    )
    seen = []
    for patch in patches:
        answer = await w.patch("strategic", "pods", "a", patch)
        text = answer.body["message"].partition("\n")[0] if answer.code >= 400 else ""
        seen.append([answer.brief(), text])
    return seen


@probe
async def pod_deadline_can_be_set_and_shortened(w: World) -> Any:
    await w.make("pods", w.pod("a"))
    return [
        (await w.patch("merge", "pods", "a", {"spec": {"activeDeadlineSeconds": s}})).refusal()
        for s in (50, 20, 30, None, 0)
    ]


@probe
async def pod_tolerations_can_be_added(w: World) -> Any:
    made = await w.make("pods", w.pod("a"))
    had = made["spec"]["tolerations"]
    more = {"key": "x", "operator": "Exists", "effect": "NoSchedule"}
    lists = ([*had, more], had, [])
    seen = []
    for tolerations in lists:
        answer = await w.patch("merge", "pods", "a", {"spec": {"tolerations": tolerations}})
        seen.append(answer.brief() if answer.code >= 400 else answer.obj["spec"]["tolerations"])
    return seen


@probe
async def pod_gates_can_be_removed(w: World) -> Any:
    made = await w.post("pods", w.pod("a", schedulingGates=[{"name": "example.com/a"}, {"name": "example.com/b"}]))
    fewer = await w.patch("merge", "pods", "a", {"spec": {"schedulingGates": [{"name": "example.com/a"}]}})
    more = await w.patch(
        "merge", "pods", "a", {"spec": {"schedulingGates": [{"name": "example.com/a"}, {"name": "example.com/c"}]}}
    )
    none = await w.patch("merge", "pods", "a", {"spec": {"schedulingGates": None}})
    return [made.obj["status"], fewer.code, more.brief(), none.obj["status"], none.obj["spec"].get("schedulingGates")]


@probe
async def pod_resize_changes_resources_only(w: World) -> Any:
    resources = {"requests": {"cpu": "1", "memory": "1Gi"}}
    await w.make("pods", w.pod("a", containers=[{"name": "main", "image": _IMAGE, "resources": resources}]))
    wanted = {"requests": {"cpu": "2"}}
    patch = {"spec": {"containers": [{"name": "main", "resources": wanted}]}}
    return [
        (await w.patch("strategic", "pods", "a", patch, "resize")).obj["spec"]["containers"][0]["resources"],
        (
            await w.patch(
                "strategic", "pods", "a", {"spec": {"containers": [{"name": "main", "image": "x:y"}]}}, "resize"
            )
        ).brief(),
    ]


@probe
async def pod_resize_with_a_wrong_uid(w: World) -> Any:
    await w.make("pods", w.pod("a"))
    patch = {
        "metadata": {"uid": _OTHER},
        "spec": {"containers": [{"name": "main", "resources": {"requests": {"cpu": "2"}}}]},
    }
    return (await w.patch("strategic", "pods", "a", patch, "resize")).brief()


@probe
async def pod_binding(w: World) -> Any:
    made = await w.make("pods", w.pod("a"))
    path = w.path("pods", "a", "binding")
    target = {"apiVersion": "v1", "kind": "Node", "name": "nowhere"}
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": "a", "uid": made["metadata"]["uid"]},
        "target": target,
    }
    wrong = await w.ask("POST", path, {**binding, "metadata": {"name": "a", "uid": _OTHER}})
    empty = await w.ask("POST", path, {**binding, "target": {}})
    first = await w.ask("POST", path, binding)
    again = await w.ask("POST", path, binding)
    pod = (await w.read("pods", "a")).obj
    return [
        wrong.seen(),
        empty.brief(),
        first.seen(),
        again.seen(),
        pod["spec"]["nodeName"],
        pod["status"],
        pod["metadata"]["generation"],
    ]


@probe
async def pod_binding_of_a_gated_or_missing_pod(w: World) -> Any:
    await w.make("pods", w.pod("a", schedulingGates=[{"name": "example.com/a"}]))
    seen = []
    for name in ("a", "b"):
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name},
            "target": {"kind": "Node", "name": "x"},
        }
        seen.append((await w.ask("POST", w.path("pods", name, "binding"), body)).brief())
    return seen


def eviction(name: str, **options: Any) -> dict[str, Any]:
    return {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name},
        **({"deleteOptions": options} if options else {}),
    }


@probe
async def eviction_without_a_budget(w: World) -> Any:
    await w.make("pods", w.pod("a", nodeName="nowhere"))
    await w.patch("merge", "pods", "a", {"status": {"phase": "Running"}}, "status")
    answer = await w.ask("POST", w.path("pods", "a", "eviction"), eviction("a"))
    marked = (await w.read("pods", "a")).obj
    return [answer.seen(), marked["metadata"]["deletionGracePeriodSeconds"], marked["status"].get("conditions")]


@probe
async def eviction_of_what_is_not_there(w: World) -> Any:
    await w.make("pods", w.pod("b"))
    wrong = eviction("b", preconditions={"uid": _OTHER})
    return [
        (await w.ask("POST", w.path("pods", "a", "eviction"), eviction("a"))).seen(),
        (await w.ask("POST", w.path("pods", "b", "eviction"), wrong)).brief(),
    ]


@acted
async def eviction_minds_the_budget(w: World) -> Any:
    for name in ("a", "b"):
        await w.make("pods", w.pod(name, nodeName="nowhere", meta={"labels": {"app": "x"}}))
        ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        await w.patch("merge", "pods", name, {"status": ready}, "status")
    spec = {"minAvailable": 2, "selector": {"matchLabels": {"app": "x"}}}
    await w.make("poddisruptionbudgets", w.body("poddisruptionbudgets", "p", spec=spec))
    await w.until("poddisruptionbudgets", "p", lambda o: (o.get("status") or {}).get("currentHealthy") == 2)
    refused = await w.ask("POST", w.path("pods", "a", "eviction"), eviction("a"))
    await w.patch("merge", "poddisruptionbudgets", "p", {"spec": {"minAvailable": 1}})
    await w.until("poddisruptionbudgets", "p", lambda o: o["status"].get("disruptionsAllowed") == 1)
    allowed = await w.ask("POST", w.path("pods", "a", "eviction"), eviction("a"))
    budget = (await w.read("poddisruptionbudgets", "p")).obj["status"]
    second = await w.ask("POST", w.path("pods", "b", "eviction"), eviction("b"))
    return [refused.seen(), allowed.code, budget["disruptionsAllowed"], second.code]


@acted
async def quota_refuses_what_is_over_it(w: World) -> Any:
    await w.make(
        "resourcequotas",
        w.body("resourcequotas", "q", spec={"hard": {"pods": "1", "count/leases.coordination.k8s.io": "1"}}),
    )
    await w.until("resourcequotas", "q", lambda o: len((o.get("status") or {}).get("used") or {}) == 2)
    await w.make("pods", w.pod("a"))
    refused = await w.post("pods", w.pod("b"))
    await w.make("leases", w.body("leases", "a"))
    over = await w.post("leases", w.body("leases", "b"))
    status = (await w.read("resourcequotas", "q")).obj["status"]
    return [refused.seen(), over.code, status["hard"], status["used"]["pods"]]


@acted
async def quota_of_resources_wants_requests(w: World) -> Any:
    await w.make("resourcequotas", w.body("resourcequotas", "q", spec={"hard": {"requests.cpu": "2"}}))
    await w.until("resourcequotas", "q", lambda o: (o.get("status") or {}).get("used"))
    without = await w.post("pods", w.pod("a"))
    container = {"name": "m", "image": _IMAGE, "resources": {"requests": {"cpu": "1500m"}}}
    first = await w.post("pods", w.pod("b", containers=[container]))
    second = await w.post("pods", w.pod("c", containers=[container]))
    return [without.seen(), first.code, second.seen()]


@probe
async def configmap_that_is_immutable(w: World) -> Any:
    await w.make("configmaps", w.body("configmaps", "a", data={"a": "1"}, immutable=True))
    patches = ({"data": {"a": "2"}}, {"immutable": False}, {"metadata": {"labels": {"a": "b"}}})
    return [(await w.patch("merge", "configmaps", "a", p)).brief() for p in patches]


@probe
async def claim_keeps_its_spec(w: World) -> Any:
    made = await w.post("persistentvolumeclaims", w.body("persistentvolumeclaims", "a", spec=claim()))
    changed = await w.patch("merge", "persistentvolumeclaims", "a", {"spec": {"storageClassName": "other"}})
    grown = await w.patch(
        "merge", "persistentvolumeclaims", "a", {"spec": {"resources": {"requests": {"storage": "2Gi"}}}}
    )
    return [made.seen(), changed.brief(), grown.brief()]


@probe
async def lease_times_have_six_fraction_digits(w: World) -> Any:
    seen = []
    for i, time in enumerate(("2024-01-01T00:00:00.123456Z", "2024-01-01T00:00:00Z", "2024-01-01T00:00:00.123Z")):
        spec = {"holderIdentity": "x", "renewTime": time, "leaseDurationSeconds": 15}
        seen.append((await w.post("leases", w.body("leases", f"a{i}", spec=spec))).brief())
    patch = {"spec": {"renewTime": "2024-01-01T00:00:00.1Z"}}
    return [*seen, (await w.patch("merge", "leases", "a0", patch)).brief(), (await w.read("leases", "a0")).seen()]


@probe
async def lease_rules(w: World) -> Any:
    specs = ({"leaseDurationSeconds": 0}, {"leaseTransitions": -1}, {"leaseDurationSeconds": "x"})
    return [(await w.post("leases", w.body("leases", "a", spec=s))).brief() for s in specs]


@probe
async def lease_take_over_by_version(w: World) -> Any:
    made = await w.make("leases", w.body("leases", "a", spec={"holderIdentity": "one"}))
    rv = made["metadata"]["resourceVersion"]
    patch = {"metadata": {"resourceVersion": rv, "uid": made["metadata"]["uid"]}, "spec": {"holderIdentity": "two"}}
    won = await w.patch("merge", "leases", "a", patch)
    lost = await w.patch("merge", "leases", "a", {**patch, "spec": {"holderIdentity": "three"}})
    uid = await w.patch("merge", "leases", "a", {"metadata": {"uid": _OTHER}, "spec": {"holderIdentity": "four"}})
    return [won.seen(), lost.seen(), uid.seen()]


def event(w: World, name: str, **more: Any) -> dict[str, Any]:
    regarding = {"apiVersion": "v1", "kind": "Pod", "name": "p", "namespace": w.ns, "uid": _OTHER}
    base = {
        "eventTime": "2024-01-01T00:00:00.000000Z",
        "action": "Doing",
        "reason": "Done",
        "note": "it is done",
        "type": "Normal",
        "regarding": regarding,
        "reportingController": "example.com/probe",
        "reportingInstance": "probe-1",
    }
    return w.body("events", name, **{k: v for k, v in {**base, **more}.items() if v is not None})


@probe
async def event_in_both_groups(w: World) -> Any:
    made = await w.post("events", event(w, "a"))
    core = await w.read("coreevents", "a")
    return [made.seen(), core.seen()]


@probe
async def event_of_the_core_group_in_the_other(w: World) -> Any:
    body = w.body(
        "coreevents",
        "a",
        involvedObject={"apiVersion": "v1", "kind": "Pod", "name": "p", "namespace": w.ns},
        reason="Done",
        message="it is done",
        type="Normal",
        source={"component": "probe"},
        firstTimestamp="2024-01-01T00:00:00Z",
        lastTimestamp="2024-01-01T00:00:00Z",
        count=3,
    )
    made = await w.post("coreevents", body)
    return [made.seen(), (await w.read("events", "a")).seen()]


@probe
async def event_rules_at_creation(w: World) -> Any:
    cases: list[dict[str, Any]] = [
        {"action": None},
        {"reason": None},
        {"eventTime": None},
        {"reportingController": None},
        {"reportingInstance": None},
        {"type": "Odd"},
        {"note": "x" * 1025},
        {"action": "x" * 129},
        {"series": {"count": 1, "lastObservedTime": "2024-01-01T00:00:00.000000Z"}},
        {"series": {"count": 2}},
        {"deprecatedSource": {"component": "x"}},
        {"deprecatedCount": 3},
        {"regarding": {"kind": "Pod", "namespace": "other", "name": "p"}},
        {"regarding": {"kind": "Node", "name": "n"}},
        {"eventTime": "2024-01-01T00:00:00Z"},
    ]
    return [(await w.post("events", event(w, "a", **case))).brief() for case in cases]


@probe
async def event_rules_of_change(w: World) -> Any:
    await w.make("events", event(w, "a"))
    series = {"count": 2, "lastObservedTime": "2024-01-01T00:00:01.000000Z"}
    patches = (
        {"series": series},
        {"note": "other"},
        {"reason": "Other"},
        {"metadata": {"labels": {"a": "b"}}},
        {"series": {**series, "count": 1}},
    )
    return [(await w.patch("merge", "events", "a", p)).brief() for p in patches]


@probe
async def event_selectors(w: World) -> Any:
    await w.make("events", event(w, "a"))
    await w.make("events", event(w, "b", reason="Other", type="Warning"))
    seen = []
    for plural, selector in (
        ("coreevents", "involvedObject.name=p,involvedObject.kind=Pod"),
        ("coreevents", f"involvedObject.uid={_OTHER},involvedObject.namespace={w.ns}"),
        ("coreevents", "reason=Other"),
        ("coreevents", "type!=Warning"),
        ("events", "regarding.name=p"),
        ("events", "involvedObject.name=p"),
        ("events", "type=Warning"),
        ("coreevents", "regarding.name=p"),
        ("coreevents", "source=example.com/probe"),
        ("coreevents", "reportingComponent=example.com/probe"),
        ("events", "reportingController=example.com/probe"),
    ):
        answer = await w.get(w.path(plural, fieldSelector=selector))
        seen.append(answer.names if answer.code == 200 else answer.code)
    return seen


@probe
async def pod_priority_classes(w: World) -> Any:
    made = await w.post("pods", w.pod("a", priorityClassName="system-node-critical"))
    unknown = await w.post("pods", w.pod("b", priorityClassName="no-such"))
    return [made.obj["spec"]["priority"] if made.code == 201 else made.seen(), unknown.seen()]


@probe
async def pod_times_and_nulls_come_back(w: World) -> Any:
    await w.make("pods", w.pod("a"))
    conditions = [
        {"type": "X", "status": "True", "lastProbeTime": None, "lastTransitionTime": "2024-01-01T00:00:00Z"},
        {"type": "Y", "status": "True"},
    ]
    return (await w.patch("merge", "pods", "a", {"status": {"conditions": conditions}}, "status")).obj["status"]
