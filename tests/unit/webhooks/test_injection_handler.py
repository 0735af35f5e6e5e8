"""The handler for pods: reviews in, answers out; C8 for any bytes."""

from __future__ import annotations

import base64
import json
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kruise.apis.sidecarset import SidecarSet
from kruise.runtime.webhook.admission import AdmissionRequest, respond
from kruise.runtime.webhook.patching import apply_patch
from kruise.webhooks.inject_handler import PodInjector
from kruise.webhooks.inject_outcome import NoteReason, Outcome
from kruise.webhooks.inject_snapshot import InjectionIndex
from tests.property.pod_templates import build

Json = dict[str, Any]


class FixedClock:
    """It is always the same moment."""

    def now(self) -> float:
        return 1_700_000_000.0

    def monotonic(self) -> float:
        return 0.0

    def boottime(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("injection does not wait")


def sidecar(name: str, **fields: Any) -> Json:
    return {"name": name, "image": "s:1", "podInjectPolicy": "BeforeAppContainer", **fields}


def index(*containers: Json, **spec: Any) -> InjectionIndex:
    everything = {"matchExpressions": [{"key": "never", "operator": "DoesNotExist"}]}
    body = {"metadata": {"name": "mesh"}, "spec": {"selector": everything, "containers": containers, **spec}}
    found = InjectionIndex()
    found.set_namespace("prod", {})
    found.set_sidecarset("mesh", msgspec.json.decode(msgspec.json.encode(body), type=SidecarSet))
    return found


def review(pod: Any, **fields: Any) -> bytes:
    request = {
        "uid": "u-1",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "namespace": "prod",
        "operation": "CREATE",
        "object": pod,
        **fields,
    }
    return json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).encode()


POD = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "web", "image": "w"}]}}


def answered(body: bytes, found: InjectionIndex, seen: list[Outcome] | None = None) -> tuple[int, Json]:
    observe = (lambda request, outcome: seen.append(outcome)) if seen is not None else (lambda request, outcome: None)
    outcome = respond(body, PodInjector(found, FixedClock(), observe=observe))
    return outcome.status, json.loads(outcome.body)["response"] if outcome.status == 200 else {}


def test_a_pod_gets_its_sidecars() -> None:
    status, response = answered(review(POD), index(sidecar("envoy")))
    assert status == 200 and response["allowed"] and response["uid"] == "u-1"
    after = apply_patch(POD, json.loads(base64.b64decode(response["patch"])))
    assert [c["name"] for c in after["spec"]["containers"]] == ["envoy", "web"]
    assert "2023-11-14T22:13:20Z" in after["metadata"]["annotations"]["kruise.io/sidecarset-hash"]


@pytest.mark.parametrize(
    "fields",
    [
        {"operation": "UPDATE"},
        {"operation": "UPDATE", "oldObject": None},
        {"operation": "DELETE"},
        {"subResource": "ephemeralcontainers", "operation": "UPDATE"},
        {"resource": {"group": "", "version": "v1", "resource": "podtemplates"}},
        {"namespace": "kube-system"},
    ],
)
def test_c3_everything_else_is_let_through(fields: Json) -> None:
    status, response = answered(review(POD, **fields), index(sidecar("envoy")))
    assert status == 200 and response["allowed"] and "patch" not in response


def test_a_fault_of_the_user_is_refused_in_words() -> None:
    policy = {
        "targetContainersMode": "sum",
        "targetContainersNameRegex": "^zzz",
        "resourcesExpr": {"limits": {"cpu": "1"}},
    }
    status, response = answered(review(POD), index(sidecar("envoy", resourcesPolicy=policy)))
    assert status == 200 and not response["allowed"]
    assert response["status"]["message"].startswith("SidecarSet mesh, container envoy: ")
    assert 'no containers match the regex pattern "^zzz"' in response["status"]["message"]


