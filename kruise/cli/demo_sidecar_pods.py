"""What the demo has seen of the SidecarSet and of the pods that it concerns.

Purpose: one picture that the table, the lines and the checks of the third act share. Pure: commits go in, happenings
come out.

Guarantees: every commit is seen, so the largest number of pods that were out of service at once is exact, not sampled.

What this does not do: it asks nobody; what is not committed did not happen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from kruise.apis.sidecarset import SIDECARSETS
from kruise.cli.demo_pods import Event, PodEvent, is_ready
from kruise.simulator.apiserver.storage import Commit

__all__ = ["APP", "SIDECAR", "SIDECARS", "Pair", "SidecarPicture"]

Body = dict[str, Any]

SIDECARS: Final = str(SIDECARSETS)
APP: Final = "app"
SIDECAR: Final = "log-agent"
"""The names of the two containers of each pod."""


@dataclass(frozen=True, slots=True)
class Pair:
    """By what a pod is known to the world, and how both of its containers are."""

    uid: str
    node: str
    ip: str
    app: tuple[str, int]
    """The container of the person: its id, and how often it was started again."""
    sidecar: tuple[str, int]
    image: str
    """What the sidecar runs."""

    @property
    def untouched(self) -> tuple[object, ...]:
        """What the upgrade of a sidecar keeps."""
        return self.uid, self.node, self.ip, self.app


@dataclass(slots=True)
class SidecarPicture:
    """The set and the pods whose label ``app`` it selects."""

    name: str
    label: str
    set: Body = field(default_factory=dict)
    pods: dict[str, Body] = field(default_factory=dict)
    most_out: int = 0
    """The most pods that were out of service at once since :meth:`forget`."""
    deleted: int = 0
    _since: dict[str, float] = field(default_factory=dict)
    _served: dict[str, None] = field(default_factory=dict)

    def take(self, commit: Commit) -> list[PodEvent]:
        """Take in a commit; return what is new in it."""
        if commit.resource == SIDECARS and commit.key.name == self.name:
            self.set = commit.new.obj
        elif commit.resource == "pods" and (commit.new.obj["metadata"].get("labels") or {}).get("app") == self.label:
            return self._pod(commit)
        return []

    def _pod(self, commit: Commit) -> list[PodEvent]:
        name, pod = commit.key.name, commit.new.obj
        if commit.type == "DELETED":
            self.pods.pop(name, None)
            self.deleted += 1
            return [PodEvent(Event.GONE, name)]
        before = self.pods.get(name, {})
        self.pods[name] = pod
        self.most_out = max(self.most_out, sum(not is_ready(p) for p in self.pods.values()))
        found: list[PodEvent] = []
        if before and image_of(before) != image_of(pod):
            found.append(PodEvent(Event.IMAGE, name, image_of(pod)))
        if is_ready(before) and not is_ready(pod):
            self._since[name] = commit.time
            found.append(PodEvent(Event.OUT, name))
        if is_ready(pod) and not is_ready(before):
            found.append(self._ready(name, pod, commit.time))
        return found

    def _ready(self, name: str, pod: Body, now: float) -> PodEvent:
        if name in self._served:
            return PodEvent(Event.BACK, name, image_of(pod), max(0.0, now - self._since.pop(name, now)))
        self._served[name] = None
        return PodEvent(Event.SERVES, name, f"{pod['spec'].get('nodeName')}, {pod['status'].get('podIP')}")

    def forget(self) -> None:
        """Begin to count anew how many pods are out of service at once."""
        self.most_out = sum(not is_ready(p) for p in self.pods.values())

    @property
    def status(self) -> Body:
        """The status of the set."""
        return self.set.get("status") or {}

    def counts(self) -> tuple[int, ...]:
        """Return how many pods the set says that it matches, are updated, ready, and both."""
        names = ("matchedPods", "updatedPods", "readyPods", "updatedReadyPods")
        return tuple(int(self.status.get(name) or 0) for name in names)

    def ready(self) -> int:
        """Return how many pods are ready."""
        return sum(is_ready(p) for p in self.pods.values())

    def pairs(self) -> dict[str, Pair]:
        """Return by what each pod is known."""
        return {name: _pair(pod) for name, pod in sorted(self.pods.items())}


def image_of(pod: Body) -> str:
    """Return the image that the sidecar of *pod* shall run; ``""`` for a pod without one."""
    found = [c["image"] for c in pod["spec"]["containers"] if c["name"] == SIDECAR] if pod else []
    return str(found[0]) if found else ""


def _pair(pod: Body) -> Pair:
    status = pod.get("status") or {}
    runs: Mapping[str, Body] = {c["name"]: c for c in status.get("containerStatuses") or ()}

    def seen(name: str) -> tuple[str, int]:
        one = runs.get(name) or {}
        return str(one.get("containerID") or ""), int(one.get("restartCount") or 0)

    return Pair(
        uid=pod["metadata"]["uid"],
        node=str(pod["spec"].get("nodeName") or ""),
        ip=str(status.get("podIP") or ""),
        app=seen(APP),
        sidecar=seen(SIDECAR),
        image=str((runs.get(SIDECAR) or {}).get("image") or ""),
    )
