"""What the reconcilers of all kinds do alike: find their object, keep what belongs to it, write its status, say no.

Purpose: one place for the start and the end of a pass, so that each kind has only what is its own.

Guarantees:

* An object that is gone, or is another one under its old name, takes with it whatever is kept about it (G9).
* One that does not fit its type gets one event and one log line per problem, and stops no other (G8).
* When the wait for our own writes ran out, the object is read live for that pass (CON3).
* A status is written when it changed: what somebody waits for at once, the rest at most twice a second, and never
  lost: the pass asks to be called again (performance 4.6). After a write that did not succeed the next one is not held
  back.
* An object that is gone may stay in the cache while its watch is silent. Once a write of its status was refused, the
  next pass begins with a live read: nothing is made for an owner that is gone, only to be collected, to be missed, and
  to be made again.
* A wrong field is counted as an error once per text; the timers of the object go on.

What this does not do: it plans nothing and reads no other kind.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sized
from typing import Any, Final, Generic, Protocol, TypeVar

from kruise.controllers.common.pace import StatusPace
from kruise.controllers.common.reasons import Reason
from kruise.runtime.cache.store import Store
from kruise.runtime.client.client import Client
from kruise.runtime.clock import Clock
from kruise.runtime.controller import After, Done, Result, current
from kruise.runtime.errors import Conflict, NotFound, TerminalError
from kruise.runtime.log import Logger
from kruise.runtime.manager.recorder import EventSink
from kruise.runtime.objects import Key, Object, Resource, Unreadable

__all__ = ["STALE_FOR", "ObjectReconciler", "Reported"]

STALE_FOR: Final = 5.0
"""Seconds after which a stale decision is made again when no event came that did so: a webhook may say 409 as well."""

T = TypeVar("T", bound=Object)
K = TypeVar("K")


class Reported(Protocol):
    """An event of a plan."""

    @property
    def type(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def note(self) -> str: ...


class ObjectReconciler(ABC, Generic[T, K]):
    """Reconciles objects of one kind by key; of each it keeps a *K* between passes, by uid."""

    def __init__(
        self,
        resource: Resource[T],
        store: Store[T],
        *,
        client: Client,
        recorder: EventSink,
        clock: Clock,
        log: Logger,
        noun: str,
        action_of: Callable[[str], str],
    ) -> None:
        """*noun* is the word of logs for an object; *action_of* gives the action that an event of a reason reports."""
        self._resource = resource
        self._store = store
        self._client = client
        self._recorder = recorder
        self._clock = clock
        self._log = log
        self._noun = noun
        self._action_of = action_of
        self._kept: dict[str, K] = {}
        self._uids: dict[Key, str] = {}
        self._bad: dict[Key, str] = {}
        self._pace = StatusPace()
        self._refused: set[str] = set()
        """The uids of objects whose last status write did not succeed."""
        self._in_doubt: set[str] = set()
        """The uids of objects that may be gone: a write of their status was refused."""

    async def __call__(self, key: Key) -> Result:
        """Bring the object *key* one step further."""
        obj = self._store.raw(key)
        known = self._uids.get(key)
        if known is not None and (obj is None or obj.uid != known):
            self._forget(key, known)
        if obj is None:
            self._bad.pop(key, None)
            return Done()
        if isinstance(obj, Unreadable):
            return self._refuse(obj)
        self._uids[key] = obj.uid
        context = current.get()
        live = context is not None and context.live
        if live:
            found = await self._read_live(obj)
            if found is None:
                return Done()
            obj = found
        elif obj.uid in self._in_doubt:
            if await self._read_live(obj) is None:
                return Done()
            self._in_doubt.discard(obj.uid)
        return await self._reconcile(obj, live=live)

    @abstractmethod
    async def _reconcile(self, obj: T, /, *, live: bool) -> Result:
        """Make one pass over *obj*. With *live*, whatever a plan rests on is to be read live."""

    async def _read_live(self, obj: T) -> T | None:
        """Return the object as the server has it; None when it is gone or another one, which the cache will tell."""
        try:
            found = await self._client.live.get(self._resource, obj.key)
        except NotFound:
            return None
        return found if found.uid == obj.uid else None

    # Status.

    async def _put_status(self, obj: T, status: dict[str, Any], shown: dict[str, Any], *, urgent: bool) -> float | None:
        """Write *status* if it is not what *shown* is and its time has come; return the seconds to wait if it has not.

        *urgent* waits for nothing: a first or last status, or one that the pass would otherwise not tell.
        """
        if status != shown:
            decisive = urgent or obj.uid in self._refused
            wait = self._pace.wait(obj.uid, self._clock.monotonic(), decisive=decisive)
            if wait > 0:
                return wait
            # Until it is written nothing waits: after a conflict, because the spec changed, or after another error.
            self._refused.add(obj.uid)
            try:
                await self._client.patch_status(self._resource, obj, status)
            except (Conflict, NotFound):
                self._in_doubt.add(obj.uid)
                raise
        self._refused.discard(obj.uid)
        self._pace.settled(obj.uid)
        return None

    # Bad input.

    def _refuse(self, obj: Unreadable) -> Result:
        """Report an object that does not fit its type, once per problem."""
        text = f"{obj.path}: {obj.problem}; correct the field"
        if self._tell_bad(obj, text):
            self._bad[obj.key] = f"{obj.uid} {text}"
            name = {self._resource.kind: str(obj.key)}
            self._log.warning(f"{self._noun} cannot be read", **name, field=obj.path, problem=obj.problem)
        return Done()

    def _tell_bad(self, obj: Object, text: str) -> bool:
        """Report a problem for which there is no plan, once; tell whether it is a new one."""
        new = self._bad.get(obj.key) != f"{obj.uid} {text}"
        if new:
            self._tell(obj, "Warning", Reason.INVALID_SPEC, text)
        return new

    def _invalid(self, obj: T, text: str, due: float | None) -> Result:
        """End a pass over an object with a wrong field: counted and logged once per text; its timers go on."""
        if self._bad.get(obj.key) != f"{obj.uid} {text}":
            self._bad[obj.key] = f"{obj.uid} {text}"
            if due is None:
                raise TerminalError(f"{self._resource} {obj.key}: {text}; correct the field", reason="InvalidSpec")
            self._log.error(f"{self._noun} has a wrong field", **{self._resource.kind: str(obj.key)}, problem=text)
        return Done() if due is None else After(due)

    # Reports and upkeep.

    def _report(self, obj: Object, events: Iterable[Reported]) -> None:
        for one in events:
            self._tell(obj, one.type, one.reason, one.note)

    def _tell(self, obj: Object, kind: str, reason: str, note: str) -> None:
        self._recorder.event(obj, self._resource, type=kind, reason=reason, action=self._action_of(reason), note=note)

    def _forget(self, key: Key, uid: str) -> None:
        """Drop whatever is kept about an object that is gone."""
        self._uids.pop(key, None)
        self._bad.pop(key, None)
        self._kept.pop(uid, None)
        self._pace.settled(uid)
        self._refused.discard(uid)
        self._in_doubt.discard(uid)

    def _tables(self) -> tuple[Sized, ...]:
        """Return whatever has an entry for each object."""
        return (self._kept, self._uids, self._pace, self._refused, self._in_doubt, self._bad)

    def kept(self) -> int:
        """Return of how many objects something is kept: never more than there are (G9)."""
        return max(len(table) for table in self._tables())
