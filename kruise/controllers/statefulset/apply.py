"""Doing what a plan says: the pods and claims of a StatefulSet, chain by chain.

Purpose: the only code of this kind that writes pods and claims. It never decides.

Guarantees:

* Every write is conditional: creations have deterministic names; patches and disrupting deletions carry the uid and the
  resource version of the object on which the plan rests. The second write of a chain carries the version that the
  first one returned, and nothing read in between (reliability, rule 4; performance 2.5).
* Chains of different pods run at the same time, the steps of one in their order. What goes on with something that has
  begun passes what begins in the write window.
* Creations come in batches of 1, then 16, then as many at once as the write window is wide; nothing is begun after one
  that failed, so a template that the cluster refuses costs one failed request (rule 9). They wait for no other chain.
* One chain that fails stops no chain of another pod that is no creation (rule 30).
* A creation that may or may not have happened, or whose name is taken, is settled by a live read of the name, never by
  another name (rules 5 and 6; spec 5.1).
* A 409, a 422 of the uid and a 404 of a patch mean that the decision is stale: that chain ends without an error, is
  counted in :attr:`Applied.stale`, and the next event decides again. What is known to be stale is not sent: a chain
  that waited for its place while somebody else wrote to its pod would only be refused. A creation rests on no version:
  its 409 is a quota that others are changing, no event follows, and so it is an error like any other.

What this does not do: no conflict is retried here, and no event is sent; ``reports`` has the words.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from kruise.apis.core import CLAIMS, PODS, Pod
from kruise.apis.statefulset import STATEFULSETS, StatefulSet
from kruise.controllers.common.reasons import NameConflictError
from kruise.controllers.statefulset.actions import (
    Chain,
    CreateClaim,
    CreatePod,
    DeletePod,
    Failure,
    PatchClaim,
    PatchPod,
    Results,
    Step,
)
from kruise.controllers.statefulset.plan import Plan
from kruise.runtime.client.client import Client, PatchKind
from kruise.runtime.client.window import write_ahead
from kruise.runtime.errors import AlreadyExists, Conflict, Fenced, NotFound, RuntimeFault, UnknownOutcome
from kruise.runtime.objects import Key, Object, compare_versions, owned_by

__all__ = ["Applied", "apply"]

FIRST_BATCHES: Final = (1, 16)
AT_ONCE: Final = 64
"""How many chains are under way at once: what the write window holds at most."""


class _StaleError(Exception):
    """The object is not what the plan was made for. Its events wake the set."""


@dataclass(slots=True)
class Applied:
    """What came of a plan."""

    done: list[tuple[Chain, Step]] = field(default_factory=list)
    """Steps that succeeded, in the order in which they ended."""
    failures: list[Failure] = field(default_factory=list)
    stale: list[Chain] = field(default_factory=list)
    """Chains that ended because somebody else had changed their pod or claim."""

    @property
    def errors(self) -> list[Exception]:
        """Whatever makes another pass necessary."""
        return [failure.error for failure in self.failures]

    def results(self, earlier: Sequence[Failure] = ()) -> Results:
        """Return what settling the status needs to know; *earlier* failures still wait for their next attempt."""
        return Results(tuple(self.done), (*self.failures, *earlier))


Seen = Callable[[Key], Object | None]


async def apply(client: Client, sts: StatefulSet, plan: Plan, *, seen: Seen = lambda _: None) -> Applied:
    """Perform the chains of *plan*. Errors are collected; Fenced and cancellation are raised.

    *seen* has the newest known version of a pod, at any time.
    """
    work = _Work(client, sts, seen)
    running = (*plan.continuations, *plan.disruptions)
    async with asyncio.TaskGroup() as group:
        if running:
            begun = len(plan.continuations)
            left = iter(enumerate(running))
            for _ in range(min(AT_ONCE, len(running))):
                group.create_task(work.some(left, begun=begun))
        if plan.creates:
            group.create_task(work.creates(plan.creates))
    done = work.applied
    done.done.sort(key=_place)
    done.failures.sort(key=lambda failure: (failure.chain.ordinal, failure.chain.name))
    done.stale.sort(key=lambda chain: (chain.ordinal, chain.name))
    return done


def _place(pair: tuple[Chain, Step]) -> tuple[int, str]:
    return pair[0].ordinal, pair[0].name


class _Work:
    """One application of one plan."""

    def __init__(self, client: Client, sts: StatefulSet, seen: Seen) -> None:
        self._client = client
        self._seen = seen
        self._sts = sts
        self.applied = Applied()
        self._refused = False
        """A creation failed: no further one begins."""

    async def some(self, left: Iterator[tuple[int, Chain]], *, begun: int) -> None:
        """Perform chains until none is left. Those with a number below *begun* go on with what has begun."""
        for number, chain in left:
            await self._chain(chain, ahead=number < begun)

    async def creates(self, chains: Sequence[Chain]) -> None:
        """Perform creations in batches, as long as all is well."""
        start = 0
        for size in (*FIRST_BATCHES, len(chains)):
            batch = chains[start : start + size]
            left = iter(batch)
            async with asyncio.TaskGroup() as group:
                for _ in range(min(AT_ONCE, len(batch))):
                    group.create_task(self._some_creates(left))
            if self._refused:
                return
            start += size

    async def _some_creates(self, left: Iterator[Chain]) -> None:
        for chain in left:
            if not await self._chain(chain, ahead=False):
                self._refused = True
            if self._refused:
                return

    async def _chain(self, chain: Chain, *, ahead: bool) -> bool:
        """Perform the steps of one chain; tell whether none of them failed."""
        token = write_ahead.set(ahead)
        try:
            return await self._steps(chain)
        finally:
            write_ahead.reset(token)

    async def _steps(self, chain: Chain) -> bool:
        versions: dict[str, str] = {}
        for step in chain.steps:
            try:
                await self._step(step, versions)
            except _StaleError:
                self.applied.stale.append(chain)
                return True
            except Fenced:
                raise
            except RuntimeFault as error:
                if isinstance(error, Conflict) and not isinstance(step, CreateClaim | CreatePod):
                    self.applied.stale.append(chain)
                    return True
                self.applied.failures.append(Failure(chain, step, error))
                return False
            self.applied.done.append((chain, step))
            write_ahead.set(True)
        return True

    async def _step(self, step: Step, versions: dict[str, str]) -> None:
        """Perform one step. *versions* has, by uid, what the writes of this chain returned."""
        match step:
            case PatchPod():
                await self._patch_pod(step, versions)
            case CreateClaim():
                await self._create_claim(step)
            case PatchClaim():
                await self._patch_claim(step, versions)
            case CreatePod():
                await self._create_pod(step)
            case DeletePod():
                await self._delete_pod(step, versions)

    # Pods.

    async def _patch_pod(self, step: PatchPod, versions: dict[str, str]) -> None:
        """Send the writes of one step, each on the version that the one before returned."""
        uid = step.pod.uid
        if uid not in versions and self._is_stale(step.pod):
            raise _StaleError
        for write in step.writes:
            try:
                meta = await self._client.patch(
                    PODS,
                    step.pod,
                    write.patch,
                    kind=PatchKind.STRATEGIC,
                    subresource=write.subresource,
                    version=versions.get(uid, ""),
                )
            except NotFound:
                raise _StaleError from None
            if meta is not None:
                versions[uid] = meta.resource_version
            write_ahead.set(True)

    def _is_stale(self, pod: Pod) -> bool:
        """Tell whether a newer version of *pod* is known than the one that the plan rests on."""
        seen = self._seen(pod.key)
        if seen is None or seen.uid != pod.uid:
            return False
        return (compare_versions(seen.resource_version, pod.resource_version) or 0) > 0

    async def _delete_pod(self, step: DeletePod, versions: dict[str, str]) -> None:
        pod = step.pod
        version = versions.get(pod.uid)
        if version is not None:
            pod = _at(pod, version)
        await self._client.delete(PODS, pod, disrupts=step.disrupts)

    async def _create_pod(self, step: CreatePod) -> None:
        try:
            await self._client.create(PODS, step.build())
        except AlreadyExists as error:
            if not await self._is_ours(step.name):
                # It was there a moment ago and is not any more: the very same request is sent by the next pass.
                raise error from None
        except UnknownOutcome as error:
            if not await self._is_ours(step.name):
                raise error from None  # it may still be on its way: the next pass sends the very same one

    async def _is_ours(self, name: str) -> bool:
        """Read live whose the pod *name* is: ours, or nobody's. Metadata is enough.

        Raises _StaleError for one of ours that is on its way out, and NameConflictError for anybody else's.
        """
        sts = self._sts
        try:
            pod = await self._client.live.get(PODS.partial(), Key(sts.metadata.namespace, name))
        except NotFound:
            return False
        if not owned_by(pod.metadata, STATEFULSETS, sts.uid):
            raise NameConflictError(
                f"pod {pod.key}, whose name StatefulSet {sts.key} needs, belongs to somebody else; delete or rename it"
            )
        if pod.terminating:
            raise _StaleError
        self._client.observed(PODS, pod)
        return True

    # Claims.

    async def _create_claim(self, step: CreateClaim) -> None:
        try:
            await self._client.create(CLAIMS, step.build())
        except AlreadyExists:
            # It is used as it is, but only once it has been looked at: it may be waiting to be collected with an
            # earlier pod (S5). Until the cache shows it, no pass of this set begins.
            await self._show_claim(step.name)
            raise

    async def _show_claim(self, name: str) -> None:
        try:
            claim = await self._client.live.get(CLAIMS.partial(), Key(self._sts.metadata.namespace, name))
        except NotFound:
            return
        self._client.observed(CLAIMS, claim)

    async def _patch_claim(self, step: PatchClaim, versions: dict[str, str]) -> None:
        uid = step.claim.uid
        try:
            meta = await self._client.patch(
                CLAIMS, step.claim, step.patch, kind=PatchKind.STRATEGIC, version=versions.get(uid, "")
            )
        except NotFound:
            raise _StaleError from None
        if meta is not None:
            versions[uid] = meta.resource_version


def _at(pod: Pod, version: str) -> Pod:
    """Return *pod* as the server has it after our own write."""
    return msgspec.structs.replace(pod, metadata=msgspec.structs.replace(pod.metadata, resource_version=version))
