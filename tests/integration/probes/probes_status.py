"""Probes of the status and scale subresources."""

from __future__ import annotations

from typing import Any

from tests.integration.probes.asking import World
from tests.integration.probes.probes_metadata import widget
from tests.integration.probes.registry import probe

_OTHER = "00000000-0000-4000-8000-000000000000"


@probe
async def status_is_dropped_at_creation(w: World) -> Any:
    made = await w.post("widgets", {**widget(w, "a"), "status": {"replicas": 2}})
    kept = await w.post("gadgets", w.body("gadgets", "a", status={"replicas": 2}))
    pod = await w.post("pods", w.pod("a", status={"phase": "Running", "podIP": "10.0.0.1"}))
    return [made.obj.get("status"), kept.obj.get("status"), pod.obj["status"]]


@probe
async def status_is_not_changed_by_the_main_path(w: World) -> Any:
    await w.make("widgets", widget(w, "a"))
    await w.patch("merge", "widgets", "a", {"status": {"replicas": 2}}, "status")
    answer = await w.patch("merge", "widgets", "a", {"spec": {"size": 2}, "status": {"replicas": 9}})
    put = await w.put("widgets", {**answer.obj, "status": {"replicas": 7}})
    return [answer.seen(), put.version == answer.version]


@probe
async def status_path_changes_nothing_else_of_a_custom_object(w: World) -> Any:
    await w.make("widgets", widget(w, "a"))
    patch = {
        "metadata": {"labels": {"a": "b"}, "finalizers": ["example.com/x"]},
        "spec": {"size": 5},
        "status": {"replicas": 2},
    }
    return (await w.patch("merge", "widgets", "a", patch, "status")).seen()


@probe
async def status_path_of_a_custom_object_ignores_a_wrong_uid(w: World) -> Any:
    await w.make("widgets", widget(w, "a"))
    patch = {"metadata": {"uid": _OTHER}, "status": {"replicas": 2}}
    return (await w.patch("merge", "widgets", "a", patch, "status")).seen()


@probe
async def status_path_minds_a_stale_version(w: World) -> Any:
    made = await w.make("widgets", widget(w, "a"))
    rv = made["metadata"]["resourceVersion"]
    await w.patch("merge", "widgets", "a", {"spec": {"size": 2}})
    patch = {"metadata": {"resourceVersion": rv}, "status": {"replicas": 2}}
    put = {**made, "status": {"replicas": 1}}
    return [
        (await w.patch("merge", "widgets", "a", patch, "status")).seen(),
        (await w.put("widgets", put, "status")).brief(),
    ]


@probe
async def status_that_changes_nothing_keeps_the_version(w: World) -> Any:
    await w.make("widgets", widget(w, "a"))
    first = await w.patch("merge", "widgets", "a", {"status": {"replicas": 2}}, "status")
    second = await w.patch("merge", "widgets", "a", {"status": {"replicas": 2}}, "status")
    return first.version == second.version


@probe
async def status_is_checked_by_the_schema(w: World) -> Any:
    await w.make("widgets", widget(w, "a"))
    patches = ({"status": {"phase": "Odd"}}, {"status": {"replicas": "two"}}, {"status": {"unknown": 1, "replicas": 1}})
    return [(await w.patch("merge", "widgets", "a", p, "status")).seen() for p in patches]


@probe
async def status_can_be_removed(w: World) -> Any:
    await w.make("widgets", widget(w, "a"))
    await w.patch("merge", "widgets", "a", {"status": {"replicas": 2, "selector": "a=b"}}, "status")
    one = await w.patch("merge", "widgets", "a", {"status": {"selector": None}}, "status")
    return [one.obj["status"], (await w.patch("merge", "widgets", "a", {"status": None}, "status")).obj.get("status")]


@probe
async def status_lists_are_replaced_by_a_merge_patch(w: World) -> Any:
    await w.make("widgets", widget(w, "a"))
    for kind in ("A", "B"):
        patch = {"status": {"conditions": [{"type": kind, "status": "True"}]}}
        answer = await w.patch("merge", "widgets", "a", patch, "status")
    return answer.obj["status"]


@probe
async def pod_status_patch_changes_labels_annotations_and_conditions(w: World) -> Any:
    await w.make("pods", w.pod("a"))
    patch = {
        "metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}, "finalizers": ["example.com/x"]},
        "spec": {"activeDeadlineSeconds": 5},
        "status": {"conditions": [{"type": "Ready", "status": "False", "reason": "No"}], "phase": "Running"},
    }
    answer = await w.patch("strategic", "pods", "a", patch, "status")
    more = await w.patch(
        "strategic", "pods", "a", {"status": {"conditions": [{"type": "X", "status": "True"}]}}, "status"
    )
    return [answer.seen(), more.obj["status"]]


