"""What the definition of SidecarSet takes and what it refuses: asked of the embedded API server and of a real one."""

from __future__ import annotations

from typing import Any

from tests.unit.hack.changing import ABSENT, Change, changed

BASE: dict[str, Any] = {
    "kind": "SidecarSet",
    "metadata": {"name": "a-set"},
    "spec": {
        "selector": {"matchLabels": {"app": "web"}},
        "containers": [{"name": "log", "image": "log:1", "fancy": {"x": [1]}}],
    },
}
STRATEGY = "spec.updateStrategy."
PRIORITY = STRATEGY + "priorityStrategy."


def a_set(*changes: Change) -> dict[str, Any]:
    """Return a good set of one container with other values at some paths."""
    return changed(BASE, changes)


def sidecar(**changed: Any) -> Change:
    return ("spec.containers", [{"name": "log", "image": "log:1", **changed}])


def init(**changed: Any) -> Change:
    return ("spec.initContainers", [{"name": "net", "image": "net:1", **changed}])


def needs(changes: list[Change]) -> list[str]:
    """The versions that have the fields of *changes*."""
    paths = {path for path, _ in changes}
    if "spec.customVersion" in paths:
        return ["v1beta1"]
    return ["v1alpha1"] if "spec.namespace" in paths else ["v1beta1", "v1alpha1"]


NATIVE = init(restartPolicy="Always")
POLICY = {"targetContainersMode": "sum", "resourcesExpr": {"limits": {"cpu": "max(cpu*50%, 50m)"}}}
HOT = {"upgradeType": "HotUpgrade", "hotUpgradeEmptyImage": "empty:1"}

GOOD: dict[str, list[Change]] = {
    "the least": [],
    "one namespace": [("spec.namespace", "prod")],
    "namespaces": [("spec.namespaceSelector", {"matchExpressions": [{"key": "a", "operator": "Exists"}]})],
    "a version of one's own": [("spec.customVersion", "v1.2")],
    "no containers but an init container": [("spec.containers", ABSENT), init()],
    "an empty list beside an init container": [("spec.containers", []), init()],
    "a native sidecar": [NATIVE, (STRATEGY + "type", "NotUpdate")],
    "a native sidecar and another type": [NATIVE, (STRATEGY + "type", "Whenever")],
    "empty objects, as Go writes them": [
        ("spec.updateStrategy", {}),
        ("spec.injectionStrategy", {}),
        sidecar(resources={}, upgradeStrategy={}, shareVolumePolicy={}),
    ],
    "nothing may be unavailable": [(STRATEGY + "maxUnavailable", 0)],
    "percentages": [(STRATEGY + "maxUnavailable", "0%"), (STRATEGY + "partition", "150%")],
    "a selector beside the default partition": [(STRATEGY + "selector", {"matchLabels": {"a": "b"}})],
    "a selector beside a partition that is not read": [
        (STRATEGY + "type", "NotUpdate"),
        (STRATEGY + "selector", {"matchLabels": {"a": "b"}}),
        (STRATEGY + "partition", "30%"),
    ],
    "weights": [(PRIORITY + "weightPriority", [{"weight": 0, "matchSelector": {"matchLabels": {"a": "b"}}}])],
    "orders": [(PRIORITY + "orderPriority", [{"orderedKey": "k"}])],
    "spread": [(STRATEGY + "scatterStrategy", [{"key": "a", "value": "*"}, {"key": "a", "value": ""}])],
    "hot": [sidecar(upgradeStrategy=HOT)],
    "an unknown upgrade": [sidecar(upgradeStrategy={"upgradeType": "Lukewarm"})],
    "everything shared": [sidecar(shareVolumePolicy={"type": "enabled"}, shareVolumeDevicePolicy={"type": "enabled"})],
    "transfers": [
        sidecar(
            transferEnv=[
                {"sourceContainerName": "web", "envName": "A", "envNames": ["B"]},
                {"sourceContainerNameFrom": {"fieldRef": {"fieldPath": "metadata.labels['a']"}}},
                {"sourceContainerNameFrom": {}},
            ]
        )
    ],
    "resources": [sidecar(resourcesPolicy=POLICY)],
    "resources of a native sidecar": [
        init(restartPolicy="Always", resourcesPolicy=POLICY),
        (STRATEGY + "type", "NotUpdate"),
    ],
    "an older revision": [("spec.injectionStrategy.revision", {"customVersion": "v1"})],
    "any word for metadata": [("spec.patchPodMetadata", [{"annotations": {"a": "b"}, "patchPolicy": "Explode"}])],
    "history of any length": [("spec.revisionHistoryLimit", -1)],
    "64 containers": [("spec.containers", [{"name": f"c{i}", "image": "i"} for i in range(64)])],
    "256 volumes": [("spec.volumes", [{"name": f"v{i}", "emptyDir": {}} for i in range(256)])],
    "the longest name": [("metadata.name", "a" * 63)],
    "nulls, as Go writes them": [
        ("spec.volumes", None),
        ("spec.initContainers", None),
        ("spec.namespaceSelector", None),
        (STRATEGY + "selector", None),
    ],
}

