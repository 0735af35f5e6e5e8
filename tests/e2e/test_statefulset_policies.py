"""The policies that a user may choose, on a real API server: OnDelete, InPlaceOnly, hooks, ordinals, no gate."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.e2e.conftest import Watched
from tests.e2e.harness import checks
from tests.e2e.harness.manager import ManagerProcess
from tests.e2e.harness.observer import Observer
from tests.e2e.harness.sets import condition, identity, image_patch, rolled_out, statefulset, status
from tests.e2e.harness.words import kruise_status, stuck
from tests.e2e.harness.world import MERGE, World

pytestmark = pytest.mark.real

STATE = "lifecycle.apps.kruise.io/state"
NEXT = "registry.example.com/app:v2"
Body = dict[str, Any]


def pod(observer: Observer, name: str) -> Body:
    """Return a pod of the set; empty while there is none."""
    return observer.get("pods", "default", name) or {"metadata": {}, "spec": {}, "status": {}}


def change(world: World, name: str, **metadata: Any) -> None:
    """Merge *metadata* into that of a pod."""
    world.call("PATCH", f"/api/v1/namespaces/default/pods/{name}", {"metadata": metadata}, content_type=MERGE)


def condition_of(body: Body, kind: str) -> str:
    """Return the status of a pod's condition, empty when it has none."""
    return next((c["status"] for c in body["status"].get("conditions") or () if c["type"] == kind), "")


def state(body: Body) -> str:
    """Return the lifecycle state of a pod."""
    return (body["metadata"].get("labels") or {}).get(STATE) or ""


def names(observer: Observer) -> set[str]:
    """Return the names of the pods of the set."""
    return {one["metadata"]["name"] for one in observer.set_pods("web")}


@pytest.mark.timeout(240)
def test_on_delete_waits_for_the_user_and_says_so(world: World, watched: Watched, manager: ManagerProcess) -> None:
    world.nodes(10)
    observer = watched.observer
    body = statefulset("web", 3)
    body["spec"]["updateStrategy"] = {"type": "OnDelete"}
    world.create_set(body)
    observer.until(lambda: status(observer.set("web")).get("readyReplicas") == 3, 60.0, "all pods run")
    before = {one["metadata"]["name"]: one["metadata"]["uid"] for one in observer.set_pods("web")}
    world.patch_set("web", image_patch(NEXT))
    stuck(world, observer, "web", "OnDelete")
    code, text = kruise_status(world, "asts/web", "-w", "--timeout", "20")
    assert code == 0, f"somebody wants it so: {text}"
    assert condition(observer.set("web"), "Ready").get("status") == "True"
    world.call("DELETE", "/api/v1/namespaces/default/pods/web-1")
    observer.until(lambda: status(observer.set("web")).get("updatedReadyReplicas") == 1, 60.0, "the new pod is new")
    after = {one["metadata"]["name"]: one["metadata"]["uid"] for one in observer.set_pods("web")}
    assert {name for name in before if before[name] != after[name]} == {"web-1"}
    assert pod(observer, "web-1")["spec"]["containers"][0]["image"] == NEXT


@pytest.mark.timeout(240)
def test_in_place_only_names_the_field_and_touches_no_pod(
    world: World, watched: Watched, manager: ManagerProcess
) -> None:
    world.nodes(10)
    observer = watched.observer
    world.create_set(statefulset("web", 3, policy="InPlaceOnly"))
    observer.until(lambda: rolled_out(observer.set("web")), 60.0, "all pods run")
    before = {one["metadata"]["name"]: identity(one) for one in observer.set_pods("web")}
    args = {"op": "add", "path": "/spec/template/spec/containers/0/args", "value": ["--more"]}
    world.patch_set("web", [args])
    assert "args" in stuck(world, observer, "web", "InPlaceNotPossible")["evidence"]
    assert condition(observer.set("web"), "Stalled").get("status") == "True"
    code, text = kruise_status(world, "asts/web", "-w", "--timeout", "20")
    assert code == 2, text
    assert {one["metadata"]["name"]: identity(one) for one in observer.set_pods("web")} == before
    asked = world.patch_set(
        "web", [{"op": "remove", "path": "/spec/template/spec/containers/0/args"}, *image_patch(NEXT)]
    )
    observer.until(lambda: rolled_out(observer.set("web"), asked), 60.0, "an image can be changed in place")
    assert {one["metadata"]["name"]: identity(one) for one in observer.set_pods("web")} == before


