"""Doing what a plan says: the creations, deletions and the status of a BroadcastJob.

Purpose: the only code of this kind that writes. It never decides.

Guarantees:

* Every write is conditional: a pod is created under its deterministic name, deleted with the uid and resource version
  on which the plan rests, and the status carries the resource version of the job.
* A creation that may or may not have happened is settled by a live read of the name, never by another name
  (reliability, rules 5 and 6). ``k`` is raised only for a name that belongs to a foreign object, after a live list that
  shows no pod of the job for this node.
* Creations come in batches of 1, 16, then the write window; a batch with an error is the last one, so a template that
  the cluster refuses costs one failed request.
* One failing node never stops the deletions or creations of the others in its batch.

What this does not do: a conflict is not retried here; the pass ends and the next observation decides again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from kruise.apis.broadcastjob import BROADCASTJOBS, LABEL_CONTROLLER_UID, NODE_UID_ANNOTATION, BroadcastJob
from kruise.apis.core import PODS
from kruise.controllers.broadcastjob.plan import Plan, Results
from kruise.controllers.broadcastjob.pods import build_pod, pod_name
from kruise.controllers.broadcastjob.view import NodeSlot, PodClass, PodView
from kruise.runtime.client.client import Client
from kruise.runtime.errors import AlreadyExists, ApiError, NotFound, RuntimeFault, UnknownOutcome
from kruise.runtime.objects import Key, Object, controller_of

__all__ = ["Applied", "NameConflictError", "apply"]

FIRST_BATCHES: Final = (1, 16)
MAX_TRIES_OF_NAMES: Final = 8
"""How many foreign objects may sit on our names before a person must look."""


class NameConflictError(RuntimeFault):
    """The name of a pod is taken by an object that is none of this job's. The text names both."""


class StillTerminatingError(RuntimeFault):
    """The pod of a node is on its way out; its end wakes the job again."""


@dataclass(slots=True)
class Applied:
    """What came of a plan."""

    created: list[tuple[str, str]] = field(default_factory=list)
    """(node, pod)."""
    deleted: list[str] = field(default_factory=list)
    gone: int = 0
    refusals: list[tuple[str, Exception]] = field(default_factory=list)
    """(node, error) of creations."""
    errors: list[Exception] = field(default_factory=list)
    """Whatever makes another pass necessary."""

    @property
    def results(self) -> Results:
        """What settling the status needs to know."""
        return Results(len(self.created), len(self.deleted), self.gone, tuple(self.refusals))


async def apply(client: Client, job: BroadcastJob, plan: Plan, *, by_scheduler: bool) -> Applied:
    """Perform the deletions and creations of *plan*. Errors are collected, never raised; cancellation is."""
    done = Applied()
    active_deleted = await _delete(client, plan.deletes, done)
    if plan.creates:
        # The room that a deletion was to make is there only if that deletion happened (B4).
        await _create(client, job, plan.creates[: plan.room + active_deleted], by_scheduler, done)
    return done


async def _delete(client: Client, pods: Sequence[PodView], done: Applied) -> int:
    freed = 0

    async def one(view: PodView) -> None:
        nonlocal freed
        assert isinstance(view.pod, Object)
        try:
            await client.delete(PODS, view.pod, disrupts=True)
        except NotFound:
            done.gone += 1
        except (ApiError, RuntimeFault) as error:
            done.errors.append(error)
            return
        else:
            done.deleted.append(view.key.name)
        freed += view.kind is PodClass.ACTIVE

    async with asyncio.TaskGroup() as group:
        for view in pods:
            group.create_task(one(view))
    done.deleted.sort()
    return freed


def _batches(slots: Sequence[NodeSlot]) -> Iterator[Sequence[NodeSlot]]:
    start = 0
    for size in (*FIRST_BATCHES, len(slots)):
        if start < len(slots):
            yield slots[start : start + size]
        start += size


async def _create(
    client: Client, job: BroadcastJob, slots: Sequence[NodeSlot], by_scheduler: bool, done: Applied
) -> None:
    template: dict[str, Any] = orjson.loads(bytes(job.spec.template))

    async def one(slot: NodeSlot) -> None:
        try:
            name = await _create_one(client, job, template, slot, by_scheduler)
        except StillTerminatingError:
            return
        except RuntimeFault as error:
            done.refusals.append((slot.name, error))
            if not _namespace_goes(error):
                done.errors.append(error)
        else:
            done.created.append((slot.name, name))

    for batch in _batches(slots):
        async with asyncio.TaskGroup() as group:
            for slot in batch:
                group.create_task(one(slot))
        if done.refusals:
            break
    done.created.sort()
    done.refusals.sort(key=lambda pair: pair[0])


def _namespace_goes(error: Exception) -> bool:
    return isinstance(error, ApiError) and any(c.reason == "NamespaceTerminating" for c in error.status.causes)


async def _create_one(
    client: Client, job: BroadcastJob, template: dict[str, Any], slot: NodeSlot, by_scheduler: bool
) -> str:
    """Create the pod of one node; return its name. Raises what stands in the way."""
    for k in range(MAX_TRIES_OF_NAMES):
        if k and await _has_pod(client, job, slot):
            raise StillTerminatingError(f"node {slot.name} has a pod of {job.key} that the cache does not show yet")
        body = build_pod(job, template, slot.name, slot.uid, by_scheduler=by_scheduler, k=k)
        name: str = body["metadata"]["name"]
        try:
            await client.create(PODS, body)
        except AlreadyExists:
            if await _is_ours(client, job, slot, name):
                return name
        except UnknownOutcome as error:
            try:
                if await _is_ours(client, job, slot, name):
                    return name
            except NotFound:
                raise error from None
        else:
            return name
    raise NameConflictError(
        f"the first {MAX_TRIES_OF_NAMES} names for the pod of {BROADCASTJOBS} {job.key} on node {slot.name} are taken "
        f"by foreign objects, such as pod {job.metadata.namespace}/{pod_name(job.metadata.name, job.uid, slot.uid)}; "
        "delete or rename these"
    )


async def _is_ours(client: Client, job: BroadcastJob, slot: NodeSlot, name: str) -> bool:
    """Read the pod live: True when it is the one that we want, False when it is foreign. Raises when it ends."""
    pod = await client.live.get(PODS, Key(job.metadata.namespace, name))
    ref = controller_of(pod.metadata)
    if ref is None or ref.uid != job.metadata.uid or pod.metadata.annotations.get(NODE_UID_ANNOTATION) != slot.uid:
        return False
    if pod.terminating:
        raise StillTerminatingError(f"pod {pod.key} is being deleted")
    client.observed(PODS, pod)
    return True


async def _has_pod(client: Client, job: BroadcastJob, slot: NodeSlot) -> bool:
    selector = f"{LABEL_CONTROLLER_UID}={job.metadata.uid}"
    pods = await client.live.list(PODS, namespace=job.metadata.namespace, label_selector=selector)
    return any(p.metadata.annotations.get(NODE_UID_ANNOTATION) == slot.uid for p in pods)
