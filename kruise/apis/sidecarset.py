"""SidecarSet, ``apps.kruise.io``: containers that join the pods of others. The typed view of a set, and its constants.

Guarantees: the struct is v1beta1, the stored version (spec/sidecarset 1); v1alpha1 differs in one field and one label,
which ``sidecarset_rules`` converts. The defaults of the types equal the API's, so a set reads the same with and
without admission. Containers, init containers and volumes stay the bytes that the user gave: pods, hashes and revisions
are made from them, so that neither an unknown field nor the spelling of a quantity is lost. ``null`` and ``[]`` stay
apart, because the hash tells them apart (spec 3).

What this does not do: defaulting, conversion, validation and hashes are in ``sidecarset_rules``,
``sidecarset_validation`` and ``sidecarset_hash``.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import msgspec

from kruise.apis.group import GROUP
from kruise.apis.statefulset import LabelSelector, PriorityStrategy
from kruise.runtime.objects import EMPTY_MAP, Object, Resource

__all__ = [
    "SIDECARSETS",
    "SIDECARSETS_V1ALPHA1",
    "InjectionRevision",
    "InjectionStrategy",
    "PatchPodMetadata",
    "ResourcesPolicy",
    "ScatterTerm",
    "Sidecar",
    "SidecarSet",
    "SidecarSetCondition",
    "SidecarSetSpec",
    "SidecarSetStatus",
    "SidecarSetUpdateStrategy",
    "TransferEnv",
    "UpgradeStrategy",
    "sidecars",
]

HASH_ANNOTATION: Final = "kruise.io/sidecarset-hash"
"""On a set: its hash. On a pod: JSON, set name -> what was injected last."""
HASH_WITHOUT_IMAGE_ANNOTATION: Final = "kruise.io/sidecarset-hash-without-image"
"""The same shapes with the hash that ignores images."""
INJECTED_LIST_ANNOTATION: Final = "kruise.io/sidecarset-injected-list"
"""On a pod: the names of the sets that were injected, sorted and joined by commas."""
INPLACE_STATE_ANNOTATION: Final = "kruise.io/sidecarset-inplace-update-state"
"""On a pod: JSON, set name -> the images before the last change."""
WORKING_HOT_ANNOTATION: Final = "kruise.io/sidecarset-working-hotupgrade-container"
"""On a pod: JSON, sidecar name -> the twin that serves."""
VERSION_ANNOTATION_PREFIX: Final = "version.sidecarset.kruise.io/"
VERSION_ALT_ANNOTATION_PREFIX: Final = "versionalt.sidecarset.kruise.io/"

INJECTED_ENV: Final = "IS_INJECTED"
"""``"true"`` in every injected container: it is none of the pod's own."""
VERSION_ENV: Final = "SIDECARSET_VERSION"
VERSION_ALT_ENV: Final = "SIDECARSET_VERSION_ALT"

UPGRADABLE_CONDITION: Final = "SidecarSetUpgradable"
UPGRADABLE_REASON: Final = "AllSidecarsetUpgradable"
NOT_UPGRADABLE_REASON: Final = "UpdateImmutableField"

REVISION_SET_LABEL: Final = "kruise.io/sidecarset-name"
"""On a ControllerRevision: the set that it belongs to."""
CUSTOM_VERSION_LABEL: Final = "apps.kruise.io/sidecarset-custom-version"
"""On a ControllerRevision, and in v1alpha1 on the set: the version that the user named."""
REVISION_HASH_LABEL: Final = "controller.kubernetes.io/hash"

CANARY_ANNOTATION: Final = "apps.kruise.io/sidecarset-canary"
CANARY_BASE_ANNOTATION: Final = "apps.kruise.io/sidecarset-base"

WHITE_LIST_CONFIG_MAP: Final = "kruise-configuration"
"""The ConfigMap in the namespace of the manager that says which annotations may be patched."""
WHITE_LIST_KEY: Final = "SidecarSet_PatchPodMetadata_WhiteList"

