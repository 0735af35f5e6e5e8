"""Validation of SidecarSet on create and update, as a pure function on plain JSON of either version.

Guarantees (spec/sidecarset 4.2 to 4.4, 12.1, 14):

* Every error has the field path, the type and the words of OpenKruise's webhook, in its order: metadata, canary marks,
  selectors, revision, update strategy, containers, the pod that they would make, metadata of pods, changes. Conflicts
  with other sets are looked for when nothing else is wrong.
* Beyond OpenKruise, as the specification decides: HotUpgrade needs its empty image (9.4), an expression is refused that
  would reject every pod (12.1), and a set does not conflict with canaries of its own (14).
* Nothing here fails on a stored object that is older than a rule.

What this does not do: it calls no API; whoever calls brings the other sets, the revisions and the white list. Numbers
that only the schema bounds are not judged again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from kruise.apis import labels, selectors
from kruise.apis.core import ControllerRevision
from kruise.apis.fielderrors import FieldError, Plain, invalid, required
from kruise.apis.meta import validate_object_meta
from kruise.apis.podtemplate.fields import Node, child, is_set, items, text
from kruise.apis.podtemplate.validation import validate_pod_spec
from kruise.apis.sidecarset import (
    AFTER_APP_CONTAINER,
    BEFORE_APP_CONTAINER,
    CANARY_ANNOTATION,
    CANARY_BASE_ANNOTATION,
    CUSTOM_VERSION_LABEL,
    HOT_UPGRADE,
    NOT_UPDATE,
    POLICY_ALWAYS,
    POLICY_PARTIAL,
    RESTART_ALWAYS,
    REVISION_SET_LABEL,
    ROLLING_UPDATE,
    SHARE_DISABLED,
    SHARE_ENABLED,
)
from kruise.apis.sidecarset_conflicts import conflicts
from kruise.apis.sidecarset_resources import resources_policy_errors
from kruise.apis.sidecarset_rules import V1BETA1, convert_sidecarset
from kruise.apis.sidecarset_whitelist import white_list_problem
from kruise.apis.statefulset_validation import priority_problem

__all__ = ["Surroundings", "validate_sidecarset"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a set is judged against. *others* and *revisions* are v1beta1 sets and those of our namespace."""

    others: Sequence[Mapping[str, Any]] = ()
    """Every set of the cluster, plain JSON of v1beta1; the one that is judged may be among them."""
    revisions: Sequence[ControllerRevision] = ()
    """The ControllerRevisions of our own namespace."""
    white_list: Mapping[str, str] | None = field(default=None)
    """The data of the ConfigMap ``kruise-configuration``; ``None``: there is none."""
    metadata_allowed: bool = False
    """The gate SidecarSetPatchPodMetadataDefaultsAllowed."""


_NAME: Final = re.compile(r"[a-zA-Z0-9\-]+")
_NAME_RULE: Final = (
    "sidecarset name must consist of alphanumeric characters or '-' (e.g. 'example-com', "
    "regex used for validation is '^[a-zA-Z0-9\\-]+$')"
)
_MAX_NAME: Final = 63
_NATIVE: Final = "The initContainer in-place upgrade is not currently supported."
_NO_CONTAINERS: Final = "no initContainer or container defined for SidecarSet"
_EMPTY_SELECTOR: Final = "empty selector is not valid for sidecarset."
_FIELDS: Final = ("metadata.annotations", "metadata.labels")
_STAND_IN: Final[Node] = {
    "name": "sidecarset",
    "image": "stand-in",
    "imagePullPolicy": "IfNotPresent",
    "terminationMessagePolicy": "File",
}
"""The container of the pod that is checked when a set has init containers alone."""


def validate_sidecarset(
    obj: Mapping[str, Any], old: Mapping[str, Any] | None = None, around: Surroundings | None = None
) -> list[FieldError]:
    """Return every error of *obj*, completed and plain JSON of either version; an empty list means that it is valid.

    *old* is the stored object of an update.
    """
    known = around or Surroundings()
    new = convert_sidecarset(obj, V1BETA1)
    before = None if old is None else convert_sidecarset(old, V1BETA1)
    meta, spec = child(new, "metadata") or {}, child(new, "spec") or {}
    errors = list(validate_object_meta(meta, namespaced=False, name_check=_name_problems, path="metadata"))
    errors += _canary_errors(meta, spec, before, known.others)
    errors += _spec_errors(meta, spec, known)
    if before is not None:
        errors += _change_errors(spec, child(before, "spec") or {})
    return errors or conflicts(new, known.others)


