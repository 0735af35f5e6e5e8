"""Validation of security contexts, and of the annotations that came before their fields.

Purpose: users and groups, capabilities, seccomp, AppArmor, sysctls.

Guarantees: privileged containers are allowed, as the Go manager allows them by default; an annotation must agree with
the field that replaced it.

What this does not do: Pod Security admission; the API server decides that per namespace.
"""

from __future__ import annotations

import re
from typing import Any, Final

from kruise.apis import labels
from kruise.apis.fielderrors import (
    FieldError,
    Plain,
    duplicate,
    forbidden,
    go_quote,
    invalid,
    not_supported,
    required,
    too_long,
)
from kruise.apis.podtemplate.fields import (
    Node,
    child,
    each_container,
    flag,
    is_set,
    items,
    optional_number,
    text,
    texts,
)
from kruise.apis.podtemplate.systems import validate_windows_options

__all__ = [
    "local_descending_path",
    "no_backsteps",
    "validate_annotated_profiles",
    "validate_container_context",
    "validate_pod_context",
    "validate_profile_annotations",
]

_MAX_ID: Final = 2**31 - 1
_SYSCTL_TEXT: Final = r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_SYSCTL: Final = re.compile(_SYSCTL_TEXT)
_SYSCTL_LIMIT: Final = 253
_IPC_SYSCTLS: Final = frozenset(
    {
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
        "kernel.shm",
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.msg",
    }
)
_LOCALHOST_PATH_LIMIT: Final = 4095

SECCOMP_POD: Final = "seccomp.security.alpha.kubernetes.io/pod"
SECCOMP_CONTAINER: Final = "container.seccomp.security.alpha.kubernetes.io/"
APPARMOR_CONTAINER: Final = "container.apparmor.security.beta.kubernetes.io/"
_SECCOMP_DEFAULTS: Final = frozenset({"runtime/default", "docker/default"})
_PROFILE_TYPES: Final = ("Localhost", "RuntimeDefault", "Unconfined")
_LOCALHOST: Final = "localhost/"


def no_backsteps(target: str, path: str) -> list[FieldError]:
    """Refuse ``..`` as a step of a path."""
    return [invalid(path, target, "must not contain '..'")] if ".." in target.split("/") else []


def local_descending_path(target: str, path: str) -> list[FieldError]:
    """Refuse an absolute path and one that leaves its folder."""
    errors = [invalid(path, target, "must be a relative path")] if target.startswith("/") else []
    return errors + no_backsteps(target, path)


# ---- the contexts ----------------------------------------------------------------------------------------------------


def _validate_id(context: Node, key: str, path: str) -> list[FieldError]:
    value = optional_number(context, key)
    if value is None:
        return []
    return [invalid(f"{path}.{key}", value, found) for found in labels.in_range(value, 0, _MAX_ID)]


def validate_pod_context(context: Node | None, spec: Node, path: str) -> list[FieldError]:
    """Validate ``securityContext`` of the pod; *path* is its path."""
    if context is None:
        return []
    errors: list[FieldError] = []
    for key in ("fsGroup", "runAsUser", "runAsGroup"):
        errors += _validate_id(context, key, path)
    groups = context.get("supplementalGroups")
    for i, group in enumerate(groups if isinstance(groups, list) else ()):
        at, number = f"{path}.supplementalGroups[{i}]", group if isinstance(group, int) else 0
        errors += [invalid(at, number, found) for found in labels.in_range(number, 0, _MAX_ID)]
    if flag(spec, "shareProcessNamespace") and flag(spec, "hostPID"):
        detail = "ShareProcessNamespace and HostPID cannot both be enabled"
        errors.append(invalid(f"{path}.shareProcessNamespace", True, detail))
    errors += _validate_sysctls(context, spec, f"{path}.sysctls")
    errors += _one_of(context, "fsGroupChangePolicy", ("Always", "OnRootMismatch"), path)
    errors += _validate_seccomp(child(context, "seccompProfile"), f"{path}.seccompProfile")
    errors += validate_windows_options(child(context, "windowsOptions"), f"{path}.windowsOptions")
    errors += _validate_app_armor(child(context, "appArmorProfile"), f"{path}.appArmorProfile")
    errors += _one_of(context, "supplementalGroupsPolicy", ("Merge", "Strict"), path)
    errors += _one_of(context, "seLinuxChangePolicy", ("MountOption", "Recursive"), path)
    return errors


