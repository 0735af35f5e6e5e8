"""What the definition of StatefulSet takes and what it refuses: asked of the embedded API server and of a real one."""

from __future__ import annotations

from typing import Any

from tests.unit.hack.changing import ABSENT, Change, changed

BASE: dict[str, Any] = {
    "kind": "StatefulSet",
    "metadata": {"name": "a-set"},
    "spec": {
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "a", "image": "b"}]},
        },
    },
}
POD = "spec.template.spec."
ROLLING = "spec.updateStrategy.rollingUpdate."
PRIORITY = ROLLING + "unorderedUpdate.priorityStrategy."
ORDERED = ("spec.podManagementPolicy", "OrderedReady")


def a_set(*changes: Change) -> dict[str, Any]:
    """Return a good set of Parallel pods with other values at some paths."""
    return changed(BASE, changes)


V1BETA1_ONLY = ("reserveOrdinals", "lifecycle", "scaleStrategy", "RetentionPolicy", "ordinals", "volumeClaimUpdate")


def needs(changes: list[Change]) -> list[str]:
    """The versions that have the fields of *changes*."""
    only = any(word in path for path, _ in changes for word in V1BETA1_ONLY)
    return ["v1beta1"] if only else ["v1beta1", "v1alpha1"]


SELECTED = {"spec.template.metadata.labels": {"app": "web", "tier": "a"}}
GOOD: dict[str, list[Change]] = {
    "the least": [],
    "no policy": [("spec.podManagementPolicy", ABSENT)],
    "no replicas": [("spec.replicas", 0)],
    "many replicas": [("spec.replicas", 100_000)],
    "on delete": [("spec.updateStrategy", {"type": "OnDelete"})],
    "an empty strategy, as Go writes it": [("spec.updateStrategy", {}), ("spec.volumeClaimUpdateStrategy", {})],
    "rolling without its block": [("spec.updateStrategy", {"type": "RollingUpdate"})],
    "an empty block": [("spec.updateStrategy.rollingUpdate", {})],
    "in place without the readiness gate": [(ROLLING + "podUpdatePolicy", "InPlaceIfPossible")],
    "percentages": [(ROLLING + "maxUnavailable", "120%"), ("spec.scaleStrategy.maxUnavailable", "1%")],
    "a large number": [(ROLLING + "maxUnavailable", 2147483647)],
    "one by one": [ORDERED, (ROLLING + "maxUnavailable", 1), ("spec.scaleStrategy.maxUnavailable", 1)],
    "five minutes": [(ROLLING + "minReadySeconds", 300)],
    "weights": [(PRIORITY + "weightPriority", [{"weight": 0, "matchSelector": {"matchLabels": {"a": "b"}}}])],
    "weights beside an empty list": [
        (PRIORITY + "orderPriority", []),
        (PRIORITY + "weightPriority", [{"weight": 100, "matchSelector": {"matchLabels": {"a": "b"}}}]),
    ],
    "orders": [(PRIORITY + "orderPriority", [{"orderedKey": "k"}])],
    "unordered without priorities": [(ROLLING + "unorderedUpdate", {})],
    "reserved ordinals": [("spec.reserveOrdinals", [0, 2147483647, "3-5", "0003-005", "4-4"])],
    "many reserved ordinals": [("spec.reserveOrdinals", ["1-2"] * 10_000)],
    "start": [("spec.ordinals.start", 5)],
    "retention": [("spec.persistentVolumeClaimRetentionPolicy", {"whenScaled": "Delete"})],
    "hooks": [
        ("spec.lifecycle.preDelete", {"labelsHandler": {"a.b/c": ""}, "markPodNotReady": True}),
        ("spec.lifecycle.inPlaceUpdate", {"finalizersHandler": ["a.b/c"]}),
        ("spec.lifecycle.preNormal", {}),
    ],
    "any word for claims": [("spec.volumeClaimUpdateStrategy.type", "Whenever")],
    "claims": [("spec.volumeClaimTemplates", [{"metadata": {"name": "data"}, "spec": {"fancy": 1}}] * 32)],
    "history of any length": [("spec.revisionHistoryLimit", -1)],
    "restartPolicy": [(POD + "restartPolicy", "Always")],
    "an empty restartPolicy": [(POD + "restartPolicy", "")],
    "no containers": [(POD + "containers", [])],
    "many volumes": [(POD + "volumes", [{"name": f"v{i}"} for i in range(256)])],
    "unknown fields of the template": [(POD + "fancy", {"x": [1]}), ("spec.template.metadata.fancy", 1)],
    "labels beside those selected": list(SELECTED.items()),
    "expressions": [
        *SELECTED.items(),
        (
            "spec.selector.matchExpressions",
            [
                {"key": "tier", "operator": "In", "values": ["a", "b"]},
                {"key": "tier", "operator": "NotIn", "values": ["c"]},
                {"key": "app", "operator": "Exists"},
                {"key": "other", "operator": "DoesNotExist", "values": []},
            ],
        ),
    ],
    "expressions alone": [("spec.selector", {"matchExpressions": [{"key": "app", "operator": "Exists"}]})],
    "the longest name": [("metadata.name", "a" * 63)],
    "a name of digits": [("metadata.name", "1-2")],
    "nulls, as Go writes them": [
        ("spec.replicas", None),
        ("spec.lifecycle", None),
        ("spec.template.metadata", {"creationTimestamp": None, "labels": {"app": "web"}}),
        (POD + "volumes", None),
        ("spec.volumeClaimTemplates", None),
        ("spec.reserveOrdinals", None),
    ],
}