_SELECTOR = "empty selector is not valid for sidecarset."
_NAME = "letters, digits and '-'"

BAD: dict[str, tuple[list[Change], str, str]] = {
    "no spec": ([("spec", ABSENT)], "spec", "Required"),
    "no selector": ([("spec.selector", ABSENT)], "spec.selector", "Required"),
    "selector empty": ([("spec.selector", {})], "spec.selector", _SELECTOR),
    "namespaceSelector empty": ([("spec.namespaceSelector", {})], "spec.namespaceSelector", _SELECTOR),
    "operator unknown": (
        [("spec.selector", {"matchExpressions": [{"key": "a", "operator": "Near"}]})],
        "spec.selector.matchExpressions[0].operator",
        "Unsupported value",
    ),
    "nothing to inject": ([("spec.containers", ABSENT)], "spec", "no initContainer or container defined"),
    "two empty lists": (
        [("spec.containers", []), ("spec.initContainers", [])],
        "spec",
        "no initContainer or container defined",
    ),
    "a native sidecar that rolls": ([NATIVE], "spec.updateStrategy", "in-place upgrade is not currently supported"),
    "a container without a name": (
        [("spec.containers", [{"image": "i"}])],
        "spec.containers[0].name",
        "Required",
    ),
    "a container without an image": ([sidecar(image="")], "spec.containers[0].image", "a container needs an image"),
    "two containers of a name": (
        [("spec.containers", [{"name": "a", "image": "i"}, {"name": "a", "image": "j"}])],
        "spec.containers[1]",
        "Duplicate value",
    ),
    "two init containers of a name": (
        [("spec.initContainers", [{"name": "a", "image": "i"}, {"name": "a", "image": "j"}])],
        "spec.initContainers[1]",
        "Duplicate value",
    ),
    "one name in both lists": ([init(name="log")], "spec.initContainers", "a name may stand in one of"),
    "position unknown": (
        [sidecar(podInjectPolicy="Middle")],
        "spec.containers[0].podInjectPolicy",
        "unsupported pod inject policy",
    ),
    "sharing unknown": (
        [sidecar(shareVolumePolicy={"type": "maybe"})],
        "spec.containers[0].shareVolumePolicy.type",
        "unsupported share volume policy",
    ),
    "hot without its image": (
        [sidecar(upgradeStrategy={"upgradeType": "HotUpgrade"})],
        "spec.containers[0].upgradeStrategy.hotUpgradeEmptyImage",
        "HotUpgrade needs an image",
    ),
    "restartPolicy of a container": (
        [sidecar(restartPolicy="Always")],
        "spec.containers[0].restartPolicy",
        "may not be set for non-init containers",
    ),
    "resources of an ordinary init container": (
        [init(resourcesPolicy=POLICY)],
        "spec.initContainers[0].resourcesPolicy",
        "only supported for containers with RestartPolicy Always",
    ),
    "resources without a mode": (
        [sidecar(resourcesPolicy={"resourcesExpr": {"limits": {}}})],
        "spec.containers[0].resourcesPolicy.targetContainersMode",
        "Required",
    ),
    "resources of an unknown mode": (
        [sidecar(resourcesPolicy={**POLICY, "targetContainersMode": "avg"})],
        "spec.containers[0].resourcesPolicy.targetContainersMode",
        "Unsupported value",
    ),
    "resources of nothing": (
        [sidecar(resourcesPolicy={**POLICY, "resourcesExpr": {}})],
        "spec.containers[0].resourcesPolicy.resourcesExpr",
        "at least one of limits or requests",
    ),
    "partition and selector": (
        [(STRATEGY + "partition", 2), (STRATEGY + "selector", {"matchLabels": {"a": "b"}})],
        "spec.updateStrategy",
        "Partition and Selector cannot be used together",
    ),
    "partition of none and selector": (
        [(STRATEGY + "partition", "0%"), (STRATEGY + "selector", {"matchLabels": {"a": "b"}})],
        "spec.updateStrategy",
        "Partition and Selector cannot be used together",
    ),
    "selector of the update empty": ([(STRATEGY + "selector", {})], STRATEGY + "selector", _SELECTOR),
    "weights and orders": (
        [
            (PRIORITY + "weightPriority", [{"weight": 1, "matchSelector": {"matchLabels": {"a": "b"}}}]),
            (PRIORITY + "orderPriority", [{"orderedKey": "k"}]),
        ],
        PRIORITY.rstrip("."),
        "only one of weightPriority and orderPriority can be used",
    ),
    "spread by nothing": (
        [(STRATEGY + "scatterStrategy", [{"key": "", "value": "x"}])],
        STRATEGY + "scatterStrategy[0].key",
        "key should not be empty",
    ),
    "spread twice": (
        [(STRATEGY + "scatterStrategy", [{"key": "a", "value": "x"}] * 2)],
        STRATEGY + "scatterStrategy",
        "may stand here once",
    ),
    "revision without a name": (
        [("spec.injectionStrategy.revision", {"policy": "Partial"})],
        "spec.injectionStrategy.revision",
        "revisionName and customVersion cannot be empty simultaneously",
    ),
    "revision policy unknown": (
        [("spec.injectionStrategy.revision", {"revisionName": "a", "policy": "Often"})],
        "spec.injectionStrategy.revision.policy",
        "Unsupported value",
    ),
    "metadata of nothing": (
        [("spec.patchPodMetadata", [{"annotations": {}}])],
        "spec.patchPodMetadata[0].annotations",
        "no annotations defined for SidecarSet",
    ),
    "metadata twice": (
        [("spec.patchPodMetadata", [{"annotations": {"a": "b", "c": "d"}}, {"annotations": {"c": "e"}}])],
        "spec.patchPodMetadata",
        "a key may stand in one entry only",
    ),
    "65 containers": (
        [("spec.containers", [{"name": f"c{i}", "image": "i"} for i in range(65)])],
        "spec.containers",
        "at most 64 items",
    ),
    "257 volumes": ([("spec.volumes", [{"name": "a"}] * 257)], "spec.volumes", "at most 256 items"),
    "65 patches": (
        [("spec.patchPodMetadata", [{"annotations": {f"k{i}": ""}} for i in range(65)])],
        "spec.patchPodMetadata",
        "at most 64 items",
    ),
    "paused is no boolean": ([(STRATEGY + "paused", "yes")], STRATEGY + "paused", "must be of type boolean"),
    "name with a dot": ([("metadata.name", "a.b")], "metadata.name", _NAME),
    "name too long": ([("metadata.name", "a" * 64)], "metadata.name", "no more than 63 characters"),
    "generateName with a dot": ([("metadata.generateName", "a.b")], "metadata.generateName", _NAME),
}
for _path in (STRATEGY + "maxUnavailable", STRATEGY + "partition"):
    _short = _path.rpartition(".")[2]
    BAD |= {
        f"{_short} below zero": ([(_path, -1)], _path, "from 0 to 2147483647"),
        f"{_short} too large": ([(_path, 99999999999)], _path, "from 0 to 2147483647"),
        f"{_short} without percent": ([(_path, "5")], _path, "should match"),
        f"{_short} fraction": ([(_path, "10.5%")], _path, "should match"),
        f"{_short} with a line break": ([(_path, "10%\n")], _path, "should match"),
    }

