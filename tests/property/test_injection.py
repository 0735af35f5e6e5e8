"""Injection, for random pods and sets: as the plain way makes it, the same when done again, and the app untouched."""

from __future__ import annotations

import copy
import json
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from kruise.apis.sidecarset import SidecarSet
from kruise.runtime.webhook.patching import apply_patch
from kruise.webhooks.inject import InjectionRefused, Outcome, Request, inject
from kruise.webhooks.inject_snapshot import Snapshot, make_snapshot
from tests.property.injection_model import HASH, LISTED, NO_IMAGE, naive

NOW, LATER = "2024-11-23T10:11:12Z", "2024-11-23T10:11:13Z"
REQUEST = Request(uid="3f0e", namespace="prod")
APP_NAMES = ("web", "job", "side")
PATHS = ("/a", "/b", "/c", "/dev/x")
VARIABLES = ("A", "B", "C.d", "IS_INJECTED")
VOLUMES = ("d", "t", "raw")

variables = st.fixed_dictionaries(
    {"name": st.sampled_from(VARIABLES)}, optional={"value": st.sampled_from(["1", "true", "<&>"])}
)
mounts = st.fixed_dictionaries(
    {"name": st.sampled_from(VOLUMES), "mountPath": st.sampled_from(PATHS)},
    optional={"subPathExpr": st.sampled_from(["$(A)/x", "$(C.d)$$(B)", "plain"]), "readOnly": st.booleans()},
)
devices = st.fixed_dictionaries({"name": st.sampled_from(VOLUMES), "devicePath": st.sampled_from(PATHS)})
amounts = st.fixed_dictionaries(
    {}, optional={"cpu": st.sampled_from(["1", "250m", "1.500"]), "memory": st.sampled_from(["1Gi", "100M"])}
)


def by(field: str, items: st.SearchStrategy[Any], size: int = 3) -> st.SearchStrategy[list[Any]]:
    return st.lists(items, max_size=size, unique_by=lambda item: item[field])


def optional_container() -> dict[str, st.SearchStrategy[Any]]:
    return {
        "env": by("name", variables),
        "volumeMounts": by("mountPath", mounts),
        "volumeDevices": by("devicePath", devices, 2),
        "resources": st.fixed_dictionaries({}, optional={"limits": amounts, "requests": amounts}),
        "unknownField": st.just({"stays": [1, "two"]}),
    }


containers = st.fixed_dictionaries(
    {"name": st.sampled_from(APP_NAMES), "image": st.sampled_from(["web:1", "web:2"])}, optional=optional_container()
)
volumes = st.builds(lambda name, source: {"name": name, **source}, st.sampled_from(VOLUMES), st.just({"emptyDir": {}}))
secrets = st.fixed_dictionaries({"name": st.sampled_from(["r1", "r2"])})
LEGACY = json.dumps({"older": "h0"})
MODERN = json.dumps({"older": {"updateTimestamp": None, "hash": "h", "sidecarSetName": "older", "sidecarList": ["x"]}})
annotations = st.fixed_dictionaries(
    {},
    optional={
        "k": st.sampled_from(["v", '{"a":1}']),
        "main": st.sampled_from(APP_NAMES),
        "slash/and~tilde": st.just("v"),
        HASH: st.just(MODERN),
        NO_IMAGE: st.just(MODERN),
        LISTED: st.sampled_from(["older", "b,a"]),
        "kruise.io/sidecarset-working-hotupgrade-container": st.just('{"older":"older-2"}'),
    },
)
pods = st.fixed_dictionaries(
    {
        "metadata": st.fixed_dictionaries(
            {
                "name": st.just("p"),
                "labels": st.fixed_dictionaries(
                    {"app": st.just("shop")}, optional={"main": st.sampled_from(APP_NAMES)}
                ),
            },
            optional={"annotations": annotations, "generateName": st.just("p-")},
        ),
        "spec": st.fixed_dictionaries(
            {"containers": by("name", containers).filter(bool)},
            optional={
                "initContainers": st.lists(
                    st.fixed_dictionaries({"name": st.just("setup"), "image": st.just("i")}), max_size=1
                ),
                "volumes": by("name", volumes),
                "imagePullSecrets": by("name", secrets, 2),
                "hostNetwork": st.booleans(),
                "tolerations": st.just([{"operator": "Exists"}]),
            },
        ),
    }
)