def _name_problems(name: str, prefix: bool) -> list[str]:  # noqa: ARG001 - the shape that object metadata asks for
    problems = [] if _NAME.fullmatch(name) else [_NAME_RULE]
    return [*problems, f"must be no more than {_MAX_NAME} characters"] if len(name) > _MAX_NAME else problems


# ---- canary sets -----------------------------------------------------------------------------------------------------


def _canary_base(meta: Node) -> str:
    """Return the base of a canary set; ``""`` for a set that is none."""
    annotations = child(meta, "annotations")
    return text(annotations, CANARY_BASE_ANNOTATION) if text(annotations, CANARY_ANNOTATION) == "true" else ""


def _canary_errors(
    meta: Node, spec: Node, old: Mapping[str, Any] | None, others: Sequence[Mapping[str, Any]]
) -> list[FieldError]:
    base = _canary_base(meta)
    if not base:
        return []
    problems = ["base sidecarSet cannot be itself"] if base == text(meta, "name") else []
    if old is not None and text(child(child(dict(old), "metadata"), "annotations"), CANARY_BASE_ANNOTATION) != base:
        problems.append(f"annotations[{CANARY_BASE_ANNOTATION}] is immutable")
    metas = (child(dict(other), "metadata") or {} for other in others)
    found = next((other for other in metas if text(other, "name") == base), None)
    if found is None:
        reason = f'sidecarsets.apps.kruise.io "{base}" not found'
        problems.append(f"fetch base sidecarSet[{base}] failed: {reason}")
    elif _canary_base(found):
        problems.append("base sidecarSet cannot be canary")
    if text(child(spec, "updateStrategy"), "type") != NOT_UPDATE:
        problems.append("RollingUpdate is not supported for canary sidecarSet")
    return [invalid("metadata", Plain(base), problem) for problem in problems]


# ---- the spec --------------------------------------------------------------------------------------------------------


def _spec_errors(meta: Node, spec: Node, around: Surroundings) -> list[FieldError]:
    strategy = child(spec, "updateStrategy") or {}
    errors = []
    if text(strategy, "type") == ROLLING_UPDATE:
        native = [one for one in items(spec, "initContainers") if text(one, "restartPolicy") == RESTART_ALWAYS]
        errors += [required("spec.updateStrategy", _NATIVE) for _ in native]
    if is_set(spec, "selector"):
        errors += _selector_errors(child(spec, "selector") or {}, "spec.selector")
    else:
        errors.append(required("spec.selector", "no selector defined for SidecarSet"))
    if is_set(spec, "namespaceSelector"):
        errors += _selector_errors(child(spec, "namespaceSelector") or {}, "spec.namespaceSelector")
    errors += _revision_errors(meta, child(child(spec, "injectionStrategy"), "revision"), around.revisions)
    if text(strategy, "type") == ROLLING_UPDATE:
        errors += _strategy_errors(strategy, "spec.updateStrategy")
    init, containers = items(spec, "initContainers"), items(spec, "containers")
    if init or containers:
        errors += _container_errors(init, containers)
        errors += _pod_errors(init, containers, items(spec, "volumes"))
    else:
        errors.append(required("spec", _NO_CONTAINERS))
    return errors + _metadata_errors(meta, items(spec, "patchPodMetadata"), around)


def _selector_errors(selector: Node, path: str) -> list[FieldError]:
    if not selector.get("matchLabels") and not selector.get("matchExpressions"):
        return [invalid(path, Plain("selector"), _EMPTY_SELECTOR)]
    errors = selectors.validate(selector, path)
    try:
        selectors.convert(selector)
    except selectors.SelectorError:
        errors.append(invalid(f"{path}.selector", Plain("selector"), ""))
    return errors


