"""Validation of a whole pod template.

Purpose: the order of all checks, and those that belong to the pod as a whole.

Guarantees: the errors of Kubernetes 1.32 with the lenient options of the Go manager (a bad pod-deletion-cost,
indivisible huge pages, label values that no label can have, selectors of topology spread are tolerated) and its strict
ones (old rule for environment variables, no sleep of 0 seconds, strict DNS search paths). A template whose fields have
wrong types gets those errors alone: the server could not even have read it.

What this does not do: it completes nothing. Callers that take objects from users default them first.
"""

from __future__ import annotations

import json
from typing import Any, Final

from kruise.apis import labels
from kruise.apis.core_fields import type_errors
from kruise.apis.fielderrors import FieldError, Plain, duplicate, forbidden, invalid, not_supported, required
from kruise.apis.podtemplate.containers import (
    PodFacts,
    validate_containers,
    validate_ephemeral_containers,
    validate_init_containers,
)
from kruise.apis.podtemplate.fields import Node, child, flag, is_set, items, number, optional_number, text, texts
from kruise.apis.podtemplate.resources import validate_requirements
from kruise.apis.podtemplate.scheduling import (
    validate_affinity,
    validate_label_name,
    validate_scheduling_gates,
    validate_spread,
    validate_tolerations,
)
from kruise.apis.podtemplate.security import (
    validate_annotated_profiles,
    validate_pod_context,
    validate_profile_annotations,
)
from kruise.apis.podtemplate.systems import (
    validate_host_process,
    validate_host_users,
    validate_linux,
    validate_windows,
)
from kruise.apis.podtemplate.volumes import validate_volumes

__all__ = ["validate_pod_annotations", "validate_pod_spec", "validate_pod_template"]

POD_TEMPLATE: Final = "core.v1.PodTemplateSpec"
"""The name of the type in the core-fields table."""
_MIRROR: Final = "kubernetes.io/config.mirror"
_TOLERATIONS: Final = "scheduler.alpha.kubernetes.io/tolerations"
_RESTART_POLICIES: Final = ("Always", "OnFailure", "Never")
_DNS_POLICIES: Final = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_PREEMPTION: Final = ("PreemptLowerPriority", "Never")
_MAX_NAMESERVERS: Final = 3
_MAX_SEARCHES: Final = 32
_MAX_SEARCH_CHARS: Final = 2048
_MAX_INT32: Final = 2**31 - 1


def validate_pod_template(template: dict[str, Any], path: str) -> list[FieldError]:
    """Validate a defaulted pod template at *path* (``spec.template``); an empty list means that it is valid."""
    wrong_types = type_errors(template, POD_TEMPLATE, path)
    if wrong_types:
        return wrong_types
    metadata, spec = child(template, "metadata"), child(template, "spec") or {}
    annotations = child(metadata, "annotations") or {}
    at = f"{path}.annotations"
    errors = labels.validate_labels(child(metadata, "labels"), f"{path}.labels")
    errors += labels.validate_annotations(annotations, at)
    errors += validate_pod_annotations(annotations, spec, at)
    errors += validate_pod_spec(spec, f"{path}.spec")
    errors += validate_annotated_profiles(annotations, spec, f"{path}.spec")
    if items(spec, "ephemeralContainers"):
        detail = "ephemeral containers not allowed in pod template"
        errors.append(forbidden(f"{path}.spec.ephemeralContainers", detail))
    return errors


def validate_pod_annotations(annotations: Node, spec: Node, path: str) -> list[FieldError]:
    """Validate the annotations of a template that mean something to a kubelet; *path* is that of the annotations."""
    errors: list[FieldError] = []
    if _MIRROR in annotations and not text(spec, "nodeName"):
        detail = "must set spec.nodeName if mirror pod annotation is set"
        errors.append(invalid(f"{path}[{_MIRROR}]", text(annotations, _MIRROR), detail))
    if encoded := text(annotations, _TOLERATIONS):
        try:
            listed = json.loads(encoded)
        except ValueError as error:
            return [*errors, invalid(path, _TOLERATIONS, str(error))]
        if isinstance(listed, list):
            tolerations = [item if isinstance(item, dict) else {} for item in listed]
            errors += validate_tolerations(tolerations, f"{path}.{_TOLERATIONS}")
    return errors + validate_profile_annotations(annotations, spec, path)


