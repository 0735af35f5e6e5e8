"""The difference between the status that stands in the API and the one that the node reports.

Purpose: a strategic merge patch that has only what changed, or none at all: a node that has nothing new to say writes
nothing.

Guarantees: conditions of other writers are never touched, neither are fields that a kubelet does not own. Absent, null
and empty are the same.

What this does not do: it decides nothing about races; the shell adds uid and resourceVersion.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kruise.simulator.kubelet_status import OWNED_CONDITIONS

_FIELDS: Final = (
    "phase",
    "reason",
    "message",
    "startTime",
    "hostIP",
    "hostIPs",
    "podIP",
    "podIPs",
    "observedGeneration",
    "initContainerStatuses",
    "containerStatuses",
)
_VANISHING: Final = frozenset({"reason", "message"})
"""Fields that are taken away when the new status has none; the others are only ever set."""


def status_patch(current: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the ``status`` of a strategic merge patch that leads from *current* to *wanted*; ``None`` for none."""
    patch: dict[str, Any] = {}
    for name in _FIELDS:
        new = wanted.get(name)
        if new is None:
            if name in _VANISHING and current.get(name):
                patch[name] = None
        elif _plain(new) != _plain(current.get(name)):
            patch[name] = new
    if conditions := _conditions(current.get("conditions") or (), wanted.get("conditions") or ()):
        patch["conditions"] = conditions
    return patch or None


def _conditions(current: Any, wanted: Any) -> list[dict[str, Any]]:
    have = {c["type"]: c for c in current}
    want = {c["type"]: c for c in wanted}
    changed: list[dict[str, Any]] = []
    for kind, condition in want.items():
        if _plain(condition) == _plain({k: v for k, v in have.get(kind, {}).items() if k in _COMPARED}):
            continue
        # A reason that is gone must be taken away by name: the merge keeps what is not mentioned.
        gone = {k: None for k in ("reason", "message") if k not in condition and have.get(kind, {}).get(k)}
        changed.append({**condition, **gone})
    changed += [{"$patch": "delete", "type": kind} for kind in have if kind in OWNED_CONDITIONS and kind not in want]
    return changed


_COMPARED: Final = frozenset({"type", "status", "reason", "message", "lastTransitionTime"})


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        cleaned = {key: _plain(item) for key, item in value.items()}
        return {key: item for key, item in cleaned.items() if item is not None and item != {} and item != []} or None
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value] or None
    return None if value == "" else value
