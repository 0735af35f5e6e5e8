"""Validation of probes and lifecycle hooks.

Purpose: what runs beside a container: exec, httpGet, tcpSocket, grpc, sleep.

Guarantees: exactly one handler is accepted; the first of several is checked, the others are refused.

What this does not do: it does not check that a named port exists.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from kruise.apis import labels
from kruise.apis.fielderrors import FieldError, forbidden, invalid, not_supported, required
from kruise.apis.podtemplate.fields import Node, child, is_set, items, number, optional_number, text, texts

__all__ = ["validate_lifecycle", "validate_probes"]

_PROBE_HANDLERS: Final = ("exec", "httpGet", "tcpSocket", "grpc")
_HOOK_HANDLERS: Final = ("exec", "httpGet", "tcpSocket", "sleep")
_COUNTERS: Final = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")
_NOT_NEGATIVE: Final = "must be greater than or equal to 0"


def _validate_port(port: Any, path: str) -> list[FieldError]:
    if isinstance(port, str):
        return [invalid(path, port, found) for found in labels.port_name(port)]
    value = port if isinstance(port, int) else 0
    return [invalid(path, value, found) for found in labels.port_number(value)]


def _exec(action: Node, _grace: int | None, path: str) -> list[FieldError]:
    return [] if texts(action, "command") else [required(f"{path}.command")]


def _http_get(action: Node, _grace: int | None, path: str) -> list[FieldError]:
    errors = [] if text(action, "path") else [required(f"{path}.path")]
    errors += _validate_port(action.get("port"), f"{path}.port")
    if text(action, "scheme") not in ("HTTP", "HTTPS"):
        errors.append(not_supported(f"{path}.scheme", text(action, "scheme"), ("HTTP", "HTTPS")))
    for header in items(action, "httpHeaders"):
        name = text(header, "name")
        errors += [invalid(f"{path}.httpHeaders", name, found) for found in labels.http_header_name(name)]
    return errors


def _port_only(action: Node, _grace: int | None, path: str) -> list[FieldError]:
    return _validate_port(action.get("port"), f"{path}.port")


def _sleep(action: Node, grace: int | None, path: str) -> list[FieldError]:
    seconds = number(action, "seconds")
    if grace is None or 0 < seconds <= grace:
        return []
    detail = (
        f"must be greater than 0 and less than terminationGracePeriodSeconds ({grace}). "
        "Enable AllowPodLifecycleSleepActionZeroValue feature gate for zero sleep."
    )
    return [invalid(path, seconds, detail)]


_CHECKS: Final[dict[str, Callable[[Node, int | None, str], list[FieldError]]]] = {
    "exec": _exec,
    "httpGet": _http_get,
    "tcpSocket": _port_only,
    "grpc": _port_only,
    "sleep": _sleep,
}


def _validate_handler(handler: Node, kinds: tuple[str, ...], grace: int | None, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    found = False
    for kind in kinds:
        action = child(handler, kind)
        if action is None:
            continue
        if found:
            errors.append(forbidden(f"{path}.{kind}", "may not specify more than 1 handler type"))
        else:
            found = True
            errors += _CHECKS[kind](action, grace, f"{path}.{kind}")
    return errors if found else [required(path, "must specify a handler type")]


def validate_lifecycle(container: Node, grace: int | None, path: str) -> list[FieldError]:
    """Validate the hooks of *container*, whose own path is *path*."""
    lifecycle = child(container, "lifecycle")
    errors: list[FieldError] = []
    for hook in ("postStart", "preStop"):
        if (handler := child(lifecycle, hook)) is not None:
            errors += _validate_handler(handler, _HOOK_HANDLERS, grace, f"{path}.lifecycle.{hook}")
    return errors


def validate_probes(container: Node, grace: int | None, path: str) -> list[FieldError]:
    """Validate the three probes of *container*, whose own path is *path*."""
    errors: list[FieldError] = []
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = child(container, name)
        if probe is None:
            continue
        at = f"{path}.{name}"
        errors += _validate_handler(probe, _PROBE_HANDLERS, grace, at)
        for counter in _COUNTERS:
            if (value := number(probe, counter)) < 0:
                errors.append(invalid(f"{at}.{counter}", value, _NOT_NEGATIVE))
        own_grace = optional_number(probe, "terminationGracePeriodSeconds")
        if own_grace is not None and own_grace <= 0:
            errors.append(invalid(f"{at}.terminationGracePeriodSeconds", own_grace, "must be greater than 0"))
        if name == "readinessProbe":
            if is_set(probe, "terminationGracePeriodSeconds"):
                detail = "must not be set for readinessProbes"
                errors.append(invalid(f"{at}.terminationGracePeriodSeconds", own_grace, detail))
        elif (threshold := number(probe, "successThreshold")) != 1:
            errors.append(invalid(f"{at}.successThreshold", threshold, "must be 1"))
    return errors
