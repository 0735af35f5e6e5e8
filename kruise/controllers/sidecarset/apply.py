"""Doing what a plan says: the patches of pods, pod by pod.

Purpose: the only code of this kind that writes pods. It never decides.

Guarantees:

* Every patch carries the uid and the resource version of the pod on which the plan rests. The second write to a pod
  carries the version that the first one returned, and nothing read in between (reliability, rule 4; performance 2.5).
* The writes to one pod come in their order, those to different pods at the same time. What ends a hot upgrade passes
  what begins one in the write window.
* One pod that fails stops no other one (rule 30).
* A 409, a 422 of the uid and a 404 mean that the decision is stale (X32): the writes to that pod end without an error,
  are counted in :attr:`Applied.stale`, and the next event decides again.

What this does not do: no conflict is retried here, and no event is sent; ``reports`` has the words.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from kruise.apis.core import PODS
from kruise.controllers.sidecarset.actions import Change
from kruise.controllers.sidecarset.plan import Plan
from kruise.runtime.client.client import Client, PatchKind
from kruise.runtime.client.window import write_ahead
from kruise.runtime.errors import Conflict, Fenced, NotFound, RuntimeFault

__all__ = ["Applied", "Failure", "apply"]

AT_ONCE: Final = 64
"""How many pods are under way at once: what the write window holds at most."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A change that did not come to its end."""

    change: Change
    error: Exception


@dataclass(slots=True)
class Applied:
    """What came of a plan, each list by namespace and name."""

    done: list[Change] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    stale: list[Change] = field(default_factory=list)
    """Changes that ended because somebody else had changed their pod."""


async def apply(client: Client, plan: Plan) -> Applied:
    """Perform the changes of *plan*. Errors are collected; Fenced and cancellation are raised."""
    applied = Applied()
    if not plan.changes:
        return applied
    left = iter(plan.changes)
    async with asyncio.TaskGroup() as group:
        for _ in range(min(AT_ONCE, len(plan.changes))):
            group.create_task(_some(client, left, applied))
    applied.done.sort(key=_place)
    applied.stale.sort(key=_place)
    applied.failures.sort(key=lambda failure: _place(failure.change))
    return applied


def _place(change: Change) -> tuple[str, str]:
    return change.pod.key


async def _some(client: Client, left: Iterator[Change], applied: Applied) -> None:
    """Perform changes until none is left."""
    for change in left:
        token = write_ahead.set(not change.disrupts)
        try:
            await _writes(client, change)
        except (Conflict, NotFound):
            applied.stale.append(change)
        except Fenced:
            raise
        except RuntimeFault as error:
            applied.failures.append(Failure(change, error))
        else:
            applied.done.append(change)
        finally:
            write_ahead.reset(token)


async def _writes(client: Client, change: Change) -> None:
    """Send the writes to one pod, each on the version that the one before returned."""
    version = ""
    for write in change.writes:
        meta = await client.patch(
            PODS,
            change.pod,
            write.patch,
            kind=PatchKind.STRATEGIC,
            subresource=write.subresource,
            version=version,
        )
        if meta is not None:
            version = meta.resource_version
        write_ahead.set(True)