_PARALLEL = "can only work with Parallel PodManagementPolicyType"
_MISMATCH = "`selector` does not match template `labels`"
_NAME = "lower-case letters, digits and '-'"

BAD: dict[str, tuple[list[Change], str, str]] = {
    "no spec": ([("spec", ABSENT)], "spec", "Required"),
    "no template": ([("spec.template", ABSENT)], "spec.template", "Required"),
    "no selector": ([("spec.selector", ABSENT)], "spec.selector", "Required"),
    "selector null": ([("spec.selector", None)], "spec.selector", "Required"),
    "selector empty": ([("spec.selector", {})], "spec.selector", "empty selector is invalid for statefulset"),
    "selector of empty parts": (
        [("spec.selector", {"matchLabels": {}, "matchExpressions": []})],
        "spec.selector",
        "empty selector is invalid for statefulset",
    ),
    "another label": ([("spec.selector.matchLabels", {"app": "db"})], "spec.template.metadata.labels", _MISMATCH),
    "one label more": (
        [("spec.selector.matchLabels", {"app": "web", "tier": "a"})],
        "spec.template.metadata.labels",
        _MISMATCH,
    ),
    "no labels": ([("spec.template.metadata", ABSENT)], "spec.template.metadata.labels", _MISMATCH),
    **{
        f"expression {operator}": (
            [("spec.selector.matchExpressions", [{"key": key, "operator": operator, "values": values}])],
            "spec.template.metadata.labels",
            _MISMATCH,
        )
        for key, operator, values in (
            ("app", "In", ["db"]),
            ("tier", "In", ["web"]),
            ("app", "NotIn", ["web"]),
            ("tier", "Exists", []),
            ("app", "DoesNotExist", []),
        )
    },
    "expression without values": (
        [("spec.selector.matchExpressions", [{"key": "app", "operator": "In"}])],
        "spec.selector.matchExpressions[0].values",
        "must be specified when `operator` is 'In' or 'NotIn'",
    ),
    "expression with values": (
        [("spec.selector.matchExpressions", [{"key": "app", "operator": "Exists", "values": ["x"]}])],
        "spec.selector.matchExpressions[0].values",
        "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
    ),
    "expression with another operator": (
        [("spec.selector.matchExpressions", [{"key": "app", "operator": "Like"}])],
        "spec.selector.matchExpressions[0].operator",
        "Unsupported value",
    ),
    "replicas below zero": ([("spec.replicas", -1)], "spec.replicas", "greater than or equal to 0"),
    "too many replicas": ([("spec.replicas", 100_001)], "spec.replicas", "less than or equal to 100000"),
    "policy unknown": ([("spec.podManagementPolicy", "parallel")], "spec.podManagementPolicy", "Unsupported value"),
    "strategy unknown": ([("spec.updateStrategy.type", "Now")], "spec.updateStrategy.type", "Unsupported value"),
    "on delete with a block": (
        [("spec.updateStrategy", {"type": "OnDelete", "rollingUpdate": {"partition": 1}})],
        "spec.updateStrategy.rollingUpdate",
        "only allowed for updateStrategy 'RollingUpdate'",
    ),
    "partition below zero": ([(ROLLING + "partition", -1)], ROLLING + "partition", "greater than or equal to 0"),
    "minReadySeconds below zero": (
        [(ROLLING + "minReadySeconds", -1)],
        ROLLING + "minReadySeconds",
        "greater than or equal to 0",
    ),
    "minReadySeconds too large": (
        [(ROLLING + "minReadySeconds", 301)],
        ROLLING + "minReadySeconds",
        "less than or equal to 300",
    ),
    "update policy unknown": (
        [(ROLLING + "podUpdatePolicy", "InPlace")],
        ROLLING + "podUpdatePolicy",
        "Unsupported value",
    ),
    "unordered, one by one": (
        [ORDERED, (ROLLING + "unorderedUpdate", {})],
        ROLLING + "unorderedUpdate",
        "unorderedUpdate can only work with Parallel PodManagementPolicyType",
    ),
    "no policy is one by one": (
        [("spec.podManagementPolicy", ABSENT), (ROLLING + "maxUnavailable", 2)],
        ROLLING + "maxUnavailable",
        _PARALLEL,
    ),
    "weights and orders": (
        [
            (PRIORITY + "weightPriority", [{"weight": 1, "matchSelector": {"matchLabels": {"a": "b"}}}]),
            (PRIORITY + "orderPriority", [{"orderedKey": "k"}]),
        ],
        PRIORITY.rstrip("."),
        "only one of weightPriority and orderPriority can be used",
    ),
    "weight too large": (
        [(PRIORITY + "weightPriority", [{"weight": 101, "matchSelector": {"matchLabels": {"a": "b"}}}])],
        PRIORITY + "weightPriority[0].weight",
        "less than or equal to 100",
    ),
    "weight of an empty selector": (
        [(PRIORITY + "weightPriority", [{"weight": 1, "matchSelector": {}}])],
        PRIORITY + "weightPriority[0].matchSelector",
        "selector can not be empty",
    ),
    "order without a key": (
        [(PRIORITY + "orderPriority", [{}])],
        PRIORITY + "orderPriority[0].orderedKey",
        "order key can not be empty",
    ),
    "a reserved ordinal below zero": (
        [("spec.reserveOrdinals", [0, -1])],
        "spec.reserveOrdinals[1]",
        "from 0 to 2147483647",
    ),
    "a reserved ordinal too large": (
        [("spec.reserveOrdinals", [1 << 31])],
        "spec.reserveOrdinals[0]",
        "from 0 to 2147483647",
    ),
    **{
        f"reserved {text!r}": ([("spec.reserveOrdinals", [text])], "spec.reserveOrdinals[0]", "should match")
        for text in ("12", "1-2-3", "a-b", "+1-3", " 1-3", "1-", "", "1-3\n", "1-" + "9" * 19)
    },
    "reserved backwards": (
        [("spec.reserveOrdinals", ["5-2"])],
        "spec.reserveOrdinals[0]",
        "a range must not end before it begins",
    ),
    "too many reserved": (
        [("spec.reserveOrdinals", [1] * 10_001)],
        "spec.reserveOrdinals",
        "at most 10000 items",
    ),
    "start below zero": ([("spec.ordinals.start", -1)], "spec.ordinals.start", "greater than or equal to 0"),
    "retention unknown": (
        [("spec.persistentVolumeClaimRetentionPolicy.whenScaled", "Keep")],
        "spec.persistentVolumeClaimRetentionPolicy.whenScaled",
        "Unsupported value",
    ),
    "too many claims": ([("spec.volumeClaimTemplates", [{}] * 33)], "spec.volumeClaimTemplates", "at most 32 items"),
    "65 containers": ([(POD + "containers", [{"name": "a"}] * 65)], POD + "containers", "at most 64 items"),
    "257 volumes": ([(POD + "volumes", [{"name": "a"}] * 257)], POD + "volumes", "at most 256 items"),
    "restartPolicy": ([(POD + "restartPolicy", "Never")], POD + "restartPolicy", 'supported values: "Always"'),
    "activeDeadlineSeconds": (
        [(POD + "activeDeadlineSeconds", 5)],
        POD + "activeDeadlineSeconds",
        "activeDeadlineSeconds in StatefulSet is not Supported",
    ),
    "paused is no boolean": ([(ROLLING + "paused", "yes")], ROLLING + "paused", "must be of type boolean"),
    "name with a dot": ([("metadata.name", "a.b")], "metadata.name", _NAME),
    "name too long": ([("metadata.name", "a" * 64)], "metadata.name", "no more than 63 characters"),
    "generateName with a dot": ([("metadata.generateName", "a.b")], "metadata.generateName", _NAME),
}
for _path in (ROLLING + "maxUnavailable", "spec.scaleStrategy.maxUnavailable"):
    _short = _path.split(".")[1]
    BAD |= {
        f"{_short} zero": ([(_path, 0)], _path, "should not be less than 1"),
        f"{_short} zero percent": ([(_path, "00%")], _path, "should not be less than 1"),
        f"{_short} below zero": ([(_path, -1)], _path, "should not be less than 1"),
        f"{_short} too large": ([(_path, 99999999999)], _path, "from 1 to 2147483647"),
        f"{_short} without percent": ([(_path, "5")], _path, "should match"),
        f"{_short} fraction": ([(_path, "10.5%")], _path, "should match"),
        f"{_short} with a line break": ([(_path, "10%\n")], _path, "should match"),
        f"{_short} two, one by one": ([ORDERED, (_path, 2)], _path, _PARALLEL),
        f"{_short} percent, one by one": ([ORDERED, (_path, "1%")], _path, _PARALLEL),
    }