def validate_pod_spec(spec: Node, path: str) -> list[FieldError]:
    """Validate the spec of a pod template at *path*."""
    grace = optional_number(spec, "terminationGracePeriodSeconds")
    errors = [required(f"{path}.terminationGracePeriodSeconds")] if grace is None else []
    volumes, found = validate_volumes(items(spec, "volumes"), f"{path}.volumes")
    errors += found
    claims = items(spec, "resourceClaims")
    errors += _validate_claims(claims, f"{path}.resourceClaims")
    facts = PodFacts(
        volumes=volumes,
        claim_names={name for claim in claims if (name := text(claim, "name"))},
        grace=grace,
        restart_policy=text(spec, "restartPolicy"),
        host_users=spec.get("hostUsers") is not False,
    )
    containers, init = items(spec, "containers"), items(spec, "initContainers")
    errors += validate_containers(containers, facts, f"{path}.containers")
    errors += validate_init_containers(init, containers, facts, f"{path}.initContainers")
    ephemeral = items(spec, "ephemeralContainers")
    errors += validate_ephemeral_containers(ephemeral, containers + init, facts, f"{path}.ephemeralContainers")
    errors += _validate_host_network(spec, path)
    errors += _validate_policies(spec, path)
    errors += labels.validate_labels(child(spec, "nodeSelector"), f"{path}.nodeSelector")
    errors += validate_pod_context(child(spec, "securityContext"), spec, f"{path}.securityContext")
    errors += validate_affinity(child(spec, "affinity"), f"{path}.affinity")
    errors += _validate_dns(child(spec, "dnsConfig"), text(spec, "dnsPolicy"), f"{path}.dnsConfig")
    for i, gate in enumerate(items(spec, "readinessGates")):
        errors += validate_label_name(text(gate, "conditionType"), f"{path}.readinessGates[{i}].conditionType")
    errors += validate_scheduling_gates(items(spec, "schedulingGates"), f"{path}.schedulingGates")
    errors += validate_spread(items(spec, "topologySpreadConstraints"), f"{path}.topologySpreadConstraints")
    errors += validate_host_process(spec, path)
    errors += validate_host_users(spec, path)
    return errors + _validate_rest(spec, path)


