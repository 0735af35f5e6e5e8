"""The part of the schema of SidecarSet that speaks of what pods get: containers and annotations.

Guarantees: as in ``sidecarset_schema``, to which this belongs. What belongs to the core API in a container is not
described here and kept as it is.

What this does not do: expressions and references into a pod are for ``sidecarset_validation``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from kruise.apis.schema import Doc, Rule, TypeDoc
from kruise.apis.sidecarset import (
    AFTER_APP_CONTAINER,
    BEFORE_APP_CONTAINER,
    COLD_UPGRADE,
    HOT_UPGRADE,
    MODE_MAX,
    MODE_SUM,
    PATCH_RETAIN,
    RESTART_ALWAYS,
    SHARE_DISABLED,
    SHARE_ENABLED,
    FieldRef,
    PatchPodMetadata,
    ResourceAmounts,
    ResourcesExpr,
    ResourcesPolicy,
    SharePolicy,
    Sidecar,
    SourceContainerNameFrom,
    TransferEnv,
    UpgradeStrategy,
)
from kruise.apis.sidecarset_schema_words import WORD

__all__ = ["CONTAINERS", "INIT_CONTAINERS", "SIDECAR_TYPES"]

_IMAGE: Final = 4096
_EXPRESSION: Final = 1024
_KEY: Final = 512
_VALUE: Final = 262144
"""All annotations of an object together have this many bytes."""

_SAME_UPGRADE: Final = Rule(
    cel=(
        "!has(oldSelf.upgradeStrategy) || !has(oldSelf.upgradeStrategy.upgradeType) || "
        "oldSelf.upgradeStrategy.upgradeType == '' || oldSelf.upgradeStrategy.upgradeType == "
        "(has(self.upgradeStrategy) && has(self.upgradeStrategy.upgradeType) && "
        "self.upgradeStrategy.upgradeType != '' ? self.upgradeStrategy.upgradeType : "
        f"'{COLD_UPGRADE}')"
    ),
    message="upgradeType is immutable: a pod has either one container or two",
    path=".upgradeStrategy.upgradeType",
)
_POSITION: Final = Rule(
    cel=(
        f"!has(self.podInjectPolicy) || self.podInjectPolicy in ['', '{BEFORE_APP_CONTAINER}', '{AFTER_APP_CONTAINER}']"
    ),
    message="unsupported pod inject policy",
    path=".podInjectPolicy",
)
_SHARING: Final = Rule(
    cel=(
        "!has(self.shareVolumePolicy) || !has(self.shareVolumePolicy.type) || self.shareVolumePolicy.type in "
        f"['', '{SHARE_ENABLED}', '{SHARE_DISABLED}']"
    ),
    message="unsupported share volume policy",
    path=".shareVolumePolicy.type",
)
_TWIN: Final = Rule(
    cel=(
        "!has(self.upgradeStrategy) || !has(self.upgradeStrategy.upgradeType) || "
        f"self.upgradeStrategy.upgradeType != '{HOT_UPGRADE}' || "
        "(has(self.upgradeStrategy.hotUpgradeEmptyImage) && self.upgradeStrategy.hotUpgradeEmptyImage != '')"
    ),
    message="HotUpgrade needs an image for the twin that does not serve",
    path=".upgradeStrategy.hotUpgradeEmptyImage",
)
_PLAIN: Final = Rule(
    cel="!has(self.restartPolicy)", message="may not be set for non-init containers", path=".restartPolicy"
)
_COMPUTED: Final = Rule(
    cel=(f"!has(self.resourcesPolicy) || (has(self.restartPolicy) && self.restartPolicy == '{RESTART_ALWAYS}')"),
    message="resourcesPolicy is only supported for containers with RestartPolicy Always",
    path=".resourcesPolicy",
)
_OF_A_CONTAINER: Final = "A container, as in any pod, and how it is injected and upgraded."

CONTAINERS: Final = Doc(
    text=(
        "Containers for the pods. Their images are upgraded in place; any other change reaches new pods alone. They "
        "can be removed, not added or renamed. Defaults to none."
    ),
    type="array",
    max_items=64,
    list_keys=("name",),
    values=Doc(
        text=_OF_A_CONTAINER,
        struct=Sidecar,
        open=True,
        rules=(_POSITION, _SHARING, _TWIN, _PLAIN, _SAME_UPGRADE),
    ),
)
INIT_CONTAINERS: Final = Doc(
    text=(
        "Init containers for new pods. One with restartPolicy Always runs as long as the pod; the set must then be of "
        "the type NotUpdate. Defaults to none."
    ),
    type="array",
    max_items=64,
    list_keys=("name",),
    values=Doc(text=_OF_A_CONTAINER, struct=Sidecar, open=True, rules=(_COMPUTED,)),
)

_SIDECAR: Final = TypeDoc(
    text=_OF_A_CONTAINER,
    fields={
        "name": Doc(text="The name of the container; unique in its list.", required=True, max_length=63),
        "image": Doc(
            text="The image of the container.",
            required=True,
            max_length=_IMAGE,
            rules=(Rule(cel="self != ''", message="a container needs an image"),),
        ),
        "restartPolicy": Doc(
            text="Of an init container: Always makes it run as long as the pod. Defaults to running once.",
            max_length=WORD,
        ),
        "podInjectPolicy": Doc(
            text=(
                "BeforeAppContainer or AfterAppContainer: where the container stands in the pod. Defaults to before, "
                "for init containers to after."
            ),
            max_length=WORD,
        ),
        "upgradeStrategy": Doc(text="How a new image reaches pods. Defaults to a restart of the container."),
        "shareVolumePolicy": Doc(text="Whether the container mounts what the pod's own do. Defaults to disabled."),
        "shareVolumeDevicePolicy": Doc(
            text="Whether the container has the block devices of the pod's own. Defaults to disabled."
        ),
        "transferEnv": Doc(
            text="Environment variables that are copied from the pod's own containers. Defaults to none.", max_items=64
        ),
        "resourcesPolicy": Doc(
            text=(
                "Limits and requests that follow those of the pod's own containers. Not beside resources. Defaults to "
                "none."
            )
        ),
    },
)
_UPGRADE_STRATEGY: Final = TypeDoc(
    text="How a new image reaches pods.",
    fields={
        "upgradeType": Doc(
            text=(
                "ColdUpgrade: the container is restarted with the new image. HotUpgrade: every pod has two of it, and "
                "the new one starts beside the old. It cannot be changed. Defaults to ColdUpgrade."
            ),
            max_length=WORD,
        ),
        "hotUpgradeEmptyImage": Doc(
            text="With HotUpgrade: the image of the one that does not serve. Defaults to none.", max_length=_IMAGE
        ),
    },
)
_SHARE: Final = TypeDoc(
    text="Whether something of the pod's own containers is shared.",
    fields={"type": Doc(text="enabled or disabled. Defaults to disabled.", max_length=WORD)},
)
_TRANSFER: Final = TypeDoc(
    text="Variables of one container.",
    fields={
        "sourceContainerName": Doc(text="The container that has them. Defaults to none.", max_length=63),
        "sourceContainerNameFrom": Doc(text="Where the pod says which container that is. Defaults to none."),
        "envName": Doc(text="The name of a variable. Defaults to none.", max_length=_KEY),
        "envNames": Doc(
            text="The names of more variables. Defaults to none.",
            max_items=256,
            values=Doc(text="The name of a variable.", max_length=_KEY),
        ),
    },
)
_SOURCE: Final = TypeDoc(
    text="Where the pod says which container has the variables.",
    fields={"fieldRef": Doc(text="A label or annotation of the pod. Defaults to none.")},
)
_REFERENCE: Final = TypeDoc(
    text="A label or annotation of the pod.",
    fields={
        "apiVersion": Doc(text="v1. Defaults to v1.", max_length=WORD),
        "fieldPath": Doc(text="metadata.labels['key'] or metadata.annotations['key'].", required=True, max_length=_KEY),
    },
)
_RESOURCES: Final = TypeDoc(
    text="Limits and requests that follow those of the pod's own containers.",
    fields={
        "targetContainersMode": Doc(
            text="sum or max: how the resources of several containers become one amount.",
            required=True,
            max_length=WORD,
            enum=(MODE_SUM, MODE_MAX),
        ),
        "targetContainersNameRegex": Doc(
            text="Which of the pod's own containers count, by an expression for their names. Defaults to all.",
            default=".*",
            max_length=_EXPRESSION,
        ),
        "resourcesExpr": Doc(text="What is made of the amounts.", required=True),
    },
)
_EXPRESSIONS: Final = TypeDoc(
    text="What is made of the amounts, for limits, requests or both.",
    rules=(
        Rule(
            cel="has(self.limits) || has(self.requests)",
            message="at least one of limits or requests must be configured",
        ),
    ),
    fields={
        "limits": Doc(text="The limits of the container. Defaults to none."),
        "requests": Doc(text="The requests of the container. Defaults to none."),
    },
)
_AMOUNTS: Final = TypeDoc(
    text="One expression for each resource.",
    fields={
        "cpu": Doc(text="An expression over cpu, such as max(cpu*50%, 50m). Defaults to none.", max_length=_EXPRESSION),
        "memory": Doc(
            text="An expression over memory, such as min(memory/4, 200Mi). Defaults to none.", max_length=_EXPRESSION
        ),
    },
)
_METADATA: Final = TypeDoc(
    text="Annotations for pods, and what becomes of those that they have.",
    fields={
        "annotations": Doc(
            text="The annotations. There must be one.",
            required=True,
            max_properties=64,
            values=Doc(text="The value of an annotation.", type="string", max_length=_VALUE),
            rules=(Rule(cel="size(self) > 0", message="no annotations defined for SidecarSet"),),
        ),
        "patchPolicy": Doc(
            text=(
                "Retain: what a pod has stays. Overwrite: it is replaced. MergePatchJson: both are JSON, and merged. "
                "Any other value does nothing. Defaults to Retain."
            ),
            default=PATCH_RETAIN,
            max_length=WORD,
        ),
    },
)

SIDECAR_TYPES: Final[Mapping[type[msgspec.Struct], TypeDoc]] = {
    Sidecar: _SIDECAR,
    UpgradeStrategy: _UPGRADE_STRATEGY,
    SharePolicy: _SHARE,
    TransferEnv: _TRANSFER,
    SourceContainerNameFrom: _SOURCE,
    FieldRef: _REFERENCE,
    ResourcesPolicy: _RESOURCES,
    ResourcesExpr: _EXPRESSIONS,
    ResourceAmounts: _AMOUNTS,
    PatchPodMetadata: _METADATA,
}
"""The structs of what pods get."""
