"""The declared set of informers of a process.

Purpose: every type that is read is declared, so that its cost is known and no read starts a watch by itself
(controller-runtime#1491: a Get that quietly cached every object of the cluster).

Guarantees:

* CAC1: a read of a type that was not declared raises ResourceNotCached, which names the missing line.
* CAC2: selectors, transform and projection per type, selectors also per namespace; two declarations that contradict
  each other are a ConfigError at once.
* CAC3: with ``namespaces`` there is one reflector per type and namespace, and one store; cluster-scoped types stay
  cluster-wide.
* CAC4: :meth:`Cache.watch_metadata` is for watches that only map to owners: metadata, unless the type is cached anyway.
* CAC5: a kind that the server does not serve is waited for, with discovery; everything else runs.
* CAC6: :meth:`Cache.wait_synced` raises SyncTimeout, which names kind, page and last error; nothing exits.
* CAC7: every 10 s until it is complete, each informer says in one log line what it is doing; :meth:`Cache.report`.
* CAC8: once it is complete, what it costs: objects, and bytes of each.
* CAC9: bookmarks are asked for, and selectors are evaluated by the server.
* INF8: one informer per resource, scope and projection. A second projection of a resource is warned of.

What this does not do: it does not stop for anything that fails, and it never starts a watch that was not declared.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from kruise.runtime.cache.detector import ListDetector
from kruise.runtime.cache.gauges import register
from kruise.runtime.cache.host import Api, Host
from kruise.runtime.cache.index import NAMESPACE, Index, Term
from kruise.runtime.cache.informer import Informer
from kruise.runtime.cache.mutation import MutationDetector
from kruise.runtime.cache.scope import Scope
from kruise.runtime.cache.states import Rules
from kruise.runtime.cache.status import InformerStatus
from kruise.runtime.cache.store import Store
from kruise.runtime.clock import Clock, Random
from kruise.runtime.errors import ConfigError, ResourceNotCached, SyncTimeout
from kruise.runtime.log import get_logger
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Key, Object, PartialObject, Resource

T = TypeVar("T", bound=Object)

REPORT_EVERY: Final = 10.0
"""Seconds between two reports of an informer that is not complete (CAC7)."""

log = get_logger("cache")

_Id = tuple[Resource[Any], type[Object]]


class Cache:
    """The informers of a process, over one API server."""

    def __init__(
        self,
        rest: Api,
        *,
        clock: Clock,
        rng: Random,
        metrics: Metrics,
        namespaces: Sequence[str] = (),
        watch_timeout: tuple[int, int] = (300, 600),
        sync_timeout: float = 120.0,
        relist_limit: int = 2,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.host = Host(rest, clock=clock, rng=rng, watch_timeout=watch_timeout, relist_limit=relist_limit)
        self.namespaces = tuple(dict.fromkeys(namespaces))
        self.sync_timeout = sync_timeout
        self._clock = clock
        self._metrics = metrics
        self._informers: dict[_Id, Informer[Any]] = {}
        self._included: dict[Resource[Any], tuple[str, ...]] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._lists = ListDetector.from_environment(environ)
        self._mutations = MutationDetector(clock) if MutationDetector.wanted(environ) else None

    # Declarations.

    def watch(
        self,
        resource: Resource[T],
        *,
        label_selector: str = "",
        field_selector: str = "",
        indexes: Sequence[Index[T, Any]] = (),
        labels: Sequence[str] = (),
        transform: Callable[[T], T] | None = None,
        scopes: Sequence[Scope] = (),
        rules: Rules | None = None,
    ) -> Informer[T]:
        """Declare that *resource* is cached, and return its informer (CAC1).

        It may be declared again, with more indexes and labels, also while the cache runs. *scopes* gives each namespace
        selectors of its own, in the place of the other ones and of the cache's namespaces. Raises ConfigError when
        selectors, scopes or transform differ from an earlier declaration.
        """
        wanted = self._scopes(resource, label_selector, field_selector, transform, scopes)
        ident = (resource, resource.struct)
        informer = self._informers.get(ident)
        if informer is not None and informer.hold():
            if informer.scopes != wanted:
                raise ConfigError(_conflict(resource, informer.scopes, wanted))
            informer.store.add_labels(labels)
            for index in indexes:
                informer.add_index(index)
            return informer
        for (_, struct), other in self._informers.items():
            if other.resource == resource and struct is not resource.struct:
                log.warning(
                    "one type is cached in two projections, which costs two watches",
                    resource=str(resource),
                    projections=[other.resource.struct.__name__, resource.struct.__name__],
                )
        informer = Informer(
            resource,
            self.host,
            metrics=self._metrics,
            scopes=wanted,
            indexes=indexes,
            labels=labels,
            rules=rules,
            lists=self._lists,
            mutations=self._mutations,
        )
        self._informers[ident] = informer
        if self._tasks is not None:
            self._start(ident, informer, self._tasks)
        return informer

    def include(self, resource: Resource[Any], namespace: str) -> None:
        """Let *resource* be cached in *namespace* too where the cache has some namespaces only.

        For what a program keeps in its own one. Raises ConfigError when *resource* is declared without it already.
        """
        have = self._included.get(resource, ())
        if not self.namespaces or namespace in (*self.namespaces, *have):
            return
        if any(known == resource for known, _ in self._informers):
            raise ConfigError(f"{resource} is declared already: include the namespace {namespace} before that")
        self._included[resource] = (*have, namespace)

    def watch_metadata(self, resource: Resource[Any], *, label_selector: str = "") -> Informer[Any]:
        """Declare *resource* for a watch that only maps objects to their owners, and return its informer (CAC4).

        The full informer of the type, where there is one, serves as well; else metadata alone is asked for.
        """
        known = self._informers.get((resource, resource.struct))
        if known is not None:
            return known
        return self.watch(resource.partial(), label_selector=label_selector)

    async def release(self, resource: Resource[Any]) -> None:
        """Take a declaration back; the informer stops when it has no handler (INF4)."""
        ident = (resource, resource.struct)
        informer = self._informers.get(ident)
        if informer is not None:
            await informer.release()
            if not informer.handlers:
                self._informers.pop(ident, None)

    def _scopes(
        self,
        resource: Resource[Any],
        label_selector: str,
        field_selector: str,
        transform: Callable[[Any], Any] | None,
        scopes: Sequence[Scope],
    ) -> tuple[Scope, ...]:
        if not scopes:
            names = self.namespaces if resource.namespaced and self.namespaces else ("",)
            names += self._included.get(resource, ())
            return tuple(Scope(name, label_selector, field_selector, transform) for name in names)
        names = tuple(scope.namespace for scope in scopes)
        if label_selector or field_selector or transform is not None:
            raise ConfigError(f"{resource}: selectors and transform go into each scope, not beside the scopes")
        if len(set(names)) != len(names) or ("" in names and len(names) > 1):
            raise ConfigError(
                f"{resource}: the scopes {', '.join(names)} overlap, and an object would be watched twice"
            )
        if not resource.namespaced and names != ("",):
            raise ConfigError(f"{resource} is cluster-scoped: it has no namespace {', '.join(names)}")
        return tuple(scopes)

    # Reads.

    def store(self, resource: Resource[T]) -> Store[T]:
        """Return the store of *resource*. Raises ResourceNotCached when it was not declared (CAC1)."""
        return self.informer(resource).store

    def informer(self, resource: Resource[T]) -> Informer[T]:
        """Return the informer of *resource*. One that has the whole objects serves for their metadata too."""
        found = self._informers.get((resource, resource.struct))
        if found is None and resource.struct is PartialObject:
            found = next((i for i in self._informers.values() if i.resource == resource), None)
        if found is None:
            kinds = [i.resource.struct.__name__ for i in self._informers.values() if i.resource == resource]
            cached = f"; it is cached as {', '.join(kinds)} only" if kinds else ""
            raise ResourceNotCached(
                f"{resource} ({resource.struct.__name__}) is read but not cached{cached}: "
                f"declare it with cache.watch(<{resource}>) before the manager starts, or read it with client.live"
            )
        return found

    def informers(self) -> tuple[Informer[Any], ...]:
        """Return every informer that is declared."""
        return tuple(self._informers.values())

    def get(self, resource: Resource[T], key: Key) -> T | None:
        """Return an object, or None. Raises ResourceNotCached."""
        return self.store(resource).get(key)

    def list(
        self, resource: Resource[T], *, namespace: str | None = None, index: tuple[str, Hashable] | None = None
    ) -> tuple[T, ...]:
        """Return the objects, or those of a namespace or index value. Raises ResourceNotCached."""
        terms: tuple[Term, ...] = () if namespace is None else ((NAMESPACE, namespace),)
        if index is not None:
            terms = (*terms, index)
        return self.store(resource).select(*terms)

    # Life.

    async def run(self) -> None:
        """Run every informer, and those that are declared later, until cancelled."""
        if self._tasks is not None:
            raise RuntimeError("the cache runs already")
        unregister = register(lambda: tuple(self._informers.values()), self._metrics)
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                if self._mutations is not None:
                    tasks.create_task(self._mutations.run())
                for ident, informer in self._informers.items():
                    self._start(ident, informer, tasks)
                await asyncio.Event().wait()
        finally:
            self._tasks = None
            unregister()

    def _start(self, ident: _Id, informer: Informer[Any], tasks: asyncio.TaskGroup) -> None:
        tasks.create_task(self._keep(ident, informer), name=f"informer {informer.resource}")

    async def _keep(self, ident: _Id, informer: Informer[Any]) -> None:
        async with asyncio.TaskGroup() as tasks:
            report = tasks.create_task(self._report_on(informer))
            await informer.run()
            report.cancel()
        if informer.released and self._informers.get(ident) is informer:
            del self._informers[ident]

    async def _report_on(self, informer: Informer[Any]) -> None:
        while not informer.has_synced:
            try:
                async with asyncio.timeout(REPORT_EVERY):
                    await informer.synced()
            except TimeoutError:
                s = informer.describe()
                log.warning(
                    "cache is not complete yet",
                    resource=s.resource,
                    phase=s.phase,
                    page=s.page,
                    objects=s.objects,
                    seconds=round(s.elapsed, 1),
                    waiting=list(s.waiting) or None,
                    error=s.last_error or None,
                )
            except SyncTimeout:
                return
        size, count = informer.store_bytes(), len(informer.store)
        log.info(
            "cache is complete",
            resource=str(informer.resource),
            objects=count,
            bytes=size,
            bytes_per_object=size // count if count else 0,
            seconds=round(informer.describe().elapsed, 3),
        )

    @property
    def has_synced(self) -> bool:
        """Whether every declared informer is complete."""
        return all(informer.has_synced for informer in self._informers.values())

    async def wait_synced(self, resources: Iterable[Resource[Any]] | None = None, timeout: float | None = None) -> None:
        """Wait until *resources*, or all that are declared, are complete. Can be cancelled.

        Raises SyncTimeout after *timeout* seconds (default: ``sync_timeout``), with kind, page and last error of each
        that is missing (CAC6); ResourceNotCached for one that was not declared.
        """
        informers = tuple(self._informers.values()) if resources is None else tuple(self.informer(r) for r in resources)
        limit = self.sync_timeout if timeout is None else timeout
        try:
            async with asyncio.timeout(limit):
                for informer in informers:
                    await informer.synced()
        except TimeoutError:
            missing = "; ".join(str(i.describe()) for i in informers if not i.has_synced)
            raise SyncTimeout(f"caches were not complete within {limit:g} s: {missing}") from None

    def report(self) -> Sequence[InformerStatus]:
        """Return what every informer is doing, for start-up lines and ``/readyz?verbose`` (CAC7)."""
        return [informer.describe() for informer in self._informers.values()]


def _conflict(resource: Resource[Any], have: Sequence[Scope], want: Sequence[Scope]) -> str:
    return (
        f"{resource} is declared twice with different scopes or selectors: {_shown(have)} and {_shown(want)}; "
        "there is one informer of a type, so use the wider one, and an index or a predicate for the rest"
    )


def _shown(scopes: Sequence[Scope]) -> str:
    return ", ".join(
        f"[namespace={s.namespace or '*'} labels={s.label_selector or '*'} fields={s.field_selector or '*'}"
        f"{' with a transform' if s.transform is not None else ''}]"
        for s in scopes
    )
