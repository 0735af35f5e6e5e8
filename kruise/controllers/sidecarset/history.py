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

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kruise.apis.core import ControllerRevision
from kruise.apis.revisiondata import RevisionDataError
from kruise.apis.sidecarset import SIDECARSETS, SidecarSet
from kruise.controllers.common.owner import Owner
from kruise.controllers.common.revisionhistory import RevisionWriter
from kruise.controllers.common.revisions import Chosen
from kruise.controllers.sidecarset.revisions import FORM, choose_revision, content_of_revision, revisions_of, surplus
from kruise.runtime.client.client import Client

__all__ = ["Choice", "Contents", "History"]


class Contents(Mapping[str, dict[str, Any]]):
    """By name of a revision, the lists of its version; each is read when somebody asks, once."""

    def __init__(self, chosen: Chosen) -> None:
        self._data = {revision.name: revision.data for revision in chosen.listed}
        self._read: dict[str, dict[str, Any]] = {}

    def __getitem__(self, name: str) -> dict[str, Any]:
        if name not in self._read:
            try:
                self._read[name] = content_of_revision(self._data[name])
            except RevisionDataError as error:
                raise KeyError(name) from error
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._data)

    def __len__(self) -> int:
        return len(self._data)


@dataclass(frozen=True, slots=True)
class Choice:
    """The revisions of a set, and on what the choice of them rests."""

    key: tuple[object, ...]
    chosen: Chosen
    contents: Contents

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
        chosen = await self._writer.write(Owner(self._client, SIDECARSETS, one), chosen)
        return Choice(key, chosen, Contents(chosen))

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
