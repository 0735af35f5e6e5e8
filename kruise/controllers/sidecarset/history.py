"""The revisions of a SidecarSet: chosen purely elsewhere, written and counted out here.

Purpose: what a pass needs of ControllerRevisions, with as few requests as there are changes.

Guarantees (spec/sidecarset 6):

* They are in the namespace of the manager, whatever namespaces it watches.
* A choice is kept as long as nothing changed on which it rests, so a pass without news parses no list of containers.
* A set that is being deleted writes no revision.
* Truncation deletes no revision that a pod was injected from, nor one that new pods are pinned to.

What this does not do: it swallows no error; a pass does not go on without its revisions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kruise.apis.core import ControllerRevision
from kruise.apis.sidecarset import SIDECARSETS, SidecarSet
from kruise.controllers.common.owner import Owner
from kruise.controllers.common.revisionhistory import RevisionWriter
from kruise.controllers.common.revisions import Chosen
from kruise.controllers.sidecarset.revisions import FORM, choose_revision, revisions_of, surplus
from kruise.runtime.client.client import Client

__all__ = ["Choice", "History"]


@dataclass(frozen=True, slots=True)
class Choice:
    """The revisions of a set, and on what the choice of them rests."""

    key: tuple[object, ...]
    chosen: Chosen

    @property
    def name(self) -> str:
        """The name of the latest revision."""
        return self.chosen.update.name


class History:
    """Writes revisions."""

    def __init__(self, client: Client, namespace: str) -> None:
        self._client = client
        self._writer = RevisionWriter(client, form=FORM)
        self._namespace = namespace

    async def choose(self, one: SidecarSet, revisions: Iterable[ControllerRevision], last: Choice | None) -> Choice:
        """Return the revisions of a set out of *revisions*, created and adopted as needed; *last* is reused when equal.

        Raises RuntimeFault when a write fails.
        """
        listed = revisions_of(one, revisions, self._namespace)
        key = _key(one, listed)
        if last is not None and last.key == key:
            return last
        chosen = choose_revision(one, listed, self._namespace)
        return Choice(key, await self._writer.write(Owner(self._client, SIDECARSETS, one), chosen))

    async def truncate(self, one: SidecarSet, choice: Choice, in_use: Iterable[str]) -> Sequence[Exception]:
        """Delete what is beyond the limit of the set; return what failed."""
        return await self._writer.delete(surplus(one, choice.chosen, in_use))


def _key(one: SidecarSet, listed: Iterable[ControllerRevision]) -> tuple[object, ...]:
    spec = one.spec
    return (
        one.uid,
        one.terminating,
        one.status.collision_count or 0,
        bytes(spec.volumes),
        bytes(spec.containers),
        bytes(spec.init_containers),
        spec.image_pull_secrets,
        spec.patch_pod_metadata,
        spec.custom_version,
        tuple((obj.uid, obj.resource_version) for obj in listed),
    )