def sidecar(names: list[str], *, init: bool) -> st.SearchStrategy[dict[str, Any]]:
    upgrade = st.sampled_from(
        [{"upgradeType": "ColdUpgrade"}, {"upgradeType": "HotUpgrade", "hotUpgradeEmptyImage": "empty:1"}]
    )
    share = st.sampled_from([{"type": "disabled"}, {"type": "enabled"}])
    transfer = st.fixed_dictionaries(
        {},
        optional={
            "sourceContainerName": st.sampled_from(APP_NAMES),
            "envName": st.sampled_from(VARIABLES),
            "envNames": st.lists(st.sampled_from(VARIABLES), max_size=2),
            "sourceContainerNameFrom": st.sampled_from(["labels", "annotations"]).map(
                lambda kind: {"fieldRef": {"fieldPath": f"metadata.{kind}['main']"}}
            ),
        },
    )
    policy = st.sampled_from(["sum", "max"]).map(
        lambda mode: {
            "targetContainersMode": mode,
            "targetContainersNameRegex": ".*",
            "resourcesExpr": {"limits": {"cpu": "cpu*50%"}, "requests": {"memory": "max(memory/3,1Mi)"}},
        }
    )
    optional = {**optional_container(), "transferEnv": st.lists(transfer, max_size=2), "shareVolumeDevicePolicy": share}
    if init:
        optional["restartPolicy"] = st.just("Always")
    else:
        optional["resourcesPolicy"] = policy
    return st.fixed_dictionaries(
        {
            "name": st.sampled_from(names),
            "image": st.just("s:1"),
            "podInjectPolicy": st.sampled_from(["BeforeAppContainer", "AfterAppContainer"]),
            "upgradeStrategy": upgrade,
            "shareVolumePolicy": share,
        },
        optional=optional,
    )


def sidecar_set(name: str, clash: str) -> st.SearchStrategy[dict[str, Any]]:
    """A set with container names of its own; *clash* is one that the pod may have as well."""
    patches = st.fixed_dictionaries(
        {
            "annotations": st.dictionaries(
                st.sampled_from(["k", "slash/and~tilde", "x"]),
                st.sampled_from(['{"b":2}', '{"a":{"x":1}}']),
                max_size=2,
            ),
            "patchPolicy": st.sampled_from(["Retain", "Overwrite", "MergePatchJson"]),
        }
    )
    return st.fixed_dictionaries(
        {
            "apiVersion": st.just("apps.kruise.io/v1beta1"),
            "metadata": st.just({"name": name, "annotations": {HASH: f"h-{name}", NO_IMAGE: f"n-{name}"}}),
            "spec": st.fixed_dictionaries(
                {"selector": st.just({"matchLabels": {"app": "shop"}})},
                optional={
                    "containers": by("name", sidecar([f"{name}-c", f"{name}-d", clash], init=False)),
                    "initContainers": by("name", sidecar([f"{name}-i", f"{name}-j"], init=True), 2),
                    "volumes": by("name", volumes),
                    "imagePullSecrets": by("name", secrets, 2),
                    "patchPodMetadata": st.lists(patches, max_size=2),
                },
            ),
        },
        optional={"status": st.just({"latestRevision": f"{name}-r1"})},
    )


worlds = st.tuples(sidecar_set("one", "side"), sidecar_set("two", "job")).flatmap(
    lambda both: st.permutations(both).flatmap(lambda order: st.integers(0, 2).map(lambda n: list(order)[:n]))
)


