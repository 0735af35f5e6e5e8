"""Validation of volumes.

Purpose: every volume source of the core API, and what mounts may refer to.

Guarantees: of several sources the first in the server's own order is checked and the others are refused. The paths are
the server's, its slips included (``downwarAPI``, ``persistentDisk``, no index for downward API files): tools match on
them.

What this does not do: projected sources, which have a file of their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from kruise.apis import labels
from kruise.apis.fielderrors import (
    FieldError,
    duplicate,
    forbidden,
    invalid,
    not_supported,
    required,
    too_long,
)
from kruise.apis.podtemplate.claims import validate_claim_template
from kruise.apis.podtemplate.fields import (
    Node,
    child,
    flag,
    is_set,
    items,
    number,
    optional_number,
    quantity,
    text,
    texts,
)
from kruise.apis.podtemplate.projected import (
    validate_downward_file,
    validate_key_paths,
    validate_mode,
    validate_projected,
)
from kruise.apis.podtemplate.security import local_descending_path, no_backsteps

__all__ = ["validate_pull_policy", "validate_volumes"]

_PULL_POLICIES: Final = ("Always", "IfNotPresent", "Never")
_HOST_PATH_TYPES: Final = (
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
)
_ISCSI_NAMES: Final = {
    "iqn": re.compile(r"iqn\.\d{4}-\d{2}\.([A-Za-z0-9.-]+)(:[^,;*&$|\s]+)\Z", re.ASCII),
    "eui": re.compile(r"\Aeui.[A-Za-z0-9]{16}\Z"),
    "naa": re.compile(r"\Anaa.[A-Za-z0-9]{32}\Z"),
}
_CSI_DRIVER_LIMIT: Final = 63
_QUOBYTE_TENANT_LIMIT: Final = 64
_QUOBYTE_REGISTRY: Final = "must be a host:port pair or multiple pairs separated by commas"
_MANAGED_DISK: Final = "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"
_BLOB_DISK: Final = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"


def validate_pull_policy(policy: str, path: str) -> list[FieldError]:
    """Validate a pull policy, which must be there."""
    if not policy:
        return [required(path)]
    return [] if policy in _PULL_POLICIES else [not_supported(path, policy, _PULL_POLICIES)]


def validate_volumes(volumes: list[Node], path: str) -> tuple[dict[str, Node], list[FieldError]]:
    """Validate volumes; return those without errors by name, and the errors. Mounts may refer to the former only."""
    valid: dict[str, Node] = {}
    errors: list[FieldError] = []
    for i, volume in enumerate(volumes):
        at, name = f"{path}[{i}]", text(volume, "name")
        found = _validate_source(volume, name, at)
        if not name:
            found.append(required(f"{at}.name"))
        else:
            found += [invalid(f"{at}.name", name, complaint) for complaint in labels.dns1123_label(name)]
        if name in valid:
            found.append(duplicate(f"{at}.name", name))
        if not found:
            valid[name] = volume
        errors += found
    return valid, errors


def _validate_source(volume: Node, name: str, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    found = False
    for key, field, refused, check in _SOURCES:
        source = child(volume, key)
        if source is None:
            continue
        if found:
            errors.append(forbidden(f"{path}.{refused}", "may not specify more than 1 volume type"))
        else:
            found = True
            errors += check(source, f"{path}.{field}")
        if key == "iscsi" and is_set(source, "initiatorName"):
            portal = text(source, "targetPortal")
            if len(f"{name}:{portal}".encode()) > 64:
                detail = (
                    "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters "
                    "if iscsi.initiatorName is specified."
                )
                errors.append(invalid(f"{path}.name", name, detail))
    return errors if found else [required(path, "must specify a volume type")]


# ---- one function for each source ------------------------------------------------------------------------------------


def _required(*keys: str) -> Callable[[Node, str], list[FieldError]]:
    def check(source: Node, path: str) -> list[FieldError]:
        return [required(f"{path}.{key}") for key in keys if not text(source, key)]

    return check


def _required_list(key: str, *more: str) -> Callable[[Node, str], list[FieldError]]:
    def check(source: Node, path: str) -> list[FieldError]:
        errors = [] if source.get(key) else [required(f"{path}.{key}")]
        return errors + _required(*more)(source, path)

    return check


def _secret_ref(source: Node, path: str) -> list[FieldError]:
    reference = child(source, "secretRef")
    return [required(f"{path}.secretRef.name")] if reference is not None and not text(reference, "name") else []


def _empty_dir(source: Node, path: str) -> list[FieldError]:
    if quantity(source.get("sizeLimit")).sign() >= 0:
        return []
    return [forbidden(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity")]


def _host_path(source: Node, path: str) -> list[FieldError]:
    target = text(source, "path")
    if not target:
        return [required(f"{path}.path")]
    errors = no_backsteps(target, f"{path}.path")
    if is_set(source, "type") and text(source, "type") not in _HOST_PATH_TYPES:
        errors.append(not_supported(f"{path}.type", text(source, "type"), _HOST_PATH_TYPES))
    return errors


def _git_repo(source: Node, path: str) -> list[FieldError]:
    errors = _required("repository")(source, path)
    return errors + local_descending_path(text(source, "directory"), f"{path}.directory")


def _disk(key: str) -> Callable[[Node, str], list[FieldError]]:
    def check(source: Node, path: str) -> list[FieldError]:
        errors = _required(key)(source, path)
        partition = number(source, "partition")
        if not 0 <= partition <= 255:
            errors.append(invalid(f"{path}.partition", partition, "must be between 1 and 255, inclusive"))
        return errors

    return check


def _files_of(key: str) -> Callable[[Node, str], list[FieldError]]:
    def check(source: Node, path: str) -> list[FieldError]:
        errors = _required(key)(source, path) + validate_mode(source, "defaultMode", path)
        return errors + validate_key_paths(items(source, "items"), f"{path}.items")

    return check


def _nfs(source: Node, path: str) -> list[FieldError]:
    errors = _required("server", "path")(source, path)
    target = text(source, "path")
    if not target.startswith("/"):
        errors.append(invalid(f"{path}.path", target, "must be an absolute path"))
    return errors


def _iscsi_name(name: str) -> str:
    pattern = _ISCSI_NAMES.get(name[:3])
    if pattern is None:
        return "must be valid format starting with iqn, eui, or naa"
    return "" if pattern.search(name) else "must be valid format"


def _iscsi(source: Node, path: str) -> list[FieldError]:
    errors = _required("targetPortal", "iqn")(source, path)
    iqn = text(source, "iqn")
    if iqn and (complaint := _iscsi_name(iqn)):
        errors.append(invalid(f"{path}.iqn", iqn, complaint))
    lun = number(source, "lun")
    errors += [invalid(f"{path}.lun", lun, found) for found in labels.in_range(lun, 0, 255)]
    chap = flag(source, "chapAuthDiscovery") or flag(source, "chapAuthSession")
    if chap and child(source, "secretRef") is None:
        errors.append(required(f"{path}.secretRef"))
    if is_set(source, "initiatorName"):
        initiator = text(source, "initiatorName")
        if complaint := _iscsi_name(initiator):
            errors.append(invalid(f"{path}.initiatorname", initiator, complaint))
    return errors


def _flocker(source: Node, path: str) -> list[FieldError]:
    name, uuid = text(source, "datasetName"), text(source, "datasetUUID")
    errors: list[FieldError] = []
    if not name and not uuid:
        errors.append(required(path, "one of datasetName and datasetUUID is required"))
    if name and uuid:
        errors.append(invalid(path, "resource", "datasetName and datasetUUID can not be specified simultaneously"))
    if "/" in name:
        errors.append(invalid(f"{path}.datasetName", name, "must not contain '/'"))
    return errors


def _cinder(source: Node, path: str) -> list[FieldError]:
    return _required("volumeID")(source, path) + _secret_ref(source, path)


def _quobyte(source: Node, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    registry = text(source, "registry")
    if not registry:
        errors.append(required(f"{path}.registry", _QUOBYTE_REGISTRY))
    elif len(text(source, "tenant").encode()) > _QUOBYTE_TENANT_LIMIT:
        errors.append(required(f"{path}.tenant", "must be a UUID and may not exceed a length of 64 characters"))
    else:
        bad = [pair for pair in registry.split(",") if not _host_and_port(pair)]
        errors += [invalid(f"{path}.registry", registry, _QUOBYTE_REGISTRY) for _ in bad]
    return errors + _required("volume")(source, path)


_HOST_PORT: Final = re.compile(r"(?:\[[^\[\]]*\]|[^\[\]:]*):[^\[\]:]*")


def _host_and_port(pair: str) -> bool:
    return _HOST_PORT.fullmatch(pair) is not None


def _downward_api(source: Node, path: str) -> list[FieldError]:
    errors = validate_mode(source, "defaultMode", path)
    for item in items(source, "items"):
        errors += validate_downward_file(item, path)
    return errors


def _fibre_channel(source: Node, path: str) -> list[FieldError]:
    names, ids = texts(source, "targetWWNs"), texts(source, "wwids")
    at = f"{path}.targetWWNs"
    errors: list[FieldError] = []
    if not names and not ids:
        errors.append(required(at, "must specify either targetWWNs or wwids, but not both"))
    if names and ids:
        errors.append(invalid(at, names, "targetWWNs and wwids can not be specified simultaneously"))
    if names:
        lun = optional_number(source, "lun")
        if lun is None:
            errors.append(required(f"{path}.lun", "lun is required if targetWWNs is specified"))
        else:
            errors += [invalid(f"{path}.lun", lun, found) for found in labels.in_range(lun, 0, 255)]
    return errors


def _flex(source: Node, path: str) -> list[FieldError]:
    errors = _required("driver")(source, path)
    for key in sorted(child(source, "options") or {}):
        domain = "." + key.partition("/")[0].lower()
        if domain.endswith((".kubernetes.io", ".k8s.io")):
            detail = "kubernetes.io and k8s.io namespaces are reserved"
            errors.append(invalid(f"{path}.options[{key}]", key, detail))
    return errors


def _azure_disk(source: Node, path: str) -> list[FieldError]:
    errors = _required("diskName", "diskURI")(source, path)
    caching, kind, uri = text(source, "cachingMode"), text(source, "kind"), text(source, "diskURI")
    if is_set(source, "cachingMode") and caching not in ("None", "ReadOnly", "ReadWrite"):
        errors.append(not_supported(f"{path}.cachingMode", caching, ("None", "ReadOnly", "ReadWrite")))
    if not is_set(source, "kind"):
        return errors
    if kind not in ("Dedicated", "Managed", "Shared"):
        errors.append(not_supported(f"{path}.kind", kind, ("Dedicated", "Managed", "Shared")))
    if kind == "Managed" and not uri.startswith("/subscriptions/"):
        errors.append(not_supported(f"{path}.diskURI", uri, (_MANAGED_DISK,)))
    if kind != "Managed" and not uri.startswith("https://"):
        errors.append(not_supported(f"{path}.diskURI", uri, (_BLOB_DISK,)))
    return errors


def _storage_os(source: Node, path: str) -> list[FieldError]:
    name, namespace = text(source, "volumeName"), text(source, "volumeNamespace")
    errors = _required("volumeName")(source, path)
    for key, value in (("volumeName", name), ("volumeNamespace", namespace)):
        if value:
            errors += [invalid(f"{path}.{key}", value, found) for found in labels.dns1123_label(value)]
    return errors + _secret_ref(source, path)


def _csi(source: Node, path: str) -> list[FieldError]:
    driver = text(source, "driver")
    at = f"{path}.driver"
    errors = [] if driver else [required(at)]
    if len(driver.encode()) > _CSI_DRIVER_LIMIT:
        errors.append(too_long(at, _CSI_DRIVER_LIMIT))
    errors += [invalid(at, driver, found) for found in labels.dns1123_subdomain(driver.lower())]
    secret = child(source, "nodePublishSecretRef")
    if secret is not None:
        name = text(secret, "name")
        if not name:
            errors.append(required(f"{path}.nodePublishSecretRef.name"))
        else:
            errors += [invalid(f"{path}.name", name, found) for found in labels.dns1123_subdomain(name)]
    return errors


def _ephemeral(source: Node, path: str) -> list[FieldError]:
    template = child(source, "volumeClaimTemplate")
    if template is None:
        return [required(f"{path}.volumeClaimTemplate")]
    return validate_claim_template(template, f"{path}.volumeClaimTemplate")


def _image(source: Node, path: str) -> list[FieldError]:
    return validate_pull_policy(text(source, "pullPolicy"), f"{path}.pullPolicy")


_SOURCES: Final[tuple[tuple[str, str, str, Callable[[Node, str], list[FieldError]]], ...]] = (
    ("emptyDir", "emptyDir", "emptyDir", _empty_dir),
    ("hostPath", "hostPath", "hostPath", _host_path),
    ("gitRepo", "gitRepo", "gitRepo", _git_repo),
    ("gcePersistentDisk", "persistentDisk", "gcePersistentDisk", _disk("pdName")),
    ("awsElasticBlockStore", "awsElasticBlockStore", "awsElasticBlockStore", _disk("volumeID")),
    ("secret", "secret", "secret", _files_of("secretName")),
    ("nfs", "nfs", "nfs", _nfs),
    ("iscsi", "iscsi", "iscsi", _iscsi),
    ("glusterfs", "glusterfs", "glusterfs", _required("endpoints", "path")),
    ("flocker", "flocker", "flocker", _flocker),
    ("persistentVolumeClaim", "persistentVolumeClaim", "persistentVolumeClaim", _required("claimName")),
    ("rbd", "rbd", "rbd", _required_list("monitors", "image")),
    ("cinder", "cinder", "cinder", _cinder),
    ("cephfs", "cephfs", "cephFS", _required_list("monitors")),
    ("quobyte", "quobyte", "quobyte", _quobyte),
    ("downwardAPI", "downwardAPI", "downwarAPI", _downward_api),
    ("fc", "fc", "fc", _fibre_channel),
    ("flexVolume", "flexVolume", "flexVolume", _flex),
    ("configMap", "configMap", "configMap", _files_of("name")),
    ("azureFile", "azureFile", "azureFile", _required("secretName", "shareName")),
    ("vsphereVolume", "vsphereVolume", "vsphereVolume", _required("volumePath")),
    ("photonPersistentDisk", "photonPersistentDisk", "photonPersistentDisk", _required("pdID")),
    ("portworxVolume", "portworxVolume", "portworxVolume", _required("volumeID")),
    ("azureDisk", "azureDisk", "azureDisk", _azure_disk),
    ("storageos", "storageos", "storageos", _storage_os),
    ("projected", "projected", "projected", validate_projected),
    ("scaleIO", "scaleIO", "scaleIO", _required("gateway", "system", "volumeName")),
    ("csi", "csi", "csi", _csi),
    ("ephemeral", "ephemeral", "ephemeral", _ephemeral),
    ("image", "image", "image", _image),
)
"""Wire name, path of its errors, path of the refusal as a second source, and the check; in the server's order."""
