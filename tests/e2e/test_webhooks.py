"""Admission and conversion of the three kinds by a real API server, and certificates that a restart keeps."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest

from hack.cluster import ROOT
from hack.cluster.api import ApiCallError
from hack.kustomize import render
from tests.e2e.conftest import Watched
from tests.e2e.harness.manager import ManagerProcess
from tests.e2e.harness.webhooks import DEFINITIONS, MUTATING, SECRET, VALIDATING
from tests.e2e.harness.world import JSON, MERGE, World, until

pytestmark = pytest.mark.real

Body = dict[str, Any]
CONVERTED = ("sidecarsets.apps.kruise.io", "statefulsets.apps.kruise.io")
ALPHA, BETA = "/apis/apps.kruise.io/v1alpha1", "/apis/apps.kruise.io/v1beta1"
HERE = "namespaces/default"


@pytest.fixture
def converting(world: World, webhooks: None) -> None:
    """Let the API server ask for conversions, as config/default does. ``webhooks`` puts the definitions back."""
    shipped = {one["metadata"]["name"]: one for one in render(ROOT / "config" / "default")}
    for name in CONVERTED:
        change = [{"op": "replace", "path": "/spec/conversion", "value": shipped[name]["spec"]["conversion"]}]
        world.call("PATCH", f"{DEFINITIONS}/{name}", change, content_type=JSON)


def pod_template(app: str, **spec: Any) -> Body:
    containers = [{"name": "main", "image": "registry.example.com/app:v1"}]
    return {"metadata": {"labels": {"app": app}}, "spec": {"containers": containers, **spec}}


# The examples of OpenKruise's documentation for v1alpha1, in its fields.
SIDECARSET = {
    "apiVersion": "apps.kruise.io/v1alpha1",
    "kind": "SidecarSet",
    "metadata": {"name": "guide", "labels": {"apps.kruise.io/sidecarset-custom-version": "v1"}},
    "spec": {
        "selector": {"matchLabels": {"app": "guide"}},
        "namespace": "default",
        "updateStrategy": {"type": "RollingUpdate", "maxUnavailable": 1},
        "containers": [
            {
                "name": "sidecar1",
                "image": "registry.example.com/mesh:v1",
                "command": ["sleep", "999d"],
                "volumeMounts": [{"name": "log-volume", "mountPath": "/var/log"}],
            }
        ],
        "volumes": [{"name": "log-volume", "emptyDir": {}}],
    },
}
STATEFULSET = {
    "apiVersion": "apps.kruise.io/v1alpha1",
    "kind": "StatefulSet",
    "metadata": {"name": "sample", "namespace": "default"},
    "spec": {
        "replicas": 0,
        "serviceName": "fake-service",
        "selector": {"matchLabels": {"app": "sample"}},
        "template": pod_template("sample", readinessGates=[{"conditionType": "InPlaceUpdateReady"}]),
        "podManagementPolicy": "Parallel",
        "updateStrategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {
                "podUpdatePolicy": "InPlaceIfPossible",
                "maxUnavailable": 3,
                "unorderedUpdate": {
                    "priorityStrategy": {
                        "weightPriority": [{"weight": 50, "matchSelector": {"matchLabels": {"test-key": "foo"}}}]
                    }
                },
            },
        },
    },
}
BROADCASTJOB = {
    "apiVersion": "apps.kruise.io/v1alpha1",
    "kind": "BroadcastJob",
    "metadata": {"name": "sweep", "namespace": "default"},
    "spec": {
        "paused": True,
        "template": pod_template("sweep", restartPolicy="Never"),
        "completionPolicy": {"type": "Always", "activeDeadlineSeconds": 10},
    },
}


@pytest.mark.timeout(300)
def test_v1alpha1_of_the_documentation_applies_and_reads_back(
    world: World, converting: None, hooked: Callable[..., ManagerProcess]
) -> None:
    hooked().wait_leading()

    made = world.call("POST", f"{ALPHA}/sidecarsets", SIDECARSET)
    assert made["spec"]["containers"][0]["podInjectPolicy"] == "BeforeAppContainer"
    assert made["metadata"]["annotations"]["kruise.io/sidecarset-hash"]
    stored = world.call("GET", f"{BETA}/sidecarsets/guide")
    here = {"matchLabels": {"kubernetes.io/metadata.name": "default"}}
    assert (stored["spec"]["namespaceSelector"], stored["spec"]["customVersion"]) == (here, "v1")
    assert "namespace" not in stored["spec"]
    assert "apps.kruise.io/sidecarset-custom-version" not in (stored["metadata"].get("labels") or {})
    read = world.call("GET", f"{ALPHA}/sidecarsets/guide")
    assert read["spec"]["namespaceSelector"] == here
    assert "namespace" not in read["spec"]
    assert read["metadata"]["labels"] == {"apps.kruise.io/sidecarset-custom-version": "v1"}
    assert read["metadata"]["annotations"] == stored["metadata"]["annotations"]
    assert read["spec"]["volumes"] == SIDECARSET["spec"]["volumes"]  # type: ignore[index]

    made = world.call("POST", f"{ALPHA}/{HERE}/statefulsets", STATEFULSET)
    assert made["spec"]["updateStrategy"]["rollingUpdate"]["partition"] == 0
    assert made["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] == "Always"
    stored = world.call("GET", f"{BETA}/{HERE}/statefulsets/sample")
    assert stored["spec"]["updateStrategy"] == made["spec"]["updateStrategy"]
    more = {"spec": {"reserveOrdinals": [1]}}
    world.call("PATCH", f"{BETA}/{HERE}/statefulsets/sample", more, content_type=MERGE)
    listed = world.call("GET", f"{ALPHA}/{HERE}/statefulsets")["items"]
    assert [one["metadata"]["name"] for one in listed] == ["sample"]
    assert "reserveOrdinals" not in listed[0]["spec"]

    made = world.call("POST", f"{ALPHA}/{HERE}/broadcastjobs", BROADCASTJOB)
    assert (made["spec"]["failurePolicy"], made["spec"]["parallelism"]) == ({"type": "FailFast"}, 2147483647)
    stored = world.call("GET", f"{BETA}/{HERE}/broadcastjobs/sweep")
    assert stored["spec"] == made["spec"]


def guide(**spec: Any) -> Body:
    """Return a set of the documentation with one more of its topics."""
    return {**SIDECARSET["spec"], **spec}  # type: ignore[dict-item]


MESH: Body = {"name": "nginx-sidecar", "image": "nginx:1.18"}
TOPICS: dict[str, Body] = {
    "volumes-shared": guide(containers=[{**MESH, "shareVolumePolicy": {"type": "enabled"}}]),
    "env-copied": guide(
        containers=[
            {
                **MESH,
                "transferEnv": [
                    {"sourceContainerName": "main", "envName": "PROXY_IP"},
                    {"sourceContainerNameFrom": {"fieldRef": {"fieldPath": "metadata.labels['c']"}}, "envName": "TC"},
                ],
            }
        ]
    ),
    "pull-secrets": guide(imagePullSecrets=[{"name": "my-secret"}]),
    "injection-paused": guide(injectionStrategy={"paused": True}),
    "partition": guide(updateStrategy={"type": "RollingUpdate", "maxUnavailable": "20%", "partition": "10%"}),
    "selected": guide(
        updateStrategy={"type": "RollingUpdate", "selector": {"matchLabels": {"canary.release": "true"}}}
    ),
    "scattered": guide(updateStrategy={"type": "RollingUpdate", "scatterStrategy": [{"key": "foo", "value": "bar"}]}),
    "in-order": guide(
        updateStrategy={
            "priorityStrategy": {"orderPriority": [{"orderedKey": "some-label-key"}]},
        }
    ),
    "not-updated": guide(updateStrategy={"type": "NotUpdate"}),
    "hot": guide(
        containers=[
            {
                **MESH,
                "lifecycle": {"postStart": {"exec": {"command": ["/bin/bash", "-c", "/usr/local/bin/migrate.sh"]}}},
                "upgradeStrategy": {
                    "upgradeType": "HotUpgrade",
                    "hotUpgradeEmptyImage": "openkruise/hotupgrade-sample:empty",
                },
            }
        ]
    ),
    "init": guide(initContainers=[{"name": "prepare", "image": "busybox:1.36", "command": ["true"]}]),
    "expressions": guide(
        namespace=None, namespaceSelector={"matchExpressions": [{"key": "env", "operator": "Exists"}]}
    ),
}


def lost(given: Any, found: Any, path: str = "") -> list[str]:
    """Return the paths of *given* at which *found* says something else."""
    if isinstance(given, dict) and isinstance(found, dict):
        return [one for key, value in given.items() for one in lost(value, found.get(key), f"{path}.{key}")]
    if isinstance(given, list) and isinstance(found, list) and len(given) == len(found):
        return [one for at, value in enumerate(given) for one in lost(value, found[at], f"{path}[{at}]")]
    return [] if given == found else [path]


@pytest.mark.timeout(300)
def test_each_topic_of_the_guide_for_sidecarsets_is_taken_and_kept(
    world: World, converting: None, hooked: Callable[..., ManagerProcess]
) -> None:
    hooked().wait_leading()
    for name, spec in TOPICS.items():
        spec = {key: value for key, value in spec.items() if value is not None}
        selector = {"matchLabels": {"app": name}}
        body = {**SIDECARSET, "metadata": {"name": name}, "spec": {**spec, "selector": selector}}
        made = world.call("POST", f"{ALPHA}/sidecarsets", body)
        # At creation it is converted to what is stored, so a namespace is a selector from then on (spec 13).
        kept = {key: value for key, value in body["spec"].items() if key != "namespace"}  # type: ignore[attr-defined]
        for where in (made, *(world.call("GET", f"{one}/sidecarsets/{name}") for one in (ALPHA, BETA))):
            assert lost(kept, where["spec"]) == [], (name, where["apiVersion"])
            if "namespace" in spec:
                assert where["spec"]["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": "default"}}
        # What was read is applied again, as a repository of manifests does: without a version, since the manager writes
        # the status meanwhile.
        read = world.call("GET", f"{ALPHA}/sidecarsets/{name}")
        del read["metadata"]["resourceVersion"]
        again = world.call("PATCH", f"{ALPHA}/sidecarsets/{name}", read, content_type=MERGE)
        assert again["metadata"]["generation"] == 1, name


@pytest.mark.timeout(300)
def test_what_breaks_a_rule_is_refused_with_its_paths(world: World, hooked: Callable[..., ManagerProcess]) -> None:
    hooked().wait_leading()

    def refused(
        path: str, body: Body, *said: str, method: str = "POST", content_type: str = "application/json"
    ) -> None:
        with pytest.raises(ApiCallError) as error:
            world.call(method, path, body, content_type=content_type)
        assert error.value.code == 422, error.value
        for text in said:
            assert text in str(error.value)

    bad = {**BROADCASTJOB, "apiVersion": "apps.kruise.io/v1beta1"}
    labelled = pod_template("x", restartPolicy="Never")
    labelled["metadata"]["labels"]["broadcastjob-name"] = "mine"
    refused(
        f"{BETA}/{HERE}/broadcastjobs",
        {**bad, "spec": {"template": labelled}},
        "spec.template.metadata.labels",
        "are not allowed to preset in pod labels",
    )
    sets = {**STATEFULSET, "apiVersion": "apps.kruise.io/v1beta1"}
    spec: Body = {**sets["spec"], "template": pod_template("other", restartPolicy="Never")}  # type: ignore[dict-item]
    refused(
        f"{BETA}/{HERE}/statefulsets",
        {**sets, "spec": spec},
        "spec.template.metadata.labels",
        "spec.template.spec.restartPolicy",
    )
    world.call("POST", f"{BETA}/{HERE}/statefulsets", sets)
    refused(
        f"{BETA}/{HERE}/statefulsets/sample",
        {"spec": {"serviceName": "other"}},
        "spec",
        method="PATCH",
        content_type=MERGE,
    )
    mesh = {
        "apiVersion": "apps.kruise.io/v1beta1",
        "kind": "SidecarSet",
        "metadata": {"name": "first"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "containers": [{"name": "mesh", "image": "m:1"}]},
    }
    world.call("POST", f"{BETA}/sidecarsets", mesh)
    second = {**mesh, "metadata": {"name": "second"}}
    until(
        lambda: world.cluster.api.ask("POST", f"{BETA}/sidecarsets?dryRun=All", second)[0] == 422,
        10.0,
        "the conflict is seen",
    )
    refused(f"{BETA}/sidecarsets", second, "spec.containers", "container mesh already exist in first")
    unmounted = {**mesh["spec"]["containers"][0], "volumeMounts": [{"name": "none", "mountPath": "/x"}]}  # type: ignore[index]
    refused(
        f"{BETA}/sidecarsets",
        {**second, "spec": {**mesh["spec"], "containers": [unmounted]}},  # type: ignore[dict-item]
        "spec.containers[0].volumeMounts[0].name",
    )


def bundles(world: World) -> dict[str, str]:
    """The caBundle of everything that calls a webhook, by where it stands."""
    found = {}
    for plural in ("mutatingwebhookconfigurations", "validatingwebhookconfigurations"):
        for one in world.call("GET", f"/apis/admissionregistration.k8s.io/v1/{plural}")["items"]:
            for hook in one.get("webhooks", ()):  # the configuration of the sets whose pods wait has none at first
                place = f"{plural}/{one['metadata']['name']}/{hook['name']}"
                found[place] = hook["clientConfig"].get("caBundle", "")
    for one in world.call("GET", DEFINITIONS)["items"]:
        webhook = (one["spec"].get("conversion") or {}).get("webhook")
        if webhook:
            found[one["metadata"]["name"]] = webhook["clientConfig"].get("caBundle", "")
    return found


@pytest.mark.timeout(300)
def test_crt2_a_bundle_goes_into_ours_alone_and_a_restart_keeps_the_certificate(
    world: World, watched: Watched, converting: None, hooked: Callable[..., ManagerProcess]
) -> None:
    service = {"namespace": "kruise-system", "name": "kruise-webhook-service", "path": "/mutate-pod"}
    theirs = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "of-somebody-else"},
        "webhooks": [
            {
                "name": "theirs.example.com",
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": "Ignore",
                "clientConfig": {"service": service},
                "rules": [],
            }
        ],
    }
    path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
    world.call("POST", path, theirs)
    try:
        first = hooked().wait_leading()
        before = bundles(world)
        ours = {place: one for place, one in before.items() if "somebody" not in place}
        assert set(before) - set(ours) == {"mutatingwebhookconfigurations/of-somebody-else/theirs.example.com"}
        assert before["mutatingwebhookconfigurations/of-somebody-else/theirs.example.com"] == ""
        assert len(ours) == 4 + 4 + len(CONVERTED)
        (bundle,) = set(ours.values())
        kept = world.call("GET", SECRET)["data"]
        assert base64.b64decode(kept["ca.crt"]) == base64.b64decode(bundle)
        first.stop()

        second = hooked().wait_leading()
        assert world.call("GET", SECRET)["data"] == kept
        assert bundles(world) == before

        # What is deleted by hand and installed again is put right within a minute, without a restart.
        world.call("DELETE", VALIDATING)
        world.cluster.kubectl("apply", "-f", str(ROOT / "config" / "webhook" / "validating.yaml"))
        until(lambda: bundles(world) == before, 90.0, "the bundle is back")
        assert second.running
        assert world.call("GET", MUTATING)["webhooks"][0]["clientConfig"]["url"].endswith("/mutate-pod")
    finally:
        world.cluster.api.ask("DELETE", f"{path}/of-somebody-else")


@pytest.mark.timeout(300)
def test_crt6_a_right_that_is_missing_is_named(world: World, hooked: Callable[..., ManagerProcess]) -> None:
    roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles/kruise-webhook-certificates"
    rules = world.call("GET", roles)["rules"]
    world.call("PATCH", roles, {"rules": []}, content_type=MERGE)
    try:
        manager = world.manager("--webhook-initialize-timeout=5s", webhooks=True)
        manager.start()
        assert manager.wait(60.0) == 2
        (said,) = manager.said("cannot start")
        # The role of the pods that wait may read the first of them as well.
        assert 'resources: ["mutatingwebhookconfigurations"], verbs: ["patch"]' in said["error"]
        assert 'resources: ["validatingwebhookconfigurations"], verbs: ["get"]' in said["error"]
    finally:
        manager.kill()
        world.call("PATCH", roles, {"rules": rules}, content_type=MERGE)