def snapshot(sets: list[dict[str, Any]]) -> Snapshot:
    typed = [msgspec.json.decode(msgspec.json.encode(item), type=SidecarSet) for item in sets]
    return make_snapshot(typed, {"prod": {}})


def applied(pod: dict[str, Any], outcome: Outcome) -> dict[str, Any]:
    result: dict[str, Any] = apply_patch(pod, msgspec.json.decode(outcome.patch or b"[]"))
    return result


def reason(pod: dict[str, Any], sets: list[dict[str, Any]]) -> str:
    """Why the pod is refused; ``""``: it is not."""
    try:
        inject(pod, REQUEST, snapshot(sets), now=NOW)
    except InjectionRefused as error:
        return str(error)
    return ""


@given(pods, worlds)
@settings(max_examples=300, deadline=None)
def test_the_patch_makes_what_copying_makes(pod: dict[str, Any], sets: list[dict[str, Any]]) -> None:
    problem = reason(pod, sets)
    if problem:
        # All of its own containers give way to sidecars: nobody is left of whom to take resources. Or "v" is no JSON.
        assert problem.startswith(("no containers match", "Invalid JSON Document"))
        return
    before = copy.deepcopy(pod)
    outcome = inject(pod, REQUEST, snapshot(sets), now=NOW)
    assert pod == before
    assert applied(pod, outcome) == naive(pod, sets, NOW)
    assert inject(msgspec.json.encode(pod), REQUEST, snapshot(sets), now=NOW) == outcome


@given(pods, worlds)
@settings(max_examples=200, deadline=None)
def test_c2_injecting_again_changes_nothing(pod: dict[str, Any], sets: list[dict[str, Any]]) -> None:
    if reason(pod, sets):
        return
    once = applied(pod, inject(pod, REQUEST, snapshot(sets), now=NOW))
    again = inject(once, Request(uid="another", namespace="prod"), snapshot(sets), now=LATER)
    assert again.patch == b""


@given(pods, worlds)
@settings(max_examples=200, deadline=None)
def test_c1_the_app_is_untouched(pod: dict[str, Any], sets: list[dict[str, Any]]) -> None:
    if reason(pod, sets):
        return
    outcome = inject(pod, REQUEST, snapshot(sets), now=NOW)
    after = applied(pod, outcome)
    injected = {c["name"] for s in sets for f in ("containers", "initContainers") for c in s["spec"].get(f) or []}
    injected |= {f"{name}-{n}" for name in injected for n in (1, 2)}
    for field in ("containers", "initContainers"):
        own = [json.dumps(c) for c in pod["spec"].get(field) or [] if c["name"] not in injected]
        left = [json.dumps(c) for c in after["spec"].get(field) or [] if c["name"] not in injected]
        assert own == left, "bytes and order"
    for field in ("volumes", "imagePullSecrets"):
        own_items = pod["spec"].get(field) or []
        assert (after["spec"].get(field) or [])[: len(own_items)] == own_items
    untouched = set(pod["spec"]) - {"containers", "initContainers", "volumes", "imagePullSecrets"}
    assert all(after["spec"][field] == pod["spec"][field] for field in untouched)
    assert {k: v for k, v in after["metadata"].items() if k != "annotations"} == {
        k: v for k, v in pod["metadata"].items() if k != "annotations"
    }


@given(pods, worlds)
@settings(max_examples=100, deadline=None)
def test_c2_patches_add_test_and_replace_single_elements(pod: dict[str, Any], sets: list[dict[str, Any]]) -> None:
    if reason(pod, sets):
        return
    for step in msgspec.json.decode(inject(pod, REQUEST, snapshot(sets), now=NOW).patch or b"[]"):
        assert step["op"] in ("add", "test", "replace")
        if step["op"] == "replace":
            assert not isinstance(step["value"], list)
        if step["op"] == "add" and isinstance(step["value"], list):
            assert not pod["spec"].get(step["path"].removeprefix("/spec/")), "only a list that was missing"