def _validate_claims(claims: list[Node], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    names: set[str] = set()
    for i, claim in enumerate(claims):
        at, name = f"{path}[{i}]", text(claim, "name")
        if not name:
            errors.append(required(f"{at}.name"))
        elif name in names:
            errors.append(duplicate(f"{at}.name", name))
        else:
            errors += [invalid(f"{at}.name", name, complaint) for complaint in labels.dns1123_label(name)]
            names.add(name)
        given = [key for key in ("resourceClaimName", "resourceClaimTemplateName") if is_set(claim, key)]
        if len(given) == 2:
            detail = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            errors.append(invalid(at, Plain("claim"), detail))
        elif not given:
            detail = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
            errors.append(invalid(at, Plain("claim"), detail))
        for key in given:
            value = text(claim, key)
            errors += [invalid(f"{at}.{key}", value, complaint) for complaint in labels.dns1123_subdomain(value)]
    return errors


def _validate_host_network(spec: Node, path: str) -> list[FieldError]:
    if not flag(spec, "hostNetwork"):
        return []
    detail = "must match `containerPort` when `hostNetwork` is true"
    return [
        invalid(f"{path}.containers[{i}].ports[{n}].hostPort", host_port, detail)
        for i, container in enumerate(items(spec, "containers"))
        for n, port in enumerate(items(container, "ports"))
        if (host_port := number(port, "hostPort")) not in (0, number(port, "containerPort"))
    ]


def _enumerated(spec: Node, key: str, allowed: tuple[str, ...], path: str) -> list[FieldError]:
    value = text(spec, key)
    if not value:
        return [required(f"{path}.{key}")]
    return [] if value in allowed else [not_supported(f"{path}.{key}", value, allowed)]


def _validate_policies(spec: Node, path: str) -> list[FieldError]:
    errors = _enumerated(spec, "restartPolicy", _RESTART_POLICIES, path)
    return errors + _enumerated(spec, "dnsPolicy", _DNS_POLICIES, path)


def _validate_dns(config: Node | None, policy: str, path: str) -> list[FieldError]:
    servers, searches = texts(config, "nameservers"), texts(config, "searches")
    if policy == "None":
        if config is None:
            return [required(path, "must provide `dnsConfig` when `dnsPolicy` is None")]
        if not servers:
            detail = "must provide at least one DNS nameserver when `dnsPolicy` is None"
            return [required(f"{path}.nameservers", detail)]
    errors: list[FieldError] = []
    if len(servers) > _MAX_NAMESERVERS:
        detail = f"must not have more than {_MAX_NAMESERVERS} nameservers"
        errors.append(invalid(f"{path}.nameservers", servers, detail))
    for i, server in enumerate(servers):
        errors += [invalid(f"{path}.nameservers[{i}]", server, found) for found in labels.ip_address(server)]
    if len(searches) > _MAX_SEARCHES:
        detail = f"must not have more than {_MAX_SEARCHES} search paths"
        errors.append(invalid(f"{path}.searches", searches, detail))
    if len(" ".join(searches).encode()) > _MAX_SEARCH_CHARS:
        detail = f"must not have more than {_MAX_SEARCH_CHARS} characters (including spaces) in the search list"
        errors.append(invalid(f"{path}.searches", searches, detail))
    for i, search in enumerate(searches):
        name = search.removesuffix(".")
        errors += [invalid(f"{path}.searches[{i}]", name, found) for found in labels.dns1123_subdomain(name)]
    for i, option in enumerate(items(config, "options")):
        if not text(option, "name"):
            errors.append(required(f"{path}.options[{i}]", "must not be empty"))
    return errors


def _named(spec: Node, key: str, rule: labels.NameRule, path: str) -> list[FieldError]:
    value = text(spec, key)
    return [invalid(f"{path}.{key}", value, complaint) for complaint in rule(value)] if value else []


def _validate_rest(spec: Node, path: str) -> list[FieldError]:
    account = text(spec, "serviceAccountName") or text(spec, "serviceAccount")
    errors = _named({"serviceAccountName": account}, "serviceAccountName", labels.dns1123_subdomain, path)
    errors += _named(spec, "nodeName", labels.dns1123_subdomain, path)
    deadline = optional_number(spec, "activeDeadlineSeconds")
    if deadline is not None:
        complaints = labels.in_range(deadline, 1, _MAX_INT32)
        errors += [invalid(f"{path}.activeDeadlineSeconds", deadline, complaint) for complaint in complaints]
    errors += _named(spec, "hostname", labels.dns1123_label, path)
    errors += _named(spec, "subdomain", labels.dns1123_label, path)
    errors += validate_tolerations(items(spec, "tolerations"), f"{path}.tolerations")
    for i, alias in enumerate(items(spec, "hostAliases")):
        at, address = f"{path}.hostAliases[{i}]", text(alias, "ip")
        errors += [invalid(f"{at}.ip", address, complaint) for complaint in labels.ip_address(address)]
        for n, name in enumerate(texts(alias, "hostnames")):
            complaints = labels.dns1123_subdomain(name)
            errors += [invalid(f"{at}.hostnames[{n}]", name, complaint) for complaint in complaints]
    errors += _named(spec, "priorityClassName", labels.dns1123_subdomain, path)
    if is_set(spec, "runtimeClassName"):
        name = text(spec, "runtimeClassName")
        complaints = labels.dns1123_subdomain(name)
        errors += [invalid(f"{path}.runtimeClassName", name, complaint) for complaint in complaints]
    if is_set(spec, "preemptionPolicy"):
        errors += _enumerated(spec, "preemptionPolicy", _PREEMPTION, path)
    if is_set(spec, "overhead"):
        errors += validate_requirements({"limits": spec["overhead"]}, set(), f"{path}.overhead")
    return errors + _validate_os(spec, path)


def _validate_os(spec: Node, path: str) -> list[FieldError]:
    system = child(spec, "os")
    if system is None:
        return []
    name = text(system, "name")
    if not name:
        return [required(f"{path}.os.name", "cannot be empty")]
    if name not in ("linux", "windows"):
        return [not_supported(f"{path}.os", name, ("linux", "windows"))]
    return validate_linux(spec, path) if name == "linux" else validate_windows(spec, path)
