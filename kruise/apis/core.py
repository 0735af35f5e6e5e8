"""What is read of the kinds of Kubernetes itself: pods, nodes, claims, storage classes, revisions, as projections.

Purpose: one projection of each kind serves every controller of the process (INF8), so that a cached pod costs little
and is decoded once. A field stands here because somebody reads it; everything else is dropped while decoding.

Guarantees: the wire names equal the API server's (OBJ9; a test compares each with the core-fields table); every field
has a default, so an absent one reads as Kubernetes means it.

What this does not do: a projection is never written back. Writes are patches that name what they change.
"""

from __future__ import annotations

from typing import Final

import msgspec

from kruise.runtime.objects import EMPTY_MAP, Object, PartialObject, Resource

__all__ = [
    "CLAIMS",
    "NAMESPACES",
    "NODES",
    "PODS",
    "REVISIONS",
    "STORAGE_CLASSES",
    "Affinity",
    "Claim",
    "ClaimCondition",
    "ClaimSource",
    "ClaimSpec",
    "ClaimStatus",
    "ConfigMapKey",
    "Container",
    "ContainerResizePolicy",
    "ContainerState",
    "ContainerStatus",
    "ControllerRevision",
    "EnvSource",
    "EnvVar",
    "FieldRef",
    "Node",
    "NodeAffinity",
    "NodeCondition",
    "NodeSelector",
    "NodeSelectorRequirement",
    "NodeSelectorTerm",
    "NodeSpec",
    "NodeStatus",
    "Pod",
    "PodCondition",
    "PodSpec",
    "PodStatus",
    "PodTemplate",
    "ReadinessGate",
    "ResourceRequirements",
    "StateTerminated",
    "StateWaiting",
    "StorageClass",
    "Taint",
    "TemplateMeta",
    "Toleration",
    "Volume",
]


