"""What admission knows of the cluster: everything comes from the caches of the manager, and nothing is asked.

Purpose: keep the :class:`InjectionIndex` and the surroundings of a SidecarSet up to date from informers, so that an
admission request costs no API request.

Guarantees:

* Nothing is decided before every cache that is read has its whole first list: :meth:`Feed.pods_ready` and
  :meth:`Feed.sets_ready` raise NotReady until then, and the failurePolicy decides (rule 31). A SidecarSet kind that the
  server does not serve is no reason to wait: then there is no set.
* Of the cluster only labels of namespaces are kept, of ConfigMaps only the one with the white list, and of revisions
  only those of our own namespace.
* An event that changes nothing for an injection, such as a status, compiles nothing anew.

What this does not do: it starts no informer; the cache of the manager does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
import orjson

from kruise.apis.core import NAMESPACES, REVISIONS, ControllerRevision
from kruise.apis.sidecarset import SIDECARSETS, WHITE_LIST_CONFIG_MAP, SidecarSet
from kruise.apis.sidecarset_validation import Surroundings
from kruise.runtime.cache.cache import Cache
from kruise.runtime.cache.index import NAMESPACE
from kruise.runtime.cache.informer import Informer
from kruise.runtime.cache.scope import Scope
from kruise.runtime.cache.store import Change
from kruise.runtime.objects import EMPTY_MAP, Key, Object, Resource, Unreadable
from kruise.runtime.webhook.admission import NotReady
from kruise.webhooks.inject_snapshot import InjectionIndex

__all__ = ["CONFIG_MAPS", "ConfigMap", "Feed", "as_plain"]


class ConfigMap(Object, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A ConfigMap."""

    data: dict[str, str] = EMPTY_MAP


CONFIG_MAPS: Final[Resource[ConfigMap]] = Resource("", "v1", "ConfigMap", "configmaps", ConfigMap)


class Feed:
    """The caches that admission reads, joined."""

    def __init__(self, cache: Cache, namespace: str) -> None:
        """Declare the caches. *namespace* is our own: where revisions and the white list are."""
        self.index: Final = InjectionIndex(namespace)
        self.on_sets_changed: Callable[[], object] = _nobody
        """Called after each change of a set that an injection could tell; it must not wait."""
        self._namespace = namespace
        self._plain: dict[str, tuple[SidecarSet, dict[str, Any]]] = {}
        self._sets = cache.watch(SIDECARSETS)
        self._namespaces = cache.watch(NAMESPACES)
        self._revisions = _revisions(cache, namespace)
        self._white_list = cache.watch(
            CONFIG_MAPS, scopes=[Scope(namespace, field_selector=f"metadata.name={WHITE_LIST_CONFIG_MAP}")]
        )
        self._told = {
            self._sets: self._sets.add_handler(self._set_changed, name="webhooks: SidecarSets"),
            self._namespaces: self._namespaces.add_handler(self._namespace_changed, name="webhooks: namespaces"),
            self._revisions: self._revisions.add_handler(self._revision_changed, name="webhooks: revisions"),
        }

    # Whether it is complete.

    def pods_ready(self) -> None:
        """Return when pods can be judged. Raises NotReady before."""
        self._complete(self._sets, self._namespaces, self._revisions)

    def sets_ready(self) -> None:
        """Return when SidecarSets can be judged. Raises NotReady before."""
        self._complete(self._sets, self._revisions, self._white_list)

    def _complete(self, *informers: Informer[Any]) -> None:
        for informer in informers:
            if informer.missing:
                continue
            told = self._told.get(informer)
            if not informer.has_synced or (told is not None and not told.has_synced):
                raise NotReady(f"the cache of {informer.resource} is not complete yet")

    # What is known.

    def surroundings(self, *, metadata_allowed: bool) -> Surroundings:
        """Return what a SidecarSet is judged against."""
        found = self._white_list.store.get(Key(self._namespace, WHITE_LIST_CONFIG_MAP))
        return Surroundings(
            others=self._others(),
            revisions=self._own_revisions(),
            white_list=None if found is None else found.data,
            metadata_allowed=metadata_allowed,
        )

    def set_named(self, name: str) -> SidecarSet | None:
        """Return a set; ``None`` for one that is not there or cannot be read."""
        return self._sets.store.get(Key("", name))

    def _others(self) -> Sequence[Mapping[str, Any]]:
        """Return every set as plain JSON; what was made of a set is kept until the set changes."""
        kept: dict[str, tuple[SidecarSet, dict[str, Any]]] = {}
        for item in self._sets.store.list():
            name = item.metadata.name
            known = self._plain.get(name)
            kept[name] = known if known is not None and known[0] is item else (item, as_plain(item))
        self._plain = kept
        return [kept[name][1] for name in sorted(kept)]

    def _own_revisions(self) -> Sequence[ControllerRevision]:
        return self._revisions.store.select((NAMESPACE, self._namespace))

    # What the caches report.

    def _set_changed(self, change: Change[SidecarSet]) -> None:
        name, new = change.key.name, change.new
        if isinstance(new, Unreadable):
            self.index.set_unreadable(name, f"{new.path}: {new.problem}")
        elif new is None:
            self.index.set_sidecarset(name, None)
        elif not isinstance(change.old, SidecarSet) or _differ(change.old, new):
            self.index.set_sidecarset(name, new)
        else:
            return
        self.on_sets_changed()

    def _namespace_changed(self, change: Change[Object]) -> None:
        labels = None if change.new is None else change.new.metadata.labels
        if change.old is None or labels is None or labels != change.old.metadata.labels:
            self.index.set_namespace(change.key.name, labels)

    def _revision_changed(self, change: Change[ControllerRevision]) -> None:
        if change.key.namespace == self._namespace:
            new = change.new
            self.index.set_revision(change.key.name, new if isinstance(new, ControllerRevision) else None)


def _nobody() -> None:
    """Tell nobody."""


def _revisions(cache: Cache, namespace: str) -> Informer[ControllerRevision]:
    """Return the informer of the revisions of *namespace*, which is a wider one where some controller has one."""
    known = next((one for one in cache.informers() if one.resource == REVISIONS), None)
    return known if known is not None else cache.watch(REVISIONS, scopes=[Scope(namespace)])


def _differ(old: SidecarSet, new: SidecarSet) -> bool:
    """Tell whether an injection could tell two versions of a set apart."""
    before, after = old.metadata, new.metadata
    return (
        before.uid != after.uid
        or before.annotations != after.annotations
        or before.labels != after.labels
        or old.status.latest_revision != new.status.latest_revision
        or old.spec != new.spec
    )


def as_plain(item: SidecarSet) -> dict[str, Any]:
    """Return a set as the rules read it: plain JSON of v1beta1."""
    found: dict[str, Any] = orjson.loads(msgspec.json.encode(item))
    return found
