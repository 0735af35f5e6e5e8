"""The Pod Security level of a pod, for C9: told from the pod alone, by the published standards.

Purpose: an oracle of its own, since the injection judges what it adds and this judges the whole pod.

Guarantees: ``restricted`` implies ``baseline`` implies ``privileged``; a pod has the strictest level that it meets.

What this does not do: AppArmor annotations, sysctls and what holds for Windows alone; no namespace exemption.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from kruise.simulator.invariants.model import Body

LEVELS: Final = ("privileged", "baseline", "restricted")
_ADDED: Final = {
    *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP"),
    *("SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
}
_VOLUMES: Final = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected"),
    "secret",
}
_CONFINED: Final = ("RuntimeDefault", "Localhost")


def level_of(pod: Body) -> str:
    """Return the strictest level that a pod meets."""
    spec = pod.get("spec") or {}
    if not all(_baseline(spec)):
        return "privileged"
    return "restricted" if all(_restricted(spec)) else "baseline"


def stricter(level: str, other: str) -> bool:
    """Tell whether *level* is stricter than *other*; a word that is no level is the weakest."""
    return _place(level) > _place(other)


def _place(level: str) -> int:
    return LEVELS.index(level) if level in LEVELS else 0


def _containers(spec: Body) -> Iterator[tuple[Body, Body]]:
    for field in ("initContainers", "containers"):
        for one in spec.get(field) or ():
            yield one, one.get("securityContext") or {}


def _baseline(spec: Body) -> Iterator[bool]:
    yield not any(spec.get(name) for name in ("hostNetwork", "hostPID", "hostIPC"))
    yield not any(volume.get("hostPath") is not None for volume in spec.get("volumes") or ())
    yield _unconfined(spec.get("securityContext") or {})
    for one, context in _containers(spec):
        yield not context.get("privileged")
        yield set(_capabilities(context, "add")) <= _ADDED
        yield not any(port.get("hostPort") for port in one.get("ports") or ())
        yield (context.get("procMount") or "Default") == "Default"
        yield _unconfined(context)


def _unconfined(context: Body) -> bool:
    return all((context.get(name) or {}).get("type") != "Unconfined" for name in ("seccompProfile", "appArmorProfile"))


def _restricted(spec: Body) -> Iterator[bool]:
    whole = spec.get("securityContext") or {}
    yield all(set(volume) - {"name"} <= _VOLUMES for volume in spec.get("volumes") or ())
    yield whole.get("runAsUser") != 0
    for _, context in _containers(spec):
        non_root = context.get("runAsNonRoot")
        yield bool(whole.get("runAsNonRoot") if non_root is None else non_root)
        yield context.get("runAsUser") != 0
        yield context.get("allowPrivilegeEscalation") is False
        yield "ALL" in _capabilities(context, "drop")
        yield set(_capabilities(context, "add")) <= {"NET_BIND_SERVICE"}
        yield ((context.get("seccompProfile") or whole.get("seccompProfile") or {}).get("type")) in _CONFINED


def _capabilities(context: Body, name: str) -> list[Any]:
    return (context.get("capabilities") or {}).get(name) or []