_IMMUTABLE = "field is immutable"
FIXED: dict[str, tuple[Change, str, str]] = {
    "selector": (
        ("spec.selector", {"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}),
        "spec.selector",
        _IMMUTABLE,
    ),
    "service": (("spec.serviceName", "other"), "spec.serviceName", _IMMUTABLE),
    "no service": (("spec.serviceName", ABSENT), "spec.serviceName", _IMMUTABLE),
    "policy": (ORDERED, "spec.podManagementPolicy", _IMMUTABLE),
    "no policy": (("spec.podManagementPolicy", ABSENT), "spec.podManagementPolicy", _IMMUTABLE),
}
"""Changes of :data:`BASE` with the service ``svc`` that are refused, the field that is blamed, and what is said."""
FREE: dict[str, Change] = {
    "an empty part of the selector": ("spec.selector", {"matchLabels": {"app": "web"}, "matchExpressions": []}),
    "replicas": ("spec.replicas", 7),
    "template": (POD + "containers", [{"name": "x", "image": "y"}]),
    "strategy": ("spec.updateStrategy", {"type": "OnDelete"}),
    "claims": ("spec.volumeClaimTemplates", [{"metadata": {"name": "other"}}]),
    "history": ("spec.revisionHistoryLimit", 2),
    "ordinals": ("spec.ordinals", {"start": 2}),
    "reserved": ("spec.reserveOrdinals", [1]),
    "retention": ("spec.persistentVolumeClaimRetentionPolicy", {"whenDeleted": "Delete"}),
}
"""Changes of the same set that are allowed."""
STATUSES: list[dict[str, Any]] = [{}, {"replicas": 1}, {"volumeClaims": [{}], "conditions": []}]
"""Statuses that a server takes, however little they say."""
