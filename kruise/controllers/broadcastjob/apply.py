"""Doing what a plan says: the creations and deletions of a BroadcastJob.

Purpose: the only code of this kind that writes pods. It never decides.

Guarantees:

* Every write is conditional: a pod is created under its deterministic name, and deleted with the uid and resource
  version on which the plan rests.
* A creation that may or may not have happened is settled by a live read of the name, never by another name
  (reliability, rules 5 and 6). ``k`` is raised only for a name that belongs to a foreign object, after a live list that
  shows no pod of the job for this node.
* Creations come in batches of 1, then 16, then as many at once as the write window is wide; nothing is begun after an
  error, so a template that the cluster refuses costs one failed request (rule 9).
* One failing node never stops the deletions, or the creations that were begun beside its own.

What this does not do: a conflict is not retried here; the pass ends and the next observation decides again.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import orjson

from kruise.apis.broadcastjob import BROADCASTJOBS, LABEL_CONTROLLER_UID, NODE_UID_ANNOTATION, BroadcastJob
from kruise.apis.core import PODS
from kruise.controllers.broadcastjob.plan import Plan, Results
from kruise.controllers.broadcastjob.pods import assigned_node, belongs_to, build_pod, pod_name
from kruise.controllers.broadcastjob.view import NodeSlot, PodClass, PodView
from kruise.controllers.common.reasons import NameConflictError
from kruise.runtime.client.client import Client
from kruise.runtime.errors import AlreadyExists, ApiError, Fenced, NotFound, RuntimeFault, UnknownOutcome
from kruise.runtime.objects import Key, Unreadable, controller_of

__all__ = ["Applied", "apply"]

T = TypeVar("T")

FIRST_BATCHES: Final = (1, 16)
AT_ONCE: Final = 64
"""How many requests are under way after the first batches: what the write window holds at most."""
MAX_TRIES_OF_NAMES: Final = 8
"""How many foreign objects may sit on our names before a person must look."""


class _StillThereError(Exception):
    """The node has a pod that the cache does not show, or that is on its way out. Its events wake the job."""


class _Holder(enum.Enum):
    """Who has the name of a pod."""

    US = "us"
    FOREIGN = "foreign"
    NOBODY = "nobody"


@dataclass(slots=True)
class Applied:
    """What came of a plan."""

    created: list[tuple[str, str]] = field(default_factory=list)
    """(node, pod)."""
    deleted: list[str] = field(default_factory=list)
    stopped: int = 0
    """How many active pods the deletions ended, those that were gone already included."""
    refusals: list[tuple[NodeSlot, Exception]] = field(default_factory=list)
    """Creations that failed."""
    undeleted: list[tuple[PodView, Exception]] = field(default_factory=list)
    """Deletions that failed."""
    errors: list[Exception] = field(default_factory=list)
    """Whatever makes another pass necessary."""

    @property
    def results(self) -> Results:
        """What settling the status needs to know."""
        return Results(len(self.created), len(self.deleted), self.stopped)


async def apply(client: Client, job: BroadcastJob, plan: Plan, *, by_scheduler: bool) -> Applied:
    """Perform the deletions and creations of *plan*. Errors are collected; Fenced and cancellation are raised."""
    done = Applied()
    await _delete(client, plan.deletes, done)
    if plan.creates:
        # The room that a deletion was to make is there only if that deletion happened (B4).
        await _create(client, job, plan.creates[: plan.room + done.stopped], by_scheduler, done)
    done.deleted.sort()
    done.created.sort()
    done.refusals.sort(key=lambda pair: pair[0].name)
    return done


async def _delete(client: Client, pods: Sequence[PodView], done: Applied) -> None:
    async def one(view: PodView) -> bool:
        assert not isinstance(view.pod, Unreadable), "nobody deletes what nobody can read"
        try:
            if await client.delete(PODS, view.pod, disrupts=True):
                done.deleted.append(view.key.name)
        except Fenced:
            raise
        except RuntimeFault as error:
            done.undeleted.append((view, error))
            done.errors.append(error)
        else:
            done.stopped += view.kind is PodClass.ACTIVE
        return True

    await _each(pods, one)


async def _create(
    client: Client, job: BroadcastJob, slots: Sequence[NodeSlot], by_scheduler: bool, done: Applied
) -> None:
    template: dict[str, Any] = orjson.loads(bytes(job.spec.template))

    async def one(slot: NodeSlot) -> bool:
        try:
            name = await _create_one(client, job, template, slot, by_scheduler)
        except _StillThereError:
            return True
        except Fenced:
            raise
        except RuntimeFault as error:
            done.refusals.append((slot, error))
            if not _namespace_goes(error):
                done.errors.append(error)
            return False
        done.created.append((slot.name, name))
        return True

    start = 0
    for size in (*FIRST_BATCHES, len(slots)):
        if not await _each(slots[start : start + size], one):
            return
        start += size


async def _each(things: Sequence[T], do: Callable[[T], Awaitable[bool]]) -> bool:
    """Do *things*, at most AT_ONCE of them at a time, and begin none after one was not well; tell whether all were."""
    left: Iterator[T] = iter(things)
    well = True

    async def some() -> None:
        nonlocal well
        for thing in left:
            well = await do(thing) and well
            if not well:
                return

    async with asyncio.TaskGroup() as group:
        for _ in range(min(AT_ONCE, len(things))):
            group.create_task(some())
    return well


def _namespace_goes(error: Exception) -> bool:
    return isinstance(error, ApiError) and any(c.reason == "NamespaceTerminating" for c in error.status.causes)


async def _create_one(
    client: Client, job: BroadcastJob, template: dict[str, Any], slot: NodeSlot, by_scheduler: bool
) -> str:
    """Create the pod of one node; return its name. Raises what stands in the way."""
    k = 0
    for _ in range(MAX_TRIES_OF_NAMES):
        body = build_pod(job, template, slot.name, slot.uid, by_scheduler=by_scheduler, k=k)
        name: str = body["metadata"]["name"]
        try:
            await client.create(PODS, body)
        except AlreadyExists:
            holder = await _holder(client, job, slot, name)
        except UnknownOutcome:
            holder = await _holder(client, job, slot, name)
            if holder is _Holder.NOBODY:
                raise  # the request may still be on its way: the next pass sends the very same one
        else:
            return name
        if holder is _Holder.US:
            return name
        if holder is _Holder.FOREIGN:
            k += 1
            if await _has_pod(client, job, slot):
                raise _StillThereError
    first = f"{job.metadata.namespace}/{pod_name(job.metadata.name, job.uid, slot.uid)}"
    raise NameConflictError(
        f"the first {MAX_TRIES_OF_NAMES} names for the pod of {BROADCASTJOBS} {job.key} on node {slot.name} are taken "
        f"by foreign objects, such as pod {first}; delete or rename these"
    )


async def _holder(client: Client, job: BroadcastJob, slot: NodeSlot, name: str) -> _Holder:
    """Read live whose the pod *name* is. Metadata is enough, so a pod that nobody can decode is recognised too."""
    try:
        pod = await client.live.get(PODS.partial(), Key(job.metadata.namespace, name))
    except NotFound:
        return _Holder.NOBODY
    ref = controller_of(pod.metadata)
    if ref is None or ref.uid != job.uid or pod.metadata.annotations.get(NODE_UID_ANNOTATION) != slot.uid:
        return _Holder.FOREIGN
    if pod.terminating:
        raise _StillThereError
    client.observed(PODS, pod)
    return _Holder.US


async def _has_pod(client: Client, job: BroadcastJob, slot: NodeSlot) -> bool:
    """Tell whether a live list shows a pod of the job that holds, or may hold, the node."""
    selector = f"{LABEL_CONTROLLER_UID}={job.uid}"
    pods = await client.live.list(PODS, namespace=job.metadata.namespace, label_selector=selector)
    for pod in pods:
        if not belongs_to(pod.metadata, job):
            continue
        uid = pod.metadata.annotations.get(NODE_UID_ANNOTATION)
        if uid == slot.uid:
            return True
        if not uid and (isinstance(pod, Unreadable) or assigned_node(pod) == slot.name):
            return True
    return False
