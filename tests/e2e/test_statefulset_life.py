"""What becomes of a set in its life: rolled back half-way, adopted, let go, resized, and its claims and revisions."""

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
from tests.e2e.harness.world import MERGE, World

pytestmark = pytest.mark.real

IMAGE = "sim.kruise.io/start-1s"
REVISIONS = "controllerrevisions.apps"
CLAIMS = "persistentvolumeclaims"
Body = dict[str, Any]


def tally(world: World, mark: int) -> Counter[str]:
    """Return the manager's writes after *mark*, refusals left out."""
    time.sleep(1.0)  # the last one may stand in the log a moment later
    made = checks.tally(checks.writes(world.cluster.audit, mark))
    return Counter({what: count for what, count in made.items() if not what.endswith((" 409", " 422"))})


def revisions(observer: Observer) -> dict[str, Body]:
    """Return the revisions there are, by name."""
    return {one["metadata"]["name"]: one for one in observer.all(REVISIONS)}


def claims(observer: Observer) -> dict[str, Body]:
    """Return the claims there are, by name."""
    return {one["metadata"]["name"]: one for one in observer.all(CLAIMS)}


def owners(body: Body) -> set[tuple[str, str]]:
    """Return kind and name of the owners of *body*."""
    return {(ref["kind"], ref["name"]) for ref in body["metadata"].get("ownerReferences") or ()}


def _of_web(observer: Observer) -> set[str]:
    """Return the names of the revisions of the set that all tests here have."""
    return {name for name in revisions(observer) if name.startswith("web-")}


def restarts(pod: Body) -> int:
    """Return how often the first container of *pod* was restarted."""
    return int(next(s["restartCount"] for s in pod["status"]["containerStatuses"] if s["name"] == "main"))


def patch_pod(world: World, name: str, patch: Body) -> None:
    """Merge *patch* into a pod."""
    world.call("PATCH", f"/api/v1/namespaces/default/pods/{name}", patch, content_type=MERGE)


@pytest.mark.timeout(240)
def test_a_rollback_half_way_uses_the_old_revision_and_touches_updated_pods_alone(
    world: World, watched: Watched, manager: ManagerProcess
) -> None:
    world.nodes(10)
    observer = watched.observer
    world.create_set(statefulset("web", 12, image=f"{IMAGE}:v1", budget=3))
    observer.until(lambda: rolled_out(observer.set("web")), 90.0, "all pods run")
    before = {pod["metadata"]["name"]: identity(pod) for pod in observer.set_pods("web")}
    old = status(observer.set("web"))["currentRevision"]
    number = revisions(observer)[old]["revision"]
    world.patch_set("web", image_patch(f"{IMAGE}:v2"))
    observer.until(lambda: status(observer.set("web")).get("updatedReadyReplicas", 0) in range(3, 8), 60.0, "some are")
    mark = world.cluster.audit.mark()
    asked = world.patch_set("web", image_patch(f"{IMAGE}:v1"))
    observer.until(lambda: rolled_out(observer.set("web"), asked), 90.0, "the rollback ends")
    after = observer.set_pods("web")
    assert {pod["metadata"]["name"]: identity(pod) for pod in after} == before, "in place both ways"
    touched = {pod["metadata"]["name"] for pod in after if restarts(pod)}
    assert 3 <= len(touched) <= 10
    assert touched == {f"web-{n}" for n in range(12 - len(touched), 12)}, "those that had been updated"
    assert {restarts(pod) for pod in after} <= {0, 1, 2}
    made = tally(world, mark)
    assert made["patch controllerrevisions 200"] == 1, made
    assert made["create controllerrevisions 201"] == 0, made
    assert status(observer.set("web"))["currentRevision"] == old
    assert revisions(observer)[old]["revision"] == number + 2, "newer than the one that was rolled back"


