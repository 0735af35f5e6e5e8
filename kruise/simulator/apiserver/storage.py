"""The store behind the API server: every object at every version.

Purpose: what etcd is to kube-apiserver. One counter numbers all commits; each commit is kept, so that a list at an old
version and a watch from an old version are answered from what was, not from what is.

Guarantees:

* TST1: one resource version per commit over all resources; versions only grow.
* The history has ``(rv, type, resource, key, new, previous, actor)`` of each commit. A list at an old version replays
  it; a watch is a cursor into it; compaction moves a floor below which neither is possible.
* A stored object is never changed again. Unchanged parts are shared between versions, and an object is encoded once
  per form, whatever the number of watchers.

What this does not do: it knows no rule of any kind (names, generations, finalizers): the rooms above do.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson

from kruise.runtime.objects import Key

EventType = Literal["ADDED", "MODIFIED", "DELETED"]
Body = dict[str, Any]

_SNAPSHOTS: Final = 8


class Record:
    """One version of one object. ``obj`` must not be changed."""

    __slots__ = ("_wire", "forms", "obj", "rv")

    def __init__(self, obj: Body, rv: int) -> None:
        self.obj = obj
        self.rv = rv
        self.forms: dict[Hashable, Record] = {}
        """This version of the object as a conversion webhook has made it."""
        self._wire: dict[str, bytes] = {}

    def wire(self, form: str, render: Callable[[Body], Body]) -> bytes:
        """Return the JSON of this version in *form*; *render* makes the object of that form, once."""
        found = self._wire.get(form)
        if found is None:
            found = self._wire[form] = orjson.dumps(render(self.obj))
        return found

    @property
    def uid(self) -> str:
        """``metadata.uid``."""
        uid: str = self.obj["metadata"]["uid"]
        return uid


@dataclass(frozen=True, slots=True)
class Commit:
    """One change. ``new`` of a deletion is the last state, with the version of the deletion."""

    rv: int
    type: EventType
    resource: str
    """``plural.group``, or the plural alone for the core group."""
    key: Key
    new: Record
    previous: Record | None
    actor: str
    request: int
    """The ordinal of the request that made it; -1 for the server itself."""
    time: float = 0.0
    """Wall time in seconds since the epoch."""


class Table:
    """One resource: its objects in the order of their keys, and its commits."""

    __slots__ = ("commits", "dropped", "keys", "records")

    def __init__(self) -> None:
        self.records: dict[Key, Record] = {}
        self.keys: list[Key] = []
        self.commits: list[Commit] = []
        self.dropped = 0
        """How many commits were cut off the front of ``commits``."""

    def after(self, rv: int) -> int:
        """Return the position, counted from the very first commit, of the first one newer than *rv*."""
        return self.dropped + bisect.bisect_right(self.commits, rv, key=lambda c: c.rv)

    def at(self, position: int) -> Commit | None:
        """Return the commit at *position*; ``None`` when there is none yet, or no longer."""
        index = position - self.dropped
        return self.commits[index] if 0 <= index < len(self.commits) else None


class Snapshot:
    """The objects of one resource at one version, in the order of their keys."""

    __slots__ = ("keys", "records", "rv")

    def __init__(self, rv: int, keys: list[Key], records: dict[Key, Record]) -> None:
        self.rv = rv
        self.keys = keys
        self.records = records

    def span(self, namespace: str) -> tuple[int, int]:
        """Return the range of ``keys`` that lie in *namespace*; ``""`` means all."""
        if not namespace:
            return 0, len(self.keys)
        low = bisect.bisect_left(self.keys, Key(namespace, ""))
        return low, bisect.bisect_left(self.keys, Key(namespace + "\0", ""))


class Compacted(Exception):
    """The version is older than what is kept."""


class Storage:
    """All tables, and the global counter.

    *history* is the number of commits that can be watched or listed at; ``None`` keeps all. With *retain* the older
    ones stay in ``commits`` for the checkers, out of reach of any request.
    """

    def __init__(self, *, start: int = 1, history: int | None = None, retain: bool = True) -> None:
        self.rv = start
        self.floor = 0
        """Versions below this one are compacted: a watch from the floor itself is still possible."""
        self.history = history
        self.retain = retain
        self.commits: list[Commit] = []
        self.dropped = 0
        self.listeners: list[Callable[[Commit], None]] = []
        """Called after each commit, in this order."""
        self._tables: dict[str, Table] = {}
        self._snapshots: dict[tuple[str, int], Snapshot] = {}

    def table(self, resource: str) -> Table:
        """Return the table of *resource*, made on first use."""
        table = self._tables.get(resource)
        if table is None:
            table = self._tables[resource] = Table()
        return table

    def resources(self) -> list[str]:
        """Return the names of all tables."""
        return sorted(self._tables)

    def get(self, resource: str, key: Key) -> Record | None:
        """Return the current version of an object."""
        return self.table(resource).records.get(key)

    def put(self, resource: str, key: Key, obj: Body, *, actor: str, request: int = -1, now: float = 0.0) -> Record:
        """Commit *obj* as the new state and return it. *obj* belongs to the store from now on."""
        table = self.table(resource)
        previous = table.records.get(key)
        record = self._stamp(obj)
        table.records[key] = record
        if previous is None:
            bisect.insort(table.keys, key)
        kind: EventType = "ADDED" if previous is None else "MODIFIED"
        self._commit(table, Commit(record.rv, kind, resource, key, record, previous, actor, request, now))
        return record

    def remove(
        self, resource: str, key: Key, *, actor: str, request: int = -1, now: float = 0.0, last: Body | None = None
    ) -> Record:
        """Commit the removal of an object that is there, and return its last state, which *last* may change."""
        table = self.table(resource)
        previous = table.records.pop(key)
        del table.keys[bisect.bisect_left(table.keys, key)]
        last = previous.obj if last is None else last
        record = self._stamp({**last, "metadata": dict(last["metadata"])})
        self._commit(table, Commit(record.rv, "DELETED", resource, key, record, previous, actor, request, now))
        return record

    def _stamp(self, obj: Body) -> Record:
        self.rv += 1
        obj["metadata"]["resourceVersion"] = str(self.rv)
        return Record(obj, self.rv)

    def _commit(self, table: Table, commit: Commit) -> None:
        table.commits.append(commit)
        self.commits.append(commit)
        if self.history is not None and len(self.commits) > self.history:
            self.compact(self.commits[-self.history - 1].rv)
        for listener in self.listeners:
            listener(commit)

    def compact(self, rv: int) -> None:
        """Make every version below *rv* unreachable."""
        if rv <= self.floor:
            return
        self.floor = rv
        self._snapshots = {k: s for k, s in self._snapshots.items() if k[1] >= rv}
        if not self.retain:
            self._trim()

    def _trim(self) -> None:
        # Cut in large steps: a cut of a list's front costs the length of what is left.
        gone = bisect.bisect_right(self.commits, self.floor, key=lambda c: c.rv)
        if gone * 2 < len(self.commits):
            return
        del self.commits[:gone]
        self.dropped += gone
        for table in self._tables.values():
            cut = bisect.bisect_right(table.commits, self.floor, key=lambda c: c.rv)
            del table.commits[:cut]
            table.dropped += cut

    def snapshot(self, resource: str, rv: int | None = None) -> Snapshot:
        """Return *resource* as it was at *rv*, or as it is. Raises Compacted."""
        table = self.table(resource)
        if rv is None or rv >= self.rv:
            return Snapshot(self.rv, table.keys, table.records)
        if rv < self.floor:
            raise Compacted
        known = self._snapshots.get((resource, rv))
        if known is not None:
            return known
        records = dict(table.records)
        keys = list(table.keys)
        for commit in reversed(table.commits[table.after(rv) - table.dropped :]):
            if commit.previous is None:
                del records[commit.key]
                del keys[bisect.bisect_left(keys, commit.key)]
            else:
                if commit.key not in records:
                    bisect.insort(keys, commit.key)
                records[commit.key] = commit.previous
        found = Snapshot(rv, keys, records)
        while len(self._snapshots) >= _SNAPSHOTS:
            del self._snapshots[next(iter(self._snapshots))]
        self._snapshots[resource, rv] = found
        return found
