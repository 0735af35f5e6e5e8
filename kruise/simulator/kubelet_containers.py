"""One container, from waiting to its last end: a pure function of what is remembered, what is ordered, and the time.

Purpose: :func:`advance` applies every transition that is due at one instant; :func:`due` says when the next one comes.

Guarantees:

* Crash loops wait as Kubernetes' kubelets do: the first restart comes at once, then 10 s, doubled up to 5 min; ten
  minutes of running start it anew. Failed pulls wait 10 s, doubled up to 5 min.
* A changed image or a resize that asks for it ends a running container whatever its restart policy is, and starts it
  anew without back-off: new containerID, restartCount + 1.
* A restart policy is asked once a container has ended, and never for one that was told to end with its pod.

What this does not do: it knows no other container; the pod (``kubelet``) decides whose turn it is.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from kruise.simulator.behaviour import ContainerBehaviour
from kruise.simulator.kubelet_types import ContainerState, Exit, Stage

BACKOFF_INITIAL: Final = 10.0
BACKOFF_MAX: Final = 300.0
BACKOFF_RESET: Final = 600.0
"""Seconds of running after which an end counts as the first again."""
PULL_ERROR_SECONDS: Final = 1.0
"""How long ErrImagePull shows before ImagePullBackOff does."""
KILLED: Final = 137

ALWAYS: Final = "Always"
ON_FAILURE: Final = "OnFailure"
NEVER: Final = "Never"


@dataclass(frozen=True, slots=True)
class Order:
    """What the pod wants of a container at this instant."""

    uid: str
    """The pod's."""
    spec: Mapping[str, Any]
    behaviour: ContainerBehaviour
    may_start: bool
    restart: str
    """Always, OnFailure or Never."""
    grace: float
    """Seconds between SIGTERM and SIGKILL."""
    stop: bool = False
    """End it, and do not start it again."""
    deadline: float = math.inf
    """The instant at which everything in the pod is killed."""
    renew: bool = False
    """Its resources changed in a way that needs a new run."""

    @property
    def name(self) -> str:
        """The container's name."""
        name: str = self.spec["name"]
        return name

    @property
    def image(self) -> str:
        """The image that the spec asks for, as statuses name it."""
        return reported_image(self.spec.get("image") or "")


def crash_delay(crashes: int) -> float:
    """Return the back-off after so many ends in a row, in seconds."""
    return 0.0 if crashes <= 1 else min(BACKOFF_MAX, BACKOFF_INITIAL * 2.0 ** min(crashes - 2, 10))


def pull_delay(failures: int) -> float:
    """Return the wait after so many failed pulls in a row, in seconds."""
    return min(BACKOFF_MAX, BACKOFF_INITIAL * 2.0 ** min(failures - 1, 10))


def reported_image(image: str) -> str:
    """Return an image reference as a status shows it: with the tag that is meant when there is none."""
    return f"{image}:latest" if image and ":" not in image.rpartition("/")[2] and "@" not in image else image


def image_digest(image: str) -> str:
    """Return the imageID of an image: its digest where the reference has one, else one made from the reference."""
    if "@sha256:" in image:
        return image
    repository = image.rpartition(":")[0] if ":" in image.rpartition("/")[2] else image
    return f"{repository}@sha256:{hashlib.sha256(image.encode()).hexdigest()}"


def container_id(uid: str, name: str, restarts: int) -> str:
    """Return the containerID of one run. No two runs have the same."""
    return f"containerd://{hashlib.sha256(f'{uid}/{name}/{restarts}'.encode()).hexdigest()}"


def restarts_after(end: Exit, policy: str) -> bool:
    """Tell whether *policy* starts a container again after *end*."""
    return policy == ALWAYS or (policy == ON_FAILURE and end.code != 0)


def resting(c: ContainerState, order: Order) -> bool:
    """Tell whether a container has ended and nothing will start it again."""
    return (
        c.stage is Stage.TERMINATED
        and not c.killed
        and c.last is not None
        and not restarts_after(c.last, order.restart)
    )


def advance(c: ContainerState, order: Order, now: float) -> ContainerState:
    """Return the container after every transition that is due at *now*."""
    while True:
        after = _TRANSITIONS[c.stage](c, order, now)
        if after is c:
            return c
        c = after


def _waiting(c: ContainerState, order: Order, now: float) -> ContainerState:
    return _create(c, order, now) if order.may_start and not order.stop else c


def _create(c: ContainerState, order: Order, now: float) -> ContainerState:
    return replace(c, stage=Stage.CREATING, since=now, image=order.image, pulls=0, first_pull=None)


def _creating(c: ContainerState, order: Order, now: float) -> ContainerState:
    if order.stop:
        return c
    if order.image != c.image:
        return _create(c, order, now)
    return _pull(c, order, now) if now >= c.since + order.behaviour.start_seconds else c


def _pulling(c: ContainerState, order: Order, now: float) -> ContainerState:
    if order.stop:
        return c
    if order.image != c.image:
        return _create(c, order, now)
    if now >= c.since + pull_delay(c.pulls):
        return _pull(c, order, now)
    if c.stage is Stage.PULL_ERROR and now >= c.since + PULL_ERROR_SECONDS:
        return replace(c, stage=Stage.PULL_BACKOFF)
    return c