@pytest.mark.timeout(240)
def test_pods_are_let_go_and_taken_over_by_their_labels(
    world: World, watched: Watched, manager: ManagerProcess
) -> None:
    world.nodes(10)
    observer = watched.observer
    world.create_set(statefulset("web", 3))
    observer.until(lambda: rolled_out(observer.set("web")), 60.0, "all pods run")
    before = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in observer.set_pods("web")}

    def pod(name: str) -> Body:
        return observer.get("pods", "default", name) or {"metadata": {}}

    patch_pod(world, "web-1", {"metadata": {"labels": {"app": None}}})
    observer.until(lambda: owners(pod("web-1")) == set(), 20.0, "it is let go")
    observer.until(
        lambda: "belongs to somebody else" in condition(observer.set("web"), "FailedCreatePod").get("message", ""),
        20.0,
        "the set says that the name is taken",
    )
    patch_pod(world, "web-1", {"metadata": {"labels": {"app": "web"}}})
    observer.until(lambda: owners(pod("web-1")) == {("StatefulSet", "web")}, 20.0, "it is taken over")
    observer.until(lambda: rolled_out(observer.set("web")), 30.0, "the set is whole")
    assert {p["metadata"]["name"]: p["metadata"]["uid"] for p in observer.set_pods("web")} == before


@pytest.mark.timeout(240)
def test_a_set_that_was_deleted_alone_takes_its_pods_and_revisions_back(
    world: World, watched: Watched, manager: ManagerProcess
) -> None:
    world.nodes(10)
    observer = watched.observer
    body = statefulset("web", 4)
    world.create_set(body)
    observer.until(lambda: rolled_out(observer.set("web")), 60.0, "all pods run")
    before = {pod["metadata"]["name"]: identity(pod) for pod in observer.set_pods("web")}
    kept = {name: revisions(observer)[name]["metadata"]["uid"] for name in _of_web(observer)}
    world.cluster.kubectl("delete", "asts", "web", "--cascade=orphan", "--wait")
    observer.until(lambda: not any(map(owners, observer.set_pods("web"))), 30.0, "the pods have no owner")
    mark = world.cluster.audit.mark()
    asked = world.create_set(body)
    observer.until(lambda: rolled_out(observer.set("web"), asked), 60.0, "the new set has them")
    assert {pod["metadata"]["name"]: identity(pod) for pod in observer.set_pods("web")} == before
    uids = {ref["uid"] for p in observer.set_pods("web") for ref in p["metadata"]["ownerReferences"]}
    assert uids == {asked["metadata"]["uid"]}
    made = tally(world, mark)
    assert made.pop("patch statefulsets/status 200") <= 4
    assert made == {"patch pods 200": 4, "patch controllerrevisions 200": len(kept)}, made
    now = {name: revisions(observer)[name]["metadata"]["uid"] for name in _of_web(observer)}
    assert now == kept


@pytest.mark.timeout(240)
def test_claims_go_as_the_retention_policy_says(world: World, watched: Watched, manager: ManagerProcess) -> None:
    world.nodes(10)
    world.storage_class()
    observer = watched.observer
    policy = {"whenScaled": "Delete", "whenDeleted": "Delete"}
    world.create_set(statefulset("web", 4, claims=True, persistentVolumeClaimRetentionPolicy=policy))
    observer.until(lambda: rolled_out(observer.set("web")), 60.0, "all pods run")
    assert {name: owners(one) for name, one in claims(observer).items()} == {
        f"data-web-{n}": {("StatefulSet", "web")} for n in range(4)
    }
    mark = world.cluster.audit.mark()
    world.cluster.kubectl("scale", "asts/web", "--replicas=2")
    observer.until(lambda: set(claims(observer)) == {"data-web-0", "data-web-1"}, 60.0, "the claims go with their pods")
    made = tally(world, mark)
    assert made["patch persistentvolumeclaims 200"] == 2, made
    assert made["delete pods 200"] == 2, made
    assert not [what for what in made if what.startswith("delete persistentvolumeclaims")], "the collector deletes them"
    retained = {"spec": {"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Delete", "whenDeleted": "Retain"}}}
    world.patch_set("web", retained)
    observer.until(lambda: not any(map(owners, claims(observer).values())), 30.0, "nobody owns them any more")
    world.delete_set("web")
    observer.until(lambda: not observer.set_pods("web"), 60.0, "the pods go with the set")
    time.sleep(2.0)
    assert set(claims(observer)) == {"data-web-0", "data-web-1"}, "they are kept"


