"""``For / Owns / Watches``: a controller in a few declarations.

Purpose: join a reconcile function, the kinds that wake it, a queue, the gate and the workers; and declare, in the same
lines, what the cache has to hold and what the roles have to allow.

Guarantees:

* BLD1: each declaration makes the cache watch its kind, and adds get, list and watch of it to
  :attr:`Controller.accesses`; writes are declared with :meth:`Builder.accesses`. RBAC is generated from these.
* HAN1, HAN3, QUE4: the handlers of ``handler.py``. CON1: every built controller has its consistency gate.

What this does not do: it does not add the controller to the manager, so that a caller can still add sources and checks.

>>> # controller = (
>>> #     Builder(manager, "configmap-copier")
>>> #     .for_(SOURCES, predicates=[GenerationChanged()])
>>> #     .owns(CONFIGMAPS)
>>> #     .watches(NAMESPACES, lambda change: [Key("", change.key.name)])
>>> #     .accesses(Access(CONFIGMAPS, ("create", "patch", "delete")))
>>> #     .build(reconcile)
>>> # )
>>> # manager.add(controller)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

from kruise.runtime.cache.consistency import ConsistencyTracker
from kruise.runtime.cache.store import Store
from kruise.runtime.clock import Clock, Random
from kruise.runtime.controller.access import Access, merge, reads
from kruise.runtime.controller.controller import TIMEOUT, WORKERS, Controller, OnTerminal
from kruise.runtime.controller.handler import EnqueueMapped, EnqueueOwner, EnqueueSelf, EventHandler, Mapper
from kruise.runtime.controller.predicate import Predicate
from kruise.runtime.controller.queue import Queue
from kruise.runtime.controller.ratelimit import RateLimiter, default_limiter
from kruise.runtime.controller.reconcile import Needs, Reconcile
from kruise.runtime.controller.source import ChangeFeed, Kind, Source
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Key, Object, Resource


class CacheLike(Protocol):
    """What the builder needs of a cache."""

    @property
    def watch(self) -> Callable[..., ChangeFeed]:
        """Declare a resource; returns its informer."""
        ...

    def store(self, resource: Resource[Any]) -> Store[Any]: ...


class ManagerLike(Protocol):
    """What the builder needs of a manager."""

    @property
    def cache(self) -> CacheLike: ...

    @property
    def clock(self) -> Clock: ...

    @property
    def rng(self) -> Random: ...

    @property
    def metrics(self) -> Metrics: ...


@dataclass(frozen=True, slots=True)
class _Declared:
    role: str
    informer: ChangeFeed
    handler: Callable[[Controller], EventHandler]
    predicates: tuple[Predicate, ...]
    name: str


class Builder:
    """Collects declarations; :meth:`build` ends it. Use it once."""

    def __init__(self, manager: ManagerLike, name: str) -> None:
        """Begin the controller *name*: its name in metrics, logs and the user agent."""
        self._manager = manager
        self._name = name
        self._for: Resource[Any] | None = None
        self._declared: list[_Declared] = []
        self._sources: list[Source] = []
        self._accesses: list[Access] = []

    def for_(self, resource: Resource[Any], *, predicates: Sequence[Predicate] = (), **cache_options: Any) -> Self:
        """Reconcile the objects of *resource*. *cache_options* go to ``cache.watch``. Raises ValueError if repeated."""
        if self._for is not None:
            raise ValueError(f"controller {self._name} is already for {self._for}; use watches for {resource}")
        self._for = resource
        return self._declare(
            "for", resource, lambda controller: EnqueueSelf(gone=controller.gone), predicates, cache_options
        )

    def owns(
        self,
        resource: Resource[Any],
        *,
        predicates: Sequence[Predicate] = (),
        controller_only: bool = True,
        **cache_options: Any,
    ) -> Self:
        """Reconcile the owner when one of its children changes. Call :meth:`for_` first; raises ValueError else."""
        owner = self._for
        if owner is None:
            raise ValueError(f"controller {self._name}: owns({resource}) before for_: whose children are they?")

        def holder(key: Key) -> Object | None:
            return self._manager.cache.store(owner).raw(key)

        def handler(_: Controller) -> EventHandler:
            return EnqueueOwner(owner, controller_only=controller_only, holder=holder)

        return self._declare("owns", resource, handler, predicates, cache_options)

    def watches(
        self, resource: Resource[Any], mapper: Mapper, *, predicates: Sequence[Predicate] = (), **cache_options: Any
    ) -> Self:
        """Reconcile the keys that *mapper* names when an object of *resource* changes."""
        return self._declare("watches", resource, lambda _: EnqueueMapped(mapper), predicates, cache_options)

    def source(self, source: Source) -> Self:
        """Add any other source."""
        self._sources.append(source)
        return self

    def accesses(self, *accesses: Access) -> Self:
        """Declare what else the reconcile function does at the API server."""
        self._accesses.extend(accesses)
        return self

    def build(
        self,
        reconcile: Reconcile,
        *,
        workers: int = WORKERS,
        timeout: float = TIMEOUT,
        limiter: RateLimiter | None = None,
        needs: Needs = Needs.LEADER,
        warm_start: bool = True,
        sync_timeout: float = 120.0,
        on_terminal: OnTerminal | None = None,
        resync: float | None = None,
        batch_period: float = 0.0,
    ) -> Controller:
        """Return the controller. Raises ValueError when nothing wakes it, or when its name is taken.

        *batch_period* is how many seconds after a reconcile the events of its key are gathered for the next one
        (QUE14): fewer passes for an object whose children change together, at the price of so much latency for those
        that come just behind a pass. Defaults to zero: no event waits.
        """
        if not self._declared and not self._sources:
            raise ValueError(f"controller {self._name}: nothing wakes it; declare for_, watches or source")
        m = self._manager
        limiter = limiter or default_limiter(m.rng)
        controller = Controller(
            self._name,
            reconcile,
            Queue(self._name, clock=m.clock, metrics=m.metrics, limiter=limiter, batch_period=batch_period),
            self._sources,
            clock=m.clock,
            rng=m.rng,
            metrics=m.metrics,
            workers=workers,
            timeout=timeout,
            needs=needs,
            warm_start=warm_start,
            sync_timeout=sync_timeout,
            resource=self._for,
            tracker=ConsistencyTracker(self._name, m.cache, clock=m.clock, metrics=m.metrics),
            on_terminal=on_terminal,
            accesses=merge(self._accesses),
        )
        for declared in self._declared:
            controller.watch(
                Kind(
                    declared.informer,
                    declared.handler(controller),
                    declared.predicates,
                    name=declared.name,
                    controller=self._name,
                    metrics=m.metrics,
                    # A resync re-checks the reconciled objects; their children would only multiply the same keys.
                    resync=resync if declared.role == "for" else None,
                )
            )
        return controller

    def _declare(
        self,
        role: str,
        resource: Resource[Any],
        handler: Callable[[Controller], EventHandler],
        predicates: Iterable[Predicate],
        cache_options: dict[str, Any],
    ) -> Self:
        informer = self._manager.cache.watch(resource, **cache_options)
        self._declared.append(_Declared(role, informer, handler, tuple(predicates), f"{role} {resource}"))
        self._accesses.append(reads(resource))
        return self
