"""The two hashes of a SidecarSet, byte for byte those of OpenKruise (spec/sidecarset 3).

Purpose: pods carry the hash of the set that they were injected from. A different hash of the same containers would make
every pod of a cluster outdated, and a different hash without images would make them non-upgradable.

Guarantees:

* The hashed text is what Go's encoder writes for its typed containers: its order of fields, what it leaves out, its
  spelling of quantities, its escapes. Fields that OpenKruise's types lack do not count.
* ``containers`` absent, empty and filled are three texts; init containers count, all of them, as soon as one is native.
* Nothing here fails on a value of a wrong type: it is hashed as it is, and refused elsewhere.

What this does not do: it applies no defaults. Admission hashes what it has completed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from kruise.apis import gojson
from kruise.apis.core_fields import fields
from kruise.apis.go_encoding import canonical
from kruise.apis.hashes import safe_encode
from kruise.apis.sidecarset import RESTART_ALWAYS

__all__ = ["canonical_sidecar", "hashed_text", "sidecarset_hashes"]

_CONTAINER: Final = "core.v1.Container"
_FIELD_REF: Final = "core.v1.ObjectFieldSelector"

_ORDER: Final[Mapping[str, tuple[str, ...]]] = {
    name: tuple(names.split())
    for name, names in {
        "Container": (
            "name image command args workingDir ports envFrom env resources resizePolicy restartPolicy volumeMounts "
            "volumeDevices livenessProbe readinessProbe startupProbe lifecycle terminationMessagePath "
            "terminationMessagePolicy imagePullPolicy securityContext stdin stdinOnce tty"
        ),
        "ContainerPort": "name hostPort containerPort protocol hostIP",
        "EnvFromSource": "prefix configMapRef secretRef",
        "ConfigMapEnvSource": "name optional",
        "SecretEnvSource": "name optional",
        "EnvVar": "name value valueFrom",
        "EnvVarSource": "fieldRef resourceFieldRef configMapKeyRef secretKeyRef",
        "ObjectFieldSelector": "apiVersion fieldPath",
        "ResourceFieldSelector": "containerName resource divisor",
        "ConfigMapKeySelector": "name key optional",
        "SecretKeySelector": "name key optional",
        "ResourceRequirements": "limits requests claims",
        "ResourceClaim": "name request",
        "ContainerResizePolicy": "resourceName restartPolicy",
        "VolumeMount": "name readOnly recursiveReadOnly mountPath subPath mountPropagation subPathExpr",
        "VolumeDevice": "name devicePath",
        "Probe": (
            "exec httpGet tcpSocket grpc initialDelaySeconds timeoutSeconds periodSeconds successThreshold "
            "failureThreshold terminationGracePeriodSeconds"
        ),
        "ExecAction": "command",
        "HTTPGetAction": "path port host scheme httpHeaders",
        "HTTPHeader": "name value",
        "TCPSocketAction": "port host",
        "GRPCAction": "port service",
        "SleepAction": "seconds",
        "Lifecycle": "postStart preStop",
        "LifecycleHandler": "exec httpGet tcpSocket sleep",
        "SecurityContext": (
            "capabilities privileged seLinuxOptions windowsOptions runAsUser runAsGroup runAsNonRoot "
            "readOnlyRootFilesystem allowPrivilegeEscalation procMount seccompProfile appArmorProfile"
        ),
        "Capabilities": "add drop",
        "SELinuxOptions": "user role type level",
        "WindowsSecurityContextOptions": "gmsaCredentialSpecName gmsaCredentialSpec runAsUserName hostProcess",
        "SeccompProfile": "type localhostProfile",
        "AppArmorProfile": "type localhostProfile",
    }.items()
}
"""The fields of the types of k8s.io/api in the order in which they are declared: that of the encoded text."""

_OWN: Final = (
    "podInjectPolicy",
    "upgradeStrategy",
    "shareVolumePolicy",
    "shareVolumeDevicePolicy",
    "transferEnv",
    "resourcesPolicy",
)
"""The fields that a sidecar has beside those of a container, in their order."""


def sidecarset_hashes(spec: Mapping[str, Any]) -> tuple[str, str]:
    """Return the hash of the containers of *spec*, plain JSON of either version, and the hash without their images."""
    return _hash(hashed_text(spec)), _hash(hashed_text(spec, images=False))


def _hash(data: bytes) -> str:
    return safe_encode(hashlib.sha256(data).hexdigest())


def hashed_text(spec: Mapping[str, Any], *, images: bool = True) -> bytes:
    """Return the text that is hashed."""
    text: dict[str, Any] = {"containers": _forms(spec.get("containers"), images)}
    init = spec.get("initContainers")
    if isinstance(init, list) and any(isinstance(c, dict) and c.get("restartPolicy") == RESTART_ALWAYS for c in init):
        text["initContainers"] = _forms(init, images)
    return gojson.encode(text)


def _forms(containers: Any, images: bool) -> Any:
    if not isinstance(containers, list):
        return containers
    forms = [canonical_sidecar(container, upstream_only=True, exact=True) for container in containers]
    if not images:
        for form in forms:
            if isinstance(form, dict):
                form.pop("image", None)
    return forms


def canonical_sidecar(container: Any, *, upstream_only: bool = False, exact: bool = False) -> Any:
    """Return a sidecar as Go writes it, its fields in the declared order; the input is not changed.

    The options are those of :func:`~kruise.apis.go_encoding.canonical`. What no type of ours knows stands at the end.

    >>> list(canonical_sidecar({"image": "i", "name": "a"}))
    ['name', 'image', 'resources', 'upgradeStrategy', 'shareVolumePolicy']
    """
    if container is None:
        container = {}
    if not isinstance(container, dict):
        return container
    core = {key: value for key, value in container.items() if key not in _OWN}
    form = _ordered(canonical(core, _CONTAINER, upstream_only=upstream_only, exact=exact), _CONTAINER)
    if isinstance(policy := container.get("podInjectPolicy"), str) and policy:
        form["podInjectPolicy"] = policy
    form["upgradeStrategy"] = _filled(container.get("upgradeStrategy"), "upgradeType", "hotUpgradeEmptyImage")
    form["shareVolumePolicy"] = _filled(container.get("shareVolumePolicy"), "type")
    if (devices := container.get("shareVolumeDevicePolicy")) is not None:
        form["shareVolumeDevicePolicy"] = _filled(devices, "type")
    if transfers := container.get("transferEnv"):
        form["transferEnv"] = [_transfer(one) for one in transfers] if isinstance(transfers, list) else transfers
    if (resources := container.get("resourcesPolicy")) is not None:
        form["resourcesPolicy"] = _resources_policy(resources)
    return form


def _filled(value: Any, *names: str) -> Any:
    """Return the named fields of *value* that hold something."""
    if value is None:
        return {}
    return {name: value[name] for name in names if value.get(name)} if isinstance(value, dict) else value


def _transfer(entry: Any) -> Any:
    form = _filled(entry, "sourceContainerName", "sourceContainerNameFrom", "envName", "envNames")
    if not isinstance(entry, dict) or not isinstance(source := entry.get("sourceContainerNameFrom"), dict):
        return form
    shown: dict[str, Any] = {}
    if (ref := source.get("fieldRef")) is not None:
        shown["fieldRef"] = _ordered(canonical(ref, _FIELD_REF, upstream_only=True), _FIELD_REF)
    # A source without a reference is a pointer to nothing in Go: written, and empty.
    form["sourceContainerNameFrom"] = shown
    return {
        name: form[name]
        for name in ("sourceContainerName", "sourceContainerNameFrom", "envName", "envNames")
        if name in form
    }


def _resources_policy(policy: Any) -> Any:
    if not isinstance(policy, dict):
        return policy
    expressions = policy.get("resourcesExpr")
    shown: Any = expressions
    if expressions is None or isinstance(expressions, dict):
        given = expressions or {}
        shown = {
            name: _filled(given[name], "cpu", "memory")
            for name in ("limits", "requests")
            if given.get(name) is not None
        }
    return {
        "targetContainersMode": policy.get("targetContainersMode") or "",
        **_filled(policy, "targetContainersNameRegex"),
        "resourcesExpr": shown,
    }


def _ordered(value: Any, type_name: str) -> Any:
    """Return *value*, of a core type, with its fields in the declared order and its maps sorted."""
    if type_name.startswith("["):
        inner = type_name[1:-1]
        return [_ordered(item, inner) for item in value] if isinstance(value, list) else value
    if not isinstance(value, dict):
        return value
    if type_name.startswith("{"):
        inner = type_name[1:-1]
        return {key: _ordered(value[key], inner) for key in sorted(value)}
    order = _ORDER.get(type_name.rpartition(".")[2])
    if order is None:
        return value
    known = fields(type_name)
    form = {name: _ordered(value[name], known[name].type) for name in order if name in value}
    return form | {name: item for name, item in value.items() if name not in form}
