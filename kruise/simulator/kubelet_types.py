"""What the simulated kubelet sees of pods and nodes, and what it remembers.

Purpose: the values that pass between the state machine and the shell around it. All are frozen: a state is replaced,
never changed, so that a test can keep every state that a pod went through.

What this does not do: no transitions; those are in ``kubelet_containers`` and ``kubelet``.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from kruise.runtime.objects import Object, Resource


class SimPod(Object, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A pod with everything in it: a kubelet reads the whole spec."""

    spec: dict[str, Any] = msgspec.field(default_factory=dict)
    status: dict[str, Any] = msgspec.field(default_factory=dict)

    @property
    def node(self) -> str:
        """``spec.nodeName``."""
        name: str = self.spec.get("nodeName") or ""
        return name

    @property
    def finished(self) -> bool:
        """Whether the phase is one that never changes again."""
        return self.status.get("phase") in ("Succeeded", "Failed")


class SimNode(Object, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A node with everything in it."""

    spec: dict[str, Any] = msgspec.field(default_factory=dict)
    status: dict[str, Any] = msgspec.field(default_factory=dict)


SIM_PODS: Final = Resource("", "v1", "Pod", "pods", SimPod)
SIM_NODES: Final = Resource("", "v1", "Node", "nodes", SimNode, namespaced=False)


class Stage(enum.Enum):
    """Where one container is."""

    WAITING = "waiting"
    """Not its turn yet: an init container before it runs."""
    CREATING = "creating"
    """Being pulled and created."""
    PULL_ERROR = "pull-error"
    """A pull failed just now (ErrImagePull)."""
    PULL_BACKOFF = "pull-backoff"
    """Waiting for the next pull (ImagePullBackOff)."""
    RUNNING = "running"
    STOPPING = "stopping"
    """Running, and told to end."""
    TERMINATED = "terminated"
    CRASH_BACKOFF = "crash-backoff"
    """Ended, and waiting for the next start (CrashLoopBackOff)."""


@dataclass(frozen=True, slots=True)
class Exit:
    """The end of one run of a container."""

    code: int
    reason: str
    started: float | None
    finished: float | None
    container_id: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class ContainerState:
    """What the kubelet remembers of one container."""

    stage: Stage = Stage.WAITING
    since: float = 0.0
    """When this stage began."""
    image: str = ""
    """The image of the present run, or of the one that is being created."""
    image_id: str = ""
    ran_image: str = ""
    """The image of the newest run. A kubelet shows it, and the imageID with it, until there is another run: of an
    image that cannot be pulled it tells in the reason for waiting only."""
    container_id: str = ""
    """``""`` before the first run."""
    started: float | None = None
    restarts: int = 0
    crashes: int = 0
    """Ends in a row that count for the back-off."""
    last: Exit | None = None
    """The newest end."""
    previous: Exit | None = None
    """The end before the newest."""
    killed: bool = False
    """Told to end in order to be started anew at once: its image or its resources changed."""
    pulls: int = 0
    """Failed pulls in a row."""
    first_pull: float | None = None
    forced: int | None = None
    """An exit code that somebody asked for: the container ends with it now."""

    @property
    def alive(self) -> bool:
        """Whether a process runs."""
        return self.stage in (Stage.RUNNING, Stage.STOPPING)


@dataclass(frozen=True, slots=True)
class Stop:
    """Why and since when the whole pod is being ended by its node."""

    since: float
    reason: str = ""
    """The reason of the pod's status: Evicted, DeadlineExceeded; empty for a deletion."""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Resize:
    """Which resources are granted and which are in force, per container; None before the pod was accepted."""

    allocated: Mapping[str, Any]
    actual: Mapping[str, Any]
    since: float = 0.0
    """When the present grant was made."""
    problem: str = ""
    """Deferred or Infeasible, while a wish is not granted."""
    message: str = ""


@dataclass(frozen=True, slots=True)
class PodState:
    """What the kubelet remembers of one pod between two steps."""

    uid: str
    accepted: float
    """When the node took the pod: ``status.startTime``."""
    pod_ip: str = ""
    containers: Mapping[str, ContainerState] = field(default_factory=dict)
    initialized: bool = False
    """The init containers are through: the others have been started."""
    stop: Stop | None = None
    rejected: tuple[str, str] | None = None
    """Reason and message."""
    final: str = ""
    """Succeeded or Failed, once it can change no more."""
    resize: Resize | None = None
    wake: float | None = None
    """When something happens by itself."""


@dataclass(frozen=True, slots=True)
class Room:
    """What a node can give, in thousandths of a unit, and what its other pods ask of it."""

    allocatable: Mapping[str, int]
    used: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a pod runs."""

    node: str
    host_ip: str = "127.0.0.1"
    pod_ip: str = "10.244.0.1"
    """The address for a pod that has none yet."""
    room: Room | None = None
    """None: everything fits."""


@dataclass(frozen=True, slots=True)
class Step:
    """The answer of the machine."""

    status: dict[str, Any]
    """Every status field that a kubelet owns, complete."""
    state: PodState
    wake: float | None
    """When to ask again; it may lie in the past: then publish *status* first and ask again at once."""
    delete: bool = False
    """Everything is over: publish the status, then delete the object with grace period 0 and its uid."""
