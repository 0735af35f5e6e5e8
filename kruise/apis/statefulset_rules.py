"""Defaults and conversion of Advanced StatefulSet, as pure functions on plain JSON, and the same defaults in memory.

Guarantees:

* Defaulting (spec/advanced-statefulset 1.4) never removes a field that it does not know, and writes what OpenKruise's
  webhook writes. Template defaults go in when a set is created, and later only with a changed pod template.
* Conversion (1.8) copies what both versions have and drops the rest: v1alpha1 has no room for it, and nothing is
  stashed (section 16, row 19).
* :func:`effective` gives a controller without webhooks the set that it would get with them: no gap where the API has a
  default, no number that the validation would refuse.

What this does not do: it judges nothing (``statefulset_validation``), calls no API and serves no webhook.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from kruise.apis.core_fields import type_errors
from kruise.apis.go_encoding import POD_TEMPLATE, canonical
from kruise.apis.group import GROUP
from kruise.apis.plain import wide_numbers, without_nulls
from kruise.apis.podtemplate import default_pod_template
from kruise.apis.quantity import Quantity, QuantityError
from kruise.apis.statefulset import (
    ON_DELETE,
    ORDERED_READY,
    RECREATE,
    RETAIN,
    ROLLING_UPDATE,
    STATEFULSETS,
    Ordinals,
    RetentionPolicy,
    RollingUpdate,
    StatefulSet,
    StatefulSetSpec,
    StatefulSetStatus,
    UpdateStrategy,
)

__all__ = [
    "EMPTY_STATUS",
    "ONLY_IN_V1BETA1",
    "convert_statefulset",
    "decode_problem",
    "default_statefulset",
    "effective",
    "version_of",
]

V1ALPHA1: Final = "v1alpha1"
V1BETA1: Final = "v1beta1"

ONLY_IN_V1BETA1: Final[Mapping[type[msgspec.Struct], frozenset[str]]] = {
    StatefulSetSpec: frozenset(
        {
            "volumeClaimUpdateStrategy",
            "reserveOrdinals",
            "lifecycle",
            "scaleStrategy",
            "persistentVolumeClaimRetentionPolicy",
            "ordinals",
        }
    ),
    StatefulSetStatus: frozenset({"updatedReadyReplicas", "updatedAvailableReplicas", "volumeClaims"}),
}
"""The fields that v1alpha1 does not have, by their names on the wire."""

EMPTY_STATUS: Final[Mapping[str, Any]] = {
    "availableReplicas": 0,
    "currentReplicas": 0,
    "readyReplicas": 0,
    "replicas": 0,
    "updatedReplicas": 0,
}

_CLAIM: Final = "core.v1.PersistentVolumeClaim"
_HISTORY: Final = 10
_PENDING: Final = "Pending"
_NOT_OURS: Final = ("template", "volumeClaimTemplates")
"""Parts of the spec whose types are those of the core API."""


def version_of(obj: Mapping[str, Any]) -> str:
    """Return the version in which *obj* is written; one without an apiVersion counts as v1beta1."""
    api_version = obj.get("apiVersion")
    return api_version.rpartition("/")[2] if isinstance(api_version, str) and api_version else V1BETA1


# ---- defaults --------------------------------------------------------------------------------------------------------


def default_statefulset(
    obj: dict[str, Any],
    old: Mapping[str, Any] | None = None,
    *,
    template_defaults: bool = True,
    host_ports: bool = False,
    auto_delete_pvc: bool = True,
    auto_resize_pvc: bool = False,
    reset_status: bool = True,
) -> dict[str, Any]:
    """Return *obj*, plain JSON of either version, with its defaults; the input stays as it is.

    *old* is the stored object of an update. The options are the gates: ``template_defaults=False`` is
    TemplateNoDefaults, *host_ports* DefaultHostNetworkHostPortsInPodTemplates, *auto_delete_pvc*
    StatefulSetAutoDeletePVC, *auto_resize_pvc* StatefulSetAutoResizePVCGate. *reset_status* drops a status that a user
    sent through the main resource.
    """
    version = version_of(obj)
    out = convert_statefulset(obj, V1BETA1) if version == V1ALPHA1 else copy.copy(obj)
    spec: dict[str, Any] = dict(out.get("spec") or {})
    out["spec"] = spec
    if template_defaults and (old is None or not _same_template(spec, old.get("spec") or {})):
        spec["template"] = default_pod_template(spec.get("template") or {}, host_network_ports=host_ports)
        if isinstance(claims := spec.get("volumeClaimTemplates"), list):
            spec["volumeClaimTemplates"] = [_default_claim(claim) for claim in claims]
    _default_spec(spec)
    if auto_delete_pvc:
        policy = dict(spec.get("persistentVolumeClaimRetentionPolicy") or {})
        for when in ("whenDeleted", "whenScaled"):
            policy[when] = policy.get(when) or RETAIN
        spec["persistentVolumeClaimRetentionPolicy"] = policy
    if auto_resize_pvc:
        resize = dict(spec.get("volumeClaimUpdateStrategy") or {})
        resize["type"] = resize.get("type") or ON_DELETE
        spec["volumeClaimUpdateStrategy"] = resize
    if reset_status:
        out["status"] = dict(EMPTY_STATUS)
    return convert_statefulset(out, V1ALPHA1) if version == V1ALPHA1 else out


def _default_spec(spec: dict[str, Any]) -> None:
    spec["podManagementPolicy"] = spec.get("podManagementPolicy") or ORDERED_READY
    strategy = dict(spec.get("updateStrategy") or {})
    strategy["type"] = strategy.get("type") or ROLLING_UPDATE
    if strategy["type"] == ROLLING_UPDATE:
        rolling = dict(strategy.get("rollingUpdate") or {})
        rolling["podUpdatePolicy"] = rolling.get("podUpdatePolicy") or RECREATE
        for name, value in (("partition", 0), ("maxUnavailable", 1), ("minReadySeconds", 0)):
            if rolling.get(name) is None:
                rolling[name] = value
        strategy["rollingUpdate"] = rolling
    spec["updateStrategy"] = strategy
    for name, value in (("replicas", 1), ("revisionHistoryLimit", _HISTORY)):
        if spec.get(name) is None:
            spec[name] = value


def _same_template(spec: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    first, second = (canonical(one.get("template") or {}, POD_TEMPLATE) for one in (spec, old))
    return bool(first == second)


def _default_claim(claim: Any) -> Any:
    """Return a claim template with its phase and with quantities of at least a thousandth, rounded up."""
    if not isinstance(claim, dict):
        return claim
    out: dict[str, Any] = copy.deepcopy(claim)
    status = out.get("status")
    if status is None:
        status = out["status"] = {}
    if isinstance(status, dict):
        status["phase"] = status.get("phase") or _PENDING
        _round(status, "capacity", "allocatedResources")
    spec = out.get("spec")
    if isinstance(spec, dict) and isinstance(spec.get("resources"), dict):
        _round(spec["resources"], "limits", "requests")
    return out


def _round(holder: dict[str, Any], *names: str) -> None:
    for name in names:
        if not isinstance(listed := holder.get(name), dict):
            continue
        for key, value in listed.items():
            try:
                listed[key] = str(Quantity.from_json(value).round_up_to_milli())
            except QuantityError:
                continue  # the type check names it


# ---- conversion ------------------------------------------------------------------------------------------------------


def convert_statefulset(obj: Mapping[str, Any], to_version: str) -> dict[str, Any]:
    """Return *obj* as *to_version* (``v1alpha1`` or ``v1beta1``); what v1alpha1 does not have is lost on the way.

    Raises ValueError for another version.
    """
    if to_version not in (V1ALPHA1, V1BETA1):
        raise ValueError(f"StatefulSet has the versions v1alpha1 and v1beta1, not {to_version!r}")
    out = dict(obj)
    if V1ALPHA1 in (to_version, version_of(obj)):
        for part, struct in (("spec", StatefulSetSpec), ("status", StatefulSetStatus)):
            if isinstance(value := out.get(part), Mapping):
                out[part] = {key: one for key, one in value.items() if key not in ONLY_IN_V1BETA1[struct]}
    out["apiVersion"] = f"{GROUP}/{to_version}"
    return out


def decode_problem(obj: Mapping[str, Any], version: str) -> str:
    """Return why *obj* is no StatefulSet of *version*, naming the field; ``""`` when it is one.

    What an API server refuses before any rule is asked: wrong types, numbers of more than 32 bits, malformed
    quantities.
    """
    if obj.get("apiVersion") != f"{GROUP}/{version}" or obj.get("kind") != STATEFULSETS.kind:
        return f"apiVersion and kind: want {GROUP}/{version} {STATEFULSETS.kind}"
    known = convert_statefulset(obj, version)
    try:
        msgspec.json.decode(msgspec.json.encode(without_nulls(known)), type=StatefulSet)
    except msgspec.MsgspecError as error:
        return str(error)
    spec = known.get("spec") or {}
    wide = next(wide_numbers({key: one for key, one in spec.items() if key not in _NOT_OURS}, "spec"), "")
    if wide:
        return f"{wide}: want a number of 32 bits"
    wrong = type_errors(spec.get("template"), POD_TEMPLATE, "spec.template")
    wrong += type_errors(spec.get("volumeClaimTemplates"), f"[{_CLAIM}]", "spec.volumeClaimTemplates")
    return str(wrong[0]) if wrong else ""


# ---- in memory -------------------------------------------------------------------------------------------------------


def effective(sts: StatefulSet) -> StatefulSet:
    """Return *sts* as the controller reads it: *sts* itself when nothing is missing.

    A word that the API does not know stays: its meaning is for whoever reads it. A negative number counts as 0.
    """
    spec = sts.spec
    changed: dict[str, Any] = {
        "replicas": max(0, spec.replicas),
        "pod_management_policy": spec.pod_management_policy or ORDERED_READY,
        "update_strategy": _effective_strategy(spec.update_strategy),
        "revision_history_limit": _HISTORY
        if spec.revision_history_limit is None
        else max(0, spec.revision_history_limit),
        "persistent_volume_claim_retention_policy": _effective_retention(spec.persistent_volume_claim_retention_policy),
    }
    if not spec.volume_claim_update_strategy.type:
        strategy = spec.volume_claim_update_strategy
        changed["volume_claim_update_strategy"] = msgspec.structs.replace(strategy, type=ON_DELETE)
    if spec.ordinals is not None and spec.ordinals.start < 0:
        # Pods with negative ordinals would be nobody's members, and be created for ever (row 29).
        changed["ordinals"] = Ordinals()
    changed = {name: value for name, value in changed.items() if getattr(spec, name) != value}
    return msgspec.structs.replace(sts, spec=msgspec.structs.replace(spec, **changed)) if changed else sts


def _effective_strategy(strategy: UpdateStrategy) -> UpdateStrategy:
    kind, rolling = strategy.type or ROLLING_UPDATE, strategy.rolling_update
    if rolling is None:
        rolling = RollingUpdate() if kind == ROLLING_UPDATE else None
    else:
        rolling = msgspec.structs.replace(
            rolling,
            partition=max(0, rolling.partition),
            pod_update_policy=rolling.pod_update_policy or RECREATE,
            min_ready_seconds=max(0, rolling.min_ready_seconds),
        )
    return UpdateStrategy(type=kind, rolling_update=rolling)


def _effective_retention(policy: RetentionPolicy | None) -> RetentionPolicy:
    known = policy or RetentionPolicy()
    return RetentionPolicy(when_deleted=known.when_deleted or RETAIN, when_scaled=known.when_scaled or RETAIN)