TWO = [
    {"name": "log", "image": "log:1", "upgradeStrategy": {"upgradeType": "ColdUpgrade"}},
    {"name": "mesh", "image": "mesh:1", "upgradeStrategy": HOT},
]
"""The containers of the set that is changed."""
FIXED: dict[str, tuple[Change, str, str]] = {
    "a container more": (("spec.containers", [*TWO, {"name": "new", "image": "i"}]), "spec.containers", "not added"),
    "another name": (("spec.containers", [TWO[0], {**TWO[1], "name": "mash"}]), "spec.containers", "not added"),
    "cold to hot": (
        ("spec.containers", [{**TWO[0], "upgradeStrategy": HOT}, TWO[1]]),
        "spec.containers[0].upgradeStrategy.upgradeType",
        "upgradeType is immutable",
    ),
    "hot to the default": (
        ("spec.containers", [{"name": "mesh", "image": "mesh:1"}]),
        "spec.containers[0].upgradeStrategy.upgradeType",
        "upgradeType is immutable",
    ),
}
"""Changes of a set with :data:`TWO` that are refused, the field that is blamed, and what is said."""
FREE: dict[str, Change] = {
    "images": ("spec.containers", [{**one, "image": "other"} for one in TWO]),
    "one container less": ("spec.containers", TWO[1:]),
    "another order": ("spec.containers", TWO[::-1]),
    "cold to the default": ("spec.containers", [{"name": "log", "image": "log:1"}, TWO[1]]),
    "another empty image": (
        "spec.containers",
        [TWO[0], {**TWO[1], "upgradeStrategy": {**HOT, "hotUpgradeEmptyImage": "empty:2"}}],
    ),
    "an init container": init(),
    "the selector": ("spec.selector", {"matchLabels": {"app": "db"}}),
    "the strategy": ("spec.updateStrategy", {"type": "NotUpdate"}),
}
"""Changes of the same set that are allowed."""
STATUSES: list[dict[str, Any]] = [{}, {"matchedPods": 1}, {"conditions": []}]
"""Statuses that a server takes, however little they say."""
