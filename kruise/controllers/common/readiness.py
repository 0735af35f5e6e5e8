"""The conditions by which a pod is taken out of service and put back: readiness gates of ours, and Ready.

Purpose: ``InPlaceUpdateReady`` is False while a pod is updated in place; ``KruisePodReady`` is False while a lifecycle
hook asks for it. Both work through the readiness gates of the pod (spec/advanced-statefulset 7.3, 7.4, 8.3).

Guarantees:

* S4: what makes a pod unready makes its Ready condition False in the same write, so that endpoints drop it without
  waiting for the kubelet.
* A condition that is as it should be is not written, whatever its reason and message are (spec 16, row 25; G4).
* The keys of other agents in ``KruisePodReady`` are kept. A condition that is missing is created as False (spec 8.3).

What this does not do: Ready is never turned True; that is the kubelet's word. A pod without a gate is left alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import msgspec
import orjson

from kruise.apis.core import Pod, PodCondition
from kruise.runtime.clock import format_time

__all__ = [
    "IN_PLACE_GATE",
    "POD_READY_GATE",
    "PRE_DELETE_KEY",
    "PRE_UPDATE_KEY",
    "TRUE",
    "Edit",
    "NotReadyKey",
    "condition_of",
    "dump_keys",
    "has_gate",
    "is_reported",
    "keys_of",
    "parse_keys",
]

IN_PLACE_GATE: Final = "InPlaceUpdateReady"
POD_READY_GATE: Final = "KruisePodReady"
READY: Final = "Ready"
CONTAINERS_READY: Final = "ContainersReady"

STARTED: Final = "StartInPlaceUpdate"
"""The reason of a False ``InPlaceUpdateReady``."""
GATES_NOT_READY: Final = "ReadinessGatesNotReady"
"""The reason that the kubelet gives for a Ready that a gate makes False."""

TRUE: Final = "True"
FALSE: Final = "False"


class NotReadyKey(NamedTuple):
    """One cause for which ``KruisePodReady`` is False. The order of the fields is the order of the keys."""

    user_agent: str
    key: str


PRE_DELETE_KEY: Final = NotReadyKey("Lifecycle", "preDeleteHook")
PRE_UPDATE_KEY: Final = NotReadyKey("Lifecycle", "preUpdateHook")


class _Message(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    user_agent: str = ""
    key: str = ""


_decode_keys: Final = msgspec.json.Decoder(list[_Message]).decode


def has_gate(pod: Pod, gate: str) -> bool:
    """Tell whether the readiness of *pod* depends on the condition *gate*."""
    return any(one.condition_type == gate for one in pod.spec.readiness_gates)


def condition_of(pod: Pod, kind: str) -> PodCondition | None:
    """Return the condition of *pod* of that type."""
    for one in pod.status.conditions:
        if one.type == kind:
            return one
    return None


_REPORTED: Final = frozenset({READY, CONTAINERS_READY, "Initialized"})
"""The conditions that a kubelet alone makes."""


def is_reported(pod: Pod) -> bool:
    """Tell whether the node of the pod has said anything of it.

    Before that, the scheduler and then the kubelet move its version within milliseconds: a write of ours would be
    refused. Nothing is lost: the kubelet alone says Ready, and its first report says that containers have yet to start.
    """
    status = pod.status
    if status.phase not in ("", "Pending") or status.container_statuses or status.init_container_statuses:
        return True
    return any(one.type in _REPORTED for one in status.conditions)


def parse_keys(message: str) -> tuple[NotReadyKey, ...]:
    """Return the keys in the message of a ``KruisePodReady``. A text that is no list of keys has none."""
    if not message:
        return ()
    try:
        return tuple(NotReadyKey(one.user_agent, one.key) for one in _decode_keys(message))
    except msgspec.DecodeError:
        return ()


def dump_keys(keys: Iterable[NotReadyKey]) -> str:
    """Return the message that holds *keys*, sorted.

    >>> dump_keys([PRE_UPDATE_KEY])
    '[{"userAgent":"Lifecycle","key":"preUpdateHook"}]'
    """
    return orjson.dumps([{"userAgent": agent, "key": key} for agent, key in sorted(keys)]).decode()


def keys_of(pod: Pod) -> tuple[NotReadyKey, ...]:
    """Return the keys for which ``KruisePodReady`` of *pod* is False."""
    have = condition_of(pod, POD_READY_GATE)
    return parse_keys(have.message) if have is not None else ()


class Edit:
    """The changes to the conditions of one pod that go into one status patch.

    Each method changes what is not yet so. :meth:`body` is empty when there is nothing to write.
    """

    def __init__(self, pod: Pod, now: float) -> None:
        self._pod = pod
        self._stamp = format_time(now)
        self._changed: dict[str, dict[str, Any]] = {}
        self._lowered = False

    def in_place_not_ready(self) -> None:
        """Make ``InPlaceUpdateReady`` False, and Ready with it."""
        self._lowered = True
        if self._status(IN_PLACE_GATE) != FALSE:
            self._put(IN_PLACE_GATE, FALSE, reason=STARTED)

    def in_place_ready(self) -> None:
        """Make ``InPlaceUpdateReady`` True."""
        if self._status(IN_PLACE_GATE) != TRUE:
            self._put(IN_PLACE_GATE, TRUE)

    def pod_ready(self) -> None:
        """Give the pod a ``KruisePodReady`` that is True, if it has none."""
        if condition_of(self._pod, POD_READY_GATE) is None:
            self._put(POD_READY_GATE, TRUE)

    def add_key(self, key: NotReadyKey) -> None:
        """Make ``KruisePodReady`` False for the cause *key*, and Ready with it."""
        keys = keys_of(self._pod)
        if key in keys and self._status(POD_READY_GATE) == FALSE:
            return
        self._lowered = True
        self._put(POD_READY_GATE, FALSE, message=dump_keys({*keys, key}), keep_reason=True)

    def remove_keys(self, *gone: NotReadyKey) -> None:
        """Take the causes *gone* away; without any cause left ``KruisePodReady`` is True."""
        keys = keys_of(self._pod)
        left = [one for one in keys if one not in gone]
        if len(left) == len(keys):
            return
        status = FALSE if left else TRUE
        self._put(POD_READY_GATE, status, message=dump_keys(left), keep_reason=True)

    def body(self) -> list[dict[str, Any]]:
        """Return the conditions of the patch; a list that a strategic merge joins by type."""
        changed = list(self._changed.values())
        if self._lowered:
            ready = self._unready()
            if ready is not None:
                changed.append(ready)
        return changed

    def _status(self, kind: str) -> str | None:
        have = condition_of(self._pod, kind)
        return have.status if have is not None else None

    def _put(self, kind: str, status: str, *, reason: str = "", message: str = "", keep_reason: bool = False) -> None:
        have = condition_of(self._pod, kind)
        body: dict[str, Any] = {"type": kind, "status": status, "lastTransitionTime": self._stamp}
        if reason or (have is not None and have.reason and not keep_reason):
            body["reason"] = reason or None
        if message or (have is not None and have.message):
            body["message"] = message or None
        self._changed[kind] = body

    def _unready(self) -> dict[str, Any] | None:
        """Return a Ready that is False because of the gates, in the words of the kubelet (spec 7.4)."""
        if self._status(READY) != TRUE or self._status(CONTAINERS_READY) != TRUE:
            return None
        causes = [text for gate in self._pod.spec.readiness_gates if (text := self._cause(gate.condition_type))]
        if not causes:
            return None
        return {
            "type": READY,
            "status": FALSE,
            "reason": GATES_NOT_READY,
            "message": ", ".join(causes),
            # Upstream leaves the time out, and the kubelet writes once more to set it: a write that comes between the
            # two of an update in place, and makes the second one stale.
            "lastTransitionTime": self._stamp,
        }

    def _cause(self, gate: str) -> str:
        changed = self._changed.get(gate)
        status = changed["status"] if changed is not None else self._status(gate)
        if status is None:
            return f'corresponding condition of pod readiness gate "{gate}" does not exist.'
        return "" if status == TRUE else f'the status of pod readiness gate "{gate}" is not "True", but {status}'