NAMESPACE_NAME_LABEL: Final = "kubernetes.io/metadata.name"

BEFORE_APP_CONTAINER: Final = "BeforeAppContainer"
AFTER_APP_CONTAINER: Final = "AfterAppContainer"

COLD_UPGRADE: Final = "ColdUpgrade"
HOT_UPGRADE: Final = "HotUpgrade"

SHARE_ENABLED: Final = "enabled"
SHARE_DISABLED: Final = "disabled"

NOT_UPDATE: Final = "NotUpdate"
ROLLING_UPDATE: Final = "RollingUpdate"

POLICY_ALWAYS: Final = "Always"
POLICY_PARTIAL: Final = "Partial"

PATCH_RETAIN: Final = "Retain"
PATCH_OVERWRITE: Final = "Overwrite"
PATCH_MERGE_JSON: Final = "MergePatchJson"

MODE_SUM: Final = "sum"
MODE_MAX: Final = "max"

RESTART_ALWAYS: Final = "Always"
"""``restartPolicy`` of an init container that is a native sidecar."""

DEFAULT_HISTORY_LIMIT: Final = 10

AVAILABLE: Final = "Available"
PROGRESSING: Final = "Progressing"
INJECTED: Final = "Injected"
RAISES_PRIVILEGES: Final = "RaisesPrivileges"

ABSENT: Final = msgspec.Raw(b"null")


