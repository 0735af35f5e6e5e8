"""Pod Security: whether a namespace would refuse a pod because of what a set adds to it.

Purpose: the level of a namespace is enforced after mutation, so one sidecar that breaks it keeps every pod of the
namespace from being created. Such a set is left out for the pod, and the pod starts (C9; reliability 8.4).

Guarantees:

* Only what the set adds is judged, with what containers inherit from the pod's own security context. A pod that breaks
  the level by itself is the business of its author.
* A namespace without the label of the level enforces nothing here.

What this does not do: it does not see defaults and exemptions that a cluster gives its API server in a file, and it
judges by the rules of the latest version, whatever ``enforce-version`` says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from kruise.webhooks.inject_set import Parts

__all__ = ["ENFORCE_LABEL", "PodContext", "violation"]

ENFORCE_LABEL: Final = "pod-security.kubernetes.io/enforce"
_PRIVILEGED: Final = "privileged"
_BASELINE: Final = "baseline"

_CAPABILITIES: Final = frozenset(
    [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ]
)
"""What containers may add under ``baseline``."""
_SELINUX_TYPES: Final = frozenset({"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"})
_VOLUMES: Final = frozenset(
    [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ]
)
"""The volumes of ``restricted``."""
_CONFINED: Final = frozenset({"RuntimeDefault", "Localhost"})


class PodContext(msgspec.Struct, frozen=True, gc=False):
    """What containers inherit from their pod."""

    run_as_non_root: bool = False
    seccomp: str = ""
    windows: bool = False


def violation(parts: Parts, namespace_labels: Mapping[str, str] | None, pod: PodContext) -> str:
    """Say what the level of the namespace forbids in *parts*; ``""``: nothing."""
    level = (namespace_labels or {}).get(ENFORCE_LABEL) or _PRIVILEGED
    if level == _PRIVILEGED:
        return ""
    for found in _violations(parts, pod, restricted=level != _BASELINE):
        return f"the namespace enforces Pod Security {level}: {found}"
    return ""


def _violations(parts: Parts, pod: PodContext, *, restricted: bool) -> Iterator[str]:
    for name, volume in parts.used_volumes.items():
        sources = {key for key, value in volume.body.items() if key != "name" and value is not None}
        if "hostPath" in sources or (restricted and not sources <= _VOLUMES):
            yield f"volume {name}: {', '.join(sorted(sources))}"
    for sidecar in parts.sidecars:
        context = _map(sidecar.core.get("securityContext"))
        rules = [_baseline(sidecar.core, context)]
        if restricted:
            rules.append(_restricted(context, pod))
        for rule in rules:
            for what in rule:
                yield f"container {sidecar.name}: {what}"


def _baseline(container: Mapping[str, Any], context: Mapping[str, Any]) -> Iterator[str]:
    if context.get("privileged"):
        yield "privileged"
    added = set(_texts(_map(context.get("capabilities")).get("add")))
    if not added <= _CAPABILITIES:
        yield f"capabilities.add {', '.join(sorted(added - _CAPABILITIES))}"
    if any(_map(port).get("hostPort") for port in container.get("ports") or ()):
        yield "hostPort"
    if (context.get("procMount") or "Default") != "Default":
        yield "procMount"
    for field in ("seccompProfile", "appArmorProfile"):
        if _map(context.get(field)).get("type") == "Unconfined":
            yield f"{field} Unconfined"
    selinux = _map(context.get("seLinuxOptions"))
    if (selinux.get("type") or "") not in _SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
        yield "seLinuxOptions"
    if _map(context.get("windowsOptions")).get("hostProcess"):
        yield "hostProcess"


def _restricted(context: Mapping[str, Any], pod: PodContext) -> Iterator[str]:
    non_root = context.get("runAsNonRoot")
    if not (pod.run_as_non_root if non_root is None else non_root):
        yield "runAsNonRoot is not true"
    if context.get("runAsUser") == 0:
        yield "runAsUser 0"
    if pod.windows:
        return  # what follows means nothing on nodes with Windows
    if context.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    capabilities = _map(context.get("capabilities"))
    if "ALL" not in _texts(capabilities.get("drop")) or set(_texts(capabilities.get("add"))) - {"NET_BIND_SERVICE"}:
        yield "capabilities are not dropped"
    if (_map(context.get("seccompProfile")).get("type") or pod.seccomp) not in _CONFINED:
        yield "seccompProfile is not set"


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _texts(value: Any) -> Iterable[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else ()
