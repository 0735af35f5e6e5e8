"""Validation of what depends on the operating system: Windows options, HostProcess containers, forbidden mixtures.

Purpose: a pod says for which system it is, and must then not carry the other system's options.

Guarantees: Windows user names follow the forms of NetBIOS and DNS domains; either all containers are HostProcess
containers or none is.

What this does not do: without ``spec.os`` options of both systems may stand side by side, as on the server.
"""

from __future__ import annotations

import re
from typing import Final

from kruise.apis import labels
from kruise.apis.fielderrors import FieldError, forbidden, invalid
from kruise.apis.podtemplate.fields import Node, child, each_container, flag, is_set, text

__all__ = [
    "validate_host_process",
    "validate_host_users",
    "validate_linux",
    "validate_windows",
    "validate_windows_options",
]

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_NETBIOS: Final = re.compile(r'[^\\/:*?"<>|.][^\\/:*?"<>|]{0,14}')
_DNS_LABEL: Final = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_DNS_DOMAIN: Final = re.compile(rf"{_DNS_LABEL}(?:\.{_DNS_LABEL})*")
_BAD_USER_CHARS: Final = re.compile(r'["/\\:;|=,+*?<>@\[\]]')
_DOTS_AND_SPACES: Final = re.compile(r"[. ]+")
_DOMAIN_LIMIT: Final = 256
_USER_LIMIT: Final = 104
_GMSA_KIB: Final = 64

_NO_LINUX: Final = "cannot be set for a windows pod"
_NO_WINDOWS: Final = "windows options cannot be set for a linux pod"


def validate_windows_options(options: Node | None, path: str) -> list[FieldError]:
    """Validate ``windowsOptions`` of a pod or container; *path* is its path."""
    if options is None:
        return []
    errors: list[FieldError] = []
    if is_set(options, "gmsaCredentialSpecName"):
        name = text(options, "gmsaCredentialSpecName")
        errors += [invalid(f"{path}.gmsaCredentialSpecName", name, found) for found in labels.dns1123_subdomain(name)]
    if is_set(options, "gmsaCredentialSpec"):
        spec = text(options, "gmsaCredentialSpec")
        if not spec:
            detail = "gmsaCredentialSpec cannot be an empty string"
            errors.append(invalid(f"{path}.gmsaCredentialSpec", spec, detail))
        elif len(spec.encode()) > _GMSA_KIB * 1024:
            detail = f"gmsaCredentialSpec size must be under {_GMSA_KIB} KiB"
            errors.append(invalid(f"{path}.gmsaCredentialSpec", spec, detail))
    if is_set(options, "runAsUserName"):
        name = text(options, "runAsUserName")
        at = f"{path}.runAsUserName"
        errors += [invalid(at, name, f"runAsUserName{found}") for found in _user_name_complaints(name)]
    return errors


def _user_name_complaints(name: str) -> list[str]:
    if not name:
        return [" cannot be an empty string"]
    if _CONTROL.search(name):
        return [" cannot contain control characters"]
    parts = name.split("\\")
    if len(parts) > 2:
        return [" cannot contain more than one backslash"]
    domain, user = parts if len(parts) == 2 else ("", parts[0])
    found: list[str] = []
    if len(domain.encode()) >= _DOMAIN_LIMIT:
        found.append(f"'s Domain length must be under {_DOMAIN_LIMIT} characters")
    if len(parts) == 2 and not (_NETBIOS.fullmatch(domain) or _DNS_DOMAIN.fullmatch(domain)):
        found.append("'s Domain doesn't match the NetBios nor the DNS format")
    if not user:
        found.append("'s User cannot be empty")
    elif len(user.encode()) > _USER_LIMIT:
        found.append(f"'s User length must not be longer than {_USER_LIMIT} characters")
    if _DOTS_AND_SPACES.fullmatch(user):
        found.append("'s User cannot contain only periods or spaces")
    if _BAD_USER_CHARS.search(user):
        found.append("'s User cannot contain the following characters: \"/\\:;|=,+*?<>@[]")
    return found


def _host_process(holder: Node) -> bool | None:
    value = (child(child(holder, "securityContext"), "windowsOptions") or {}).get("hostProcess")
    return value if isinstance(value, bool) else None


def validate_host_process(spec: Node, path: str) -> list[FieldError]:
    """Validate that either all containers are HostProcess containers, on the host network, or none is."""
    errors: list[FieldError] = []
    of_pod = _host_process(spec)
    total = count = 0
    for container, at in each_container(spec, path):
        total += 1
        own = _host_process(container)
        if of_pod is not None and own is not None and of_pod != own:
            shown = "true" if of_pod else "false"
            detail = f"pod hostProcess value must be identical if both are specified, was {shown}"
            errors.append(invalid(f"{at}.securityContext.windowsOptions.hostProcess", own, detail))
        count += bool(of_pod if own is None else own)
    if count:
        if count != total:
            detail = "If pod contains any hostProcess containers then all containers must be HostProcess containers"
            errors.append(invalid(path, "", detail))
        if not flag(spec, "hostNetwork"):
            detail = "hostNetwork must be true if pod contains any hostProcess containers"
            errors.append(invalid(f"{path}.hostNetwork", False, detail))
    return errors


def validate_host_users(spec: Node, path: str) -> list[FieldError]:
    """Validate that a pod with its own user namespace takes no other namespace from the host."""
    if spec.get("hostUsers") is not False:
        return []
    detail = "when `pod.Spec.HostUsers` is false"
    named = (("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC"))
    return [forbidden(f"{path}.{shown}", detail) for key, shown in named if flag(spec, key)]


def validate_linux(spec: Node, path: str) -> list[FieldError]:
    """Validate that a Linux pod has no Windows options."""
    holders = [(spec, path), *each_container(spec, path)]
    return [
        forbidden(f"{at}.securityContext.windowsOptions", _NO_WINDOWS)
        for holder, at in holders
        if child(child(holder, "securityContext"), "windowsOptions") is not None
    ]


_POD_LINUX_FIELDS: Final = (
    ("securityContext", "appArmorProfile"),
    ("securityContext", "seLinuxOptions"),
    ("", "hostUsers"),
    ("", "hostPID"),
    ("", "hostIPC"),
    ("securityContext", "seccompProfile"),
    ("securityContext", "fsGroup"),
    ("securityContext", "fsGroupChangePolicy"),
    ("securityContext", "sysctls"),
    ("", "shareProcessNamespace"),
    ("securityContext", "runAsUser"),
    ("securityContext", "runAsGroup"),
    ("securityContext", "supplementalGroups"),
    ("securityContext", "supplementalGroupsPolicy"),
    ("securityContext", "seLinuxChangePolicy"),
)
_CONTAINER_LINUX_FIELDS: Final = (
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
)


def validate_windows(spec: Node, path: str) -> list[FieldError]:
    """Validate that a Windows pod has no Linux options."""
    errors: list[FieldError] = []
    for parent, key in _POD_LINUX_FIELDS:
        holder = child(spec, parent) if parent else spec
        # The host namespaces are plain booleans, and sysctls may be an empty list: only what says something counts.
        given = bool(holder and holder.get(key)) if key in ("hostPID", "hostIPC", "sysctls") else is_set(holder, key)
        if given:
            errors.append(forbidden(f"{path}.{parent}.{key}" if parent else f"{path}.{key}", _NO_LINUX))
    for container, at in each_container(spec, path):
        context = child(container, "securityContext")
        errors += [
            forbidden(f"{at}.securityContext.{key}", _NO_LINUX)
            for key in _CONTAINER_LINUX_FIELDS
            if is_set(context, key)
        ]
    return errors
