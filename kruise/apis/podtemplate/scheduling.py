"""Validation of what decides where a pod may run.

Purpose: node selectors and affinity, pod affinity, tolerations, topology spread, gates.

Guarantees: label values that no label can have are tolerated in selectors, and selectors of topology spread are not
checked at all: objects with them exist.

What this does not do: it matches nothing; eligibility of nodes belongs to the controllers.
"""

from __future__ import annotations

from typing import Final

from kruise.apis import labels, selectors
from kruise.apis.fielderrors import FieldError, duplicate, forbidden, invalid, not_supported, required
from kruise.apis.podtemplate.fields import Node, child, is_set, items, number, optional_number, text, texts

__all__ = [
    "validate_affinity",
    "validate_label_name",
    "validate_scheduling_gates",
    "validate_spread",
    "validate_tolerations",
]

_REQUIRED_NOW: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED_NOW: Final = "preferredDuringSchedulingIgnoredDuringExecution"
_EFFECTS: Final = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_WITHOUT_SELECTOR: Final = "must not be specified when labelSelector is not set"
_POSITIVE: Final = "must be greater than zero"


def validate_label_name(name: str, path: str) -> list[FieldError]:
    """Validate one label key."""
    return [invalid(path, name, found) for found in labels.qualified_name(name)]


# ---- affinity --------------------------------------------------------------------------------------------------------


def validate_affinity(affinity: Node | None, path: str) -> list[FieldError]:
    """Validate node affinity, pod affinity and pod anti-affinity."""
    errors = _validate_node_affinity(child(affinity, "nodeAffinity"), f"{path}.nodeAffinity")
    for key in ("podAffinity", "podAntiAffinity"):
        part = child(affinity, key)
        for i, term in enumerate(items(part, _REQUIRED_NOW)):
            errors += _validate_pod_term(term, f"{path}.{key}.{_REQUIRED_NOW}[{i}]")
        for i, weighted in enumerate(items(part, _PREFERRED_NOW)):
            at = f"{path}.{key}.{_PREFERRED_NOW}[{i}]"
            errors += _validate_weight(weighted, at)
            errors += _validate_pod_term(child(weighted, "podAffinityTerm") or {}, f"{at}.podAffinityTerm")
    return errors


def _validate_weight(term: Node, path: str) -> list[FieldError]:
    weight = number(term, "weight")
    return [] if 1 <= weight <= 100 else [invalid(f"{path}.weight", weight, "must be in the range 1-100")]