def _pull(c: ContainerState, order: Order, now: float) -> ContainerState:
    first = now if c.first_pull is None else c.first_pull
    if now - first < order.behaviour.pull_fail_seconds:
        return replace(c, stage=Stage.PULL_ERROR, since=now, pulls=c.pulls + 1, first_pull=first)
    restarts = c.restarts + 1 if c.container_id else c.restarts
    return replace(
        c,
        stage=Stage.RUNNING,
        since=now,
        started=now,
        restarts=restarts,
        container_id=container_id(order.uid, order.name, restarts),
        image_id=order.behaviour.image_id or image_digest(c.image),
        ran_image=c.image,
        killed=False,
        pulls=0,
        first_pull=None,
        forced=None,
    )


def _running(c: ContainerState, order: Order, now: float) -> ContainerState:
    if c.forced is not None:
        return _end(c, order, now, c.forced)
    if now >= _natural_end(c, order):
        return _end(c, order, now, _exit_code(c, order))
    if order.stop:
        return replace(c, stage=Stage.STOPPING, since=now)
    if order.image != c.image or order.renew:
        return replace(c, stage=Stage.STOPPING, since=now, killed=True)
    return c


def _stopping(c: ContainerState, order: Order, now: float) -> ContainerState:
    if now >= _natural_end(c, order) and _natural_end(c, order) <= _stop_end(c, order):
        return _end(c, order, now, _exit_code(c, order))
    if now >= _stop_end(c, order):
        obeys = c.since + order.behaviour.stop_seconds <= _killed_at(c, order)
        return _end(c, order, now, order.behaviour.stop_exit_code if obeys else KILLED)
    return c


def _terminated(c: ContainerState, order: Order, now: float) -> ContainerState:
    assert c.last is not None
    if order.stop or not (c.killed or restarts_after(c.last, order.restart)):
        return c
    if now < c.since + order.behaviour.restart_seconds:
        return c
    if c.killed:
        return replace(_create(c, order, now), crashes=0)
    if now >= c.since + crash_delay(c.crashes):
        return _create(c, order, now)
    return replace(c, stage=Stage.CRASH_BACKOFF)


def _crash_backoff(c: ContainerState, order: Order, now: float) -> ContainerState:
    if order.stop:
        return c
    if order.image != c.image:
        # The back-off belongs to one image: a new one is tried at once.
        return replace(_create(c, order, now), crashes=0)
    return _create(c, order, now) if now >= c.since + crash_delay(c.crashes) else c


_TRANSITIONS: Final = {
    Stage.WAITING: _waiting,
    Stage.CREATING: _creating,
    Stage.PULL_ERROR: _pulling,
    Stage.PULL_BACKOFF: _pulling,
    Stage.RUNNING: _running,
    Stage.STOPPING: _stopping,
    Stage.TERMINATED: _terminated,
    Stage.CRASH_BACKOFF: _crash_backoff,
}


def _end(c: ContainerState, order: Order, now: float, code: int) -> ContainerState:
    reason = "Completed" if code == 0 else order.behaviour.exit_reason or "Error"
    assert c.started is not None
    crashes = 1 if now - c.started >= BACKOFF_RESET else c.crashes + 1
    end = Exit(code, reason, c.started, now, c.container_id)
    return replace(c, stage=Stage.TERMINATED, since=now, crashes=crashes, last=end, previous=c.last, forced=None)


def _exit_code(c: ContainerState, order: Order) -> int:
    codes = order.behaviour.exit_codes
    return codes[min(c.restarts, len(codes) - 1)]


def _natural_end(c: ContainerState, order: Order) -> float:
    assert c.started is not None
    return c.started + order.behaviour.run_seconds


def _killed_at(c: ContainerState, order: Order) -> float:
    return min(c.since + order.grace, order.deadline)


def _stop_end(c: ContainerState, order: Order) -> float:
    return min(c.since + order.behaviour.stop_seconds, _killed_at(c, order))


def due(c: ContainerState, order: Order, now: float) -> float:
    """Return when this container changes by itself, after :func:`advance` at *now*; infinity for never."""
    b = order.behaviour
    if c.stage is Stage.RUNNING:
        return min(_natural_end(c, order), _ready_change(c, b, now))
    if c.stage is Stage.STOPPING:
        return min(_natural_end(c, order), _stop_end(c, order), _ready_change(c, b, now))
    if order.stop or c.stage is Stage.WAITING:
        return math.inf
    if c.stage is Stage.CREATING:
        return c.since + b.start_seconds
    if c.stage is Stage.PULL_ERROR:
        return min(c.since + PULL_ERROR_SECONDS, c.since + pull_delay(c.pulls))
    if c.stage is Stage.PULL_BACKOFF:
        return c.since + pull_delay(c.pulls)
    if c.stage is Stage.CRASH_BACKOFF:
        return c.since + crash_delay(c.crashes)
    return math.inf if resting(c, order) else c.since + b.restart_seconds


def ready(c: ContainerState, behaviour: ContainerBehaviour, now: float) -> bool:
    """Tell whether a running container passes its readiness probe at *now*."""
    if not c.alive or c.started is None or now < c.started + behaviour.ready_seconds:
        return False
    return behaviour.flap_seconds <= 0 or _flips(c, behaviour, now) % 2 == 0


def _flips(c: ContainerState, b: ContainerBehaviour, now: float) -> int:
    assert c.started is not None
    # A tenth of a percent of a period, because the instant of a flip does not divide exactly in floating point.
    return math.floor((now - c.started - b.ready_seconds) / b.flap_seconds + 1e-3)


def _ready_change(c: ContainerState, b: ContainerBehaviour, now: float) -> float:
    assert c.started is not None
    first = c.started + b.ready_seconds
    if now < first:
        return first
    if b.flap_seconds <= 0:
        return math.inf
    following = first + (_flips(c, b, now) + 1) * b.flap_seconds
    return following if following > now else now + b.flap_seconds
