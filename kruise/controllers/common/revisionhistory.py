"""Writing the revisions that were chosen, for every kind that keeps some.

Purpose: the requests behind a choice of ``revisions``, as few as there are changes.

Guarantees (spec/advanced-statefulset 2.7, spec/sidecarset 6):

* A name that is taken is read live: equal data is used as it is, another one leads to the next collision count, and the
  outcome of a creation that is not known is settled the same way (reliability, rules 5 and 6).
* An orphan is adopted only after a live read of the owner (rule 10).
* A revision that this process has made before is made again only after a live read of the owner: while a watch is
  silent the cache shows an owner that is gone, and the garbage collector takes whatever is made for it.

What this does not do: it chooses nothing, and it swallows no error but those of deletions, which it returns: a pass
does not go on without its revisions.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from kruise.apis.core import REVISIONS, ControllerRevision
from kruise.controllers.common.owner import Owner
from kruise.controllers.common.revisions import Chosen, DeletionUnderWayError, resolve_exists, written
from kruise.controllers.common.revisionwrites import (
    POD_TEMPLATE_FORM,
    AdoptRevision,
    BumpRevision,
    CreateRevision,
    DeleteRevision,
    Form,
)
from kruise.runtime.client.client import Client
from kruise.runtime.errors import AlreadyExists, Fenced, NotFound, RuntimeFault, UnknownOutcome
from kruise.runtime.objects import Key

__all__ = ["RevisionBlockedError", "RevisionWriter"]

MAX_COLLISIONS: Final = 16
"""How many names of foreign revisions are passed by in one pass."""
REMEMBERED: Final = 4096
"""How many revisions are known to have been made: the latest."""


class RevisionBlockedError(RuntimeFault):
    """A revision cannot be written now. The text says why, and what would help."""


class RevisionWriter:
    """Writes revisions of one form."""

    def __init__(self, client: Client, *, form: Form = POD_TEMPLATE_FORM) -> None:
        self._client = client
        self._form = form
        self._made: dict[tuple[str, str], None] = {}
        """(uid of the owner, name) of what was made, the latest last."""

    async def write(self, owner: Owner[Any], chosen: Chosen) -> Chosen:
        """Do what *chosen* asks for; return the choice as it is then. Raises RuntimeFault when a write fails."""
        collisions = 0
        while chosen.writes:
            write = chosen.writes[0]
            if isinstance(write, CreateRevision):
                chosen = await self._create(owner, chosen, write)
                collisions += 1
                if collisions > MAX_COLLISIONS:
                    raise RevisionBlockedError(
                        f"the first {MAX_COLLISIONS} names for a revision of {owner.obj.key} are taken, such as "
                        f"{write.name}; delete the ControllerRevisions that nobody needs"
                    )
            else:
                assert not isinstance(write, DeleteRevision), "choosing deletes nothing"
                chosen = await self._patch(owner, chosen, write)
        return chosen

    async def _create(self, owner: Owner[Any], chosen: Chosen, write: CreateRevision) -> Chosen:
        await self._not_in_vain(owner, write.name)
        try:
            made = await self._client.create(REVISIONS, write.body, want="object")
        except AlreadyExists:
            existing = await self._existing(write)
            if existing is None:
                raise
        except UnknownOutcome:
            existing = await self._existing(write)
            if existing is None:
                raise  # it may still be on its way: the next pass sends the very same one
        else:
            return written(chosen, write, made)
        try:
            return resolve_exists(chosen, existing, owner.resource, owner.obj, form=self._form)
        except DeletionUnderWayError as error:
            raise RevisionBlockedError(str(error)) from error

    async def _not_in_vain(self, owner: Owner[Any], name: str) -> None:
        """Note that *name* is made for *owner*; when it was before, somebody has deleted it: look who asks for it now.

        Raises RevisionBlockedError when the owner is gone, or another one.
        """
        known = (owner.obj.uid, name)
        if known in self._made and not await owner.may_adopt():
            raise RevisionBlockedError(
                f"{owner.resource} {owner.obj.key} is not there any more, so its revision {name} is not made again"
            )
        self._made.pop(known, None)
        self._made[known] = None
        if len(self._made) > REMEMBERED:
            del self._made[next(iter(self._made))]

    async def _existing(self, write: CreateRevision) -> ControllerRevision | None:
        try:
            found = await self._client.live.get(REVISIONS, Key(write.body["metadata"]["namespace"], write.name))
        except NotFound:
            return None
        self._client.observed(REVISIONS, found)
        return found

    async def _patch(self, owner: Owner[Any], chosen: Chosen, write: AdoptRevision | BumpRevision) -> Chosen:
        if write.adopts and not await owner.may_adopt():
            key = owner.obj.key
            raise RevisionBlockedError(f"{owner.resource} {key} is not there any more, so it adopts nothing")
        patched = await self._client.patch(REVISIONS, write.obj, write.patch, want="object")
        return written(chosen, write, write.obj if patched is None else patched)

    async def delete(self, revisions: Iterable[ControllerRevision]) -> list[Exception]:
        """Delete *revisions* in the very versions that were judged; return what failed."""
        errors: list[Exception] = []
        for revision in revisions:
            try:
                await self._client.delete(REVISIONS, revision, disrupts=True)
            except Fenced:
                raise
            except RuntimeFault as error:
                errors.append(error)
        return errors