def _validate_node_affinity(affinity: Node | None, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    selector = child(affinity, _REQUIRED_NOW)
    if selector is not None:
        at = f"{path}.{_REQUIRED_NOW}.nodeSelectorTerms"
        terms = items(selector, "nodeSelectorTerms")
        if not terms:
            errors.append(required(at, "must have at least one node selector term"))
        for i, term in enumerate(terms):
            errors += _validate_node_term(term, f"{at}[{i}]")
    for i, preferred in enumerate(items(affinity, _PREFERRED_NOW)):
        at = f"{path}.{_PREFERRED_NOW}[{i}]"
        errors += _validate_weight(preferred, at)
        errors += _validate_node_term(child(preferred, "preference") or {}, f"{at}.preference")
    return errors


def _validate_node_term(term: Node, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for i, item in enumerate(items(term, "matchExpressions")):
        errors += _validate_node_expression(item, f"{path}.matchExpressions[{i}]")
    for i, item in enumerate(items(term, "matchFields")):
        errors += _validate_node_field(item, f"{path}.matchFields[{i}]")
    return errors


def _validate_node_expression(item: Node, path: str) -> list[FieldError]:
    operator, values = text(item, "operator"), texts(item, "values")
    errors: list[FieldError] = []
    if operator in ("In", "NotIn"):
        if not values:
            errors.append(required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            errors.append(forbidden(f"{path}.values", detail))
    elif operator in ("Gt", "Lt"):
        if len(values) != 1:
            detail = "must be specified single value when `operator` is 'Lt' or 'Gt'"
            errors.append(required(f"{path}.values", detail))
    else:
        errors.append(invalid(f"{path}.operator", operator, "not a valid selector operator"))
    return errors + validate_label_name(text(item, "key"), f"{path}.key")


def _validate_node_field(item: Node, path: str) -> list[FieldError]:
    operator, values, key = text(item, "operator"), texts(item, "values"), text(item, "key")
    errors: list[FieldError] = []
    if operator not in ("In", "NotIn"):
        errors.append(invalid(f"{path}.operator", operator, "not a valid selector operator"))
    elif len(values) != 1:
        detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
        errors.append(required(f"{path}.values", detail))
    if key != "metadata.name":
        errors.append(invalid(f"{path}.key", key, "not a valid field selector key"))
        return errors
    for i, value in enumerate(values):
        errors += [invalid(f"{path}.values[{i}]", value, found) for found in labels.dns1123_subdomain(value)]
    return errors


def _validate_pod_term(term: Node, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for key in ("labelSelector", "namespaceSelector"):
        errors += selectors.validate(child(term, key), f"{path}.{key}", allow_invalid_values=True)
    for name in texts(term, "namespaces"):
        errors += [invalid(f"{path}.namespace", name, found) for found in labels.dns1123_label(name)]
    errors += _validate_label_keys(term, path)
    topology_key = text(term, "topologyKey")
    if not topology_key:
        errors.append(required(f"{path}.topologyKey", "can not be empty"))
    return errors + validate_label_name(topology_key, f"{path}.topologyKey")


def _validate_label_keys(term: Node, path: str) -> list[FieldError]:
    selector = child(term, "labelSelector")
    errors: list[FieldError] = []
    for field in ("matchLabelKeys", "mismatchLabelKeys"):
        keys = texts(term, field)
        if keys and selector is None:
            errors.append(forbidden(f"{path}.{field}", _WITHOUT_SELECTOR))
        elif keys:
            for i, key in enumerate(keys):
                errors += validate_label_name(key, f"{path}.{field}[{i}]")
    match_keys, mismatch_keys = texts(term, "matchLabelKeys"), set(texts(term, "mismatchLabelKeys"))
    if selector is not None:
        # An expression that the server itself added for a key is no clash; a second mention of the same key is.
        position = {key: i for i, key in enumerate(match_keys)}
        seen = set(child(selector, "matchLabels") or {})
        for expression in items(selector, "matchExpressions"):
            key = text(expression, "key")
            if key in position and key in seen:
                at = f"{path}[{position[key]}]"
                errors.append(invalid(at, key, "exists in both matchLabelKeys and labelSelector"))
            seen.add(key)
    errors += [
        invalid(f"{path}.matchLabelKeys[{i}]", key, "exists in both matchLabelKeys and mismatchLabelKeys")
        for i, key in enumerate(match_keys)
        if key in mismatch_keys
    ]
    return errors


# ---- taints, spread, gates -------------------------------------------------------------------------------------------


def validate_tolerations(tolerations: list[Node], path: str) -> list[FieldError]:
    """Validate tolerations."""
    errors: list[FieldError] = []
    for i, toleration in enumerate(tolerations):
        at = f"{path}[{i}]"
        key, operator, value = text(toleration, "key"), text(toleration, "operator"), text(toleration, "value")
        effect = text(toleration, "effect")
        if key:
            errors += validate_label_name(key, f"{at}.key")
        elif operator != "Exists":
            detail = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
            errors.append(invalid(f"{at}.operator", operator, detail))
        if is_set(toleration, "tolerationSeconds") and effect != "NoExecute":
            detail = "effect must be 'NoExecute' when `tolerationSeconds` is set"
            errors.append(invalid(f"{at}.effect", effect, detail))
        if operator in ("Equal", ""):
            if found := labels.label_value(value):
                errors.append(invalid(f"{at}.operator", value, ";".join(found)))
        elif operator == "Exists":
            if value:
                errors.append(invalid(f"{at}.operator", value, "value must be empty when `operator` is 'Exists'"))
        else:
            errors.append(not_supported(f"{at}.operator", operator, ("Equal", "Exists")))
        if effect and effect not in _EFFECTS:
            errors.append(not_supported(f"{at}.effect", effect, _EFFECTS))
    return errors


def validate_scheduling_gates(gates: list[Node], path: str) -> list[FieldError]:
    """Validate scheduling gates: qualified names, each once."""
    errors: list[FieldError] = []
    seen: set[str] = set()
    for i, gate in enumerate(gates):
        name = text(gate, "name")
        errors += validate_label_name(name, f"{path}[{i}]")
        if name in seen:
            errors.append(duplicate(f"{path}[{i}]", name))
        seen.add(name)
    return errors


def validate_spread(constraints: list[Node], path: str) -> list[FieldError]:
    """Validate topology spread constraints. A repeated pair is reported where it stands first."""
    errors: list[FieldError] = []
    pairs = [(text(item, "topologyKey"), text(item, "whenUnsatisfiable")) for item in constraints]
    for i, constraint in enumerate(constraints):
        at = f"{path}[{i}]"
        topology_key, action = pairs[i]
        if (skew := number(constraint, "maxSkew")) <= 0:
            errors.append(invalid(f"{at}.maxSkew", skew, _POSITIVE))
        if not topology_key:
            errors.append(required(f"{at}.topologyKey", "can not be empty"))
        if action not in ("DoNotSchedule", "ScheduleAnyway"):
            errors.append(not_supported(f"{at}.whenUnsatisfiable", action, ("DoNotSchedule", "ScheduleAnyway")))
        if pairs[i] in pairs[i + 1 :]:
            errors.append(duplicate(f"{at}.{{topologyKey, whenUnsatisfiable}}", f"{{{topology_key}, {action}}}"))
        errors += _validate_min_domains(constraint, action, f"{at}.minDomains")
        for key in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
            if is_set(constraint, key) and text(constraint, key) not in ("Honor", "Ignore"):
                errors.append(not_supported(f"{at}.{key}", text(constraint, key), ("Honor", "Ignore")))
        errors += _validate_spread_keys(constraint, f"{at}.matchLabelKeys")
    return errors


def _validate_min_domains(constraint: Node, action: str, path: str) -> list[FieldError]:
    domains = optional_number(constraint, "minDomains")
    if domains is None:
        return []
    errors = [invalid(path, domains, _POSITIVE)] if domains <= 0 else []
    if action != "DoNotSchedule":
        detail = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
        errors.append(invalid(path, domains, detail))
    return errors


def _validate_spread_keys(constraint: Node, path: str) -> list[FieldError]:
    keys = texts(constraint, "matchLabelKeys")
    if not keys:
        return []
    selector = child(constraint, "labelSelector")
    errors = [] if selector is not None else [forbidden(path, _WITHOUT_SELECTOR)]
    taken = set(child(selector, "matchLabels") or {})
    taken |= {text(item, "key") for item in items(selector, "matchExpressions")}
    for i, key in enumerate(keys):
        errors += validate_label_name(key, f"{path}[{i}]")
        if key in taken:
            errors.append(invalid(f"{path}[{i}]", key, "exists in both matchLabelKeys and labelSelector"))
    return errors