def _revision_errors(meta: Node, revision: Node | None, kept: Sequence[ControllerRevision]) -> list[FieldError]:
    if revision is None:
        return []
    if not is_set(revision, "revisionName") and not is_set(revision, "customVersion"):
        detail = "revisionName and customVersion cannot be empty simultaneously"
        return [invalid("revision", Plain("revision"), detail)]
    errors = []
    if problem := _lookup_problem(text(meta, "name"), revision, kept):
        detail = f"Cannot find specific ControllerRevision, err: {problem}"
        errors.append(invalid("revision", Plain("revision"), detail))
    if (policy := text(revision, "policy")) not in ("", POLICY_ALWAYS, POLICY_PARTIAL):
        detail = f"Invalid policy {policy}, supported: [{POLICY_ALWAYS}, {POLICY_PARTIAL}]"
        errors.append(invalid("revision.policy", policy, detail))
    return errors


def _lookup_problem(name: str, revision: Node, kept: Sequence[ControllerRevision]) -> str:
    if is_set(revision, "revisionName"):
        wanted = text(revision, "revisionName")
        found = any(one.metadata.name == wanted for one in kept)
        return "" if found else f'controllerrevisions.apps "{wanted}" not found'
    labelled = {REVISION_SET_LABEL: name, CUSTOM_VERSION_LABEL: text(revision, "customVersion")}
    found = any(labelled.items() <= one.metadata.labels.items() for one in kept)
    return "" if found else f'ControllerRevision.apps "{name}" not found'


def _strategy_errors(strategy: Node, path: str) -> list[FieldError]:
    errors = []
    if is_set(strategy, "selector"):
        if strategy.get("partition") not in (None, 0):
            detail = "Partition and Selector cannot be used together"
            errors.append(invalid("updateStrategy", Plain("updateStrategy"), detail))
        errors += _selector_errors(child(strategy, "selector") or {}, f"{path}.selector")
    for name in ("partition", "maxUnavailable"):
        errors += _amount_errors(strategy.get(name), f"{path}.{name}")
    if problem := priority_problem(child(strategy, "priorityStrategy") or {}):
        errors.append(required(f"{path}.priorityStrategy", problem))
    if problem := _scatter_problem(items(strategy, "scatterStrategy")):
        errors.append(required(f"{path}.scatterStrategy", problem))
    return errors


def _amount_errors(amount: Any, path: str) -> list[FieldError]:
    """Return what is wrong with a number or percentage of pods. 0 is allowed, and so is more than all."""
    if isinstance(amount, str):
        return [invalid(path, amount, found) for found in labels.percent(amount)]
    if isinstance(amount, int) and amount < 0:
        return [invalid(path, amount, "must be greater than or equal to 0")]
    return []


def _scatter_problem(terms: list[Node]) -> str:
    seen: set[str] = set()
    for term in terms:
        key, value = text(term, "key"), text(term, "value")
        if not key:
            return "key should not be empty"
        if f"{key}:{value}" in seen:
            return f"duplicated key={key} value={value}"
        seen.add(f"{key}:{value}")
    return ""


# ---- containers ------------------------------------------------------------------------------------------------------


def _container_errors(init: list[Node], containers: list[Node]) -> list[FieldError]:
    errors = []
    for index, container in enumerate(init):
        errors += resources_policy_errors(container, f"spec[{index}].resourcesPolicy", init=True)
    for index, container in enumerate(containers):
        errors += _sidecar_errors(container)
        for entry in items(container, "transferEnv"):
            reference = child(child(entry, "sourceContainerNameFrom"), "fieldRef")
            if reference is not None:
                errors += _reference_errors(reference, f"spec[{index}].transferEnv.fieldRef")
        errors += resources_policy_errors(container, f"spec[{index}].resourcesPolicy", init=False)
    return errors