@probe
async def pod_status_patch_with_a_wrong_uid_or_version(w: World) -> Any:
    made = await w.make("pods", w.pod("a"))
    wrong = await w.patch(
        "strategic", "pods", "a", {"metadata": {"uid": _OTHER}, "status": {"phase": "Running"}}, "status"
    )
    await w.patch("merge", "pods", "a", {"metadata": {"labels": {"a": "b"}}})
    rv = made["metadata"]["resourceVersion"]
    stale = await w.patch(
        "strategic", "pods", "a", {"metadata": {"resourceVersion": rv}, "status": {"phase": "Running"}}, "status"
    )
    return [wrong.seen(), stale.seen()]


@probe
async def pod_status_refuses_what_is_not_possible(w: World) -> Any:
    await w.make("pods", w.pod("a"))
    patches = (
        {"status": {"conditions": [{"type": "no such", "status": "True"}]}},
        {"status": {"phase": 7}},
        {"status": {"startTime": "yesterday"}},
    )
    return [(await w.patch("merge", "pods", "a", p, "status")).brief() for p in patches]


@probe
async def pod_status_of_containers(w: World) -> Any:
    await w.make("pods", w.pod("a", restartPolicy="Never", nodeName="nowhere"))
    state = {
        "name": "main",
        "image": "i",
        "imageID": "",
        "ready": True,
        "restartCount": 0,
        "state": {"running": {"startedAt": "2024-01-01T00:00:00Z"}},
    }
    running = await w.patch(
        "merge", "pods", "a", {"status": {"phase": "Running", "containerStatuses": [state]}}, "status"
    )
    over = {**state, "ready": False, "state": {"terminated": {"exitCode": 3, "reason": "Error"}}}
    failed = await w.patch("merge", "pods", "a", {"status": {"phase": "Failed", "containerStatuses": [over]}}, "status")
    back = await w.patch("merge", "pods", "a", {"status": {"containerStatuses": [state]}}, "status")
    return [running.obj["status"], failed.obj["status"], back.brief()]


@probe
async def status_put_of_a_stateful_set_counts_no_generation(w: World) -> Any:
    made = await w.make("statefulsets", stateful(w, "a"))
    answer = await w.patch("merge", "statefulsets", "a", {"status": {"collisionCount": 1}}, "status")
    return [
        made["metadata"]["generation"],
        answer.obj["metadata"]["generation"],
        answer.obj["status"].get("collisionCount"),
    ]


def stateful(w: World, name: str, replicas: int = 0) -> dict[str, Any]:
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "main", "image": "registry.example.com/app:v1"}], "schedulerName": "nobody"},
    }
    spec = {"replicas": replicas, "serviceName": name, "selector": {"matchLabels": {"app": name}}, "template": template}
    return w.body("statefulsets", name, spec=spec)


@probe
async def defaults_of_a_stateful_set(w: World) -> Any:
    return (await w.post("statefulsets", stateful(w, "a"))).obj["spec"]


@probe
async def defaults_of_a_deployment(w: World) -> Any:
    spec = {k: v for k, v in stateful(w, "a")["spec"].items() if k != "serviceName"}
    made = await w.post("deployments", w.body("deployments", "a", spec=spec))
    return made.obj["spec"]


@probe
async def scale_of_a_stateful_set(w: World) -> Any:
    await w.make("statefulsets", stateful(w, "a"))
    first = await w.get(w.path("statefulsets", "a", "scale"))
    seen = {**first.obj, "status": {"selector": first.obj["status"]["selector"]}}
    patched = await w.patch("merge", "statefulsets", "a", {"spec": {"replicas": 0}}, "scale")
    return [seen, patched.code, patched.obj["kind"]]


@probe
async def scale_of_a_custom_object(w: World) -> Any:
    await w.make("widgets", widget(w, "a"))
    await w.patch("merge", "widgets", "a", {"status": {"replicas": 1, "selector": "a=b"}}, "status")
    first = await w.get(w.path("widgets", "a", "scale"))
    patched = await w.patch("merge", "widgets", "a", {"spec": {"replicas": 4}}, "scale")
    put = await w.ask("PUT", w.path("widgets", "a", "scale"), {**patched.obj, "spec": {"replicas": 5}})
    stale = await w.ask("PUT", w.path("widgets", "a", "scale"), {**first.obj, "spec": {"replicas": 6}})
    return [first.seen(), patched.seen(), put.seen(), stale.seen(), (await w.read("widgets", "a")).seen()]


@probe
async def scale_that_is_negative(w: World) -> Any:
    await w.make("widgets", widget(w, "a"))
    await w.make("statefulsets", stateful(w, "a"))
    return [
        (await w.patch("merge", p, "a", {"spec": {"replicas": -1}}, "scale")).seen()
        for p in ("widgets", "statefulsets")
    ]


@probe
async def scale_of_what_is_not_there(w: World) -> Any:
    return [(await w.get(w.path(p, "a", "scale"))).seen() for p in ("widgets", "statefulsets")]
