"""Validation of containers: ordinary, init, restartable init, ephemeral.

Purpose: everything that stands in one container, and what must be unique over several.

Guarantees: probes and hooks are for ordinary containers and for init containers with the restart policy ``Always``.

What this does not do: it does not check that an image exists or is spelled well; only that one is named.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from kruise.apis import labels
from kruise.apis.fielderrors import FieldError, Plain, duplicate, forbidden, invalid, not_found, not_supported, required
from kruise.apis.podtemplate.environment import validate_env, validate_env_from
from kruise.apis.podtemplate.fields import Node, child, flag, is_set, items, number, text
from kruise.apis.podtemplate.handlers import validate_lifecycle, validate_probes
from kruise.apis.podtemplate.resources import validate_requirements
from kruise.apis.podtemplate.security import local_descending_path, no_backsteps, validate_container_context
from kruise.apis.podtemplate.volumes import validate_pull_policy

__all__ = ["PodFacts", "validate_containers", "validate_ephemeral_containers", "validate_init_containers"]

_MESSAGE_POLICIES: Final = ("File", "FallbackToLogsOnError")
_PROTOCOLS: Final = ("SCTP", "TCP", "UDP")
_PROPAGATIONS: Final = ("Bidirectional", "HostToContainer", "None")
_RECURSIVE: Final = ("Disabled", "Enabled", "IfPossible")
_RESIZE_RESOURCES: Final = ("cpu", "memory")
_RESIZE_POLICIES: Final = ("NotRequired", "RestartContainer")
_NOT_EPHEMERAL: Final = (
    "ports",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
)
"""Fields that an ephemeral container may not have, in the order of their declaration."""
_EPHEMERAL_COMPLAINT: Final = "cannot be set for an Ephemeral Container"
_INIT_COMPLAINT: Final = "may not be set for init containers without restartPolicy=Always"


@dataclass(frozen=True, slots=True)
class PodFacts:
    """What the containers need to know of their pod."""

    volumes: dict[str, Node]
    claim_names: set[str]
    grace: int | None
    restart_policy: str
    host_users: bool


def validate_containers(containers: list[Node], facts: PodFacts, path: str) -> list[FieldError]:
    """Validate ordinary containers; at least one must be there."""
    if not containers:
        return [required(path)]
    errors: list[FieldError] = []
    names: set[str] = set()
    for i, container in enumerate(containers):
        at, name = f"{path}[{i}]", text(container, "name")
        errors += _validate_common(container, facts, at)
        if name in names:
            errors.append(duplicate(f"{at}.name", name))
        names.add(name)
        errors += validate_lifecycle(container, facts.grace, at) + validate_probes(container, facts.grace, at)
        if is_set(container, "restartPolicy"):
            errors.append(forbidden(f"{at}.restartPolicy", "may not be set for non-init containers"))
    return errors + _validate_host_ports(containers, path)


def validate_init_containers(
    containers: list[Node], regular: list[Node], facts: PodFacts, path: str
) -> list[FieldError]:
    """Validate init containers, whose names must differ from those of the *regular* ones too."""
    errors: list[FieldError] = []
    names = {text(container, "name") for container in regular}
    for i, container in enumerate(containers):
        at, name = f"{path}[{i}]", text(container, "name")
        errors += _validate_common(container, facts, at)
        policy = text(container, "restartPolicy")
        if is_set(container, "restartPolicy") and policy != "Always":
            errors.append(not_supported(f"{at}.restartPolicy", policy, ("Always",)))
        if name in names:
            errors.append(duplicate(f"{at}.name", name))
        elif name:
            names.add(name)
        errors += _validate_host_ports([container], path)
        if policy == "Always":
            errors += validate_lifecycle(container, facts.grace, at) + validate_probes(container, facts.grace, at)
        else:
            errors += [
                forbidden(f"{at}.{key}", _INIT_COMPLAINT)
                for key in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe")
                if is_set(container, key)
            ]
        if container.get("resizePolicy"):
            shown = Plain("resizePolicy")
            errors.append(invalid(f"{at}.resizePolicy", shown, "must not be set for init containers"))
    return errors


def validate_ephemeral_containers(
    containers: list[Node], others: list[Node], facts: PodFacts, path: str
) -> list[FieldError]:
    """Validate ephemeral containers (a template may not have any, but their own errors come first)."""
    errors: list[FieldError] = []
    other_names = {text(container, "name") for container in others}
    names = set(other_names)
    for i, container in enumerate(containers):
        at, name = f"{path}[{i}]", text(container, "name")
        errors += _validate_common(container, facts, at)
        image = text(container, "image")
        if image.strip() != image:
            errors.append(invalid(f"{at}.image", image, "must not have leading or trailing whitespace"))
        if name in names:
            errors.append(duplicate(f"{at}.name", name))
        names.add(name)
        target = text(container, "targetContainerName")
        if target and target not in other_names:
            errors.append(not_found(f"{at}.targetContainerName", target))
        errors += [
            forbidden(f"{at}.{key}", _EPHEMERAL_COMPLAINT) for key in _NOT_EPHEMERAL if _given(container.get(key), key)
        ]
        for n, mount in enumerate(items(container, "volumeMounts")):
            errors += [
                forbidden(f"{at}.volumeMounts[{n}].{key}", _EPHEMERAL_COMPLAINT)
                for key in ("subPath", "subPathExpr")
                if text(mount, key)
            ]
    return errors


def _given(value: Any, key: str) -> bool:
    """Whether a field is more than its zero value: an empty list counts, an empty resources object does not."""
    if key == "resources":
        return isinstance(value, dict) and any(item is not None for item in value.values())
    return value is not None


# ---- what every container has ----------------------------------------------------------------------------------------


def _validate_common(container: Node, facts: PodFacts, path: str) -> list[FieldError]:
    name = text(container, "name")
    errors = [] if name else [required(f"{path}.name")]
    if name:
        errors += [invalid(f"{path}.name", name, found) for found in labels.dns1123_label(name)]
    if not text(container, "image"):
        errors.append(required(f"{path}.image"))
    policy = text(container, "terminationMessagePolicy")
    if not policy:
        errors.append(required(f"{path}.terminationMessagePolicy"))
    elif policy not in _MESSAGE_POLICIES:
        errors.append(not_supported(f"{path}.terminationMessagePolicy", policy, _MESSAGE_POLICIES))
    errors += _validate_ports(items(container, "ports"), f"{path}.ports")
    errors += validate_env(items(container, "env"), f"{path}.env")
    errors += validate_env_from(items(container, "envFrom"), f"{path}.envFrom")
    errors += _validate_mounts(container, facts.volumes, f"{path}.volumeMounts")
    errors += _validate_devices(container, facts.volumes, f"{path}.volumeDevices")
    errors += validate_pull_policy(text(container, "imagePullPolicy"), f"{path}.imagePullPolicy")
    errors += validate_requirements(child(container, "resources"), facts.claim_names, f"{path}.resources")
    resize = items(container, "resizePolicy")
    errors += _validate_resize(resize, facts.restart_policy, f"{path}.resizePolicy")
    return errors + validate_container_context(container, facts.host_users, f"{path}.securityContext")


def _validate_ports(ports: list[Node], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    names: set[str] = set()
    for i, port in enumerate(ports):
        at, name = f"{path}[{i}]", text(port, "name")
        if name:
            if complaints := labels.port_name(name):
                errors += [invalid(f"{at}.name", name, found) for found in complaints]
            elif name in names:
                errors.append(duplicate(f"{at}.name", name))
            else:
                names.add(name)
        container_port, host_port = number(port, "containerPort"), number(port, "hostPort")
        if container_port == 0:
            errors.append(required(f"{at}.containerPort"))
        else:
            complaints = labels.port_number(container_port)
            errors += [invalid(f"{at}.containerPort", container_port, found) for found in complaints]
        if host_port != 0:
            errors += [invalid(f"{at}.hostPort", host_port, found) for found in labels.port_number(host_port)]
        protocol = text(port, "protocol")
        if not protocol:
            errors.append(required(f"{at}.protocol"))
        elif protocol not in _PROTOCOLS:
            errors.append(not_supported(f"{at}.protocol", protocol, _PROTOCOLS))
    return errors


def _validate_host_ports(containers: list[Node], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for i, container in enumerate(containers):
        for n, port in enumerate(items(container, "ports")):
            host_port = number(port, "hostPort")
            if host_port == 0:
                continue
            taken = f"{text(port, 'protocol')}/{text(port, 'hostIP')}/{host_port}"
            if taken in seen:
                errors.append(duplicate(f"{path}[{i}].ports[{n}].hostPort", taken))
            seen.add(taken)
    return errors


def _validate_mounts(container: Node, volumes: dict[str, Node], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    devices = {text(device, "name"): text(device, "devicePath") for device in items(container, "volumeDevices")}
    seen: set[str] = set()
    for i, mount in enumerate(items(container, "volumeMounts")):
        at, name, target = f"{path}[{i}]", text(mount, "name"), text(mount, "mountPath")
        if not name:
            errors.append(required(f"{at}.name"))
        if name not in volumes:
            errors.append(not_found(f"{at}.name", name))
        if not target:
            errors.append(required(f"{at}.mountPath"))
        if target in seen:
            errors.append(invalid(f"{at}.mountPath", target, "must be unique"))
        seen.add(target)
        if name in devices:
            errors.append(invalid(f"{at}.name", name, "must not already exist in volumeDevices"))
        if target in devices.values():
            errors.append(invalid(f"{at}.mountPath", target, "must not already exist as a path in volumeDevices"))
        errors += _validate_sub_paths(mount, child(volumes.get(name), "image") is not None, at, path)
        errors += _validate_propagation(mount, container, path)
    return errors


def _validate_sub_paths(mount: Node, of_image: bool, path: str, list_path: str) -> list[FieldError]:
    sub_path, expression = text(mount, "subPath"), text(mount, "subPathExpr")
    errors: list[FieldError] = []
    if of_image:
        errors += [
            invalid(f"{path}.{key}", value, "not allowed in image volume sources")
            for key, value in (("subPath", sub_path), ("subPathExpr", expression))
            if value
        ]
    if sub_path:
        errors += local_descending_path(sub_path, f"{list_path}.subPath")
    if expression:
        if sub_path:
            errors.append(invalid(f"{path}.subPathExpr", expression, "subPathExpr and subPath are mutually exclusive"))
        errors += local_descending_path(expression, f"{list_path}.subPathExpr")
    return errors


def _validate_propagation(mount: Node, container: Node, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    propagation, at = text(mount, "mountPropagation"), f"{path}.mountPropagation"
    if is_set(mount, "mountPropagation"):
        if propagation not in _PROPAGATIONS:
            errors.append(not_supported(at, propagation, _PROPAGATIONS))
        if propagation == "Bidirectional" and not flag(child(container, "securityContext"), "privileged"):
            detail = "Bidirectional mount propagation is available only to privileged containers"
            errors.append(forbidden(at, detail))
    if not is_set(mount, "recursiveReadOnly"):
        return errors
    recursive, at = text(mount, "recursiveReadOnly"), f"{path}.recursiveReadOnly"
    if recursive not in _RECURSIVE:
        errors.append(not_supported(at, recursive, _RECURSIVE))
    elif recursive != "Disabled":
        if not flag(mount, "readOnly"):
            errors.append(forbidden(at, "may only be specified when readOnly is true"))
        if is_set(mount, "mountPropagation") and propagation != "None":
            errors.append(forbidden(at, "may only be specified when mountPropagation is None or not specified"))
    return errors


def _validate_devices(container: Node, volumes: dict[str, Node], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    mounts = {text(mount, "name"): text(mount, "mountPath") for mount in items(container, "volumeMounts")}
    names: set[str] = set()
    paths: set[str] = set()
    for i, device in enumerate(items(container, "volumeDevices")):
        at, name, target = f"{path}[{i}]", text(device, "name"), text(device, "devicePath")
        volume = volumes.get(name)
        if not name:
            errors.append(required(f"{at}.name"))
        if name in names:
            errors.append(invalid(f"{at}.name", name, "must be unique"))
        if volume is None:
            errors.append(not_found(f"{at}.name", name))
        elif not is_set(volume, "persistentVolumeClaim") and not is_set(volume, "ephemeral"):
            detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
            errors.append(invalid(f"{at}.name", name, detail))
        if not target:
            errors.append(required(f"{at}.devicePath"))
        if target in paths:
            errors.append(invalid(f"{at}.devicePath", target, "must be unique"))
        if no_backsteps(target, at):
            errors.append(invalid(f"{at}.devicePath", target, "can not contain backsteps ('..')"))
        else:
            paths.add(target)
        if name in mounts:
            errors.append(invalid(f"{at}.name", name, "must not already exist in volumeMounts"))
        if target in mounts.values():
            errors.append(invalid(f"{at}.devicePath", target, "must not already exist as a path in volumeMounts"))
        if name:
            names.add(name)
    return errors


def _validate_resize(policies: list[Node], pod_restart_policy: str, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for i, policy in enumerate(policies):
        resource, restart = text(policy, "resourceName"), text(policy, "restartPolicy")
        if resource in seen:
            errors.append(duplicate(f"{path}[{i}]", Plain(resource)))
        seen.add(resource)
        if not resource:
            errors.append(required(path))
        elif resource not in _RESIZE_RESOURCES:
            errors.append(not_supported(path, Plain(resource), _RESIZE_RESOURCES))
        if not restart:
            errors.append(required(path))
        elif restart not in _RESIZE_POLICIES:
            errors.append(not_supported(path, restart, _RESIZE_POLICIES))
        if pod_restart_policy == "Never" and restart != "NotRequired":
            detail = "must be 'NotRequired' when `restartPolicy` is 'Never'"
            errors.append(invalid(path, restart, detail))
    return errors