@pytest.mark.timeout(240)
def test_hooks_hold_an_update_and_a_deletion_until_they_let_go(
    world: World, watched: Watched, manager: ManagerProcess
) -> None:
    world.nodes(10)
    observer = watched.observer
    body = statefulset("web", 2)
    body["spec"]["lifecycle"] = {
        "inPlaceUpdate": {"labelsHandler": {"example.com/serves": "yes"}, "markPodNotReady": True},
        "preDelete": {"finalizersHandler": ["example.com/backup"], "markPodNotReady": True},
    }
    body["spec"]["template"]["metadata"]["labels"]["example.com/serves"] = "yes"
    body["spec"]["template"]["metadata"]["finalizers"] = ["example.com/backup"]
    world.create_set(body)
    observer.until(lambda: rolled_out(observer.set("web")), 60.0, "all pods run")
    assert condition_of(pod(observer, "web-1"), "KruisePodReady") == "True"
    asked = world.patch_set("web", image_patch(NEXT))
    assert "example.com/serves" in stuck(world, observer, "web", "LifecycleHookBlocked")["evidence"]
    for ordinal in (1, 0):
        name = f"web-{ordinal}"
        observer.until(partial(lambda n: state(pod(observer, n)) == "PreparingUpdate", name), 30.0, f"{name} prepares")
        assert condition_of(pod(observer, name), "KruisePodReady") == "False"
        assert pod(observer, name)["spec"]["containers"][0]["image"] != NEXT
        change(world, name, labels={"example.com/serves": None})
        observer.until(partial(lambda n: state(pod(observer, n)) == "Updated", name), 30.0, f"{name} is updated")
        assert pod(observer, name)["spec"]["containers"][0]["image"] == NEXT
        change(world, name, labels={"example.com/serves": "yes"})
        observer.until(partial(lambda n: state(pod(observer, n)) == "Normal", name), 30.0, f"{name} serves again")
    observer.until(lambda: rolled_out(observer.set("web"), asked), 60.0, "the update ends")
    uid = pod(observer, "web-0")["metadata"]["uid"]
    change(world, "web-0", labels={"apps.kruise.io/specified-delete": "true"})
    observer.until(lambda: state(pod(observer, "web-0")) == "PreparingDelete", 30.0, "its deletion is prepared")
    assert condition_of(pod(observer, "web-0"), "KruisePodReady") == "False"
    assert "example.com/backup" in stuck(world, observer, "web", "LifecycleHookBlocked")["evidence"]
    change(world, "web-0", finalizers=None)
    observer.until(lambda: pod(observer, "web-0")["metadata"].get("uid") not in (None, uid), 60.0, "another web-0")
    observer.until(lambda: rolled_out(observer.set("web")), 60.0, "the set is whole")
    for name in sorted(names(observer)):
        change(world, name, finalizers=None)


@pytest.mark.timeout(240)
def test_ordinals_start_where_they_shall_and_leave_out_what_is_reserved(
    world: World, watched: Watched, launch: Callable[..., ManagerProcess]
) -> None:
    world.nodes(10)
    observer = watched.observer
    gate = "--feature-gates=StatefulSetStartOrdinal=true"
    launch(gate).wait_leading()
    watched.start_ordinal = True
    world.create_set(statefulset("web", 3, budget=2, ordinals={"start": 2}, reserveOrdinals=["3-4"]))
    observer.until(lambda: rolled_out(observer.set("web")), 60.0, "all pods run")
    assert names(observer) == {"web-2", "web-5", "web-6"}
    asked = world.patch_set("web", {"spec": {"reserveOrdinals": [5], "replicas": 4}})
    observer.until(
        lambda: rolled_out(observer.set("web"), asked) and names(observer) == {"web-2", "web-3", "web-4", "web-6"},
        60.0,
        "the reserved pod goes, and those that are free again come",
    )
    asked = world.patch_set("web", {"spec": {"ordinals": {"start": 3}, "replicas": 2}})
    observer.until(
        lambda: rolled_out(observer.set("web"), asked) and names(observer) == {"web-3", "web-4"}, 60.0, "a later start"
    )
    code, text = kruise_status(world, "asts/web", gate)
    assert code == 0, text


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("policy", "writes"),
    [
        ("InPlaceIfPossible", {"patch pods 200": 2}),
        ("ReCreate", {"delete pods 200": 1, "create pods 201": 1}),
    ],
)
def test_without_the_gate_an_update_costs_two_writes_a_pod(
    world: World, watched: Watched, manager: ManagerProcess, policy: str, writes: dict[str, int]
) -> None:
    world.nodes(10)
    observer, size = watched.observer, 12
    mark = world.cluster.audit.mark()
    world.create_set(statefulset("web", size, budget=4, policy=policy, gated=False))
    observer.until(lambda: rolled_out(observer.set("web")), 60.0, "all pods run")
    assert made(world, mark) == {"create pods 201": size, "create controllerrevisions 201": 1}
    mark = world.cluster.audit.mark()
    asked = world.patch_set("web", image_patch(NEXT))
    observer.until(lambda: rolled_out(observer.set("web"), asked), 60.0, "all pods are updated")
    assert made(world, mark) == {what: n * size for what, n in writes.items()} | {"create controllerrevisions 201": 1}


def made(world: World, mark: int) -> Counter[str]:
    """Return the manager's writes after *mark*, beside those of the status and those that were refused."""
    time.sleep(1.0)  # the last one may stand in the log a moment later
    assert checks.own_conflicts(world.cluster.audit, mark) == []
    found = checks.tally(checks.writes(world.cluster.audit, mark))
    ours = {what: n for what, n in found.items() if not what.endswith((" 409", " 422"))}
    ours.pop("patch statefulsets/status 200", None)
    return Counter(ours)
