"""Advanced StatefulSet, ``apps.kruise.io``: pods with an identity that are updated in place. The typed view of a set.

Guarantees: the struct is v1beta1, the stored version; v1alpha1 has a subset of its fields (spec/advanced-statefulset
1.8). The defaults of the types equal the API's, so a set reads the same with and without admission; the templates of
pods and claims stay the bytes that the user gave.

What this does not do: defaulting, conversion and validation are in ``statefulset_rules`` and
``statefulset_validation``.
"""

from __future__ import annotations

from typing import Final

import msgspec

from kruise.apis.group import GROUP
from kruise.runtime.objects import EMPTY_MAP, Object, Resource

__all__ = [
    "STATEFULSETS",
    "STATEFULSETS_V1ALPHA1",
    "LabelSelector",
    "Lifecycle",
    "LifecycleHook",
    "RetentionPolicy",
    "RollingUpdate",
    "ScaleStrategy",
    "StatefulSet",
    "StatefulSetCondition",
    "StatefulSetSpec",
    "StatefulSetStatus",
    "UpdateStrategy",
    "VolumeClaimStatus",
]

LABEL_REVISION: Final = "controller-revision-hash"
"""On every pod: the full name of its ControllerRevision."""
LABEL_POD_NAME: Final = "statefulset.kubernetes.io/pod-name"
LABEL_POD_INDEX: Final = "apps.kubernetes.io/pod-index"
LABEL_SPECIFIED_DELETE: Final = "apps.kruise.io/specified-delete"
"""On a pod, any value: the user asks for its replacement."""
OWNED_BY_ANNOTATION: Final = "apps.kruise.io/owned-by-asts"
"""On a claim that was resized: the name of its set."""

ORDERED_READY: Final = "OrderedReady"
PARALLEL: Final = "Parallel"

ROLLING_UPDATE: Final = "RollingUpdate"
ON_DELETE: Final = "OnDelete"

RECREATE: Final = "ReCreate"
IN_PLACE_IF_POSSIBLE: Final = "InPlaceIfPossible"
IN_PLACE_ONLY: Final = "InPlaceOnly"

RETAIN: Final = "Retain"
DELETE: Final = "Delete"

ON_POD_ROLLING_UPDATE: Final = "OnPodRollingUpdate"
"""``volumeClaimUpdateStrategy.type``: claims are resized while their pods are rolled."""

FAILED_CREATE_POD: Final = "FailedCreatePod"
FAILED_UPDATE_POD: Final = "FailedUpdatePod"
AVAILABLE: Final = "Available"
PROGRESSING: Final = "Progressing"
READY: Final = "Ready"
PAUSED: Final = "Paused"
RECONCILING: Final = "Reconciling"
STALLED: Final = "Stalled"
DEGRADED: Final = "Degraded"

EMPTY_TEMPLATE: Final = msgspec.Raw(b"{}")
NO_CLAIMS: Final = msgspec.Raw(b"[]")


