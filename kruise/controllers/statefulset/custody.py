"""Taking pods over and letting them go.

Purpose: what ``claiming`` decided, written.

Guarantees (spec 2.5):

* Nothing is adopted before a live read has shown that the set is the same and not being deleted; one read serves a
  whole pass (reliability, rule 10).
* Both patches name the owner reference of the set alone, with the pod's uid as precondition. A pod that is gone, or is
  another one by now, is no error; but the caller is told, and looks again, for nobody says that the cache will.
* Every pod is tried, whatever became of the others; the errors come together at the end.

What this does not do: it decides nothing, and updates no view; the cache shows what came of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any, Final

from kruise.apis.core import PODS, Pod
from kruise.apis.statefulset import StatefulSet
from kruise.controllers.common.owner import Owner
from kruise.controllers.statefulset.claiming import adoption_patch, release_patch
from kruise.runtime.client.client import Client, PatchKind
from kruise.runtime.errors import Conflict, Fenced, NotFound, RuntimeFault
from kruise.runtime.objects import Unreadable

__all__ = ["take_and_release"]

AT_ONCE: Final = 64


async def take_and_release(
    client: Client, owner: Owner[StatefulSet], adopt: Iterable[Pod | Unreadable], release: Iterable[Pod | Unreadable]
) -> tuple[list[Exception], bool]:
    """Adopt and release pods; return what failed, and whether a pod was not what it was taken for.

    Raises what reading the set live raises.
    """
    work: list[tuple[Pod | Unreadable, dict[str, Any]]] = [(pod, release_patch(owner.obj)) for pod in release]
    adopted = list(adopt)
    if adopted and await owner.may_adopt():
        work += [(pod, adoption_patch(owner.obj)) for pod in adopted]
    left = iter(work)
    errors: list[Exception] = []
    stale = False

    async def some(things: Iterator[tuple[Pod | Unreadable, dict[str, Any]]]) -> None:
        nonlocal stale
        for pod, patch in things:
            try:
                await client.patch(PODS, pod, patch, kind=PatchKind.STRATEGIC, uid_alone=True)
            except (NotFound, Conflict):
                stale = True
            except Fenced:
                raise
            except RuntimeFault as error:
                errors.append(error)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(AT_ONCE, len(work))):
            group.create_task(some(left))
    return errors, stale