def _one_of(context: Node, key: str, allowed: tuple[str, ...], path: str) -> list[FieldError]:
    if not is_set(context, key) or text(context, key) in allowed:
        return []
    return [not_supported(f"{path}.{key}", text(context, key), allowed)]


def validate_container_context(container: Node, host_users: bool, path: str) -> list[FieldError]:
    """Validate ``securityContext`` of a container; *path* is its path."""
    context = child(container, "securityContext")
    if context is None:
        return []
    errors = _validate_id(context, "runAsUser", path) + _validate_id(context, "runAsGroup", path)
    errors += _one_of(context, "procMount", ("Default", "Unmasked"), path)
    if host_users and text(context, "procMount") == "Unmasked":
        errors.append(invalid(f"{path}.procMount", "Unmasked", "`hostUsers` must be false to use `Unmasked`"))
    errors += _validate_seccomp(child(context, "seccompProfile"), f"{path}.seccompProfile")
    if context.get("allowPrivilegeEscalation") is False:
        start = "cannot set `allowPrivilegeEscalation` to false and"
        if flag(context, "privileged"):
            errors.append(invalid(path, Plain("securityContext"), f"{start} `privileged` to true"))
        errors += [
            invalid(path, Plain("securityContext"), f"{start} `capabilities.Add` CAP_SYS_ADMIN")
            for capability in texts(child(context, "capabilities"), "add")
            if capability == "CAP_SYS_ADMIN"
        ]
    errors += validate_windows_options(child(context, "windowsOptions"), f"{path}.windowsOptions")
    errors += _validate_app_armor(child(context, "appArmorProfile"), f"{path}.appArmorProfile")
    return errors


