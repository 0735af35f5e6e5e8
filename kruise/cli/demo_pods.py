"""What the demo has seen of the set: its pods, what happened to them, and whether each is still the same pod.

Purpose: one picture that the table, the lines and the checks of the second act share. Pure: commits go in, happenings
come out.

Guarantees: every commit is seen, so the largest number of pods that were out of service at once is exact, not sampled.

What this does not do: it asks nobody; what is not committed did not happen.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any, Final

from kruise.apis.ordinals import NO_MEMBER, parse_member
from kruise.apis.statefulset import LABEL_REVISION, STATEFULSETS
from kruise.controllers.common.readiness import IN_PLACE_GATE
from kruise.runtime.objects import Key
from kruise.simulator.apiserver.storage import Commit

__all__ = ["SETS", "Event", "Face", "PodEvent", "SetPicture", "is_ready", "told"]

Body = dict[str, Any]

SETS: Final = str(STATEFULSETS)
_PULL: Final = ("ErrImagePull", "ImagePullBackOff")


class Event(enum.Enum):
    """What can happen to a pod."""

    SERVES = "it is ready for the first time"
    OUT = "its readiness gate was set to False"
    IMAGE = "its image was changed"
    STUCK = "its image cannot be pulled"
    BACK = "it is ready again"
    GONE = "it was deleted"


@dataclass(frozen=True, slots=True)
class PodEvent:
    """One thing that a person may want to read."""

    event: Event
    pod: str
    text: str = ""
    """The node and the IP, or the image."""
    seconds: float = 0.0
    """For how long it was out of service."""


def told(event: PodEvent, *, image: str = "its image") -> str:
    """Return the line that tells *event*; *image* is what has changed where a pod has several."""
    pod = event.pod
    match event.event:
        case Event.SERVES:
            return f"{pod}: in service on {event.text}"
        case Event.OUT:
            return f"{pod}: out of service"
        case Event.IMAGE:
            return f"{pod}: {image} is now {event.text}"
        case Event.STUCK:
            return f"{pod}: cannot pull {event.text}"
        case Event.BACK:
            return f"{pod}: back in service after {event.seconds:.1f} s, with {event.text}"
        case Event.GONE:
            return f"{pod}: deleted"


@dataclass(frozen=True, slots=True)
class Face:
    """By what a pod is known to the world, and how its container is."""

    uid: str
    node: str
    ip: str
    container: str
    """The id of the container that runs."""
    restarts: int
    image: str
    """What the kubelet says that it runs."""
    revision: str

    @property
    def place(self) -> tuple[str, str, str]:
        """What an in-place update keeps."""
        return self.uid, self.node, self.ip


@dataclass(slots=True)
class SetPicture:
    """The set, as far as the demo shows it."""

    name: str
    namespace: str = "default"
    set: Body = field(default_factory=dict)
    pods: dict[int, Body] = field(default_factory=dict)
    """By ordinal."""
    revisions: dict[str, Body] = field(default_factory=dict)
    most_out: int = 0
    """The most pods that were out of service at once since :meth:`forget`."""
    deleted: int = 0
    _since: dict[int, float] = field(default_factory=dict)
    _stuck: dict[int, str] = field(default_factory=dict)

    def take(self, commit: Commit) -> list[PodEvent]:
        """Take in a commit; return what is new in it."""
        if commit.key.namespace != self.namespace:
            return []
        if commit.resource == SETS and commit.key.name == self.name:
            self.set = commit.new.obj
        elif commit.resource == "controllerrevisions.apps":
            if commit.type == "DELETED":
                self.revisions.pop(commit.key.name, None)
            else:
                self.revisions[commit.key.name] = commit.new.obj
        elif commit.resource == "pods":
            ordinal = parse_member(commit.key.name, self.name)
            return [] if ordinal == NO_MEMBER else self._pod(ordinal, commit)
        return []

    def _pod(self, ordinal: int, commit: Commit) -> list[PodEvent]:
        name, pod = commit.key.name, commit.new.obj
        if commit.type == "DELETED":
            self.pods.pop(ordinal, None)
            self.deleted += 1
            return [PodEvent(Event.GONE, name)]
        before = self.pods.get(ordinal, {})
        self.pods[ordinal] = pod
        self.most_out = max(self.most_out, sum(not is_ready(p) for p in self.pods.values()))
        found: list[PodEvent] = []
        if condition(before, IN_PLACE_GATE) != "False" and condition(pod, IN_PLACE_GATE) == "False":
            self._since[ordinal] = commit.time
            found.append(PodEvent(Event.OUT, name))
        if before and image_of(before) != image_of(pod):
            found.append(PodEvent(Event.IMAGE, name, image_of(pod)))
        if _waits_for_image(pod) and self._stuck.get(ordinal) != image_of(pod):
            self._stuck[ordinal] = image_of(pod)
            found.append(PodEvent(Event.STUCK, name, image_of(pod)))
        if is_ready(pod) and not is_ready(before):
            found.append(self._ready(ordinal, name, pod, commit.time))
        return found

    def _ready(self, ordinal: int, name: str, pod: Body, now: float) -> PodEvent:
        if ordinal in self._since:
            return PodEvent(Event.BACK, name, image_of(pod), max(0.0, now - self._since.pop(ordinal)))
        return PodEvent(Event.SERVES, name, f"{pod['spec'].get('nodeName')}, {pod['status'].get('podIP')}")

    def forget(self) -> None:
        """Begin to count anew how many pods are out of service at once."""
        self.most_out = sum(not is_ready(p) for p in self.pods.values())

    @property
    def key(self) -> Key:
        """The key of the set."""
        return Key(self.namespace, self.name)

    @property
    def status(self) -> Body:
        """The status of the set."""
        return self.set.get("status") or {}

    def condition(self, kind: str) -> tuple[str, str]:
        """Return status and reason of a condition of the set; twice ``""`` when it is not there."""
        for found in self.status.get("conditions") or ():
            if found.get("type") == kind:
                return str(found.get("status") or ""), str(found.get("reason") or "")
        return "", ""

    def ready(self) -> int:
        """Return how many pods are ready."""
        return sum(is_ready(p) for p in self.pods.values())

    def faces(self) -> dict[int, Face]:
        """Return by what each pod is known."""
        return {ordinal: _face(pod) for ordinal, pod in sorted(self.pods.items())}

    def waiting(self) -> list[int]:
        """Return the pods whose image cannot be pulled."""
        return sorted(ordinal for ordinal, pod in self.pods.items() if _waits_for_image(pod))


def condition(pod: Body, kind: str) -> str:
    """Return the status of a condition of *pod*, ``""`` when it is not there."""
    for found in (pod.get("status") or {}).get("conditions") or ():
        if found.get("type") == kind:
            return str(found.get("status") or "")
    return ""


def is_ready(pod: Body) -> bool:
    """Tell whether *pod* is in service."""
    return condition(pod, "Ready") == "True"


def image_of(pod: Body) -> str:
    """Return the image that *pod* shall run."""
    return str(pod["spec"]["containers"][0]["image"]) if pod else ""


def _container(pod: Body) -> Body:
    found: list[Body] = (pod.get("status") or {}).get("containerStatuses") or [{}]
    return found[0]


def _waits_for_image(pod: Body) -> bool:
    """Tell whether the kubelet cannot pull the image of *pod*: this one, and not the one before it."""
    waiting = (_container(pod).get("state") or {}).get("waiting") or {}
    return waiting.get("reason") in _PULL and image_of(pod) in (waiting.get("message") or "")


def _face(pod: Body) -> Face:
    container, status = _container(pod), pod.get("status") or {}
    return Face(
        uid=pod["metadata"]["uid"],
        node=str(pod["spec"].get("nodeName") or ""),
        ip=str(status.get("podIP") or ""),
        container=str(container.get("containerID") or ""),
        restarts=int(container.get("restartCount") or 0),
        image=str(container.get("image") or ""),
        revision=str((pod["metadata"].get("labels") or {}).get(LABEL_REVISION) or ""),
    )