class FieldRef(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A field of a pod."""

    api_version: str = ""
    field_path: str = ""


class SourceContainerNameFrom(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Where the name of a container stands: a label or annotation of the pod."""

    field_ref: FieldRef | None = None


class TransferEnv(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Variables that are copied from a container of the pod."""

    source_container_name: str = ""
    source_container_name_from: SourceContainerNameFrom | None = None
    env_name: str = ""
    env_names: tuple[str, ...] = ()


class UpgradeStrategy(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Whether a sidecar is upgraded in its place or beside itself."""

    upgrade_type: str = COLD_UPGRADE
    hot_upgrade_empty_image: str = ""


class SharePolicy(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Whether a sidecar sees the volumes, or devices, of the pod's own containers."""

    type: str = SHARE_DISABLED


class ResourceAmounts(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """One expression for each resource; ``""`` sets nothing."""

    cpu: str = ""
    memory: str = ""


class ResourcesExpr(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """The expressions for limits and requests."""

    limits: ResourceAmounts | None = None
    requests: ResourceAmounts | None = None


class ResourcesPolicy(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Resources of a sidecar that are computed from those of the pod's own containers (spec 12)."""

    target_containers_mode: str = ""
    target_containers_name_regex: str = ".*"
    resources_expr: ResourcesExpr = ResourcesExpr()


class Sidecar(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """What decides how a container is injected and upgraded. The container itself stays bytes; see :func:`sidecars`."""

    name: str = ""
    image: str = ""
    restart_policy: str = ""
    pod_inject_policy: str = ""
    """``""`` where nobody filled it in: before for ``containers``, after for ``initContainers``."""
    upgrade_strategy: UpgradeStrategy = UpgradeStrategy()
    share_volume_policy: SharePolicy = SharePolicy()
    share_volume_device_policy: SharePolicy | None = None
    transfer_env: tuple[TransferEnv, ...] = ()
    resources_policy: ResourcesPolicy | None = None

    @property
    def hot(self) -> bool:
        """Whether the sidecar has a twin."""
        return self.upgrade_strategy.upgrade_type == HOT_UPGRADE

    @property
    def native(self) -> bool:
        """Whether it, as an init container, runs as long as the pod."""
        return self.restart_policy == RESTART_ALWAYS


class SecretReference(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """The name of a Secret."""

    name: str = ""


class ScatterTerm(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Pods with this label are spread over the update. The value ``*`` stands for each value that occurs."""

    key: str = ""
    value: str = ""


class SidecarSetUpdateStrategy(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Which injected pods are upgraded, how many at once, and in which order."""

    type: str = ROLLING_UPDATE
    paused: bool = False
    selector: LabelSelector | None = None
    partition: int | str = 0
    max_unavailable: int | str = 1
    priority_strategy: PriorityStrategy | None = None
    scatter_strategy: tuple[ScatterTerm, ...] = ()


class InjectionRevision(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """The revision that new pods get instead of the current one."""

    custom_version: str | None = None
    revision_name: str | None = None
    policy: str = POLICY_ALWAYS


class InjectionStrategy(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """What new pods get."""

    paused: bool = False
    revision: InjectionRevision | None = None


class PatchPodMetadata(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Annotations for pods, and what becomes of those that they have."""

    annotations: dict[str, str] = msgspec.field(default_factory=lambda: EMPTY_MAP)
    patch_policy: str = ""
    """``""`` means Retain. It is kept apart, because revisions hold what was written (spec 6.1)."""


class SidecarSetSpec(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """What the user wants."""

    selector: LabelSelector | None = None
    namespace_selector: LabelSelector | None = None
    init_containers: msgspec.Raw = ABSENT
    containers: msgspec.Raw = ABSENT
    volumes: msgspec.Raw = ABSENT
    image_pull_secrets: tuple[SecretReference, ...] | None = None
    update_strategy: SidecarSetUpdateStrategy = SidecarSetUpdateStrategy()
    injection_strategy: InjectionStrategy = InjectionStrategy()
    revision_history_limit: int | None = DEFAULT_HISTORY_LIMIT
    patch_pod_metadata: tuple[PatchPodMetadata, ...] | None = None
    custom_version: str = ""


class SidecarSetCondition(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """One condition of a set."""

    type: str = ""
    status: str = ""
    last_transition_time: str | None = None
    reason: str = ""
    message: str = ""


class SidecarSetStatus(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """What was reached. Counts are always written, zeros too (spec 1.2)."""

    observed_generation: int = 0
    matched_pods: int = 0
    updated_pods: int = 0
    ready_pods: int = 0
    updated_ready_pods: int = 0
    latest_revision: str = ""
    collision_count: int | None = None
    conditions: tuple[SidecarSetCondition, ...] = ()


class SidecarSet(Object, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A SidecarSet."""

    spec: SidecarSetSpec = SidecarSetSpec()
    status: SidecarSetStatus = SidecarSetStatus()

    @property
    def hash(self) -> str:
        """The hash that admission wrote; ``""`` where there is none."""
        return self.metadata.annotations.get(HASH_ANNOTATION, "")

    @property
    def hash_without_image(self) -> str:
        """The hash that ignores images, as admission wrote it."""
        return self.metadata.annotations.get(HASH_WITHOUT_IMAGE_ANNOTATION, "")


@lru_cache(maxsize=1024)
def _heads(data: bytes) -> tuple[Sidecar, ...]:
    kind = tuple[Sidecar, ...] | None
    try:
        return msgspec.json.decode(data, type=kind) or ()
    except msgspec.ValidationError:
        # A field that nobody else knows is kept as it came, null included; and null reads as absent (rule 17).
        return msgspec.convert(_without_nulls(msgspec.json.decode(data)), kind) or ()


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def sidecars(containers: msgspec.Raw) -> tuple[Sidecar, ...]:
    """Return the typed heads of a list of containers, in its order; decoded once for the same bytes.

    :raises msgspec.ValidationError: when the list does not fit the API
    """
    return _heads(bytes(containers))


SIDECARSETS: Final[Resource[SidecarSet]] = Resource(
    GROUP, "v1beta1", "SidecarSet", "sidecarsets", SidecarSet, namespaced=False, custom=True
)
SIDECARSETS_V1ALPHA1: Final[Resource[SidecarSet]] = Resource(
    GROUP, "v1alpha1", "SidecarSet", "sidecarsets", SidecarSet, namespaced=False, custom=True
)
