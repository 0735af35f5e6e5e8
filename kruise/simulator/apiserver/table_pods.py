"""The row of a pod, and ages.

Purpose: the status column of ``kubectl get pods`` says more than the phase; the rules for that are here.

Guarantees:

* TST1: the words are those of a real server: the reason of the pod, of the container that waits or has ended, of the
  init container that is not done, Terminating, Completed, NotReady.

What this does not do: nothing here changes a pod.
"""

from __future__ import annotations

from typing import Any, Final

from kruise.runtime.clock import parse_time

Body = dict[str, Any]

POD_COLUMNS: Final = (
    ("Ready", "string", 0),
    ("Status", "string", 0),
    ("Restarts", "string", 0),
    ("Age", "string", 0),
    ("IP", "string", 1),
    ("Node", "string", 1),
    ("Nominated Node", "string", 1),
    ("Readiness Gates", "string", 1),
)


def since(stamp: Any, now: float) -> str:
    """Return how long ago *stamp* is."""
    moment = parse_time(stamp) if isinstance(stamp, str) else None
    return "<unknown>" if moment is None else age(now - moment)


def age(seconds: float) -> str:
    """Return a duration as kubectl shows it.

    >>> age(59), age(600), age(7260), age(200000)
    ('59s', '10m', '121m', '2d7h')
    """
    if -2 < seconds < 0:
        return "0s"
    if seconds < 0:
        return "<invalid>"
    whole = int(seconds)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if whole < 120:
        return f"{whole}s"
    if minutes < 10:
        return f"{minutes}m{whole % 60}s" if whole % 60 else f"{minutes}m"
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    if days < 730:
        return f"{days}d"
    if days < 365 * 8:
        return f"{days // 365}y{days % 365}d" if days % 365 else f"{days // 365}y"
    return f"{days // 365}y"


def pod_cells(pod: Body, now: float) -> list[Any]:
    """Return the cells of the row of *pod*."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    word, restarts, ready, last = _summary(pod, spec, status)
    shown = str(restarts) if not restarts or last is None else f"{restarts} ({age(now - last)} ago)"
    gates = spec.get("readinessGates") or ()
    conditions = {c["type"]: c["status"] for c in status.get("conditions") or ()}
    open_gates = sum(1 for g in gates if conditions.get(g.get("conditionType")) == "True")
    addresses = status.get("podIPs") or ()
    total = len(spec.get("containers") or ()) + sum(1 for c in spec.get("initContainers") or () if _sidecar(c))
    return [
        pod["metadata"]["name"],
        f"{ready}/{total}",
        word,
        shown,
        since(pod["metadata"].get("creationTimestamp"), now),
        addresses[0]["ip"] if addresses else "<none>",
        spec.get("nodeName") or "<none>",
        status.get("nominatedNodeName") or "<none>",
        f"{open_gates}/{len(gates)}" if gates else "<none>",
    ]


def _sidecar(container: Body) -> bool:
    return bool(container.get("restartPolicy") == "Always")


def _summary(pod: Body, spec: Body, status: Body) -> tuple[str, int, int, float | None]:
    word = status.get("reason") or status.get("phase") or ""
    if any(
        c["type"] == "PodScheduled" and c.get("reason") == "SchedulingGated" for c in status.get("conditions") or ()
    ):
        word = "SchedulingGated"
    found = _initializing(spec, status)
    restarts, ready, last = found[1], found[2], found[3]
    if found[0]:
        word = found[0]
    else:
        word, restarts, ready, last = _running(word, status, restarts if found[4] else 0, ready, last)
    if pod["metadata"].get("deletionTimestamp") and status.get("reason") == "NodeLost":
        word = "Unknown"
    elif pod["metadata"].get("deletionTimestamp") and status.get("phase") not in ("Succeeded", "Failed"):
        word = "Terminating"
    return word, restarts, ready, last


def _ended(state: Body, prefix: str = "") -> str:
    done = state["terminated"]
    if done.get("reason"):
        return f"{prefix}{done['reason']}"
    if done.get("signal"):
        return f"{prefix}Signal:{done['signal']}"
    return f"{prefix}ExitCode:{done.get('exitCode') or 0}"


def _last_end(container: Body, last: float | None) -> float | None:
    ended = ((container.get("lastState") or {}).get("terminated") or {}).get("finishedAt")
    moment = parse_time(ended) if ended else None
    return last if moment is None else moment if last is None else max(last, moment)


def _initializing(spec: Body, status: Body) -> tuple[str, int, int, float | None, bool]:
    """Return the word while init containers are not done; restarts, ready, last end, and whether there are sidecars."""
    declared = {c.get("name"): c for c in spec.get("initContainers") or ()}
    restarts = ready = 0
    last: float | None = None
    sidecars = False
    for i, container in enumerate(status.get("initContainerStatuses") or ()):
        state = container.get("state") or {}
        restarts += container.get("restartCount") or 0
        last = _last_end(container, last)
        if "terminated" in state and not state["terminated"].get("exitCode"):
            if _sidecar(declared.get(container.get("name"), {})):
                sidecars = True
            continue
        if _sidecar(declared.get(container.get("name"), {})) and container.get("started"):
            sidecars = True
            ready += bool(container.get("ready"))
            continue
        waiting = state.get("waiting") or {}
        if "terminated" in state:
            word = _ended(state, "Init:")
        elif waiting.get("reason") and waiting["reason"] != "PodInitializing":
            word = f"Init:{waiting['reason']}"
        else:
            word = f"Init:{i}/{len(declared)}"
        return word, restarts, ready, last, sidecars
    return "", restarts, ready, last, sidecars


def _running(
    word: str, status: Body, restarts: int, ready: int, last: float | None
) -> tuple[str, int, int, float | None]:
    has_running = False
    for container in reversed(status.get("containerStatuses") or ()):
        state = container.get("state") or {}
        restarts += container.get("restartCount") or 0
        last = _last_end(container, last)
        waiting = state.get("waiting") or {}
        if waiting.get("reason"):
            word = waiting["reason"]
        elif "terminated" in state:
            word = _ended(state)
        elif container.get("ready") and "running" in state:
            has_running = True
            ready += 1
    if word == "Completed" and has_running:
        conditions = status.get("conditions") or ()
        word = "Running" if any(c["type"] == "Ready" and c["status"] == "True" for c in conditions) else "NotReady"
    return word, restarts, ready, last
