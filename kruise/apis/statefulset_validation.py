"""Validation of Advanced StatefulSet on create, update and delete, as pure functions on plain JSON of either version.

Guarantees (spec/advanced-statefulset 1.5 to 1.7):

* Every error has the field path, the type and the words of OpenKruise's webhook, and comes out once, in its order:
  metadata, pod management, ordinals, scaling, update strategy, retention, replicas, selector, template. Whoever refuses
  with them answers 422, for a protected object 403.
* Nothing here fails on an absent number: it is judged as its default (section 16, row 32).
* Fixed, as section 16 says: a negative first ordinal is refused (row 29), claim templates are judged by the strategy of
  the new object, and only an image is an image (row 15); templates are compared with defaults on both sides (row 21).

What this does not do: the pod spec is not validated as a whole, as OpenKruise does not; the API server does when it is
asked for a pod. It calls no API: whoever calls brings the storage classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from kruise.apis import intorstring, labels, selectors
from kruise.apis.core import StorageClass
from kruise.apis.fielderrors import FieldError, Plain, forbidden, go_quote, invalid, not_supported, required
from kruise.apis.meta import validate_object_meta
from kruise.apis.ordinals import reserved_errors
from kruise.apis.podtemplate.fields import Node, child, is_set, items, number, optional_number, text, texts
from kruise.apis.podtemplate.validation import validate_pod_annotations
from kruise.apis.statefulset import (
    DELETE,
    IN_PLACE_IF_POSSIBLE,
    IN_PLACE_ONLY,
    ON_DELETE,
    ORDERED_READY,
    PARALLEL,
    RECREATE,
    RETAIN,
    ROLLING_UPDATE,
)
from kruise.apis.statefulset_claims import claim_template_errors
from kruise.apis.statefulset_rules import V1ALPHA1, V1BETA1, convert_statefulset, version_of
from kruise.apis.templatediff import first_difference
from kruise.runtime.clock import parse_time

__all__ = [
    "DELETE_PROTECTION",
    "IN_PLACE_GATE",
    "priority_problem",
    "validate_delete",
    "validate_statefulset",
    "validate_update",
]

IN_PLACE_GATE: Final = "InPlaceUpdateReady"
"""The readiness gate that a template needs for an update in place."""
DELETE_PROTECTION: Final = "policy.kruise.io/delete-protection"
"""The label that protects an object from deletion: ``Always``, or ``Cascading`` while it has replicas."""

_MAX_MIN_READY: Final = 300
_WEIGHTS: Final = range(101)
_STANDARD_FINALIZERS: Final = frozenset({"kubernetes", "orphan", "foregroundDeletion"})
_IMMUTABLE: Final = ("selector", "serviceName", "podManagementPolicy")
_NEGATIVE: Final = "must be greater than or equal to 0"
_FIXED: Final = "field is immutable"
_FORBIDDEN_CHANGE: Final = (
    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'reserveOrdinals', "
    "'lifecycle', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy', `volumeClaimTemplates`, "
    "`VolumeClaimUpdateStrategy` and 'updateStrategy' are forbidden"
)


def _as_v1beta1(obj: Mapping[str, Any]) -> dict[str, Any]:
    """Return *obj* without the fields that its version does not have."""
    return convert_statefulset(obj, V1BETA1) if version_of(obj) == V1ALPHA1 else dict(obj)


def _at_least_0(holder: Node | None, key: str, path: str) -> list[FieldError]:
    value = number(holder, key)
    return [invalid(f"{path}.{key}", value, _NEGATIVE)] if value < 0 else []


# ---- create ----------------------------------------------------------------------------------------------------------


def validate_statefulset(obj: Mapping[str, Any]) -> list[FieldError]:
    """Return every error of *obj* by itself; an empty list means that it is valid."""
    known = _as_v1beta1(obj)
    meta = child(known, "metadata") or {}
    errors = validate_object_meta(meta, namespaced=True, name_check=_name_problems, path="metadata")
    errors += _finalizer_errors(meta)
    return errors + _spec_errors(child(known, "spec") or {}, "spec")


def _name_problems(name: str, prefix: bool) -> list[str]:
    return labels.dns1123_label(labels.as_prefix(name) if prefix else name)


def _finalizer_errors(meta: Node) -> list[FieldError]:
    return [
        invalid(
            f"metadata.finalizers[{i}]", name, "name is neither a standard finalizer name nor is it fully qualified"
        )
        for i, name in enumerate(texts(meta, "finalizers"))
        if "/" not in name and name not in _STANDARD_FINALIZERS
    ]


def _spec_errors(spec: Node, path: str) -> list[FieldError]:
    policy = text(spec, "podManagementPolicy")
    errors = _one_of_two(policy, f"{path}.podManagementPolicy", ORDERED_READY, PARALLEL, policy)
    errors += _ordinal_errors(spec, path)
    if (scaling := child(spec, "scaleStrategy")) is not None and is_set(scaling, "maxUnavailable"):
        errors += _budget_errors(scaling["maxUnavailable"], policy, f"{path}.scaleStrategy.maxUnavailable")
    errors += _strategy_errors(spec, policy, path)
    errors += _retention_errors(spec, path)
    errors += _at_least_0(spec, "replicas", path)
    errors += _selector_errors(spec, path)
    pod, at = child(child(spec, "template"), "spec") or {}, f"{path}.template.spec"
    restart = text(pod, "restartPolicy")
    if restart not in ("", "Always"):
        errors.append(not_supported(f"{at}.restartPolicy", restart, ("Always",)))
    if is_set(pod, "activeDeadlineSeconds"):
        detail = "activeDeadlineSeconds in StatefulSet is not Supported"
        errors.append(forbidden(f"{at}.activeDeadlineSeconds", detail))
    return errors


def _one_of_two(word: str, path: str, first: str, second: str, value: Any) -> list[FieldError]:
    if not word:
        return [required(path)]
    return [] if word in (first, second) else [invalid(path, value, f"must be '{first}' or '{second}'")]


def _ordinal_errors(spec: Node, path: str) -> list[FieldError]:
    listed = spec.get("reserveOrdinals")
    entries = [one for one in listed if isinstance(one, int | str)] if isinstance(listed, list) else []
    return reserved_errors(entries, path) + _at_least_0(child(spec, "ordinals"), "start", f"{path}.ordinals")


def _budget_errors(value: Any, policy: str, path: str) -> list[FieldError]:
    """Validate a count of pods that may be unavailable: at least 1, and no more where pods go one by one."""
    if not isinstance(value, int | str):
        return []
    errors = intorstring.validate_positive_int_or_percent(value, path)
    try:
        # Of one pod, rounded up: what is above 0% is at least 1.
        count = intorstring.lenient(value, 1, round_up=True)
    except intorstring.IntOrStringError as error:
        errors.append(invalid(path, 0, f"getValueFromIntOrPercent error: {error}"))
    else:
        if count < 1:
            errors.append(invalid(path, count, "should not be less than 1"))
    if policy != PARALLEL and value != 1:
        errors.append(invalid(path, Plain(value), "can only work with Parallel PodManagementPolicyType"))
    return errors


def _retention_errors(spec: Node, path: str) -> list[FieldError]:
    policy = child(spec, "persistentVolumeClaimRetentionPolicy")
    if policy is None:
        return []
    return [
        not_supported(f"{path}.persistentVolumeClaimRetentionPolicy.{when}", word, (RETAIN, DELETE))
        for when in ("whenDeleted", "whenScaled")
        if (word := text(policy, when)) not in (RETAIN, DELETE)
    ]


def _selector_errors(spec: Node, path: str) -> list[FieldError]:
    """Validate the selector, and the metadata of the template against it."""
    selector, at = child(spec, "selector"), f"{path}.selector"
    if selector is None:
        errors = [required(at)]
    else:
        errors = selectors.validate(selector, at)
        if not selector.get("matchLabels") and not selector.get("matchExpressions"):
            errors.append(invalid(at, Plain("selector"), "empty selector is invalid for statefulset"))
    try:
        selected = selectors.convert(selector)
    except selectors.SelectorError:
        return [*errors, invalid(at, Plain("selector"), "")]
    template, at = child(spec, "template") or {}, f"{path}.template"
    meta = child(template, "metadata") or {}
    found = child(meta, "labels") or {}
    if not selected.matches(found):
        detail = "`selector` does not match template `labels`"
        errors.append(invalid(f"{at}.metadata.labels", Plain("labels"), detail))
    errors += labels.validate_labels(found, f"{at}.labels")
    annotations = child(meta, "annotations") or {}
    errors += labels.validate_annotations(annotations, f"{at}.annotations")
    return errors + validate_pod_annotations(annotations, child(template, "spec") or {}, f"{at}.annotations")


# ---- the update strategy ---------------------------------------------------------------------------------------------


def _strategy_errors(spec: Node, policy: str, path: str) -> list[FieldError]:
    strategy, at = child(spec, "updateStrategy") or {}, f"{path}.updateStrategy"
    kind, rolling = text(strategy, "type"), child(strategy, "rollingUpdate")
    errors = _one_of_two(kind, at, ROLLING_UPDATE, ON_DELETE, Plain("updateStrategy"))
    if kind == ON_DELETE and rolling is not None:
        detail = f"only allowed for updateStrategy '{ROLLING_UPDATE}'"
        errors.append(invalid(f"{at}.rollingUpdate", Plain("rollingUpdate"), detail))
    if kind == ROLLING_UPDATE and rolling is not None:
        errors += _rolling_errors(rolling, policy, f"{at}.rollingUpdate")
        errors += _update_policy_errors(rolling, spec, f"{at}.rollingUpdate.podUpdatePolicy", path)
        errors += _unordered_errors(rolling, policy, f"{at}.rollingUpdate.unorderedUpdate")
    return errors


def _rolling_errors(rolling: Node, policy: str, path: str) -> list[FieldError]:
    errors = _at_least_0(rolling, "partition", path) + _at_least_0(rolling, "minReadySeconds", path)
    seconds = number(rolling, "minReadySeconds")
    if seconds > _MAX_MIN_READY:
        errors.append(invalid(f"{path}.minReadySeconds", seconds, f"must be no more than {_MAX_MIN_READY} seconds"))
    if not is_set(rolling, "maxUnavailable"):
        return [*errors, required(f"{path}.maxUnavailable")]
    return errors + _budget_errors(rolling["maxUnavailable"], policy, f"{path}.maxUnavailable")


def _update_policy_errors(rolling: Node, spec: Node, path: str, root: str) -> list[FieldError]:
    policy = text(rolling, "podUpdatePolicy")
    if not policy:
        return [required(path)]
    if policy not in (RECREATE, IN_PLACE_IF_POSSIBLE, IN_PLACE_ONLY):
        return [invalid(path, policy, f"must be '{RECREATE}', {IN_PLACE_IF_POSSIBLE} or '{IN_PLACE_ONLY}'")]
    gates = items(child(child(spec, "template"), "spec"), "readinessGates")
    if policy == RECREATE or any(text(gate, "conditionType") == IN_PLACE_GATE for gate in gates):
        return []
    detail = f"must contains {IN_PLACE_GATE} when podUpdatePolicy is {policy}"
    return [invalid(f"{root}.template.spec.readinessGates", Plain("readinessGates"), detail)]


def _unordered_errors(rolling: Node, policy: str, path: str) -> list[FieldError]:
    unordered = child(rolling, "unorderedUpdate")
    if unordered is None:
        return []
    errors = []
    if policy != PARALLEL:
        errors.append(required(path, "unorderedUpdate can only work with Parallel PodManagementPolicyType"))
    if problem := priority_problem(child(unordered, "priorityStrategy") or {}):
        errors.append(required(f"{path}.priorityStrategy", problem))
    return errors


def priority_problem(strategy: Node) -> str:
    """Return the first thing that is wrong with the priorities of an update, or ``""``."""
    weights, orders = items(strategy, "weightPriority"), items(strategy, "orderPriority")
    if weights and orders:
        return "only one of weightPriority and orderPriority can be used"
    for term in weights:
        if number(term, "weight") not in _WEIGHTS:
            return "weight must be valid number in the range 1-100"
        selector = child(term, "matchSelector") or {}
        if not selector.get("matchLabels") and not selector.get("matchExpressions"):
            return "selector can not be empty"
        try:
            selectors.convert(selector)
        except selectors.SelectorError as error:
            return f"invalid selector {error}"
    return "" if all(text(term, "orderedKey") for term in orders) else "order key can not be empty"


# ---- update ----------------------------------------------------------------------------------------------------------


def validate_update(
    new: Mapping[str, Any],
    old: Mapping[str, Any],
    storage_classes: Sequence[StorageClass] = (),
    *,
    resize_claims: bool = False,
) -> list[FieldError]:
    """Return every error of the change from *old* to *new*. *resize_claims* is the gate StatefulSetAutoResizePVCGate.

    Claim templates are judged when the rest is valid, and templates under InPlaceOnly when those are, too.
    """
    after, before = _as_v1beta1(new), _as_v1beta1(old)
    errors = validate_statefulset(after)
    errors += _meta_changes(child(after, "metadata") or {}, child(before, "metadata") or {})
    spec, known = child(after, "spec") or {}, child(before, "spec") or {}
    if any(_meaning(spec.get(key)) != _meaning(known.get(key)) for key in _IMMUTABLE):
        errors.append(forbidden("spec", _FORBIDDEN_CHANGE))
    if not errors and resize_claims:
        errors = claim_template_errors(spec, known, storage_classes, "spec")
    return errors or _in_place_only_errors(spec, known, "spec")


def _meta_changes(new: Node, old: Node) -> list[FieldError]:
    """Return what object metadata may not become. What is wrong with it by itself has been said."""
    errors: list[FieldError] = []
    added = sorted(set(texts(new, "finalizers")) - set(texts(old, "finalizers")))
    if added and is_set(old, "deletionTimestamp"):
        found = f"[]string{{{', '.join(map(go_quote, added))}}}"
        detail = f"no new finalizers can be added if the object is being deleted, found new finalizers {found}"
        errors.append(forbidden("metadata.finalizers", detail))
    if not text(new, "resourceVersion"):
        errors.append(invalid("metadata.resourceVersion", "", "must be specified for an update"))
    if number(new, "generation") < number(old, "generation"):
        errors.append(invalid("metadata.generation", number(new, "generation"), "must not be decremented"))
    errors += [
        invalid(f"metadata.{key}", text(new, key), _FIXED)
        for key in ("name", "namespace", "uid")
        if text(new, key) != text(old, key)
    ]
    errors += [
        invalid(f"metadata.{key}", Plain(text(new, key)), _FIXED)
        for key in ("creationTimestamp", "deletionTimestamp")
        if parse_time(text(new, key)) != parse_time(text(old, key))
    ]
    key = "deletionGracePeriodSeconds"
    if optional_number(new, key) != optional_number(old, key):
        errors.append(invalid(f"metadata.{key}", optional_number(new, key), _FIXED))
    return errors


def _meaning(value: Any) -> Any:
    """Return *value* without what means nothing: nulls, empty lists and maps, and empty text by itself."""
    if isinstance(value, Mapping):
        inner = {key: one if isinstance(one, str) else _meaning(one) for key, one in value.items()}
        return {key: one for key, one in inner.items() if one is not None} or None
    if isinstance(value, list):
        return [_meaning(one) for one in value] or None
    return value if value != "" else None


def _in_place_only_errors(spec: Node, old: Node, path: str) -> list[FieldError]:
    rolling = child(child(spec, "updateStrategy"), "rollingUpdate")
    if text(rolling, "podUpdatePolicy") != IN_PLACE_ONLY:
        return []
    found = first_difference(child(old, "template") or {}, child(spec, "template") or {})
    if not found:
        return []
    detail = (
        f"invalid template modified with InPlaceOnly strategy: {found}, currently only image update is allowed for "
        "InPlaceOnly"
    )
    return [forbidden(f"{path}.template.spec", detail)]


# ---- delete ----------------------------------------------------------------------------------------------------------


def validate_delete(obj: Mapping[str, Any], *, enabled: bool) -> list[FieldError]:
    """Return why the stored *obj* may not be deleted; *enabled* is the gate ResourcesDeletionProtection.

    What is being deleted already is not protected, and neither is a set without replicas under ``Cascading``.
    """
    meta = child(dict(obj), "metadata") or {}
    if not enabled or is_set(meta, "deletionTimestamp"):
        return []
    word = text(child(meta, "labels"), DELETE_PROTECTION)
    detail = f"forbidden by ResourcesProtectionDeletion for {DELETE_PROTECTION}={word}"
    replicas = number(child(dict(obj), "spec"), "replicas")
    if word == "Cascading" and replicas > 0:
        detail += f" and replicas {replicas}>0"
    elif word != "Always":
        return []
    return [forbidden(f"metadata.labels[{DELETE_PROTECTION}]", detail)]
