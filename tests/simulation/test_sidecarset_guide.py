"""docs/sidecarset.md: its examples do what it says, run by the manager with its webhooks.

Each example has a scenario here; the rest of the guide is tested beside this file.
"""

from __future__ import annotations

import json
from typing import Final

import pytest

from tests.simulation.admission_world import AdmissionWorld, simulate_admission
from tests.simulation.sidecar_guide import (
    MANIFESTS,
    PARTIAL,
    V2,
    WHITE_LIST,
    Scenario,
    check,
    check_living,
    containers,
    named,
    status,
    upgrade,
    versions,
)
from tests.simulation.sidecar_world import OWN, PATCH_POD, PATCH_STATUS
from tests.simulation.world import Body

# ---- injection -------------------------------------------------------------------------------------------------------


async def log_reader(world: AdmissionWorld, body: Body) -> None:
    await world.run_pod("before", "shop")
    await world.sleep(2)
    await world.apply(body)
    await world.run_pods("shop", 3)
    await world.settled(3, "log-reader")
    pod = world.pod("shop-0")
    assert containers(pod) == ["log-reader", "main"]
    assert [one["name"] for one in pod["spec"]["volumes"]] == ["logs"]
    found, code, document = await status(world, "log-reader")
    assert (found, code) == ({"before": "CreatedBeforeSidecarSet"}, 0)
    assert document["counts"]["matched"] == 3
    assert await check_living(world, "before") == {"log-reader": "CreatedBeforeSidecarSet"}
    assert await check_living(world, "shop-0") == {"log-reader": "AlreadyInjected"}
    code, _ = await world.send("DELETE", "/apis/apps.kruise.io/v1beta1/sidecarsets/log-reader")
    assert code == 200
    await world.sleep(5)
    assert containers(world.pod("shop-0")) == ["log-reader", "main"], "nothing is taken out of pods that run"


async def ordered(world: AdmissionWorld, body: Body) -> None:
    await world.apply(body)
    mark = world.mark()
    quick = {f"{name}.sim.kruise.io/run-seconds": "1" for name in ("a-fetch", "b-prepare")}
    pod = await world.run_pod("ordered-0", "ordered", annotations=quick, imagePullSecrets=[{"name": "own"}])
    assert containers(pod) == ["proxy", "main", "reader"]
    assert [one["name"] for one in pod["spec"]["initContainers"]] == ["a-fetch", "b-prepare"]
    assert [one["name"] for one in pod["spec"]["volumes"]] == ["spool"]
    assert [one["name"] for one in pod["spec"]["imagePullSecrets"]] == ["own", "registry"]
    assert {"name": "IS_INJECTED", "value": "true"} in named(pod, "proxy")["env"]
    marks = pod["metadata"]["annotations"]
    assert marks["kruise.io/sidecarset-injected-list"] == "ordered"
    assert {"kruise.io/sidecarset-hash", "kruise.io/sidecarset-hash-without-image"} <= set(marks)
    assert world.counts(since=mark) == {}, "an injection costs no request"
    taken = {"volumes": [{"name": "spool", "configMap": {"name": "mine"}}]}
    pod = await world.run_pod("ordered-1", "ordered", annotations=quick, **taken)
    assert pod["spec"]["volumes"][0]["configMap"] == {"defaultMode": 420, "name": "mine"}
    await world.settled(2, "ordered")


