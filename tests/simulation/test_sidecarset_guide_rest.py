"""docs/sidecarset.md beside its examples: outages, conflicts, policies, the takeover, the samples, and its words."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import yaml

from kruise.apis.sidecarset import Sidecar, SidecarSet, SidecarSetSpec
from kruise.apis.sidecarset_rules import default_sidecarset
from kruise.cli import inject_check
from kruise.controllers.common.reasons import Reason
from kruise.controllers.sidecarset.revisions import new_revision
from kruise.features import resolve
from kruise.options import Options
from kruise.runtime.client.nulls import decode_as
from kruise.webhooks.certificates import reach
from kruise.webhooks.inject_outcome import NoteReason
from tests.simulation.admission_world import AdmissionWorld, pod_spec, simulate_admission
from tests.simulation.sidecar_guide import (
    MANIFESTS,
    PARTIAL,
    ROOT,
    TEXT,
    Scenario,
    check,
    check_living,
    containers,
    named,
    status,
    upgrade,
)
from tests.simulation.sidecar_world import OWN, SET_STATUS, SETS
from tests.simulation.world import NAMESPACE, Body

SAMPLES: Final = {
    path.stem: yaml.safe_load(path.read_text())
    for path in sorted((ROOT / "config" / "samples").glob("*sidecarset*.yaml"))
}
REVISIONS: Final = "controllerrevisions.apps"
CONFIGURATIONS: Final = tuple(
    (f"{kind}webhookconfigurations.admissionregistration.k8s.io", f"kruise-{kind}-webhook-configuration")
    for kind in ("mutating", "validating")
)


# ---- what is no example ----------------------------------------------------------------------------------------------


def test_c11_without_an_answer_pods_start_without_sidecars_and_are_named() -> None:
    async def scenario(world: AdmissionWorld) -> None:
        body = MANIFESTS["log-reader"]
        process = await world.started()
        await world.apply(body)
        await world.run_pod("served", "shop")
        await process.stop()
        code, answer = await world.send(
            "PATCH", "/apis/apps.kruise.io/v1beta1/sidecarsets/log-reader", {"spec": {"customVersion": "x"}}
        )
        assert code == 500, "a set needs an answer"
        assert "failed calling webhook" in answer["message"]
        await world.run_pod("missed", "shop")
        await world.sleep(5)
        found, code, _ = await status(world, "log-reader")
        assert (found, code) == ({"missed": "NotInjected"}, 2)
        assert await check_living(world, "missed") == {"log-reader": "NotInjected"}
        await world.started()
        await world.until(lambda: world.set_condition("Injected", "log-reader").get("status") == "False")
        assert "1 pods without the sidecars: default/missed" in world.set_condition("Injected", "log-reader")["message"]
        world.delete_pod("missed")
        await world.sleep(2)
        await world.run_pod("missed", "shop")
        await world.settled(2, "log-reader")
        assert world.set_condition("Injected", "log-reader")["status"] == "True"

    simulate_admission(scenario, rest=60.0)


def test_with_fail_pods_wait_and_nothing_else_does() -> None:
    async def scenario(world: AdmissionWorld) -> None:
        world.fail_without_answer()
        process = await world.started()
        await world.apply(MANIFESTS["log-reader"])
        await world.sleep(2.0)
        await process.stop()
        code, answer = await world.post_pod("shop-0", "shop")
        assert code == 500
        assert "log-reader.mpod.kb.io" in answer["message"]
        code, _ = await world.post_pod("free", "another")
        assert code == 201
        code, _ = await world.post_pod("system", "shop", namespace="kube-system")
        assert code == 201
        code, _ = await world.post_pod("out", "shop", labels={"apps.kruise.io/sidecarset-injection": "disabled"})
        assert code == 201
        await world.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "any"}, "data": {}})
        await world.started()
        pod = await world.run_pod("shop-0", "shop")
        assert containers(pod) == ["log-reader", "main"]
        await world.settled(1, "log-reader")

    simulate_admission(scenario, rest=60.0)


@pytest.mark.parametrize("component", ["webhook-fail", "cert-manager"])
def test_a_choice_is_the_one_that_the_guide_names(component: str) -> None:
    kustomization = (ROOT / "config" / "default" / "kustomization.yaml").read_text()
    assert f"#- ../components/{component}" in kustomization
    assert f"`../components/{component}`" in TEXT


def test_c4_two_sets_with_one_container() -> None:
    async def scenario(world: AdmissionWorld) -> None:
        def other(name: str, **selector: Any) -> Body:
            sidecar = {"name": "log-reader", "image": "registry.example.com/tools/log-reader:9"}
            spec = {"selector": selector, "containers": [sidecar]}
            return {
                "apiVersion": "apps.kruise.io/v1beta1",
                "kind": "SidecarSet",
                "metadata": {"name": name},
                "spec": spec,
            }

        await world.started()
        await world.apply(MANIFESTS["log-reader"])
        code, answer = await world.post(other("second", matchLabels={"app": "shop"}))
        assert code == 422
        assert "container log-reader already exist in log-reader" in answer["message"]
        # Selectors on different keys are taken for disjoint as soon as one says Exists.
        await world.apply(other("second", matchExpressions=[{"key": "team", "operator": "Exists"}]))
        pod = await world.run_pod("shop-0", "shop", labels={"team": "a"})
        assert named(pod, "log-reader")["image"].endswith(":1")
        await world.settled(1, "log-reader")
        found, code, _ = await status(world, "second")
        assert (found, code) == ({"shop-0": "ContainerNameConflict"}, 2)
        await world.until(lambda: world.events("ContainerConflict"))
        own = [{"name": "log-reader", "image": "sim.kruise.io/ready-1s:own"}]
        pod = await world.run_pod("shop-1", "shop", containers=own)
        assert named(pod, "log-reader")["image"].endswith("log-reader:1"), "its own one gives way"
        await world.until(lambda: world.events("ContainerReplaced"))

    simulate_admission(scenario, rest=None)


def test_c9_a_restricted_namespace_keeps_its_pods() -> None:
    async def scenario(world: AdmissionWorld) -> None:
        await world.started()
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        await world.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "strict", "labels": labels}})
        await world.apply(MANIFESTS["log-reader"])
        pod = await world.run_pod("shop-0", "shop", namespace="strict")
        assert containers(pod) == ["main"]
        bare = {"metadata": {"labels": {"app": "shop"}}, "spec": {"containers": [{"name": "m", "image": "i"}]}}
        assert await check(world, bare, "strict") == {"log-reader": "PodSecurity"}

    simulate_admission(scenario, rest=None)


def test_the_strict_policy_refuses_what_compat_warns_of() -> None:
    async def scenario(world: AdmissionWorld) -> None:
        await world.started()
        code, answer = await world.post(MANIFESTS["sharing"])
        assert code == 422
        assert "shareVolumePolicy" in answer["message"]
        assert "transferEnv" in answer["message"]

    simulate_admission(scenario, rest=None, options=Options(sidecar_policy="strict"))


def test_sorted_by_name_with_the_gate() -> None:
    async def scenario(world: AdmissionWorld) -> None:
        await world.started()
        body = MANIFESTS["ordered"]
        two = [{"name": name, "image": "i", "podInjectPolicy": "BeforeAppContainer"} for name in ("z", "b")]
        await world.apply({**body, "spec": {**body["spec"], "containers": two, "initContainers": []}})
        assert containers(await world.run_pod("o", "ordered")) == ["b", "z", "main"]

    gates = resolve((("EnableSortSidecarContainerByName", True),), {})[0]
    simulate_admission(scenario, rest=None, options=Options(gates=gates))


def test_webhook_host_is_where_the_configurations_point() -> None:
    assert reach(Options(webhook_host="192.0.2.10")).url == "https://192.0.2.10:9876"
    assert "`https://WEBHOOK_HOST:9876`" in TEXT
    assert "WEBHOOK_HOST" in (ROOT / "Makefile").read_text()


def test_sets_of_openkruise_are_taken_over_without_a_write_to_a_pod() -> None:
    async def scenario(world: AdmissionWorld) -> None:
        # What its webhook and its controller leave behind: the hashes, the revision, the annotations of pods.
        body = default_sidecarset({**MANIFESTS["cold"], "apiVersion": "apps.kruise.io/v1beta1"})
        webhooks = [world.server.get(table, name) for table, name in CONFIGURATIONS]
        for table, name in CONFIGURATIONS:
            world.server.delete(table, name)
        stored = world.server.create(SETS, body, actor="openkruise")
        one = decode_as(SidecarSet, json.dumps(stored).encode())
        revision = new_revision(one, namespace=OWN, number=1, collision_count=0)
        made = world.server.create(REVISIONS, json.loads(msgspec.json.encode(revision)), actor="openkruise")
        told = {"observedGeneration": 1, "matchedPods": 3, "updatedPods": 3, "readyPods": 3, "updatedReadyPods": 3}
        told["latestRevision"] = made["metadata"]["name"]
        world.server.patch(SETS, "cold", {"status": told}, subresource="status", actor="openkruise")
        for number in range(3):
            metadata = {"name": f"cold-{number}", "namespace": NAMESPACE, "labels": {"app": "cold"}}
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod_spec()}
            world.server.create("pods", world.injected(pod), actor="openkruise")
        await world.sleep(10)
        before = world.faces("cold")
        for one_of in webhooks:
            assert one_of is not None
            fresh = {**one_of, "metadata": {"name": one_of["metadata"]["name"]}}
            world.server.create(f"{one_of['kind'].lower()}s.admissionregistration.k8s.io", fresh)
        await world.started()
        mark = world.mark()
        await world.settled(3, "cold")
        await world.sleep(30)
        assert world.faces("cold") == before
        assert [one["metadata"]["name"] for one in world.revisions("cold")] == [made["metadata"]["name"]]
        assert set(world.counts(since=mark)) <= {SET_STATUS}
        assert (await status(world, "cold"))[:2] == ({}, 0)
        await upgrade(world, MANIFESTS["cold"])
        await world.settled(3, "cold")
        assert world.faces("cold") == before

    simulate_admission(scenario, rest=60.0)


# ---- the samples -----------------------------------------------------------------------------------------------------


async def _sample_helper(world: AdmissionWorld, body: Body) -> None:
    sized = [{"name": "m", "image": "i", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}]
    pod = await world.run_pod("helper-0", "x", labels={"helper": "true"}, containers=sized)
    (helper,) = pod["spec"]["initContainers"]
    assert (helper["restartPolicy"], helper["resources"]["limits"]) == ("Always", {"cpu": "250m", "memory": "256Mi"})


async def _sample_proxy(world: AdmissionWorld, body: Body) -> None:
    for number in range(10):
        await world.run_pod(f"proxy-{number}", "x", labels={"proxy": "true"})
    await world.settled(10, "proxy")
    await upgrade(world, body, "busybox:1.38")
    await world.sleep(30)
    found, code, _ = await status(world, "proxy")
    assert (sorted(set(found.values())), len(found), code) == (["PartitionHeld"], 9, 0)


async def _sample_log_reader(world: AdmissionWorld, body: Body) -> None:
    await world.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}})
    await world.run_pods("shop", 2)
    assert containers(await world.run_pod("elsewhere", "shop", namespace="other")) == ["main"]
    assert containers(world.pod("shop-0")) == ["main", "log-reader"]
    await world.settled(2, "log-reader")
    await upgrade(world, body, "busybox:1.38")
    await world.settled(2, "log-reader")


SAMPLE_SCENARIOS: Final[dict[str, Scenario]] = {
    "apps_v1beta1_sidecarset": _sample_log_reader,
    "apps_v1beta1_sidecarset_hot_upgrade": _sample_proxy,
    "apps_v1beta1_sidecarset_native": _sample_helper,
}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_does_what_its_comment_says(name: str) -> None:
    async def scenario(world: AdmissionWorld) -> None:
        await world.started()
        await world.apply(SAMPLES[name])
        await SAMPLE_SCENARIOS[name](world, SAMPLES[name])

    simulate_admission(scenario, rest=60.0)


# ---- the text --------------------------------------------------------------------------------------------------------


def test_every_field_of_the_spec_has_an_example() -> None:
    shown = {path for one in MANIFESTS.values() for path in _paths(one["spec"])} | _paths(PARTIAL)
    sidecar = {f"containers.{path}" for path in _fields(Sidecar)}
    missing = ({*_fields(SidecarSetSpec), *sidecar}) - shown
    # A name of a revision is nothing that a manifest can know; the test of `versioned` uses one.
    assert missing == {"injectionStrategy.revision.revisionName", "containers.restartPolicy"}
    assert "revisionName" in TEXT
    assert "initContainers.restartPolicy" in shown


def _paths(value: Any, at: str = "") -> set[str]:
    if isinstance(value, list):
        return {at} | {p for item in value for p in _paths(item, at)}
    if not isinstance(value, dict):
        return {at}
    return {at} | {p for key, item in value.items() for p in _paths(item, f"{at}.{key}".lstrip("."))}


def _fields(struct: type[msgspec.Struct], at: str = "") -> list[str]:
    found: list[str] = []
    for field in msgspec.structs.fields(struct):
        path = f"{at}.{field.encode_name}".lstrip(".")
        # How labels are selected is Kubernetes' own; one form each is enough. So is the version of a field reference.
        alone = ("selector", "namespaceSelector", "matchSelector", "fieldRef", "annotations")
        inner = [] if field.encode_name in alone else _structs(field.type)
        found += [p for one in inner for p in _fields(one, path)] or [path]
    return found


def _structs(kind: Any) -> list[type[msgspec.Struct]]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return [kind]
    return [found for part in getattr(kind, "__args__", ()) for found in _structs(part)]


def _table(heading: str) -> list[str]:
    section = TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`[^|]+`) \|", section, re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def _names(*files: Path, of: str) -> set[str]:
    """The attributes of the class *of* that the files name."""
    return {
        node.attr
        for path in files
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == of
    }


def test_every_reason_is_explained() -> None:
    files = [*(ROOT / "kruise/controllers/sidecarset").glob("*.py"), ROOT / "kruise/cli/seen_sidecarset.py"]
    used = {str(Reason[name]) for name in _names(*files, of="Reason")}
    used |= {"AdmissionDenied", "QuotaExceeded"}  # by reason_of_refusal
    told = _table("Reasons")
    assert len(told) == len(set(told))
    assert set(told) == used


def test_every_reason_of_inject_check_is_explained() -> None:
    told = _table("What a pod gets: inject-check")
    own = {"AlreadyInjected", "OutdatedRevision", "NotInjected", "CreatedBeforeSidecarSet", "PodRefused"}
    assert set(told) == {str(one) for one in NoteReason if one is not NoteReason.REPLACED} | own


def test_every_link_inside_the_guide_has_its_heading() -> None:
    headings = {
        re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^## (.+)$", TEXT, re.MULTILINE)
    }
    links = re.findall(r"\(#([a-z-]+)\)", TEXT)
    assert links
    assert set(links) <= headings


def test_every_flag_and_variable_exists() -> None:
    known = (ROOT / "docs" / "flags.md").read_text()
    flags = set(re.findall(r"`?(--[a-z][a-z-]+)", TEXT)) - {
        "--diff", "--timeout", "--for", "--replicas", "--manager-namespace"
    }  # fmt: skip
    assert {flag for flag in flags if f"`{flag}`" not in known} == set()
    variables = set(re.findall(r"\b([A-Z]+(?:_[A-Z]+)+)\b", TEXT)) - {"SIDECARSET_VERSION", "SIDECARSET_VERSION_ALT"}
    assert {name for name in variables - {"IS_INJECTED", "POD_NAME"} if name not in known} == set()
    gates = set(re.findall(r"--feature-gates=(\w+)", TEXT))
    assert gates == {
        "EnableSortSidecarContainerByName",
        "SidecarSetPatchPodMetadataDefaultsAllowed",
        "EnableExternalCerts",
    }
    assert gates <= set(resolve((), {})[0].values)


def test_the_output_of_inject_check_in_the_guide_has_its_form() -> None:
    assert "SIDECARSET   INJECTED   REVISION              REASON                 WHAT" in TEXT
    assert inject_check._HEADER == ("SIDECARSET", "INJECTED", "REVISION", "REASON", "WHAT")