class LabelRequirement(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """One expression of a label selector."""

    key: str = ""
    operator: str = ""
    values: tuple[str, ...] = ()


class LabelSelector(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """``metav1.LabelSelector``."""

    match_labels: dict[str, str] = msgspec.field(default_factory=lambda: EMPTY_MAP)
    match_expressions: tuple[LabelRequirement, ...] = ()


class WeightPriority(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A weight for the pods that a selector matches."""

    weight: int = 0
    match_selector: LabelSelector = LabelSelector()


class OrderPriority(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A label key whose values order the pods."""

    ordered_key: str = ""


class PriorityStrategy(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Which pods are updated first; one of both lists."""

    order_priority: tuple[OrderPriority, ...] = ()
    weight_priority: tuple[WeightPriority, ...] = ()


class UnorderedUpdate(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Update in the order of priorities instead of that of the ordinals."""

    priority_strategy: PriorityStrategy | None = None


class InPlaceUpdateStrategy(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """How pods are updated in place. The three fields of image pre-download are read by nobody (spec 16, row 20)."""

    grace_period_seconds: int = 0
    image_pre_download_parallelism: int | str | None = None
    image_pre_download_timeout_seconds: int | None = None
    image_pre_download_min_updated_ready_pods: int | None = None


class RollingUpdate(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """How an update rolls through the set."""

    partition: int = 0
    max_unavailable: int | str = 1
    pod_update_policy: str = RECREATE
    paused: bool = False
    unordered_update: UnorderedUpdate | None = None
    in_place_update_strategy: InPlaceUpdateStrategy | None = None
    min_ready_seconds: int = 0


class UpdateStrategy(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """RollingUpdate or OnDelete. ``rolling_update`` is ``None`` under OnDelete, or where nobody filled it in."""

    type: str = ROLLING_UPDATE
    rolling_update: RollingUpdate | None = None


class VolumeClaimUpdateStrategy(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """What a new size in a claim template means for the claims that exist."""

    type: str = ""


class LifecycleHook(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Labels and finalizers by which somebody else holds a pod in a state of its life."""

    labels_handler: dict[str, str] = msgspec.field(default_factory=lambda: EMPTY_MAP)
    finalizers_handler: tuple[str, ...] = ()
    mark_pod_not_ready: bool = False


class Lifecycle(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """The hooks of a pod's life."""

    pre_delete: LifecycleHook | None = None
    in_place_update: LifecycleHook | None = None
    pre_normal: LifecycleHook | None = None


class ScaleStrategy(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """How many pods may be unavailable while the set is scaled up in Parallel mode."""

    max_unavailable: int | str | None = None


class RetentionPolicy(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """What becomes of claims. Any word but ``Delete`` keeps them."""

    when_deleted: str = ""
    when_scaled: str = ""


class Ordinals(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """The first ordinal; read only with the gate StatefulSetStartOrdinal."""

    start: int = 0


class StatefulSetSpec(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """What the user wants."""

    replicas: int = 1
    selector: LabelSelector | None = None
    template: msgspec.Raw = EMPTY_TEMPLATE
    """The bytes of the pod template: pods and revisions are made from them, so no unknown field is lost."""
    volume_claim_templates: msgspec.Raw = NO_CLAIMS
    """The bytes of the list of claim templates."""
    volume_claim_update_strategy: VolumeClaimUpdateStrategy = VolumeClaimUpdateStrategy()
    service_name: str = ""
    pod_management_policy: str = ORDERED_READY
    update_strategy: UpdateStrategy = UpdateStrategy(rolling_update=RollingUpdate())
    revision_history_limit: int | None = 10
    reserve_ordinals: tuple[int | str, ...] = ()
    lifecycle: Lifecycle | None = None
    scale_strategy: ScaleStrategy | None = None
    persistent_volume_claim_retention_policy: RetentionPolicy | None = None
    ordinals: Ordinals | None = None


class StatefulSetCondition(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """One condition of a set."""

    type: str = ""
    status: str = ""
    last_transition_time: str | None = None
    reason: str = ""
    message: str = ""


class VolumeClaimStatus(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """How many pods have claims that fit a template."""

    volume_claim_name: str = ""
    compatible_replicas: int = 0
    compatible_ready_replicas: int = 0


class StatefulSetStatus(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """What was reached. Counts are always written, zeros too (ecosystem 8.1)."""

    observed_generation: int = 0
    replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    current_replicas: int = 0
    updated_replicas: int = 0
    updated_ready_replicas: int = 0
    updated_available_replicas: int = 0
    current_revision: str = ""
    update_revision: str = ""
    collision_count: int = 0
    conditions: tuple[StatefulSetCondition, ...] = ()
    label_selector: str = ""
    volume_claims: tuple[VolumeClaimStatus, ...] = ()


class StatefulSet(Object, frozen=True, gc=False, kw_only=True, rename="camel"):
    """An Advanced StatefulSet."""

    spec: StatefulSetSpec = StatefulSetSpec()
    status: StatefulSetStatus = StatefulSetStatus()


STATEFULSETS: Final[Resource[StatefulSet]] = Resource(
    GROUP, "v1beta1", "StatefulSet", "statefulsets", StatefulSet, custom=True
)
STATEFULSETS_V1ALPHA1: Final[Resource[StatefulSet]] = Resource(
    GROUP, "v1alpha1", "StatefulSet", "statefulsets", StatefulSet, custom=True
)