async def sharing(world: AdmissionWorld, body: Body) -> None:
    await world.apply(body)
    variables = [
        {"name": "REGION", "value": "north"},
        {"name": "POD_NAME", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
    ]
    mounts = [{"name": "data", "mountPath": "/data", "subPathExpr": "$(POD_NAME)"}]
    main = {"name": "main", "image": "sim.kruise.io/ready-1s:app", "env": variables, "volumeMounts": mounts}
    main["volumeDevices"] = [{"name": "disk", "devicePath": "/dev/disk"}]
    store = {"name": "store", "image": "sim.kruise.io/ready-1s:app", "env": [{"name": "DSN", "value": "db://"}]}
    claim = {"name": "disk", "persistentVolumeClaim": {"claimName": "disk"}}
    pod = await world.run_pod(
        "sharing-0",
        "sharing",
        annotations={"example.com/database": "store"},
        containers=[main, store],
        volumes=[{"name": "data", "emptyDir": {}}, claim],
    )
    helper = named(pod, "helper")
    assert {"name": "data", "mountPath": "/data", "subPathExpr": "$(POD_NAME)"} in helper["volumeMounts"]
    assert helper["volumeDevices"] == [{"name": "disk", "devicePath": "/dev/disk"}]
    assert [one["name"] for one in helper["env"]] == ["IS_INJECTED", "REGION", "DSN", "POD_NAME"], "ZONE is not there"


async def measured(world: AdmissionWorld, body: Body) -> None:
    await world.apply(body)

    def sized(name: str, cpu: str, memory: str) -> Body:
        limits = {"cpu": cpu, "memory": memory}
        return {"name": name, "image": "i", "resources": {"limits": limits, "requests": limits}}

    pods = [sized("main", "300m", "100Mi"), sized("worker", "100m", "100Mi"), sized("other", "8", "8Gi")]
    pod = await world.run_pod("measured-0", "measured", containers=pods)
    assert named(pod, "proxy")["resources"] == {
        "limits": {"cpu": "200m", "memory": "200Mi"},
        "requests": {"cpu": "200m", "memory": "68Mi"},
    }
    bare = [sized("main", "1", "1Gi"), {"name": "worker", "image": "i"}]
    pod = await world.run_pod("measured-1", "measured", containers=bare)
    resources = named(pod, "proxy")["resources"]
    assert "limits" not in resources, "one of the containers has none"
    assert resources["requests"]["cpu"] == "500m"
    code, answer = await world.post_pod("measured-2", "measured", containers=[sized("other", "1", "1Gi")])
    assert code == 400
    assert "mpod.kb.io" in answer["message"]


async def native(world: AdmissionWorld, body: Body) -> None:
    code, answer = await world.post({**body, "spec": {**body["spec"], "updateStrategy": {"type": "RollingUpdate"}}})
    assert code == 422
    assert "spec.updateStrategy" in answer["message"]
    await world.apply(body)
    ends = [{"name": "main", "image": "sim.kruise.io/run-2s:v1"}]
    pod = await world.run_pod("native-0", "native", containers=ends, restartPolicy="Never")
    assert pod["spec"]["initContainers"][0]["restartPolicy"] == "Always"
    await world.until(lambda: world.pod("native-0")["status"].get("phase") == "Succeeded")
    await world.run_pod("native-1", "native")
    await world.settled(1, "native")


async def front_only(world: AdmissionWorld, body: Body) -> None:
    for name, labels in (("shop", {"tier": "front"}), ("bank", {})):
        await world.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    await world.apply(body)
    calls = len(world.caller.calls)
    await world.run_pod("a", "front", namespace="shop")
    await world.run_pod("b", "api", namespace="shop")
    await world.run_pod("c", "back", namespace="shop")
    await world.run_pod("d", "front", namespace="bank")
    assert len(world.caller.calls) == calls + 4
    await world.run_pod("e", "front", namespace="shop", labels={"apps.kruise.io/sidecarset-injection": "disabled"})
    await world.run_pod("f", "front", namespace="kube-system")
    await world.run_pod("g", "front", namespace=OWN)
    mirror = {"kubernetes.io/config.mirror": "x"}
    await world.run_pod("h", "front", namespace="shop", annotations=mirror, nodeName="node-0")
    assert len(world.caller.calls) == calls + 4, "nobody is asked about those"
    injected = {p["metadata"]["name"] for p in world.server.list("pods") if "proxy" in containers(p)}
    assert injected == {"a", "b"}
    await world.settled(2, "front-only")
    found, code, document = await status(world, "front-only")
    exempt = dict.fromkeys(("e", "h"), "InjectionExempt")
    strangers = dict.fromkeys(("d", "f", "g"), "NamespaceNotSelected")
    assert (found, code) == (exempt | strangers, 0)
    assert document["namespaces"] == "namespaces with tier=front"
    pod = {"metadata": {"labels": {"app": "front"}}, "spec": {"containers": [{"name": "m", "image": "i"}]}}
    assert await check(world, pod, "shop") == {"front-only": "Injected"}
    assert await check(world, pod, "bank") == {"front-only": "NamespaceNotSelected"}
    assert await check(world, pod, "kube-system") == {"front-only": "PodExempt"}


# ---- upgrades --------------------------------------------------------------------------------------------------------


async def cold(world: AdmissionWorld, body: Body) -> None:
    await world.apply(body)
    await world.run_pods("cold", 4)
    await world.settled(4, "cold")
    before = world.faces("cold")
    mark = await upgrade(world, body)
    await world.settled(4, "cold")
    assert versions(world, "cold") == ["2"] * 4
    assert world.faces("cold") == before
    assert [p["status"]["containerStatuses"][1]["restartCount"] for p in world.server.list("pods")] == [0] * 4
    assert {what: world.counts(since=mark)[what] for what in (PATCH_POD, PATCH_STATUS)} == {
        PATCH_POD: 4,
        PATCH_STATUS: 4,
    }
    # A broken image stops at the budget; the next one repairs it.
    await upgrade(world, body, "sim.kruise.io/pull-fail:v3")
    await world.sleep(60)
    assert sorted(versions(world, "cold")) == ["2", "2", "2", "v3"]
    found, code, document = await status(world, "cold")
    assert sorted(found.values()) == ["ImagePullFailed", *["MaxUnavailableReached"] * 3]
    assert (code, document["state"]) == (2, "degraded")
    await upgrade(world, body, V2.replace(":2", ":4"))
    await world.settled(4, "cold")
    # More than an image needs new pods.
    await world.set_sidecar(body, env=[{"name": "LEVEL", "value": "debug"}])
    await world.sleep(5)
    found, code, document = await status(world, "cold")
    assert set(found.values()) == {"ImmutableFieldChanged"}
    assert document["decisions"][0]["fields"] == ["containers[proxy].env"]
    assert (code, document["state"]) == (2, "degraded")
    conditions = {c["type"]: c["status"] for c in world.pod("cold-0")["status"]["conditions"]}
    assert conditions["SidecarSetUpgradable"] == "False"
    events = [one["note"] for one in world.events("NotUpgradablePods")]
    assert any("4 not upgradable pod(s)" in note for note in events)
    for number in range(4):
        world.delete_pod(f"cold-{number}")
    await world.sleep(2)
    await world.run_pods("cold", 4)
    await world.settled(4, "cold")
    # What cannot change, and what makes no pod outdated.
    code, _ = await world.send(
        "PATCH",
        "/apis/apps.kruise.io/v1beta1/sidecarsets/cold",
        {"spec": {"containers": [{"name": "more", "image": "i"}]}},
    )
    assert code == 422
    await world.change(body, initContainers=[{"name": "prepare", "image": "i"}])
    await world.sleep(5)
    assert world.numbers("cold") == (4, 4, 4, 4)
    assert len(world.revisions("cold")) <= 5


async def held(world: AdmissionWorld, body: Body) -> None:
    await world.apply(body)
    await world.run_pods("held", 5)
    await world.settled(5, "held")
    await upgrade(world, body)
    await world.sleep(10)
    assert sorted(versions(world, "held")) == ["1", "1", "1", "1", "2"], "80 % of five stay"
    found, code, _ = await status(world, "held")
    assert (set(found.values()), code) == ({"PartitionHeld"}, 0)
    await world.change(body, updateStrategy={"partition": 0, "paused": True})
    await world.sleep(10)
    found, code, document = await status(world, "held")
    assert (set(found.values()), code, document["state"]) == ({"Paused"}, 0, "paused")
    await world.run_pod("held-5", "held")
    assert world.image("held-5", "proxy") == "2", "injection goes on"
    await world.change(body, updateStrategy={"paused": False, "maxUnavailable": 0})
    await world.sleep(10)
    found, code, _ = await status(world, "held")
    assert (set(found.values()), code) == ({"MaxUnavailableReached"}, 2)
    await world.change(body, updateStrategy={"maxUnavailable": 2})
    await world.settled(6, "held")
    await world.change(body, updateStrategy={"type": "NotUpdate"})
    await upgrade(world, body, V2.replace(":2", ":3"))
    await world.sleep(10)
    found, code, document = await status(world, "held")
    assert (set(found.values()), code, document["state"]) == ({"NotUpdate"}, 0, "does not update")
    world.delete_pod("held-5")
    await world.sleep(2)
    await world.run_pod("held-5", "held")
    assert world.image("held-5", "proxy") == "3", "a new pod gets the new version"


async def chosen(world: AdmissionWorld, body: Body) -> None:
    code, answer = await world.post(
        {**body, "spec": {**body["spec"], "updateStrategy": {"selector": {"matchLabels": {"a": "b"}}, "partition": 1}}}
    )
    assert code == 422
    assert "Partition and Selector cannot be used together" in answer["message"]
    await world.apply(body)
    await world.run_pod("chosen-0", "chosen", labels={"canary": "true"})
    await world.run_pod("chosen-1", "chosen")
    await world.settled(2, "chosen")
    await upgrade(world, body)
    await world.sleep(10)
    assert versions(world, "chosen") == ["2", "1"]
    found, code, _ = await status(world, "chosen")
    assert (found, code) == ({"chosen-1": "SelectorMismatch"}, 0)


async def order_of(world: AdmissionWorld, body: Body, count: int) -> list[str]:
    """Upgrade; return the pods in the order in which they were written to."""
    mark = await upgrade(world, body)
    await world.settled(count, body["metadata"]["name"])
    return [c.name for c in world.writes(since=mark) if (c.resource, c.subresource) == ("pods", "")]


async def by_weight(world: AdmissionWorld, body: Body) -> None:
    await world.apply(body)
    for number, role in enumerate(("leader", "follower", "none")):
        await world.run_pod(f"w-{number}", "by-weight", labels={"role": role})
    await world.settled(3, "by-weight")
    assert await order_of(world, body, 3) == ["w-1", "w-0", "w-2"]


async def scattered(world: AdmissionWorld, body: Body) -> None:
    await world.apply(body)
    for number in range(6):
        labels = {"turn": f"t-{number}"} | ({"cell": "one"} if number >= 3 else {})
        await world.run_pod(f"s-{number}", "scattered", labels=labels)
    await world.settled(6, "scattered")
    cells = ["one" if int(name[2:]) >= 3 else "" for name in await order_of(world, body, 6)]
    assert cells.count("one") == 3
    assert "one,one,one" not in ",".join(cells), "not in a row"


async def hot(world: AdmissionWorld, body: Body) -> None:
    await world.apply(body)
    await world.run_pods("hot", 2)
    await world.settled(2, "hot")
    pod = world.pod("hot-0")
    assert containers(pod) == ["proxy-1", "proxy-2", "main"]
    assert (world.image("hot-0", "proxy-1"), world.images("hot-0")["proxy-2"]) == (
        "1",
        "registry.example.com/mesh/empty:1",
    )
    assert {one["name"] for one in named(pod, "proxy-1")["env"]} >= {"SIDECARSET_VERSION", "SIDECARSET_VERSION_ALT"}
    before = world.faces("hot")
    mark = await upgrade(world, body)
    await world.settled(2, "hot")
    assert world.counts(since=mark)[PATCH_POD] == 2 * 2
    assert world.faces("hot") == before
    assert [world.images(f"hot-{n}")["proxy-1"] for n in range(2)] == ["registry.example.com/mesh/empty:1"] * 2
    assert [world.image(f"hot-{n}", "proxy-2") for n in range(2)] == ["2", "2"]
    works = json.loads(
        world.pod("hot-0")["metadata"]["annotations"]["kruise.io/sidecarset-working-hotupgrade-container"]
    )
    assert works == {"proxy": "proxy-2"}
    assert world.events("ResetContainerSucceed")
    # A broken image: the old twin serves on. The old image again: the failing twin is emptied.
    await upgrade(world, body, "sim.kruise.io/pull-fail:v3")
    await world.sleep(30)
    found, code, _ = await status(world, "hot")
    assert sorted(found.values()) == ["ImagePullFailed", "MaxUnavailableReached"]
    assert code == 2
    failing = next(pod for pod, reason in found.items() if reason == "ImagePullFailed")
    assert world.image(failing, "proxy-2") == "2"
    await upgrade(world, body, V2)
    await world.settled(2, "hot")
    assert sorted(world.image(failing, twin) for twin in ("proxy-1", "proxy-2")) == ["1", "2"]
    # Without an empty image.
    bare = [{**body["spec"]["containers"][0], "upgradeStrategy": {"upgradeType": "HotUpgrade"}}]
    code, answer = await world.post(
        {**body, "metadata": {"name": "bare"}, "spec": {**body["spec"], "containers": bare}}
    )
    assert code == 422
    assert "hotUpgradeEmptyImage" in answer["message"]


# ---- versions --------------------------------------------------------------------------------------------------------


async def versioned(world: AdmissionWorld, body: Body) -> None:
    await world.apply(body)
    await world.run_pods("versioned", 4)
    await world.settled(4, "versioned")
    sidecars = [{**body["spec"]["containers"][0], "image": V2}]
    await world.change(body, **PARTIAL, customVersion="next", containers=sidecars)
    await world.sleep(20)
    assert sorted(versions(world, "versioned")) == ["1", "1", "2", "2"]
    drawn = [named(await world.run_pod(f"more-{n}", "versioned"), "proxy")["image"][-1] for n in range(20)]
    assert set(drawn) == {"1", "2"}, "half of them, by lot"
    await world.change(body, updateStrategy={"paused": True})
    assert [named(await world.run_pod(f"late-{n}", "versioned"), "proxy")["image"][-1] for n in range(5)] == ["1"] * 5
    await world.change(body, updateStrategy={"paused": False}, injectionStrategy={"revision": {"policy": "Always"}})
    assert named(await world.run_pod("pinned", "versioned"), "proxy")["image"][-1] == "1"
    gone = {"spec": {"injectionStrategy": {"revision": {"customVersion": "never"}}}}
    code, answer = await world.send("PATCH", "/apis/apps.kruise.io/v1beta1/sidecarsets/versioned", gone)
    assert code == 422
    assert "Cannot find specific ControllerRevision" in answer["message"]
    first = world.revisions("versioned")[0]["metadata"]["name"]
    by_name = {"revision": {"customVersion": None, "revisionName": first}}
    await world.change(body, injectionStrategy=by_name)
    assert named(await world.run_pod("by-name", "versioned"), "proxy")["image"][-1] == "1"
    await world.change(body, injectionStrategy={"paused": True, "revision": None})
    pod = await world.run_pod("plain", "versioned")
    assert containers(pod) == ["main"]
    await world.sleep(5)
    found, _, _ = await status(world, "versioned")
    assert found["plain"] == "InjectionPaused"
    await world.change(
        body, injectionStrategy={"paused": False}, updateStrategy={"partition": 0, "maxUnavailable": "100%"}
    )
    await world.settled(31, "versioned")


async def mesh(world: AdmissionWorld, body: Body) -> None:
    canary = MANIFESTS["mesh-canary"]
    code, answer = await world.post(canary)
    assert code == 422, "its base is not there yet"
    assert "not found" in answer["message"]
    await world.apply(body)
    await world.apply(canary)
    await world.run_pod("mesh-0", "mesh")
    await world.run_pod("mesh-1", "mesh", labels={"track": "canary"})
    assert versions(world, "mesh") == ["1", "2"]
    await world.settled(1, "mesh")
    await world.settled(1, "mesh-canary")
    assert (await status(world, "mesh"))[:2] == ({}, 0)
    pod = {"metadata": {"labels": {"app": "mesh", "track": "canary"}}, "spec": {"containers": []}}
    assert await check(world, pod) == {"mesh": "ReplacedByCanary", "mesh-canary": "Injected"}
    await world.set_sidecar(body, image=V2)
    await world.settled(1, "mesh")


async def mesh_canary(world: AdmissionWorld, body: Body) -> None:
    await world.apply(MANIFESTS["mesh"])
    rolling = {**body, "spec": {**body["spec"], "updateStrategy": {"type": "RollingUpdate"}}}
    code, answer = await world.post(rolling)
    assert code == 422
    assert "RollingUpdate is not supported for canary" in answer["message"]
    await world.apply(body)
    other = {"metadata": {"annotations": {"apps.kruise.io/sidecarset-base": "another"}}}
    code, answer = await world.send("PATCH", "/apis/apps.kruise.io/v1beta1/sidecarsets/mesh-canary", other)
    assert code == 422
    assert "immutable" in answer["message"]


async def marked(world: AdmissionWorld, body: Body) -> None:
    code, answer = await world.post(body)
    assert code == 422, "no white list allows it"
    assert "patchPodMetadata" in answer["message"]
    await world.apply(WHITE_LIST)
    await world.apply(body)
    own = {"example.com/scrape": "false", "example.com/mesh": "off", "example.com/limits": '{"main": 5}'}
    pod = await world.run_pod("marked-0", "marked", annotations=own)
    marks = pod["metadata"]["annotations"]
    assert (marks["example.com/scrape"], marks["example.com/mesh"]) == ("false", "on")
    assert json.loads(marks["example.com/limits"]) == {"main": 5, "proxy": 100}
    await world.settled(1, "marked")
    patches = [{"annotations": {"example.com/mesh": "v2"}, "patchPolicy": "Overwrite"}]
    await world.change(body, patchPodMetadata=patches)
    await world.sleep(5)
    assert world.pod("marked-0")["metadata"]["annotations"]["example.com/mesh"] == "on"
    await upgrade(world, body)
    await world.settled(1, "marked")
    assert world.pod("marked-0")["metadata"]["annotations"]["example.com/mesh"] == "v2"


async def old_spelling(world: AdmissionWorld, body: Body) -> None:
    found = await world.apply(body)
    assert found["apiVersion"] == "apps.kruise.io/v1alpha1"
    code, stored = await world.send("GET", "/apis/apps.kruise.io/v1beta1/sidecarsets/old-spelling")
    assert code == 200
    assert stored["spec"]["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": "default"}}
    assert stored["spec"]["customVersion"] == "1"
    assert "labels" not in stored["metadata"]
    await world.run_pod("old-0", "old-spelling")
    await world.settled(1, "old-spelling")
    (revision,) = world.revisions("old-spelling")
    assert revision["metadata"]["labels"]["apps.kruise.io/sidecarset-custom-version"] == "1"


SCENARIOS: Final[dict[str, Scenario]] = {
    "log-reader": log_reader,
    "ordered": ordered,
    "sharing": sharing,
    "measured": measured,
    "native": native,
    "front-only": front_only,
    "cold": cold,
    "held": held,
    "chosen": chosen,
    "by-weight": by_weight,
    "scattered": scattered,
    "hot": hot,
    "versioned": versioned,
    "mesh": mesh,
    "mesh-canary": mesh_canary,
    "marked": marked,
    "old-spelling": old_spelling,
}


def test_the_guide_has_all_examples() -> None:
    assert list(MANIFESTS) == list(SCENARIOS)


@pytest.mark.parametrize("name", SCENARIOS)
def test_an_example_does_what_the_guide_says(name: str) -> None:
    async def scenario(world: AdmissionWorld) -> None:
        await world.started()
        await SCENARIOS[name](world, MANIFESTS[name])

    simulate_admission(scenario, rest=60.0)
