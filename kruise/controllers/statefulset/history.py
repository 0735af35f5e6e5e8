"""The revisions of a StatefulSet: chosen purely elsewhere, written and counted out here.

Purpose: what a pass needs of ControllerRevisions, with as few requests as there are changes.

Guarantees (spec 2.7):

* A choice is kept as long as nothing changed on which it rests, so a pass without news parses no template.
* A set that is being deleted writes no revision.
* Truncation deletes no revision that a pod, or the status, still names.

What this does not do: it sends nothing itself, ``common/revisionhistory`` does; and it swallows no error: a pass does
not go on without its revisions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import orjson

from kruise.apis.core import ControllerRevision
from kruise.apis.selectors import Selector
from kruise.apis.statefulset import STATEFULSETS, StatefulSet
from kruise.controllers.common.owner import Owner
from kruise.controllers.common.revisionhistory import RevisionWriter
from kruise.controllers.common.revisions import ChoiceKey, Chosen, choice_key, choose, relevant, truncate
from kruise.runtime.client.client import Client

__all__ = ["Choice", "History"]


@dataclass(frozen=True, slots=True)
class Choice:
    """The revisions of a set, and on what the choice of them rests."""

    key: ChoiceKey
    chosen: Chosen
    listed: tuple[ControllerRevision, ...]


class History:
    """Writes revisions."""

    def __init__(self, client: Client) -> None:
        self._writer = RevisionWriter(client)

    async def choose(
        self,
        owner: Owner[StatefulSet],
        selector: Selector,
        revisions: Iterable[ControllerRevision],
        last: Choice | None,
    ) -> Choice:
        """Return the revisions of a set out of *revisions*, created and adopted as needed; *last* is reused when equal.

        Raises RuntimeFault when a write fails.
        """
        sts = owner.obj
        listed = relevant(sts, revisions, selector)
        count, current = sts.status.collision_count, sts.status.current_revision
        seen = sts.status.observed_generation == sts.metadata.generation
        settled = sts.status.update_revision if seen else ""
        key = choice_key(sts, listed, sts.spec.template, current, count, settled=settled)
        if last is not None and last.key == key:
            return last
        template = orjson.loads(bytes(sts.spec.template))
        chosen = choose(STATEFULSETS, sts, listed, template, current, count, settled=settled)
        return Choice(key, await self._writer.write(owner, chosen), listed)

    async def truncate(self, choice: Choice, live: Iterable[str], limit: int | None) -> Sequence[Exception]:
        """Delete what is beyond *limit* and not *live*; return what failed."""
        return await self._writer.delete(truncate(choice.listed, live, limit))