def _validate_sysctls(context: Node, spec: Node, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for i, sysctl in enumerate(items(context, "sysctls")):
        at, name = f"{path}[{i}].name", text(sysctl, "name")
        if not name:
            errors.append(required(at))
        elif len(name.encode()) > _SYSCTL_LIMIT or _SYSCTL.fullmatch(name) is None:
            detail = f"must have at most {_SYSCTL_LIMIT} characters and match regex ^{_SYSCTL_TEXT}$"
            errors.append(invalid(at, name, detail))
        elif name in seen:
            errors.append(duplicate(at, name))
        seen.add(name)
        normal = _normal_sysctl(name).partition("*")[0]
        if flag(spec, "hostNetwork") and normal.startswith("net."):
            errors.append(invalid(at, name, "may not be specified when 'hostNetwork' is true"))
        elif flag(spec, "hostIPC") and (normal in _IPC_SYSCTLS or normal.startswith("fs.mqueue.")):
            errors.append(invalid(at, name, "may not be specified when 'hostIPC' is true"))
    return errors


def _normal_sysctl(name: str) -> str:
    """Return the dotted form: with a slash as first separator, slashes and dots change places."""
    first = re.search(r"[./]", name)
    return name.translate({ord("/"): ".", ord("."): "/"}) if first and first[0] == "/" else name


# ---- profiles --------------------------------------------------------------------------------------------------------


def _validate_seccomp(profile: Node | None, path: str) -> list[FieldError]:
    if profile is None:
        return []
    errors: list[FieldError] = []
    kind, local = text(profile, "type"), f"{path}.localhostProfile"
    if not kind:
        errors.append(required(f"{path}.type", "type is required when seccompProfile is set"))
    elif kind not in _PROFILE_TYPES:
        errors.append(not_supported(f"{path}.type", kind, _PROFILE_TYPES))
    if kind == "Localhost":
        if not is_set(profile, "localhostProfile"):
            errors.append(required(local, "must be set when seccomp type is Localhost"))
        else:
            errors += local_descending_path(text(profile, "localhostProfile"), local)
    elif is_set(profile, "localhostProfile"):
        errors.append(invalid(local, Plain("seccompProfile"), "can only be set when seccomp type is Localhost"))
    return errors


def _validate_app_armor(profile: Node | None, path: str) -> list[FieldError]:
    if profile is None:
        return []
    kind, local = text(profile, "type"), f"{path}.localhostProfile"
    if not kind:
        return [required(f"{path}.type", "type is required when appArmorProfile is set")]
    if kind not in _PROFILE_TYPES:
        return [not_supported(f"{path}.type", kind, _PROFILE_TYPES)]
    name = text(profile, "localhostProfile")
    if kind != "Localhost":
        given = is_set(profile, "localhostProfile")
        return [invalid(local, name, "can only be set when AppArmor type is Localhost")] if given else []
    errors: list[FieldError] = []
    if name.strip() != name:
        errors.append(invalid(local, name, "must not be padded with whitespace"))
    elif not name:
        errors.append(required(local, "must be set when AppArmor type is Localhost"))
    if len(name.encode()) > _LOCALHOST_PATH_LIMIT:
        errors.append(too_long(local, _LOCALHOST_PATH_LIMIT))
    return errors


def validate_profile_annotations(annotations: dict[str, Any], spec: Node, path: str) -> list[FieldError]:
    """Validate the seccomp and AppArmor annotations by themselves; *path* is that of the annotations."""
    errors: list[FieldError] = []
    pod_profile = annotations.get(SECCOMP_POD)
    if isinstance(pod_profile, str):
        errors += _seccomp_text(pod_profile, f"{path}.{SECCOMP_POD}")
    names = {text(container, "name") for container, _ in each_container(spec, "")}
    for key in sorted(key for key in annotations if key.startswith(SECCOMP_CONTAINER)):
        errors += _seccomp_text(text(annotations, key), f"{path}.{key}")
    for key in sorted(key for key in annotations if key.startswith(APPARMOR_CONTAINER)):
        name, profile = key.removeprefix(APPARMOR_CONTAINER), text(annotations, key)
        if name not in names:
            errors.append(invalid(f"{path}[{key}]", name, "container not found"))
        if profile not in ("", "runtime/default", "unconfined") and not profile.startswith(_LOCALHOST):
            detail = f"invalid AppArmor profile name: {go_quote(profile)}"
            errors.append(invalid(f"{path}[{key}]", profile, detail))
    return errors


def _seccomp_text(profile: str, path: str) -> list[FieldError]:
    if profile in _SECCOMP_DEFAULTS or profile == "unconfined":
        return []
    if profile.startswith(_LOCALHOST):
        return local_descending_path(profile.removeprefix(_LOCALHOST), path)
    return [invalid(path, profile, "must be a valid seccomp profile")]


def validate_annotated_profiles(annotations: dict[str, Any], spec: Node, path: str) -> list[FieldError]:
    """Validate that annotations agree with the fields; *path* is that of the pod spec."""
    errors: list[FieldError] = []
    pod_context = child(spec, "securityContext")
    pod_seccomp = child(pod_context, "seccompProfile")
    if pod_seccomp is not None and SECCOMP_POD in annotations:
        at = f"{path}.securityContext.seccompProfile"
        errors += _agree("seccomp", text(annotations, SECCOMP_POD), pod_seccomp, _SECCOMP_DEFAULTS, at)
    for container, at in each_container(spec, path):
        profile = child(child(container, "securityContext"), "seccompProfile")
        key = SECCOMP_CONTAINER + text(container, "name")
        if profile is not None and key in annotations:
            at = f"{at}.securityContext.seccompProfile"
            errors += _agree("seccomp", text(annotations, key), profile, _SECCOMP_DEFAULTS, at)
    if text(child(spec, "os"), "name") == "windows":
        return errors
    for container, at in each_container(spec, path):
        own = child(child(container, "securityContext"), "appArmorProfile")
        profile = own if own is not None else child(pod_context, "appArmorProfile")
        key = APPARMOR_CONTAINER + text(container, "name")
        if profile is not None and key in annotations:
            at = f"{at}.securityContext.appArmorProfile"
            errors += _agree("apparmor", text(annotations, key), profile, frozenset({"runtime/default"}), at)
    return errors


def _agree(what: str, annotation: str, profile: Node, defaults: frozenset[str], path: str) -> list[FieldError]:
    kind = text(profile, "type")
    agreed = {
        "Unconfined": annotation == "unconfined",
        "RuntimeDefault": annotation in defaults,
        "Localhost": annotation.startswith(_LOCALHOST),
    }.get(kind, True)
    if not agreed:
        return [forbidden(f"{path}.type", f"{what} type in annotation and field must match")]
    if kind == "Localhost" and profile.get("localhostProfile") != annotation.removeprefix(_LOCALHOST):
        return [forbidden(f"{path}.localhostProfile", f"{what} profile in annotation and field must match")]
    return []