def test_c4_what_was_odd_is_a_warning_and_is_observed() -> None:
    seen: list[Outcome] = []
    pod = {"metadata": {}, "spec": {"containers": [{"name": "envoy", "image": "own"}]}}
    _, response = answered(review(pod), index(sidecar("envoy")), seen)
    assert response["warnings"] == ["SidecarSet mesh: the pod's own container envoy gives way to the one of the set"]
    assert [note.reason for note in seen[0].notes] == [NoteReason.REPLACED] and seen[0].injected == ("mesh",)


EVERYTHING = index(
    sidecar("envoy", shareVolumePolicy={"type": "enabled"}, shareVolumeDevicePolicy={"type": "enabled"}),
    sidecar("a", transferEnv=[{"sourceContainerName": "a", "envNames": ["a", "", "nginx"]}]),
    sidecar("hot", upgradeStrategy={"upgradeType": "HotUpgrade", "hotUpgradeEmptyImage": "e:1"}),
    patchPodMetadata=[{"annotations": {"a": '{"x":1}'}, "patchPolicy": "MergePatchJson"}],
    imagePullSecrets=[{"name": "a"}],
)


def _clean(body: bytes, found: InjectionIndex, pod: Any) -> None:
    """The answer is a pod with a patch that applies, or a refusal in words; never an error of ours."""
    outcome = respond(body, PodInjector(found, FixedClock()))
    assert outcome.status == 200, outcome.error
    response = json.loads(outcome.body)["response"]
    if response["allowed"]:
        apply_patch(pod, json.loads(base64.b64decode(response.get("patch", "W10="))))
    else:
        assert response["status"]["message"]


def without_null_items(value: Any) -> Any:
    """Return *value* without nulls in lists, which the API server never sends."""
    if isinstance(value, dict):
        return {key: without_null_items(item) for key, item in value.items()}
    return [without_null_items(item) for item in value if item is not None] if isinstance(value, list) else value


@given(st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_c8_x31_any_pod_is_answered(random: Random) -> None:
    pod = build(random)
    _clean(review(pod), EVERYTHING, pod)
    whole = without_null_items(pod)
    _clean(review(whole), EVERYTHING, whole)


@given(st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_c8_x29_x31_any_set_is_used_or_named_as_unusable(random: Random) -> None:
    found = InjectionIndex()
    found.set_namespace("prod", {})
    for name in ("one", "two"):
        containers = build(random, "[core.v1.Container]")
        for container in containers:
            if container is not None and random.random() < 0.5:
                container["shareVolumePolicy"] = {"type": "enabled"}
        spec = {
            "selector": {"matchExpressions": [{"key": "never", "operator": "DoesNotExist"}]},
            "containers": containers,
            "initContainers": build(random, "[core.v1.Container]"),
            "volumes": build(random, "[core.v1.Volume]"),
        }
        item = msgspec.json.decode(msgspec.json.encode({"metadata": {"name": name}, "spec": spec}), type=SidecarSet)
        found.set_sidecarset(name, item)
    known = {candidate.current.name for candidate in found.snapshot.sets} | set(found.snapshot.unusable)
    assert known == {"one", "two"}
    _clean(review(POD), found, POD)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "env", "value", "a"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from(["metadata", "spec", "status"]), json_values)
    | st.fixed_dictionaries(
        {
            "metadata": st.dictionaries(st.sampled_from(["labels", "annotations", "name"]), json_values),
            "spec": st.dictionaries(
                st.sampled_from(["containers", "initContainers", "volumes", "imagePullSecrets", "os"]), json_values
            ),
        }
    )
)
@settings(max_examples=300, deadline=None)
def test_c8_any_json_is_answered(pod: Json) -> None:
    _clean(review(pod), EVERYTHING, pod)


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_c8_any_bytes_are_answered(body: bytes) -> None:
    outcome = respond(body, PodInjector(EVERYTHING, FixedClock()))
    assert outcome.status in (200, 400) and outcome.error is None


def test_c8_a_fault_of_ours_is_no_refusal() -> None:
    def broken(request: AdmissionRequest, outcome: Outcome) -> None:
        raise RuntimeError("a bug")

    outcome = respond(review(POD), PodInjector(index(sidecar("envoy")), FixedClock(), observe=broken))
    assert outcome.status == 500 and outcome.allowed is None