class NodeSelectorRequirement(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """One comparison of a node selector term."""

    key: str = ""
    operator: str = ""
    values: tuple[str, ...] = ()


class NodeSelectorTerm(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Comparisons that must all hold."""

    match_expressions: tuple[NodeSelectorRequirement, ...] = ()
    match_fields: tuple[NodeSelectorRequirement, ...] = ()


class NodeSelector(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Terms of which one must hold."""

    node_selector_terms: tuple[NodeSelectorTerm, ...] = ()


class NodeAffinity(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """The required half of a node affinity; preferences never decide eligibility."""

    required_during_scheduling_ignored_during_execution: NodeSelector | None = None


class Affinity(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """The node affinity of a pod."""

    node_affinity: NodeAffinity | None = None


class Toleration(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """``core/v1 Toleration``, without its seconds."""

    key: str = ""
    operator: str = ""
    value: str = ""
    effect: str = ""


class ResourceRequirements(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """The requests and limits of a container or claim. Quantities stay as they are written."""

    requests: dict[str, str | int | float] = msgspec.field(default_factory=lambda: EMPTY_MAP)
    limits: dict[str, str | int | float] = msgspec.field(default_factory=lambda: EMPTY_MAP)


class FieldRef(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A field of the pod that a variable shows: ``metadata.labels['app']``."""

    field_path: str = ""


class ConfigMapKey(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """The key of a ConfigMap that a variable shows."""

    key: str = ""


class EnvSource(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Where a variable comes from, as far as an in-place update asks."""

    field_ref: FieldRef | None = None
    config_map_key_ref: ConfigMapKey | None = None


class EnvVar(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A variable of a container. Its literal value is dropped: nobody decides by it, and it may be a secret."""

    name: str = ""
    value_from: EnvSource | None = None


class ContainerResizePolicy(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Whether a container restarts when a resource of it changes."""

    resource_name: str = ""
    restart_policy: str = ""


class Container(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A container as far as its resources, image, restart policy and the sources of its variables go."""

    name: str = ""
    image: str = ""
    restart_policy: str = ""
    resources: ResourceRequirements = ResourceRequirements()
    resize_policy: tuple[ContainerResizePolicy, ...] = ()
    env: tuple[EnvVar, ...] = ()


class ReadinessGate(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A condition that must be true before the pod counts as ready."""

    condition_type: str = ""


class ClaimSource(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """The claim behind a volume."""

    claim_name: str = ""


class Volume(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A volume of a pod, as far as it is a claim."""

    name: str = ""
    persistent_volume_claim: ClaimSource | None = None


class PodSpec(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """What decides on which node a pod may run, how it restarts, and what it waits for to be ready."""

    node_name: str = ""
    readiness_gates: tuple[ReadinessGate, ...] = ()
    volumes: tuple[Volume, ...] = ()
    node_selector: dict[str, str] = msgspec.field(default_factory=lambda: EMPTY_MAP)
    affinity: Affinity | None = None
    tolerations: tuple[Toleration, ...] = ()
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    overhead: dict[str, str | int | float] = msgspec.field(default_factory=lambda: EMPTY_MAP)
    restart_policy: str = ""


class StateWaiting(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Why a container does not run yet."""

    reason: str = ""
    message: str = ""


class StateTerminated(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """How a container ended."""

    exit_code: int = 0
    reason: str = ""
    message: str = ""
    finished_at: str | None = None


class ContainerState(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Waiting or terminated; a running container has neither."""

    waiting: StateWaiting | None = None
    terminated: StateTerminated | None = None


class ContainerStatus(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """What the kubelet reports of one container."""

    name: str = ""
    image: str = ""
    image_id: str = msgspec.field(default="", name="imageID")
    container_id: str = msgspec.field(default="", name="containerID")
    resources: ResourceRequirements | None = None
    restart_count: int = 0
    ready: bool = False
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()


class PodCondition(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """One condition of a pod."""

    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None


class PodStatus(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """What the kubelet reports of a pod."""

    observed_generation: int = 0
    phase: str = ""
    reason: str = ""
    message: str = ""
    conditions: tuple[PodCondition, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()


class Pod(Object, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A pod."""

    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class TemplateMeta(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """What is read of the metadata of a pod template."""

    labels: dict[str, str] = msgspec.field(default_factory=lambda: EMPTY_MAP)
    annotations: dict[str, str] = msgspec.field(default_factory=lambda: EMPTY_MAP)
    finalizers: tuple[str, ...] = ()


class PodTemplate(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A pod template as far as eligibility reads it. What a pod is made from are the bytes of the template."""

    metadata: TemplateMeta = TemplateMeta()
    spec: PodSpec = PodSpec()


class Taint(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A taint of a node."""

    key: str = ""
    value: str = ""
    effect: str = ""


class NodeSpec(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """What keeps pods off a node."""

    unschedulable: bool = False
    taints: tuple[Taint, ...] = ()


class NodeCondition(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """One condition of a node."""

    type: str = ""
    status: str = ""


class NodeStatus(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """What a node offers."""

    allocatable: dict[str, str | int | float] = msgspec.field(default_factory=lambda: EMPTY_MAP)
    conditions: tuple[NodeCondition, ...] = ()


class Node(Object, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A node."""

    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class ClaimSpec(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """What a claim asks for."""

    access_modes: tuple[str, ...] = ()
    storage_class_name: str | None = None
    resources: ResourceRequirements = ResourceRequirements()


class ClaimCondition(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """One condition of a claim."""

    type: str = ""
    status: str = ""


class ClaimStatus(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """What a claim got."""

    phase: str = ""
    capacity: dict[str, str | int | float] = msgspec.field(default_factory=lambda: EMPTY_MAP)
    conditions: tuple[ClaimCondition, ...] = ()


class Claim(Object, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A PersistentVolumeClaim."""

    spec: ClaimSpec = ClaimSpec()
    status: ClaimStatus = ClaimStatus()


class StorageClass(Object, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A storage class, as far as growing a volume goes."""

    allow_volume_expansion: bool | None = None


class ControllerRevision(Object, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A kept version of a template. ``data`` stays the bytes of the wire."""

    data: msgspec.Raw = msgspec.Raw(b"null")
    revision: int = 0


PODS: Final[Resource[Pod]] = Resource("", "v1", "Pod", "pods", Pod)
NODES: Final[Resource[Node]] = Resource("", "v1", "Node", "nodes", Node, namespaced=False)
CLAIMS: Final[Resource[Claim]] = Resource("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", Claim)
STORAGE_CLASSES: Final[Resource[StorageClass]] = Resource(
    "storage.k8s.io", "v1", "StorageClass", "storageclasses", StorageClass, namespaced=False
)
REVISIONS: Final[Resource[ControllerRevision]] = Resource(
    "apps", "v1", "ControllerRevision", "controllerrevisions", ControllerRevision
)
NAMESPACES: Final[Resource[PartialObject]] = Resource(
    "", "v1", "Namespace", "namespaces", PartialObject, namespaced=False
)
"""Of a namespace its labels count."""
