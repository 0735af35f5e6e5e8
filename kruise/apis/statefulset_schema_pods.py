"""The part of the schema of Advanced StatefulSet that speaks of pods: the template, how they are updated, their hooks.

Guarantees: as in ``statefulset_schema``, to which this belongs.

What this does not do: the pod template is checked only where a rule needs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from kruise.apis.schema import Doc, Rule, TypeDoc
from kruise.apis.statefulset import (
    IN_PLACE_IF_POSSIBLE,
    IN_PLACE_ONLY,
    ON_DELETE,
    RECREATE,
    ROLLING_UPDATE,
    InPlaceUpdateStrategy,
    Lifecycle,
    LifecycleHook,
    OrderPriority,
    PriorityStrategy,
    RollingUpdate,
    UnorderedUpdate,
    UpdateStrategy,
    WeightPriority,
)
from kruise.apis.statefulset_schema_words import INT32, WORD, budget, labels_of

__all__ = ["POD_TYPES", "TEMPLATE"]

_UNREAD: Final = "Kept as it is, and read by nobody: images are pulled ahead by annotations. Defaults to none."

TEMPLATE: Final = Doc(
    text=(
        "The pods: their labels, annotations and spec, as in any pod template. A change makes a new revision, which "
        "updateStrategy brings to the pods. An update in place needs the readiness gate InPlaceUpdateReady in here."
    ),
    required=True,
    type="object",
    open=True,
    rules=(
        Rule(
            cel="!has(self.spec) || !has(self.spec.restartPolicy) || self.spec.restartPolicy in ['', 'Always']",
            message='supported values: "Always"',
            path=".spec.restartPolicy",
        ),
        Rule(
            cel="!has(self.spec) || !has(self.spec.activeDeadlineSeconds)",
            message="activeDeadlineSeconds in StatefulSet is not Supported",
            path=".spec.activeDeadlineSeconds",
        ),
    ),
    properties={
        "metadata": Doc(
            text="Labels, annotations and finalizers of the pods.",
            type="object",
            open=True,
            properties={
                "labels": Doc(
                    text="Labels of the pods. The selector must match them.",
                    type="object",
                    max_properties=1024,
                    values=Doc(text="The value of a label.", type="string", max_length=63),
                )
            },
        ),
        "spec": Doc(
            text="The spec of the pods. The API server checks it when it is asked for a pod.",
            type="object",
            open=True,
            properties={
                "restartPolicy": Doc(
                    text="Always, or nothing: a pod of a StatefulSet does not end.", type="string", max_length=WORD
                ),
                "activeDeadlineSeconds": Doc(
                    text="Not allowed: a pod of a StatefulSet does not end.", type="integer", format="int64"
                ),
                "containers": Doc(
                    text="The containers of the pods.",
                    type="array",
                    max_items=64,
                    values=Doc(text="A container.", type="object", open=True),
                ),
                "volumes": Doc(
                    text="The volumes of the pods. Those of volumeClaimTemplates are added.",
                    type="array",
                    max_items=256,
                    values=Doc(text="A volume.", type="object", open=True),
                ),
            },
        ),
    },
)

_UPDATE_STRATEGY: Final = TypeDoc(
    text="How a new template reaches the pods.",
    rules=(
        Rule(
            cel=f"!has(self.type) || self.type != '{ON_DELETE}' || !has(self.rollingUpdate)",
            message=f"only allowed for updateStrategy '{ROLLING_UPDATE}'",
            path=".rollingUpdate",
        ),
    ),
    fields={
        "type": Doc(
            text=(
                "RollingUpdate: pods are updated as rollingUpdate says. OnDelete: a pod gets the new template when you "
                "delete it. Defaults to RollingUpdate."
            ),
            default=ROLLING_UPDATE,
            max_length=WORD,
            enum=(ROLLING_UPDATE, ON_DELETE),
        ),
        "rollingUpdate": Doc(
            text="How pods are updated. Not with type OnDelete. Defaults to one pod at a time, by deletion."
        ),
    },
)

_ROLLING_UPDATE: Final = TypeDoc(
    text="How an update rolls through the set.",
    fields={
        "partition": Doc(
            text=(
                "How many pods keep the old template: a number of pods, not an ordinal. The update starts at the other "
                "end. Defaults to 0."
            ),
            default=0,
            format="int32",
            minimum=0,
            maximum=INT32,
        ),
        "maxUnavailable": budget(
            "How many pods may be unavailable during the update: a number, or a percentage of replicas that is rounded "
            "down, and at least 1. With OrderedReady only 1. Defaults to 1.",
            default=1,
        ),
        "podUpdatePolicy": Doc(
            text=(
                "ReCreate: a pod is deleted and created again. InPlaceIfPossible: it is updated in place when nothing "
                "but what can be is different. InPlaceOnly: it is never deleted for an update. Defaults to ReCreate."
            ),
            default=RECREATE,
            max_length=WORD,
            enum=(RECREATE, IN_PLACE_IF_POSSIBLE, IN_PLACE_ONLY),
        ),
        "paused": Doc(text="No pod is updated while this is true. Scaling and the status go on. Defaults to false."),
        "unorderedUpdate": Doc(
            text=(
                "Update pods by priority instead of from the highest ordinal down. Only with Parallel. Defaults to "
                "none."
            )
        ),
        "inPlaceUpdateStrategy": Doc(text="Details of updates in place. Defaults to none."),
        "minReadySeconds": Doc(
            text="For how many seconds a pod must be ready to count as available. Defaults to 0.",
            format="int32",
            minimum=0,
            maximum=300,
        ),
    },
)

_IN_PLACE: Final = TypeDoc(
    text="Details of updates in place.",
    fields={
        "gracePeriodSeconds": Doc(
            text=(
                "Seconds between taking a pod out of service and changing its containers, for endpoints to follow. "
                "Defaults to 0."
            ),
            format="int32",
            maximum=INT32,
        ),
        "imagePreDownloadParallelism": Doc(text=_UNREAD, max_length=WORD),
        "imagePreDownloadTimeoutSeconds": Doc(text=_UNREAD, format="int32"),
        "imagePreDownloadMinUpdatedReadyPods": Doc(text=_UNREAD, format="int32"),
    },
)

_PRIORITIES: Final = TypeDoc(
    text="Which pods are updated first, by one of both lists.",
    rules=(
        Rule(
            cel=(
                "!has(self.weightPriority) || !has(self.orderPriority) || size(self.weightPriority) == 0 || "
                "size(self.orderPriority) == 0"
            ),
            message="only one of weightPriority and orderPriority can be used",
        ),
    ),
    fields={
        "weightPriority": Doc(
            text="Pods with a larger sum of weights are updated first. Defaults to none.", max_items=64
        ),
        "orderPriority": Doc(
            text=(
                "Pods that have an earlier label of this list are updated before those that have a later one, pods "
                "with none before all; with the same label, the larger number in its value first. Defaults to none."
            ),
            max_items=64,
        ),
    },
)
_WEIGHT: Final = TypeDoc(
    text="A weight for the pods that a selector matches.",
    rules=(
        Rule(
            cel=(
                "has(self.matchSelector) && ((has(self.matchSelector.matchLabels) && "
                "size(self.matchSelector.matchLabels) > 0) || (has(self.matchSelector.matchExpressions) && "
                "size(self.matchSelector.matchExpressions) > 0))"
            ),
            message="selector can not be empty",
            path=".matchSelector",
        ),
    ),
    fields={
        "weight": Doc(text="From 0 to 100.", format="int32", minimum=0, maximum=100),
        "matchSelector": Doc(text="Which pods get the weight. It must not be empty."),
    },
)
_ORDER: Final = TypeDoc(
    text="A label whose values order the pods.",
    rules=(
        Rule(
            cel="has(self.orderedKey) && self.orderedKey != ''",
            message="order key can not be empty",
            path=".orderedKey",
        ),
    ),
    fields={
        "orderedKey": Doc(
            text="The key of the label. The number at the end of its value counts, as in sts-10.", max_length=317
        )
    },
)

_LIFECYCLE: Final = TypeDoc(
    text="Hooks by which others hold a pod in a state of its life.",
    fields={
        "preDelete": Doc(text="Holds a pod before it is deleted. Defaults to none."),
        "inPlaceUpdate": Doc(text="Holds a pod before and after it is updated in place. Defaults to none."),
        "preNormal": Doc(text="Holds a new or updated pod before it counts as normal. Defaults to none."),
    },
)
_HOOK: Final = TypeDoc(
    text="Labels and finalizers that hold a pod: whoever set them takes them away.",
    fields={
        "labelsHandler": labels_of("Labels that hold a pod that has them with these values. Defaults to none."),
        "finalizersHandler": Doc(
            text="Finalizers that hold a pod that has them. Defaults to none.",
            max_items=64,
            values=Doc(text="The name of a finalizer.", max_length=317),
        ),
        "markPodNotReady": Doc(
            text="A pod that is held is taken out of service, by the readiness gate KruisePodReady. Defaults to false."
        ),
    },
)

POD_TYPES: Final[Mapping[type[msgspec.Struct], TypeDoc]] = {
    UpdateStrategy: _UPDATE_STRATEGY,
    RollingUpdate: _ROLLING_UPDATE,
    UnorderedUpdate: TypeDoc(
        text="Update pods by priority.",
        fields={"priorityStrategy": Doc(text="Which pods are updated first. Defaults to the highest ordinals.")},
    ),
    InPlaceUpdateStrategy: _IN_PLACE,
    PriorityStrategy: _PRIORITIES,
    WeightPriority: _WEIGHT,
    OrderPriority: _ORDER,
    Lifecycle: _LIFECYCLE,
    LifecycleHook: _HOOK,
}
"""The structs that speak of pods."""
