"""The revisions of a StatefulSet: chosen purely elsewhere, written and counted out here.

Purpose: what a pass needs of ControllerRevisions, with as few requests as there are changes.

Guarantees (spec 2.7):

* A choice is kept as long as nothing changed on which it rests, so a pass without news parses no template.
* A name that is taken is read live: equal data is used as it is, another one leads to the next collision count, and the
  outcome of a creation that is not known is settled the same way (reliability, rules 5 and 6).
* An orphan is adopted only after a live read of the set (rule 10). A set that is being deleted writes no revision.
* Truncation deletes no revision that a pod, or the status, still names.

What this does not do: it swallows no error; a pass does not go on without its revisions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from kruise.apis.core import REVISIONS, ControllerRevision
from kruise.apis.selectors import Selector
from kruise.apis.statefulset import STATEFULSETS, StatefulSet
from kruise.controllers.common.revisions import (
    AdoptRevision,
    BumpRevision,
    ChoiceKey,
    Chosen,
    CreateRevision,
    DeleteRevision,
    DeletionUnderWayError,
    choice_key,
    choose,
    relevant,
    resolve_exists,
    truncate,
    written,
)
from kruise.controllers.statefulset.custody import Owner
from kruise.runtime.client.client import Client
from kruise.runtime.errors import AlreadyExists, NotFound, RuntimeFault, UnknownOutcome
from kruise.runtime.objects import Key

__all__ = ["Choice", "History", "RevisionBlockedError"]

MAX_COLLISIONS: Final = 16
"""How many names of foreign revisions are passed by in one pass."""


class RevisionBlockedError(RuntimeFault):
    """A revision cannot be written now. The text says why, and what would help."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The revisions of a set, and on what the choice of them rests."""

    key: ChoiceKey
    chosen: Chosen
    listed: tuple[ControllerRevision, ...]


class History:
    """Writes revisions."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def choose(
        self, owner: Owner, selector: Selector, revisions: Iterable[ControllerRevision], last: Choice | None
    ) -> Choice:
        """Return the revisions of a set out of *revisions*, created and adopted as needed; *last* is reused when equal.

        Raises RuntimeFault when a write fails.
        """
        sts = owner.sts
        listed = relevant(sts, revisions, selector)
        count, current = sts.status.collision_count, sts.status.current_revision
        seen = sts.status.observed_generation == sts.metadata.generation
        settled = sts.status.update_revision if seen else ""
        key = choice_key(sts, listed, sts.spec.template, current, count, settled=settled)
        if last is not None and last.key == key:
            return last
        template = orjson.loads(bytes(sts.spec.template))
        chosen = choose(STATEFULSETS, sts, listed, template, current, count, settled=settled)
        return Choice(key, await self._write(owner, chosen), listed)

    async def _write(self, owner: Owner, chosen: Chosen) -> Chosen:
        collisions = 0
        while chosen.writes:
            write = chosen.writes[0]
            if isinstance(write, CreateRevision):
                chosen = await self._create(owner, chosen, write)
                collisions += 1
                if collisions > MAX_COLLISIONS:
                    raise RevisionBlockedError(
                        f"the first {MAX_COLLISIONS} names for a revision of {owner.sts.key} are taken, such as "
                        f"{write.name}; delete the ControllerRevisions that nobody needs"
                    )
            else:
                assert not isinstance(write, DeleteRevision), "choosing deletes nothing"
                chosen = await self._patch(owner, chosen, write)
        return chosen

    async def _create(self, owner: Owner, chosen: Chosen, write: CreateRevision) -> Chosen:
        try:
            made = await self._client.create(REVISIONS, write.body, want="object")
        except AlreadyExists:
            existing = await self._existing(owner.sts, write.name)
            if existing is None:
                raise
        except UnknownOutcome:
            existing = await self._existing(owner.sts, write.name)
            if existing is None:
                raise  # it may still be on its way: the next pass sends the very same one
        else:
            return written(chosen, write, made)
        try:
            return resolve_exists(chosen, existing, STATEFULSETS, owner.sts)
        except DeletionUnderWayError as error:
            raise RevisionBlockedError(str(error)) from error

    async def _existing(self, sts: StatefulSet, name: str) -> ControllerRevision | None:
        try:
            found = await self._client.live.get(REVISIONS, Key(sts.metadata.namespace, name))
        except NotFound:
            return None
        self._client.observed(REVISIONS, found)
        return found

    async def _patch(self, owner: Owner, chosen: Chosen, write: AdoptRevision | BumpRevision) -> Chosen:
        if write.adopts and not await owner.may_adopt():
            raise RevisionBlockedError(f"{STATEFULSETS} {owner.sts.key} is not there any more, so it adopts nothing")
        patched = await self._client.patch(REVISIONS, write.obj, write.patch, want="object")
        return written(chosen, write, write.obj if patched is None else patched)

    async def truncate(self, choice: Choice, live: Iterable[str], limit: int | None) -> Sequence[Exception]:
        """Delete what is beyond *limit* and not *live*; return what failed."""
        errors: list[Exception] = []
        for revision in truncate(choice.listed, live, limit):
            try:
                await self._client.delete(REVISIONS, revision, disrupts=True)
            except RuntimeFault as error:
                errors.append(error)
        return errors
