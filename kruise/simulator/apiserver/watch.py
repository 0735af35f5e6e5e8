"""WATCH: a cursor into the history, with a filter.

Purpose: turn commits into events, in order, once each, from any version that is still kept.

Guarantees:

* TST1: from a version, from ``0`` or from nothing (then the state comes first as ADDED events); ``sendInitialEvents``
  ends the state with the annotated bookmark; bookmarks otherwise each minute and shortly before the end;
  ``timeoutSeconds`` closes cleanly. An object that starts or stops to match the selector is ADDED or DELETED.
* A version below the history is 410, as an ERROR event in the stream or as the HTTP status, as the server is told. A
  watch that falls behind the history gets the ERROR event.
* Watches wait for commits; nothing polls.

What this does not do: it does not pass the hook; the transport does, line by line.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import orjson

from kruise.simulator.apiserver.failure import Failure, too_old
from kruise.simulator.apiserver.frontend import Frontend
from kruise.simulator.apiserver.listing import Filter
from kruise.simulator.apiserver.representation import META, Form, encode
from kruise.simulator.apiserver.resources import ResourceType
from kruise.simulator.apiserver.storage import Commit, Compacted, Record
from kruise.simulator.apiserver.tables import columns_of
from kruise.simulator.apiserver.typed import FILLED, type_of
from kruise.simulator.apiserver.webhooks_convert import at_hand, shown

Body = dict[str, Any]
INITIAL_END: Final = "k8s.io/initial-events-end"
BOOKMARK_EVERY: Final = 60.0
BOOKMARK_BEFORE_END: Final = 2.0


class Watch:
    """One open watch: a LineSource."""

    def __init__(
        self,
        info: ResourceType,
        version: str,
        form: Form,
        frontend: Frontend,
        chosen: Filter,
        *,
        start: int | None,
        at: int,
        initial_end: bool,
        bookmarks: bool,
        timeout: float,
        wall: Callable[[], float] = lambda: 0.0,
        include: str = "Metadata",
    ) -> None:
        """*start* is the version after which events begin; ``None`` sends the state at the version *at* first.

        *wall* and *include* are for tables: the time by which ages are told, and what rows carry.
        """
        self._wall = wall
        self._include = include
        self._columns = True
        self._info = info
        self._version = version
        self._form = form
        self._frontend = frontend
        self._filter = chosen
        self._bookmarks = bookmarks
        self._table = frontend.storage.table(info.table)
        self._lines: deque[bytes] = deque()
        self._unread: deque[tuple[bytes, Record | None]] = deque()
        """Events whose objects a webhook has to convert first; they hold up everything behind them."""
        self._waiter: asyncio.Future[None] | None = None
        self._over = False
        loop = asyncio.get_running_loop()
        self._now = loop.time
        self._end = self._now() + timeout
        self._next_bookmark = self._bookmark_after(self._now())
        if start is None:
            self._send_state(at, mark_end=initial_end)
            start = at
        self._seen = start
        self._position = self._table.after(start)
        frontend.add(info.table, self)

    def _bookmark_after(self, now: float) -> float:
        if not self._bookmarks:
            return float("inf")
        last = self._end - BOOKMARK_BEFORE_END
        return min(now + BOOKMARK_EVERY, last) if now < last else float("inf")

    def _send_state(self, at: int, *, mark_end: bool) -> None:
        storage = self._frontend.storage
        try:
            snapshot = storage.snapshot(self._info.table, at)
        except Compacted:
            snapshot = storage.snapshot(self._info.table, storage.floor)
        low, high = snapshot.span(self._filter.namespace)
        for key in snapshot.keys[low:high]:
            record = snapshot.records[key]
            if self._filter.matches(record.obj):
                self._send(b"ADDED", record)
        if mark_end:
            self._send(self._bookmark(at, {INITIAL_END: "true"}), None)

    def wake(self) -> None:
        """A commit of the resource became visible."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def close(self) -> None:
        """End the watch."""
        self._over = True
        self._frontend.discard(self._info.table, self)
        self.wake()

    def ready(self) -> bytes | None:
        """Return the next line, if there is one."""
        while not self._lines:
            if self._unread or self._over or not self._step():
                return None
        return self._lines.popleft()

    def _send(self, kind: bytes, record: Record | None) -> None:
        """Send an event of *record*, or the line *kind* as it is."""
        if self._unread:
            self._unread.append((kind, record))
        elif record is None:
            self._lines.append(kind)
        elif (found := at_hand(record, self._info, self._version)) is not None:
            self._lines.append(self._event(kind, found))
        else:
            self._unread.append((kind, record))

    async def _convert(self) -> None:
        waiting = list(self._unread)
        try:
            records = [record for _, record in waiting if record is not None]
            found = iter(await shown(records, self._info, self._version))
        except Failure as failure:
            self._unread.clear()
            self._fail(failure)
            return
        for kind, record in waiting:
            self._unread.popleft()
            self._lines.append(kind if record is None else self._event(kind, next(found)))

    def _step(self) -> bool:
        """Look at one more commit or timer; False when there is neither."""
        commit = self._table.at(self._position)
        if commit is None and self._position < self._table.dropped:
            return self._fail(too_old(self._seen, self._frontend.storage.floor))
        if commit is not None and commit.rv <= self._frontend.visible:
            if commit.rv <= self._frontend.storage.floor and self._seen < self._frontend.storage.floor:
                return self._fail(too_old(self._seen, self._frontend.storage.floor))
            self._position += 1
            self._seen = commit.rv
            self._take(commit)
            return True
        now = self._now()
        if now >= self._next_bookmark:
            self._next_bookmark = self._bookmark_after(now)
            self._seen = max(self._seen, self._frontend.visible)
            self._send(self._bookmark(self._seen, None), None)
            return True
        if now >= self._end:
            self.close()
        return False

    def _fail(self, failure: Failure) -> bool:
        self._lines.append(error_line(failure))
        self._over = True
        self._frontend.discard(self._info.table, self)
        return True

    def _take(self, commit: Commit) -> None:
        chosen = self._filter
        if chosen.namespace and commit.key.namespace != chosen.namespace:
            return
        if not chosen.selects:
            self._send(commit.type.encode(), commit.new)
            return
        was = commit.previous is not None and chosen.matches(commit.previous.obj)
        now = commit.type != "DELETED" and chosen.matches(commit.new.obj)
        if now:
            self._send(b"MODIFIED" if was else b"ADDED", commit.new)
        elif was:
            assert commit.previous is not None, "an object that was selected was there"
            self._send(b"DELETED", _stamped(commit.previous, commit.rv))

    def _event(self, kind: bytes, record: Record) -> bytes:
        if self._form == "table":
            body = encode(
                record,
                self._info,
                self._version,
                self._form,
                now=self._wall(),
                include=self._include,
                columns=self._columns,
            )
            self._columns = False  # a watch tells the columns once
        else:
            body = encode(record, self._info, self._version, self._form)
        return b'{"type":"' + kind + b'","object":' + body + b"}"

    def _bookmark(self, rv: int, annotations: Body | None) -> bytes:
        metadata: Body = {"resourceVersion": str(rv)}
        if annotations:
            metadata["annotations"] = annotations
        api_version, kind = self._info.api_version(self._version), self._info.kind
        if self._form == "partial":
            api_version, kind = "meta.k8s.io/v1", "PartialObjectMetadata"
        obj: Body = {"kind": kind, "apiVersion": api_version, "metadata": metadata}
        if self._form == "full" and not self._info.custom:
            obj |= FILLED.get(type_of("" if api_version == "v1" else self._info.group, kind), {})
            if kind == "Pod":
                obj["spec"] = {"containers": None}
        elif self._form == "table":
            row = {"cells": [], "object": {"kind": "PartialObjectMetadata", "apiVersion": META, "metadata": metadata}}
            obj = {
                "kind": "Table",
                "apiVersion": META,
                "metadata": {"resourceVersion": str(rv)},
                "columnDefinitions": columns_of(self._info, self._version) if self._columns else None,
                "rows": [row],
            }
            self._columns = False
        return orjson.dumps({"type": "BOOKMARK", "object": obj})

    async def wait(self) -> bool:
        """Wait until there may be a line; False when the watch is over."""
        if self._unread and not self._ended():
            await self._convert()
            return True
        if self._ended():
            return bool(self._lines)
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_at(min(self._end, self._next_bookmark), self.wake)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None
        return not self._ended() or bool(self._lines)

    def _ended(self) -> bool:
        return self._over


def _stamped(record: Record, rv: int) -> Record:
    """Return the old state of an object under the version of the event that ended its match."""
    return Record({**record.obj, "metadata": {**record.obj["metadata"], "resourceVersion": str(rv)}}, rv)


def error_line(failure: Failure) -> bytes:
    """Return an ERROR event."""
    return b'{"type":"ERROR","object":' + failure.body() + b"}"


class OneLine:
    """A stream with one line, such as an error in a stream that has just been opened: a LineSource."""

    def __init__(self, line: bytes) -> None:
        self._line: bytes | None = line

    def ready(self) -> bytes | None:
        """Return the line, once."""
        line, self._line = self._line, None
        return line

    async def wait(self) -> bool:
        """Tell whether the line is still there."""
        return self._line is not None

    def close(self) -> None:
        """Nothing to give up."""
