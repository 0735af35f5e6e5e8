"""Admission and conversion of the three kinds, as an API server asks for them."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from kruise.apis.sidecarset import HASH_ANNOTATION, WHITE_LIST_CONFIG_MAP, WHITE_LIST_KEY
from kruise.features import resolve
from kruise.webhooks.admission import AUTHOR_ANNOTATION
from tests.unit.webhooks.test_webhook_setup import install, mesh
from tests.unit.webhooks.webhooks_world import JSON, OWN, Decision, Denying, WebhookWorld, review, webhooks

GROUP = "apps.kruise.io"
VERSIONS = ("v1alpha1", "v1beta1")


def template(**spec: Any) -> JSON:
    return {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "app", "image": "app:1"}], **spec}}


def job(version: str = "v1beta1", **spec: Any) -> JSON:
    return {
        "apiVersion": f"{GROUP}/{version}",
        "kind": "BroadcastJob",
        "metadata": {"name": "sweep", "namespace": "shop"},
        "spec": {"template": template(restartPolicy="Never"), **spec},
    }


def web(version: str = "v1beta1", **spec: Any) -> JSON:
    return {
        "apiVersion": f"{GROUP}/{version}",
        "kind": "StatefulSet",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "serviceName": "web",
            "selector": {"matchLabels": {"app": "web"}},
            "template": template(),
            **spec,
        },
    }


def sidecars(version: str = "v1beta1", **spec: Any) -> JSON:
    return {**mesh(**spec), "apiVersion": f"{GROUP}/{version}"}


MADE = {"broadcastjob": job, "statefulset": web, "sidecarset": sidecars}
ALL = [(kind, version) for kind in MADE for version in VERSIONS]


async def mutate(world: WebhookWorld, obj: JSON, old: JSON | None = None, **more: Any) -> Decision:
    return await world.ask(f"/mutate-apps-kruise-io-{obj['kind'].lower()}", obj, old, **more)


async def validate(world: WebhookWorld, obj: JSON | None, old: JSON | None = None, **more: Any) -> Decision:
    known = obj or old
    assert known is not None
    return await world.ask(f"/validate-apps-kruise-io-{known['kind'].lower()}", obj, old, **more)


def gates(**on: bool) -> Any:
    return resolve(list(on.items()), {})[0]


# Every kind.


@pytest.mark.parametrize(("kind", "version"), ALL)
def test_an_ordinary_object_is_completed_accepted_and_not_changed_again(kind: str, version: str) -> None:
    async def scenario(world: WebhookWorld) -> None:
        first = await mutate(world, MADE[kind](version))
        assert first.allowed
        assert first.patch
        assert first.obj["apiVersion"] == f"{GROUP}/{version}"
        again = await mutate(world, first.obj)
        assert (again.allowed, again.patch) == (True, [])
        judged = await validate(world, first.obj)
        assert (judged.allowed, judged.message) == (True, "")

    webhooks(scenario)


@pytest.mark.parametrize(("kind", "version"), ALL)
def test_what_is_completed_is_what_the_version_asks_for(kind: str, version: str) -> None:
    async def scenario(world: WebhookWorld) -> None:
        spec = (await mutate(world, MADE[kind](version))).obj["spec"]
        if kind == "broadcastjob":
            assert (spec["completionPolicy"], spec["failurePolicy"]) == ({"type": "Always"}, {"type": "FailFast"})
            assert spec["template"]["spec"]["containers"][0]["imagePullPolicy"] == "Always"
        elif kind == "statefulset":
            assert (spec["replicas"], spec["updateStrategy"]["type"]) == (1, "RollingUpdate")
            assert ("persistentVolumeClaimRetentionPolicy" in spec) is (version == "v1beta1")
        else:
            assert spec["containers"][0]["podInjectPolicy"] == "BeforeAppContainer"
            assert spec["revisionHistoryLimit"] == 10

    webhooks(scenario)


@pytest.mark.parametrize(("kind", "version"), ALL)
@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("spec",), 7, "$.spec"),
        (("metadata", "labels"), [], "labels"),
        (("apiVersion",), f"{GROUP}/v1", "want apps.kruise.io/"),
        (("kind",), "Other", "want apps.kruise.io/"),
    ],
)
def test_what_cannot_be_read_is_refused_with_400_and_a_place(
    kind: str, version: str, path: tuple[str, ...], value: Any, said: str
) -> None:
    async def scenario(world: WebhookWorld) -> None:
        obj = MADE[kind](version)
        *above, last = path
        holder = obj
        for key in above:
            holder = holder.setdefault(key, {})
        holder[last] = value
        for ask in ("mutate", "validate"):
            done = await world.ask(f"/{ask}-apps-kruise-io-{kind}", obj, version=version)
            assert (done.allowed, done.code) == (False, 400)
            assert "cannot be read" in done.message
            assert said in done.message

    webhooks(scenario)


def planted(value: Any, seed: list[str]) -> Any:
    """Return *value* with a field that nobody knows in every object of it that is not a map of names."""
    if isinstance(value, dict):
        found = {key: planted(one, seed) for key, one in value.items() if key not in ("labels", "matchLabels")}
        found |= {key: value[key] for key in ("labels", "matchLabels") if key in value}
        return found | {f"zz{seed.pop()}": {"kept": [1, None, {}]}} if seed else found
    return [planted(one, seed) for one in value] if isinstance(value, list) else value


def contains(whole: Any, part: Any, path: str = "") -> str:
    """Return where *part* is not in *whole*; nothing: it is."""
    if isinstance(part, dict):
        if not isinstance(whole, dict):
            return path
        return next((w for k in part if (w := contains(whole.get(k, ...), part[k], f"{path}.{k}"))), "")
    if isinstance(part, list):
        if not isinstance(whole, list) or len(whole) != len(part):
            return path
        return next((w for i, one in enumerate(part) if (w := contains(whole[i], one, f"{path}[{i}]"))), "")
    return "" if whole == part else path


@pytest.mark.parametrize(("kind", "version"), ALL)
def test_x35_defaulting_never_removes_a_field_that_it_does_not_know(kind: str, version: str) -> None:
    async def scenario(world: WebhookWorld) -> None:
        for count in range(13):
            obj = MADE[kind](version)
            obj["spec"] = planted(obj["spec"], [str(number) for number in range(count)])
            obj["status"] = {"observedGeneration": 3}
            done = await mutate(world, obj)
            assert done.allowed
            assert contains(done.obj, {key: one for key, one in obj.items() if key != "status"}) == ""

    webhooks(scenario, running=False)


def test_deletions_and_what_nobody_asked_for_pass() -> None:
    async def scenario(world: WebhookWorld) -> None:
        for kind, make in MADE.items():
            for ask in ("mutate", "validate"):
                done = await world.ask(f"/{ask}-apps-kruise-io-{kind}", None, make())
                assert (done.allowed, done.patch) == (True, [])

    webhooks(scenario)


# BroadcastJob.


def test_a_broadcastjob_that_breaks_rules_is_refused_with_every_path() -> None:
    async def scenario(world: WebhookWorld) -> None:
        bad = job(completionPolicy={"type": "Never", "ttlSecondsAfterFinished": 1, "activeDeadlineSeconds": 2})
        bad["spec"]["template"]["spec"]["restartPolicy"] = "Always"
        paths = [
            "spec.completionPolicy.ttlSecondsAfterFinished",
            "spec.completionPolicy.activeDeadlineSeconds",
            "spec.template.spec.restartPolicy",
        ]
        for old in (None, job()):
            done = await validate(world, bad, old)
            assert (done.allowed, done.code, done.fields) == (False, 422, paths)
            assert done.message.startswith('BroadcastJob.apps.kruise.io "sweep" is invalid: [spec.completionPolicy.ttl')

    webhooks(scenario)


def test_a_template_that_did_not_change_is_left_alone() -> None:
    async def scenario(world: WebhookWorld) -> None:
        for obj in (job(), web()):
            old = copy.deepcopy(obj)
            obj["metadata"]["labels"] = {"new": "yes"}
            assert (await mutate(world, obj, old)).obj["spec"]["template"] == obj["spec"]["template"]
            obj["spec"]["template"]["spec"]["containers"][0]["image"] = "app:2"
            assert (await mutate(world, obj, old)).obj["spec"]["template"] != obj["spec"]["template"]

    webhooks(scenario)


def test_the_gate_template_no_defaults_leaves_every_template_alone() -> None:
    async def scenario(world: WebhookWorld) -> None:
        for obj in (job(), web()):
            assert (await mutate(world, obj)).obj["spec"]["template"] == obj["spec"]["template"]
        done = await mutate(world, sidecars())
        assert "imagePullPolicy" not in done.obj["spec"]["containers"][0]

    webhooks(scenario, gates=gates(TemplateNoDefaults=True))


# StatefulSet.


def test_a_statefulset_keeps_what_is_immutable() -> None:
    async def scenario(world: WebhookWorld) -> None:
        old = (await mutate(world, web())).obj
        old["metadata"] |= {"resourceVersion": "1", "uid": "u"}
        new = copy.deepcopy(old)
        new["spec"]["replicas"] = 5
        assert (await validate(world, new, old)).allowed
        new["spec"]["serviceName"] = "other"
        done = await validate(world, new, old)
        assert (done.allowed, done.code, done.fields) == (False, 422, ["spec"])

    webhooks(scenario)


def test_a_stored_statefulset_that_nobody_could_write_today_can_be_mended() -> None:
    async def scenario(world: WebhookWorld) -> None:
        new = (await mutate(world, web())).obj
        new["metadata"] |= {"resourceVersion": "1", "uid": "u"}
        old = copy.deepcopy(new)
        old["spec"] |= {"replicas": -1, "podManagementPolicy": None, "selector": old["spec"]["selector"]}
        old["spec"]["podManagementPolicy"] = new["spec"]["podManagementPolicy"]
        assert (await validate(world, new, old)).allowed

    webhooks(scenario)


@pytest.mark.parametrize(
    ("word", "replicas", "on", "allowed"),
    [
        ("Always", 0, True, False),
        ("Cascading", 2, True, False),
        ("Cascading", 0, True, True),
        ("Never", 2, True, True),
        ("Always", 2, False, True),
    ],
)
def test_a_protected_statefulset_is_not_deleted(word: str, replicas: int, on: bool, allowed: bool) -> None:
    async def scenario(world: WebhookWorld) -> None:
        protected = web(replicas=replicas)
        protected["metadata"]["labels"] = {"policy.kruise.io/delete-protection": word}
        done = await validate(world, None, protected, user="eve")
        assert done.allowed is allowed
        count = world.metric(
            "workload_deletion_protection_total", kind_namespace_name="StatefulSet_shop_web", username="eve"
        )
        assert count == (0 if allowed else 1)
        if not allowed:
            assert done.code == 403
            assert done.fields == ["metadata.labels[policy.kruise.io/delete-protection]"]

    webhooks(scenario, gates=gates(ResourcesDeletionProtection=on))


def test_claims_are_resized_only_where_their_class_allows_it() -> None:
    async def scenario(world: WebhookWorld) -> None:
        for name, grows in (("fixed", False), ("elastic", True)):
            body = {
                "apiVersion": "storage.k8s.io/v1",
                "kind": "StorageClass",
                "metadata": {"name": name},
                "provisioner": "x",
                "allowVolumeExpansion": grows,
            }
            world.server.create("storageclasses.storage.k8s.io", body)
        await world.clock.sleep(0.5)
        for name, grows in (("fixed", False), ("elastic", True)):
            claim = {
                "metadata": {"name": "data"},
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "storageClassName": name,
                    "resources": {"requests": {"storage": "1Gi"}},
                },
            }
            more = {"volumeClaimTemplates": [claim], "volumeClaimUpdateStrategy": {"type": "OnPodRollingUpdate"}}
            old = (await mutate(world, web(**more))).obj
            old["metadata"] |= {"resourceVersion": "1", "uid": "u"}
            new = copy.deepcopy(old)
            new["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"] = "2Gi"
            done = await validate(world, new, old)
            assert done.allowed is grows, done.message

    webhooks(scenario, gates=gates(StatefulSetAutoResizePVCGate=True))


# SidecarSet.


def test_a_sidecarset_that_breaks_rules_is_refused_with_every_path() -> None:
    async def scenario(world: WebhookWorld) -> None:
        bad = sidecars(selector={}, containers=[{"name": "envoy", "image": ""}])
        done = await validate(world, (await mutate(world, bad)).obj)
        assert (done.allowed, done.code) == (False, 422)
        assert done.fields == ["spec.selector", "spec.containers[0].image"]

    webhooks(scenario)


def test_the_hashes_are_overwritten_and_the_author_is_put_down() -> None:
    async def scenario(world: WebhookWorld) -> None:
        obj = sidecars()
        obj["metadata"]["annotations"] = {HASH_ANNOTATION: "mine", AUTHOR_ANNOTATION: "somebody", "other": "kept"}
        made = (await mutate(world, obj, user="ann")).obj
        annotations = made["metadata"]["annotations"]
        assert annotations[HASH_ANNOTATION] != "mine"
        assert (annotations[AUTHOR_ANNOTATION], annotations["other"]) == ("ann", "kept")
        same = copy.deepcopy(made)
        same["metadata"]["annotations"].pop(AUTHOR_ANNOTATION)
        assert (await mutate(world, same, made, user="bob")).obj["metadata"]["annotations"][AUTHOR_ANNOTATION] == "ann"
        same["spec"]["containers"][0]["image"] = "envoy:2"
        assert (await mutate(world, same, made, user="bob")).obj["metadata"]["annotations"][AUTHOR_ANNOTATION] == "bob"

    webhooks(scenario)


@pytest.mark.parametrize("version", VERSIONS)
def test_c4_a_set_that_conflicts_with_another_is_refused_until_that_one_is_gone(version: str) -> None:
    async def scenario(world: WebhookWorld) -> None:
        await install(world, mesh("first"))
        mine = {**sidecars(version), "metadata": {"name": "second"}}
        done = await validate(world, (await mutate(world, mine)).obj)
        assert (done.allowed, done.fields) == (False, ["spec.containers"])
        assert "container envoy already exist in first" in done.message
        mine["spec"]["selector"] = {"matchLabels": {"app": "other"}}
        assert (await validate(world, (await mutate(world, mine)).obj)).allowed
        mine["spec"]["selector"] = mesh()["spec"]["selector"]
        world.server.delete(f"sidecarsets.{GROUP}", "first")
        await world.clock.sleep(0.5)
        assert (await validate(world, (await mutate(world, mine)).obj)).allowed

    webhooks(scenario)


def test_a_set_may_become_what_no_new_one_may_be_called_after_itself() -> None:
    async def scenario(world: WebhookWorld) -> None:
        await install(world, mesh())
        old = world.server.get(f"sidecarsets.{GROUP}", "mesh")
        assert old is not None
        new = copy.deepcopy(old)
        new["spec"]["containers"][0]["image"] = "envoy:2"
        assert (await validate(world, (await mutate(world, new, old)).obj, old)).allowed
        new["spec"]["containers"].append({"name": "late", "image": "x:1"})
        done = await validate(world, (await mutate(world, new, old)).obj, old)
        assert not done.allowed

    webhooks(scenario)


def test_the_white_list_of_the_cluster_decides_what_may_be_patched() -> None:
    async def scenario(world: WebhookWorld) -> None:
        patched = sidecars(patchPodMetadata=[{"annotations": {"mesh.io/on": "yes"}, "patchPolicy": "Overwrite"}])
        body = (await mutate(world, patched)).obj
        done = await validate(world, body)
        assert (done.allowed, done.fields) == (False, ["spec.patchPodMetadata"])
        for expression, allowed in (("^mesh.io/", True), ("^other/", False)):
            rules = {"rules": [{"allowedAnnotationKeyExprs": [expression]}]}
            config = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": WHITE_LIST_CONFIG_MAP, "namespace": OWN},
                "data": {WHITE_LIST_KEY: json.dumps(rules)},
            }
            if world.server.get("configmaps", WHITE_LIST_CONFIG_MAP, OWN) is None:
                world.server.create("configmaps", config)
            else:
                world.server.patch("configmaps", WHITE_LIST_CONFIG_MAP, {"data": config["data"]}, namespace=OWN)
            await world.clock.sleep(0.5)
            assert (await validate(world, body)).allowed is allowed

    webhooks(scenario)


def test_of_configmaps_only_the_one_with_the_white_list_is_read() -> None:
    async def scenario(world: WebhookWorld) -> None:
        asked = [str(call) for call in world.server.log if "configmaps" in str(call)]
        assert asked
        assert all(f"metadata.name={WHITE_LIST_CONFIG_MAP}" in call.replace("%3D", "=") for call in asked), asked

    webhooks(scenario)


def test_a_revision_that_is_not_there_is_refused() -> None:
    async def scenario(world: WebhookWorld) -> None:
        pinned = sidecars(injectionStrategy={"revision": {"revisionName": "mesh-1"}})
        done = await validate(world, (await mutate(world, pinned)).obj)
        assert not done.allowed
        assert done.fields == ["revision"]  # OpenKruise's path

    webhooks(scenario)


# Conversion.


def test_sidecarsets_convert_as_the_specification_says() -> None:
    async def scenario(world: WebhookWorld) -> None:
        alpha = sidecars("v1alpha1", namespace="shop", namespaceSelector={"matchLabels": {"a": "b"}})
        alpha["metadata"] |= {"uid": "u", "labels": {"apps.kruise.io/sidecarset-custom-version": "7", "x": "y"}}
        answer = await world.convert(f"{GROUP}/v1beta1", alpha)
        assert answer["result"] == {"status": "Success"}
        (beta,) = answer["convertedObjects"]
        assert beta["apiVersion"] == f"{GROUP}/v1beta1"
        assert beta["spec"]["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": "shop"}}
        assert "namespace" not in beta["spec"]
        assert (beta["spec"]["customVersion"], beta["metadata"]["labels"]) == ("7", {"x": "y"})
        (back,) = (await world.convert(f"{GROUP}/v1alpha1", beta))["convertedObjects"]
        assert "namespace" not in back["spec"]
        assert back["spec"]["namespaceSelector"] == beta["spec"]["namespaceSelector"]
        assert back["metadata"] == alpha["metadata"]

    webhooks(scenario, running=False)


def test_statefulsets_lose_on_the_way_what_v1alpha1_does_not_have() -> None:
    async def scenario(world: WebhookWorld) -> None:
        beta = web(reserveOrdinals=[1], scaleStrategy={"maxUnavailable": 1}, replicas=3)
        (alpha,) = (await world.convert(f"{GROUP}/v1alpha1", beta))["convertedObjects"]
        assert not {"reserveOrdinals", "scaleStrategy"} & set(alpha["spec"])
        assert alpha["spec"]["replicas"] == 3

    webhooks(scenario, running=False)


def test_web6_one_object_that_cannot_be_converted_is_named() -> None:
    async def scenario(world: WebhookWorld) -> None:
        for bad in ({**web(), "spec": 3, "kind": "Other"}, {**sidecars("v1alpha1"), "apiVersion": f"{GROUP}/v7"}):
            answer = await world.convert(f"{GROUP}/v1beta1", job("v1alpha1"), bad)
            assert answer["result"]["status"] == "Failure"
            assert answer["convertedObjects"] == []

    webhooks(scenario, running=False)


# Whatever comes.

ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1 << 40,
    1.5,
    "",
    "x",
    "é\n",
    [],
    [None],
    [1],
    {},
    {"a": None},
    {"name": 1},
    [{}],
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in *value* below its root."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, one in inner for found in ((*path, key), *places(one, (*path, key)))]


def rich(kind: str, version: str) -> JSON:
    """An object that says much."""
    obj = MADE[kind](version)
    obj["metadata"] |= {"labels": {"a": "b"}, "annotations": {"c": "d"}, "resourceVersion": "1", "uid": "u"}
    spec = obj["spec"]
    if kind == "broadcastjob":
        spec |= {"parallelism": "10%", "completionPolicy": {"type": "Always"}, "failurePolicy": {"type": "Pause"}}
    elif kind == "statefulset":
        rolling = {"partition": 1, "maxUnavailable": "20%", "podUpdatePolicy": "InPlaceOnly", "minReadySeconds": 1}
        rolling["unorderedUpdate"] = {"priorityStrategy": {"orderPriority": [{"orderedKey": "k"}]}}
        spec |= {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling}, "reserveOrdinals": [1, "3-4"]}
        spec["volumeClaimTemplates"] = [{"metadata": {"name": "d"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]
    else:
        spec["containers"][0] |= {
            "volumeMounts": [{"name": "v", "mountPath": "/v"}],
            "transferEnv": [{"sourceContainerNameFrom": {"fieldRef": {"fieldPath": "metadata.name"}}, "envName": "E"}],
            "resourcesPolicy": {"targetContainersMode": "sum", "resourcesExpr": {"limits": {"cpu": "cpu*50%"}}},
            "securityContext": {"capabilities": {"add": ["X"]}, "runAsUser": 0},
            "upgradeStrategy": {"upgradeType": "HotUpgrade", "hotUpgradeEmptyImage": "e:1"},
        }
        spec["initContainers"] = [{"name": "i", "image": "i:1"}]
        spec["volumes"] = [{"name": "v", "hostPath": {"path": "/"}}]
        spec["injectionStrategy"] = {"revision": {"customVersion": "1", "policy": "Partial"}}
        spec["patchPodMetadata"] = [{"annotations": {"k": "v"}, "patchPolicy": "Retain"}]
        spec["updateStrategy"] = {"type": "RollingUpdate", "partition": "1%", "scatterStrategy": [{"key": "k"}]}
    return obj


@pytest.mark.parametrize(("kind", "version"), ALL)
def test_c8_whatever_stands_anywhere_there_is_a_decision(kind: str, version: str) -> None:
    async def scenario(world: WebhookWorld) -> None:
        whole = rich(kind, version)
        failed: set[str] = set()
        for number, path in enumerate(one for one in places(whole) if one[0] in ("metadata", "spec")):
            for odd in (ODD[number % len(ODD)], ODD[(number + 5) % len(ODD)], ODD[(number + 11) % len(ODD)]):
                obj = copy.deepcopy(whole)
                holder: Any = obj
                for key in path[:-1]:
                    holder = holder[key]
                holder[path[-1]] = odd
                more = {"version": version}
                for ask in ("mutate", "validate"):
                    at = f"/{ask}-apps-kruise-io-{kind}"
                    for new, old in ((obj, None), (obj, whole), (whole, obj)):
                        body = review(new, old, **{**more, "plural": f"{kind}s"})
                        reply = await world.call(at, body)
                        if reply.status != 200:
                            failed.add(f"{at} {path} {odd!r} {'old' if old is obj else 'new'}")
                answer = await world.convert(f"{GROUP}/v1beta1", {**obj, "metadata": {"name": "x"}})
                assert answer["uid"] == "1"
        assert not failed, "\n".join(sorted(failed))

    webhooks(scenario)


# The policy.


def test_what_raises_privileges_is_warned_of_by_default_and_refused_under_strict() -> None:
    body = sidecars(volumes=[{"name": "v", "hostPath": {"path": "/"}}])

    async def compat(world: WebhookWorld) -> None:
        done = await validate(world, (await mutate(world, body)).obj)
        assert done.allowed
        assert [text.partition(":")[0] for text in done.warnings] == [
            "spec.containers[0].image",
            "spec.volumes[0].hostPath",
        ]

    async def strict(world: WebhookWorld) -> None:
        done = await validate(world, (await mutate(world, body)).obj)
        assert (done.allowed, done.code, done.fields) == (False, 422, ["spec.volumes[0].hostPath"])

    webhooks(compat)
    webhooks(strict, sidecar_policy="strict", sidecar_policy_allow=("image",))


def test_without_a_white_list_a_gate_allows_every_annotation() -> None:
    async def scenario(world: WebhookWorld) -> None:
        patched = sidecars(patchPodMetadata=[{"annotations": {"mesh.io/on": "yes"}, "patchPolicy": "Overwrite"}])
        assert (await validate(world, (await mutate(world, patched)).obj)).allowed

    webhooks(scenario, gates=gates(SidecarSetPatchPodMetadataDefaultsAllowed=True))


# What the caches do not have yet.


def canary(base: str) -> JSON:
    obj = sidecars()
    obj["metadata"] = {
        "name": "trial",
        "annotations": {"apps.kruise.io/sidecarset-canary": "true", "apps.kruise.io/sidecarset-base": base},
    }
    return obj


def reads(world: WebhookWorld, mark: int) -> list[str]:
    """What the manager asked the API server for, live, since *mark*."""
    return [f"{call.verb} {call.name}" for call in list(world.server.log)[mark:] if call.verb in ("get", "list")]


def revision(name: str, **labels: str) -> JSON:
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {"name": name, "namespace": OWN, "labels": labels},
        "revision": 1,
        "data": {"spec": {}},
    }


def test_x30_a_base_and_a_revision_of_this_moment_are_asked_for_before_a_set_is_refused() -> None:
    async def scenario(world: WebhookWorld) -> None:
        trial = (await mutate(world, canary("base"))).obj
        named = (await mutate(world, sidecars(injectionStrategy={"revision": {"revisionName": "mesh-1"}}))).obj
        labelled = (await mutate(world, sidecars(injectionStrategy={"revision": {"customVersion": "v7"}}))).obj
        for obj in (trial, named, labelled):
            assert not (await validate(world, obj)).allowed
        base = (await mutate(world, sidecars(selector={"matchLabels": {"app": "other"}}))).obj
        base["metadata"]["name"] = "base"
        set_of = {"kruise.io/sidecarset-name": "mesh", "apps.kruise.io/sidecarset-custom-version": "v7"}
        for obj, plural, missing, asked in (
            (trial, f"sidecarsets.{GROUP}", base, "get base"),
            (named, "controllerrevisions.apps", revision("mesh-1"), "get mesh-1"),
            (labelled, "controllerrevisions.apps", revision("mesh-2", **set_of), "list "),
        ):
            world.server.create(plural, missing)  # nothing runs until it is asked for: the caches cannot know
            mark = len(world.server.log)
            done = await validate(world, obj)
            assert done.allowed, done.message
            assert asked in reads(world, mark)

    webhooks(scenario)


def test_what_is_known_and_what_no_object_can_be_called_is_not_asked_for() -> None:
    async def scenario(world: WebhookWorld) -> None:
        await install(world, mesh("base", selector={"matchLabels": {"app": "other"}}))
        for obj, allowed in (
            (canary("base"), True),
            (canary("no/name"), False),
            (sidecars(injectionStrategy={"revision": {"revisionName": "../secrets"}}), False),
            (sidecars(injectionStrategy={"revision": {"customVersion": "a,b=c"}}), False),
            (sidecars(selector={}), False),
        ):
            made = (await mutate(world, obj)).obj
            mark = len(world.server.log)
            done = await validate(world, made)
            assert (done.status, done.allowed) == (200, allowed), done.message
            assert reads(world, mark) == []

    webhooks(scenario)


def test_rule31_what_cannot_be_asked_for_decides_nothing() -> None:
    async def scenario(world: WebhookWorld) -> None:
        made = (await mutate(world, canary("base"))).obj
        done = await validate(world, made)
        assert done.status == 503
        assert "cannot be asked for" in done.text

    webhooks(scenario, wrap=lambda inner: Denying(inner, "sidecarsets", "get"))