@pytest.mark.timeout(240)
def test_claims_grow_with_their_template(
    world: World,
    watched: Watched,
    component: Callable[[str], list[str]],
    launch: Callable[..., ManagerProcess],
) -> None:
    world.nodes(10)
    world.storage_class()
    observer = watched.observer
    launch(*component("claim-resize")).wait_leading()
    strategy = {"type": "OnPodRollingUpdate"}
    body = statefulset("web", 3, claims=True, image=f"{IMAGE}:v1", volumeClaimUpdateStrategy=strategy)
    world.create_set(body)
    observer.until(lambda: rolled_out(observer.set("web")), 60.0, "all pods run")
    mark = world.cluster.audit.mark()
    size = {"op": "replace", "path": "/spec/volumeClaimTemplates/0/spec/resources/requests/storage", "value": "2Gi"}
    asked = world.patch_set("web", [size, *image_patch(f"{IMAGE}:v2")])

    def grown() -> bool:
        found = [one.get("status", {}).get("capacity", {}).get("storage") for one in claims(observer).values()]
        return found == ["2Gi"] * 3

    observer.until(grown, 60.0, "every claim has grown")
    observer.until(lambda: rolled_out(observer.set("web"), asked), 60.0, "and every pod is updated")
    (told,) = status(observer.set("web"))["volumeClaims"]
    assert told == {"volumeClaimName": "data", "compatibleReplicas": 3, "compatibleReadyReplicas": 3}
    made = tally(world, mark)
    assert made["patch persistentvolumeclaims 200"] == 3, made
    assert made["patch pods 200"] == 3, "in place"
    events = world.call("GET", "/apis/events.k8s.io/v1/namespaces/default/events")["items"]
    assert "SuccessfulResize" in {event["reason"] for event in events}


@pytest.mark.timeout(240)
def test_resources_change_in_place_through_the_subresource(
    world: World,
    watched: Watched,
    component: Callable[[str], list[str]],
    launch: Callable[..., ManagerProcess],
) -> None:
    world.nodes(10)
    observer = watched.observer
    launch(*component("pod-resize")).wait_leading()
    body = statefulset("web", 3, budget=2)
    sizes = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "200m", "memory": "128Mi"}}
    body["spec"]["template"]["spec"]["containers"][0]["resources"] = sizes
    world.create_set(body)
    observer.until(lambda: rolled_out(observer.set("web")), 60.0, "all pods run")
    before = {pod["metadata"]["name"]: identity(pod) for pod in observer.set_pods("web")}
    mark = world.cluster.audit.mark()
    path = "/spec/template/spec/containers/0/resources"
    asked = world.patch_set(
        "web",
        [
            {"op": "replace", "path": f"{path}/requests/cpu", "value": "150m"},
            {"op": "replace", "path": f"{path}/limits/memory", "value": "256Mi"},
        ],
    )
    observer.until(lambda: rolled_out(observer.set("web"), asked), 60.0, "every pod is resized")
    after = observer.set_pods("web")
    assert {pod["metadata"]["name"]: identity(pod) for pod in after} == before
    assert {restarts(pod) for pod in after} == {0}
    wanted = {"requests": {"cpu": "150m", "memory": "64Mi"}, "limits": {"cpu": "200m", "memory": "256Mi"}}
    assert [pod["spec"]["containers"][0]["resources"] for pod in after] == [wanted] * 3
    assert [pod["status"]["containerStatuses"][0]["resources"] for pod in after] == [wanted] * 3
    made = tally(world, mark)
    assert made.pop("patch statefulsets/status 200") <= 12
    assert made == {
        "patch pods/resize 200": 3,
        "patch pods 200": 6,  # what is asked for; that it came
        "create controllerrevisions 201": 1,
    }, made


@pytest.mark.timeout(240)
def test_old_revisions_go_as_the_history_limit_says(world: World, watched: Watched, manager: ManagerProcess) -> None:
    world.nodes(10)
    observer = watched.observer
    world.create_set(statefulset("web", 2, budget=2, revisionHistoryLimit=2))
    observer.until(lambda: rolled_out(observer.set("web")), 60.0, "all pods run")
    seen = [status(observer.set("web"))["currentRevision"]]
    mark = world.cluster.audit.mark()
    for version in range(2, 7):
        asked = world.patch_set("web", image_patch(f"registry.example.com/app:v{version}"))
        observer.until(partial(lambda asked: rolled_out(observer.set("web"), asked), asked), 60.0, f"version {version}")
        seen.append(status(observer.set("web"))["currentRevision"])
    assert len(set(seen)) == 6
    observer.until(lambda: _of_web(observer) == set(seen[-3:]), 20.0, "the one in use, and two more")
    made = tally(world, mark)
    assert made["create controllerrevisions 201"] == 5, made
    assert made["delete controllerrevisions 200"] == 3, made