def _sidecar_errors(container: Node) -> list[FieldError]:
    errors = []
    path = "spec.container"
    if (policy := text(container, "podInjectPolicy")) not in (BEFORE_APP_CONTAINER, AFTER_APP_CONTAINER):
        errors.append(invalid(f"{path}.podInjectPolicy", policy, "unsupported pod inject policy"))
    upgrade = child(container, "upgradeStrategy")
    if text(upgrade, "upgradeType") == HOT_UPGRADE and not text(upgrade, "hotUpgradeEmptyImage"):
        detail = "HotUpgrade needs an image for the twin that does not serve"
        errors.append(required(f"{path}.upgradeStrategy.hotUpgradeEmptyImage", detail))
    if text(child(container, "shareVolumePolicy"), "type") not in (SHARE_ENABLED, SHARE_DISABLED):
        shown = Plain("shareVolumePolicy")
        errors.append(invalid(f"{path}.shareVolumePolicy", shown, "unsupported share volume policy"))
    return errors


def _reference_errors(reference: Node, path: str) -> list[FieldError]:
    """Return what is wrong with a reference to a label or annotation of the pod."""
    version, field_path = text(reference, "apiVersion"), text(reference, "fieldPath")
    for name, value in (("apiVersion", version), ("fieldPath", field_path)):
        if not value:
            return [required(f"{path}.{name}")]
    head, subscript, key = field_path.removesuffix("']").partition("['")
    problem = ""
    if version != "v1":
        problem = f"unsupported pod version: {version}"
    elif not head or not subscript or not field_path.endswith("']"):
        problem = f"field label not supported: {field_path}"
    elif head not in _FIELDS:
        problem = f"field label does not support subscript: {field_path}"
    if problem:
        return [invalid(f"{path}.fieldPath", field_path, f"error converting fieldPath: {problem}")]
    key = key.lower() if head == "metadata.annotations" else key
    return [invalid(path, key, found) for found in labels.qualified_name(key)]


def _pod_errors(init: list[Node], containers: list[Node], volumes: list[Node]) -> list[FieldError]:
    """Return what the API server would say of a pod of these containers and volumes alone."""
    pod: Node = {
        "restartPolicy": "Always",
        "dnsPolicy": "ClusterFirst",
        "terminationGracePeriodSeconds": 30,
        "schedulerName": "default-scheduler",
        "securityContext": {},
        "initContainers": init,
        "containers": containers or [_STAND_IN],
        "volumes": volumes,
    }
    return validate_pod_spec(pod, "spec")


# ---- metadata of pods ------------------------------------------------------------------------------------------------


def _metadata_errors(meta: Node, patches: list[Node], around: Surroundings) -> list[FieldError]:
    path = "spec.patchPodMetadata"
    keys = [key for patch in patches for key in child(patch, "annotations") or {}]
    errors = []
    if patches:
        problem = white_list_problem(
            child(meta, "labels") or {}, keys, around.white_list, allowed_by_default=around.metadata_allowed
        )
        if problem:
            errors.append(required(path, problem))
    return errors + list(_patch_errors(patches, path))


def _patch_errors(patches: list[Node], path: str) -> Iterator[FieldError]:
    seen: set[str] = set()
    for patch in patches:
        annotations = child(patch, "annotations") or {}
        if annotations:
            yield from labels.validate_annotations(annotations, "patchPodMetadata.annotations")
        else:
            yield required(path, "no annotations defined for SidecarSet")
        if not text(patch, "patchPolicy"):
            yield required(path, "no patchPolicy defined for patchPodMetadata")
        for key in sorted(annotations):
            if key in seen:
                yield required(path, f"patch annotation[{key}] already exist")
            seen.add(key)


# ---- update ----------------------------------------------------------------------------------------------------------


def _change_errors(spec: Node, old: Node) -> list[FieldError]:
    """Return what the containers of a set may not become: their upgrade is written for those that pods have."""
    known = {text(one, "name"): text(child(one, "upgradeStrategy"), "upgradeType") for one in items(old, "containers")}
    errors = []
    for container in items(spec, "containers"):
        name, kind = text(container, "name"), text(child(container, "upgradeStrategy"), "upgradeType")
        if name not in known:
            errors.append(invalid("spec.containers.name", name, f"container {name} is not found"))
        elif known[name] and known[name] != kind:
            at = "spec.containers.upgradeStrategy.upgradeType"
            errors.append(invalid(at, name, f"container {name} upgradeType is immutable"))
    return errors
