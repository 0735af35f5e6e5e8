"""Defaulting of pod templates.

Purpose: complete a template as the Go manager's webhook does, so that a revision, a hash and a comparison come out the
same whether or not a webhook has seen the object.

Guarantees:

* Pure and idempotent; the argument is not touched; no field is ever removed, known or not.
* Wrongly typed parts are left as they are: the validation names them.
* An unset value and its zero (``0``, ``""``) are the same, as they are for the API server.

What this does not do: ephemeral claim templates are not completed, nor the sources whose defaults the Go manager does
not write either: grpc service, rbd, iscsi, azureDisk, scaleIO, image volumes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, Final

from kruise.apis.podtemplate.images import default_pull_policy
from kruise.apis.quantity import Quantity, QuantityError

__all__ = ["VOLUME_SOURCES", "default_pod_template"]

VOLUME_SOURCES: Final = (
    "hostPath",
    "emptyDir",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "persistentVolumeClaim",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "downwardAPI",
    "fc",
    "azureFile",
    "configMap",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "photonPersistentDisk",
    "projected",
    "portworxVolume",
    "scaleIO",
    "storageos",
    "csi",
    "ephemeral",
    "image",
)
_FILE_MODE: Final = 0o644
_TOKEN_SECONDS: Final = 3600
_GRACE_SECONDS: Final = 30


def default_pod_template(template: dict[str, Any], *, host_network_ports: bool = False) -> dict[str, Any]:
    """Return *template*, completed. *host_network_ports* is the gate ``DefaultHostNetworkHostPortsInPodTemplates``."""
    result: dict[str, Any] = copy.deepcopy(template)
    spec = result.get("spec")
    if spec is None:
        spec = result["spec"] = {}
    if isinstance(spec, dict):
        _pod_spec(spec, host_network_ports)
    return result


def _fill(target: dict[str, Any], key: str, value: Any) -> None:
    if target.get(key) in (None, "", 0) and target.get(key) is not False:
        target[key] = value


def _fill_absent(target: dict[str, Any], key: str, value: Any) -> None:
    if target.get(key) is None:
        target[key] = value


def _items(target: dict[str, Any], key: str) -> Iterator[dict[str, Any]]:
    listed = target.get(key)
    if isinstance(listed, list):
        yield from (item for item in listed if isinstance(item, dict))


def _child(target: dict[str, Any], *keys: str) -> dict[str, Any] | None:
    node: Any = target
    for key in keys:
        node = node.get(key) if isinstance(node, dict) else None
    return node if isinstance(node, dict) else None


def _pod_spec(spec: dict[str, Any], host_network_ports: bool) -> None:
    _fill(spec, "dnsPolicy", "ClusterFirst")
    _fill(spec, "restartPolicy", "Always")
    _fill_absent(spec, "securityContext", {})
    _fill_absent(spec, "terminationGracePeriodSeconds", _GRACE_SECONDS)
    _fill(spec, "schedulerName", "default-scheduler")
    for volume in _items(spec, "volumes"):
        _volume(volume)
    for container in _items(spec, "initContainers"):
        image = container.get("image")
        _fill(container, "imagePullPolicy", default_pull_policy(image if isinstance(image, str) else ""))
        _container(container)
    for container in _items(spec, "containers"):
        _fill(container, "imagePullPolicy", "Always")
        _container(container)
    for container in _items(spec, "ephemeralContainers"):
        _container_common(container)
    if host_network_ports and spec.get("hostNetwork") is True:
        for key in ("initContainers", "containers"):
            for container in _items(spec, key):
                for port in _items(container, "ports"):
                    if port.get("containerPort"):
                        _fill(port, "hostPort", port["containerPort"])
    _quantities(_child(spec, "overhead"), _rounded)
    for part in ("limits", "requests"):
        _quantities(_child(spec, "resources", part), _rewritten)


# ---- containers ------------------------------------------------------------------------------------------------------


def _container(container: dict[str, Any]) -> None:
    _fill(container, "terminationMessagePath", "/dev/termination-log")
    _fill(container, "terminationMessagePolicy", "File")
    _container_common(container)


def _container_common(container: dict[str, Any]) -> None:
    for port in _items(container, "ports"):
        _fill(port, "protocol", "TCP")
    for env in _items(container, "env"):
        _field_source(_child(env, "valueFrom"))
    for part in ("limits", "requests"):
        _quantities(_child(container, "resources", part), _rounded)
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = _child(container, name)
        if probe is not None:
            _fill(probe, "timeoutSeconds", 1)
            _fill(probe, "periodSeconds", 10)
            _fill(probe, "successThreshold", 1)
            _fill(probe, "failureThreshold", 3)
            _http_get(_child(probe, "httpGet"))
    for hook in ("postStart", "preStop"):
        _http_get(_child(container, "lifecycle", hook, "httpGet"))


def _http_get(action: dict[str, Any] | None) -> None:
    if action is not None:
        _fill(action, "path", "/")
        _fill(action, "scheme", "HTTP")


def _field_source(source: dict[str, Any] | None) -> None:
    """Complete what env variables and downward API items have in common."""
    if source is None:
        return
    field_ref = _child(source, "fieldRef")
    if field_ref is not None:
        _fill(field_ref, "apiVersion", "v1")
    resource_ref = _child(source, "resourceFieldRef")
    if resource_ref is not None:
        # Stored objects always carry a divisor: its type has no empty form.
        _fill_absent(resource_ref, "divisor", "0")
        _quantities(resource_ref, _rewritten, ("divisor",))


# ---- volumes ---------------------------------------------------------------------------------------------------------


def _volume(volume: dict[str, Any]) -> None:
    if all(volume.get(source) is None for source in VOLUME_SOURCES):
        volume["emptyDir"] = {}
    if (host_path := _child(volume, "hostPath")) is not None:
        _fill_absent(host_path, "type", "")
    if (empty_dir := _child(volume, "emptyDir")) is not None:
        _quantities(empty_dir, _rewritten, ("sizeLimit",))
    for name in ("secret", "configMap", "projected", "downwardAPI"):
        if (source := _child(volume, name)) is not None:
            _fill_absent(source, "defaultMode", _FILE_MODE)
    for item in _items(_child(volume, "downwardAPI") or {}, "items"):
        _field_source(item)
    for projection in _items(_child(volume, "projected") or {}, "sources"):
        for item in _items(_child(projection, "downwardAPI") or {}, "items"):
            _field_source(item)
        if (token := _child(projection, "serviceAccountToken")) is not None:
            _fill_absent(token, "expirationSeconds", _TOKEN_SECONDS)
    for part in ("limits", "requests"):
        _quantities(_child(volume, "ephemeral", "volumeClaimTemplate", "spec", "resources", part), _rewritten)


# ---- quantities ------------------------------------------------------------------------------------------------------


def _rounded(quantity: Quantity) -> str:
    return str(quantity.round_up_to_milli())


def _rewritten(quantity: Quantity) -> str:
    return str(quantity)


def _quantities(
    target: dict[str, Any] | None, write: Callable[[Quantity], str], keys: tuple[str, ...] | None = None
) -> None:
    """Write the quantities of *target* again; one that does not parse stays for the validation to name."""
    if target is None:
        return
    for key in keys if keys is not None else tuple(target):
        value = target.get(key)
        if value is None and keys is not None:
            continue
        try:
            target[key] = write(Quantity.from_json(value))
        except QuantityError:
            continue
